package broker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"rustmq.dev/rustmq/configs"
	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/broker/rebuild"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/guard"
	"rustmq.dev/rustmq/storage/log"
)

// rebuildsAtOnce is how many partitions are looked up in the bucket at a time.
const rebuildsAtOnce = 8

// errRebuilding is why a partition is not led yet whose acks wait for the bucket.
var errRebuilding error = explained{kerr.NotLeaderForPartition, "what the bucket knows of the partition's producers is being read"}

// errBucketAway is why nothing is taken that would wait for the bucket.
var errBucketAway = errors.New("the bucket takes nothing, and acks of the topic wait for it; what was sent before waits already")

// bucketPatience is how long uploads fail before producers are told at once, and not once
// they have waited as long as they can: what waits takes memory that is for all.
const bucketPatience = 2 * time.Second

// bucketAway reports whether a log waits for a bucket that takes nothing. One that waits for
// nothing takes the next batch: so it is found out when the bucket is back.
func (b *Broker) bucketAway(l *log.Log, now time.Time) bool {
	if b.uploader == nil || l.Backlog() == 0 {
		return false
	}
	since := b.uploader.Stats().FailingSince
	return !since.IsZero() && now.Sub(since) > bucketPatience
}

// awaitsBucket reports whether acks of a topic come after the object commit.
func awaitsBucket(t *metadata.Topic) bool {
	return !t.Internal && configs.Durability(t.Configs) == configs.ObjectDurability
}

// rebuilds are the partitions that this broker is to lead, by what the bucket knows of them.
// The goroutine of follow owns the maps.
type rebuilds struct {
	of map[storage.PartitionID]*rebuilding
	// unmet are those that this broker may lead out of sync, and whose logs were not compared with the bucket yet.
	unmet map[storage.PartitionID]bool
	room  chan struct{} // a token for each under way
	wake  chan struct{} // holds a token when one has ended
}

// rebuilding is one of them.
type rebuilding struct {
	epoch  storage.Epoch // to be led
	cancel context.CancelFunc

	mu    sync.Mutex // guards the rest
	ended bool
	state []byte
	err   error
	at    time.Time // when it ended
}

func newRebuilds() rebuilds {
	return rebuilds{of: map[storage.PartitionID]*rebuilding{}, unmet: map[storage.PartitionID]bool{}, room: make(chan struct{}, rebuildsAtOnce), wake: make(chan struct{}, 1)}
}

// endRebuild ends what was begun for another epoch than this.
func (b *Broker) endRebuild(id storage.PartitionID, epoch storage.Epoch) {
	if r := b.rebuilds.of[id]; r != nil && r.epoch != epoch {
		r.cancel()
		delete(b.rebuilds.of, id)
	}
}

// rebuild returns what the bucket knows of a partition as of its committed end, or
// errRebuilding while that is being read, and while then, which may block, is carried out with
// it; nil: there is nothing to do. follow is woken when it is. An error stands
// for leadAgain: others that end wake it too.
func (b *Broker) rebuild(id storage.PartitionID, is *metadata.Partition, then func(state []byte) error) ([]byte, error) {
	if r := b.rebuilds.of[id]; r != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		switch {
		case !r.ended:
			return nil, errRebuilding
		case r.err == nil:
			delete(b.rebuilds.of, id)
			return r.state, nil
		case !guard.Check("broker.rebuilds-again-later", time.Since(r.at) >= leadAgain):
			return nil, r.err
		}
	}
	if b.opt.Tier == nil {
		return nil, fmt.Errorf("%w: there is none", errBucket)
	}
	cluster := b.clusterID()
	o := rebuild.Options{
		Bucket: b.opt.Tier.Bucket, Millis: b.opt.Now().UnixMilli(),
		Key: func(id storage.ObjectID) string { return b.objectKey(cluster, id) },
	}
	ctx, cancel := context.WithCancel(b.ctx)
	r := &rebuilding{epoch: is.LeaderEpoch, cancel: cancel}
	b.rebuilds.of[id] = r
	b.done.Go(func() { // blocks on the others, and on the bucket
		defer cancel()
		var state []byte
		var err error
		select {
		case b.rebuilds.room <- struct{}{}:
			if state, err = rebuild.State(ctx, o, id, is); err != nil {
				err = fmt.Errorf("%w: %w", errBucket, err)
			} else if then != nil {
				err = then(state)
			}
			<-b.rebuilds.room
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
		r.mu.Lock()
		r.ended, r.state, r.err, r.at = true, state, err, time.Now()
		r.mu.Unlock()
		select {
		case b.rebuilds.wake <- struct{}{}:
		default:
		}
	})
	return nil, errRebuilding
}

// meetCommittedEnd brings the log of a partition whose acks wait for the bucket to the committed
// end, before it is led: what lies behind it here was never acknowledged, and is no part of
// what is led next. Where others have led since, or may have, all that it has may be theirs:
// it begins anew, with the producers that the bucket knows. The log is neither led nor
// followed. It returns the log to lead, which may be another one.
func (b *Broker) meetCommittedEnd(p *partition, t *metadata.Topic, is *metadata.Partition, l *log.Log) (*log.Log, error) {
	if isLogDamage(l.Err()) { // the bucket has all that counts
		b.log.Warn("what is left of a damaged log is dropped: all that was acknowledged is in the bucket", "topic", t.Name, "partition", p.index, "error", l.Err())
		if err := b.store.DropPartition(p.id()); err != nil {
			return nil, err
		}
		var err error
		if l, err = b.store.Create(p.id(), b.logConfig(b.withDefaults(t), is)); err != nil {
			return nil, err
		}
	}
	end := is.CommittedEnd()
	if last, some := is.Ranges().Last(); keepsLog(l, end, last.Epoch, some) {
		if guard.Check("broker.unacked-tail-goes", l.End() <= end) {
			return l, nil
		}
		return l, l.TruncateTo(end, is.LeaderEpoch)
	}
	state, err := b.rebuild(p.id(), is, nil)
	if err != nil {
		return nil, err
	}
	if err := l.RestartFromBucket(end, state); err != nil {
		return nil, fmt.Errorf("begin with what the bucket knows: %w", err)
	}
	return l, nil
}

// keepsLog reports whether a log has what the bucket has up to the committed end, of which
// the newest range, if there is any, was committed under epoch. A range has batches of no
// other epoch, so that the log has them if its last one below the end is of that epoch too.
// That it knows of the epoch says less: it may have begun anew with its history, and where a
// cluster is brought back from its bucket, more of that epoch may be adopted than there was
// then.
func keepsLog(l *log.Log, end storage.Offset, epoch storage.Epoch, ranged bool) bool {
	switch {
	case l.End() < end:
		return false
	case !ranged:
		return end == 0 // else the ranges are deleted that would tell
	}
	return guard.Check("broker.log-kept-by-epoch", l.EpochAt(end-1) == epoch)
}
