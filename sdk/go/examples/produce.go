package main

import (
	"context"
	"sync/atomic"

	rustmq "rustmq.dev/rustmq/sdk/go"
)

// produce sends all quakes without waiting for each, and counts their results. Those of a network have
// its name as key, and so stand in one partition, in order.
func produce(ctx context.Context, p *program) error {
	client, err := rustmq.New(append(p.brokers, rustmq.WithCompression(rustmq.Zstd, rustmq.Uncompressed))...)
	if err != nil {
		return err
	}
	defer client.Close()
	topic := p.name("quakes")
	if err := client.Admin().EnsureTopic(ctx, rustmq.Topic{Name: topic, Partitions: 4}); err != nil {
		return err
	}
	var delivered, failed atomic.Int64
	for _, q := range p.quakes {
		record, err := rustmq.NewRecord(rustmq.JSON[quake](), topic, []byte(q.Network), q)
		if err != nil {
			return err
		}
		client.Produce(ctx, record, func(_ *rustmq.Record, err error) {
			if err != nil {
				failed.Add(1)
				return
			}
			delivered.Add(1)
		})
	}
	if err := client.Flush(ctx); err != nil {
		return err
	}
	p.printf("%d quakes were delivered, %d failed", delivered.Load(), failed.Load())
	return nil
}
