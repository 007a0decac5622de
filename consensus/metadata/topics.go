package metadata

import (
	"slices"

	pb "rustmq.dev/rustmq/consensus/metadata/metadatapb"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/guard"
)

func (m *Image) createTopic(index uint64, c *pb.CreateTopic) *Error {
	id, ok := topicID(c.TopicId)
	if !ok {
		return Errorf(InvalidRequest, "topic id of %d bytes, or zero", len(c.TopicId))
	}
	if err := m.CheckNewTopic(c.Name); err != nil {
		return err
	}
	if _, taken := m.topics.get(id); taken {
		return Errorf(InvalidRequest, "topic id %s is taken", id)
	}
	configs, refused := setConfigs(nil, c.Configs, nil)
	if refused != nil {
		return refused
	}
	partitions, refused := m.newPartitions(0, c.Assignments)
	if refused != nil {
		return refused
	}
	t := &Topic{
		Name: c.Name, ID: id, Internal: c.Internal, ReplicasUnset: c.ReplicasUnset,
		Configs: configs, ConfigVersion: index,
		Partitions: PartitionsOf(partitions...),
	}
	if refused := m.checkHeld(t, partitions); refused != nil {
		return refused
	}
	m.addTopic(t)
	return nil
}

// CheckNewTopic reports why no topic of that name can be made, nil if one can.
func (m *Image) CheckNewTopic(name string) *Error {
	if err := ValidTopicName(name); err != nil {
		return err.(*Error)
	}
	if _, taken := m.names.get(name); taken {
		return Errorf(TopicAlreadyExists, "topic %q", name)
	}
	if key, ok := collisionKey(name); ok {
		if other, taken := m.collisions.get(key); taken {
			return Errorf(InvalidTopic, "topic %q collides with %q: names must differ in more than '.' and '_'", name, other)
		}
	}
	return nil
}

func (m *Image) addTopic(t *Topic) {
	m.topics = m.topics.put(t.ID, t)
	m.names = m.names.put(t.Name, t.ID)
	if key, ok := collisionKey(t.Name); ok {
		m.collisions = m.collisions.put(key, t.Name)
	}
	m.partitions += t.Partitions.Len()
}

// deleteTopic takes the topic's ranges and manifests away with it.
func (m *Image) deleteTopic(index uint64, c *pb.DeleteTopic) *Error {
	t, refused := m.topicOf(c.TopicId)
	if refused != nil {
		return refused
	}
	m.topics = m.topics.without(t.ID)
	m.names = m.names.without(t.Name)
	if key, ok := collisionKey(t.Name); ok {
		m.collisions = m.collisions.without(key)
	}
	m.partitions -= t.Partitions.Len()
	edit := m.editCatalogue(index)
	for p := range t.Partitions.All() {
		edit.lose(p.Ranges(), 0, p.Ranges().Len())
		edit.die(storage.PartitionID{Topic: t.ID, Index: p.Index}, p.Filed())
	}
	edit.end()
	return nil
}

func (m *Image) createPartitions(c *pb.CreatePartitions) *Error {
	t, refused := m.topicOf(c.TopicId)
	if refused != nil {
		return refused
	}
	if !guard.Check("metadata.partitions-expected", int(c.Existing) == t.Partitions.Len()) {
		return Errorf(Conflict, "topic %q has %d partitions by now, not %d", t.Name, t.Partitions.Len(), c.Existing)
	}
	partitions, refused := m.newPartitions(t.Partitions.Len(), c.Assignments)
	if refused != nil {
		return refused
	}
	if refused := m.checkHeld(t, partitions); refused != nil {
		return refused
	}
	changed := *t
	changed.Partitions = t.Partitions.with(partitions)
	m.topics = m.topics.put(t.ID, &changed)
	m.partitions += len(partitions)
	return nil
}

// newPartitions makes partitions with indexes from first on. Each has at least
// one replica in service; those make up its ISR.
func (m *Image) newPartitions(first int, assignments []*pb.Assignment) ([]Partition, *Error) {
	if len(assignments) < 1 || first+len(assignments) > MaxPartitionsPerTopic {
		return nil, Errorf(InvalidPartitions, "%d partitions: a topic has 1 to %d", first+len(assignments), MaxPartitionsPerTopic)
	}
	partitions := make([]Partition, 0, len(assignments))
	for i, a := range assignments {
		p := Partition{Index: int32(first + i), Leader: NoLeader, Replicas: a.Replicas}
		if len(a.Replicas) < 1 || len(a.Replicas) > MaxReplicas {
			return nil, Errorf(InvalidReplicaAssignment, "partition %d: %d replicas", p.Index, len(a.Replicas))
		}
		if len(a.Replicas) != len(assignments[0].Replicas) {
			return nil, Errorf(InvalidReplicaAssignment, "partition %d has %d replicas, others %d", p.Index, len(a.Replicas), len(assignments[0].Replicas))
		}
		for j, id := range a.Replicas {
			if _, known := m.brokers.get(id); !known {
				return nil, Errorf(InvalidReplicaAssignment, "partition %d: broker %d is not registered", p.Index, id)
			}
			if slices.Contains(a.Replicas[:j], id) {
				return nil, Errorf(InvalidReplicaAssignment, "partition %d: broker %d is named twice", p.Index, id)
			}
			if !guard.Check("metadata.drained-gets-nothing", !m.draining(id)) {
				return nil, Errorf(InvalidReplicaAssignment, "partition %d: broker %d is being drained", p.Index, id)
			}
			if m.alive(id) {
				p.ISR = append(p.ISR, id)
			}
		}
		if len(p.ISR) == 0 {
			return nil, Errorf(InvalidReplicaAssignment, "partition %d: none of its brokers %v is in service", p.Index, a.Replicas)
		}
		p.Leader = p.ISR[0]
		partitions = append(partitions, p)
	}
	return partitions, nil
}

func (m *Image) topicOf(raw []byte) (*Topic, *Error) {
	id, ok := topicID(raw)
	if !ok {
		return nil, Errorf(InvalidRequest, "topic id of %d bytes, or zero", len(raw))
	}
	t, ok := m.topics.get(id)
	if !ok {
		return nil, Errorf(UnknownTopicID, "topic id %s", id)
	}
	return t, nil
}

func topicID(raw []byte) (id storage.TopicID, ok bool) {
	if len(raw) != len(id) {
		return id, false
	}
	copy(id[:], raw)
	return id, !id.IsZero()
}
