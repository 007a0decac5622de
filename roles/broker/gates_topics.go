package broker

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/security/acl"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/guard"
)

var topicDenied = kerr.TopicAuthorizationFailed.Code

// topicNamed returns the name of a topic that is asked for by name or, where there is an
// id, by that; false: nobody knows it, and whoever serves the request says so.
func (b *Broker) topicNamed(name string, id [16]byte) (string, bool) {
	if id == [16]byte{} {
		return name, true
	}
	t, ok := b.images.image().TopicByID(storage.TopicID(id))
	if !ok {
		return "", false
	}
	return t.Name, true
}

func gateListOffsets(_ *Broker, c *acl.Client, q *kmsg.ListOffsetsRequest) ruling[*kmsg.ListOffsetsResponse] {
	refused := divide(&q.Topics, func(t *kmsg.ListOffsetsRequestTopic) bool { return may(c, acl.Describe, acl.Topic, t.Topic) })
	return amendedBy(func(p *kmsg.ListOffsetsResponse) {
		for _, t := range refused {
			out := kmsg.NewListOffsetsResponseTopic()
			out.Topic = t.Topic
			for _, want := range t.Partitions {
				part := kmsg.NewListOffsetsResponseTopicPartition()
				part.Partition, part.ErrorCode = want.Partition, topicDenied
				out.Partitions = append(out.Partitions, part)
			}
			p.Topics = append(p.Topics, out)
		}
	})
}

func gateOffsetForLeaderEpoch(_ *Broker, c *acl.Client, q *kmsg.OffsetForLeaderEpochRequest) ruling[*kmsg.OffsetForLeaderEpochResponse] {
	refused := divide(&q.Topics, func(t *kmsg.OffsetForLeaderEpochRequestTopic) bool {
		return may(c, acl.Describe, acl.Topic, t.Topic)
	})
	return amendedBy(func(p *kmsg.OffsetForLeaderEpochResponse) {
		for _, t := range refused {
			out := kmsg.NewOffsetForLeaderEpochResponseTopic()
			out.Topic = t.Topic
			for _, want := range t.Partitions {
				part := kmsg.NewOffsetForLeaderEpochResponseTopicPartition()
				part.Partition, part.LeaderEpoch, part.EndOffset, part.ErrorCode = want.Partition, -1, -1, topicDenied
				out.Partitions = append(out.Partitions, part)
			}
			p.Topics = append(p.Topics, out)
		}
	})
}

func gateDeleteRecords(_ *Broker, c *acl.Client, q *kmsg.DeleteRecordsRequest) ruling[*kmsg.DeleteRecordsResponse] {
	refused := divide(&q.Topics, func(t *kmsg.DeleteRecordsRequestTopic) bool { return may(c, acl.Delete, acl.Topic, t.Topic) })
	return amendedBy(func(p *kmsg.DeleteRecordsResponse) {
		for _, t := range refused {
			out := kmsg.NewDeleteRecordsResponseTopic()
			out.Topic = t.Topic
			for _, want := range t.Partitions {
				part := kmsg.NewDeleteRecordsResponseTopicPartition()
				part.Partition, part.LowWatermark, part.ErrorCode = want.Partition, -1, topicDenied
				out.Partitions = append(out.Partitions, part)
			}
			p.Topics = append(p.Topics, out)
		}
	})
}

func gateDescribeProducers(_ *Broker, c *acl.Client, q *kmsg.DescribeProducersRequest) ruling[*kmsg.DescribeProducersResponse] {
	refused := divide(&q.Topics, func(t *kmsg.DescribeProducersRequestTopic) bool { return may(c, acl.Read, acl.Topic, t.Topic) })
	return amendedBy(func(p *kmsg.DescribeProducersResponse) {
		for _, t := range refused {
			out := kmsg.NewDescribeProducersResponseTopic()
			out.Topic = t.Topic
			for _, index := range t.Partitions {
				part := kmsg.NewDescribeProducersResponseTopicPartition()
				part.Partition, part.ErrorCode = index, topicDenied
				out.Partitions = append(out.Partitions, part)
			}
			p.Topics = append(p.Topics, out)
		}
	})
}

// gateCreateTopics lets topics through that the client may create by the topic's name, or
// all if it may create them in the cluster.
func gateCreateTopics(_ *Broker, c *acl.Client, q *kmsg.CreateTopicsRequest) ruling[*kmsg.CreateTopicsResponse] {
	var refused []kmsg.CreateTopicsRequestTopic
	if !seesCluster(c, acl.Create) {
		refused = divide(&q.Topics, func(t *kmsg.CreateTopicsRequestTopic) bool { return may(c, acl.Create, acl.Topic, t.Topic) })
	}
	return amendedBy(func(p *kmsg.CreateTopicsResponse) {
		for i := range p.Topics {
			if t := &p.Topics[i]; t.ErrorCode == 0 && !sees(c, acl.DescribeConfigs, acl.Topic, t.Topic) {
				t.NumPartitions, t.ReplicationFactor, t.Configs, t.ConfigErrorCode = -1, -1, nil, topicDenied
			}
		}
		for _, t := range refused {
			out := kmsg.NewCreateTopicsResponseTopic()
			out.Topic, out.ErrorCode, out.Configs = t.Topic, topicDenied, []kmsg.CreateTopicsResponseTopicConfig{}
			p.Topics = append(p.Topics, out)
		}
	})
}

