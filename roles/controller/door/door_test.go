package door

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/controller"
	"rustmq.dev/rustmq/storage"
)

func TestCallsGoOnWhenTheLeaderIsKilled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, 1, 2, 3)
		d := h.door(h.options(1, 2, 3))
		h.broker(d, 7)
		create(t, d, "before")
		h.kill(1)
		time.AfterFunc(time.Second, func() { h.elect(3) })
		create(t, d, "after")
		h.kill(3)
		h.elect(2)
		create(t, d, "last")
	})
}

func TestDoorRunsHereWhatItsControllerLeads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, 1, 2)
		o := h.options()
		o.Local = h.member(1)
		d := h.door(o)
		h.broker(d, 7)
		create(t, d, "here")
		if n := h.member(1).runs.Load(); n != 3 {
			t.Errorf("%d commands were run here", n)
		}
		h.elect(2)
		create(t, d, "there")
		if here, there := h.member(1).runs.Load(), h.member(2).runs.Load(); here != 3 || there != 1 {
			t.Errorf("%d commands were run here and %d there", here, there)
		}
	})
}

// Where there is one controller, its answers are given as they are.
func TestControllerThatIsAloneAnswersAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, 1)
		o := h.options()
		o.Local = h.member(1)
		d := h.door(o)
		h.broker(d, 7)
		h.elect(0)
		h.member(1).then(func(error) error { return metadata.Errorf(metadata.NotController, "it is dead") })
		begun := time.Now()
		wantCode(t, "of a list", d.CreateTopics(t.Context(), topic("t"), false)[0].Err, metadata.NotController)
		wantCode(t, "of one", d.UnregisterBroker(t.Context(), 9), metadata.NotController)
		if took := time.Since(begun); took > 0 || h.runs.Load() != 4 {
			t.Errorf("%d commands were run, in %v", h.runs.Load(), took)
		}
	})
}

func TestDoorWithoutAControllerOfItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, 1)
		o := h.options(1)
		o.Local = (*controller.Controller)(nil)
		h.broker(h.door(o), 7)
	})
}

// Who is asked and does not lead names who does, and the door goes there at once.
func TestRedirectIsFollowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, 2, 1)
		d := h.door(h.options(1))
		d.found(addressFor(1))
		begun := time.Now()
		h.broker(d, 7)
		if took := time.Since(begun); took >= firstPause/2 {
			t.Errorf("it took %v", took)
		}
		if by1, by2 := h.member(1).runs.Load(), h.member(2).runs.Load(); by1 != 0 || by2 != 2 {
			t.Errorf("%d commands were run by who does not lead, and %d by who does", by1, by2)
		}
	})
}

func TestWithoutALeaderACallEndsInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, 1, 2)
		d := h.door(h.options(1, 2))
		h.elect(0)
		begun := time.Now()
		err := d.CreateTopics(t.Context(), topic("t"), false)[0].Err
		wantCode(t, "without a leader", err, metadata.NotController)
		if took := time.Since(begun); took < DefaultPatience || took > DefaultPatience+longestPause {
			t.Errorf("it took %v", took)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = d.RegisterBroker(ctx, controller.Registration{BrokerID: 7})
		wantCode(t, "within a second", err, metadata.NotController)
		if n := h.member(1).runs.Load() + h.member(2).runs.Load(); n != 0 {
			t.Errorf("%d commands were run", n)
		}
	})
}

