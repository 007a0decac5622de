package log

import (
	"cmp"
	"math"
	"slices"
	"time"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/guard"
	"rustmq.dev/rustmq/storage/wal"
)

// recovery gathers what the WAL replays. Frames come in the order they were
// appended, with two exceptions that are one: a copy comes later than its batch
// did, and then the batch itself may be gone.
type recovery struct {
	partitions map[storage.PartitionID]*replayed
	needless   []wal.Ref // to be released once the WAL is open
	losses     []loss
	dropped    map[storage.PartitionID]int // how many of losses came before a partition was dropped last
}

// replayed is a partition so far.
type replayed struct {
	index  index       // what came in order
	late   []lateEntry // copies that fit nowhere in it
	sent   []replayedBatch
	epochs epochs
	stands epochs // of the batches in index, as they say themselves: a state may know of others

	state     state         // the last whole one
	under     storage.Epoch // of its frame
	stateRefs []wal.Ref
	stated    bool
	part      state // one that is not whole yet
	partRefs  []wal.Ref

	localStart storage.Offset
	proven     int              // of so many losses it is known that they took nothing of it
	apart      bool             // behind one of the others it does not go on where it ended
	after      []storage.Offset // behind each loss that something was appended after: where that began first
	statedAt   int              // so many came before state
	damage     *CorruptionError // the first thing that did not fit
	evidence   []wal.Ref        // what did not
	noted      bool             // it is written down that it is corrupt
}

// lateEntry is a batch that is not in the index yet.
type lateEntry struct {
	base         storage.Offset
	count        uint32
	maxTimestamp int64
	ref          wal.Ref
}

func (e *lateEntry) next() storage.Offset { return e.base + storage.Offset(e.count) }

// replayedBatch is a batch of a producer, at or above what the last state is as of.
type replayedBatch struct {
	producer int64
	sentBatch
	transactional bool
	marker        bool
	batch.Marker  // if it is one
}

func newRecovery() *recovery {
	return &recovery{partitions: map[storage.PartitionID]*replayed{}, dropped: map[storage.PartitionID]int{}}
}

// replay takes one frame.
func (rec *recovery) replay(h wal.Header, ref wal.Ref, payload []byte) {
	if h.Kind == wal.KindDrop {
		rec.drop(h.Partition)
		return
	}
	r := rec.partitions[h.Partition]
	if r == nil {
		r = &replayed{proven: rec.dropped[h.Partition]}
		rec.partitions[h.Partition] = r
	}
	switch h.Kind {
	case wal.KindData:
		rec.replayData(r, h, ref, payload)
	case wal.KindState:
		rec.replayState(r, h, ref, payload)
	case wal.KindTrim:
		r.localStart = max(r.localStart, h.Offset)
	case wal.KindTruncate:
		rec.replayTruncate(r, h.Offset)
	}
}

// drop forgets the partitions of a topic; all that is of them from then on would
// be of another one.
func (rec *recovery) drop(id storage.PartitionID) {
	if len(rec.losses) > 0 {
		rec.dropped[id] = len(rec.losses)
	}
	for other, r := range rec.partitions {
		if other.Topic != id.Topic || id.Index >= 0 && other.Index != id.Index {
			continue
		}
		rec.needless = append(rec.needless, r.everything()...)
		delete(rec.partitions, other)
	}
}

func (r *replayed) everything() []wal.Ref {
	refs := r.index.truncate(math.MinInt64, nil)
	for i := range r.late {
		refs = append(refs, r.late[i].ref)
	}
	return append(append(append(refs, r.stateRefs...), r.partRefs...), r.evidence...)
}

// neverBegan reports whether a log was to begin anew ([Log.Restart]) and its state is
// not whole: it was dropped before, and nothing is in it.
func (r *replayed) neverBegan() bool {
	return !r.stated && r.damage == nil && len(r.partRefs) > 0 && len(r.index.blocks)+len(r.late)+len(r.evidence)+len(r.epochs) == 0 && r.localStart == 0
}

func (r *replayed) damaged(id storage.PartitionID, at storage.Offset, format string, args ...any) {
	if r.damage == nil {
		r.damage = corrupt(id, at, format, args...)
	}
}

