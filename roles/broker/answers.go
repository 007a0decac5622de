package broker

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/consensus/metadata"
)

// What answers take in memory while they are made, roughly: many times what is sent.
// Those that are large only by what the request names are counted with the request.
const (
	topicAnswer    = 200
	configsAnswer  = 10 << 10 // of a topic, all keys
	namedAnswer    = 4 << 10  // of what has a few keys, or a list that is mostly short
	groupAnswer    = 64 << 10 // of a group with its members, or all offsets of one
	unknownAnswer  = 256 << 10
	refusalAnswer  = 200
	producerAnswer = 250 // of a producer that a log remembers
	resourceAnswer = 64
	userAnswer     = 300
)

// answerMemory foresees what the answer to a request takes, beyond what the request
// itself names. To ask for room gives up the frame, which what is decoded shares where
// it has bytes: none of these does.
func (b *Broker) answerMemory(q kmsg.Request) int64 {
	image := b.images.image()
	all := int64(image.NumTopics()+image.NumPartitions()) * topicAnswer
	switch q := q.(type) {
	case *kmsg.MetadataRequest:
		if q.Topics == nil || q.Version == 0 && len(q.Topics) == 0 {
			return all
		}
		return min(metadataMemory(image, q), 2*all) // each once by name, and once by id
	case *kmsg.DescribeTopicPartitionsRequest:
		return min(all, maxDescribedPartitions*topicAnswer)
	case *kmsg.DescribeLogDirsRequest:
		return all
	case *kmsg.DescribeUserSCRAMCredentialsRequest:
		if len(q.Users) == 0 {
			return int64(image.NumUsers()) * userAnswer
		}
	case *kmsg.ListConfigResourcesRequest:
		return int64(image.NumTopics())*resourceAnswer + unknownAnswer
	case *kmsg.DescribeConfigsRequest:
		return configsMemory(image, q)
	case *kmsg.CreateTopicsRequest:
		return int64(len(q.Topics)) * configsAnswer
	case *kmsg.DescribeGroupsRequest:
		return int64(len(q.Groups)) * groupAnswer
	case *kmsg.ConsumerGroupDescribeRequest:
		return int64(len(q.Groups)) * groupAnswer
	case *kmsg.DescribeTransactionsRequest:
		return int64(len(q.TransactionalIDs))*namedAnswer + b.transactions.DescribeMemory()
	case *kmsg.DescribeProducersRequest:
		n := 0
		for _, t := range q.Topics {
			n += len(t.Partitions)
		}
		return int64(n)*namedAnswer + b.store.Stats().Producers*producerAnswer
	case *kmsg.OffsetFetchRequest:
		return offsetsMemory(q)
	case *kmsg.DescribeACLsRequest:
		return int64(image.NumACLs()) * topicAnswer
	case *kmsg.DeleteACLsRequest:
		return int64(image.NumACLs()) * topicAnswer
	case *kmsg.ListGroupsRequest:
		return b.groups.ListMemory()
	case *kmsg.ListTransactionsRequest:
		return b.transactions.ListMemory()
	}
	return 0
}

// metadataMemory counts the partitions of the topics that are named.
func metadataMemory(image *metadata.Image, q *kmsg.MetadataRequest) (n int64) {
	for i := range q.Topics {
		var t *metadata.Topic
		if name := q.Topics[i].Topic; name != nil {
			t, _ = image.Topic(*name)
		} else {
			t, _ = image.TopicByID(q.Topics[i].TopicID)
		}
		if t != nil {
			n += int64(t.Partitions.Len()) * topicAnswer
		}
	}
	return n
}

// configsMemory counts what is there, and what is there by being named as far as it
// is described.
func configsMemory(image *metadata.Image, q *kmsg.DescribeConfigsRequest) (n int64) {
	byName := 0
	for i := range q.Resources {
		r := &q.Resources[i]
		n += refusalAnswer
		if isThereByName(r.ResourceType) {
			byName++
		} else if _, there := image.Topic(r.ResourceName); there && r.ResourceType == kmsg.ConfigResourceTypeTopic {
			n += configsAnswer
		}
	}
	return n + int64(min(byName, maxDescribedByName))*namedAnswer
}

// offsetsMemory counts the groups of which all offsets are asked for.
func offsetsMemory(q *kmsg.OffsetFetchRequest) (n int64) {
	if q.Version < 8 && q.Topics == nil {
		return groupAnswer
	}
	for i := range q.Groups {
		if q.Groups[i].Topics == nil {
			n += groupAnswer
		}
	}
	return n
}
