package broker

import (
	"strings"
	"testing"
	"testing/synctest"
)

// What replaces one broker after the other asks each, once it is back, whether it has caught
// up: not before every replica of it is in sync again, and not of what falls behind later.
func TestABrokerThatIsBackHasToCatchUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startReplicas(t, 3)
		c.createTopic("events")
		c.produce(c.leader("events"), "events", -1, numbered("a", 10)...)
		away := c.partition("events").Leader%3 + 1
		fs := c.kill(away)
		c.eventually("it is out", func() bool { return len(c.partition("events").ISR) == 2 })
		for id := range c.nodes {
			if id != away { // it is heard by the controller, and by nobody else
				c.setCut(id, away, true)
			}
		}
		c.start(away, fs)
		for id := range c.nodes {
			if id != away {
				c.setCut(id, away, true)
			}
		}
		if err := c.nodes[away].CaughtUp(); err == nil || !strings.Contains(err.Error(), "1 of the 1 replicas of this broker are not in sync yet") {
			t.Errorf("before it is in sync: %v", err)
		}
		for id := range c.nodes {
			c.setCut(id, away, false)
		}
		c.eventually("it is in sync, and says so", func() bool {
			return len(c.partition("events").ISR) == 3 && c.nodes[away].CaughtUp() == nil
		})
		for id := range c.nodes {
			if id != away {
				c.setCut(id, away, true)
			}
		}
		c.produce(c.leader("events"), "events", 1, "b")
		c.eventually("it lags", func() bool { return len(c.partition("events").ISR) == 2 })
		if err := c.nodes[away].CaughtUp(); err != nil {
			t.Errorf("of what fell behind later: %v", err)
		}
		for id := range c.nodes {
			c.setCut(id, away, false)
		}
	})
}
