package rustmq

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Result of one record: nil Err means that it was delivered, and Record has its
// partition, offset and timestamp.
type Result = kgo.ProduceResult

// Results of several, in the order in which they were answered.
type Results []Result

// Err is the first error of all, nil where there is none.
func (rs Results) Err() error {
	for _, r := range rs {
		if r.Err != nil {
			return r.Err
		}
	}
	return nil
}

// Produce sends a record, and calls done with its result, on a goroutine that done must
// not block; done may be nil. It blocks while the buffer is full ([WithBufferedBytes]).
// ctx is for the record as a whole: one whose context ends before its result fails with
// the context's error. The record is not to be touched before done.
func (c *Client) Produce(ctx context.Context, r *Record, done func(*Record, error)) {
	if !c.admit(ctx, r, done) {
		return
	}
	c.bound(ctx, r)
	c.kafka.Produce(ctx, r, done)
}

// TryProduce is [Client.Produce], but fails with kgo.ErrMaxBuffered where that blocks.
func (c *Client) TryProduce(ctx context.Context, r *Record, done func(*Record, error)) {
	if !c.admit(ctx, r, done) {
		return
	}
	c.bound(ctx, r)
	c.kafka.TryProduce(ctx, r, done)
}

// ProduceSync sends records and waits for the results of all, or for the end of ctx:
// records that have no result by then fail with its error, and may be written all the same.
func (c *Client) ProduceSync(ctx context.Context, rs ...*Record) Results {
	return produceAll(ctx, rs, c.Produce)
}

// produceAll hands copies of records to produce, so that it need not wait for those that it
// gives up, and notes their results in the records.
func produceAll(ctx context.Context, rs []*Record, produce func(context.Context, *Record, func(*Record, error))) Results {
	type answer struct {
		i    int
		sent *Record
		err  error
	}
	answers := make(chan answer, len(rs))
	for i, r := range rs {
		sent := *r
		produce(ctx, &sent, func(sent *Record, err error) { answers <- answer{i, sent, err} })
	}
	results, answered := make(Results, 0, len(rs)), make([]bool, len(rs))
	for len(results) < len(rs) {
		select {
		case a := <-answers:
			a.sent.Context = rs[a.i].Context
			*rs[a.i], answered[a.i] = *a.sent, true
			results = append(results, Result{Record: rs[a.i], Err: a.err})
		case <-ctx.Done():
			for i, r := range rs {
				if !answered[i] {
					results = append(results, Result{Record: r, Err: ctx.Err()})
				}
			}
		}
	}
	return results
}

// Flush waits for the results of all records produced so far.
func (c *Client) Flush(ctx context.Context) error { return c.kafka.Flush(ctx) }

// admit lets a record pass, or answers it.
func (c *Client) admit(ctx context.Context, r *Record, done func(*Record, error)) bool {
	if b := c.deliveries.breaker; b != nil && !b.allow() {
		if done != nil {
			done(r, ErrBreakerOpen)
		}
		return false
	}
	if inject := c.config.hooks.Inject; inject != nil {
		inject(ctx, r)
	}
	return true
}

// bound gives a record its deadline, and the values of the caller's context where
// somebody looks at them.
func (c *Client) bound(ctx context.Context, r *Record) {
	now := time.Now()
	if r.Timestamp.IsZero() {
		r.Timestamp = now
	}
	in := c.windows.at(now)
	if partition, ok := partitionOf(r); ok {
		r.Context = &bounded{in, ctx, partition}
	} else if c.deliveries.sent != nil {
		r.Context = &bounded{in, ctx, -1}
	} else {
		r.Context = in
	}
}

// deliveries hears of each record's result from franz-go.
type deliveries struct {
	breaker *breaker // nil: there is none
	sent    func(context.Context, *Record, time.Duration, error)

	unanswered bool // acks are AcksNone: to be written is all there is

	answered atomic.Int64 // unix nanoseconds of the last answer to produce; 0: none
	last     atomic.Int64 // that of the last delivery; 0: none
	failed   atomic.Int64 // in a row, where there is no breaker
	err      atomic.Pointer[error]
}

