package wal

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"rustmq.dev/rustmq/storage/disk"
	"rustmq.dev/rustmq/storage/guard"
)

// Errors of a log. ErrDead is final; ErrFull passes when frames are released, or
// when the disk has space, or the process files, again.
var (
	ErrDead   = errors.New("the write-ahead log is dead after a failed write")
	ErrClosed = errors.New("the write-ahead log is closed")
	ErrFull   = errors.New("the write-ahead log has used up its disk budget")
	// ErrNoSegment says that the disk failed as a new segment was made: it is ill,
	// not full. What is in the log is not touched; another file is tried when
	// room is next wanted.
	ErrNoSegment = errors.New("the disk failed to take another segment of the write-ahead log")
	ErrTooLarge  = errors.New("larger than a frame may be")
	// ErrGone says that a frame's segment was recycled: look the frame up anew.
	ErrGone = errors.New("the frame's segment was recycled")
)

// SyncMode says when frames are synced.
type SyncMode int

// Sync modes. SyncInterval completes appends before they are on disk: a power
// cut may lose what was appended within the last interval.
const (
	SyncAlways SyncMode = iota
	SyncInterval
)

// Completion is told when an append is committed.
type Completion interface {
	// Committed is called on the committer's goroutine, in log order, once the
	// frame is durable (or, with SyncInterval, written), or with an error when
	// the log died. It must not block; it may call Append.
	Committed(err error)
}

// Owner is who the frames belong to.
type Owner interface {
	// Replay is called inside Open for every frame, in order of sequence. The
	// payload is valid during the call. The owner must Release refs of data and
	// state frames that it does not need, then or later.
	Replay(h Header, ref Ref, payload []byte) error
	// Relocate appends anew (Copy: true) whatever the owner needs from that
	// segment, and releases it there, with what it said to be Reclaimable. It is
	// called on a goroutine of the log, and not before the owner has called
	// Append, Admit or Ready.
	Relocate(ctx context.Context, segment uint32) error
}

// Options of a log.
type Options struct {
	FS    disk.FS
	Dir   string
	Owner Owner
	Log   *slog.Logger

	Capacity     int64         // bytes of all segments; 0: 10 GiB
	Reserve      int64         // of them, what Produce cannot take; 0: two segments
	SegmentSize  int           // bytes, a multiple of 4 KiB; 0: 32 MiB
	ChunkSize    int           // bytes, a multiple of 4 KiB; 0: 4 MiB
	Memory       int64         // bytes of chunks; 0: 128 MiB
	MaxPayload   int           // bytes; 0: a quarter of a segment
	Sync         SyncMode      //
	SyncInterval time.Duration // 0: 50 ms

	// Rand gives the stamps of segments; nil: math/rand/v2.
	Rand func() uint64

	// OnDead is called once, with the error that killed the log.
	OnDead func(error)

	// Lost is called inside Open, between the frames on both sides, of those that were
	// synced and cannot be read back, until [WAL.SettleLosses]. nil: Open refuses.
	Lost func(Loss) error
}

const (
	defaultCapacity    = 10 << 30
	defaultSegmentSize = 32 << 20
	defaultChunkSize   = 4 << 20
	defaultMemory      = 128 << 20
	defaultInterval    = 50 * time.Millisecond

	// idleMark is how long after the last commit a mark says that it is on
	// disk; RULES: within 10 ms.
	idleMark = 10 * time.Millisecond
)

func (o *Options) fill() error {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Rand == nil {
		o.Rand = rand.Uint64
	}
	if o.Capacity == 0 {
		o.Capacity = defaultCapacity
	}
	if o.SegmentSize == 0 {
		o.SegmentSize = int(min(defaultSegmentSize, max(o.Capacity/8, 1<<20)&^(blockSize-1)))
	}
	if o.ChunkSize == 0 {
		o.ChunkSize = min(defaultChunkSize, o.SegmentSize/2&^(blockSize-1))
	}
	if o.Memory == 0 {
		o.Memory = defaultMemory
	}
	if o.MaxPayload == 0 {
		o.MaxPayload = o.SegmentSize / 4
	}
	if o.SyncInterval == 0 {
		o.SyncInterval = defaultInterval
	}
	if o.Reserve == 0 {
		o.Reserve = 2 * int64(o.SegmentSize)
	}
	switch {
	case o.SegmentSize%blockSize != 0 || o.ChunkSize%blockSize != 0 || o.ChunkSize <= 0:
		return fmt.Errorf("segment size %d and chunk size %d: want multiples of %d", o.SegmentSize, o.ChunkSize, blockSize)
	case (o.Capacity-o.Reserve)/int64(o.SegmentSize) < 4:
		return fmt.Errorf("capacity %d with a reserve of %d: want room for four segments of %d beside it", o.Capacity, o.Reserve, o.SegmentSize)
	case o.MaxPayload >= o.SegmentSize-4*blockSize: // header, group header, final mark, padding
		return fmt.Errorf("largest payload %d: does not fit in a segment of %d", o.MaxPayload, o.SegmentSize)
	}
	return nil
}

