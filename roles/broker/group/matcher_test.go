package group

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/roles/broker/pattern"
)

// matchedIn is what a pattern matches, by looking at each name; nil: it is not taken.
func matchedIn(c Catalogue, source string) *Matched {
	expression, err := pattern.Compile(source)
	if err != nil {
		return nil
	}
	m := &Matched{Source: source, Catalogue: c, expression: expression}
	for name := range c.Names() {
		if expression.MatchString(name) {
			m.Topics = append(m.Topics, name)
		}
	}
	slices.Sort(m.Topics)
	return m
}

// stepMatching is a step, with all matches that it needs and asks for.
func stepMatching(c *Core, now time.Time, ev Event) Effects {
	if r, ok := ev.(Request); ok {
		if q, ok := r.Body.(*kmsg.ConsumerGroupHeartbeatRequest); ok && q.SubscribedTopicRegex != nil {
			r.Matched = matchedIn(c.catalogue, *q.SubscribedTopicRegex)
			ev = r
		}
	}
	fx := c.Step(now, ev)
	for match := fx.Match; len(match) > 0; {
		var all []*Matched
		for _, source := range match {
			all = append(all, matchedIn(c.catalogue, source))
		}
		more := c.Step(now, PatternsMatched{Wall: c.wall, Matched: all})
		fx.Answers, fx.Writes, fx.Notes = append(fx.Answers, more.Answers...), append(fx.Writes, more.Writes...), append(fx.Notes, more.Notes...)
		match = more.Match
	}
	return fx
}

// many is a catalogue of so many topics with long names.
type many struct {
	nothing
	n       int
	version uint64
}

func (m many) Version() uint64 { return m.version }

func (m many) Names() iter.Seq[string] {
	return func(yield func(string) bool) {
		for i := range m.n {
			if !yield(fmt.Sprintf("%04d%s", i, strings.Repeat("a", 100))) {
				return
			}
		}
	}
}

// slow is a pattern of some letters that takes a millisecond and more for each such name.
const slow = "(?:.?){300}b"

