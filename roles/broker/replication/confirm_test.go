package replication

import (
	"context"
	"errors"
	"testing"
	"time"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/log"
)

// Who follows says so under one epoch. Nobody to ask is not the same as another epoch.
func TestConfirmIsOfAnEpoch(t *testing.T) {
	l := testLeader(t, time.Hour, func([]metadata.PartitionChange) error { return nil })
	s := testStore(t)
	id, log1 := testLog(t, s, 0, log.Replicas{InSync: []int32{2}})
	lead := func(isr ...int32) {
		l.Lead(time.Now(), Partition{ID: id, Log: log1, LeaderEpoch: 1, PartitionEpoch: 1, Replicas: []int32{1, 2}, ISR: isr, MinInSync: 1})
	}
	confirm := func(epoch storage.Epoch, want error) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		if err := l.Confirm(ctx, id, epoch); !errors.Is(err, want) {
			t.Errorf("epoch %d: %v, want %v", epoch, err, want)
		}
	}
	confirm(1, ErrNotLed)
	lead(1, 2)
	confirm(1, context.DeadlineExceeded) // nobody reaches it
	confirm(0, ErrNotLed)
	confirm(2, ErrNotLed)
	l.Unlead(id)
	lead(1)
	confirm(1, ErrAlone)
}
