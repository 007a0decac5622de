package group

import (
	"bytes"
	"maps"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/storage"
)

// assignment is partitions by topic, sorted and each once; no topic is without
// any. It is never changed once it is made.
type assignment map[storage.TopicID][]int32

// place names a partition.
type place struct {
	topic     storage.TopicID
	partition int32
}

// places calls yield with each partition, in no order.
func (a assignment) places(yield func(place) bool) {
	for topic, partitions := range a {
		for _, p := range partitions {
			if !yield(place{topic, p}) {
				return
			}
		}
	}
}

func (a assignment) has(p place) bool {
	_, found := slices.BinarySearch(a[p.topic], p.partition)
	return found
}

// count is the number of partitions.
func (a assignment) count() int {
	n := 0
	for _, partitions := range a {
		n += len(partitions)
	}
	return n
}

func (a assignment) equal(b assignment) bool {
	return maps.EqualFunc(a, b, slices.Equal[[]int32])
}

// within reports whether b has all of a.
func (a assignment) within(b assignment) bool {
	for p := range a.places {
		if !b.has(p) {
			return false
		}
	}
	return true
}

// meets reports whether the two have a partition in common.
func (a assignment) meets(b assignment) bool {
	for p := range a.places {
		if b.has(p) {
			return true
		}
	}
	return false
}

// where returns the partitions of a that want takes.
func (a assignment) where(want func(place) bool) assignment {
	var some []place
	for p := range a.places {
		if want(p) {
			some = append(some, p)
		}
	}
	return assignmentOf(some)
}

// topics returns the topics in the order of their ids.
func (a assignment) topics() []storage.TopicID {
	return slices.SortedFunc(maps.Keys(a), func(x, y storage.TopicID) int { return bytes.Compare(x[:], y[:]) })
}

// assignmentOf collects partitions, of which some may come twice.
func assignmentOf(all []place) assignment {
	a := assignment{}
	for _, p := range all {
		a[p.topic] = append(a[p.topic], p.partition)
	}
	for topic, partitions := range a {
		slices.Sort(partitions)
		a[topic] = slices.Clip(slices.Compact(partitions))
	}
	return a
}

// ownedBy is what a member says it owns.
func ownedBy(topics []kmsg.ConsumerGroupHeartbeatRequestTopic) assignment {
	var all []place
	for _, t := range topics {
		for _, p := range t.Partitions {
			all = append(all, place{t.TopicID, p})
		}
	}
	return assignmentOf(all)
}

// toHeartbeat is the assignment as a heartbeat's answer says it.
func (a assignment) toHeartbeat() *kmsg.ConsumerGroupHeartbeatResponseAssignment {
	resp := &kmsg.ConsumerGroupHeartbeatResponseAssignment{}
	for _, topic := range a.topics() {
		resp.Topics = append(resp.Topics, kmsg.ConsumerGroupHeartbeatResponseAssignmentTopic{TopicID: topic, Partitions: a[topic]})
	}
	return resp
}

// toDescription is the assignment as a description says it, with the names that
// the topics have now. Topics that are no more are left out.
func (a assignment) toDescription(c Catalogue) (resp kmsg.Assignment) {
	for _, topic := range a.topics() {
		if name := c.TopicName(topic); name != "" {
			resp.TopicPartitions = append(resp.TopicPartitions, kmsg.AssignmentTopicPartition{TopicID: topic, Topic: name, Partitions: a[topic]})
		}
	}
	return resp
}

// toClassic is the assignment as the classic protocol hands it out. Topics that
// are no more are left out.
func (a assignment) toClassic(c Catalogue) []byte {
	v := kmsg.ConsumerMemberAssignment{}
	for _, topic := range a.topics() {
		if name := c.TopicName(topic); name != "" {
			v.Topics = append(v.Topics, kmsg.ConsumerMemberAssignmentTopic{Topic: name, Partitions: a[topic]})
		}
	}
	return v.AppendTo(nil)
}

// fromClassic is what the classic protocol says by topic names; topics that are
// no more are left out.
func fromClassic[T any](c Catalogue, topics []T, of func(T) (name string, partitions []int32)) assignment {
	var all []place
	for _, t := range topics {
		name, partitions := of(t)
		id := c.TopicID(name)
		if id == (storage.TopicID{}) {
			continue
		}
		for _, p := range partitions {
			all = append(all, place{id, p})
		}
	}
	return assignmentOf(all)
}
