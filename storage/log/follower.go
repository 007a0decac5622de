package log

import (
	"context"
	"errors"
	"fmt"
	"math"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/guard"
	"rustmq.dev/rustmq/storage/wal"
)

// Replicated is told, exactly once, that replicated batches are on disk, or never will
// be. It must not block. It is called on the WAL's goroutine, in the order of the log;
// with Config.EarlyAcks by [Log.AppendReplicated], once they are in memory.
type Replicated interface {
	// Replicated says where what this broker confirms of the log ends now. By the time that a
	// leader is told, the log may have been shortened: what goes to another stream than
	// the batches came by is [Log.Progress], asked anew. Errors: ErrFenced,
	// the batches were taken back before they were on disk; ErrDead.
	Replicated(synced storage.Offset, err error)
}

// History is what a leader must know of a follower's log to find where it agrees with
// its own: all as of one moment.
type History struct {
	Epoch  storage.Epoch // that is led, or followed; NoEpoch: neither
	Leads  bool
	Epochs []EpochStart // from the log start on, of the batches before End, and the one that is led

	// HighWatermark of a log that began anew under another epoch than it follows, and has not
	// come as far as its producers: where these end, unless the leader is believed to have the
	// same up to there ([Log.Believe]). Who does not must have it begin anew once more.
	HighWatermark storage.Offset

	// Synced is as in [Progress].
	LogStart, LocalStart, Uploaded, Synced, End storage.Offset

	// Anew is where a follower of a log that is led begins that begins anew ([Log.ReplicaState]).
	Anew storage.Offset
}

// History returns the log's.
func (l *Log) History() History {
	l.mu.Lock()
	defer l.mu.Unlock()
	h := History{
		Epoch: l.followed, Leads: l.epoch != storage.NoEpoch, LogStart: l.logStart, LocalStart: l.localStart, Uploaded: l.uploaded,
		HighWatermark: l.replica.highWatermark, Synced: l.replica.held, End: l.end, Anew: l.anew(),
	}
	if h.Leads {
		h.Epoch = l.epoch
	}
	if ahead := l.asOf > h.HighWatermark && l.asOfEpoch != l.followed && l.believed != l.followed; !guard.Check("log.history-as-of", !ahead) {
		h.HighWatermark = l.asOf
	}
	h.Epochs = make([]EpochStart, len(l.epochs))
	for i, e := range l.epochs {
		h.Epochs[i] = EpochStart{e.epoch, e.start}
	}
	return h
}

// Believe has the log take it that the leader of the epoch, which is followed, has all that
// was committed before: it was elected among replicas that are held to have that, and this
// is one of them. So it has what the producers of a log that began anew are as of, and
// the log goes on where it ends, though its tail was cut before that. With Config.EarlyAcks,
// where a leader may have lost what was committed, and once batches have come that show another
// history than the producers', nothing is believed.
func (l *Log) Believe(leaderEpoch storage.Epoch) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.followed == leaderEpoch && l.asOfEpoch != storage.NoEpoch && l.parted != leaderEpoch && !l.replica.early {
		l.believed = leaderEpoch
	}
}

// told is what the controller has said of a log that is followed, and that holds only
// once its high watermark is there. NoOffset: nothing.
type told struct{ logStart, uploaded, released storage.Offset }

var nothingTold = told{storage.NoOffset, storage.NoOffset, storage.NoOffset}

// BecomeFollower has the log follow the leader of an epoch, which must be newer than any
// that was led or followed since the start, and not older than any it has batches of. It
// leads no more: appends that were not answered are refused with ErrNotLeader. What the
// controller says from here on of the log start, and of what the bucket has, holds as far
// as the high watermark has come, for what lies behind it may not be the leader's; the
// rest waits. Following an epoch again that is followed already does nothing. Errors:
// ErrFenced, and why the log serves nothing.
func (l *Log) BecomeFollower(epoch storage.Epoch) error {
	l.mu.Lock()
	if l.refused != nil {
		defer l.mu.Unlock()
		return l.refused
	}
	if l.followed == epoch && epoch != storage.NoEpoch {
		l.mu.Unlock()
		return nil
	}
	if epoch < 0 || !guard.Check("log.follow-epoch", epoch > l.newest && epoch >= l.epochs.latest()) {
		defer l.mu.Unlock()
		return fmt.Errorf("follow %s at epoch %d, %d was led or followed, %d is in the log: %w", l.id, epoch, l.newest, l.epochs.latest(), ErrFenced)
	}
	l.rest()
	l.followed, l.newest = epoch, epoch
	l.epochs = l.epochs.truncate(l.end) // one that was led, and has no batches
	l.endVerifications(math.MaxInt64)
	parked, woken := l.parked, l.takeWaiters(nil)
	l.parked = nil
	l.mu.Unlock()
	for _, p := range parked {
		p.refuse(ErrNotLeader)
	}
	wake(woken)
	return nil
}

