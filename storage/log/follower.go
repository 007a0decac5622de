package log

import (
	"context"
	"errors"

	"rustmq.dev/rustmq/storage"
)

// Replicated is told, exactly once, that replicated batches are on disk, or never will
// be. It must not block. It is called on the WAL's goroutine, in the order of the log.
type Replicated interface {
	// Replicated says where what is on disk of the log ends now. Errors: ErrFenced,
	// the batches were taken back before they were on disk; ErrDead.
	Replicated(synced storage.Offset, err error)
}

// History is what a leader must know of a follower's log to find where it agrees with
// its own: all as of one moment.
type History struct {
	Epoch  storage.Epoch // that is led, or followed; NoEpoch: neither
	Leads  bool
	Epochs []EpochStart // from the log start on, of the batches before End

	LogStart, LocalStart, Uploaded, HighWatermark, Synced, End storage.Offset
}

// History returns the log's.
func (l *Log) History() History {
	l.mu.Lock()
	defer l.mu.Unlock()
	h := History{
		Epoch: l.followed, Leads: l.epoch != storage.NoEpoch, LogStart: l.logStart, LocalStart: l.localStart, Uploaded: l.uploaded,
		HighWatermark: l.replica.highWatermark, Synced: l.replica.synced, End: l.end,
	}
	if h.Leads {
		h.Epoch = l.epoch
	}
	for _, e := range l.epochs {
		h.Epochs = append(h.Epochs, EpochStart{e.epoch, e.start})
	}
	return h
}

// BecomeFollower has the log follow the leader of an epoch, which must not be older
// than any that it has led, followed or has batches of. It leads no more: appends that
// were not answered are refused with ErrNotLeader. What the controller says from here
// on of the log start and of what the bucket has holds as far as the high watermark
// has come, for what lies behind it may not be the leader's; the rest waits. Errors:
// ErrFenced, and the log's own.
func (l *Log) BecomeFollower(epoch storage.Epoch) error { return errNotBuilt }

// AppendReplicated appends batches as the leader of the epoch has them: whole,
// stamped, the first at the log's end, or at what Restart made its start, and checked
// against their CRCs. records may be reused when it returns. done, which may be nil, is
// told once they are on disk, unless an error is returned: then those before the one it
// is about are in the log all the same, as its end says.
//
// The caller has admitted len(records) by [Store.AdmitReplica]; this gives it back.
// Errors: ErrFenced, the log follows another epoch; *ReplicaError, it is not what comes
// next; *batch.Error; ErrFull, ErrUploadLag, ErrDead, ErrClosed, ErrDropped, *CorruptionError.
func (l *Log) AppendReplicated(records []byte, leaderEpoch storage.Epoch, done Replicated) error {
	l.store.UnadmitReplica(len(records))
	return errNotBuilt
}

// SetHighWatermark says how far the leader of the epoch has committed what the log has
// of it, or will have: the log's high watermark is the smaller of that and of what is
// on disk here, and never moves back. Errors: ErrFenced, the log follows another epoch.
func (l *Log) SetHighWatermark(highWatermark storage.Offset, leaderEpoch storage.Epoch) error {
	return errNotBuilt
}

// Restart has a log that follows the epoch begin anew at an offset where nothing is
// missing, because the bucket has what lies before: all its batches are given up, and
// what must be known of those before is taken from the leader's [Log.ReplicaState].
// Until the log has reached the leader's high watermark as of that, it can follow, but
// leads without knowing producers. Errors: ErrFenced, ErrFull, *ReplicaError for a state
// that does not hold together, and the log's own.
func (l *Log) Restart(at storage.Offset, state []byte, leaderEpoch storage.Epoch) error {
	return errNotBuilt
}

// AdmitReplica is [Store.Admit] for what comes from a leader, n bytes of whole batches:
// from a reserve of memory, disk and index that produce cannot take.
func (s *Store) AdmitReplica(ctx context.Context, n int) error { return errNotBuilt }

// UnadmitReplica gives back what AdmitReplica held for batches that are not appended.
func (s *Store) UnadmitReplica(n int) {}

var errNotBuilt = errors.New("not built yet")
