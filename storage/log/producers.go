package log

import (
	"fmt"
	"slices"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/guard"
)

// dedupeBatches is how many batches a producer may have in flight and still be
// answered when it sends one of them again; Kafka's number.
const dedupeBatches = 5

// sentBatch is one batch of a producer.
type sentBatch struct {
	last      storage.Offset // its last offset
	timestamp int64          // its largest, or what the broker stamped
	first     int32          // its first sequence number
	delta     int32          // its last offset, and sequence number, less the first
	epoch     int16          // the producer's
}

func (s *sentBatch) base() storage.Offset { return s.last - storage.Offset(s.delta) }

func (s *sentBatch) lastSequence() int32 {
	if s.first < 0 { // the broker's own batches have none
		return s.first
	}
	return batch.NextSequence(s.first, s.delta)
}

// mark is a marker of a producer: it ended a transaction, or came to a partition
// that had no part in it.
type mark struct {
	offset           storage.Offset // NoOffset: it is known only what it said
	first            storage.Offset // of the transaction, NoOffset: none
	epoch            int16
	coordinatorEpoch int32
}

// noMark is what is known of a producer that has had none.
var noMark = mark{offset: storage.NoOffset, first: storage.NoOffset, epoch: noProducerEpoch, coordinatorEpoch: noCoordinator}

// What stands for an epoch that is not known.
const (
	noProducerEpoch int16 = -1
	noCoordinator   int32 = -1
)

// producer is what a log remembers of one: its last batches below the high
// watermark, at most five, and all above it, in order; of its markers the last one
// below, and all above. There is always one or the other.
type producer struct {
	millis int64 // when it was last heard of, by the broker's clock
	sent   []sentBatch
	marks  []mark
	open   storage.Offset // first offset of its open transaction, or NoOffset
}

func (p *producer) latest() *sentBatch { return &p.sent[len(p.sent)-1] }

// lastMark is its newest marker, or noMark.
func (p *producer) lastMark() mark {
	if len(p.marks) == 0 {
		return noMark
	}
	return p.marks[len(p.marks)-1]
}

// epoch is the newest that it sent with, or that was decided for it.
func (p *producer) epoch() int16 {
	epoch := p.lastMark().epoch
	if len(p.sent) > 0 {
		epoch = max(epoch, p.latest().epoch)
	}
	return epoch
}

// unsettled reports whether something of it lies at or above the high watermark.
func (p *producer) unsettled(highWatermark storage.Offset) bool {
	return len(p.sent) > 0 && p.latest().last >= highWatermark || p.lastMark().offset >= highWatermark
}

// producers is what a log remembers of its producers, by id. Forgetting batches
// above an offset restores exactly what was remembered before they came
// (truncation). It does no I/O and reads no clock.
type producers map[int64]*producer

// check decides about a batch of a producer, which is not appended yet. It
// returns the batch it duplicates, or nil when it may be appended.
//
// An id that is not known, because it is new, or was forgotten, may begin with
// any sequence number: only who is remembered can be out of order.
func (ps producers) check(b batch.Batch) (duplicate *sentBatch, err error) {
	p := ps[b.ProducerID()]
	if p == nil {
		return nil, nil
	}
	newest, epoch, first := p.epoch(), b.ProducerEpoch(), b.BaseSequence()
	if !guard.Check("log.producer-epoch", epoch >= newest) {
		return nil, fmt.Errorf("producer %d sends with epoch %d after %d: %w", b.ProducerID(), epoch, newest, ErrInvalidProducerEpoch)
	}
	switch {
	case first < 0: // the broker's own, of which each is sent once
	case epoch == newest && len(p.sent) > 0 && p.latest().epoch == epoch:
		for i := len(p.sent) - 1; i >= max(0, len(p.sent)-dedupeBatches) && p.sent[i].epoch == epoch; i-- {
			if s := &p.sent[i]; !guard.Check("log.duplicate", s.first != first || s.delta != b.LastOffsetDelta()) {
				return s, nil
			}
		}
		if want := batch.NextSequence(p.latest().lastSequence(), 1); !guard.Check("log.sequence", first == want) {
			return nil, fmt.Errorf("producer %d sends sequence %d, %d was due: %w", b.ProducerID(), first, want, ErrOutOfOrderSequence)
		}
	case first != 0 && (epoch > newest || len(p.sent) > 0): // of who is known by a marker alone, nothing was forgotten
		return nil, fmt.Errorf("producer %d begins epoch %d with sequence %d: %w", b.ProducerID(), epoch, first, ErrOutOfOrderSequence)
	}
	if !guard.Check("log.transaction-left", p.open == storage.NoOffset || b.IsTransactional()) {
		return nil, fmt.Errorf("producer %d has a transaction open from offset %d on: %w", b.ProducerID(), p.open, ErrNotTransactional)
	}
	return nil, nil
}

// sentIn reports whether a batch of a producer's epoch is remembered: then check knew
// which sequence number was due.
func (ps producers) sentIn(id int64, epoch int16) bool {
	p := ps[id]
	return p != nil && len(p.sent) > 0 && p.latest().epoch == epoch
}

