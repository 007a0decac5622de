package controller

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"rustmq.dev/rustmq/configs"
	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/bucket"
	"rustmq.dev/rustmq/storage/guard"
)

// Retention is how much of a partition is kept.
type Retention struct {
	Age   time.Duration // by the records' timestamps; below 0: for ever
	Bytes int64         // below 0: all
}

const (
	// maxClockJump is how far the wall clock may move against the monotonic one
	// before retention deletes nothing until an operator confirms (RULES 5.5).
	maxClockJump = time.Hour

	// maxRetained bounds the log starts that one look moves.
	maxRetained = 10_000
)

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
		retention := keep(withDefaults(image, t))
		for p := range t.Partitions.All() {
			if start := expired(p, retention, now); start > p.LogStart && len(moves) < maxRetained {
				moves = append(moves, LogStart{Partition: storage.PartitionID{Topic: t.ID, Index: p.Index}, Offset: start})
			}
		}
	}
	return moves
}

// clockWatch tells whether the wall clock may be believed: it must not jump
// against the monotonic one.
type clockWatch struct {
	mu   sync.Mutex
	wall time.Time     // when it was last looked at; zero: never; guarded by mu
	mono time.Duration // then; guarded by mu
	why  error         // it is not believed; guarded by mu
}

func newClockWatch() clockWatch { return clockWatch{} }

// look compares the clocks, and reports whether the wall clock is believed. mono
// grows steadily from any beginning.
func (w *clockWatch) look(wall time.Time, mono time.Duration) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.wall.IsZero() && w.why == nil {
		jump := wall.Sub(w.wall) - (mono - w.mono)
		if !guard.Check("controller.clock-jump", jump.Abs() <= maxClockJump) {
			w.why = fmt.Errorf("the clock jumped by %s: retention deletes nothing until it is confirmed (rustmq admin storage confirm-clock)", jump.Round(time.Second))
		}
	}
	w.wall, w.mono = wall, mono
	return w.why == nil
}

func (w *clockWatch) stopped() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.why
}

// confirm believes the clock as it is.
func (w *clockWatch) confirm() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.why, w.wall = nil, time.Time{}
}

// ConfirmClock has retention go on after the clock has jumped.
func (c *Controller) ConfirmClock() {
	if c.keeper != nil {
		c.keeper.clock.confirm()
	}
}

// retain moves log starts past what is beyond its retention.
func (k *keeper) retain(ctx context.Context) error {
	wall := k.c.opt.Now()
	if !k.clock.look(wall.Round(0), time.Since(k.c.started)) {
		return k.clock.stopped()
	}
	moves := pastRetention(k.c.state.Image(), k.o.Keep, wall)
	if len(moves) == 0 {
		return nil
	}
	// Something is about to go: the smaller of two clocks decides.
	now, err := k.bucketTime(ctx)
	if err != nil {
		return err
	}
	if now.Before(wall) {
		moves = pastRetention(k.c.state.Image(), k.o.Keep, now)
	}
	var errs []error
	for i, err := range k.c.MoveLogStarts(ctx, moves) {
		if err != nil {
			errs = append(errs, fmt.Errorf("move the log start of %s: %w", moves[i].Partition, err))
		}
	}
	return errors.Join(errs...)
}

// bucketTime is the bucket's clock: it writes there and asks when.
func (k *keeper) bucketTime(ctx context.Context) (time.Time, error) {
	key := NonceKey(k.o.Prefix, k.c.Image().ClusterID()) + ".clock"
	if err := k.o.Bucket.Put(ctx, key, bucket.Bytes("now")); err != nil {
		return time.Time{}, fmt.Errorf("ask for the bucket's time: %w", err)
	}
	info, err := k.o.Bucket.Stat(ctx, key)
	if err != nil {
		return time.Time{}, fmt.Errorf("ask for the bucket's time: %w", err)
	}
	// Some stores count in seconds, and round down.
	return info.Modified.Add(time.Second), nil
}

// withDefaults returns the configs of a topic, with what brokers were given as the
// default of those that it has not.
func withDefaults(image *metadata.Image, t *metadata.Topic) map[string]string {
	all, _ := image.Config(metadata.Resource{Type: metadata.BrokerResource})
	set, changed := t.Configs, false
	for name, value := range all {
		key, ok := configs.DefaultOf(name)
		if _, has := t.Configs[key]; !ok || has {
			continue
		}
		if !changed {
			set, changed = maps.Clone(t.Configs), true
			if set == nil {
				set = map[string]string{}
			}
		}
		set[key] = value
	}
	return set
}
