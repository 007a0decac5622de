package broker

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"rustmq.dev/rustmq/etl/pipeline"
	"rustmq.dev/rustmq/roles/broker/quota"
	"rustmq.dev/rustmq/roles/broker/wire"
	"rustmq.dev/rustmq/security/acl"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/guard"
	"rustmq.dev/rustmq/storage/log"
	"rustmq.dev/rustmq/transport/kafka"
)

const (
	acksNone = 0
	acksAll  = -1
)

// produceRequest is a Produce request between its arrival and its answer. It is
// pooled, with all that it needs, so that a request allocates nothing.
type produceRequest struct {
	b       *Broker
	r       *kafka.Request
	q       wire.ProduceRequest
	parts   []producePart // one for each of q.Partitions
	results []wire.ProduceResult
	begun   time.Time     // when it was
	timed   bool          // waited is wanted
	waited  time.Duration // for room in the WAL, in lanes, and to expand in, by the goroutine that starts the parts
	left    atomic.Int32  // parts without a result, and one for the goroutine that starts them
	asks    *asking       // what is to be asked of a transaction's coordinator; nil: nothing
	hints   hints
	body    []byte    // of the response
	bufs    [1][]byte // body, as the transport takes it
	free    func()    // puts the request back into the pool
	waits   func()    // asks for what is parked, before a wait
}

// producePart receives the result of one partition, on the WAL's committer.
type producePart struct {
	request   *produceRequest
	index     int // in the request
	partition *partition
	err       error
	appended  time.Time // when it began to be; zero: it was refused before
	synced    time.Time // when it was on disk here; zero: it was not waited for
	acked     time.Time // when nothing was waited for any more; of what is traced
	modules   []TracedModule
}

var producePool sync.Pool // of *produceRequest

func newProduceRequest(b *Broker, r *kafka.Request) *produceRequest {
	p, ok := producePool.Get().(*produceRequest)
	if !ok {
		p = new(produceRequest)
		p.free, p.waits = p.recycle, p.askParked
	}
	p.b, p.r = b, r
	b.requests.Add(1)
	return p
}

// Requests beyond this size leave the pool: they are rare, and large.
const maxPooledPartitions = 4096

func (p *produceRequest) recycle() {
	if cap(p.parts) > maxPooledPartitions {
		return
	}
	clear(p.parts)
	clear(p.results)
	clear(p.q.Topics)
	clear(p.q.Partitions)
	p.b, p.r, p.hints, p.asks = nil, nil, hints{}, nil
	producePool.Put(p)
}

// produce starts the appends of a request, in order of its partitions. It waits
// only for room, in the WAL, in lanes and to expand batches in, which holds back whoever
// sends on this connection.
func (b *Broker) produce(r *kafka.Request) (waited time.Duration) {
	p := newProduceRequest(b, r)
	if err := p.q.Parse(r.Version, r.Body); err != nil {
		r.Close(err)
		b.requests.Done()
		p.recycle()
		return 0
	}
	n := len(p.q.Partitions)
	p.parts = resized(p.parts, n)
	p.results = resized(p.results, n)
	p.left.Store(int32(n) + 1)
	p.timed, p.waited = !b.quotas.Empty(), 0
	memo := b.memo(r)
	refused := p.refusal()
	if memo != nil && refused == nil {
		if refused = p.refusedID(memo); refused != nil {
			b.denied(r, acl.Write, acl.TransactionalID, string(p.q.TransactionalID))
		}
	}
	now := b.opt.Now()
	p.begun = now
	next := 0
	for i := range p.q.Topics {
		t := &p.q.Topics[i]
		found, unknown := b.producedTopic(t, p.q.Version)
		for range t.Partitions {
			part := &p.parts[next]
			part.request, part.index = p, next
			err := refused
			if err == nil && memo != nil && !mayProduce(memo, t, found) {
				err = kerr.TopicAuthorizationFailed
				b.denied(r, acl.Write, acl.Topic, producedName(t, found))
			}
			if err == nil && found == nil {
				err = unknown
			}
			if err == nil && !guard.Check("broker.produce-internal", !found.internal) {
				err = errInternalTopic
			}
			if err == nil {
				err = part.start(found, &p.q.Partitions[next], now)
			}
			if err != nil {
				part.fail(err)
			}
			next++
		}
	}
	p.askParked()
	waited = p.waited
	p.finished() // p may be gone
	return waited
}

// refusal reports why the whole request is refused.
func (p *produceRequest) refusal() error {
	if p.q.Acks < acksAll || p.q.Acks > 1 {
		return kerr.InvalidRequiredAcks
	}
	return nil
}

