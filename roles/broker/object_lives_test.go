package broker

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"rustmq.dev/rustmq/roles/controller"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/bucket"
	"rustmq.dev/rustmq/test/seeded"
)

// TestWhatIsAckedIsThereOnceAndInOrder: whoever leads, whatever burns, stops or does not answer.
func TestWhatIsAckedIsThereOnceAndInOrder(t *testing.T) {
	seed := seeded.Seed(t)
	for run := range uint64(3) {
		synctest.Test(t, func(t *testing.T) { newHeldLife(t, seed+run).live() })
		if t.Failed() {
			t.Fatalf("-seed %d", seed+run)
		}
	}
}

// heldLife is brokers to which all sorts of things happen, while idempotent producers send.
type heldLife struct {
	*held
	rng   *rand.Rand
	turn  chan struct{}     // of who looks at brokers, or changes them: a mutex would hold up time
	mu    sync.Mutex        // guards acked
	acked map[int64][]int64 // by producer: where its batches are
	ended chan struct{}
}

func newHeldLife(t *testing.T, seed uint64) *heldLife {
	return &heldLife{held: startHeld(t, 3), rng: rand.New(rand.NewPCG(seed, 5)), turn: make(chan struct{}, 1), acked: map[int64][]int64{}, ended: make(chan struct{})}
}

func (l *heldLife) live() {
	l.createTopic("events", 1)
	var producers sync.WaitGroup
	for id := range int64(3) {
		producers.Go(func() { l.write(id) })
	}
	for range 25 {
		l.happens()
		time.Sleep(time.Duration(l.rng.Int64N(int64(2 * time.Second))))
	}
	l.bucket.Set()
	for _, m := range l.nodes {
		m.hears.mute.Store(false)
	}
	l.leads("events")
	time.Sleep(5 * time.Second)
	close(l.ended)
	producers.Wait()
	got := l.read("events")
	total := 0
	for id, offsets := range l.acked {
		for sequence, offset := range offsets {
			if value := fmt.Sprint(id, "/", sequence); offset >= int64(len(got)) || got[offset] != value {
				l.t.Fatalf("%s was acked at %d, where there is %q", value, offset, got[min(offset, int64(len(got)))-1:])
			}
		}
		total += len(offsets)
	}
	if len(got) != total || total == 0 {
		l.t.Fatalf("%d records, %d were acked", len(got), total)
	}
}

// happens does one of the things that may happen.
func (l *heldLife) happens() {
	id := int32(1 + l.rng.IntN(3))
	l.turn <- struct{}{}
	defer func() { <-l.turn }()
	switch l.rng.IntN(8) {
	case 0:
		l.burn(id)
	case 1:
		l.begin(id, l.kill(id))
	case 2: // it is out of service for a moment
		l.fence(id)
	case 3:
		l.nodes[id].hears.mute.Store(!l.nodes[id].hears.mute.Load())
	case 4:
		l.bucket.Set(
			bucket.Rule{Op: bucket.OpPut, Err: errUnreached, Chance: l.rng.Float64(), Seed: l.rng.Uint64()},
			bucket.Rule{Op: bucket.OpPut, Err: errUnreached, Done: true, Chance: l.rng.Float64() / 2, Seed: l.rng.Uint64()},
			bucket.Rule{Op: bucket.OpRead, Err: errUnreached, Chance: l.rng.Float64() / 2, Seed: l.rng.Uint64()},
		)
	case 5:
		wait := time.Duration(l.rng.Int64N(int64(3 * time.Second)))
		l.bucket.Set(bucket.Rule{Op: bucket.OpPut, Chance: 0.5, Seed: l.rng.Uint64(), Hook: func(context.Context, bucket.Op, string) error {
			time.Sleep(wait)
			return nil
		}})
	case 6:
		l.bucket.Set()
	case 7:
		tp, _ := l.controller.Image().Topic("events")
		l.controller.ElectLeaders(l.t.Context(), []controller.LeaderElection{{Partition: storage.PartitionID{Topic: tp.ID}, Leader: id}})
	}
}

// write sends batches of one record, each until it is acked.
func (l *heldLife) write(id int64) {
	var k *client
	var of *member
	for sequence := 0; ; {
		select {
		case <-l.ended:
			return
		default:
		}
		l.turn <- struct{}{}
		if m := l.leader("events"); m != of && m != nil {
			if k != nil {
				k.conn.Close()
			}
			of, k = m, m.connect()
		}
		<-l.turn
		if k == nil {
			time.Sleep(50 * time.Millisecond)
			continue
		}
		k.send(lone(l.t, "events", &batch.Producer{ID: id, BaseSequence: int32(sequence)}, 700*time.Millisecond, fmt.Sprint(id, "/", sequence)))
		r, err := k.tryReceive()
		if err != nil {
			of, k = nil, nil
			time.Sleep(50 * time.Millisecond)
			continue
		}
		switch offset, err := producedAt(r); err {
		case nil:
			l.mu.Lock()
			l.acked[id] = append(l.acked[id], offset)
			l.mu.Unlock()
			sequence++
		case kerr.NotLeaderForPartition, kerr.RequestTimedOut, kerr.KafkaStorageError, kerr.UnknownTopicOrPartition:
			time.Sleep(50 * time.Millisecond)
		default:
			l.t.Errorf("producer %d is told %v", id, err)
			return
		}
	}
}
