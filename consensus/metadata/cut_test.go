package metadata

import (
	"testing"

	pb "rustmq.dev/rustmq/consensus/metadata/metadatapb"
	"rustmq.dev/rustmq/storage"
)

// TestACutTakesOffTheEnd: a life begins with what is before it, where a range ends or one that
// was made for it takes the place of that which it lies within, and names no other object.
func TestACutTakesOffTheEnd(t *testing.T) {
	for name, c := range map[string]struct {
		at      storage.Offset
		made    *Range
		refused bool
		want    []storage.Offset // where the ranges end
	}{
		"at an end":         {at: 20, want: []storage.Offset{10, 20}},
		"at the end of all": {at: 30, want: []storage.Offset{10, 20, 30}},
		"at the beginning":  {at: 0},
		"within":            {at: 15, made: &Range{Base: 10, End: 15}, want: []storage.Offset{10, 15}},
		"within, unmade":    {at: 15, refused: true},
		"made shorter":      {at: 15, made: &Range{Base: 10, End: 14}, refused: true},
		"made of another":   {at: 15, made: &Range{Base: 0, End: 15}, refused: true},
		"made for nothing":  {at: 20, made: &Range{Base: 10, End: 20}, refused: true},
		"beyond the end":    {at: 31, refused: true},
		"before it begins":  {at: -1, refused: true},
	} {
		t.Run(name, func(t *testing.T) {
			last, id := recoverable(t)
			cut := Cut{Partition: id, At: c.at}
			if c.made != nil {
				first, _ := last.RecoverableIDs()
				r := *c.made
				r.Object, r.Bytes, r.IndexLength = first, 5, 1
				cut.Rewritten = &Rewritten{Size: 10, Range: r}
			}
			next, _, err := Recover(last, RecoverOptions{Cuts: []Cut{cut}})
			if (err != nil) != c.refused {
				t.Fatalf("%v", err)
			}
			if c.refused {
				return
			}
			_, p := next.Partition(id)
			var ends []storage.Offset
			named := map[storage.ObjectID]bool{}
			for r := range p.Ranges().All() {
				ends = append(ends, r.End)
				named[r.Object] = true
			}
			if len(ends) != len(c.want) || p.CommittedEnd() != c.at {
				t.Fatalf("ranges end at %v, want %v; it is committed to %d", ends, c.want, p.CommittedEnd())
			}
			for i := range ends {
				if ends[i] != c.want[i] {
					t.Errorf("ranges end at %v, want %v", ends, c.want)
				}
			}
			for o := range next.Objects() {
				if (o.State == Committed) != named[o.ID] || o.State == Prepared {
					t.Errorf("object %s is %v", o.ID, o.State)
				}
			}
			// What is told by a snapshot is that.
			again := NewState()
			if err := again.Restore(next.Snapshot()); err != nil {
				t.Fatal(err)
			}
			if string(again.Image().Snapshot()) != string(next.Snapshot()) {
				t.Error("a snapshot of it tells another image")
			}
		})
	}
}

// TestACutTakesNoOtherObject: what takes the place of a range is of an id that nobody was given.
func TestACutTakesNoOtherObject(t *testing.T) {
	last, id := recoverable(t)
	_, p := last.Partition(id)
	named := p.Ranges().At(0).Object
	_, end := last.RecoverableIDs()
	for _, object := range []storage.ObjectID{named, last.NextObjectID(), end + 1} {
		r := &Rewritten{Size: 10, Range: Range{Base: 10, End: 15, Object: object, Bytes: 5, IndexLength: 1}}
		if _, _, err := Recover(last, RecoverOptions{Cuts: []Cut{{Partition: id, At: 15, Rewritten: r}}}); err == nil {
			t.Errorf("object %s is taken", object)
		}
	}
}

// recoverable is the last image of a cluster with a partition of which the bucket has three ranges
// of ten, each in an object of its own.
func recoverable(t *testing.T) (*Image, storage.PartitionID) {
	t.Helper()
	l := newLog(t, 1)
	l.accepted(&pb.SetBucket{Nonce: testNonce, Incarnation: 1})
	for base := storage.Offset(0); base < 30; base += 10 {
		r := rangeAt(0, base, base+10)
		l.accepted(NewCommitObject(1, 2, l.prepare(1), 1<<20, []PartitionRange{r}))
	}
	return l.state.Image(), storage.PartitionID{Topic: testID(7)}
}