// Nobody waits for a pattern that takes long: neither those of the same shard, nor who
// has one that is soon matched, nor the end.
func TestNobodyWaitsForAPattern(t *testing.T) {
	c, err := Open(Options{Log: new(memoryLog), Catalogue: func() Catalogue { return many{n: 5000, version: 1} }})
	if err != nil {
		t.Fatal(err)
	}
	c.Load(Partition("g"), 1)
	c.AwaitLoad(t.Context(), Partition("g"))
	join := func(member, source string) chan *kmsg.ConsumerGroupHeartbeatResponse {
		q := beatRequest("g", member, joinEpoch)
		q.SubscribedTopicNames, q.SubscribedTopicRegex = nil, &source
		answered := make(chan *kmsg.ConsumerGroupHeartbeatResponse, 1)
		c.ConsumerGroupHeartbeat(t.Context(), "c", "/h", nil, q, func(r *kmsg.ConsumerGroupHeartbeatResponse) { answered <- r })
		return answered
	}
	var slows []chan *kmsg.ConsumerGroupHeartbeatResponse
	for i := range 4 {
		slows = append(slows, join(fmt.Sprint("slow", i), slow+fmt.Sprint(i)))
	}
	if r := <-join("m", "0000a*"); r.ErrorCode != 0 {
		t.Errorf("a pattern like others: %d", r.ErrorCode)
	}
	beat := make(chan *kmsg.HeartbeatResponse, 1)
	q := kmsg.NewPtrHeartbeatRequest()
	q.Group, q.MemberID = "g", "nobody"
	c.Heartbeat(t.Context(), q, func(r *kmsg.HeartbeatResponse) { beat <- r })
	<-beat
	for i, s := range slows {
		if len(s) > 0 {
			t.Errorf("slow pattern %d was not slow: %+v", i, <-s)
		}
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	for _, s := range slows {
		if r := <-s; r.ErrorCode != kerr.CoordinatorNotAvailable.Code {
			t.Errorf("ended with %d", r.ErrorCode)
		}
	}
}

// What takes too long by itself is said to be no pattern; a client that is gone ends its
// match.
func TestAMatchIsGivenUp(t *testing.T) {
	m := newMatcher(func() Catalogue { return many{n: 5000, version: 1} })
	defer m.close()
	if _, err := m.find(t.Context(), slow, 20*time.Millisecond); err != pattern.ErrTooLong {
		t.Errorf("too slow: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := m.find(ctx, slow, 0); err != pattern.ErrNobody {
		t.Errorf("nobody waits: %v", err)
	}
	if _, err := m.find(t.Context(), "(", 0); err != errPattern {
		t.Errorf("no pattern: %v", err)
	}
	if len(m.known) > 0 {
		t.Errorf("kept: %v", m.known)
	}
}

// A pattern that was matched is known to all who ask for it.
func TestMatchesAreShared(t *testing.T) {
	of := many{n: 1000, version: 1}
	m := newMatcher(func() Catalogue { return of })
	defer m.close()
	first, err := m.find(t.Context(), ".*", 0)
	if err != nil || len(first.Topics) != 1000 {
		t.Fatalf("%v", err)
	}
	asked := 0
	m.ask(t.Context(), ".*", func(again *Matched, err error) {
		if asked++; again != first || err != nil {
			t.Errorf("matched anew: %v", err)
		}
	})
	if asked != 1 {
		t.Error("what is known is not told at once")
	}
	of.version++
	if next, err := m.find(t.Context(), ".*", 0); err != nil || next == first || next.Catalogue.Version() != 2 {
		t.Errorf("of other topics: %v", err)
	}
}

// What is kept is bounded, whether patterns match many names or are large themselves,
// and of old catalogues some are kept.
func TestKeptMatchesAreBounded(t *testing.T) {
	of := many{n: 1, version: 1}
	m := newMatcher(func() Catalogue { return of })
	defer m.close()
	bounded := func(what string) {
		t.Helper()
		sum := int64(0)
		for _, is := range m.known {
			sum += is.size()
		}
		if m.kept > maxKept || sum != m.kept {
			t.Fatalf("%s: %d bytes are kept, counted as %d", what, sum, m.kept)
		}
	}
	for i, all := 0, int64(0); all < 2*maxKept; i++ {
		found, err := m.find(t.Context(), strings.Repeat("b", 9000)+strconv.Itoa(i), 0)
		if err != nil {
			t.Fatal(err)
		}
		all += found.size()
		bounded("large patterns")
	}
	few, err := m.find(t.Context(), "few", 0)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 2 * maxKept / (10_000 * nameBytes) {
		m.keep(&Matched{Source: strconv.Itoa(i), Catalogue: of, Topics: make([]string, 10_000), expression: few.expression})
		bounded("many names")
	}
	for range 3 * maxCatalogues {
		of.version++
		if _, err := m.find(t.Context(), fmt.Sprint("of ", of.version), 0); err != nil {
			t.Fatal(err)
		}
	}
	catalogues := map[uint64]bool{}
	for _, is := range m.known {
		catalogues[is.Catalogue.Version()] = true
	}
	if len(catalogues) != maxCatalogues || !catalogues[of.version] {
		t.Errorf("of catalogue %d: %v are kept", of.version, catalogues)
	}
}

// gate is a catalogue whose names wait for whoever opens it.
type gate struct {
	many
	began, opened chan struct{}
	looked        *atomic.Int32
}

func (g gate) Names() iter.Seq[string] {
	if g.looked.Add(1) == 1 {
		close(g.began)
	}
	<-g.opened
	return g.many.Names()
}

// Who wants the same pattern of the same topics waits for one match, and for another
// only if who began it has left; who wants it of later topics has its own.
func TestOnePatternIsMatchedOnce(t *testing.T) {
	of := gate{many{n: 10, version: 1}, make(chan struct{}), make(chan struct{}), new(atomic.Int32)}
	m := newMatcher(func() Catalogue { return of })
	defer m.close()
	first, leave := context.WithCancel(t.Context())
	left := make(chan error, 1)
	m.ask(first, "0.*", func(_ *Matched, err error) { left <- err })
	<-of.began
	const others = 100
	answers := make(chan error, others)
	for range others {
		m.ask(t.Context(), "0.*", func(_ *Matched, err error) { answers <- err })
	}
	leave()
	close(of.opened)
	if err := <-left; err != pattern.ErrNobody {
		t.Errorf("who has left is told: %v", err)
	}
	for range others {
		if err := <-answers; err != nil {
			t.Error(err)
		}
	}
	if n := of.looked.Load(); n != 2 {
		t.Errorf("the names were looked at %d times", n)
	}
	of.version = 2
	if found, err := m.find(t.Context(), "0.*", 0); err != nil || found.Catalogue.Version() != 2 {
		t.Errorf("of later topics: %+v, %v", found, err)
	}
}

// A request's match that has no room beside others is told to come again; alone it
// passes, whatever it takes, and a shard's does.
func TestMatchesUnderWayAreBounded(t *testing.T) {
	m := newMatcher(func() Catalogue { return many{n: 100, version: 1} })
	defer m.close()
	other := &flight{landed: make(chan struct{})}
	if err := m.hold(other, 2*maxUnderWay); err != nil {
		t.Fatalf("alone: %v", err)
	}
	if _, err := m.find(t.Context(), ".*", time.Hour); !errors.Is(err, errMatching) {
		t.Errorf("beside it: %v", err)
	}
	if _, err := m.find(t.Context(), ".*", 0); err != nil {
		t.Errorf("a shard's: %v", err)
	}
	if m.underWay != 2*maxUnderWay {
		t.Errorf("%d bytes of matches that are over", m.underWay-2*maxUnderWay)
	}
	m.land("", other, nil, errEnded)
}

// Beyond a number of requests that wait for a match the next is told to come again.
func TestWaitingMatchesAreBounded(t *testing.T) {
	m := newMatcher(func() Catalogue { return many{n: 1, version: 1} })
	holds := m.turns.Begin(0) // nobody else has a turn
	holds.Next()
	var run sync.WaitGroup
	for i := range maxMatches {
		run.Add(1)
		m.ask(t.Context(), fmt.Sprint(i), func(_ *Matched, err error) {
			if run.Done(); err != nil {
				t.Errorf("one that waits: %v", err)
			}
		})
	}
	m.ask(t.Context(), "one more", func(_ *Matched, err error) {
		if !errors.Is(err, errMatching) {
			t.Errorf("one too many: %v", err)
		}
	})
	if err := holds.End(); err != nil {
		t.Error(err)
	}
	run.Wait()
	m.close()
	m.ask(t.Context(), "late", func(_ *Matched, err error) {
		if !errors.Is(err, errEnded) {
			t.Errorf("after the end: %v", err)
		}
	})
}

// A match of older topics than the last changes nothing.
func TestOlderMatchIsNoNews(t *testing.T) {
	p := &subscription{}
	match := func(version uint64, topics ...string) bool {
		return p.take(&Matched{Catalogue: many{version: version}, Topics: topics}, 1)
	}
	if !match(2, "a", "b") || match(1, "a") || match(2, "a", "b") || match(3, "a", "b") || !match(4, "a") {
		t.Errorf("%+v", p)
	}
}

// Who subscribes by a pattern is given topics that come later, by way of the matcher.
func TestLaterTopicsAreMatched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		topics := someTopics()
		h := open(t, func(o *Options) { o.Catalogue = func() Catalogue { return topics } })
		h.load(1)
		q := beatRequest("g", "m", joinEpoch)
		q.SubscribedTopicNames, q.SubscribedTopicRegex = nil, new("t.*")
		answered := make(chan *kmsg.ConsumerGroupHeartbeatResponse, 1)
		answer := func(r *kmsg.ConsumerGroupHeartbeatResponse) { answered <- r }
		h.ConsumerGroupHeartbeat(t.Context(), "c", "/h", nil, q, answer)
		first := <-answered
		topics = topics.with("t2", 1)
		h.TopicsChanged()
		synctest.Wait()
		h.ConsumerGroupHeartbeat(t.Context(), "c", "/h", nil, beatRequest("g", "m", first.MemberEpoch), answer)
		if r := <-answered; r.ErrorCode != 0 || r.MemberEpoch <= first.MemberEpoch || r.Assignment == nil || len(r.Assignment.Topics) != len(first.Assignment.Topics)+1 {
			t.Errorf("%+v, then %+v", first, r)
		}
	})
}