// WAL is an open log.
type WAL struct {
	o    Options
	lock interface{ Close() error }

	mu         sync.Mutex // guards the reservation: all fields down to the blank line
	active     *segment
	chunk      *chunk   // being filled
	open       *group   // being filled, the last of queue; nil: the next append opens one
	queue      []*group // not taken by the committer yet
	sequence   uint64   // of the last frame
	spares     []*segment
	files      int // segments in all, spares too
	unsynced   int64
	completed  uint64 // the last frame whose append was completed
	admitted   int64
	excess     int64 // by which what Produce was admitted last is more than it may have
	demand     int64 // bytes that must be ready before a waiting Admit can pass
	passes     int   // how often the preparer has found nothing more to do
	dead       error
	closed     bool
	idle       bool // the committer waits for kick
	due        bool // queue is to be committed; copies alone wait for each other
	resident   int64
	free       [][]byte // chunk buffers to reuse
	changed    chan struct{}
	prepErr    error // why no spare can be made; nil: none is wanted, or one can
	mostFiles  int   // beyond the capacity too, for the cleaner
	waiters    int   // on changed
	relocating bool  // the owner is copying the oldest segment forward
	handed     bool  // the owner has the log, and so can be asked to relocate

	durable   atomic.Uint64
	cut       atomic.Bool                // there is a note that the tail was cut, or was
	unsettled atomic.Bool                // losses were told of, and are not settled
	begin     atomic.Uint64              // sequence of the oldest segment's first frame
	chunks    atomic.Pointer[[]*chunk]   // resident, in order of position
	segments  atomic.Pointer[[]*segment] // in order of log number
	pinned    atomic.Int64               // bytes of chunks that are pinned

	// Only the committer, and Open before it runs, use these.
	taken       []*group
	bufs        [][]byte
	written     uint64   // highest sequence that was written
	marked      uint64   // highest mark that was written
	lastWritten *segment // SyncInterval: what the next sync is for
	// Only the preparer, and Open before it runs, use these.
	nextFile   int
	fillFailed time.Time  // when a new file was last filled in vain
	opened     []*segment // by Open, to close when it fails
	torn       bool       // recovery: the log ends in what is not whole
	losses     []span     // that this start found
	lostBefore []span     // that were settled by an earlier one
	noted      bool       // there is a note of a clean end, whole or not
	clean      bool       // the life before this one ended without a failed write
	cleanEnd   uint64     // and with this frame

	syncing chan struct{} // holds one while SyncInterval syncs, and guards syncErr
	syncErr error         // of the sync that failed

	kick    chan struct{} // to the committer
	prepare chan struct{} // to the preparer
	stop    context.CancelFunc
	done    sync.WaitGroup
	counts  counters
}

type counters struct {
	appends, bytes, commits, syncs, recycled, relocated atomic.Int64

	began               time.Time    // when the log was opened
	syncTime, syncSince atomic.Int64 // nanoseconds: of all syncs, and from began to the one under way; 0: none is
	syncsIn             [SyncBounds + 1]atomic.Int64
}

// SyncBounds is how many bounds the times of syncs are counted between.
const SyncBounds = 16

// SyncBound is the bound of a count of Stats.SyncsIn: 0.1 ms, and each twice the one before.
func SyncBound(i int) time.Duration { return 100 * time.Microsecond << i }

// syncBegins and syncEnds are around a sync of the committer's.
func (c *counters) syncBegins() { c.syncSince.Store(max(1, int64(time.Since(c.began)))) }

func (c *counters) syncEnds() {
	took := int64(time.Since(c.began)) - c.syncSince.Swap(0)
	c.syncTime.Add(took)
	c.syncs.Add(1)
	i := 0
	for i < SyncBounds && took > int64(SyncBound(i)) {
		i++
	}
	c.syncsIn[i].Add(1)
}