// AdmitReplica is [Store.Admit] for what comes from a leader, n bytes of whole batches:
// from a reserve of memory, disk and index that produce cannot take.
func (s *Store) AdmitReplica(ctx context.Context, n int) error {
	budget := s.o.IndexMemory + s.o.IndexMemory/4
	if used := s.indexBytes.Load(); !guard.Check("log.index-budget", used < budget) {
		return fmt.Errorf("admit %d replicated bytes, the index takes %d of %d: %w", n, used, budget, ErrFull)
	}
	return s.wal.Admit(ctx, wal.Replication, replicaBytes(n))
}

// UnadmitReplica gives back what AdmitReplica held for batches that are not appended.
func (s *Store) UnadmitReplica(n int) { s.wal.Unadmit(replicaBytes(n)) }

// replicaBytes is what n bytes of batches take at most: the smallest are a header alone,
// and each has a frame.
func replicaBytes(n int) int { return n + (n/batch.HeaderSize+1)*frameOverhead }

// AppendReplicated appends batches as the leader of the epoch has them: whole,
// stamped, the first at the log's end (where Restart made that lie within a batch, this
// one), and checked against their CRCs. records may be reused when it returns. done, which may be nil, is
// told once they are on disk, or in memory with Config.EarlyAcks, unless an error is returned: then those before the one it
// is about are in the log all the same, as its end says.
//
// The caller has admitted len(records) by [Store.AdmitReplica]; this gives it back.
// Errors: ErrFenced, the log follows another epoch; *ReplicaError, it is not what comes
// next; ErrUploadLag, too much waits for its upload, which the leader sees to;
// ErrTooManyProducers; ErrFull, ErrDead, ErrClosed, ErrDropped, *CorruptionError.
func (l *Log) AppendReplicated(records []byte, leaderEpoch storage.Epoch, done Replicated) error {
	defer l.store.UnadmitReplica(len(records))
	if err := l.checkReplicated(records); err != nil {
		return err
	}
	l.takeTold()
	millis := l.store.o.Now().UnixMilli()
	l.mu.Lock()
	byDisk, err := l.appendReplicated(records, leaderEpoch, millis, done)
	held := l.replica.held
	l.mu.Unlock()
	l.commitHeld()
	if !byDisk && err == nil && done != nil {
		done.Replicated(held, nil)
	}
	l.tellObserver()
	return err
}

// Held returns where what this broker confirms of a log that it follows ends now, and has
// done told, unless that is all, once what it appended itself while it led is on disk: of
// batches from a leader AppendReplicated was given who is told.
func (l *Log) Held(done Replicated) storage.Offset {
	l.mu.Lock()
	defer l.mu.Unlock()
	var last *pending
	for p := l.inFlight.first; p != nil; p = p.next {
		if p.replicated == nil && !p.cancelled {
			last = p
		}
	}
	if last != nil {
		last.replicated = done
	}
	return l.replica.held
}

