package log

import (
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/guard"
	"rustmq.dev/rustmq/storage/wal"
)

// uploadStep is how many batches SetUploaded goes over while it holds the log.
const uploadStep = 8192

// backlog is the batches of a log that end behind where it is uploaded to, what
// is not committed yet among them. Log.mu guards it.
type backlog struct {
	bytes, batches int64
	since          int64 // when the oldest was appended, or earlier: ms since 1970
	listed         bool  // in Store.backlogs

	// What was appended at or behind point is younger than pointSince; NoOffset:
	// nothing is known.
	point      storage.Offset
	pointSince int64
}

func (b *backlog) add(ref wal.Ref) {
	b.bytes += int64(ref.Length)
	b.batches++
}

func (b *backlog) remove(ref wal.Ref) {
	b.bytes -= int64(ref.Length)
	b.batches--
}

// held is what the batches take in the WAL, about.
func (b *backlog) held() int64 { return b.bytes + b.batches*frameOverhead }

// backlogs is the logs that may have something to upload. A log comes in with
// the first batch of its backlog, without a lock; it leaves when it is found
// without one.
type backlogs struct {
	head atomic.Pointer[Log] // linked by Log.nextListed
	mu   sync.Mutex          // of who looks through them
}

// push adds a log that is not listed. l.mu is held.
func (b *backlogs) push(l *Log) {
	l.backlog.listed = true
	for {
		head := b.head.Load()
		l.nextListed = head
		if b.head.CompareAndSwap(head, l) {
			return
		}
	}
}

// queueUpload notes that the first batch of a backlog is appended at millis.
// l.mu is held.
func (l *Log) queueUpload(millis int64) {
	l.backlog.since, l.backlog.point = millis, storage.NoOffset
	if l.store.o.Tiered && !l.backlog.listed {
		l.store.backlogs.push(l)
	}
}

// PendingUpload is what a partition has that the bucket has not.
type PendingUpload struct {
	Partition            storage.PartitionID
	First, HighWatermark storage.Offset // it lies between these; what is not on disk yet lies behind
	Bytes                int64          // of its batches
	// Since is when the oldest of it was appended, in ms since 1970 by the
	// broker's clock, or somewhat earlier; after a restart, when that was.
	Since int64
	// Awaited: the high watermark, and with it who appends, waits for the bucket. Its own
	// is in HighWatermark where it will stand then.
	Awaited bool
}

// PendingUpload appends to out, for each partition that is led and has committed batches
// which are not uploaded, how much it is. It takes the longer the more such
// partitions there are, whatever the number of others.
func (s *Store) PendingUpload(out []PendingUpload) []PendingUpload {
	s.backlogs.mu.Lock()
	defer s.backlogs.mu.Unlock()
	for l := s.backlogs.head.Swap(nil); l != nil; {
		l.mu.Lock()
		next := l.nextListed
		l.nextListed, l.backlog.listed = nil, false
		// One that is not led comes in again when it is.
		if l.refused == nil && l.backlog.batches > 0 && guard.Check("log.upload-led", l.epoch != storage.NoEpoch) {
			s.backlogs.push(l)
			if p := l.pendingUpload(); p.Bytes > 0 {
				out = append(out, p)
			}
		}
		l.mu.Unlock()
		l = next
	}
	return out
}

// pendingUpload is the backlog without what is not committed, or not on disk. l.mu is held.
func (l *Log) pendingUpload() PendingUpload {
	to := l.uploadable()
	if l.asOf > to {
		return PendingUpload{} // see UploadPoint
	}
	p := PendingUpload{Partition: l.id, First: l.uploaded, HighWatermark: to, Bytes: l.backlog.bytes, Since: l.backlog.since, Awaited: l.replica.bucket}
	for at := l.index.find(to); l.index.valid(at); at = l.index.following(at) {
		_, e := l.index.at(at)
		p.Bytes -= int64(e.ref.Length)
	}
	return p
}

// uploadable is where what may go to the bucket ends: it is committed, or with
// Config.BucketAcks will be by that, and on disk here, so that the bucket never has what a
// start of this broker lacks. l.mu is held.
func (l *Log) uploadable() storage.Offset {
	to := l.replica.highWatermark
	if l.replica.bucket {
		to = l.replica.committable(l.config.Load().MinInSync)
	}
	if !guard.Check("log.upload-synced", to <= l.replica.synced) {
		to = max(l.replica.synced, l.uploaded)
	}
	return to
}

// Uploaded is where the next range for the bucket begins: what lies below is
// there, or is gone with the log start. After a restart it is the local start,
// until SetUploaded says more.
func (l *Log) Uploaded() storage.Offset {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.uploaded
}

