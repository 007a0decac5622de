package controller

import (
	"context"
	"errors"
	"fmt"
	"time"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/guard"
)

// Retention is how much of a partition is kept.
type Retention struct {
	Age   time.Duration // by the records' timestamps; below 0: for ever
	Bytes int64         // below 0: all
}

// maxRetained bounds the log starts that one look moves.
const maxRetained = 10_000

// expired returns where the log start of a partition belongs by its retention. A
// range goes as a whole, once all its records are too old, or those behind it are
// enough. What is not in the bucket yet is not counted and not touched.
func expired(p *metadata.Partition, keep Retention, now time.Time) storage.Offset {
	start := p.LogStart
	bytes := p.Ranges().Bytes()
	for r := range p.Ranges().All() {
		tooOld := keep.Age >= 0 && guard.Check("controller.retention-age", r.MaxTimestamp >= 0 && r.MaxTimestamp < now.Add(-keep.Age).UnixMilli())
		tooMuch := keep.Bytes >= 0 && guard.Check("controller.retention-bytes", bytes-r.Bytes >= keep.Bytes)
		if !tooOld && !tooMuch {
			break
		}
		start = max(start, r.End)
		bytes -= r.Bytes
	}
	return start
}

// pastRetention lists the partitions whose log start is to move. keep is asked
// once for each topic.
func pastRetention(image *metadata.Image, keep func(map[string]string) Retention, now time.Time) []LogStart {
	var moves []LogStart
	for t := range image.Topics() {
		if t.Internal { // they shorten themselves
			continue
		}
		retention := keep(t.Configs)
		for p := range t.Partitions.All() {
			if start := expired(p, retention, now); start > p.LogStart && len(moves) < maxRetained {
				moves = append(moves, LogStart{Partition: storage.PartitionID{Topic: t.ID, Index: p.Index}, Offset: start})
			}
		}
	}
	return moves
}

// retain moves log starts past what is beyond its retention.
func (k *keeper) retain(ctx context.Context) error {
	now, err := k.now(ctx)
	if err != nil {
		return err
	}
	moves := pastRetention(k.c.state.Image(), k.o.Keep, now)
	if len(moves) == 0 {
		return nil
	}
	// Something is about to go: the smaller of two clocks decides.
	there, err := k.bucketTime(ctx)
	if err != nil {
		return err
	}
	if there.Before(now) {
		moves = pastRetention(k.c.state.Image(), k.o.Keep, there)
	}
	var errs []error
	for i, err := range k.c.MoveLogStarts(ctx, moves) {
		if err != nil {
			errs = append(errs, fmt.Errorf("move the log start of %s: %w", moves[i].Partition, err))
		}
	}
	return errors.Join(errs...)
}
