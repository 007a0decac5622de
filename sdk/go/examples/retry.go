package main

import (
	"context"
	"errors"
	"time"

	rustmq "rustmq.dev/rustmq/sdk/go"
)

// retry handles quakes with a service that fails now and then, and for some always: those
// go to a topic of dead letters, with what happened in their headers.
func retry(ctx context.Context, p *program) error {
	client, err := rustmq.New(p.brokers...)
	if err != nil {
		return err
	}
	defer client.Close()
	topic, dead := p.name("quakes"), p.name("dead")
	if err := p.load(ctx, client, topic, 1); err != nil {
		return err
	}
	if err := client.Admin().EnsureTopic(ctx, rustmq.Topic{Name: dead}); err != nil {
		return err
	}
	consumer, err := rustmq.NewConsumer(client, rustmq.JSON[quake](), rustmq.ConsumerOptions{
		Topics: []string{topic}, Group: p.name("careful"),
		Failures: rustmq.Failures{Retries: 2, Pause: time.Millisecond, Then: rustmq.DeadLetter, DeadLetterTopic: dead},
	})
	if err != nil {
		return err
	}
	defer consumer.Close()
	running, done := context.WithCancel(ctx)
	defer done()
	calls, handled := 0, 0
	last := p.quakes[len(p.quakes)-1].ID
	if err := consumer.Run(running, func(_ context.Context, m *rustmq.Message[quake]) error {
		calls++
		switch {
		case m.Value.Magnitude >= 6.3:
			return errors.New("too strong for the service")
		case calls%100 == 0:
			return errors.New("the service was busy") // another attempt succeeds
		}
		handled++
		if m.Value.ID == last {
			done()
		}
		return nil
	}); err != nil {
		return err
	}
	letters, err := rustmq.NewConsumer(client, rustmq.JSON[quake](), rustmq.ConsumerOptions{Topics: []string{dead}})
	if err != nil {
		return err
	}
	defer letters.Close()
	for n := handled; n < len(p.quakes); {
		messages, err := letters.Poll(ctx)
		if err != nil {
			return err
		}
		for _, m := range messages {
			header := rustmq.HeaderCarrier{Record: m.Record}
			p.printf("%.1f %s: %s, %s attempts", m.Value.Magnitude, m.Value.Place, header.Get("rustmq.dlt.reason"), header.Get("rustmq.dlt.attempts"))
		}
		n += len(messages)
	}
	p.printf("%d handled, %d put aside", handled, len(p.quakes)-handled)
	return nil
}
