package log

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"rustmq.dev/rustmq/storage/disk"
)

// putNow appends a batch of a producer, by the clock of the log's broker.
func putNow(t *testing.T, l *Log, id int64, sequence int32) AppendResult {
	t.Helper()
	b := from(t, id, 0, sequence, "a")
	if err := l.store.Admit(context.Background(), len(b)); err != nil {
		t.Fatal(err)
	}
	a := make(answer, 1)
	l.Append(l.store.o.Now(), b, anyEpoch, a)
	r := <-a
	if r.Err != nil {
		t.Fatal(r.Err)
	}
	return r
}

// A clock that is set ahead ends no producer's memory: what it sent a moment before, and was not
// answered, it sends again, and that would be there twice. Nor is one kept for ever that was
// heard while the clock was ahead.
func TestAClockThatIsSetAheadForgetsNoProducer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ahead atomic.Int64 // the wall clock, ns
		set := func(by time.Duration) { ahead.Store(int64(by)) }
		o := small(disk.NewMem(disk.MemOptions{}))
		o.ProducerExpiry, o.Now = time.Hour, func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
		s := open(t, o)
		defer func() { s.Close() }()
		l := lead(t, s, partition(topicA, 0), 1)
		put := func(id int64, sequence int32) AppendResult { return putNow(t, l, id, sequence) }
		put(7, 0)
		set(10 * 365 * 24 * time.Hour)
		time.Sleep(10 * time.Minute) // it is looked for who is silent
		if r := put(7, 0); !r.Duplicate {
			t.Fatalf("a batch is there twice since the clock was set: %+v", r)
		}
		put(8, 0)
		set(0)
		time.Sleep(50 * time.Minute)
		if r := put(8, 0); !r.Duplicate {
			t.Fatalf("a batch is there twice since the clock was set back: %+v", r)
		}
		time.Sleep(80 * time.Minute)
		wantProducers(t, s, l)

		// Nor does a start that finds the clock ahead: it cannot tell how long it was off.
		put(9, 0)
		set(48 * time.Hour)
		s = reopen(t, s)
		l = lead(t, s, l.id, 2)
		if r := put(9, 0); !r.Duplicate {
			t.Fatalf("a batch is there twice since the start: %+v", r)
		}
	})
}

// Nor does what a leader sends whose clock is years behind end it.
func TestALeadersClockForgetsNoProducer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := tiered(disk.NewMem(disk.MemOptions{}))
		o.Now = func() time.Time { return time.Now().AddDate(-10, 0, 0) }
		leader := lead(t, open(t, o), partition(topicA, 0), 1)
		defer leader.store.Close()
		putNow(t, leader, 7, 0)
		setUploaded(t, leader, 1)
		state, at, err := leader.ReplicaState()
		if err != nil {
			t.Fatal(err)
		}
		o = tiered(disk.NewMem(disk.MemOptions{}))
		o.Now, o.ProducerExpiry = time.Now, time.Hour
		s := open(t, o)
		defer s.Close()
		l := following(t, s, leader.id, 1)
		if err := l.Restart(at, state, 1); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Minute)
		if err := l.BecomeLeader(2); err != nil {
			t.Fatal(err)
		}
		if r := putNow(t, l, 7, 0); !r.Duplicate {
			t.Fatalf("%+v", r)
		}
		time.Sleep(2 * time.Hour)
		wantProducers(t, s, l)
	})
}
