package metadata

import (
	pb "rustmq.dev/rustmq/consensus/metadata/metadatapb"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/guard"
)

// advanceLogStart moves log starts forward, each for the leader of the epoch
// that asks (RULES 5.5). One that is there already is no error.
func (m *Image) advanceLogStart(index uint64, c *pb.AdvanceLogStart) (any, *Error) {
	if refused := m.checkBrokerEpoch(c.BrokerId, c.BrokerEpoch); refused != nil {
		return nil, refused
	}
	edit := m.editCatalogue(index)
	results := make(LogStarts, len(c.Entries))
	for i, e := range c.Entries {
		if refused := edit.advance(c.BrokerId, e); refused != nil {
			results[i] = refused
		}
	}
	edit.end()
	return results, nil
}

func (e *catalogueEdit) advance(broker int32, c *pb.AdvanceLogStart_Entry) *Error {
	t, p, refused := e.findRaw(c.TopicId, c.Partition)
	if refused != nil {
		return refused
	}
	switch {
	case !guard.Check("metadata.log-start-epoch", storage.Epoch(c.LeaderEpoch) >= p.LeaderEpoch):
		return Errorf(FencedLeaderEpoch, "%s-%d: leader epoch %d, now %d", t.Name, p.Index, c.LeaderEpoch, p.LeaderEpoch)
	case storage.Epoch(c.LeaderEpoch) > p.LeaderEpoch:
		return Errorf(UnknownLeaderEpoch, "%s-%d: leader epoch %d, now %d", t.Name, p.Index, c.LeaderEpoch, p.LeaderEpoch)
	case !guard.Check("metadata.log-start-leader", p.Leader == broker):
		return Errorf(NotLeaderOrFollower, "%s-%d is led by broker %d", t.Name, p.Index, p.Leader)
	case c.Offset < 0:
		return Errorf(OffsetOutOfRange, "%s-%d: log start %d", t.Name, p.Index, c.Offset)
	case !guard.Check("metadata.log-start-forward", storage.Offset(c.Offset) > p.LogStart):
		return nil
	}
	e.moveLogStart(p, storage.Offset(c.Offset))
	return nil
}

// moveLogStarts is the controller's own, for retention, and needs no leader: it
// never passes the committed end, behind which only the leader knows the log.
func (m *Image) moveLogStarts(index uint64, c *pb.MoveLogStarts) (any, *Error) {
	edit := m.editCatalogue(index)
	var results LogStarts
	for _, t := range c.Topics {
		if len(t.Partitions) != len(t.Offsets) {
			return nil, Errorf(InvalidRequest, "%d partitions with %d offsets", len(t.Partitions), len(t.Offsets))
		}
		for i, partition := range t.Partitions {
			results = append(results, nil)
			if refused := edit.retain(t.TopicId, partition, storage.Offset(t.Offsets[i])); refused != nil {
				results[len(results)-1] = refused
			}
		}
	}
	edit.end()
	return results, nil
}

func (e *catalogueEdit) retain(topic []byte, partition int32, from storage.Offset) *Error {
	t, p, refused := e.findRaw(topic, partition)
	switch {
	case refused != nil:
		return refused
	case !guard.Check("metadata.retention-to-committed-end", from <= p.CommittedEnd()):
		return Errorf(OffsetOutOfRange, "%s-%d: log start %d is beyond the committed end %d", t.Name, p.Index, from, p.CommittedEnd())
	case !guard.Check("metadata.retention-forward", from > p.LogStart):
		return nil
	}
	e.moveLogStart(p, from)
	return nil
}

func (e *catalogueEdit) findRaw(topic []byte, partition int32) (*Topic, *Partition, *Error) {
	id, ok := topicID(topic)
	if !ok {
		return nil, nil, Errorf(InvalidRequest, "topic id of %d bytes, or zero", len(topic))
	}
	return e.find(storage.PartitionID{Topic: id, Index: partition})
}
