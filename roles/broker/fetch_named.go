package broker

import (
	"rustmq.dev/rustmq/roles/broker/wire"
	"rustmq.dev/rustmq/storage"
)

// named finds what a fetch without session names again. It is used again with the fetch.
type named struct {
	topics     map[namedTopic]int     // numbered in order of appearance
	partitions map[namedPartition]int // places among the parts
}

type namedTopic struct {
	name string
	id   storage.TopicID
}

// namedPartition has the topic's number: to hash its name, which may be long, for each
// partition would take long.
type namedPartition struct {
	topic int
	index int32
}

// topic returns the topic's number.
func (n *named) topic(t *wire.FetchTopic) int {
	if number, again := n.topics[namedTopic{string(t.Name), t.ID}]; again {
		return number
	}
	if n.topics == nil {
		n.topics = map[namedTopic]int{}
	}
	number := len(n.topics)
	n.topics[namedTopic{string(t.Name), t.ID}] = number
	return number
}

// partition notes that the partition gets a place, or returns the one that it has.
func (n *named) partition(topic int, index int32, place int) (at int, again bool) {
	key := namedPartition{topic, index}
	if at, again = n.partitions[key]; again {
		return at, true
	}
	if n.partitions == nil {
		n.partitions = map[namedPartition]int{}
	}
	n.partitions[key] = place
	return place, false
}

// clear forgets all. Maps that have grown large are not kept: they would be cleared as a
// whole for each fetch.
func (n *named) clear() {
	if len(n.topics) > maxKeptNames {
		n.topics = nil
	}
	if len(n.partitions) > maxKeptNames {
		n.partitions = nil
	}
	clear(n.topics)
	clear(n.partitions)
}

const maxKeptNames = keptParts