func (rec *recovery) replayData(r *replayed, h wal.Header, ref wal.Ref, payload []byte) {
	b, rest, err := batch.Next(payload)
	if err != nil || len(rest) > 0 || b.BaseOffset() != h.Offset || b.LastOffsetDelta() < 0 || h.Offset < 0 {
		r.damaged(h.Partition, h.Offset, "a frame holds something else than the batch it names")
		r.evidence = append(r.evidence, ref)
		return
	}
	e := lateEntry{h.Offset, uint32(b.LastOffsetDelta()) + 1, b.MaxTimestamp(), ref}
	if !h.Copy {
		rec.follow(r, e.base)
		rec.prove(r, e.base, b.LeaderEpoch())
	}
	end, some := r.index.end()
	switch {
	case !some || e.base >= end:
		r.index.append(e.base, e.count, e.maxTimestamp, e.ref)
		r.stands = r.stands.begin(b.LeaderEpoch(), e.base)
	case !h.Copy:
		r.damaged(h.Partition, h.Offset, "it was appended, but the log had reached %d", end)
		r.evidence = append(r.evidence, ref)
		return
	default:
		rec.replayCopy(r, e)
	}
	if !h.Copy {
		r.epochs = r.epochs.begin(b.LeaderEpoch(), e.base)
	}
	if sent, is := replayedOf(b); is && b.LastOffset() >= r.state.knows() {
		r.sent = append(r.sent, sent)
	}
}

// replayedOf is what a batch says of its producer; false: nothing.
func replayedOf(b batch.Batch) (sent replayedBatch, is bool) {
	if b.ProducerID() == batch.NoProducerID {
		return sent, false
	}
	sent = replayedBatch{producer: b.ProducerID(), sentBatch: sentOf(b), transactional: b.IsTransactional()}
	if b.IsControl() {
		sent.Marker, sent.marker = batch.ReadMarker(b) // others say nothing of producers
		return sent, sent.marker
	}
	return sent, true
}

// replayCopy puts a copy in the place of its batch, if that is there.
func (rec *recovery) replayCopy(r *replayed, e lateEntry) {
	p := r.index.find(e.base)
	if b, old := r.index.at(p); b.baseOf(p.entry) == e.base && old.count == e.count {
		rec.needless = append(rec.needless, old.ref)
		b.move(old, e.ref)
		return
	}
	r.late = append(r.late, e)
}

func (rec *recovery) replayState(r *replayed, h wal.Header, ref wal.Ref, payload []byte) {
	if why, is := decodeDamage(h.Partition, payload); is {
		if r.damage == nil || r.noted { // the newest says most
			r.damage = why
		}
		r.noted = true
		r.evidence = append(r.evidence, ref)
		return
	}
	last, err := r.part.decode(payload)
	if err != nil {
		r.damaged(h.Partition, h.Offset, "%v", err)
		r.evidence = append(r.evidence, ref)
		return
	}
	if payload[1]&1 == 0 { // begins anew: the parts before were never whole
		rec.needless = append(rec.needless, r.partRefs...)
		r.partRefs = nil
	}
	r.partRefs = append(r.partRefs, ref)
	if !last {
		return
	}
	rec.needless = append(rec.needless, r.stateRefs...)
	r.state, r.under, r.stateRefs, r.stated = r.part, h.Epoch, r.partRefs, true
	r.part, r.partRefs, r.statedAt = state{}, nil, len(rec.losses)
	if r.state.heals {
		rec.healed(r)
	}
	r.localStart = max(r.localStart, r.state.localStart)
	r.epochs = slices.Clone(r.state.epochs)
	r.sent = slices.DeleteFunc(r.sent, func(s replayedBatch) bool { return s.last < r.state.knows() })
}

func (rec *recovery) replayTruncate(r *replayed, end storage.Offset) {
	rec.needless = r.index.truncate(end, rec.needless)
	r.late = slices.DeleteFunc(r.late, func(e lateEntry) bool {
		if e.next() > end {
			rec.needless = append(rec.needless, e.ref)
			return true
		}
		return false
	})
	r.sent = slices.DeleteFunc(r.sent, func(s replayedBatch) bool { return s.last >= end })
	r.epochs, r.stands = r.epochs.truncate(end), r.stands.truncate(end)
	if r.state.none() {
		r.state.asOf = min(r.state.asOf, end)
	}
}

// recover makes the logs of what was replayed.
func (s *Store) recover(now time.Time) {
	rec := s.recovery
	s.recovery = nil
	rec.suspect()
	for id, r := range rec.partitions {
		if r.neverBegan() {
			rec.needless = append(rec.needless, r.partRefs...)
			delete(rec.partitions, id)
			continue
		}
		l := s.newLog(id)
		if err := s.recoverLog(l, r, rec, now); err != nil {
			l.condemn(err, r)
			s.o.Log.Error("a partition is corrupt and will not be served", "partition", id, "error", err)
		}
		s.indexBytes.Add(l.index.bytes)
		l.addProducers(len(l.producers))
		s.logs[id] = l
		delete(rec.partitions, id)
	}
	s.forgetExcess() // nobody for being silent: for how long nothing ran, the clock may be wrong about
	for _, ref := range rec.needless {
		s.wal.Release(ref)
	}
}

