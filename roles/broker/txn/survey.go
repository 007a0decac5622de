package txn

import (
	"context"

	"rustmq.dev/rustmq/roles/broker/coordinator"
)

// Survey counts what the transactional ids of one partition are.
type Survey struct {
	Code   int16         // an error of Kafka's, why the partition says nothing; else 0
	States map[State]int // ids on record; those that there are
	Oldest int64         // when the longest open transaction began, in ms since 1970; -1: none is open
}

// surveyTransactions asks for the [Survey] of a partition.
type surveyTransactions struct{}

// Survey counts the transactional ids of one partition of [Topic]. It follows the
// rules of the entry points for requests.
func (c *Coordinator) Survey(ctx context.Context, partition int32, answer func(Survey)) {
	c.shards.Submit(ctx, partition, surveyTransactions{}, coordinator.Deliver(answer), func(code int16) { answer(Survey{Code: code}) })
}

func (c *Core) survey() Survey {
	out := Survey{States: map[State]int{}, Oldest: noTimestamp}
	for _, t := range c.ids {
		if !t.recorded {
			continue
		}
		out.States[t.state]++
		if open := t.state == Ongoing || t.state.preparing(); open && (out.Oldest == noTimestamp || t.started < out.Oldest) {
			out.Oldest = t.started
		}
	}
	return out
}
