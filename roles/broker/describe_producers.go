package broker

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/transport/kafka"
)

// describeProducers tells what the logs that are led here remember of producers:
// whoever looks for a transaction that nobody ends finds it there (KIP-664).
func (b *Broker) describeProducers(_ *kafka.Request, q *kmsg.DescribeProducersRequest) *kmsg.DescribeProducersResponse {
	p := q.ResponseKind().(*kmsg.DescribeProducersResponse)
	type topic = kmsg.DescribeProducersRequestTopic
	// Each partition once: its answer holds all its producers, as many as the store
	// remembers at most.
	q.Topics = distinct(q.Topics, func(t *topic) string { return t.Topic }, func(t *topic) *[]int32 { return &t.Partitions }, itself)
	for _, t := range q.Topics {
		out := kmsg.NewDescribeProducersResponseTopic()
		out.Topic = t.Topic
		for _, index := range t.Partitions {
			out.Partitions = append(out.Partitions, b.producersOf(t.Topic, index))
		}
		p.Topics = append(p.Topics, out)
	}
	return p
}

func (b *Broker) producersOf(topic string, index int32) kmsg.DescribeProducersResponseTopicPartition {
	part := kmsg.NewDescribeProducersResponseTopicPartition()
	part.Partition = index
	l, _, err := b.leaderOf(topic, index, storage.NoEpoch)
	part.ErrorCode, part.ErrorMessage = codeAndMessage(err)
	if err != nil {
		return part
	}
	for _, s := range l.Producers() {
		active := kmsg.NewDescribeProducersResponseTopicPartitionActiveProducer()
		active.ProducerID, active.ProducerEpoch = s.ID, int32(s.Epoch)
		active.LastSequence, active.LastTimestamp = s.LastSequence, s.LastTimestamp
		active.CoordinatorEpoch, active.CurrentTxnStartOffset = s.CoordinatorEpoch, int64(s.CurrentTransactionStart)
		part.ActiveProducers = append(part.ActiveProducers, active)
	}
	return part
}
