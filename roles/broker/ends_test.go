package broker

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// RULES 3.2: who cut its tail is elected by what it and others have said that they have.
// What a controller with a full log did not take is said again, or nobody ever leads.
func TestWhatTheControllerDidNotTakeIsSaidAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startReplicas(t, 3)
		c.createTopic("events")
		first := c.partition("events").Leader
		second, third := first%3+1, (first+1)%3+1
		c.isolate(third)
		c.eventually("two are in sync", func() bool { return len(c.partition("events").ISR) == 2 })
		c.produce(c.leader("events"), "events", -1, numbered("a", 10)...)
		c.produce(c.leader("events"), "events", -1, "the last that was acked")
		cut := c.nodes[second].fs.Clone()
		spoil(t, cut, "the last that")
		c.kill(second)
		c.setCut(first, second, true)
		c.setCut(second, first, true)
		c.start(second, cut)
		if p := c.partition("events"); p.Leader != first || !slices.Contains(p.ELR, second) {
			t.Fatalf("%+v", *p)
		}
		hears := c.nodes[second].hears
		hears.mu.Lock()
		hears.ends = errors.New("the controller's log is full")
		hears.mu.Unlock()
		cut = c.nodes[first].fs.Clone()
		spoil(t, cut, "the last that")
		c.kill(first)
		time.Sleep(10 * time.Minute) // in the bubble's time
		c.start(first, cut)
		time.Sleep(time.Minute)
		if p := c.partition("events"); p.Leader >= 0 {
			t.Fatalf("broker %d leads, and one of two was heard", p.Leader)
		}
		hears.mu.Lock()
		hears.ends = nil
		hears.mu.Unlock()
		began := time.Now()
		c.eventually("somebody leads", func() bool { return c.partition("events").Leader >= 0 })
		if took := time.Since(began); took > maxSayAgain {
			t.Errorf("said after %v, within %v it should have been", took, maxSayAgain)
		}
	})
}
