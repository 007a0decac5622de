package quota_test

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"time"

	"rustmq.dev/rustmq/roles/broker/quota"
	"rustmq.dev/rustmq/test/seeded"
)

var (
	start = time.Unix(1_700_000_000, 0)
	some  = quota.Half{Scope: quota.Default}
)

func named(name string) quota.Half { return quota.Half{Scope: quota.Named, Name: name} }

func produce(user, clientID quota.Half, rate float64) quota.Rule {
	return quota.Rule{User: user, ClientID: clientID, Rates: [quota.Kinds]float64{quota.Produce: rate}}
}

// rateOf finds out a client's rate by what it may take at once.
func rateOf(q *quota.Quotas, user, clientID string) int {
	c := q.Of(user, clientID, start)
	if !c.Holds(quota.Produce) {
		return 0
	}
	return c.AtOnce(quota.Produce) / int(quota.Window/time.Second)
}

// Of all rules the most specific holds, in Kafka's order: taken away one by one,
// the next comes into force.
func TestTheMostSpecificRuleHolds(t *testing.T) {
	inOrder := []quota.Rule{
		produce(named("u"), named("c"), 1), produce(named("u"), some, 2), produce(named("u"), quota.Half{}, 3),
		produce(some, named("c"), 4), produce(some, some, 5), produce(some, quota.Half{}, 6),
		produce(quota.Half{}, named("c"), 7), produce(quota.Half{}, some, 8),
	}
	rng := rand.New(rand.NewPCG(seeded.Seed(t), 1))
	for i := range inOrder {
		var q quota.Quotas
		rules := inOrder[i:]
		rng.Shuffle(len(rules), func(a, b int) { rules[a], rules[b] = rules[b], rules[a] })
		least := int(rules[0].Rates[quota.Produce])
		for _, r := range rules {
			least = min(least, int(r.Rates[quota.Produce]))
		}
		q.Set(rules)
		if got := rateOf(&q, "u", "c"); got != least {
			t.Errorf("of rules %d to 8: %d holds", least, got)
		}
	}
	var q quota.Quotas
	if !q.Empty() || q.Of("u", "c", start) != (quota.Client{}) {
		t.Error("a client is held to something without rules")
	}
}

// Each kind finds its own rule: that of a client id counts where those of the user
// say nothing.
func TestKindsAreResolvedApart(t *testing.T) {
	var q quota.Quotas
	q.Set([]quota.Rule{
		{User: named("u"), Rates: [quota.Kinds]float64{quota.Produce: 5}},
		{ClientID: some, Rates: [quota.Kinds]float64{quota.Produce: 1, quota.Consume: 2}},
	})
	c := q.Of("u", "c", start)
	if c.AtOnce(quota.Produce) != 50 || c.AtOnce(quota.Consume) != 20 || c.Holds(quota.Request) {
		t.Errorf("%d and %d at once", c.AtOnce(quota.Produce), c.AtOnce(quota.Consume))
	}
}

// Who shares a bucket pays for the others; who does not, does not.
func TestClientsShareAsTheRuleSays(t *testing.T) {
	for _, tc := range []struct {
		name   string
		rule   quota.Rule
		shares map[string]bool // user/client: pays for u/c
	}{
		{"user and client id", produce(named("u"), some, 1), map[string]bool{"u/c": true, "u/d": false}},
		{"user", produce(named("u"), quota.Half{}, 1), map[string]bool{"u/d": true}},
		{"any user", produce(some, quota.Half{}, 1), map[string]bool{"u/d": true, "v/c": false}},
		{"any user and client id", produce(some, some, 1), map[string]bool{"u/d": false, "v/c": false}},
		{"client id", produce(quota.Half{}, named("c"), 1), map[string]bool{"v/c": true}},
		{"any client id", produce(quota.Half{}, some, 1), map[string]bool{"v/c": true, "u/d": false}},
	} {
		var q quota.Quotas
		q.Set([]quota.Rule{tc.rule})
		q.Of("u", "c", start).Take(quota.Produce, start, 15)
		for who, pays := range tc.shares {
			c := q.Of(who[:1], who[2:], start)
			if wait := c.Take(quota.Produce, start, 0); (wait > 0) != pays {
				t.Errorf("%s: %s waits %v", tc.name, who, wait)
			}
		}
	}
}

