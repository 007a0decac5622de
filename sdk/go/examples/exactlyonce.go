package main

import (
	"context"

	rustmq "rustmq.dev/rustmq/sdk/go"
)

// exactlyOnce copies strong quakes to another topic. Whatever is killed in between, each is
// there once: what was read and what was written is committed in one transaction.
func exactlyOnce(ctx context.Context, p *program) error {
	client, err := rustmq.New(p.brokers...)
	if err != nil {
		return err
	}
	defer client.Close()
	quakes, strong := p.name("quakes"), p.name("strong")
	if err := p.load(ctx, client, quakes, 2); err != nil {
		return err
	}
	if err := client.Admin().EnsureTopic(ctx, rustmq.Topic{Name: strong}); err != nil {
		return err
	}
	processor, err := rustmq.NewProcessor(client, rustmq.JSON[quake](), p.name("strong-1"), rustmq.ConsumerOptions{Topics: []string{quakes}, Group: p.name("strong")})
	if err != nil {
		return err
	}
	running, done := context.WithCancel(ctx)
	defer done()
	read := 0
	if err := processor.Run(running, func(ctx context.Context, tx *rustmq.Tx, batch []*rustmq.Message[quake]) error {
		for _, m := range batch {
			if m.Value.Magnitude >= 5 {
				tx.Produce(ctx, &rustmq.Record{Topic: strong, Key: m.Record.Key, Value: m.Record.Value}, nil)
			}
		}
		if read += len(batch); read >= len(p.quakes) {
			done() // this batch is committed still
		}
		return nil
	}); err != nil {
		return err
	}
	consumer, err := rustmq.NewConsumer(client, rustmq.JSON[quake](), rustmq.ConsumerOptions{Topics: []string{strong}})
	if err != nil {
		return err
	}
	defer consumer.Close()
	want, seen := 0, map[string]int{}
	for _, q := range p.quakes {
		if q.Magnitude >= 5 {
			want++
		}
	}
	for n := 0; n < want; {
		messages, err := consumer.Poll(ctx)
		if err != nil {
			return err
		}
		for _, m := range messages {
			seen[m.Value.ID]++
		}
		n += len(messages)
	}
	p.printf("%d strong quakes, %d of them there once", want, len(seen))
	return nil
}