// recoverLog makes l of what was replayed of it, and checks that it is all
// there: every offset from the local start to the end, and an end not before what
// was known committed. What lies before the local start went once the bucket had
// it, or the log start passed it; the leader epochs reach back beyond it.
func (s *Store) recoverLog(l *Log, r *replayed, rec *recovery, now time.Time) error {
	rec.needless = append(rec.needless, r.partRefs...)
	r.merge(rec)
	rec.needless = r.index.trim(r.localStart, rec.needless)
	l.index, l.stateRefs = r.index, r.stateRefs
	l.logStart, l.localStart, l.released, l.uploaded, l.end = r.localStart, r.localStart, r.localStart, r.localStart, r.localStart
	if r.damage != nil {
		return r.damage
	}
	if !guard.Check("log.recovered-state", r.stated) {
		return corrupt(l.id, l.localStart, "its state is missing")
	}
	first := true
	for p := (place{}); l.index.valid(p); p = l.index.following(p) {
		b, _ := l.index.at(p)
		base := b.baseOf(p.entry)
		if fits := base == l.end || first && base < l.end; !guard.Check("log.recovered-gap", fits) {
			return corrupt(l.id, l.end, "the batch there is missing, the next one is at %d", base)
		}
		l.end, first = b.nextOf(p.entry), false
	}
	if !guard.Check("log.recovered-end", l.end >= r.state.highWatermark) {
		return corrupt(l.id, l.end, "the log ends there, and was committed up to %d", r.state.highWatermark)
	}
	l.replica.begins(l.end)
	l.replica.highWatermark = max(r.state.highWatermark, l.localStart)
	if r.state.asOf > l.replica.highWatermark {
		l.asOf, l.asOfEpoch = r.state.asOf, r.under
	}
	l.epochs = r.epochs
	l.stateAsOf, l.stateEpoch = r.state.highWatermark, r.state.epochs.latest()
	l.statedAt, l.stateKnows = now.UnixMilli(), len(r.state.producers) > 0
	r.remember(l, now.UnixMilli())
	for _, b := range l.index.blocks {
		for i := range b.entries {
			l.backlog.add(b.entries[i].ref)
		}
	}
	if l.backlog.batches > 0 {
		l.queueUpload(now.UnixMilli())
	}
	return nil
}

// merge puts the late copies where they belong.
func (r *replayed) merge(rec *recovery) {
	if len(r.late) == 0 {
		return
	}
	all := make([]lateEntry, 0, len(r.late))
	for _, b := range r.index.blocks {
		for i, e := range b.entries {
			all = append(all, lateEntry{b.baseOf(i), e.count, e.maxTimestamp, e.ref})
		}
	}
	all = append(all, r.late...)
	r.late = nil
	slices.SortStableFunc(all, func(a, b lateEntry) int { return cmp.Compare(a.base, b.base) })
	r.index = index{}
	for i, e := range all {
		if i+1 < len(all) && all[i+1].base == e.base { // a copy of the copy follows
			rec.needless = append(rec.needless, e.ref)
			continue
		}
		r.index.append(e.base, e.count, e.maxTimestamp, e.ref)
	}
}

// remember gives l its producers and transactions: those of the state, and the
// batches above it in order of offset. Who was heard of in those counts as heard
// of now.
func (r *replayed) remember(l *Log, millis int64) {
	slices.SortStableFunc(r.sent, func(a, b replayedBatch) int { return cmp.Compare(a.last, b.last) })
	l.producers = r.state.producers
	l.noteTransactions(func(t *transactions) { t.restore(&r.state) })
	// Markers above the state's high watermark may not be committed.
	led := l.replica.highWatermark
	l.replica.highWatermark = r.state.highWatermark
	for i, sent := range r.sent {
		switch {
		case i > 0 && r.sent[i-1].last == sent.last: // the copy of a batch
		case sent.marker && l.producers[sent.producer] == nil && l.store.producers.Load()+int64(len(l.producers)) >= int64(l.store.o.MaxProducers):
			// It was not remembered then either, perhaps; it ended nothing.
		case sent.marker:
			m := mark{offset: sent.last, first: storage.NoOffset, epoch: sent.epoch, coordinatorEpoch: sent.CoordinatorEpoch}
			l.rememberMarker(sent.producer, m, sent.Commit, millis)
		default:
			l.rememberBatch(sent.producer, sent.sentBatch, sent.transactional, millis)
		}
	}
	l.replica.highWatermark = led
	l.settleTransactions()
	l.noteTransactions(func(t *transactions) { t.trim(l.localStart, l.uploaded) })
}
