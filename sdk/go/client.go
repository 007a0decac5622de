package rustmq

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"rustmq.dev/rustmq/sdk/go/transport"
)

type (
	// Record is what is produced and consumed. It is franz-go's: of a record to be
	// produced Partition is ignored, unless it is pinned ([Pin]).
	Record = kgo.Record
	// Header of a record.
	Header = kgo.RecordHeader
)

// Client is a way to a cluster. Producers, consumers and admin share what was set for it.
type Client struct {
	config     *config
	kafka      *kgo.Client // produces, and asks
	deliveries *deliveries

	windows windows

	dial *transport.Dialer

	conditional conditional
	transacting transacting

	mu     sync.Mutex
	closed bool
	inner  map[*kgo.Client]struct{} // of consumers and processors, ended with the client
}

// New makes a client. It dials nobody yet: see [Client.Ping].
func New(opts ...Option) (*Client, error) {
	config, err := newConfig(opts)
	if err != nil {
		return nil, err
	}
	c := &Client{config: config, inner: map[*kgo.Client]struct{}{}}
	c.windows.timeout = config.deliveryTimeout
	c.conditional.open()
	c.transacting.turn = make(chan struct{}, 1)
	way := transport.Options{Mode: config.transport, Log: config.log}
	if config.tls != nil {
		keys, err := newCredentials(*config.tls)
		if err != nil {
			return nil, err
		}
		way.Reload, way.PlainTCP = keys.config, config.tls.QUICOnly
	}
	c.dial = transport.New(way)
	if c.deliveries, err = newDeliveries(config); err != nil {
		return nil, errors.Join(err, c.dial.Close())
	}
	produce := append(config.producing(), kgo.RecordPartitioner(newPinned()), kgo.WithHooks(c.deliveries))
	if config.acks == AcksAll {
		// Or a record would outlive its time-out, and its context, where a broker has it
		// and has gone silent.
		produce = append(produce, kgo.AllowIdempotentProduceCancellation())
	}
	c.kafka, err = c.newKafka(produce...)
	if err != nil {
		return nil, errors.Join(err, c.dial.Close())
	}
	return c, nil
}

// newKafka makes a franz-go client of this one's way to the brokers.
func (c *Client) newKafka(opts ...kgo.Opt) (*kgo.Client, error) {
	all := append(c.config.base(c.dial), opts...)
	cl, err := kgo.NewClient(append(all, c.config.extra...)...)
	if err != nil {
		return nil, fmt.Errorf("rustmq: %w", err)
	}
	return cl, nil
}

// adopt has cl end with the client; it fails where that has ended.
func (c *Client) adopt(cl *kgo.Client) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return ErrClosed
	}
	c.inner[cl] = struct{}{}
	return nil
}

func (c *Client) disown(cl *kgo.Client) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.inner, cl)
}

// Kafka is the franz-go client beneath, for what is not wrapped. It is not to be closed.
func (c *Client) Kafka() *kgo.Client { return c.kafka }

// Admin administers the cluster.
func (c *Client) Admin() *Admin {
	return &Admin{kafka: kadm.NewClient(c.kafka), requests: c.kafka, target: c.config.admin}
}

// Ping asks a broker for an answer.
func (c *Client) Ping(ctx context.Context) error {
	if err := c.kafka.Ping(ctx); err != nil {
		return fmt.Errorf("rustmq: no broker answers at %v: %w", c.config.brokers, err)
	}
	return nil
}

// Close fails what is still buffered (see [Client.Flush]), ends the consumers that
// were not closed, and closes all connections. It waits for a transaction that is under way.
func (c *Client) Close() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil
	}
	c.closed = true
	var inner []*kgo.Client
	for cl := range c.inner {
		inner = append(inner, cl)
	}
	c.mu.Unlock()
	for _, cl := range inner {
		leave(cl)
	}
	c.transacting.close()
	c.conditional.close()
	c.kafka.Close()
	return c.dial.Close()
}

// Health of a client at a moment.
type Health struct {
	Err             error // of a broker that was asked; nil: one has answered
	Breaker         BreakerState
	Failed          int       // deliveries in a row
	LastDelivered   time.Time // zero: none yet
	LastError       error     // of the last delivery that failed; nil: none has
	BufferedRecords int64     // that wait for their result
	BufferedBytes   int64
	Links           []transport.Link // how each broker is reached, and why so
}

// Healthy reports whether a broker answers and records pass.
func (h Health) Healthy() bool { return h.Err == nil && h.Breaker != BreakerOpen }

// Health asks a broker, and says how deliveries went.
func (c *Client) Health(ctx context.Context) Health {
	h := Health{Err: c.Ping(ctx), BufferedRecords: c.kafka.BufferedProduceRecords(), BufferedBytes: c.kafka.BufferedProduceBytes(), Links: c.dial.Stats()}
	c.deliveries.view(&h)
	return h
}
