package log

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/guard"
	"rustmq.dev/rustmq/storage/wal"
)

// Log is one partition. All methods are safe for concurrent use.
type Log struct {
	store  *Store
	id     storage.PartitionID
	config atomic.Pointer[Config]

	nextListed *Log // guarded by Store.backlogs.mu, or by mu while the log is not listed

	observer atomic.Pointer[Observer]
	starved  atomic.Bool // a read left out what was neither on disk nor to be pinned

	mu      sync.Mutex // guards the rest; the order of appends is the order it is taken in
	index   index
	replica replica
	backlog backlog
	// logStart <= localStart <= released <= uploaded <= replica.highWatermark <= end
	logStart   storage.Offset // where readers may begin
	localStart storage.Offset // what lies before is not in the WAL any more
	released   storage.Offset // what lies before may be given up, or is before the log start
	uploaded   storage.Offset // what lies before is in the bucket, or before the log start
	end        storage.Offset // where the next batch goes
	// given: the log start is the controller's word. Without, since a restart, it
	// is the local start, and may be further back.
	given        bool
	epoch        storage.Epoch // that is led; NoEpoch: none
	followed     storage.Epoch // that is followed; NoEpoch: none
	newest       storage.Epoch // that was led or followed since the start
	told         told
	asOf         storage.Offset // below it, batches are in producers and transactions already: see Restart
	asOfEpoch    storage.Epoch  // that was followed when they were taken; NoEpoch: they are nobody's
	believed     storage.Epoch  // whose leader has what they are as of: see Believe
	parted       storage.Epoch  // whose leader was met with something else there
	epochs       epochs
	producers    producers // nil: none
	transactions transactions
	verifying    map[int64]*verification // by producer id; nil: none
	inFlight     queue                   // appends that are not synced, in order
	parked       []*pending
	passed       []*pending // by the high watermark, and not answered yet
	telling      bool       // one goroutine answers them
	waiters      []watch    // in the order of their places
	watched      Watching   // the place that was given last
	unwatched    int        // of waiters: have gone
	refused      error      // why nothing works any more: dropped, closed, corrupt
	noted        bool       // the WAL says that it is corrupt
	dead         error      // why the WAL completes no append any more: what came before was told

	// The newest state on disk, or on its way there.
	stateRefs  []wal.Ref
	stateAsOf  storage.Offset // its high watermark
	stateEpoch storage.Epoch  // its latest leader epoch
	statedAt   int64          // when it was written, or found, by the broker's clock
	stateKnows bool           // producers
	stale      int            // batches and markers of producers that it lacks
}

// ID names the partition.
func (l *Log) ID() storage.PartitionID { return l.id }

// SetConfig replaces the configuration; appends from now on follow it.
func (l *Log) SetConfig(c Config) {
	c.MinInSync = max(1, c.MinInSync)
	l.mu.Lock()
	l.config.Store(&c)
	l.replica.early = l.replica.early || c.EarlyAcks // what is on its way is waited for yet
	l.replica.bucket = l.replica.bucket || c.BucketAcks
	o := l.advance() // fewer replicas may be enough now, or more be wanted
	l.mu.Unlock()
	o.tell(l)
}

// Err says why the log serves nothing, or nil: ErrDropped, ErrClosed or a
// *CorruptionError.
func (l *Log) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.refused
}

// LogStart is the first offset that can be read, here or from the bucket. After
// a restart it is the local start until SetLogStart is called, or the log is led.
func (l *Log) LogStart() storage.Offset {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.logStart
}

// HighWatermark is the offset below which records are readable: they are on disk
// on every replica in sync, or in its memory with Config.EarlyAcks.
func (l *Log) HighWatermark() storage.Offset {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.replica.highWatermark
}

// End is the offset that the next record gets.
func (l *Log) End() storage.Offset {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.end
}

// EpochEnd returns the largest leader epoch not above the asked one, and the
// offset where it ended; NoEpoch when the asked one is unknown (KIP-101).
func (l *Log) EpochEnd(asked storage.Epoch) (storage.Epoch, storage.Offset) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.epochs.endOf(asked, l.end)
}

// EpochAt is the leader epoch under which the record at offset was, or would
// be, appended; NoEpoch before the first.
func (l *Log) EpochAt(offset storage.Offset) storage.Epoch {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.epochs.at(offset)
}