func newDeliveries(c *config) (*deliveries, error) {
	d := &deliveries{sent: c.hooks.Sent, unanswered: c.acks == AcksNone}
	if c.breaker != nil {
		var err error
		if d.breaker, err = newBreaker(*c.breaker, time.Now); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// OnBrokerRead is called by franz-go with each answer, before the records' results: a clock is read
// once for all of them.
func (d *deliveries) OnBrokerRead(_ kgo.BrokerMetadata, key int16, _ int, _, _ time.Duration, err error) {
	if key == int16(kmsg.Produce) && err == nil {
		d.answered.Store(time.Now().UnixNano())
	}
}

// OnBrokerWrite is called by franz-go with each request, of which some are not answered.
func (d *deliveries) OnBrokerWrite(_ kgo.BrokerMetadata, key int16, _ int, _, _ time.Duration, err error) {
	if d.unanswered && key == int16(kmsg.Produce) && err == nil {
		d.answered.Store(time.Now().UnixNano())
	}
}

// OnProduceRecordUnbuffered is called by franz-go.
func (d *deliveries) OnProduceRecordUnbuffered(r *Record, err error) {
	o := outcomeOf(err)
	switch o {
	case delivered:
		if d.failed.Load() != 0 {
			d.failed.Store(0)
		}
	case undelivered:
		d.failed.Add(1)
		d.keep(err)
	}
	if d.breaker != nil {
		d.breaker.done(o)
	}
	if o == delivered {
		if at := d.answered.Load(); d.last.Load() != at {
			d.last.Store(at)
		}
	}
	if d.sent != nil {
		var took time.Duration
		if !r.Timestamp.IsZero() {
			took = max(0, time.Since(r.Timestamp))
		}
		ctx := r.Context
		if ctx == nil {
			ctx = context.Background()
		}
		d.sent(ctx, r, took, err)
	}
}

// keep is apart so that an error is on the heap only where there is one.
func (d *deliveries) keep(err error) { d.err.Store(&err) }

func (d *deliveries) view(h *Health) {
	h.Failed = int(d.failed.Load())
	if d.breaker != nil {
		h.Breaker, h.Failed = d.breaker.view()
	}
	if at := d.last.Load(); at != 0 {
		h.LastDelivered = time.Unix(0, at)
	}
	if err := d.err.Load(); err != nil {
		h.LastError = *err
	}
}

// outcomeOf says what an error tells of the brokers.
func outcomeOf(err error) outcome {
	switch {
	case err == nil:
		return delivered
	case errors.Is(err, context.Canceled), errors.Is(err, kgo.ErrMaxBuffered), errors.Is(err, kgo.ErrAborting), errors.Is(err, kgo.ErrClientClosed):
		return neither
	}
	var protocol *kerr.Error
	if errors.As(err, &protocol) && !protocol.Retriable && !errors.Is(err, kerr.UnknownServerError) {
		return neither // the record, the topic or the user is refused: brokers are well
	}
	return undelivered
}

type pinnedKey struct{}

// Pin has a record go to a partition, whatever its key, and returns it.
func Pin(r *Record, partition int32) *Record {
	ctx := r.Context
	if ctx == nil {
		ctx = context.Background()
	}
	r.Context = context.WithValue(ctx, pinnedKey{}, partition)
	return r
}

func partitionOf(r *Record) (int32, bool) {
	if r.Context == nil {
		return 0, false
	}
	partition, ok := r.Context.Value(pinnedKey{}).(int32)
	return partition, ok
}

// pinned is franz-go's default partitioner, which sends keys where Kafka's Java client
// sends them, but sends pinned records where they are to go.
type pinned struct{ inner kgo.Partitioner }

func newPinned() pinned { return pinned{kgo.UniformBytesPartitioner(64<<10, true, true, nil)} }

// ForTopic is called by franz-go.
func (p pinned) ForTopic(topic string) kgo.TopicPartitioner {
	return pinnedTopic{p.inner.ForTopic(topic).(kgo.TopicBackupPartitioner)}
}

type pinnedTopic struct{ kgo.TopicBackupPartitioner }

// RequiresConsistency is called by franz-go.
func (p pinnedTopic) RequiresConsistency(r *Record) bool {
	_, ok := partitionOf(r)
	return ok || p.TopicBackupPartitioner.RequiresConsistency(r)
}

// PartitionByBackup is called by franz-go; a partition that is not there fails the record.
func (p pinnedTopic) PartitionByBackup(r *Record, n int, backup kgo.TopicBackupIter) int {
	if partition, ok := partitionOf(r); ok {
		return int(partition)
	}
	return p.TopicBackupPartitioner.PartitionByBackup(r, n, backup)
}