// checkReplicated checks what needs no lock of batches from a leader. It has taken them
// from a disk, perhaps, and from its memory: both may have gone bad.
func (l *Log) checkReplicated(records []byte) error {
	if len(records) == 0 {
		return &ReplicaError{Partition: l.id, Offset: storage.NoOffset, Reason: "it is empty"}
	}
	for rest := records; len(rest) > 0; {
		b, behind, err := batch.Next(rest)
		if err != nil {
			return &ReplicaError{Partition: l.id, Offset: storage.NoOffset, Reason: err.Error()}
		}
		if got := b.ComputeCRC(); !guard.Check("log.replica-crc", got == b.CRC()) {
			return &ReplicaError{Partition: l.id, Offset: b.BaseOffset(), Reason: fmt.Sprintf("crc32c is %08x, the batch says %08x", got, b.CRC())}
		}
		if b.BaseOffset() < 0 || b.LastOffsetDelta() < 0 || b.BaseOffset() > math.MaxInt64-math.MaxInt32-1 {
			return &ReplicaError{Partition: l.id, Offset: b.BaseOffset(), Reason: fmt.Sprintf("its last offset is %d behind its first", b.LastOffsetDelta())}
		}
		rest = behind
	}
	return nil
}

// appendReplicated does AppendReplicated. byDisk: it is the disk that tells done. l.mu is
// held.
func (l *Log) appendReplicated(records []byte, leaderEpoch storage.Epoch, millis int64, done Replicated) (byDisk bool, err error) {
	if l.refused != nil {
		return false, l.refused
	}
	if l.followed == storage.NoEpoch || !guard.Check("log.replica-epoch", leaderEpoch == l.followed) {
		return false, fmt.Errorf("replicate to %s under epoch %d, %d is followed: %w", l.id, leaderEpoch, l.followed, ErrFenced)
	}
	most := l.store.unuploaded + l.store.unuploaded/8 // the leader, which throttles producers, comes first
	if l.store.unuploaded > math.MaxInt64/2 {
		most = math.MaxInt64
	}
	for rest := records; len(rest) > 0; {
		b, behind, err := batch.Next(rest)
		if err != nil {
			return false, &ReplicaError{Partition: l.id, Offset: l.end, Reason: err.Error()}
		}
		rest = behind
		if err := l.fits(b, leaderEpoch); err != nil {
			return false, err
		}
		if held := l.backlog.held() + int64(len(b)) + frameOverhead; !guard.Check("log.replica-share", held <= most) {
			return false, fmt.Errorf("%d bytes of %s would not be in the bucket, at most %d may: %w", held, l.id, most, ErrUploadLag)
		}
		last := Replicated(nil)
		if byDisk = !l.replica.early || b.IsControl() || l.replica.waits(); byDisk && len(rest) == 0 {
			last = done
		}
		if err := l.appendOneReplicated(b, last, millis); err != nil {
			return false, fmt.Errorf("replicate to %s at offset %d: %w", l.id, b.BaseOffset(), err)
		}
	}
	return byDisk, nil
}

// fits says why a batch is not what comes next. l.mu is held.
func (l *Log) fits(b batch.Batch, leaderEpoch storage.Epoch) error {
	base := b.BaseOffset()
	within := len(l.index.blocks) == 0 && l.end == l.localStart && base < l.end && l.end < b.NextOffset()
	if !guard.Check("log.replica-next", base == l.end || within) {
		return &ReplicaError{Partition: l.id, Offset: l.end, Reason: fmt.Sprintf("the batch is [%d, %d)", base, b.NextOffset())}
	}
	epoch := b.LeaderEpoch()
	if !guard.Check("log.replica-falls", epoch >= max(0, l.epochs.latest())) || !guard.Check("log.replica-newer", epoch <= leaderEpoch) {
		return &ReplicaError{Partition: l.id, Offset: base, Reason: fmt.Sprintf("the batch is of epoch %d, behind one of %d, and %d leads", epoch, l.epochs.latest(), leaderEpoch)}
	}
	// What the producers are as of was committed under asOfEpoch: none of it came later.
	if inState := base < l.asOf && l.asOfEpoch != storage.NoEpoch; inState && !guard.Check("log.replica-lineage", epoch <= l.asOfEpoch) {
		l.believed, l.parted = storage.NoEpoch, leaderEpoch
		return &ReplicaError{Partition: l.id, Offset: base, Reason: fmt.Sprintf("the batch is of epoch %d, and the producers as of offset %d of epoch %d", epoch, l.asOf, l.asOfEpoch)}
	}
	return nil
}

