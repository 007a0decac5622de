package log

import (
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/guard"
)

// Bounds of what is noted of refused batches.
const (
	// refusalExpiry is how long a producer that sends what was refused no more may
	// take to go on behind it: Kafka's delivery.timeout.ms.
	refusalExpiry = 2 * time.Minute
	maxRefusals   = 4096 // of all logs; beyond it nothing is noted
)

// refusals is the batches that were refused for something that passes, of producers
// nothing is known of. Who is not known may begin with any sequence number: a smaller
// batch that is sent behind, and fits, would be taken for its first, and what was
// refused be out of order when it comes again. Its lock comes behind Log.mu.
type refusals struct {
	mu sync.Mutex
	of map[refusedProducer]refusal // guarded by mu
}

type refusedProducer struct {
	partition storage.PartitionID
	id        int64
	epoch     int16
}

type refusal struct {
	lowest int32 // sequence number
	millis int64 // when it was last refused
}

// passes reports whether a batch that was refused for err may be taken when it comes
// again.
func passes(err error) bool {
	return errors.Is(err, ErrFull) || errors.Is(err, ErrNoSegment) || errors.Is(err, ErrTooManyProducers) || errors.Is(err, ErrNotEnoughReplicas)
}

// Refused says that a batch was not appended, for it had no room or no place
// ([Store.Admit], [Log.BeginVerification]): what its producer sent behind it does not
// go before it, if the log knows nothing of him. Append sees to that by itself.
func (l *Log) Refused(records []byte, err error) {
	if passes(err) {
		l.Postponed(records)
	}
}

// Postponed says that a batch was not appended, and is to come again: as [Log.Refused] does of
// what it knows to be such an error.
func (l *Log) Postponed(records []byte) {
	b, rest, broken := batch.Next(records)
	if broken != nil || len(rest) > 0 || b.ProducerID() < 0 || b.IsControl() || b.BaseSequence() < 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.producers.sentIn(b.ProducerID(), b.ProducerEpoch()) {
		l.store.refusals.note(l.refusedProducer(b), b.BaseSequence(), l.store.o.Now().UnixMilli())
	}
}

func (l *Log) refusedProducer(b batch.Batch) refusedProducer {
	return refusedProducer{l.id, b.ProducerID(), b.ProducerEpoch()}
}

// checkBehind says why a batch of a producer is not to be appended that nothing is
// known of in its epoch: one before it was refused. l.mu is held.
func (l *Log) checkBehind(b batch.Batch) error {
	if l.producers.sentIn(b.ProducerID(), b.ProducerEpoch()) {
		return nil
	}
	lowest, ok := l.store.refusals.lowest(l.refusedProducer(b), l.store.o.Now().UnixMilli())
	if ok && !guard.Check("log.behind-refused", b.BaseSequence() <= lowest) {
		return fmt.Errorf("producer %d sends sequence %d after %d: %w", b.ProducerID(), b.BaseSequence(), lowest, ErrBehindRefused)
	}
	return nil
}

func (r *refusals) note(p refusedProducer, sequence int32, millis int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.of == nil {
		r.of = map[refusedProducer]refusal{}
	}
	was, ok := r.of[p]
	if ok && was.fresh(millis) && was.lowest < sequence {
		return // what is behind it is refused too
	}
	if !ok && len(r.of) >= maxRefusals {
		maps.DeleteFunc(r.of, func(_ refusedProducer, was refusal) bool { return !was.fresh(millis) })
	}
	if ok || guard.Check("log.max-refusals", len(r.of) < maxRefusals) {
		r.of[p] = refusal{sequence, millis}
	}
}

func (r refusal) fresh(millis int64) bool { return millis-r.millis < refusalExpiry.Milliseconds() }

// lowest returns the sequence number of the first batch of a producer that was refused.
func (r *refusals) lowest(p refusedProducer, millis int64) (sequence int32, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	was, ok := r.of[p]
	if ok && !was.fresh(millis) {
		delete(r.of, p)
		return 0, false
	}
	return was.lowest, ok
}

// forget is called when a producer's first batch is appended: it is known now.
func (r *refusals) forget(p refusedProducer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.of, p)
}
