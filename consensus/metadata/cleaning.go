package metadata

import (
	pb "rustmq.dev/rustmq/consensus/metadata/metadatapb"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/guard"
)

// Cleaning is how far compaction by key has come in a partition. It says what need
// not be done again, and nothing that a reader has to know: a record that is still
// there though the state says otherwise is one too many, no more.
//
// A round goes through the ranges from the log start on, in order of offset, and
// takes out what has a later record of the same key below Round.
type Cleaning struct {
	// To is where the last round came to: below it, each key has one record.
	To storage.Offset
	// Round is where the round that is under way will come to, and Next the end of
	// the ranges that it is done with. 0: none is under way.
	Round, Next storage.Offset
	// Due is when the first tombstone or marker that the last round left may go, in
	// milliseconds since 1970, NextDue the same of what the present one is done
	// with. 0: there is none.
	Due, NextDue int64
}

// Cleaning returns how far compaction by key has come.
func (p *Partition) Cleaning() Cleaning {
	if p.cleaning == nil {
		return Cleaning{}
	}
	return *p.cleaning
}

// NewRecordCleaning returns the command that notes how far compaction by key has
// come in a partition that the broker leads under that epoch.
func NewRecordCleaning(brokerID int32, brokerEpoch int64, p storage.PartitionID, epoch storage.Epoch, c Cleaning) *pb.RecordCleaning {
	return &pb.RecordCleaning{
		BrokerId: brokerID, BrokerEpoch: brokerEpoch, TopicId: p.Topic[:], Partition: p.Index, LeaderEpoch: int32(epoch), Cleaning: c.encode(),
	}
}

// encode returns nil for a partition that was never cleaned.
func (c Cleaning) encode() *pb.Cleaning {
	if c == (Cleaning{}) {
		return nil
	}
	return &pb.Cleaning{To: int64(c.To), Round: int64(c.Round), Next: int64(c.Next), Due: c.Due, NextDue: c.NextDue}
}

// decodeCleaning reads what encode writes; nil: never cleaned.
func decodeCleaning(c *pb.Cleaning) (*Cleaning, *Error) {
	is := Cleaning{
		To: storage.Offset(c.GetTo()), Round: storage.Offset(c.GetRound()), Next: storage.Offset(c.GetNext()), Due: c.GetDue(), NextDue: c.GetNextDue(),
	}
	switch {
	case is == Cleaning{}:
		return nil, nil
	case is.To < 0 || is.Next < 0 || is.Due < 0 || is.NextDue < 0,
		is.Round != 0 && is.Round < is.To,
		is.Round == 0 && (is.Next != 0 || is.NextDue != 0):
		return nil, Errorf(InvalidRequest, "compaction by key to %d, a round to %d that is done to %d, due %d and %d", is.To, is.Round, is.Next, is.Due, is.NextDue)
	}
	return &is, nil
}

// recordCleaning notes how far compaction by key has come. It never goes back, and
// never passes what is in the bucket (RULES 5.7).
func (m *Image) recordCleaning(index uint64, c *pb.RecordCleaning) *Error {
	if refused := m.checkBrokerEpoch(c.BrokerId, c.BrokerEpoch); refused != nil {
		return refused
	}
	cleaning, refused := decodeCleaning(c.Cleaning)
	if refused != nil {
		return refused
	}
	if cleaning == nil {
		return Errorf(InvalidRequest, "compaction by key came to nothing")
	}
	edit := m.editCatalogue(index)
	t, p, refused := edit.findRaw(c.TopicId, c.Partition)
	if refused != nil {
		return refused
	}
	end := p.CommittedEnd()
	switch {
	case !guard.Check("metadata.cleaning-epoch", storage.Epoch(c.LeaderEpoch) >= p.LeaderEpoch):
		return Errorf(FencedLeaderEpoch, "%s-%d: leader epoch %d, now %d", t.Name, p.Index, c.LeaderEpoch, p.LeaderEpoch)
	case storage.Epoch(c.LeaderEpoch) > p.LeaderEpoch:
		return Errorf(UnknownLeaderEpoch, "%s-%d: leader epoch %d, now %d", t.Name, p.Index, c.LeaderEpoch, p.LeaderEpoch)
	case !guard.Check("metadata.cleaning-leader", p.Leader == c.BrokerId):
		return Errorf(NotLeaderOrFollower, "%s-%d is led by broker %d", t.Name, p.Index, p.Leader)
	case !guard.Check("metadata.cleaning-committed", max(cleaning.To, cleaning.Round, cleaning.Next) <= end):
		return Errorf(OffsetOutOfRange, "%s-%d: compaction by key to %d, %d and %d, the bucket has it to %d", t.Name, p.Index, cleaning.To, cleaning.Round, cleaning.Next, end)
	case !guard.Check("metadata.cleaning-forward", cleaning.To >= p.Cleaning().To):
		return Errorf(Conflict, "%s-%d: compaction by key to %d, it came to %d before", t.Name, p.Index, cleaning.To, p.Cleaning().To)
	}
	edit.change(p).cleaning = cleaning
	edit.end()
	return nil
}
