package main

import (
	"context"

	rustmq "rustmq.dev/rustmq/sdk/go"
)

// typed reads all quakes as values of a type, and finds the strongest.
func typed(ctx context.Context, p *program) error {
	client, err := rustmq.New(p.brokers...)
	if err != nil {
		return err
	}
	defer client.Close()
	topic := p.name("quakes")
	if err := p.load(ctx, client, topic, 4); err != nil {
		return err
	}
	consumer, err := rustmq.NewConsumer(client, rustmq.JSON[quake](), rustmq.ConsumerOptions{Topics: []string{topic}})
	if err != nil {
		return err
	}
	defer consumer.Close()
	var strongest quake
	for n := 0; n < len(p.quakes); {
		messages, err := consumer.Poll(ctx)
		if err != nil {
			return err
		}
		for _, m := range messages {
			if m.Value.Magnitude > strongest.Magnitude {
				strongest = m.Value
			}
		}
		n += len(messages)
	}
	p.printf("the strongest of %d: %.1f, %s", len(p.quakes), strongest.Magnitude, strongest.Place)
	return nil
}
