package roles

import (
	"context"
	"errors"
	"strconv"

	"rustmq.dev/rustmq/roles/broker"
	"rustmq.dev/rustmq/roles/tracing"
)

// openTracing begins to send spans, where the configuration names a collector; nil: it does
// not. It ends behind the broker, whose last spans it still sends.
func (n *Node) openTracing(ctx context.Context) (broker.Tracer, error) {
	c := n.config.Tracing
	if c.Endpoint == "" {
		return nil, nil
	}
	sample, err := c.SampleRatio()
	if err != nil {
		return nil, err
	}
	t, err := tracing.New(ctx, tracing.Options{
		Endpoint: c.Endpoint, Sample: sample, Service: c.Service, Version: Version(), Instance: strconv.Itoa(int(n.config.Broker.ID)), Log: n.log.With("room", "tracing"),
	})
	if err != nil {
		return nil, err
	}
	n.metrics.MustRegister(t.Metrics())
	n.opened("tracing", func(ctx context.Context) error {
		ctx, cancel := share(ctx, httpShare)
		defer cancel()
		if err := t.Close(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) {
			return err
		}
		return nil // a collector that is away takes no spans
	})
	return t, nil
}
