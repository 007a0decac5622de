package replication

import (
	"context"
	"errors"
	"testing"
	"time"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/storage/log"
)

// What is led alone is not what is not led: of that, another may know better.
func TestNobodyConfirmsWhatIsNotLed(t *testing.T) {
	l := testLeader(t, 0, func([]metadata.PartitionChange) error { return nil })
	s := testStore(t)
	id, log1 := testLog(t, s, 0, log.Replicas{})
	if err := l.Confirm(t.Context(), id); !errors.Is(err, ErrNotLed) {
		t.Errorf("of what is not led: %v", err)
	}
	is := Partition{ID: id, Log: log1, LeaderEpoch: 1, PartitionEpoch: 1, Replicas: []int32{1, 2}, ISR: []int32{1}, MinInSync: 1}
	l.Lead(time.Now(), is)
	if err := l.Confirm(t.Context(), id); !errors.Is(err, ErrAlone) {
		t.Errorf("of what is led alone: %v", err)
	}
	is.PartitionEpoch, is.ISR = 2, []int32{1, 2}
	l.Lead(time.Now(), is)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.Confirm(ctx, id); !errors.Is(err, context.Canceled) {
		t.Errorf("while nobody answers: %v", err)
	}
	l.Unlead(id)
	if err := l.Confirm(t.Context(), id); !errors.Is(err, ErrNotLed) {
		t.Errorf("of what is led no more: %v", err)
	}
}
