package rustmq

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// expectHeader names the offset that a record is to get.
const expectHeader = "rustmq.expect.offset"

// conditional appends records one by one, each in a batch of its own, as a condition is
// of a batch: it has a franz-go client for it alone.
type conditional struct {
	turn  chan struct{} // one append at a time, until it is answered; made with the client
	ended chan struct{} // closed by close

	mu     sync.Mutex
	client *kgo.Client
}

func (c *conditional) open() { c.turn, c.ended = make(chan struct{}, 1), make(chan struct{}) }

// close fails what is under way.
func (c *conditional) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	close(c.ended)
	if c.client != nil {
		c.client.Close()
	}
}

// producer is the client of appends, which the first makes.
func (c *conditional) producer(make func() (*kgo.Client, error)) (_ *kgo.Client, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case <-c.ended:
		return nil, ErrClosed
	default:
	}
	if c.client == nil {
		c.client, err = make()
	}
	return c.client, err
}

// AppendAt appends the record to its partition, r.Partition, if that ends at offset,
// and fails with a *[ConditionError] otherwise: of writers that expect the same offset one
// succeeds. The topic has to have rustmq.expect.offset=true; docs/conditional-append.md.
// Appends of one client wait for each other. After another error, such as a time-out, the
// record may be there: read on, and look.
func (c *Client) AppendAt(ctx context.Context, r *Record, offset int64) error {
	if offset < 0 {
		return fmt.Errorf("rustmq: append at offset %d: want 0 or more", offset)
	}
	for _, h := range r.Headers {
		if h.Key == expectHeader {
			return fmt.Errorf("rustmq: the record has a header %s already", expectHeader)
		}
	}
	own := &c.conditional
	select {
	case own.turn <- struct{}{}:
	case <-own.ended:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	producer, err := own.producer(func() (*kgo.Client, error) {
		opts := append(c.config.producing(), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(0), kgo.WithHooks(c.deliveries))
		if c.config.acks == AcksAll {
			opts = append(opts, kgo.AllowIdempotentProduceCancellation())
		}
		return c.newKafka(opts...)
	})
	if err != nil {
		<-own.turn
		return err
	}
	if !c.admit(ctx, r, nil) {
		<-own.turn
		return ErrBreakerOpen
	}
	partition := r.Partition
	sent := *r
	sent.Headers = append(append([]Header(nil), r.Headers...), Header{Key: expectHeader, Value: strconv.AppendInt(nil, offset, 10)})
	sent.Context = &bounded{c.windows.at(time.Now()), ctx, partition}
	answered := make(chan error, 1)
	producer.Produce(ctx, &sent, func(_ *Record, err error) {
		answered <- err
		<-own.turn
	})
	select {
	case err = <-answered:
		r.Offset, r.Timestamp, r.LeaderEpoch = sent.Offset, sent.Timestamp, sent.LeaderEpoch
	case <-ctx.Done():
		err = ctx.Err()
	}
	switch {
	case errors.Is(err, kerr.PolicyViolation):
		return &ConditionError{Topic: r.Topic, Partition: partition, Expected: offset, End: c.end(ctx, r.Topic, partition)}
	case err != nil:
		return fmt.Errorf("rustmq: append to %s/%d at offset %d: %w", r.Topic, partition, offset, err)
	case r.Offset != offset:
		return fmt.Errorf("rustmq: %s/%d took the record at offset %d, and not at %d, for it looks at no conditions: set rustmq.expect.offset=true of the topic", r.Topic, partition, r.Offset, offset)
	}
	return nil
}

// end is where a partition ends, -1 where that is not known.
func (c *Client) end(ctx context.Context, topic string, partition int32) int64 {
	listed, err := kadm.NewClient(c.kafka).ListEndOffsets(ctx, topic)
	if err != nil {
		return -1
	}
	o, ok := listed.Lookup(topic, partition)
	if !ok || o.Err != nil {
		return -1
	}
	return o.Offset
}