// get returns what is remembered of a producer; of a new one, nothing yet.
func (ps producers) get(id, millis int64) *producer {
	p := ps[id]
	if p == nil {
		p = &producer{open: storage.NoOffset}
		ps[id] = p
	}
	p.millis = max(p.millis, millis)
	return p
}

// add remembers a batch that was appended, and reports whether it is the first of
// a transaction. millis is the broker's time.
func (ps producers) add(id int64, s sentBatch, transactional bool, highWatermark storage.Offset, millis int64) (begins bool) {
	p := ps.get(id, millis)
	p.settleSent(highWatermark)
	if p.sent == nil {
		p.sent = make([]sentBatch, 0, 1)
	}
	p.sent = append(p.sent, s)
	if begins = transactional && p.open == storage.NoOffset; begins {
		p.open = s.base()
	}
	return begins
}

// mark remembers a marker that was appended, and returns the first offset of the
// transaction that it ended, or NoOffset.
func (ps producers) mark(id int64, m mark, highWatermark storage.Offset, millis int64) (first storage.Offset) {
	p := ps.get(id, millis)
	p.settleMarks(highWatermark)
	m.first, p.open = p.open, storage.NoOffset
	p.marks = append(p.marks, m)
	return m.first
}

// settle forgets what is of no use once the high watermark is there.
func (ps producers) settle(highWatermark storage.Offset) {
	for _, p := range ps {
		p.settleSent(highWatermark)
		p.settleMarks(highWatermark)
	}
}

// settleSent forgets what is committed and further back than five: it is not needed
// even if all that is not committed goes.
func (p *producer) settleSent(highWatermark storage.Offset) {
	settled := 0
	for settled < len(p.sent) && p.sent[settled].last < highWatermark {
		settled++
	}
	p.sent = without(p.sent, settled-dedupeBatches)
}

// settleMarks forgets the markers before the last one that is committed.
func (p *producer) settleMarks(highWatermark storage.Offset) {
	settled := 0
	for settled < len(p.marks) && p.marks[settled].offset < highWatermark {
		settled++
	}
	p.marks = without(p.marks, settled-1)
}

// roomyState is how many times as much as it holds the memory of a producer's batches
// may be: after a start it is of all that lay behind the state.
const roomyState = 4

// without removes the first n. The memory goes with them, if it is much.
func without[T any](s []T, n int) []T {
	switch {
	case n <= 0:
		return s
	case cap(s) > roomyState*max(len(s)-n, dedupeBatches):
		return slices.Clone(s[n:])
	}
	return slices.Delete(s, 0, n)
}

// truncate forgets the batches at or behind end, and returns how many producers
// nothing is left of.
func (ps producers) truncate(end storage.Offset) (gone int) {
	for id, p := range ps {
		n := len(p.sent)
		for n > 0 && p.sent[n-1].last >= end {
			n--
		}
		p.open = p.openAsOf(end)
		m := len(p.marks)
		for m > 0 && p.marks[m-1].offset >= end {
			m--
		}
		p.sent, p.marks = p.sent[:n], p.marks[:m]
		if n == 0 && m == 0 {
			delete(ps, id)
			gone++
		}
	}
	return gone
}

// openAsOf is the first offset of the transaction that was open when the log
// ended at an offset, which is not below the high watermark.
func (p *producer) openAsOf(end storage.Offset) storage.Offset {
	open := p.open
	for i := len(p.marks) - 1; i >= 0 && p.marks[i].offset >= end; i-- {
		open = p.marks[i].first
	}
	if open >= end {
		return storage.NoOffset
	}
	return open
}

// hear takes all for heard of by now at the earliest.
func (ps producers) hear(now int64) {
	for _, p := range ps {
		p.millis = max(p.millis, now)
	}
}

// setAhead takes it that the clock was set ahead by so many ms, and says now: who was heard of
// before was heard of so much later by it, and nobody after now.
func (ps producers) setAhead(ahead, now int64) {
	for _, p := range ps {
		if guard.Check("log.set-ahead-forgets-nobody", ahead == 0) && p.millis <= now {
			continue
		}
		p.millis = now - max(0, now-ahead-p.millis)
	}
}

// expire forgets producers not heard of since millis, and returns how many. One
// that has a transaction open, or a batch above the high watermark, stays.
func (ps producers) expire(millis int64, highWatermark storage.Offset) (gone int) {
	for id, p := range ps {
		if p.millis < millis && !p.unsettled(highWatermark) && guard.Check("log.expire-open", p.open == storage.NoOffset) {
			delete(ps, id)
			gone++
		}
	}
	return gone
}

// committed returns the last batches of p that lie below the high watermark, at
// most five: the state as of it.
func (p *producer) committed(highWatermark storage.Offset) []sentBatch {
	n := len(p.sent)
	for n > 0 && p.sent[n-1].last >= highWatermark {
		n--
	}
	return p.sent[max(0, n-dedupeBatches):n]
}

// committedMark returns its last marker below the high watermark, or noMark.
func (p *producer) committedMark(highWatermark storage.Offset) mark {
	for i := len(p.marks) - 1; i >= 0; i-- {
		if p.marks[i].offset < highWatermark {
			return p.marks[i]
		}
	}
	return noMark
}