// appendOneReplicated appends a batch that fits. l.mu is held.
func (l *Log) appendOneReplicated(b batch.Batch, done Replicated, millis int64) error {
	var marker batch.Marker
	// Below asOf, producers and transactions have it already.
	remembers := b.ProducerID() != batch.NoProducerID && guard.Check("log.replica-as-of", b.LastOffset() >= l.asOf)
	isMarker := false
	if remembers && b.IsControl() {
		marker, isMarker = batch.ReadMarker(b)
		remembers = isMarker // others say nothing of producers
	}
	fresh := remembers && !l.counted(b.ProducerID())
	if fresh && !l.countReplicated() {
		if !isMarker {
			return ErrTooManyProducers
		}
		fresh, remembers = false, false // it ends nothing that is known here
	}
	p := l.store.newPending(l, nil)
	p.base, p.last, p.replicated, p.leaderOnly = b.BaseOffset(), b.LastOffset(), done, true // it waits for no others
	if err := l.place(b, p, millis); err != nil {
		if fresh {
			l.uncountProducers(1)
		}
		return err
	}
	l.replica.took(b.BaseOffset(), l.end, b.IsControl())
	l.epochs = l.epochs.begin(b.LeaderEpoch(), b.BaseOffset())
	switch {
	case !remembers:
	case isMarker:
		l.rememberMarker(b.ProducerID(), markOf(b, marker.CoordinatorEpoch), marker.Commit, millis)
	default:
		l.rememberBatch(b.ProducerID(), sentOf(b), b.IsTransactional(), millis)
	}
	return nil
}

// countReplicated counts one more producer of a leader. It has kept to its own bound; of
// several leaders together there may be more.
func (l *Log) countReplicated() bool {
	n := l.addProducers(1)
	if !guard.Check("log.max-replicated-producers", n <= 2*int64(l.store.o.MaxProducers)) {
		l.uncountProducers(1)
		return false
	}
	return true
}

// SetHighWatermark says how far the leader of the epoch has committed what the log has
// of it, or will have: the log's high watermark is the smaller of that and of what is
// on disk here, or with Config.EarlyAcks in memory, and never moves back. Errors: ErrFenced, the log follows another epoch,
// and why it serves nothing.
func (l *Log) SetHighWatermark(highWatermark storage.Offset, leaderEpoch storage.Epoch) error {
	l.mu.Lock()
	if l.refused != nil {
		defer l.mu.Unlock()
		return l.refused
	}
	if l.followed == storage.NoEpoch || !guard.Check("log.told-epoch", leaderEpoch == l.followed) {
		defer l.mu.Unlock()
		return fmt.Errorf("take %s as committed to %d under epoch %d, %d is followed: %w", l.id, highWatermark, leaderEpoch, l.followed, ErrFenced)
	}
	l.replica.told = max(l.replica.told, highWatermark)
	o := l.advance()
	l.mu.Unlock()
	o.tell(l)
	l.takeTold()
	return nil
}

// takeTold takes over what the controller said, as far as the high watermark has come
// since. It is tried again: what goes wrong is that the WAL is full, or dead, which
// others say.
func (l *Log) takeTold() {
	l.mu.Lock()
	t, hw := l.told, l.replica.highWatermark
	follows, uploaded, logStart := l.followed != storage.NoEpoch, l.uploaded, l.logStart
	if t.logStart <= hw {
		l.told.logStart = storage.NoOffset
	}
	if t.uploaded <= hw {
		l.told.uploaded = storage.NoOffset
	}
	l.mu.Unlock()
	if !follows || t == nothingTold {
		return
	}
	if t.logStart > logStart && t.logStart <= hw {
		if err := l.SetLogStart(t.logStart); err != nil && !errors.Is(err, ErrClosed) {
			l.mu.Lock()
			l.told.logStart = max(l.told.logStart, t.logStart)
			l.mu.Unlock()
		}
	}
	if to := min(t.uploaded, hw); to > uploaded {
		_ = l.SetUploaded(to) // it fails only where nothing is served
	}
	if t.released != storage.NoOffset {
		l.Release(t.released)
	}
}

// Backlog is how many bytes the log holds in the WAL that the bucket has not, of what is
// not committed too.
func (l *Log) Backlog() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.backlog.held()
}
