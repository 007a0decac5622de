package main

import (
	"context"
	"errors"
	"fmt"
	"sync"

	rustmq "rustmq.dev/rustmq/sdk/go"
)

// conditional has two writers give numbers to quakes in one ledger. Each appends only if the
// ledger ends where it has read to, and so never gives a number twice.
func conditional(ctx context.Context, p *program) error {
	client, err := rustmq.New(p.brokers...)
	if err != nil {
		return err
	}
	defer client.Close()
	ledger := p.name("ledger")
	if err := client.Admin().EnsureTopic(ctx, rustmq.Topic{Name: ledger, Partitions: 1, Config: map[string]string{"rustmq.expect.offset": "true"}}); err != nil {
		return err
	}
	const entries = 20
	var writers sync.WaitGroup
	errs := make([]error, 2)
	for w := range errs {
		writers.Go(func() {
			own, err := rustmq.New(p.brokers...)
			if err != nil {
				errs[w] = err
				return
			}
			defer own.Close()
			for next := int64(0); next < entries; {
				q := p.quakes[next]
				err := own.AppendAt(ctx, &rustmq.Record{Topic: ledger, Value: fmt.Appendf(nil, "number %d is %s", next, q.ID)}, next)
				var refused *rustmq.ConditionError
				switch {
				case err == nil:
					next++
				case errors.As(err, &refused) && refused.End > next:
					next = refused.End // the other was first: go on behind it
				default:
					errs[w] = err
					return
				}
			}
		})
	}
	writers.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	consumer, err := rustmq.NewConsumer(client, rustmq.Raw(), rustmq.ConsumerOptions{Topics: []string{ledger}})
	if err != nil {
		return err
	}
	defer consumer.Close()
	n := 0
	for n < entries {
		messages, err := consumer.Poll(ctx)
		if err != nil {
			return err
		}
		for _, m := range messages {
			if want := fmt.Sprintf("number %d is %s", n, p.quakes[n].ID); string(m.Value) != want {
				return fmt.Errorf("%q: want %q", m.Value, want)
			}
			n++
		}
	}
	p.printf("%d entries, each number once", n)
	return nil
}