// SetLogStart makes offset the first that can be read, and lets go of the
// batches that lie before it as soon as that is on disk. It never moves back, with
// one exception: in a tiered store the first word since a restart counts, for what
// this disk knows is where the WAL's part begins. So it is called before the log
// is led. Who calls it has the controller's word for it: a log that is neither led nor
// followed yet takes what lies before offset for committed, and if it ends before that,
// it goes on from there, empty. One that is followed waits until its high watermark has
// come that far. Errors: *OffsetOutOfRangeError beyond the high
// watermark of a log that is led, and the WAL's.
func (l *Log) SetLogStart(offset storage.Offset) error {
	l.mu.Lock()
	if l.followed != storage.NoEpoch && !guard.Check("log.follower-start", offset <= l.replica.highWatermark) {
		l.told.logStart = max(l.told.logStart, offset)
		l.mu.Unlock()
		return nil
	}
	writes := offset > l.localStart // which never moves back
	l.mu.Unlock()
	if writes {
		admitted, err := l.admitState()
		if err != nil {
			return fmt.Errorf("move the log start of %s to %d: %w", l.id, offset, err)
		}
		defer l.store.wal.Unadmit(admitted)
	}
	l.mu.Lock()
	woken, err := l.trim(offset)
	l.mu.Unlock()
	wake(woken)
	if err != nil {
		return fmt.Errorf("move the log start of %s to %d: %w", l.id, offset, err)
	}
	return nil
}

// trim does SetLogStart. l.mu is held.
func (l *Log) trim(offset storage.Offset) ([]Waiter, error) {
	if l.refused != nil {
		return nil, l.refused
	}
	back := offset < l.logStart && (l.given || !l.store.o.Tiered || offset < 0)
	if !guard.Check("log.start-back", !back) || offset == l.logStart && l.given {
		return nil, nil
	}
	if l.idle() {
		l.replica.highWatermark = max(l.replica.highWatermark, offset)
		l.settleTransactions()
	}
	if !guard.Check("log.trim-committed", offset <= l.replica.highWatermark) {
		return nil, &OffsetOutOfRangeError{Offset: offset, LogStart: l.logStart, End: l.replica.highWatermark}
	}
	start, history := l.logStart, slices.Clone(l.epochs)
	l.logStart, l.epochs = offset, l.epochs.trim(offset)
	if offset > l.localStart {
		begin := func() error { return l.startAt(offset, false) }
		if offset > l.end { // it is neither led nor followed
			begin = func() error { return l.beginAnew(offset) }
		}
		if err := begin(); err != nil {
			l.logStart, l.epochs = start, history
			return nil, err
		}
	}
	l.given = true
	return l.takeWaiters(nil), nil
}

// TruncateTo removes the batches that end behind offset, which no replica in
// sync may hold any more, and stops leading; epoch is the one that decided it, and
// that, if it is followed, is followed on.
// Appends that were not answered are refused. It cannot go below the high
// watermark, and so not below what is uploaded. Errors: *OffsetOutOfRangeError,
// ErrFenced where a newer epoch was led or followed, and the WAL's.
func (l *Log) TruncateTo(offset storage.Offset, epoch storage.Epoch) error {
	if err := l.store.wal.Admit(l.store.ctx, wal.Internal, frameOverhead); err != nil {
		return fmt.Errorf("truncate %s to %d: %w", l.id, offset, err)
	}
	defer l.store.wal.Unadmit(frameOverhead)
	l.mu.Lock()
	cancelled, woken, err := l.truncate(offset, epoch)
	l.mu.Unlock()
	for _, p := range cancelled {
		p.refuse(ErrNotLeader)
	}
	wake(woken)
	if err != nil {
		return fmt.Errorf("truncate %s to %d: %w", l.id, offset, err)
	}
	return nil
}

// truncate does TruncateTo. l.mu is held.
func (l *Log) truncate(offset storage.Offset, epoch storage.Epoch) (cancelled []*pending, woken []Waiter, err error) {
	if l.refused != nil {
		return nil, nil, l.refused
	}
	if !guard.Check("log.truncate-epoch", epoch >= l.newest) {
		return nil, nil, fmt.Errorf("epoch %d is known: %w", l.newest, ErrFenced)
	}
	if !guard.Check("log.truncate-committed", offset >= l.replica.highWatermark) || offset > l.end {
		return nil, nil, &OffsetOutOfRangeError{Offset: offset, LogStart: l.replica.highWatermark, End: l.end}
	}
	// Batches are kept or removed whole.
	if p := l.index.find(offset); l.index.valid(p) {
		b, _ := l.index.at(p)
		// The log start may lie within one.
		offset = max(min(offset, b.baseOf(p.entry)), l.localStart)
	}
	freed := &release{log: l}
	if _, err := l.store.wal.Append(wal.Header{Kind: wal.KindTruncate, Partition: l.id, Epoch: epoch, Offset: offset}, nil, freed); err != nil {
		return nil, nil, err
	}
	before := l.index.bytes
	freed.refs = l.index.truncate(offset, nil)
	for _, ref := range freed.refs { // none of them is committed
		l.backlog.remove(ref)
	}
	l.store.indexBytes.Add(l.index.bytes - before)
	l.end = offset
	l.replica.shorten(offset)
	if l.followed != epoch {
		l.rest()
	}
	l.epochs = l.epochs.truncate(offset)
	known := max(offset, l.asOf) // what a state says of more than the log has stays true
	l.store.uncountProducers(l.producers.truncate(known))
	l.noteTransactions(func(t *transactions) { t.truncate(known) })
	if len(l.producers) == 0 && l.transactions.none() {
		l.asOf = min(l.asOf, offset) // nor has it, if it says nothing
	}
	l.endVerifications(math.MaxInt64)
	// What the truncation spares is yet to be synced, and will say so itself;
	// the rest must not be taken for synced when its frame is.
	for p := l.inFlight.first; p != nil; p = p.next {
		p.cancelled = p.cancelled || p.last >= offset
	}
	cancelled = l.parked
	l.parked = nil
	return cancelled, l.takeWaiters(nil), nil
}

