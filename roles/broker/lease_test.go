package broker

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
)

// A broker whose machine slept takes nothing for itself by what it heard before: others lead
// by then, and its own clock stood still. It completes no acks=1, and no end of its log; its
// registration lives on, and with the next heartbeat it goes on to lead what nobody took.
func TestWhoSleptHasNoLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		var slept [4]atomic.Int64
		c := startReplicas(t, 3, func(o *Options) {
			own := &slept[o.NodeID]
			o.Mono = func() time.Duration { return time.Since(began) + time.Duration(own.Load()) }
		})
		c.createTopic("events")
		sleeper := c.leader("events")
		id := sleeper.options.NodeID
		if code := c.produce(sleeper, "events", 1, "a0"); code != 0 {
			t.Fatal(kerr.ErrorForCode(code))
		}

		// It sleeps, and nobody notices.
		epoch, asked := sleeper.registration.epoch.Load(), c.partition("events").LeaderEpoch
		slept[id].Add(int64(time.Hour))
		if code := c.produce(sleeper, "events", 1, "x"); code != kerr.NotLeaderForPartition.Code {
			t.Errorf("right after it woke acks=1 is answered with %v", kerr.ErrorForCode(code))
		}
		if code := c.produce(sleeper, "events", -1, "a1"); code != 0 {
			t.Errorf("acks=all, which needs no clock, is answered with %v", kerr.ErrorForCode(code))
		}
		time.Sleep(2 * sleeper.options.Heartbeat) // in the bubble's time
		if code := c.produce(sleeper, "events", 1, "a2"); code != 0 {
			t.Errorf("after a heartbeat acks=1 is answered with %v", kerr.ErrorForCode(code))
		}
		if sleeper.registration.epoch.Load() != epoch || c.partition("events").LeaderEpoch != asked {
			t.Error("its registration, or what it leads, did not outlive the sleep")
		}

		// It sleeps, and another leads meanwhile: none of its time has passed.
		c.isolate(id)
		c.eventually("another leads", func() bool {
			l := c.leader("events")
			return l != nil && l != sleeper && c.produce(l, "events", -1, "b0") == 0
		})
		slept[id].Add(int64(time.Hour))
		if code := c.produce(sleeper, "events", 1, "lost"); code != kerr.NotLeaderForPartition.Code {
			t.Errorf("a zombie that slept answers acks=1 with %v", kerr.ErrorForCode(code))
		}
		end := int64(c.log(id, "events").HighWatermark())
		if got := c.fetchAt(id, fetchFrom("events", 0, end, 0)).ErrorCode; got != kerr.NotLeaderForPartition.Code {
			t.Errorf("a zombie that slept tells the end of its log: %v", kerr.ErrorForCode(got))
		}
		c.rejoin(id)
		c.eventually("it is in sync", func() bool { return len(c.partition("events").ISR) == 3 })
		c.same("events", 1, 2, 3)
	})
}

// A process that is paused between its reads of two clocks has not slept, and a sleep that
// follows, shorter than that pause, is still seen.
func TestAPauseHidesNoSleep(t *testing.T) {
	began := time.Unix(1e9, 0)
	var ran, slept, pause time.Duration
	b := &Broker{opt: Options{
		Now:  func() time.Time { ran += pause; return began.Add(ran) },
		Mono: func() time.Duration { ran += pause; return ran + slept },
	}}
	var l lease
	l.begin(time.Second, began, 0)
	look := func() bool {
		now, mono := b.clocks()
		return l.controller(now, mono)
	}
	pause = 10 * time.Second
	look()
	pause = 0
	l.beaten(began.Add(ran))
	ran += time.Millisecond
	if !look() {
		t.Error("a pause is taken for a sleep")
	}
	slept += 5 * time.Second
	if look() {
		t.Error("a sleep is not seen behind a longer pause")
	}
}

// Who could not tell the controllers that it leaves, as where most of them have stopped before,
// does not wait for them a second time.
func TestLeavingIsAskedForOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, heard := range []bool{false, true} {
			m := startReplicas(t, 1).nodes[1]
			m.hears.reach(heard)
			if err := m.Leave(t.Context()); (err == nil) != heard {
				t.Errorf("heard %t: %v", heard, err)
			}
			m.leave() // as Close does
			if asked := m.hears.fences.Load(); asked != 1 {
				t.Errorf("heard %t: the controllers were asked %d times", heard, asked)
			}
		}
	})
}
