package broker

import (
	"context"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/roles/controller"
	"rustmq.dev/rustmq/transport/kafka"
)

func (b *Broker) createTopics(ctx context.Context, _ *kafka.Request, q *kmsg.CreateTopicsRequest) *kmsg.CreateTopicsResponse {
	p := q.ResponseKind().(*kmsg.CreateTopicsResponse)
	ctx, cancel := controllerContext(ctx, q.TimeoutMillis)
	defer cancel()
	var topics []controller.NewTopic
	for _, t := range q.Topics {
		if reserved(t.Topic) { // a client would make another than coordinators need
			out := kmsg.NewCreateTopicsResponseTopic()
			out.Topic = t.Topic
			out.ErrorCode, out.ErrorMessage = codeAndMessage(errInternalTopic)
			p.Topics = append(p.Topics, out)
			continue
		}
		topics = append(topics, newTopic(t))
	}
	for i, result := range b.opt.Controller.CreateTopics(ctx, topics, q.ValidateOnly) {
		out := kmsg.NewCreateTopicsResponseTopic()
		out.Topic = topics[i].Name
		out.ErrorCode, out.ErrorMessage = codeAndMessage(result.Err)
		if result.Err == nil {
			out.TopicID = result.ID
			out.NumPartitions, out.ReplicationFactor = result.Partitions, result.ReplicationFactor
			out.Configs = b.createdConfigs(result)
		}
		p.Topics = append(p.Topics, out)
	}
	if !q.ValidateOnly {
		b.settle(ctx)
	}
	return p
}

func newTopic(t kmsg.CreateTopicsRequestTopic) controller.NewTopic {
	out := controller.NewTopic{Name: t.Topic, Partitions: t.NumPartitions, ReplicationFactor: t.ReplicationFactor}
	for _, a := range t.ReplicaAssignment {
		out.Assignments = append(out.Assignments, controller.Assignment{Partition: a.Partition, Replicas: slices.Clone(a.Replicas)})
	}
	for _, c := range t.Configs {
		if c.Value == nil {
			continue // null is the default
		}
		if out.Configs == nil {
			out.Configs = map[string]string{}
		}
		out.Configs[c.Name] = *c.Value
	}
	return out
}

// createdConfigs lists what a topic has that was just made.
func (b *Broker) createdConfigs(made controller.TopicResult) []kmsg.CreateTopicsResponseTopicConfig {
	configs := []kmsg.CreateTopicsResponseTopicConfig{}
	for _, c := range b.topicConfigs(made.Configs, min(2, int(made.ReplicationFactor)), nil) {
		out := kmsg.NewCreateTopicsResponseTopicConfig()
		out.Name, out.Value, out.Source = c.Name, c.Value, int8(c.Source)
		configs = append(configs, out)
	}
	return configs
}

func (b *Broker) deleteTopics(ctx context.Context, _ *kafka.Request, q *kmsg.DeleteTopicsRequest) *kmsg.DeleteTopicsResponse {
	p := q.ResponseKind().(*kmsg.DeleteTopicsResponse)
	ctx, cancel := controllerContext(ctx, q.TimeoutMillis)
	defer cancel()
	var refs []controller.TopicRef
	for _, name := range q.TopicNames {
		refs = append(refs, controller.TopicRef{Name: name})
	}
	for _, t := range q.Topics {
		ref := controller.TopicRef{ID: t.TopicID}
		if t.Topic != nil {
			ref.Name = *t.Topic
		}
		refs = append(refs, ref)
	}
	for i, result := range b.opt.Controller.DeleteTopics(ctx, refs) {
		out := kmsg.NewDeleteTopicsResponseTopic()
		out.Topic, out.TopicID = kmsg.StringPtr(result.Name), result.ID
		if result.Name == "" && !refs[i].ID.IsZero() {
			out.Topic = nil // asked for by id, and not found
		}
		out.ErrorCode, out.ErrorMessage = codeAndMessage(result.Err)
		p.Topics = append(p.Topics, out)
	}
	b.settle(ctx)
	return p
}

func (b *Broker) createPartitions(ctx context.Context, _ *kafka.Request, q *kmsg.CreatePartitionsRequest) *kmsg.CreatePartitionsResponse {
	p := q.ResponseKind().(*kmsg.CreatePartitionsResponse)
	ctx, cancel := controllerContext(ctx, q.TimeoutMillis)
	defer cancel()
	times := map[string]int{}
	for _, t := range q.Topics {
		times[t.Topic]++
	}
	for _, t := range q.Topics {
		out := kmsg.NewCreatePartitionsResponseTopic()
		out.Topic = t.Topic
		if times[t.Topic] > 1 {
			out.ErrorCode, out.ErrorMessage = kerr.InvalidRequest.Code, kmsg.StringPtr("the request names this topic more than once")
			p.Topics = append(p.Topics, out)
			continue
		}
		var assignments [][]int32
		for _, a := range t.Assignment {
			assignments = append(assignments, slices.Clone(a.Replicas))
		}
		err := b.opt.Controller.CreatePartitions(ctx, t.Topic, t.Count, assignments, q.ValidateOnly)
		out.ErrorCode, out.ErrorMessage = codeAndMessage(err)
		p.Topics = append(p.Topics, out)
	}
	b.settle(ctx)
	return p
}