// refusedID refuses a request that brings a batch of a transaction whose id the client may
// not write under.
func (p *produceRequest) refusedID(memo *acl.Memo) error {
	own := bytes.HasPrefix(p.q.TransactionalID, []byte(pipeline.ClientPrefix))
	if !p.q.Transactional || guard.Check("broker.produce-id", memo.AllowedID(p.q.TransactionalID, acl.Write)) && (!own || mayDeploy(memo.Client())) {
		return nil
	}
	for i := range p.q.Partitions {
		if isTransactional(p.q.Partitions[i].Records) {
			return kerr.TransactionalIDAuthorizationFailed
		}
	}
	return nil
}

// mayProduce reports whether the client may write to a topic, there or not. Of an id that
// nobody knows it says nothing.
func mayProduce(memo *acl.Memo, t *wire.ProduceTopic, found *topic) bool {
	switch {
	case found != nil:
		return guard.Check("broker.produce-authorised", memo.Allowed(found.key, found.name, acl.Write))
	case t.Name == nil:
		return true
	}
	return memo.Client().Allowed(acl.Write, acl.Topic, string(t.Name))
}

// producedName is the name of a topic that is written to, there or not.
func producedName(t *wire.ProduceTopic, found *topic) string {
	if found != nil {
		return found.name
	}
	return string(t.Name)
}

func (b *Broker) producedTopic(t *wire.ProduceTopic, version int16) (*topic, error) {
	if version <= 12 {
		return b.table.byName(t.Name), errUnknownTopic
	}
	return b.table.byID(t.ID), kerr.UnknownTopicID
}

// start appends what the request brings for the partition, or has it transformed first.
// After nil, Appended is called once, or fail.
func (part *producePart) start(t *topic, q *wire.ProducePartition, now time.Time) error {
	p := part.request
	part.partition = t.partition(q.Index)
	if part.partition == nil {
		return errUnknownTopic
	}
	if _, _, err := part.partition.leading(); err != nil {
		return err
	}
	if len(q.Records) == 0 {
		return kerr.InvalidRecord
	}
	if err := oneNewBatch(q.Records); err != nil {
		return err
	}
	if isTransactional(q.Records) && !p.q.Transactional {
		return kerr.TransactionalIDAuthorizationFailed
	}
	if p.q.Version < zstdProduce && len(q.Records) >= batch.HeaderSize && batch.Batch(q.Records).Codec() == batch.Zstd {
		return kerr.UnsupportedCompressionType
	}
	l, r, err := part.takes(p.q.Acks, q.Records, now)
	if err != nil {
		return err
	}
	if p.b.pipelineOf(t) != nil || part.partition.inLane() {
		return part.enterLane(t, q.Records)
	}
	records, transcoded, err := l.Transcode(p.r.Context(), q.Records, p.waits)
	p.waited += transcoded.Waited
	if err != nil {
		return err
	}
	if err := p.admit(len(records)); err != nil {
		transcoded.Release()
		l.Refused(q.Records, err)
		return err
	}
	admitted := admittedBatch{part: part, log: l, epoch: r.epoch, now: now, records: records, transcoded: transcoded}
	if isTransactional(records) {
		p.asks, err = admitted.inTransaction(p.asks)
		return err
	}
	admitted.append()
	return nil
}

// takes returns the log to append a batch to, unless it takes none now.
func (part *producePart) takes(acks int16, records []byte, now time.Time) (*log.Log, *role, error) {
	b := part.request.b
	l, r, err := part.partition.leading()
	switch {
	case err != nil:
	case !b.mayAnswer(part.partition, r, acks):
		err = errLeaseOut
	case part.partition.heldUp(r):
		err = errFollowerFull
		l.Refused(records, err)
	case r.awaitsBucket && b.bucketAway(l, now):
		err = errBucketAway
		l.Refused(records, err)
	}
	return l, r, err
}

// mayAnswer reports whether appends of those acks are answered by who leads under r.
func (b *Broker) mayAnswer(p *partition, r *role, acks int16) bool {
	return acks == acksAll && !r.awaitsBucket || b.leased(p, r)
}

// admit waits until the WAL has room for n bytes. What waits for the coordinator's word
// holds its room until then, so that this is asked for before: or the request waits for
// itself, or several for each other, and with them every other producer.
func (p *produceRequest) admit(n int) error {
	if p.asks.pending() {
		if p.b.store.TryAdmit(n) {
			return nil
		}
		p.askParked()
	}
	if !p.timed {
		return p.b.store.Admit(p.r.Context(), n)
	}
	begun := p.b.opt.Now()
	err := p.b.store.Admit(p.r.Context(), n)
	p.waited += p.b.opt.Now().Sub(begun)
	return err
}

