package acl

import (
	"fmt"
	"math/rand/v2"
	"net"
	"testing"

	"rustmq.dev/rustmq/test/seeded"
)

func tcp(host string) net.Addr { return &net.TCPAddr{IP: net.ParseIP(host), Port: 1} }

// A connection that is open all the while is decided about anew as soon as rules change.
func TestMemoFollowsAChange(t *testing.T) {
	a := NewAuthorizer(compiled(t))
	m := NewMemo(a)
	m.Begin("User:alice", tcp("10.0.0.1"))
	for i := range 6 {
		may := i%2 == 1
		for range 3 {
			if got := m.Allowed(7, "events", Write); got != may {
				t.Fatalf("change %d: %t", i, got)
			}
			if got := m.AllowedID([]byte("id"), Write); got != may {
				t.Fatalf("change %d: transactional id: %t", i, got)
			}
		}
		if may {
			a.Set(compiled(t))
		} else {
			a.Set(compiled(t, "allow alice write topic.events", "allow alice write transactional-id.id"))
		}
	}
}

// What one client may do is not remembered for the next, nor for the same one elsewhere.
func TestMemoIsOfOneClient(t *testing.T) {
	m := NewMemo(NewAuthorizer(compiled(t, "allow alice write topic.events 10.0.0.1", "allow alice write transactional-id.id 10.0.0.1")))
	for _, step := range []struct {
		who, at string
		may     bool
	}{
		{"User:alice", "10.0.0.1", true}, {"User:ANONYMOUS", "10.0.0.1", false}, {"User:alice", "10.0.0.1", true},
		{"User:alice", "10.0.0.2", false}, {"User:alice", "10.0.0.1", true}, {"User:bob", "10.0.0.1", false},
	} {
		m.Begin(step.who, tcp(step.at))
		for range 2 {
			if m.Allowed(1, "events", Write) != step.may || m.AllowedID([]byte("id"), Write) != step.may {
				t.Fatalf("%+v: the other", step)
			}
		}
	}
	m.Begin("User:alice", nil)
	if m.Allowed(1, "events", Write) {
		t.Error("allowed from an address that is not known")
	}
}

func TestMemoAgreesWithTheMatcher(t *testing.T) {
	seed := seeded.Seed(t)
	w := world{rand.New(rand.NewPCG(seed, 2))}
	a := NewAuthorizer(Compile(nil, nil))
	m := NewMemo(a)
	names := map[uint64]string{}
	for range 20_000 {
		if w.IntN(200) == 0 {
			var rules []Rule
			for range w.IntN(24) {
				if r, ok := w.rule(); ok {
					rules = append(rules, r)
				}
			}
			a.Set(Compile(rules, nil))
		}
		who, at := w.pick("User:a", "User:b"), tcp("10.1.2.3")
		if w.IntN(4) == 0 || m.principal == "" {
			m.Begin(who, at)
		} else {
			who = m.principal
		}
		key := 1 + w.Uint64N(2*memoPlaces) // two to a place
		if names[key] == "" {
			names[key] = fmt.Sprint(w.name(), key)
		}
		op := Read + Operation(w.IntN(int(TwoPhaseCommit-Read)+1))
		if got, want := m.Allowed(key, names[key], op), a.Matcher().Allowed(who, m.host, op, Topic, names[key]); got != want {
			t.Fatalf("seed %d: %s, %s of %q: %t", seed, who, op, names[key], got)
		}
	}
}

// Who decided for a request that waits decides anew once rules have changed.
func TestClientIsRenewed(t *testing.T) {
	a := NewAuthorizer(compiled(t, "allow alice read topic.events"))
	m := NewMemo(a)
	m.Begin("User:alice", tcp("10.0.0.1"))
	c := m.Client()
	was := c.Stamp()
	if a.Renew(c); c.Stamp() != was || was == (Stamp{}) || !c.Allowed(Read, Topic, "events") {
		t.Error("nothing has changed")
	}
	a.Set(compiled(t))
	if !c.Allowed(Read, Topic, "events") {
		t.Error("a request sees two sets of rules")
	}
	if a.Renew(c); c.Allowed(Read, Topic, "events") || c.Stamp() == was || c.Stamp() != m.Client().Stamp() {
		t.Error("allowed by rules of before")
	}
	was = c.Stamp()
	if m.Begin("User:bob", tcp("10.0.0.1")); m.Client().Stamp() == was {
		t.Error("two clients of one stamp")
	}
	if c.Operations(Topic, "events") != 0 || (*Client)(nil).Operations(Topic, "events") != OperationsOf(Topic) || !(*Client)(nil).Allowed(Alter, Cluster, ClusterName) {
		t.Error("operations")
	}
}

// Views that are equal decide alike, and those of one client are: wherever it is, unless a
// rule looks at that.
func TestViewsAreOfClients(t *testing.T) {
	rule := func(principal, name, host string) Rule {
		return Rule{Resource: Topic, Pattern: Literal, Name: name, Principal: principal, Host: host, Operation: Read, Permission: Allow}
	}
	a := NewAuthorizer(Compile([]Rule{rule("User:a", "t", Wildcard), rule("User:b", "t", "10.0.0.1")}, nil))
	view := func(who, at string) View {
		m := NewMemo(a)
		m.Begin(who, tcp(at))
		return m.Client().View()
	}
	if view("User:a", "10.0.0.1") != view("User:a", "10.0.0.2") {
		t.Error("where a is makes a difference")
	}
	here, there := view("User:b", "10.0.0.1"), view("User:b", "10.0.0.2")
	if here == there || here.SameClient(there) || !here.Allowed(Describe, Topic, "t") || there.Allowed(Describe, Topic, "t") {
		t.Error("where b is makes no difference")
	}
	if view("User:a", "10.0.0.1").SameClient(here) {
		t.Error("a is b")
	}
	before := view("User:a", "10.0.0.1")
	a.Set(Compile([]Rule{rule("User:a", "u", Wildcard)}, nil))
	after := view("User:a", "10.0.0.1")
	if before == after || !before.SameClient(after) || !before.Allowed(Describe, Topic, "t") || after.Allowed(Describe, Topic, "t") {
		t.Error("a view does not stay as it was, or a change of rules makes another client")
	}
	a.Set(Compile([]Rule{rule(Everyone, "u", "10.0.0.0/8")}, nil))
	if view("User:a", "10.0.0.1") == view("User:a", "192.0.2.1") {
		t.Error("where a is makes no difference by a rule for everyone")
	}
}