// The answer is lost, and what was asked for done: only what may be is tried again.
func TestUnknownOutcome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, 1, 2)
		d := h.door(h.options(1, 2))
		epoch := h.broker(d, 7)
		create(t, d, "named")
		create(t, d, "known")
		leader := int32(1)
		// lost has the leader die before it answers, and says how often things were run.
		lost := func(do func()) int64 {
			m, next := h.member(leader), 3-leader
			m.then(func(err error) error {
				h.kill(m.id)
				h.start(m.id)
				h.elect(next)
				return err
			})
			before := h.runs.Load()
			leader = next
			do()
			synctest.Wait()
			return h.runs.Load() - before
		}
		for what, c := range map[string]struct {
			do   func() error
			want metadata.Code // 0: none
			runs int64
		}{
			"CreateTopics": {func() error { return d.CreateTopics(t.Context(), topic("new"), false)[0].Err }, metadata.TopicAlreadyExists, 2},
			"DeleteTopics by name": {func() error {
				return d.DeleteTopics(t.Context(), []controller.TopicRef{{Name: "named"}})[0].Err
			}, metadata.RequestTimedOut, 1},
			"DeleteTopics by id": {func() error {
				return d.DeleteTopics(t.Context(), []controller.TopicRef{{ID: mustTopic(t, d, "known").ID}})[0].Err
			}, metadata.UnknownTopicID, 2},
			"RegisterBroker": {func() error {
				again, err := d.RegisterBroker(t.Context(), controller.Registration{
					BrokerID: 7, Incarnation: [16]byte{1, 7}, Directory: [16]byte{7}, MaxFeatureLevel: metadata.LatestFeatureLevel,
				})
				if again != epoch {
					t.Errorf("registered with epoch %d, and before with %d", again, epoch)
				}
				return err
			}, 0, 2},
			"UnregisterBroker": {func() error { return d.UnregisterBroker(t.Context(), 9) }, metadata.RequestTimedOut, 1},
			"Heartbeat":        {func() error { return d.Heartbeat(t.Context(), 7, epoch) }, metadata.RequestTimedOut, 1},
		} {
			var err error
			runs := lost(func() { err = c.do() })
			if runs != c.runs {
				t.Errorf("%s: run %d times, want %d", what, runs, c.runs)
			}
			if c.want == 0 {
				if err != nil {
					t.Errorf("%s: %v", what, err)
				}
				continue
			}
			wantCode(t, what, err, c.want)
		}
	})
}

// A leader that ceases to lead in the middle has done some of what it was asked for.
func TestDecidedEntriesAreNotAskedForAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, 1, 2)
		d := h.door(h.options(1, 2))
		h.broker(d, 7)
		n := 0
		h.member(1).then(func(err error) error {
			if n++; n < 2 {
				return err
			}
			h.elect(2)
			return metadata.Errorf(metadata.NotController, "leadership was lost")
		})
		results := d.CreateTopics(t.Context(), append(topic("first"), topic("second")...), false)
		if results[0].Err != nil || results[0].Name != "first" || results[0].Partitions != 2 {
			t.Errorf("the first: %+v", results[0])
		}
		wantCode(t, "the second, which was made by the first try", results[1].Err, metadata.TopicAlreadyExists)
		if n := h.member(2).runs.Load(); n != 1 || results[1].Name != "second" {
			t.Errorf("%d were asked for again; the second: %+v", n, results[1])
		}
	})
}

// An election that waits for the bucket is waited for: asked for again meanwhile, it would be answered that there
// is a leader, or that nobody knows.
func TestAnElectionMayWaitForTheBucket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, 1)
		d := h.door(h.options(1))
		h.broker(d, 7)
		create(t, d, "t")
		before := h.runs.Load()
		h.member(1).then(func(err error) error {
			time.Sleep(controller.UncleanWait + time.Second)
			return err
		})
		led := controller.LeaderElection{Partition: storage.PartitionID{Topic: mustTopic(t, d, "t").ID}, Leader: 7, Unclean: true}
		wantCode(t, "of who leads", d.ElectLeaders(t.Context(), []controller.LeaderElection{led})[0], metadata.ElectionNotNeeded)
		if runs := h.runs.Load() - before; runs != 1 {
			t.Errorf("run %d times", runs)
		}
	})
}

func TestHeartbeatHasOneTry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, 1)
		d := h.door(h.options(1))
		epoch := h.broker(d, 7)
		held := make(chan struct{})
		h.member(1).then(func(err error) error { <-held; return err })
		begun := time.Now()
		wantCode(t, "a leader that hangs", d.Heartbeat(t.Context(), 7, epoch), metadata.RequestTimedOut)
		if took := time.Since(begun); took != DefaultHeartbeatPatience {
			t.Errorf("it took %v", took)
		}
		close(held)
		if err := d.Heartbeat(t.Context(), 7, epoch); err != nil {
			t.Errorf("the next: %v", err)
		}
		wantCode(t, "of an older epoch", d.Heartbeat(t.Context(), 7, epoch-1), metadata.StaleBrokerEpoch)
	})
}

