package group

import (
	"context"
	"maps"
	"slices"

	"rustmq.dev/rustmq/roles/broker/coordinator"
)

// Survey is what the groups of one partition are and have committed.
type Survey struct {
	Code   int16 // an error of Kafka's, why the partition says nothing; else 0
	Groups []Surveyed
	Left   int // committed offsets beyond those that were asked for
}

// Surveyed is one group of a survey, empty ones included.
type Surveyed struct {
	ID           string
	ProtocolType string
	Type         string // classic or consumer (KIP-848)
	State        string
	Members      int
	Offsets      []Committed // by topic and partition
}

// Committed is an offset that a group has committed.
type Committed struct {
	Topic     string
	Partition int32
	Offset    int64
}

// Survey tells of the groups of one partition of [Topic], in order of their ids,
// with the first most of the offsets they have committed. What is looked at for
// that is copied: answer owns it. It follows the rules of the entry points for
// requests.
func (c *Coordinator) Survey(ctx context.Context, partition int32, most int, answer func(Survey)) {
	c.shards.Submit(ctx, partition, Request{Body: &SurveyGroups{Most: most}}, coordinator.Deliver(answer),
		func(code int16) { answer(Survey{Code: code}) })
}

// survey stops copying offsets at most, and only counts the rest: members of other
// groups wait meanwhile.
func (c *Core) survey(r Request, most int) Survey {
	var out Survey
	for _, g := range c.sorted() {
		told := Surveyed{ID: g.id, ProtocolType: g.protocolType, Type: classic, State: g.state.String(), Members: len(g.members)}
		if g.consumer != nil {
			told.Type, told.State, told.Members = consumerType, g.consumer.stateName(), len(g.consumer.members)
		}
		if most == 0 {
			for topic := range g.offsets {
				out.Left += len(g.committedFor(r, topic))
			}
			out.Groups = append(out.Groups, told)
			continue
		}
		for _, topic := range slices.Sorted(maps.Keys(g.offsets)) {
			offsets := g.offsets[topic]
			for _, p := range g.committedFor(r, topic) {
				if most == 0 {
					out.Left++
					continue
				}
				told.Offsets = append(told.Offsets, Committed{topic, p, offsets[p].offset})
				most--
			}
		}
		out.Groups = append(out.Groups, told)
	}
	return out
}