// SetUploaded says that the bucket has everything below end: the committed end
// of the catalogue. What it has may be given up when the WAL wants room, with
// Options.Hold once it is released. It never moves back. As with SetLogStart, a log that is
// neither led nor followed yet takes what lies before end for committed, and if it ends
// before that, it goes on from there; one that is followed waits with what lies behind its
// high watermark, which may not be what the bucket has.
// With Config.BucketAcks that is what the high watermark waits for.
// Errors: *OffsetOutOfRangeError beyond the high watermark of a log that is led, or what
// may be uploaded of it, and the WAL's.
func (l *Log) SetUploaded(end storage.Offset) error {
	l.mu.Lock()
	if l.followed != storage.NoEpoch && !guard.Check("log.follower-uploaded", end <= l.replica.highWatermark) {
		l.told.uploaded = max(l.told.uploaded, end)
		end = l.replica.highWatermark
	}
	behind := l.idle() && end > l.end
	l.mu.Unlock()
	if behind {
		if err := l.skipTo(end); err != nil {
			return fmt.Errorf("take %s as uploaded to %d: %w", l.id, end, err)
		}
	}
	for {
		o, more, err := l.setUploaded(end)
		o.tell(l)
		if err != nil {
			return fmt.Errorf("take %s as uploaded to %d: %w", l.id, end, err)
		}
		if !more {
			break
		}
	}
	if !l.store.o.Hold {
		l.Release(end)
	}
	return nil
}

// Release says that what lies below end need not be in the WAL if the bucket has it
// ([Log.SetUploaded]), also in the view of who has nothing but the bucket. It never
// moves back.
func (l *Log) Release(end storage.Offset) {
	for l.release(end) {
	}
}

// release does a part of Release, and reports whether there is more.
func (l *Log) release(end storage.Offset) (more bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.followed != storage.NoEpoch && end > l.uploaded {
		l.told.released = max(l.told.released, end)
	}
	end = min(end, l.uploaded)
	if l.refused != nil || end <= l.released {
		return false
	}
	won, kept := tally{wal: l.store.wal}, l.config.Load().KeepLocal
	p := l.index.find(l.released)
	for n := 0; l.index.valid(p); p = l.index.following(p) {
		b, e := l.index.at(p)
		if b.nextOf(p.entry) > end {
			break
		}
		if n++; n > uploadStep {
			end, more = b.baseOf(p.entry), true
			break
		}
		if !kept {
			won.add(e.ref, 1)
		}
	}
	won.report()
	l.released = end
	return more
}

// setUploaded does a part of SetUploaded, and reports whether there is more, and who is to
// be told.
func (l *Log) setUploaded(end storage.Offset) (o *outcome, more bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	more, err = l.takeUploaded(end)
	if err != nil || !l.replica.bucket {
		return outcomes.Get().(*outcome), more, err
	}
	return l.advance(), more, nil
}

// takeUploaded is setUploaded, but for the high watermark of a log that waits for the
// bucket. l.mu is held.
func (l *Log) takeUploaded(end storage.Offset) (more bool, err error) {
	if l.refused != nil {
		return false, l.refused
	}
	if l.idle() && end <= l.end {
		l.replica.highWatermark = max(l.replica.highWatermark, end)
		l.settleTransactions()
	}
	committed := l.replica.highWatermark
	if l.replica.bucket {
		committed = l.uploadable()
	}
	if !guard.Check("log.uploaded-committed", end <= committed) {
		return false, &OffsetOutOfRangeError{Offset: end, LogStart: l.logStart, End: l.replica.highWatermark}
	}
	if end <= l.uploaded {
		return false, nil
	}
	p := l.index.find(l.uploaded)
	for n := 0; l.index.valid(p); p = l.index.following(p) {
		b, e := l.index.at(p)
		next := b.nextOf(p.entry)
		if next > end {
			break
		}
		if n++; n > uploadStep {
			end, more = b.baseOf(p.entry), true
			break
		}
		l.backlog.remove(e.ref)
	}
	l.uploaded = end
	l.noteTransactions(func(t *transactions) { t.trim(l.localStart, end) })
	if l.backlog.point != storage.NoOffset && end >= l.backlog.point {
		l.backlog.since, l.backlog.point = l.backlog.pointSince, storage.NoOffset
	}
	return more, nil
}

// skipTo has a log that is not led, and ends before end, go on from there: what
// lies before is in the bucket.
func (l *Log) skipTo(end storage.Offset) error {
	admitted, err := l.admitState()
	if err != nil {
		return err
	}
	defer l.store.wal.Unadmit(admitted)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.refused != nil || !l.idle() || end <= l.end {
		return nil // setUploaded sees to it
	}
	was := l.replica.highWatermark
	l.replica.highWatermark = max(was, end)
	if err := l.beginAnew(end); err != nil {
		l.replica.highWatermark = was
		return err
	}
	return nil
}