// Stats is a moment of a log.
type Stats struct {
	Sequence, Durable uint64
	Segments, Spares  int
	AllocatedBytes    int64 // of all segment files
	UsedBytes         int64 // of segments that are in use
	LiveBytes         int64 // of frames that were not released
	ReclaimableBytes  int64 // of them, of frames that will be when room is wanted
	MemoryBytes       int64 // of chunks
	PinnedBytes       int64 // of chunks that readers hold
	UnsyncedBytes     int64
	CapacityBytes     int64
	// Short says why no further segment can be made, though the capacity allows for
	// it: ErrFull, the disk has no room, or ErrNoSegment, it is ill. nil: none is
	// wanted, or one can.
	Short                  error
	Appends, AppendedBytes int64
	Commits, Syncs         int64
	// Age is the time since the log was opened.
	Age time.Duration
	// SyncTime is what Syncs took in all, with the writes that go with them. Syncing is
	// how long the one under way has taken by now; 0: none is.
	SyncTime, Syncing time.Duration
	// SyncsIn is how many of Syncs took up to SyncBound(i), and more than the one before;
	// the last, more than all.
	SyncsIn             [SyncBounds + 1]int64
	Recycled, Relocated int64
}

// Append adds a frame and returns where it lies. The payload is copied once;
// the caller may reuse it. c may be nil. Errors: ErrDead, ErrClosed,
// ErrTooLarge, ErrFull.
func (w *WAL) Append(h Header, payload []byte, c Completion) (Ref, error) {
	return w.AppendSummed(h, payload, Sum{}, c)
}

// AppendSummed is Append of a payload of which a sum is known. The frame's CRC
// is made of it: that saves a pass over the payload, and finds a byte that has
// changed since, in this process's memory too, when the frame is read.
func (w *WAL) AppendSummed(h Header, payload []byte, sum Sum, c Completion) (Ref, error) {
	if len(payload) > w.o.MaxPayload {
		return Ref{}, fmt.Errorf("append %d bytes, at most %d: %w", len(payload), w.o.MaxPayload, ErrTooLarge)
	}
	need := frameSize(len(payload))
	w.mu.Lock()
	if err := w.usable(); err != nil {
		w.mu.Unlock()
		return Ref{}, err
	}
	p := ordinary
	if h.Copy || h.Kind != KindData {
		p = lastSpare
	}
	g, err := w.reserve(need, p)
	if err != nil {
		w.mu.Unlock()
		return Ref{}, err
	}
	at := g.end
	g.end += need
	g.count++
	g.copies.Add(1)
	if c != nil {
		g.completions = append(g.completions, c)
	}
	w.sequence++
	sequence := w.sequence
	w.unsynced += int64(need)
	seg := g.chunk.segment
	if h.Kind == KindData || h.Kind == KindState {
		seg.live.Add(int64(need))
	}
	seg.fill(int64(need), h.Copy)
	ref := Ref{Segment: uint32(seg.log), Offset: uint32(g.chunk.base + int64(at)), Length: uint32(len(payload))}
	// Copies wait for each other: the barrier behind them wakes the committer, and
	// they share blocks that each alone would half fill.
	w.due = w.due || !(h.Copy && w.relocating)
	wake := w.idle && w.due
	w.idle = w.idle && !wake
	w.mu.Unlock()

	encodeFrame(g.chunk.buf[at:at+need], &h, seg.stamp, sequence, payload, sum)
	g.copies.Done() // the committer owns the group from here on
	if wake {
		w.wake()
	}
	w.counts.appends.Add(1)
	w.counts.bytes.Add(int64(len(payload)))
	return ref, nil
}

// wake ends the committer's wait.
func (w *WAL) wake() {
	select {
	case w.kick <- struct{}{}:
	default: // it will find an earlier kick
	}
}

// Ready says that the owner can be asked to relocate. It need not wait until it has
// something to append: a log that was restarted over and over may have no room for that.
func (w *WAL) Ready() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hand()
}

// hand lets the preparer go over the log with the owner's help. w.mu is held.
func (w *WAL) hand() {
	if !w.handed {
		w.handed = true
		w.wantSpare()
	}
}

// usable says why the log takes nothing. w.mu is held.
func (w *WAL) usable() error {
	w.hand()
	if !guard.Check("wal.dead", w.dead == nil) {
		return w.dead
	}
	if w.closed {
		return ErrClosed
	}
	return nil
}

