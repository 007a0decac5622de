package log

import (
	"rustmq.dev/rustmq/storage"
)

// Replicas are the other brokers that hold a partition, by node id.
type Replicas struct {
	InSync  []int32 // in the committed set of those in sync, this broker left out
	Pending []int32 // that were proposed to join it: waited for, but not counted
}

// SetReplicas says who must hold a record before it is committed: this broker, those in
// sync and those pending. It is for the epoch that is led, or the next one, so it is
// called before [Log.BecomeLeader]: a log that was told of no replicas leads alone. A
// smaller set binds at once. With fewer in sync than Config.MinInSync the high watermark
// stands, and appends that wait for it are refused with
// ErrNotEnoughReplicasAfterAppend, unless they are LeaderOnly.
func (l *Log) SetReplicas(r Replicas) {}

// Confirm says that a follower has what is led under the epoch on disk up to an offset.
// Of several that come the largest counts; they count for nothing once the epoch ends,
// or the follower is forgotten. Errors: ErrFenced, another epoch is led.
func (l *Log) Confirm(replica int32, synced storage.Offset, leaderEpoch storage.Epoch) error {
	return errNotBuilt
}

// Forget takes back what a follower has confirmed: its stream, or its process, has ended,
// or it is about to be told to shorten its log. Nothing is committed that it does not
// confirm anew, if it is one of those that count.
func (l *Log) Forget(replica int32) {}

// ReplicaState returns what a follower needs to know of what lies before at, where the
// bucket's part ends, to begin there ([Log.Restart]): log start, leader epochs, producers
// and open transactions, as of the high watermark. It takes up to 170 bytes for a
// producer. Errors: ErrNotLeader, and the log's own.
func (l *Log) ReplicaState() (state []byte, at storage.Offset, err error) {
	return nil, storage.NoOffset, errNotBuilt
}

// Progress is how far a log has come, all as of one moment.
type Progress struct {
	Epoch storage.Epoch // that is led; NoEpoch: none, and the rest is not for followers

	LogStart, HighWatermark, Synced, End storage.Offset
}

// Progress returns the log's. Who sends it to a follower compares the epoch with the one
// that it sends for.
func (l *Log) Progress() Progress {
	l.mu.Lock()
	defer l.mu.Unlock()
	return Progress{Epoch: l.epoch, LogStart: l.logStart, HighWatermark: l.replica.highWatermark, Synced: l.replica.synced, End: l.end}
}

// Latest is [Log.Offsets] for who asks where a log ends: a leader says so only once its
// high watermark has passed the start of its epoch, for before it may have been further
// under the last one (KIP-207). Errors: ErrOffsetNotAvailable, ErrNotLeader, and the
// log's own.
func (l *Log) Latest() (Offsets, error) { return Offsets{}, errNotBuilt }

// Observer is told that a log has moved. LogMoved must not block; it is called without
// any lock of the log, from any goroutine, and may be called once more than there is
// cause for.
type Observer interface{ LogMoved(l *Log) }

// Observe has o told, from now on, when the log's end or its high watermark has moved, or
// when a read of what is not on disk yet ended early, for want of memory to pin, and what
// it left out is on disk. nil: nobody is told any more, but by a call that is under way.
func (l *Log) Observe(o Observer) {}
