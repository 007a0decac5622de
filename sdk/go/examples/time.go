package main

import (
	"context"

	rustmq "rustmq.dev/rustmq/sdk/go"
)

// fromTime reads the last ten quakes: records have the time of their quake, and the
// broker finds the first of a moment or later.
func fromTime(ctx context.Context, p *program) error {
	client, err := rustmq.New(p.brokers...)
	if err != nil {
		return err
	}
	defer client.Close()
	topic := p.name("quakes")
	if err := p.load(ctx, client, topic, 1); err != nil {
		return err
	}
	moment := p.quakes[len(p.quakes)-10].Time
	consumer, err := rustmq.NewConsumer(client, rustmq.JSON[quake](), rustmq.ConsumerOptions{Topics: []string{topic}, FromTime: moment})
	if err != nil {
		return err
	}
	defer consumer.Close()
	messages, err := consumer.Poll(ctx)
	if err != nil {
		return err
	}
	p.printf("%d quakes since %s", len(messages), moment.Format("Jan 2 15:04"))
	return nil
}
