package broker

import (
	"context"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/roles/controller"
	"rustmq.dev/rustmq/transport/kafka"
)

// Versions whose clients take THROTTLING_QUOTA_EXCEEDED (KIP-599).
const (
	strictCreateTopics     = 6
	strictDeleteTopics     = 5
	strictCreatePartitions = 3
)

// clusterMetadata is where Kafka's controllers keep theirs; clients know the name.
const clusterMetadata = "__cluster_metadata"

func (b *Broker) createTopics(ctx context.Context, r *kafka.Request, q *kmsg.CreateTopicsRequest) *kmsg.CreateTopicsResponse {
	p := q.ResponseKind().(*kmsg.CreateTopicsResponse)
	ctx, cancel := controllerContext(ctx, q.TimeoutMillis)
	defer cancel()
	var topics []controller.NewTopic
	counted := b.mutating(r, strictCreateTopics)
	answer := func(name string, err error) kmsg.CreateTopicsResponseTopic {
		out := kmsg.NewCreateTopicsResponseTopic()
		out.Topic, out.Configs = name, []kmsg.CreateTopicsResponseTopicConfig{}
		out.ErrorCode, out.ErrorMessage = codeAndMessage(err)
		return out
	}
	times := map[string]int{}
	for _, t := range q.Topics {
		if times[t.Topic]++; times[t.Topic] == 2 { // one answer for all of a name
			p.Topics = append(p.Topics, answer(t.Topic, errNamedTwice))
		}
	}
	for _, t := range q.Topics {
		if times[t.Topic] > 1 {
			continue
		}
		if err := b.mayCreate(t); err != nil {
			p.Topics = append(p.Topics, answer(t.Topic, err))
			continue
		}
		asked := newTopic(t)
		if !q.ValidateOnly {
			if err := counted.take(asksFor(asked)); err != nil {
				p.Topics = append(p.Topics, answer(t.Topic, err))
				continue
			}
		}
		topics = append(topics, asked)
	}
	for i, result := range b.opt.Controller.CreateTopics(ctx, topics, q.ValidateOnly) {
		out := answer(topics[i].Name, result.Err)
		if !q.ValidateOnly {
			counted.became(asksFor(topics[i]), result)
		}
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
	p.ThrottleMillis = counted.millis()
	return p
}

// mayCreate refuses what no client may ask for.
func (b *Broker) mayCreate(t kmsg.CreateTopicsRequestTopic) error {
	_, exists := b.images.image().Topic(t.Topic)
	switch {
	case t.Topic == clusterMetadata:
		return explained{kerr.InvalidRequest, "the cluster's metadata is no topic"}
	case reserved(t.Topic) && !exists: // a client would make another than coordinators need
		return errInternalTopic
	case exists:
		return nil // the controller says so
	}
	for _, c := range t.Configs {
		if c.Value == nil {
			return explained{kerr.InvalidConfig, "no value for " + c.Name}
		}
	}
	return nil
}

// asksFor is how many partitions a topic asks for, as far as it says so; one that
// leaves it to the default asks for one.
func asksFor(t controller.NewTopic) int { return max(int(t.Partitions), len(t.Assignments), 1) }

func newTopic(t kmsg.CreateTopicsRequestTopic) controller.NewTopic {
	out := controller.NewTopic{Name: t.Topic, Partitions: t.NumPartitions, ReplicationFactor: t.ReplicationFactor}
	for _, a := range t.ReplicaAssignment {
		out.Assignments = append(out.Assignments, controller.Assignment{Partition: a.Partition, Replicas: slices.Clone(a.Replicas)})
	}
	for _, c := range t.Configs {
		if out.Configs == nil {
			out.Configs = map[string]string{}
		}
		if c.Value != nil { // mayCreate has refused null, but for a topic that is there
			out.Configs[c.Name] = *c.Value
		}
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

func (b *Broker) deleteTopics(ctx context.Context, r *kafka.Request, q *kmsg.DeleteTopicsRequest) *kmsg.DeleteTopicsResponse {
	p := q.ResponseKind().(*kmsg.DeleteTopicsResponse)
	ctx, cancel := controllerContext(ctx, q.TimeoutMillis)
	defer cancel()
	var refs []controller.TopicRef
	counted := b.mutating(r, strictDeleteTopics)
	add := func(ref controller.TopicRef) {
		err := counted.take(b.partitionsOf(ref))
		if err == nil {
			refs = append(refs, ref)
			return
		}
		out := kmsg.NewDeleteTopicsResponseTopic()
		if out.TopicID = ref.ID; ref.ID.IsZero() {
			out.Topic = &ref.Name
		}
		out.ErrorCode = code(err)
		p.Topics = append(p.Topics, out)
	}
	asked, refused := namedOnce(q)
	p.Topics = append(p.Topics, refused...)
	for _, ref := range asked {
		add(ref)
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
	p.ThrottleMillis = counted.millis()
	return p
}

// namedOnce are the topics that a request names by one of name and id, and once.
// What it names otherwise is not deleted.
func namedOnce(q *kmsg.DeleteTopicsRequest) (refs []controller.TopicRef, refused []kmsg.DeleteTopicsResponseTopic) {
	refuse := func(ref controller.TopicRef, err error) {
		out := kmsg.NewDeleteTopicsResponseTopic()
		if out.TopicID = ref.ID; ref.Name != "" {
			out.Topic = &ref.Name
		}
		out.ErrorCode, out.ErrorMessage = codeAndMessage(err)
		refused = append(refused, out)
	}
	for _, name := range q.TopicNames {
		refs = append(refs, controller.TopicRef{Name: name})
	}
	for _, t := range q.Topics {
		ref := controller.TopicRef{ID: t.TopicID}
		if t.Topic != nil {
			ref.Name = *t.Topic
		}
		if (t.Topic == nil) == ref.ID.IsZero() {
			refuse(ref, explained{kerr.InvalidRequest, "a topic is named by its name, or by its id"})
			continue
		}
		refs = append(refs, ref)
	}
	times := map[controller.TopicRef]int{}
	for _, ref := range refs {
		if times[ref]++; times[ref] == 2 { // one answer for all of them
			refuse(ref, errNamedTwice)
		}
	}
	return slices.DeleteFunc(refs, func(ref controller.TopicRef) bool { return times[ref] > 1 }), refused
}

// partitionsOf is how many partitions a topic has; 0: there is none.
func (b *Broker) partitionsOf(ref controller.TopicRef) int {
	t, ok := b.images.image().TopicByID(ref.ID)
	if ref.ID.IsZero() {
		t, ok = b.images.image().Topic(ref.Name)
	}
	if !ok {
		return 0
	}
	return t.Partitions.Len()
}

func (b *Broker) createPartitions(ctx context.Context, r *kafka.Request, q *kmsg.CreatePartitionsRequest) *kmsg.CreatePartitionsResponse {
	p := q.ResponseKind().(*kmsg.CreatePartitionsResponse)
	ctx, cancel := controllerContext(ctx, q.TimeoutMillis)
	defer cancel()
	times := map[string]int{}
	counted := b.mutating(r, strictCreatePartitions)
	for _, t := range q.Topics {
		if times[t.Topic]++; times[t.Topic] == 2 { // one answer for all of a name
			out := kmsg.NewCreatePartitionsResponseTopic()
			out.Topic = t.Topic
			out.ErrorCode, out.ErrorMessage = codeAndMessage(errNamedTwice)
			p.Topics = append(p.Topics, out)
		}
	}
	for _, t := range q.Topics {
		if times[t.Topic] > 1 {
			continue
		}
		out := kmsg.NewCreatePartitionsResponseTopic()
		out.Topic = t.Topic
		var assignments [][]int32
		for _, a := range t.Assignment {
			assignments = append(assignments, slices.Clone(a.Replicas))
		}
		added := int(t.Count) - b.partitionsOf(controller.TopicRef{Name: t.Topic})
		var err error
		if !q.ValidateOnly {
			err = counted.take(added)
		}
		if err == nil {
			err = b.opt.Controller.CreatePartitions(ctx, t.Topic, t.Count, assignments, q.ValidateOnly)
			if err != nil && !q.ValidateOnly {
				counted.failed(added)
			}
		}
		out.ErrorCode, out.ErrorMessage = codeAndMessage(err)
		p.Topics = append(p.Topics, out)
	}
	b.settle(ctx)
	p.ThrottleMillis = counted.millis()
	return p
}
