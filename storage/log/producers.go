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

func (s *sentBatch) lastSequence() int32 { return batch.NextSequence(s.first, s.delta) }

// producer is what a log remembers of one: its last batches below the high
// watermark, at most five, and all above it, in order. There is always one.
type producer struct {
	millis int64 // when it was last heard of, by the broker's clock
	sent   []sentBatch
}

func (p *producer) latest() *sentBatch { return &p.sent[len(p.sent)-1] }

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
	latest, epoch, first := p.latest(), b.ProducerEpoch(), b.BaseSequence()
	if !guard.Check("log.producer-epoch", epoch >= latest.epoch) {
		return nil, fmt.Errorf("producer %d sends with epoch %d after %d: %w", b.ProducerID(), epoch, latest.epoch, ErrInvalidProducerEpoch)
	}
	if epoch > latest.epoch {
		if first != 0 {
			return nil, fmt.Errorf("producer %d begins epoch %d with sequence %d: %w", b.ProducerID(), epoch, first, ErrOutOfOrderSequence)
		}
		return nil, nil
	}
	for i := len(p.sent) - 1; i >= max(0, len(p.sent)-dedupeBatches) && p.sent[i].epoch == epoch; i-- {
		if s := &p.sent[i]; !guard.Check("log.duplicate", s.first != first || s.delta != b.LastOffsetDelta()) {
			return s, nil
		}
	}
	if want := batch.NextSequence(latest.lastSequence(), 1); !guard.Check("log.sequence", first == want) {
		return nil, fmt.Errorf("producer %d sends sequence %d, %d was due: %w", b.ProducerID(), first, want, ErrOutOfOrderSequence)
	}
	return nil, nil
}

// add remembers a batch that was appended, and reports whether its producer is
// new. millis is the broker's time.
func (ps producers) add(id int64, s sentBatch, highWatermark storage.Offset, millis int64) (added bool) {
	p := ps[id]
	if p == nil {
		p = &producer{sent: make([]sentBatch, 0, 1)}
		ps[id] = p
		added = true
	}
	p.millis = max(p.millis, millis)
	// What is committed and further back than five is not needed even if all
	// that is not committed goes.
	settled := 0
	for settled < len(p.sent) && p.sent[settled].last < highWatermark {
		settled++
	}
	if settled > dedupeBatches {
		p.sent = slices.Delete(p.sent, 0, settled-dedupeBatches)
	}
	p.sent = append(p.sent, s)
	return added
}

// truncate forgets the batches at or behind end, and returns how many producers
// nothing is left of.
func (ps producers) truncate(end storage.Offset) (gone int) {
	for id, p := range ps {
		n := len(p.sent)
		for n > 0 && p.sent[n-1].last >= end {
			n--
		}
		if p.sent = p.sent[:n]; n == 0 {
			delete(ps, id)
			gone++
		}
	}
	return gone
}

// expire forgets producers not heard of since millis, and returns how many. One
// that has a batch above the high watermark stays.
func (ps producers) expire(millis int64, highWatermark storage.Offset) (gone int) {
	for id, p := range ps {
		if p.millis < millis && p.latest().last < highWatermark {
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