// beginAnew makes an offset beyond the end the local start. What producers did in
// between nobody here knows, so none is known from then on: who is not may begin
// anywhere, while what was due next, or open, as of the old end would be wrong. l.mu is
// held.
func (l *Log) beginAnew(at storage.Offset) error {
	return l.knowNone(func() error { return l.startAt(at, true) }) // the state on disk is to know none either
}

// EpochStart says at which offset a leader epoch began.
type EpochStart struct {
	Epoch storage.Epoch
	Start storage.Offset
}

// Uploadable is where what may go to the bucket ends: the high watermark, as far as the
// disk, or with Config.BucketAcks where that may come to.
func (l *Log) Uploadable() storage.Offset {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.uploadable()
}

// ProducersAsOf is UploadPoint's producers as of an offset that may go to the bucket and
// is not below the high watermark; nil: it is, and what was known then is forgotten.
func (l *Log) ProducersAsOf(end storage.Offset) []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.refused != nil || end < max(l.replica.highWatermark, l.asOf) || end > l.uploadable() {
		return nil
	}
	return l.producersAsOf(end)
}

// producersAsOf is the state as of an offset, as a range for the bucket has it. l.mu is
// held.
func (l *Log) producersAsOf(end storage.Offset) []byte {
	s := state{localStart: end, highWatermark: end, epochs: slices.Clone(l.epochs).truncate(end), producers: l.producers}
	return s.encode(math.MaxInt)[0]
}

// UploadPoint is a moment of a log: what a range for the bucket says of the
// batches in [From, HighWatermark), or of the first of them. With Config.EarlyAcks
// HighWatermark is the log's as far as its disk.
type UploadPoint struct {
	From, HighWatermark storage.Offset
	Epochs              []EpochStart // of these batches
	// Producers is the log's state as of HighWatermark, as a state frame has it
	// (in one part, whatever its size), where the local start would be; nil when
	// it was not asked for.
	Producers []byte
}

// UploadPoint returns what to upload, as of now.
func (l *Log) UploadPoint(producers bool) (UploadPoint, error) {
	now := l.store.o.Now().UnixMilli()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.refused != nil {
		return UploadPoint{}, l.refused
	}
	hw := l.uploadable()
	if l.asOf > hw { // nobody knows what producers were as of that
		hw = l.uploaded
	}
	point := UploadPoint{From: l.uploaded, HighWatermark: hw}
	for _, e := range l.epochs[max(l.epochs.find(l.uploaded), 0):] {
		if start := max(e.start, l.uploaded); start < hw {
			point.Epochs = append(point.Epochs, EpochStart{e.epoch, start})
		}
	}
	if producers {
		point.Producers = l.producersAsOf(hw)
	}
	if l.backlog.point == storage.NoOffset { // an earlier one says more of what is left then
		l.backlog.point, l.backlog.pointSince = hw, now
	}
	return point, nil
}

// BatchAt returns the base offset of the batch that offset lies in, if the WAL has
// it.
func (l *Log) BatchAt(offset storage.Offset) (base storage.Offset, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.index.find(offset)
	if !l.index.valid(p) {
		return storage.NoOffset, false
	}
	b, _ := l.index.at(p)
	return b.baseOf(p.entry), b.baseOf(p.entry) <= offset
}

// Extent returns where the batches from an offset on end that lie below limit and
// have maxBytes together, at least one of them, and how many bytes they have. The
// end is from when there is none.
func (l *Log) Extent(from, limit storage.Offset, maxBytes int64) (end storage.Offset, bytes int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	end = from
	for p := l.index.find(from); l.index.valid(p); p = l.index.following(p) {
		b, e := l.index.at(p)
		next, size := b.nextOf(p.entry), int64(e.ref.Length)
		if next > limit || bytes > 0 && bytes+size > maxBytes {
			break
		}
		end, bytes = next, bytes+size
	}
	return end, bytes
}

// tally tells the WAL how much of its segments could be given up, a run of
// batches in one segment at a time.
type tally struct {
	wal     *wal.WAL
	segment uint32
	bytes   int64
}

// add counts a batch, or with -1 takes it from the count.
func (t *tally) add(ref wal.Ref, sign int64) {
	if ref.Segment != t.segment {
		t.report()
		t.segment = ref.Segment
	}
	t.bytes += sign * (int64(ref.Length) + frameOverhead)
}

func (t *tally) report() {
	if t.bytes != 0 {
		t.wal.Reclaimable(t.segment, t.bytes)
	}
	t.bytes = 0
}
