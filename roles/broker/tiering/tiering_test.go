package tiering

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/object"
)

func TestBackoffDoublesUpToItsBound(t *testing.T) {
	failing, other := storage.PartitionID{Index: 1}, storage.PartitionID{Index: 2}
	b := Backoff{Min: time.Second, Max: 4 * time.Second}
	now := time.Unix(1000, 0)
	for _, wait := range []time.Duration{1, 2, 4, 4} {
		b.Failed(now, failing)
		if until := now.Add(wait * time.Second); !b.Waits(until.Add(-1), failing) || b.Waits(until, failing) || b.Waits(now, other) {
			t.Fatalf("want %d s", wait)
		}
	}
	b.Forget(func(id storage.PartitionID) bool { return id == failing })
	if !b.Waits(now, failing) {
		t.Fatal("forgotten although it is to be kept")
	}
	b.Succeeded(failing)
	if b.Waits(now, failing) {
		t.Fatal("still punished after a success")
	}
}

// TestAnIDIsGivenOnceAndNotTooLate: ids of a block go out one after another, and
// those that the controller may be about to condemn, or has condemned, are left.
func TestAnIDIsGivenOnceAndNotTooLate(t *testing.T) {
	now := time.Unix(1000, 0)
	first, asked, gone := storage.ObjectID(10), 0, errors.New("no controller")
	var err error
	p := NewObjects(ObjectOptions{Header: object.Header{Cluster: "c"}, Block: 3, Age: time.Minute, Now: func() time.Time { return now }, Prepare: func(_ context.Context, count int) (storage.ObjectID, error) {
		asked++
		defer func() { first += storage.ObjectID(count) }()
		return first, err
	}})
	take := func(want storage.ObjectID) {
		t.Helper()
		if h, err := p.Next(t.Context()); err != nil || h.ID != want || h.Cluster != "c" {
			t.Fatalf("%v, %v, want %v", h, err, want)
		}
	}
	take(10)
	take(11)
	now = now.Add(time.Minute + 1)
	take(13)
	condemned := metadata.Errorf(metadata.ResourceNotFound, "no such object")
	if _, err := p.Commit(t.Context(), 13, 1, func() ([]error, error) { return nil, condemned }); !errors.Is(err, condemned) {
		t.Fatal(err)
	}
	take(16)
	err = gone
	take(17)
	take(18)
	if _, err := p.Next(t.Context()); !errors.Is(err, gone) || asked != 4 {
		t.Fatalf("%v, asked %d times", err, asked)
	}
}

// TestEachRangeHasItsResult: a catalogue that says less, or more, than it was asked
// has said nothing.
func TestEachRangeHasItsResult(t *testing.T) {
	p := NewObjects(ObjectOptions{})
	for n := range 4 {
		results, err := p.Commit(t.Context(), 1, 2, func() ([]error, error) { return make([]error, n), nil })
		if (err == nil) != (n == 2) || err == nil && len(results) != n {
			t.Errorf("%d results of 2: %v", n, err)
		}
	}
}

// TestItIsLookedWhenThereIsReason: every so often, and once for however many tokens
// were left meanwhile, until the end.
func TestItIsLookedWhenThereIsReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, end := context.WithCancel(t.Context())
		wake := make(chan struct{}, 1)
		var looks atomic.Int64
		go Look(ctx, time.Minute, wake, func() {
			if looks.Add(1) == 2 {
				Leave(wake)
				Leave(wake)
			}
		})
		after := func(d time.Duration, want int64) {
			t.Helper()
			time.Sleep(d)
			if synctest.Wait(); looks.Load() != want {
				t.Fatalf("looked %d times, want %d", looks.Load(), want)
			}
		}
		after(time.Minute-1, 0)
		after(1, 1)
		Leave(wake)
		after(time.Second, 3)
		after(time.Minute, 4)
		end()
		after(time.Hour, 4) // and the bubble ends with no goroutine in it
	})
}
