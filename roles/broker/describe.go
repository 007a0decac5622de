package broker

import (
	"cmp"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/security/acl"
	"rustmq.dev/rustmq/transport/kafka"
)

func (b *Broker) describeCluster(r *kafka.Request, q *kmsg.DescribeClusterRequest) *kmsg.DescribeClusterResponse {
	p := q.ResponseKind().(*kmsg.DescribeClusterResponse)
	const brokers, controllers = 1, 2 // types of endpoints
	p.EndpointType = brokers
	if q.Version >= 1 && q.EndpointType != brokers {
		p.ErrorCode = kerr.UnsupportedEndpointType.Code
		if q.EndpointType == controllers {
			p.ErrorCode = kerr.MismatchedEndpointType.Code
		}
		p.ErrorMessage = kmsg.StringPtr("this listener knows the endpoints of brokers only")
		return p
	}
	image := b.images.image()
	p.ClusterID = image.ClusterID()
	p.ControllerID = b.opt.NodeID // any broker takes requests to the controller further
	if q.IncludeClusterAuthorizedOperations {
		p.ClusterAuthorizedOperations = describedOperations(nil)
	}
	for broker := range image.Brokers() {
		if broker.Fenced && !q.IncludeFencedBrokers {
			continue
		}
		e := endpoint(broker, r.Conn.Listener())
		out := kmsg.NewDescribeClusterResponseBroker()
		out.NodeID, out.Host, out.Port, out.IsFenced = e.ID, e.Host, e.Port, broker.Fenced
		if e.Rack != "" {
			out.Rack = &e.Rack
		}
		p.Brokers = append(p.Brokers, out)
	}
	return p
}

// describeTopicPartitions pages through topics in order of name (KIP-966): up
// to the limit of partitions, and a cursor to where the next request begins.
func (b *Broker) describeTopicPartitions(r *kafka.Request, q *kmsg.DescribeTopicPartitionsRequest) *kmsg.DescribeTopicPartitionsResponse {
	p := q.ResponseKind().(*kmsg.DescribeTopicPartitionsResponse)
	image, c := b.images.image(), b.client(r)
	left := max(1, min(maxDescribedPartitions, int(q.ResponsePartitionLimit)))
	var first kmsg.DescribeTopicPartitionsRequestCursor
	if q.Cursor != nil {
		first = *q.Cursor
	}
	if first.Partition < 0 {
		for _, t := range q.Topics {
			out := kmsg.NewDescribeTopicPartitionsResponseTopic()
			out.Topic, out.ErrorCode = &t.Topic, kerr.InvalidRequest.Code
			p.Topics = append(p.Topics, out)
		}
		return p
	}
	add := func(t *metadata.Topic) (more bool) {
		from := 0
		if t.Name == first.Topic {
			from = int(first.Partition)
		}
		if left == 0 {
			next := kmsg.NewDescribeTopicPartitionsResponseNextCursor()
			next.Topic, next.Partition = t.Name, int32(from)
			p.NextCursor = &next
			return false
		}
		to := min(t.Partitions.Len(), from+left)
		p.Topics = append(p.Topics, b.describedTopic(image, c, t, from, to))
		left -= max(0, to-from)
		if to < t.Partitions.Len() {
			next := kmsg.NewDescribeTopicPartitionsResponseNextCursor()
			next.Topic, next.Partition = t.Name, int32(to)
			p.NextCursor = &next
			return false
		}
		return true
	}
	if len(q.Topics) == 0 {
		for t := range image.Topics() {
			if t.Name >= first.Topic && sees(c, acl.Describe, acl.Topic, t.Name) && !add(t) {
				break
			}
		}
		return p
	}
	names := make([]string, 0, len(q.Topics))
	for _, t := range q.Topics {
		names = append(names, t.Topic)
	}
	slices.SortFunc(names, cmp.Compare[string])
	for _, name := range slices.Compact(names) {
		if name < first.Topic {
			continue
		}
		if !may(c, acl.Describe, acl.Topic, name) {
			p.Topics = append(p.Topics, deniedTopic(name))
			continue
		}
		t, ok := image.Topic(name)
		if !ok {
			p.Topics = append(p.Topics, undescribedTopic(c, name))
			continue
		}
		if !add(t) {
			break
		}
	}
	return p
}

func deniedTopic(name string) kmsg.DescribeTopicPartitionsResponseTopic {
	out := kmsg.NewDescribeTopicPartitionsResponseTopic()
	out.Topic, out.ErrorCode = &name, topicDenied
	return out
}

func undescribedTopic(c *acl.Client, name string) kmsg.DescribeTopicPartitionsResponseTopic {
	out := kmsg.NewDescribeTopicPartitionsResponseTopic()
	out.Topic = &name
	out.ErrorCode = kerr.UnknownTopicOrPartition.Code
	out.AuthorizedOperations = operations(c, acl.Topic, name)
	if metadata.ValidTopicName(name) != nil {
		out.ErrorCode = kerr.InvalidTopicException.Code
	}
	return out
}

func (b *Broker) describedTopic(image *metadata.Image, c *acl.Client, t *metadata.Topic, from, to int) kmsg.DescribeTopicPartitionsResponseTopic {
	out := kmsg.NewDescribeTopicPartitionsResponseTopic()
	out.Topic, out.TopicID, out.IsInternal = &t.Name, t.ID, t.Internal
	out.AuthorizedOperations = operations(c, acl.Topic, t.Name)
	led := b.table.byID(t.ID)
	for i := from; i < to; i++ {
		p := t.Partitions.At(i)
		part := kmsg.NewDescribeTopicPartitionsResponseTopicPartition()
		part.Partition, part.LeaderID, part.LeaderEpoch = p.Index, p.Leader, int32(p.LeaderEpoch)
		part.Replicas, part.ISR = p.Replicas, p.ISR
		// Nullable by the schema, but Kafka's own client takes no null.
		part.EligibleLeaderReplicas, part.LastKnownELR = append([]int32{}, p.ELR...), []int32{}
		part.OfflineReplicas = offline(image, p.Replicas)
		part.ErrorCode = b.partitionCode(led, p)
		out.Partitions = append(out.Partitions, part)
	}
	return out
}
