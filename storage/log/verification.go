package log

import (
	"fmt"
	"time"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/guard"
)

// verificationExpiry is how long a verification may take: as long as a
// transaction may, by Kafka's default (transaction.max.timeout.ms).
const verificationExpiry = 15 * time.Minute

// Guard is a verification that was begun: see BeginVerification. The zero value
// is none.
type Guard struct{ id uint64 }

// verification is the time between the first batch of a transaction and its
// place in the log, while the coordinator is asked.
type verification struct {
	guard  Guard
	epoch  int16
	lowest int32 // sequence number that was seen: that of the first batch
	millis int64 // when it was last begun
	// counted: as one of the producers that there may be. Who is remembered anyway
	// is counted for that.
	counted bool
}

// BeginVerification is called before the first batch of a transaction is
// appended. open: a transaction of the producer is open in this epoch, so that
// nothing needs to be asked. Otherwise the caller asks the coordinator whether
// it knows of a transaction with this partition, and if so appends with
// AppendOptions.Guard. A guard no longer counts once a marker was appended, or
// the log's leader changed: the answer may have been given before that, and the
// append is refused with ErrUnverified. baseSequence is that of the batch: one
// that lies behind the lowest is not the first, and would be taken for it where
// nothing is known of the producer (KIP-890).
//
// Errors: ErrTooManyProducers, ErrNotLeader, ErrClosed, ErrDropped,
// *CorruptionError.
func (l *Log) BeginVerification(producerID int64, epoch int16, baseSequence int32) (g Guard, open bool, err error) {
	now := l.store.o.Now().UnixMilli()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.refused != nil {
		return Guard{}, false, l.refused
	}
	if l.epoch == storage.NoEpoch {
		return Guard{}, false, ErrNotLeader
	}
	if l.inTransaction(producerID, epoch) {
		return Guard{}, true, nil
	}
	v := l.verifying[producerID]
	if v == nil {
		known := l.producers[producerID] != nil
		if !known && !l.countProducer() {
			return Guard{}, false, ErrTooManyProducers
		}
		if l.verifying == nil {
			l.verifying = map[int64]*verification{}
		}
		v = &verification{guard: Guard{l.store.guards.Add(1)}, epoch: epoch, lowest: baseSequence, counted: !known}
		l.verifying[producerID] = v
	}
	if epoch > v.epoch {
		v.epoch, v.lowest = epoch, baseSequence
	}
	if epoch == v.epoch {
		v.lowest = min(v.lowest, baseSequence)
	}
	v.millis = now
	return v.guard, false, nil
}

// RefuseVerification says that the coordinator knows of no such transaction in this
// epoch: it is forgotten, lest it stands in the way of the producer's own epoch. One
// that was begun for another epoch since stays.
func (l *Log) RefuseVerification(producerID int64, epoch int16) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if v := l.verifying[producerID]; v != nil && v.epoch == epoch {
		l.endVerification(producerID, nil)
	}
}

// inTransaction reports whether a producer has a transaction open, in its newest
// epoch, which is this. l.mu is held.
func (l *Log) inTransaction(producerID int64, epoch int16) bool {
	p := l.producers[producerID]
	return p != nil && p.open != storage.NoOffset && p.epoch() == epoch
}

// checkVerified says why a transactional batch is not to be appended: nobody
// knows that its transaction is open. Its place in the producer's sequence was checked,
// as far as that is known. l.mu is held.
func (l *Log) checkVerified(b batch.Batch, g Guard) error {
	id, epoch := b.ProducerID(), b.ProducerEpoch()
	if l.inTransaction(id, epoch) {
		return nil
	}
	v := l.verifying[id]
	if !guard.Check("log.unverified", v != nil && v.guard == g && v.epoch == epoch) {
		return fmt.Errorf("producer %d, epoch %d: %w", id, epoch, ErrUnverified)
	}
	if v != nil && !l.producers.sentIn(id, epoch) && !guard.Check("log.lowest-sequence", b.BaseSequence() <= v.lowest) {
		return fmt.Errorf("producer %d sends sequence %d, %d was seen before: %w", id, b.BaseSequence(), v.lowest, ErrOutOfOrderSequence)
	}
	return nil
}

// counted reports whether a producer has its place among those that there may be, of
// its own or by a verification. l.mu is held.
func (l *Log) counted(producerID int64) bool {
	v := l.verifying[producerID]
	return l.producers[producerID] != nil || v != nil && v.counted
}

// handOver gives a producer, which is remembered from here on, the place that its
// verification has. l.mu is held, or the log is being recovered.
func (l *Log) handOver(producerID int64) {
	if l.producers == nil {
		l.producers = producers{}
	}
	if v := l.verifying[producerID]; v != nil {
		v.counted = false
	}
}

// endVerification forgets a verification: its transaction is open now, or, with a
// marker, it ended. One that was begun under the epoch that a marker has raised
// the producer to is of the transaction after. l.mu is held.
func (l *Log) endVerification(producerID int64, by *Marker) {
	v := l.verifying[producerID]
	if v == nil || by != nil && by.TransactionVersion >= bumpedEpochs && v.epoch >= by.ProducerEpoch {
		return
	}
	l.dropVerification(producerID)
}

// dropVerification forgets one that there is. l.mu is held.
func (l *Log) dropVerification(producerID int64) {
	if l.verifying[producerID].counted {
		l.uncountProducers(1)
	}
	delete(l.verifying, producerID)
}

// endVerifications forgets all that were begun before millis. l.mu is held.
func (l *Log) endVerifications(before int64) {
	for id, v := range l.verifying {
		if v.millis < before {
			l.dropVerification(id)
		}
	}
}