// oneNewBatch refuses what is not one batch of the format of today, whole, and of no
// offsets yet. What is wrong in it is found where it is validated. Kafka calls these
// INVALID_RECORD, which no client tries again, and not a corruption.
func oneNewBatch(records []byte) error {
	const atBaseOffset, atLength, prefix, atMagic, today = 0, 8, 12, 16, 2
	if len(records) < batch.HeaderSize {
		return explained{kerr.InvalidRecord, fmt.Sprintf("%d bytes are no batch", len(records))}
	}
	if records[atMagic] < today {
		return explained{kerr.InvalidRecord, fmt.Sprintf("a batch of version %d", records[atMagic])}
	}
	if length := int64(int32(binary.BigEndian.Uint32(records[atLength:]))); length+prefix > int64(len(records)) {
		return explained{kerr.InvalidRecord, fmt.Sprintf("a batch of %d bytes, of which %d are there", length+prefix, len(records))}
	}
	if offset := int64(binary.BigEndian.Uint64(records[atBaseOffset:])); offset != 0 {
		return explained{kerr.InvalidRecord, fmt.Sprintf("a producer's batch begins at offset 0, not %d", offset)}
	}
	return nil
}

// Appended takes the result of the append, on the committer's goroutine.
func (part *producePart) Appended(result log.AppendResult) {
	if result.Err != nil {
		part.fail(result.Err)
		return
	}
	p := part.request
	i := part.index
	part.synced = result.Synced
	if p.b.opt.Tracer != nil {
		part.acked = p.b.opt.Now()
	}
	p.results[i] = wire.ProduceResult{
		BaseOffset:    result.Base,
		LogAppendTime: result.LogAppendTime,
		LogStart:      result.LogStart,
	}
	if !result.Duplicate {
		bytes, records := len(p.q.Partitions[i].Records), int(result.Last-result.Base)+1
		p.b.metrics.produced(bytes, records)
		counts := &part.partition.topic.counts
		counts.producedBytes.Add(int64(bytes))
		counts.producedRecords.Add(int64(records))
		p.b.servedProduce()
		part.partition.passed.Add(int64(len(p.q.Partitions[i].Records)))
	}
	p.finished()
}

func (part *producePart) fail(err error) {
	p := part.request
	part.err = err
	p.b.refusedProduce(part, err)
	p.results[part.index] = wire.ProduceResult{
		ErrorCode: code(err), BaseOffset: storage.NoOffset, LogAppendTime: noTimestamp, LogStart: storage.NoOffset,
	}
	p.finished()
}

// finished counts a result. The last one sends the answer.
func (p *produceRequest) finished() {
	if p.left.Add(-1) > 0 {
		return
	}
	b := p.b // p is gone once it is answered
	defer b.requests.Done()
	now := b.opt.Now()
	b.metrics.answered(p.r.Key, now.Sub(p.r.Received))
	p.observe(now)
	wait := b.throttled(p.r, quota.Produce, now, len(p.r.Body))
	if p.q.Acks == acksNone {
		p.finishUnacked()
		return
	}
	if p.q.Version >= 10 {
		p.findLeaders()
	}
	if p.q.Version >= 8 {
		p.explain()
	}
	p.body = wire.AppendProduceResponse(p.body[:0], &p.q, p.results, max(wait, b.throttle.millis(now), p.slowedBy()), p.hints.endpoints)
	p.bufs[0] = p.body
	p.r.RespondRaw(p.bufs[:], p.free)
}

// finishUnacked ends a request that is not answered. Closing the connection is
// the only way to tell the client of an error.
func (p *produceRequest) finishUnacked() {
	for i := range p.parts {
		if err := p.parts[i].err; err != nil {
			p.r.Close(fmt.Errorf("produce with acks=0 to partition %d: %w", p.q.Partitions[i].Index, err))
			p.recycle()
			return
		}
	}
	p.r.Drop()
	p.recycle()
}

// findLeaders tells, for what came to the wrong broker, where the right one is.
func (p *produceRequest) findLeaders() {
	for i := range p.parts {
		if p.results[i].ErrorCode != kerr.NotLeaderForPartition.Code {
			continue
		}
		if p.hints.image == nil {
			p.hints = p.b.hintsFor(p.r)
		}
		role := p.parts[i].partition.role.Load()
		p.results[i].Leader = p.hints.leader(role.leader, role.epoch)
	}
}

// explain gives refused batches a message, and those with bad records their places.
func (p *produceRequest) explain() {
	for i := range p.parts {
		err := p.parts[i].err
		if err == nil {
			continue
		}
		p.results[i].Message = message(err)
		var blamed []batch.RecordError
		if refused, ok := errors.AsType[*batch.Error](err); ok {
			blamed = refused.Records
		} else if refused, ok := errors.AsType[*pipeline.Refusal](err); ok {
			blamed = refused.Records
		}
		for _, r := range blamed {
			p.results[i].Records = append(p.results[i].Records, wire.RecordError{Index: int32(r.Index), Message: r.Reason})
		}
	}
}

// resized returns a slice of n zero elements, s's memory if it is enough.
func resized[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n)
	}
	s = s[:n]
	clear(s)
	return s
}