// A client that was idle takes ten seconds' worth at once; what it takes beyond
// that it waits for, whether it then waits or not: as one that counts the
// milliseconds says.
func TestNobodyGetsAheadOfTheRate(t *testing.T) {
	seed := seeded.Seed(t)
	rng := rand.New(rand.NewPCG(seed, 0))
	var q quota.Quotas
	q.Set([]quota.Rule{produce(quota.Half{}, some, 1000)})
	now, left := start, 10_000
	for range 1000 {
		for range rng.IntN(2000) {
			now, left = now.Add(time.Millisecond), min(10_000, left+1)
		}
		units := rng.IntN(2000)
		left -= units
		want := min(max(0, -left), 60_000)
		// A float may take a millisecond more to fill.
		if got := q.Of("u", "c", now).Take(quota.Produce, now, float64(units)).Milliseconds(); got < int64(want) || got > int64(want)+1 {
			t.Fatalf("after %v: told to wait %d ms, want %d", now.Sub(start), got, want)
		}
	}
}

func TestWaitsAreBounded(t *testing.T) {
	var q quota.Quotas
	q.Set([]quota.Rule{{User: some, Rates: [quota.Kinds]float64{quota.Produce: 1, quota.Request: 1}}})
	c := q.Of("u", "c", start)
	if wait := c.Take(quota.Produce, start, 1e300); wait != time.Minute {
		t.Errorf("bytes: %v", wait)
	}
	if wait := c.Take(quota.Request, start, 1e300); wait != time.Second {
		t.Errorf("time of the broker: %v", wait)
	}
}

// What may be refused is, while something is owed, and counts for nothing then.
func TestTryRefusesWhoOwes(t *testing.T) {
	var q quota.Quotas
	q.Set([]quota.Rule{{User: some, Rates: [quota.Kinds]float64{quota.Mutation: 1}}})
	c := q.Of("u", "c", start)
	if wait, ok := c.Try(quota.Mutation, start, 12); !ok || wait != 2*time.Second {
		t.Fatalf("the first: %v, wait %v", ok, wait)
	}
	if wait, ok := c.Try(quota.Mutation, start.Add(time.Second), 100); ok || wait != time.Second {
		t.Errorf("the second: %v, wait %v", ok, wait)
	}
	if _, ok := c.Try(quota.Mutation, start.Add(2*time.Second), 1); !ok {
		t.Error("refused who owes nothing")
	}
	c.Give(quota.Mutation, 1)
	if wait := c.Take(quota.Mutation, start.Add(2*time.Second), 0); wait != 0 {
		t.Errorf("what was given back is owed for %v", wait)
	}
	if _, ok := (quota.Client{}).Try(quota.Mutation, start, 1e9); !ok {
		t.Error("refused who is held to nothing")
	}
}

// A change of rules forgives nothing to those whose rate stays.
func TestDebtsOutliveOtherRules(t *testing.T) {
	var q quota.Quotas
	rule := produce(named("u"), quota.Half{}, 1)
	q.Set([]quota.Rule{rule})
	q.Of("u", "c", start).Take(quota.Produce, start, 15)
	q.Set([]quota.Rule{rule, produce(named("v"), quota.Half{}, 9)})
	if wait := q.Of("u", "c", start).Take(quota.Produce, start, 0); wait != 5*time.Second {
		t.Errorf("owes %v", wait)
	}
	q.Set(nil)
	if !q.Empty() {
		t.Error("rules are left")
	}
}

// Clients that invent names take a bounded place, and share what there is then.
func TestInventedNamesAreBounded(t *testing.T) {
	var q quota.Quotas
	q.Set([]quota.Rule{produce(quota.Half{}, some, 1)})
	most := 0
	for i := range 60_000 {
		q.Of("u", fmt.Sprint(i), start).Take(quota.Produce, start, 15) // none is idle
		if i%1000 == 0 || i > 59_990 {
			budgets, _ := q.Remembered()
			most = max(most, budgets)
		}
	}
	if most > 50_000 {
		t.Errorf("%d are remembered", most)
	}
	if wait := q.Of("u", "a new one", start).Take(quota.Produce, start, 0); wait != time.Minute {
		t.Errorf("waits %v: it does not share", wait)
	}
	later := start.Add(time.Hour)
	q.Of("u", "later", later)
	if budgets, _ := q.Remembered(); budgets > 1 { // its own
		t.Errorf("%d budgets are left of those that are as new", budgets)
	}
}

