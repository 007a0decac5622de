package main

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	rustmq "rustmq.dev/rustmq/sdk/go"
)

// group has three members share the partitions of a topic. What they have handled is
// committed, so that the next who joins the group goes on behind it.
func group(ctx context.Context, p *program) error {
	client, err := rustmq.New(p.brokers...)
	if err != nil {
		return err
	}
	defer client.Close()
	topic := p.name("quakes")
	if err := p.load(ctx, client, topic, 6); err != nil {
		return err
	}
	running, done := context.WithCancel(ctx)
	defer done()
	var handled atomic.Int64
	var members sync.WaitGroup
	errs := make([]error, 3)
	for i := range errs {
		members.Go(func() {
			defer done() // one that fails ends all
			consumer, err := rustmq.NewConsumer(client, rustmq.JSON[quake](), rustmq.ConsumerOptions{Topics: []string{topic}, Group: p.name("readers")})
			if err != nil {
				errs[i] = err
				return
			}
			err = consumer.Run(running, func(context.Context, *rustmq.Message[quake]) error {
				if handled.Add(1) == int64(len(p.quakes)) {
					done()
				}
				return nil
			})
			errs[i] = errors.Join(err, consumer.Close())
		})
	}
	members.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	groups, err := client.Admin().Groups(ctx, p.name("readers"))
	if err != nil {
		return err
	}
	p.printf("%d quakes handled, %d not committed", handled.Load(), groups[0].Lag)
	return nil
}
