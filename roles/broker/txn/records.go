package txn

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/twmb/franz-go/pkg/kbin"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/guard"
)

// Versions of the records written, those of Kafka 4.
const (
	keyVersion   = 0
	valueVersion = 1
)

var (
	errShort = errors.New("shorter than its version is")
	errLong  = errors.New("longer than its version is")
	errTags  = errors.New("more tagged fields than bytes")
)

// RecordError is a record of the topic that cannot be read.
type RecordError struct {
	Partition int32
	Offset    storage.Offset
	Err       error
}

// Error names the record.
func (e *RecordError) Error() string {
	return fmt.Sprintf("record at offset %d of %s-%d: %v", e.Offset, Topic, e.Partition, e.Err)
}

// Unwrap returns what is wrong with it.
func (e *RecordError) Unwrap() error { return e.Err }

func idKey(id string) []byte {
	k := kmsg.TxnMetadataKey{Version: keyVersion, TransactionalID: id}
	return k.AppendTo(nil)
}

func encode(m *metadata) []byte {
	v := kmsg.TxnMetadataValue{
		Version: valueVersion, ProducerID: m.producerID, ProducerEpoch: m.epoch,
		TimeoutMillis: int32(m.timeout.Milliseconds()), State: kmsg.TransactionState(m.state),
		LastUpdateTimestamp: m.updated, StartTimestamp: m.started,
		PreviousProducerID: m.previousID, NextProducerID: m.nextID, ClientTransactionVersion: m.version,
		NextProducerEpoch: noProducerEpoch, // of two-phase commits (KIP-939)
	}
	if m.state != Empty {
		v.Topics = []kmsg.TxnMetadataValueTopic{}
	}
	for _, p := range m.sorted() {
		if n := len(v.Topics); n == 0 || v.Topics[n-1].Topic != p.Topic {
			v.Topics = append(v.Topics, kmsg.TxnMetadataValueTopic{Topic: p.Topic})
		}
		last := &v.Topics[len(v.Topics)-1]
		last.Partitions = append(last.Partitions, p.Index)
	}
	return v.AppendTo(nil)
}

// Replay applies a record of the log, in the log's order, before the first step.
func (c *Core) Replay(key, value []byte) error {
	if len(key) < 2 {
		return fmt.Errorf("key: %w", errShort)
	}
	if binary.BigEndian.Uint16(key) != keyVersion {
		c.skips++
		return nil
	}
	var k kmsg.TxnMetadataKey
	if err := k.ReadFrom(key); !guard.Check("txn.record-decodes", err == nil) {
		return fmt.Errorf("key: %w", err)
	}
	t := c.ids[k.TransactionalID]
	if value == nil {
		if t != nil {
			t.recorded = false
			c.dropIfBare(t)
		}
		return nil
	}
	m, err := decode(value)
	if !guard.Check("txn.record-decodes", err == nil) {
		return fmt.Errorf("transactional id %q: %w", k.TransactionalID, err)
	}
	if t == nil {
		t = c.make(k.TransactionalID, m.producerID)
	}
	t.recorded, t.metadata = true, m
	c.count(t)
	return nil
}

// decode reads a value. It trusts no length in it.
func decode(value []byte) (metadata, error) {
	m := begun(noProducerID)
	r := kbin.Reader{Src: value}
	version := r.Int16()
	if r.Ok() && (version < 0 || version > valueVersion) {
		return m, fmt.Errorf("version %d, known are 0 to %d", version, valueVersion)
	}
	flexible := version >= 1
	m.producerID, m.epoch = r.Int64(), r.Int16()
	m.timeout = time.Duration(r.Int32()) * time.Millisecond
	m.state = State(r.Int8())
	for range arrayLen(&r, flexible) {
		topic := ""
		if flexible {
			topic = r.CompactString()
		} else {
			topic = r.String()
		}
		for range arrayLen(&r, flexible) {
			index := r.Int32()
			if !r.Ok() {
				return m, errShort
			}
			if m.partitions == nil {
				m.partitions = map[Partition]bool{}
			}
			m.partitions[Partition{topic, index}] = true
		}
		if flexible {
			if err := readTags(&r, func(uint32, *kbin.Reader) {}); err != nil {
				return m, err
			}
		}
		if !r.Ok() {
			return m, errShort
		}
	}
	m.updated, m.started = r.Int64(), r.Int64()
	if flexible {
		if err := readTags(&r, m.readTag); err != nil {
			return m, err
		}
	}
	if err := r.Complete(); err != nil {
		return m, err
	}
	if len(r.Src) > 0 {
		return m, errLong
	}
	switch {
	case m.state < Empty || m.state > CompleteAbort:
		return m, fmt.Errorf("state %d, on record are %d to %d", m.state, Empty, CompleteAbort)
	case m.producerID < 0 || m.epoch < 0 || m.timeout < 0 || m.nextID < noProducerID:
		return m, fmt.Errorf("producer id %d, then %d, epoch %d, time-out %v", m.producerID, m.nextID, m.epoch, m.timeout)
	}
	m.inferLast()
	return m, nil
}

// inferLast finds the epoch that the producer had before, where the record tells:
// a producer that has not heard how its transaction ended names it. Of one that
// began it does not tell: that may have been another producer, which has fenced
// the one before off.
func (m *metadata) inferLast() {
	switch {
	case m.version < bumpsEpochs || m.state == Empty || m.state == Ongoing:
	case m.previousID != m.producerID && m.epoch == 0:
		m.lastEpoch = math.MaxInt16 - 1
	case m.epoch > 0:
		m.lastEpoch = m.epoch - 1
	}
}

func (m *metadata) readTag(tag uint32, r *kbin.Reader) {
	switch tag {
	case 0:
		m.previousID = r.Int64()
	case 1:
		m.nextID = r.Int64()
	case 2:
		m.version = r.Int16()
	}
}

// arrayLen reads how many elements follow, none for null. The reader refuses more
// than there are bytes.
func arrayLen(r *kbin.Reader, flexible bool) int32 {
	if flexible {
		return max(0, r.CompactArrayLen())
	}
	return max(0, r.ArrayLen())
}

// readTags reads tagged fields; take gets a reader of each one's bytes.
func readTags(r *kbin.Reader, take func(tag uint32, r *kbin.Reader)) error {
	n := r.Uvarint()
	if uint64(n) > uint64(len(r.Src)) {
		return errTags
	}
	for range n {
		tag, size := r.Uvarint(), r.Uvarint()
		if !r.Ok() || uint64(size) > uint64(len(r.Src)) {
			return errShort
		}
		field := kbin.Reader{Src: r.Span(int(size))}
		take(tag, &field)
		if !field.Ok() {
			return errShort
		}
	}
	return nil
}
