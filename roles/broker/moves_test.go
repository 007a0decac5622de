package broker

import (
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/controller"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/test/seeded"
)

// elect moves the leadership of a topic's partition to a broker.
func (c *replicated) elect(topic string, leader int32) {
	c.t.Helper()
	tp, _ := c.controller.Image().Topic(topic)
	if err := c.controller.ElectLeaders(c.t.Context(), []controller.LeaderElection{{Partition: storage.PartitionID{Topic: tp.ID}, Leader: leader}})[0]; err != nil {
		c.t.Fatal(err)
	}
}

// A leader that is moved may have sent on what its own disk is slow to take. Once that has
// it, the next leader is told, though nothing more is appended: who produces waits.
func TestWhoLedConfirmsWhatItAppendedItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startGated(t, 3)
		c.createTopic("events")
		old := c.partition("events").Leader
		if code := c.produce(c.leader("events"), "events", -1, numbered("a", 10)...); code != 0 {
			t.Fatal(kerr.ErrorForCode(code))
		}
		c.disks[old].hold()
		writer := c.leader("events").connect()
		q := produceVersion(9, produceTo("events", 0, -1, batchOf(t, "late")))
		q.TimeoutMillis = 60_000
		writer.send(q)
		next := old%3 + 1
		c.eventually("the others have it", func() bool {
			return c.log(next, "events").Progress().Synced == 11 && c.log(next%3+1, "events").Progress().Synced == 11
		})
		c.elect("events", next)
		time.Sleep(200 * time.Millisecond) // it is followed by then
		if hw := c.log(next, "events").HighWatermark(); hw != 10 || len(c.partition("events").ISR) != 3 {
			t.Fatalf("committed to %d, in sync are %v", hw, c.partition("events").ISR)
		}
		c.disks[old].let()
		began := time.Now()
		c.eventually("it is committed", func() bool { return c.log(next, "events").HighWatermark() == 11 })
		if took := time.Since(began); took > time.Second || len(c.partition("events").ISR) != 3 {
			t.Errorf("committed %v after all had it, in sync are %v", took, c.partition("events").ISR)
		}
		if got := writer.receive().(*kmsg.ProduceResponse).Topics[0].Partitions[0].ErrorCode; got != kerr.NotLeaderForPartition.Code {
			t.Errorf("who sent it is told %v", kerr.ErrorForCode(got))
		}
	})
}

// lateImages is a controller whose images take a while to come.
type lateImages struct {
	*hearing
	takes func() time.Duration
	mu    sync.Mutex // held while one is handed over
}

func (l *lateImages) Subscribe(f func(*metadata.Image)) func() {
	return l.hearing.Subscribe(func(*metadata.Image) {
		time.AfterFunc(l.takes(), func() {
			l.mu.Lock()
			defer l.mu.Unlock()
			f(l.Image())
		})
	})
}

// dice are thrown by several goroutines.
type dice struct {
	mu  sync.Mutex
	rng *rand.Rand
}

func (d *dice) upTo(most time.Duration) time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	return time.Duration(d.rng.Int64N(int64(most)))
}

// write sends batches of an idempotent producer, one at a time, to whoever leads, until
// ended is closed. It returns the longest that one took to be acked.
func (c *replicated) write(topic string, producer int64, ended <-chan struct{}) (longest time.Duration) {
	clients := map[int32]*client{}
	for id, m := range c.nodes {
		clients[id] = m.connect()
	}
	for sequence := int32(0); ; sequence++ {
		select {
		case <-ended:
			return longest
		default:
		}
		began := time.Now()
		for code := int16(-1); code != 0; {
			of := batch.Producer{ID: producer, BaseSequence: sequence}
			q := produceVersion(9, produceTo(topic, 0, -1, batchWith(c.t, batch.BuilderOptions{Producer: &of}, "x")))
			q.TimeoutMillis = 60_000
			k := clients[c.partition(topic).Leader]
			k.send(q)
			code = k.receive().(*kmsg.ProduceResponse).Topics[0].Partitions[0].ErrorCode
			if code != 0 && code != kerr.NotLeaderForPartition.Code {
				c.t.Errorf("producer %d is told %v", producer, kerr.ErrorForCode(code))
				return longest
			}
			time.Sleep(20 * time.Millisecond)
		}
		longest = max(longest, time.Since(began))
	}
}

// However leaders are moved, who produces waits little longer than the disks, wires and
// images take.
func TestMovesHoldNobodyUp(t *testing.T) {
	const disk, image, wire, soon = 100 * time.Millisecond, 100 * time.Millisecond, 5 * time.Millisecond, time.Second
	seed := seeded.Seed(t)
	// The race detector itself crashes in this test where there are two (go.dev/issue/78156).
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	synctest.Test(t, func(t *testing.T) {
		d := &dice{rng: rand.New(rand.NewPCG(seed, 1))}
		c := startGated(t, 3, func(o *Options) {
			o.Controller = &lateImages{hearing: o.Controller.(*hearing), takes: func() time.Duration { return d.upTo(image) }}
		})
		c.delay(func() time.Duration { return d.upTo(wire) })
		c.createTopic("events")
		ended := make(chan struct{})
		var others sync.WaitGroup
		waits := make([]time.Duration, 5)
		for i := range waits {
			others.Go(func() { waits[i] = c.write("events", int64(i), ended) })
		}
		for _, g := range c.disks {
			others.Go(func() {
				for {
					select {
					case <-ended:
						return
					case <-time.After(d.upTo(300 * time.Millisecond)):
					}
					g.hold()
					time.Sleep(d.upTo(disk))
					g.let()
				}
			})
		}
		for range 20 {
			time.Sleep(d.upTo(time.Second))
			old := c.partition("events").Leader
			if d.upTo(2) == 0 { // all that is in flight waits for its disk
				c.disks[old].hold()
				time.Sleep(disk / 2)
			}
			c.elect("events", old%3+1)
			if d.upTo(2) == 0 { // and on
				c.elect("events", (old+1)%3+1)
			}
			time.Sleep(d.upTo(disk))
			c.disks[old].let()
		}
		time.Sleep(soon)
		close(ended)
		others.Wait()
		c.delay(nil)
		time.Sleep(20 * time.Second) // connections of before end too, and who was slow at last is back
		for i, longest := range waits {
			if longest > soon {
				t.Errorf("an ack of producer %d took %v", i, longest)
			}
		}
		if is := c.partition("events"); len(is.ISR) != 3 {
			t.Errorf("in sync are %v", is.ISR)
		}
	})
}