// ProducerState is what a log remembers of a producer.
type ProducerState struct {
	ID                      int64
	Epoch                   int16
	LastSequence            int32          // in this epoch; -1: none
	LastTimestamp           int64          // of its last batch, or of a marker behind it
	CoordinatorEpoch        int32          // -1: none
	CurrentTransactionStart storage.Offset // NoOffset: none is open
}

// Producers returns what is remembered of each producer, in order of id
// (DescribeProducers).
func (l *Log) Producers() []ProducerState {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([]ProducerState, 0, len(l.producers))
	for id, p := range l.producers {
		m := p.lastMark()
		s := ProducerState{
			ID: id, Epoch: p.epoch(), LastSequence: -1, LastTimestamp: p.millis,
			CoordinatorEpoch: m.coordinatorEpoch, CurrentTransactionStart: p.open,
		}
		if len(p.sent) > 0 {
			if latest := p.latest(); latest.epoch == s.Epoch {
				s.LastSequence = latest.lastSequence()
			}
			if latest := p.latest(); latest.last > m.offset {
				s.LastTimestamp = latest.timestamp
			}
		}
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b ProducerState) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// state is the log's as of its high watermark, if the WAL began at local. l.mu is held.
func (l *Log) state(local storage.Offset) state {
	s := state{localStart: local, highWatermark: l.replica.highWatermark, asOf: l.asOf, epochs: l.epochs, producers: l.producers}
	s.take(&l.transactions)
	return s
}

// writeState writes the log's state, and lets go of the one before, with freed,
// as soon as it is on disk. l.mu is held.
func (l *Log) writeState(freed *release) error { return l.writeAs(l.state(l.localStart), freed) }

// writeAs does writeState. l.mu is held.
func (l *Log) writeAs(s state, freed *release) error {
	parts := s.encode(maxStatePart)
	h := wal.Header{Kind: wal.KindState, Partition: l.id, Epoch: l.epochs.latest(), Offset: s.highWatermark}
	if l.asOf > s.highWatermark {
		h.Epoch = l.asOfEpoch
	}
	refs := make([]wal.Ref, 0, len(parts))
	for i, part := range parts {
		var c wal.Completion
		if i == len(parts)-1 {
			c = freed
		}
		ref, err := l.store.wal.Append(h, part, c)
		if err != nil {
			// The parts that were written count for nothing without the last.
			l.store.wal.ReleaseAll(refs)
			return fmt.Errorf("write the state of %s: %w", l.id, err)
		}
		refs = append(refs, ref)
	}
	freed.refs = append(freed.refs, l.stateRefs...)
	l.stateRefs, l.stateAsOf, l.stateEpoch = refs, s.highWatermark, l.epochs.latest()
	l.statedAt, l.stateKnows = l.store.o.Now().UnixMilli(), len(l.producers) > 0
	if l.stale = 0; l.end > s.highWatermark { // something of a producer may be among it
		l.stale = 1
	}
	return nil
}

// admitState waits for room for the log's state and a frame beside it.
func (l *Log) admitState() (admitted int, err error) {
	return l.admitStateOf(l.store.ctx, wal.Internal)
}

func (l *Log) admitStateOf(ctx context.Context, class wal.Class) (admitted int, err error) {
	l.mu.Lock()
	admitted = stateHeader + len(l.epochs)*stateEpoch + len(l.producers)*(stateProducer+dedupeBatches*stateBatch)
	admitted += (len(l.transactions.aborted) + len(l.transactions.committed)) * stateTransaction
	l.mu.Unlock()
	admitted += 2*frameOverhead + admitted/maxStatePart*(frameOverhead+stateHeader)
	return admitted, l.store.wal.Admit(ctx, class, admitted)
}

// refuse ends the log: nothing is taken or read from here on. It reports whether it
// was taken and read until then.
func (l *Log) refuse(why error) (first bool) {
	l.mu.Lock()
	if first = l.refused == nil; first {
		l.refused = why
	}
	parked := l.parked
	l.parked = nil
	woken := l.takeWaiters(nil)
	l.mu.Unlock()
	for _, p := range parked {
		p.refuse(why)
	}
	wake(woken)
	return first
}

// release lets go of frames once the frame that makes them needless is on disk.
type release struct {
	log  *Log
	refs []wal.Ref // guarded by log.mu: it may be known only after the append
}

// Committed is called by the WAL.
func (r *release) Committed(err error) {
	if err != nil {
		return // whatever is on disk now, the next start sorts it out
	}
	r.log.mu.Lock()
	refs := r.refs
	r.log.mu.Unlock()
	r.log.store.wal.ReleaseAll(refs)
}
