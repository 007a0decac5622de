package rustmq

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// expectHeader names the offset that a record is to get.
const expectHeader = "rustmq.expect.offset"

// conditional appends records one by one, each in a batch of its own, as a condition is
// of a batch: it has a franz-go client for it alone.
type conditional struct {
	mu     sync.Mutex // one append at a time
	client *kgo.Client
	ended  bool
}

func (c *conditional) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	if c.client != nil {
		c.client.Close()
	}
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
	c.conditional.mu.Lock()
	defer c.conditional.mu.Unlock()
	if c.conditional.ended {
		return ErrClosed
	}
	if c.conditional.client == nil {
		opts := append(c.config.producing(), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(0),
			kgo.RequiredAcks(kgo.AllISRAcks()), kgo.RecordDeliveryTimeout(c.config.deliveryTimeout), kgo.WithHooks(c.hooks))
		if c.config.acks == AcksAll {
			opts = append(opts, kgo.AllowIdempotentProduceCancellation())
		}
		var err error
		if c.conditional.client, err = c.newKafka(opts...); err != nil {
			return err
		}
	}
	if !c.admit(ctx, r, nil) {
		return ErrBreakerOpen
	}
	partition := r.Partition
	r.Headers = append(r.Headers, Header{Key: expectHeader, Value: strconv.AppendInt(nil, offset, 10)})
	err := c.conditional.client.ProduceSync(ctx, r).FirstErr()
	r.Headers = r.Headers[:len(r.Headers)-1]
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