// gateDeleteTopics does not tell the name of a topic that the client may not describe. A
// topic that is not known here by its id is not asked of the controller, which may know it:
// it is by its name that the client may delete it.
func gateDeleteTopics(b *Broker, c *acl.Client, q *kmsg.DeleteTopicsRequest) ruling[*kmsg.DeleteTopicsResponse] {
	names := divide(&q.TopicNames, func(name *string) bool { return may(c, acl.Delete, acl.Topic, *name) })
	unknown := divide(&q.Topics, func(t *kmsg.DeleteTopicsRequestTopic) bool {
		_, known := b.topicNamed("", t.TopicID)
		return t.Topic != nil || guard.Check("broker.delete-known", known)
	})
	refused := divide(&q.Topics, func(t *kmsg.DeleteTopicsRequestTopic) bool {
		if t.Topic != nil { // with an id as well it is refused for what it is
			return may(c, acl.Delete, acl.Topic, *t.Topic)
		}
		name, _ := b.topicNamed("", t.TopicID)
		return t.TopicID == [16]byte{} || may(c, acl.Delete, acl.Topic, name)
	})
	for _, name := range names {
		refused = append(refused, kmsg.DeleteTopicsRequestTopic{Topic: &name})
	}
	add := func(p *kmsg.DeleteTopicsResponse) {
		for _, t := range unknown {
			out := kmsg.NewDeleteTopicsResponseTopic()
			out.TopicID, out.ErrorCode = t.TopicID, kerr.UnknownTopicID.Code
			p.Topics = append(p.Topics, out)
		}
		for _, t := range refused {
			out := kmsg.NewDeleteTopicsResponseTopic()
			out.Topic, out.TopicID, out.ErrorCode = t.Topic, t.TopicID, topicDenied
			if name, known := b.topicNamed("", t.TopicID); t.Topic == nil && known && sees(c, acl.Describe, acl.Topic, name) {
				out.Topic = &name
			}
			p.Topics = append(p.Topics, out)
		}
	}
	if len(q.TopicNames)+len(q.Topics) == 0 && len(unknown)+len(refused) > 0 {
		p := q.ResponseKind().(*kmsg.DeleteTopicsResponse)
		add(p)
		return refusedWith(p)
	}
	return amendedBy(add)
}

func gateCreatePartitions(_ *Broker, c *acl.Client, q *kmsg.CreatePartitionsRequest) ruling[*kmsg.CreatePartitionsResponse] {
	refused := divide(&q.Topics, func(t *kmsg.CreatePartitionsRequestTopic) bool { return may(c, acl.Alter, acl.Topic, t.Topic) })
	return amendedBy(func(p *kmsg.CreatePartitionsResponse) {
		for _, t := range refused {
			out := kmsg.NewCreatePartitionsResponseTopic()
			out.Topic, out.ErrorCode = t.Topic, topicDenied
			p.Topics = append(p.Topics, out)
		}
	})
}

// configDenied is how a client is refused what concerns a configuration; 0: it is not, or
// the kind is refused by whoever serves the request.
func configDenied(by decision, c *acl.Client, op acl.Operation, kind kmsg.ConfigResourceType, name string) int16 {
	switch kind {
	case kmsg.ConfigResourceTypeTopic:
		if !by(c, op, acl.Topic, name) {
			return topicDenied
		}
	case kmsg.ConfigResourceTypeGroupConfig:
		if !by(c, op, acl.Group, name) {
			return groupDenied
		}
	default: // of brokers, their loggers, and client metrics subscriptions
		if !by(c, op, acl.Cluster, acl.ClusterName) {
			return clusterDenied
		}
	}
	return 0
}

func gateDescribeConfigs(_ *Broker, c *acl.Client, q *kmsg.DescribeConfigsRequest) ruling[*kmsg.DescribeConfigsResponse] {
	refused := divide(&q.Resources, func(r *kmsg.DescribeConfigsRequestResource) bool {
		return configDenied(may, c, acl.DescribeConfigs, r.ResourceType, r.ResourceName) == 0
	})
	return amendedBy(func(p *kmsg.DescribeConfigsResponse) {
		for _, r := range refused {
			out := kmsg.NewDescribeConfigsResponseResource()
			out.ResourceType, out.ResourceName = r.ResourceType, r.ResourceName
			out.ErrorCode = configDenied(sees, c, acl.DescribeConfigs, r.ResourceType, r.ResourceName)
			p.Resources = append(p.Resources, out)
		}
	})
}

func gateAlterConfigs(_ *Broker, c *acl.Client, q *kmsg.AlterConfigsRequest) ruling[*kmsg.AlterConfigsResponse] {
	refused := divide(&q.Resources, func(r *kmsg.AlterConfigsRequestResource) bool {
		return configDenied(may, c, acl.AlterConfigs, r.ResourceType, r.ResourceName) == 0
	})
	return amendedBy(func(p *kmsg.AlterConfigsResponse) {
		for _, r := range refused {
			out := kmsg.NewAlterConfigsResponseResource()
			out.ResourceType, out.ResourceName = r.ResourceType, r.ResourceName
			out.ErrorCode = configDenied(sees, c, acl.AlterConfigs, r.ResourceType, r.ResourceName)
			p.Resources = append(p.Resources, out)
		}
	})
}

func gateIncrementalAlterConfigs(_ *Broker, c *acl.Client, q *kmsg.IncrementalAlterConfigsRequest) ruling[*kmsg.IncrementalAlterConfigsResponse] {
	refused := divide(&q.Resources, func(r *kmsg.IncrementalAlterConfigsRequestResource) bool {
		return configDenied(may, c, acl.AlterConfigs, r.ResourceType, r.ResourceName) == 0
	})
	return amendedBy(func(p *kmsg.IncrementalAlterConfigsResponse) {
		for _, r := range refused {
			out := kmsg.NewIncrementalAlterConfigsResponseResource()
			out.ResourceType, out.ResourceName = r.ResourceType, r.ResourceName
			out.ErrorCode = configDenied(sees, c, acl.AlterConfigs, r.ResourceType, r.ResourceName)
			p.Resources = append(p.Resources, out)
		}
	})
}