// A broker that the controller hears again, after it was cut off, is told so only once it
// sees what happened meanwhile: others may lead what it led.
func TestHeartbeatShowsWhatHappenedMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, 1, 2)
		o := h.options(1, 2)
		o.Local = h.member(1)
		d, other := h.door(o), h.door(h.options(2))
		h.elect(2)
		epoch := h.broker(d, 7)
		h.member(1).lag(true)
		create(t, other, "meanwhile")
		wantCode(t, "by an image of before", d.Heartbeat(t.Context(), 7, epoch), metadata.RequestTimedOut)
		h.member(1).lag(false)
		if err := d.Heartbeat(t.Context(), 7, epoch); err != nil {
			t.Errorf("by an image that has caught up: %v", err)
		}
	})
}

// A leader that was deposed and does not know it has never heard of a newer
// registration: if it said so, the broker would take itself for replaced.
func TestDeposedLeaderDoesNotJudgeNewerRegistrations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, 1, 2)
		d := h.door(h.options(1, 2))
		h.member(1).lag(true)
		h.member(1).thinks.Store(true)
		h.elect(2)
		d.found(addressFor(2))
		epoch := h.broker(d, 7)
		d.found(addressFor(1))
		if err := d.Heartbeat(t.Context(), 7, epoch); err != nil && metadata.CodeOf(err) != metadata.RequestTimedOut && metadata.CodeOf(err) != metadata.NotController {
			t.Errorf("heartbeat: %v", err)
		}
		if n := h.member(1).runs.Load(); n != 0 {
			t.Errorf("%d commands were run by the deposed leader", n)
		}
		create(t, d, "t")
		// It answers what it may have known.
		h.member(1).lag(false)
		d.found(addressFor(1))
		create(t, d, "u")
		if n := h.member(1).runs.Load(); n != 1 {
			t.Errorf("%d commands were run by it in the end", n)
		}
	})
}

func TestLeaderTellsWithTheHeartbeatWhatItAloneKnows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, 1)
		d := h.door(h.options(1))
		if _, ok := d.BelievedTime(); ok || d.Shipped() != 0 || d.BucketState().Err == nil {
			t.Error("something is known before the first heartbeat")
		}
		epoch := h.broker(d, 7)
		<-time.After(3 * time.Second)
		if now, ok := d.BelievedTime(); !ok || !now.Equal(time.Now()) {
			t.Errorf("believed: %v, %v; it is %v", now, ok, time.Now())
		}
		if d.Shipped() != h.real.Shipped() || d.BucketState() != h.real.BucketState() {
			t.Errorf("shipped %d, %+v; want %d, %+v", d.Shipped(), d.BucketState(), h.real.Shipped(), h.real.BucketState())
		}
		<-time.After(stateAge)
		if now, ok := d.BelievedTime(); ok {
			t.Errorf("%v is believed long after the last heartbeat", now)
		}
		if err := d.Heartbeat(t.Context(), 7, epoch); err != nil {
			t.Fatal(err)
		}
		if _, ok := d.BelievedTime(); !ok {
			t.Error("nothing is believed after a heartbeat")
		}
	})
}

// A broker that asks while everything moves is answered, and sees what it was told.
func TestManyAskWhileTheLeaderMoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, 1, 2, 3)
		o := h.options(1, 2, 3)
		d := h.door(o)
		o.Local = h.member(2)
		local := h.door(o)
		epoch := h.broker(d, 7)
		ctx, cancel := context.WithCancel(t.Context())
		var asking sync.WaitGroup
		for i := range 6 {
			from := []*Door{d, local}[i%2]
			asking.Go(func() {
				for ctx.Err() == nil {
					err := from.DrainBroker(ctx, 7, i%3 == 0)
					if err == nil {
						err = from.Heartbeat(ctx, 7, epoch)
					}
					if err != nil && ctx.Err() == nil {
						t.Errorf("asker %d: %v", i, err)
					}
					<-time.After(30 * time.Millisecond)
				}
			})
		}
		for i := range int32(12) {
			<-time.After(50 * time.Millisecond)
			h.elect(1 + i%3)
		}
		cancel()
		asking.Wait()
	})
}

func mustTopic(t *testing.T, d *Door, name string) *metadata.Topic {
	t.Helper()
	is, ok := d.Image().Topic(name)
	if !ok {
		t.Fatalf("no topic %s", name)
	}
	return is
}
