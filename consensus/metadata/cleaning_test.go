package metadata

import (
	"bytes"
	"testing"

	pb "rustmq.dev/rustmq/consensus/metadata/metadatapb"
	"rustmq.dev/rustmq/storage"
)

// TestCleaningIsTheLeadersAndGoesForward: how far compaction by key has come is
// noted for the leader of the epoch alone, never goes back, and never passes what is
// in the bucket (RULES 5.7). It outlives a snapshot.
func TestCleaningIsTheLeadersAndGoesForward(t *testing.T) {
	l := newLog(t, 2)
	l.accepted(NewCommitObject(1, 2, l.prepare(1), 1000, []PartitionRange{rangeAt(0, 0, 50)}))
	id := storage.PartitionID{Topic: testID(7)}
	begun := Cleaning{To: 10, Round: 40, Next: 50, Due: 7, NextDue: 9}
	cleaning := func() Cleaning {
		_, p := l.state.Image().Partition(id)
		return p.Cleaning()
	}
	l.accepted(NewRecordCleaning(1, 2, id, 0, begun))
	for name, refused := range map[string]struct {
		command *pb.RecordCleaning
		code    Code
	}{
		"an older epoch":              {NewRecordCleaning(1, 2, id, -1, Cleaning{To: 40}), FencedLeaderEpoch},
		"an epoch that is not known":  {NewRecordCleaning(1, 2, id, 1, Cleaning{To: 40}), UnknownLeaderEpoch},
		"a broker that does not lead": {NewRecordCleaning(2, 3, id, 0, Cleaning{To: 40}), NotLeaderOrFollower},
		"a stale registration":        {NewRecordCleaning(1, 1, id, 0, Cleaning{To: 40}), StaleBrokerEpoch},
		"beyond the bucket":           {NewRecordCleaning(1, 2, id, 0, Cleaning{To: 51}), OffsetOutOfRange},
		"a round beyond the bucket":   {NewRecordCleaning(1, 2, id, 0, Cleaning{To: 20, Round: 60}), OffsetOutOfRange},
		"back":                        {NewRecordCleaning(1, 2, id, 0, Cleaning{To: 9}), Conflict},
		"a round backwards":           {NewRecordCleaning(1, 2, id, 0, Cleaning{To: 20, Round: 19}), InvalidRequest},
		"done with no round":          {NewRecordCleaning(1, 2, id, 0, Cleaning{To: 20, Next: 20}), InvalidRequest},
		"nothing":                     {NewRecordCleaning(1, 2, id, 0, Cleaning{}), InvalidRequest},
		"another topic":               {NewRecordCleaning(1, 2, storage.PartitionID{Topic: testID(8)}, 0, Cleaning{To: 40}), UnknownTopicID},
	} {
		if err := Refused(l.apply(refused.command)); CodeOf(err) != refused.code || cleaning() != begun {
			t.Errorf("%s: %v, now %+v", name, err, cleaning())
		}
	}
	restored := NewState()
	if err := restored.Restore(l.state.Snapshot()()); err != nil {
		t.Fatal(err)
	}
	if _, p := restored.Image().Partition(id); p.Cleaning() != begun || !bytes.Equal(restored.Snapshot()(), l.state.Snapshot()()) {
		t.Errorf("after a snapshot: %+v", p.Cleaning())
	}
	l.accepted(NewRecordCleaning(1, 2, id, 0, Cleaning{To: 40, Due: 9}))
	if cleaning() != (Cleaning{To: 40, Due: 9}) {
		t.Errorf("%+v", cleaning())
	}
}
