package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	rustmq "rustmq.dev/rustmq/sdk/go"
)

// workers handles sixteen quakes at once, but those of a network one after the other, in the
// order in which they were produced.
func workers(ctx context.Context, p *program) error {
	client, err := rustmq.New(p.brokers...)
	if err != nil {
		return err
	}
	defer client.Close()
	topic := p.name("quakes")
	if err := p.load(ctx, client, topic, 2); err != nil {
		return err
	}
	consumer, err := rustmq.NewConsumer(client, rustmq.JSON[quake](), rustmq.ConsumerOptions{Topics: []string{topic}, Group: p.name("ordered"), Workers: 16})
	if err != nil {
		return err
	}
	defer consumer.Close()
	running, done := context.WithCancel(ctx)
	defer done()
	var mu sync.Mutex
	n, last := 0, map[string]time.Time{} // of each network
	if err := consumer.Run(running, func(_ context.Context, m *rustmq.Message[quake]) error {
		mu.Lock()
		defer mu.Unlock()
		if m.Value.Time.Before(last[m.Value.Network]) {
			return rustmq.Permanent(fmt.Errorf("%s comes too late", m.Value.ID))
		}
		last[m.Value.Network] = m.Value.Time
		if n++; n == len(p.quakes) {
			done()
		}
		return nil
	}); err != nil {
		return err
	}
	p.printf("%d quakes of %d networks, each in order", n, len(last))
	return nil
}
