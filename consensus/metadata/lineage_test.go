package metadata

import (
	"testing"

	pb "rustmq.dev/rustmq/consensus/metadata/metadatapb"
)

// TestAnnouncedEntryIsOfThePast: an entry is ours if one who announced it wrote it, and
// it has nothing that came after.
func TestAnnouncedEntryIsOfThePast(t *testing.T) {
	s := NewState()
	index := uint64(0)
	apply := func(c *pb.AnnounceEntry) {
		t.Helper()
		index++
		if result, err := s.Apply(index, mustCommand(t, c)); err != nil || Refused(result) != nil || result != EntryIndex(index) {
			t.Fatal(result, err)
		}
	}
	index++
	if _, err := s.Apply(index, mustCommand(t, &pb.InitCluster{ClusterId: "c", FeatureLevel: LineageFeatureLevel})); err != nil {
		t.Fatal(err)
	}
	apply(&pb.AnnounceEntry{Number: 4, Term: 2, Writer: 7})
	apply(&pb.AnnounceEntry{Number: 4, Term: 3, Writer: 8})
	for range 2 {
		for _, c := range []struct {
			number, term, writer, last uint64
			want                       bool
		}{
			{4, 2, 7, 2, true}, {4, 2, 7, 1, true}, {4, 3, 8, 3, true}, {4, 2, 7, 3, false}, {4, 3, 8, 4, false},
			{4, 2, 8, 2, false}, {4, 3, 7, 2, false}, {4, 1, 7, 2, false}, {3, 2, 7, 2, false}, {5, 3, 8, 3, false},
		} {
			e := &LogEntry{Number: c.number, Term: c.term, Writer: c.writer, Last: c.last}
			if got := s.Image().Announced(e); got != c.want {
				t.Errorf("%+v: %v", c, got)
			}
		}
		restored := NewState() // and a snapshot has it
		if err := restored.Restore(s.Image().Snapshot()); err != nil {
			t.Fatal(err)
		}
		s = restored
	}
}

// TestEntryTellsThatItWasAnnounced, by its last command or its snapshot; whatever
// stands there.
func TestEntryTellsThatItWasAnnounced(t *testing.T) {
	s := NewState()
	commands := [][]byte{mustCommand(t, &pb.InitCluster{ClusterId: "c", FeatureLevel: LineageFeatureLevel}), mustCommand(t, &pb.AnnounceEntry{Number: 1, Term: 1, Writer: 1})}
	of := func(snapshot []byte) *LogEntry { return &LogEntry{Snapshot: snapshot} }
	for i, want := range []bool{false, true} {
		if _, err := s.Apply(uint64(i+1), commands[i]); err != nil {
			t.Fatal(err)
		}
		if got := of(s.Image().Snapshot()).WasAnnounced(); got != want {
			t.Errorf("snapshot at %d: %v", i+1, got)
		}
		if got := (&LogEntry{Last: 2, Commands: []LogCommand{{1, commands[0]}, {2, commands[i]}}}).WasAnnounced(); got != want {
			t.Errorf("commands up to %d: %v", i+1, got)
		}
	}
	for _, noise := range [][]byte{{}, make([]byte, 24), append(make([]byte, 24), 0xff, 0xff, 0xff, 0xff, 0x7f), append(make([]byte, 24), 2, 1, 1)} {
		if of(noise).WasAnnounced() || (&LogEntry{Commands: []LogCommand{{1, noise}}}).WasAnnounced() {
			t.Errorf("%x", noise)
		}
	}
}
