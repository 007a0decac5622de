package controller

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestNextLeaderKnowsWhoDiedWithTheLast holds that a broker which died together with the
// leading controller is fenced a session after its death, or a grace after the election if
// that is later, for every controller hears the brokers; and that nobody else is. So it is
// when the election takes longer than a session.
func TestNextLeaderKnowsWhoDiedWithTheLast(t *testing.T) {
	for name, held := range map[string]time.Duration{"at once": 0, "late": 1500 * time.Millisecond} {
		t.Run(name, func(t *testing.T) { testDiedWithTheLast(t, held) })
	}
}

// testDiedWithTheLast holds the election up for so long.
func testDiedWithTheLast(t *testing.T, held time.Duration) {
	const (
		session = time.Second
		beats   = session / 5
		grace   = 2 * beats
		look    = grace / 8
		step    = look / 5
	)
	inGroup(t, func(o *Options) { o.BrokerSession = session }, func(t *testing.T, g *group) {
		old := g.leader()
		epochs := map[int32]int64{1: register(t, old, 1, 1), 2: register(t, old, 2, 1), 3: register(t, old, 3, 1)}
		beat := func(brokers ...int32) {
			for _, id := range brokers {
				for _, c := range g.all {
					c.Hear(id, epochs[id])
				}
			}
		}
		for range 10 {
			beat(1, 2, 3)
			time.Sleep(beats)
		}
		beat(1, 2, 3)
		died := time.Now()
		g.isolate(uint64(old.opt.NodeID), true)
		delete(g.all, uint64(old.opt.NodeID))
		defer func() { g.all[uint64(old.opt.NodeID)] = old }()
		other := slices.Collect(maps.Keys(g.all))[0] // without it there is no majority
		g.isolate(other, held > 0)
		var reign uint64
		var begins time.Time // of the reign
		for at := time.Duration(0); ; at += step {
			if at >= held {
				g.isolate(other, false)
			}
			if at%beats == 0 {
				beat(1, 3)
			}
			time.Sleep(step)
			fenced := map[int32]bool{}
			for _, c := range g.all {
				if term, leads := c.reigns(); leads && term != reign {
					reign, begins = term, time.Now()
				}
				for b := range c.Image().Brokers() {
					fenced[b.ID] = fenced[b.ID] || b.Fenced
				}
			}
			if fenced[1] || fenced[3] {
				t.Fatalf("brokers that live are fenced: %v", fenced)
			}
			due := died.Add(session)
			if begins.Add(grace).After(due) {
				due = begins.Add(grace)
			}
			switch late := time.Since(due); {
			case fenced[2]:
				if late < -step || begins.IsZero() {
					t.Errorf("it was fenced %v too early", -late)
				}
				return
			case !begins.IsZero() && late > 2*look || at > time.Minute:
				t.Fatalf("%v after it died, and %v after the next began to lead, it is in service", time.Since(died), time.Since(begins))
			}
		}
	})
}

// TestCutOffLeaderGivesNoLease holds that a heartbeat is answered only once a majority has
// confirmed the leader since it came: one that is cut off, and does not know it yet, would
// have a broker that reaches nobody else go on leading.
func TestCutOffLeaderGivesNoLease(t *testing.T) {
	inGroup(t, func(o *Options) { o.BrokerSession = 300 * time.Millisecond }, func(t *testing.T, g *group) {
		leader := g.leader()
		epoch := register(t, leader, 1, 1)
		if err := leader.Heartbeat(t.Context(), 1, epoch); err != nil {
			t.Fatal(err)
		}
		g.isolate(uint64(leader.opt.NodeID), true)
		if err := leader.Heartbeat(t.Context(), 1, epoch); err == nil || !strings.Contains(err.Error(), "no majority") {
			t.Errorf("a leader that is cut off answers a heartbeat: %v", err)
		}
		if !leader.Leads() {
			t.Error("it knows by now; the test is of no use")
		}
	})
}

// TestOnlyTheRegistrationIsHeard holds that an older process of a broker does not keep
// the session of the present one.
func TestOnlyTheRegistrationIsHeard(t *testing.T) {
	const session = time.Second
	inGroup(t, func(o *Options) { o.BrokerSession = session }, func(t *testing.T, g *group) {
		leader := g.leader()
		old := register(t, leader, 1, 1)
		register(t, leader, 1, 2)
		for range 20 {
			leader.Hear(1, old)
			leader.Hear(7, old)
			time.Sleep(session / 10)
		}
		synctest.Wait()
		if b, _ := leader.Image().Broker(1); !b.Fenced {
			t.Error("it is in service, though only an older process is heard")
		}
	})
}

// TestBrokerWhoseLineBrokeMakesRoom holds that others lead before a session is over when
// the line breaks.
func TestBrokerWhoseLineBrokeMakesRoom(t *testing.T) {
	const session = 10 * time.Second
	inGroup(t, func(o *Options) { o.BrokerSession = session }, func(t *testing.T, g *group) {
		leader := g.leader()
		one := register(t, leader, 1, 1)
		two := register(t, leader, 2, 1)
		time.Sleep(session / 5)
		leader.Hear(1, one)
		leader.Broke(2, two)
		time.Sleep(session/2 - session/20)
		synctest.Wait()
		if b, _ := leader.Image().Broker(2); !b.Fenced {
			t.Error("it is in service still")
		}
		if b, _ := leader.Image().Broker(1); b.Fenced {
			t.Error("the other is not")
		}
		if err := leader.Heartbeat(t.Context(), 2, two); err != nil {
			t.Error(err)
		}
		if b, _ := leader.Image().Broker(2); b.Fenced {
			t.Error("it does not come back")
		}
	})
}
