package main

import (
	"context"

	rustmq "rustmq.dev/rustmq/sdk/go"
)

// hello produces a record and reads it.
func hello(ctx context.Context, p *program) error {
	client, err := rustmq.New(p.brokers...)
	if err != nil {
		return err
	}
	defer client.Close()
	topic := p.name("greetings")
	if err := client.Admin().EnsureTopic(ctx, rustmq.Topic{Name: topic}); err != nil {
		return err
	}
	if err := client.ProduceSync(ctx, &rustmq.Record{Topic: topic, Value: []byte("hello")}).Err(); err != nil {
		return err
	}
	consumer, err := rustmq.NewConsumer(client, rustmq.Raw(), rustmq.ConsumerOptions{Topics: []string{topic}})
	if err != nil {
		return err
	}
	defer consumer.Close()
	messages, err := consumer.Poll(ctx)
	if err != nil {
		return err
	}
	p.printf("offset %d: %s", messages[0].Record.Offset, messages[0].Value)
	return nil
}
