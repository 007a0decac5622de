package main

import (
	"context"
	"errors"

	rustmq "rustmq.dev/rustmq/sdk/go"
)

// transaction writes each strong quake to two topics, in both or in none.
func transaction(ctx context.Context, p *program) error {
	client, err := rustmq.New(append(p.brokers, rustmq.WithTransactionalID(p.name("writer"), 0))...)
	if err != nil {
		return err
	}
	defer client.Close()
	alerts, archive := p.name("alerts"), p.name("archive")
	for _, topic := range []string{alerts, archive} {
		if err := client.Admin().EnsureTopic(ctx, rustmq.Topic{Name: topic}); err != nil {
			return err
		}
	}
	errDoubtful := errors.New("doubtful")
	committed, aborted := 0, 0
	for _, q := range p.quakes {
		if q.Magnitude < 4.5 {
			continue
		}
		err := client.Transact(ctx, func(tx *rustmq.Tx) error {
			for _, topic := range []string{alerts, archive} {
				record, err := rustmq.NewRecord(rustmq.JSON[quake](), topic, []byte(q.ID), q)
				if err != nil {
					return err
				}
				tx.Produce(ctx, record, nil) // one that fails fails the transaction
			}
			if q.Network != "us" {
				return errDoubtful // neither topic has it
			}
			return nil
		})
		switch {
		case err == nil:
			committed++
		case errors.Is(err, errDoubtful):
			aborted++
		default:
			return err
		}
	}
	p.printf("%d transactions committed, %d aborted", committed, aborted)
	return nil
}