// Flush returns when all that was appended before is durable, and the
// completions have returned.
func (w *WAL) Flush(ctx context.Context) error {
	w.mu.Lock()
	target := w.sequence
	for {
		if w.dead != nil {
			defer w.mu.Unlock()
			return w.dead
		}
		if w.completed >= target && w.durable.Load() >= target {
			w.mu.Unlock()
			return nil
		}
		w.hurry()
		if err := w.waitChange(ctx); err != nil {
			w.mu.Unlock()
			return fmt.Errorf("flush the write-ahead log: %w", err)
		}
	}
}

// Durable returns the highest sequence that is on disk.
func (w *WAL) Durable() uint64 { return w.durable.Load() }

// broadcast wakes who waits for a change of the budgets or of durable. w.mu is
// held.
func (w *WAL) broadcast() {
	if w.waiters == 0 {
		return
	}
	close(w.changed)
	w.changed, w.waiters = make(chan struct{}), 0
}

// hurry has the committer take copies that wait for each other. w.mu is held.
func (w *WAL) hurry() {
	w.due = w.due || len(w.queue) > 0
	if w.idle && w.due {
		w.idle = false
		w.wake()
	}
}

// waitChange waits for the next broadcast. w.mu is held, but for the wait.
func (w *WAL) waitChange(ctx context.Context) error {
	changed := w.changed
	w.waiters++
	w.mu.Unlock()
	var err error
	select {
	case <-changed:
	case <-ctx.Done():
		err = ctx.Err()
	}
	w.mu.Lock()
	if err != nil && w.changed == changed {
		w.waiters--
	}
	return err
}

// die ends the log. Whoever waits for a commit is told.
func (w *WAL) die(cause error) {
	w.mu.Lock()
	if w.dead != nil {
		w.mu.Unlock()
		return
	}
	w.dead = fmt.Errorf("%w: %w", ErrDead, cause)
	dead := w.dead
	w.broadcast()
	w.mu.Unlock()
	w.o.Log.Error("the write-ahead log is dead", "dir", w.o.Dir, "error", cause)
	if w.o.OnDead != nil {
		w.o.OnDead(dead)
	}
}

// Stats returns the present figures.
func (w *WAL) Stats() Stats {
	w.mu.Lock()
	s := Stats{
		Sequence: w.sequence, Spares: len(w.spares), Segments: w.files, MemoryBytes: w.resident,
		AllocatedBytes: int64(w.files) * int64(w.o.SegmentSize), UnsyncedBytes: w.unsynced, CapacityBytes: w.o.Capacity,
		Short: w.prepErr,
	}
	w.mu.Unlock()
	s.UsedBytes = s.AllocatedBytes - int64(s.Spares)*int64(w.o.SegmentSize)
	for _, seg := range *w.segments.Load() {
		s.LiveBytes += seg.live.Load()
		s.ReclaimableBytes += seg.reclaimed()
	}
	s.Durable = w.durable.Load()
	s.PinnedBytes = w.pinned.Load()
	s.Appends, s.AppendedBytes = w.counts.appends.Load(), w.counts.bytes.Load()
	s.Commits, s.Syncs = w.counts.commits.Load(), w.counts.syncs.Load()
	s.SyncTime = time.Duration(w.counts.syncTime.Load())
	for i := range w.counts.syncsIn {
		s.SyncsIn[i] = w.counts.syncsIn[i].Load()
	}
	s.Age = time.Since(w.counts.began)
	if since := w.counts.syncSince.Load(); since != 0 {
		s.Syncing = time.Since(w.counts.began) - time.Duration(since)
	}
	s.Recycled, s.Relocated = w.counts.recycled.Load(), w.counts.relocated.Load()
	return s
}

// Close commits what was appended, leaves a mark, and stops. Close of a dead
// log returns why it died.
func (w *WAL) Close() error {
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		return ErrClosed
	}
	w.closed = true
	w.broadcast()
	w.mu.Unlock()
	w.stop()
	w.done.Wait()
	w.mu.Lock()
	err := w.dead
	spares := w.spares
	w.mu.Unlock()
	for _, seg := range slices.Concat(*w.segments.Load(), spares) {
		err = errors.Join(err, seg.file.Close())
	}
	if err == nil {
		err = w.leaveCleanNote(w.durable.Load())
	}
	return errors.Join(err, w.lock.Close())
}