// Whoever has been away for long is forgotten long before there is no room.
func TestIdleClientsAreForgotten(t *testing.T) {
	var q quota.Quotas
	q.Set([]quota.Rule{produce(some, some, 1)})
	now, most := start, 0
	for i := range 5000 {
		q.Of("u", fmt.Sprint(i), now).Take(quota.Produce, now, 15)
		now = now.Add(time.Second)
		budgets, _ := q.Remembered()
		most = max(most, budgets)
	}
	if most > 80 { // of a minute, and those that are not idle yet
		t.Errorf("%d are remembered", most)
	}
}

// However long the names are: a client id may have 32 KB, and is not kept whole.
func TestLongNamesAreBounded(t *testing.T) {
	long, tail := strings.Repeat("n", 1000), strings.Repeat("x", 32<<10)
	var q quota.Quotas
	q.Set([]quota.Rule{produce(quota.Half{}, some, 1), produce(some, quota.Half{}, 2), produce(quota.Half{}, named(long), 3)})
	before := heap()
	const invented = 2000
	for i := range invented {
		q.Of("u", fmt.Sprint(i)+tail, start).Take(quota.Produce, start, 15)
		q.Of(fmt.Sprint(i)+tail, "c", start).Take(quota.Produce, start, 15)
	}
	budgets, bytes := q.Remembered()
	if budgets < invented {
		t.Errorf("%d are remembered: they are not told apart", budgets)
	}
	if bytes > 2*invented*256 {
		t.Errorf("names of %d bytes are remembered", bytes)
	}
	if grown := heap() - before; grown > 4<<20 {
		t.Errorf("%d bytes are held", grown)
	}
	var alone quota.Quotas
	alone.Set([]quota.Rule{produce(quota.Half{}, some, 1), produce(quota.Half{}, named(long), 3)})
	if got := rateOf(&alone, "u", long); got != 3 {
		t.Errorf("a rule of a long name gives %d", got)
	}
}

// heap returns the bytes in use.
func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// Who meets no default takes no place: neither who is held to nothing, nor who is
// held to what all share.
func TestOnlyThoseThatAreToldApartTakeRoom(t *testing.T) {
	var q quota.Quotas
	q.Set([]quota.Rule{produce(named("somebody"), quota.Half{}, 1), produce(quota.Half{}, named("c"), 1), produce(named("u"), some, 1)})
	for i := range 1000 {
		if q.Of("v", fmt.Sprint(i), start).Holds(quota.Produce) {
			t.Fatal("held to what is not for it")
		}
		q.Of("somebody", fmt.Sprint(i), start)
		q.Of(fmt.Sprint(i), "c", start)
	}
	if budgets, _ := q.Remembered(); budgets > 0 {
		t.Errorf("%d are remembered", budgets)
	}
}

func TestOfAllocatesNothingForAKnownClient(t *testing.T) {
	var q quota.Quotas
	q.Set([]quota.Rule{produce(some, some, 1), produce(named("v"), quota.Half{}, 1)})
	q.Of("u", "c", start)
	if n := testing.AllocsPerRun(100, func() { q.Of("u", "c", start).Take(quota.Produce, start, 1) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// Many clients find what they are held to at once.
func BenchmarkOf(b *testing.B) {
	for name, rules := range map[string][]quota.Rule{
		"nobody": nil,
		"user":   {produce(named("u"), quota.Half{}, 1)},
		"each":   {produce(some, some, 1)},
	} {
		b.Run("rule="+name, func(b *testing.B) {
			var q quota.Quotas
			q.Set(rules)
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				clientID := fmt.Sprint(rand.Uint64())
				for pb.Next() {
					q.Of("u", clientID, start)
				}
			})
		})
	}
}
