package controller

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"time"

	"rustmq.dev/rustmq/configs"
	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/guard"
	"rustmq.dev/rustmq/storage/object"
)

// Retention is how much of a partition is kept.
type Retention struct {
	Age   time.Duration // by the records' timestamps; below 0: for ever
	Bytes int64         // below 0: all
}

// retentionOf reads a topic's retention; values were checked when they were set.
func retentionOf(set map[string]string) Retention {
	text := func(key string) string {
		text, ok := set[key]
		if !ok {
			k, _ := configs.FindTopicKey(key)
			text = k.Default
		}
		return text
	}
	value := func(key string) int64 {
		n, err := strconv.ParseInt(text(key), 10, 64)
		if err != nil {
			return -1
		}
		return n
	}
	if _, deletes, err := configs.CleanupPolicy(text("cleanup.policy")); err != nil || !deletes {
		return Retention{Age: -1, Bytes: -1}
	}
	r := Retention{Age: -1, Bytes: value("retention.bytes")}
	const longest = int64(1<<63-1) / int64(time.Millisecond)
	if age := value("retention.ms"); age >= 0 && age < longest {
		r.Age = time.Duration(age) * time.Millisecond
	}
	return r
}

const (
	// maxRetained bounds the log starts that one look moves.
	maxRetained = 10_000

	// maxManifestsRetained of one partition are read in one look.
	maxManifestsRetained = 4
)

// over reports whether a range is beyond its retention, in a partition that has so
// many bytes with it.
func (keep Retention) over(maxTimestamp, rangeBytes, bytes int64, now time.Time) bool {
	tooOld := keep.Age >= 0 && guard.Check("controller.retention-age", maxTimestamp >= 0 && maxTimestamp < now.Add(-keep.Age).UnixMilli())
	tooMuch := keep.Bytes >= 0 && guard.Check("controller.retention-bytes", bytes-rangeBytes >= keep.Bytes)
	return tooOld || tooMuch
}

// firstFiled is what is remembered of the first manifest of a partition, so that it
// is not read again before something of it goes.
type firstFiled struct {
	logStart storage.Offset // the partition's, as of which
	dead     int64          // bytes of the ranges below
	next     object.Filed   // the first that is not below; of no bytes if one without any lies before
	empty    bool           // compaction by key left nothing of what is not below; there is no next
}

// retainer decides where log starts belong. It is a core: what manifests hold is
// given to it.
type retainer struct {
	firsts map[storage.ObjectID]firstFiled
}

func newRetainer() *retainer { return &retainer{firsts: map[storage.ObjectID]firstFiled{}} }

// expired returns where the log start of a partition belongs by its retention. A
// range goes as a whole, once all its records are too old, or those behind it are
// enough. What is not in the bucket yet is not counted and not touched. Whether
// ranges of a manifest go is in the manifest: with unread, what follows from the
// others is decided, and what it holds is asked for.
func (a *retainer) expired(p *metadata.Partition, keep Retention, now time.Time, read map[storage.ObjectID][]object.Filed) (start storage.Offset, unread *metadata.Manifest) {
	start = p.LogStart
	bytes := p.TieredBytes() // with what lies below the log start in the first manifest
	filed := p.Filed()
	for i := range filed {
		is := &filed[i]
		if keep.Bytes >= 0 && bytes-is.RangeBytes >= keep.Bytes {
			start = max(start, is.End) // all of it, whatever it holds
			bytes -= is.RangeBytes
			continue
		}
		if keep.Age < 0 && (keep.Bytes < 0 || bytes < keep.Bytes) {
			return start, nil
		}
		ranges, known := read[is.ID]
		if !known {
			first, remembered := a.firsts[is.ID]
			if remembered && first.logStart == start && first.empty {
				bytes -= is.RangeBytes
				continue
			}
			if remembered && first.logStart == start && !keep.over(first.next.MaxTimestamp, first.next.Bytes, bytes-first.dead, now) {
				return start, nil
			}
			return start, is
		}
		dead, emptied := int64(0), false
		for _, r := range ranges {
			if r.End > start && !keep.over(r.MaxTimestamp, r.Bytes, bytes, now) {
				if r.Bytes == 0 {
					emptied = true
					continue // as below
				}
				if emptied {
					r.Bytes = 0 // what lies before goes first, by bytes
				}
				a.firsts[is.ID] = firstFiled{logStart: start, dead: dead, next: r}
				return start, nil
			}
			start = max(start, r.End)
			bytes -= r.Bytes
			dead += r.Bytes
		}
		if start < is.End {
			a.firsts[is.ID] = firstFiled{logStart: start, empty: true}
		}
	}
	for r := range p.Ranges().All() {
		if !keep.over(r.MaxTimestamp, r.Bytes, bytes, now) {
			if r.Bytes == 0 {
				continue // compaction by key left nothing: it goes with what is behind it
			}
			break
		}
		start = max(start, r.End)
		bytes -= r.Bytes
	}
	return start, nil
}

// forget drops what is remembered of manifests that an image does not have.
func (a *retainer) forget(image *metadata.Image) {
	for id := range a.firsts {
		if o, known := image.Object(id); !known || o.State != metadata.Committed {
			delete(a.firsts, id)
		}
	}
}

// pastRetention lists the partitions whose log start is to move. keep is asked
// once for each topic, read for each manifest that decides; what it cannot read,
// and what lies behind, stays.
func (a *retainer) pastRetention(image *metadata.Image, keep func(map[string]string) Retention, now time.Time, read func(storage.PartitionID, *metadata.Manifest) ([]object.Filed, bool)) []LogStart {
	var moves []LogStart
	a.forget(image)
	for t := range image.Topics() {
		if !guard.Check("controller.retains-no-coordinators", !t.SelfKept()) {
			continue
		}
		retention := keep(retentionConfigs(image, t))
		for p := range t.Partitions.All() {
			if len(moves) == maxRetained {
				return moves
			}
			id := storage.PartitionID{Topic: t.ID, Index: p.Index}
			known := map[storage.ObjectID][]object.Filed{}
			start, unread := a.expired(p, retention, now, known)
			for unread != nil && len(known) < maxManifestsRetained {
				var ok bool
				if known[unread.ID], ok = read(id, unread); !ok {
					break
				}
				start, unread = a.expired(p, retention, now, known)
			}
			if start > p.LogStart {
				moves = append(moves, LogStart{Partition: id, Offset: start})
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
	var errs []error
	read := func(of storage.PartitionID, is *metadata.Manifest) ([]object.Filed, bool) {
		ranges, err := k.readManifest(ctx, of, is)
		if err != nil {
			errs = append(errs, fmt.Errorf("retention of %s: %w", of, err))
		}
		return ranges, err == nil
	}
	moves := k.retainer.pastRetention(k.c.state.Image(), k.o.Keep, now, read)
	if len(moves) == 0 {
		return errors.Join(errs...)
	}
	// Something is about to go: the smaller of two clocks decides.
	there, err := k.bucketTime(ctx)
	if err != nil {
		return err
	}
	if there.Before(now) {
		moves = k.retainer.pastRetention(k.c.state.Image(), k.o.Keep, there, read)
	}
	for i, err := range k.c.MoveLogStarts(ctx, moves) {
		if err != nil {
			errs = append(errs, fmt.Errorf("move the log start of %s: %w", moves[i].Partition, err))
		}
	}
	return errors.Join(errs...)
}

// retentionConfigs returns the configs of a topic, with what brokers were given as the
// default of those that it has not.
func retentionConfigs(image *metadata.Image, t *metadata.Topic) map[string]string {
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
