package metadata

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	pb "rustmq.dev/rustmq/consensus/metadata/metadatapb"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/object"
)

// shelf is what manifests hold: the dumb twin of the bucket. It remembers every one
// that was ever proposed, by its CRC too, for an id may be tried more than once.
type shelf map[shelved][]object.Filed

type shelved struct {
	id  storage.ObjectID
	crc uint32
}

func (s shelf) content(m *Manifest) []object.Filed { return s[shelved{m.ID, m.CRC}] }

// make writes a manifest of ranges and keeps it.
func (s shelf) make(id storage.ObjectID, of storage.PartitionID, ranges []object.Filed) (object.ManifestRef, error) {
	m := object.Manifest{Header: object.Header{ID: id, Cluster: "c"}, Partition: of, Topic: "t", Ranges: ranges}
	_, ref, err := m.Encode()
	if err == nil {
		s[shelved{id, ref.CRC}] = slices.Clone(ranges)
	}
	return ref, err
}

// has reports whether an object is listed in a manifest of an image.
func (s shelf) has(m *Image, id storage.ObjectID) bool {
	for _, is := range m.Manifests() {
		if slices.ContainsFunc(s.content(is), func(f object.Filed) bool { return f.Object == id }) {
			return true
		}
	}
	return false
}

// file draws a command that files ranges of a partition, most of the time rightly.
func (s shelf) file(t *rapid.T, m *Image, p *Partition, of storage.PartitionID, broker int32, epoch int64, id storage.ObjectID) proto.Message {
	f := Filing{Partition: of, LeaderEpoch: p.LeaderEpoch}
	var ranges []object.Filed
	if filed := p.Filed(); len(filed) > 0 && rapid.IntRange(0, 5).Draw(t, "replace") > 0 {
		at := rapid.SampledFrom([]int{0, len(filed) - 1, len(filed) - 1}).Draw(t, "at")
		was := &filed[at]
		f.Replaced = was.ID
		ranges = slices.Clone(s.content(was))
		below := 0
		for below < len(ranges) && ranges[below].End <= p.LogStart {
			below++
		}
		if n := rapid.IntRange(0, 11).Draw(t, "drop"); n > 0 && at == 0 && below > 0 {
			n = min(below+n/11, len(ranges))
			f.Dropped, ranges = ranges[:n:n], ranges[n:]
		}
	}
	n := rapid.IntRange(0, 3).Draw(t, "moved")
	for r := range p.Ranges().All() {
		if len(f.Moved) >= n || len(f.Moved)+1 >= p.Ranges().Len() && rapid.IntRange(0, 9).Draw(t, "last") > 0 {
			break
		}
		o, _ := m.Object(r.Object)
		if o.Mixed || o.Ranges > 1 {
			if rapid.IntRange(0, 9).Draw(t, "shared") > 0 {
				break
			}
		}
		f.Moved = append(f.Moved, FiledRange(&r, o.Size))
	}
	if rapid.IntRange(0, 19).Draw(t, "skip") == 0 && len(f.Moved) > 0 {
		f.Moved = f.Moved[1:]
	}
	ranges = append(ranges, f.Moved...)
	ref, err := s.make(id, of, ranges)
	if err != nil {
		ref = object.ManifestRef{CRC: 1, Bytes: 30}
	}
	return NewFileRanges(broker, epoch, id, ref, &f)
}

// dissolve draws a command that dissolves a manifest, most likely a dying one.
func (s shelf) dissolve(t *rapid.T, m *Image) proto.Message {
	c := &pb.DissolveManifest{ObjectId: 1}
	for _, is := range m.Manifests() {
		if _, dying := m.dying.get(is.ID); dying || rapid.IntRange(0, 3).Draw(t, "alive") == 0 {
			c = dissolving(is.ID, s.content(is))
		}
	}
	if rapid.IntRange(0, 5).Draw(t, "cut") == 0 && len(c.Entries) > 0 {
		c.Entries = c.Entries[:len(c.Entries)-1]
	}
	return c
}

func dissolving(id storage.ObjectID, ranges []object.Filed) *pb.DissolveManifest {
	c := &pb.DissolveManifest{ObjectId: uint64(id)}
	for i := range ranges {
		c.Entries = object.AppendFiled(c.Entries, &ranges[i])
	}
	return c
}

// check compares the references of an image with what they stand for: each object
// that is listed is listed once, and in no state; what left the ranges of a
// partition is in its manifests, in its place, as long as the log start allows.
func (s shelf) check(before, m *Image) error {
	if s == nil {
		return nil // what manifests hold is not known
	}
	var sum filed
	listed := map[storage.ObjectID]bool{}
	for of, is := range m.Manifests() {
		ranges := s.content(is)
		sum.add(is, 1)
		if len(ranges) != is.Ranges || ranges[0].Base != is.Base || ranges[len(ranges)-1].End != is.End {
			return fmt.Errorf("manifest %+v of %s has %d ranges", *is, of, len(ranges))
		}
		ref, err := s.make(is.ID, of, ranges)
		if err != nil || ref != is.ManifestRef {
			return fmt.Errorf("manifest %s: %+v, the image says %+v (%v)", is.ID, ref, is.ManifestRef, err)
		}
		var bytes, objectBytes int64
		for _, f := range ranges {
			if _, known := m.Object(f.Object); known || listed[f.Object] || f.Object >= m.NextObjectID() {
				return fmt.Errorf("manifest %s lists object %s, which is listed twice or in a state", is.ID, f.Object)
			}
			listed[f.Object] = true
			bytes += f.Bytes
			objectBytes += f.Size
			if f.MaxTimestamp > is.MaxTimestamp || f.HasAborts && !is.HasAborts || f.OpenTransactions && !is.OpenTransactions {
				return fmt.Errorf("manifest %+v says less than %+v", *is, f)
			}
		}
		if bytes != is.RangeBytes || objectBytes != is.ObjectBytes {
			return fmt.Errorf("manifest %+v has %d bytes in objects of %d", *is, bytes, objectBytes)
		}
	}
	if sum != m.filed {
		return fmt.Errorf("manifests hold %+v, counted as %+v", sum, m.filed)
	}
	// What was listed and is no more came into a state.
	for _, is := range before.Manifests() {
		for _, f := range s.content(is) {
			if _, known := m.Object(f.Object); !known && !listed[f.Object] {
				return fmt.Errorf("object %s of manifest %s is nowhere any more", f.Object, is.ID)
			}
		}
	}
	for t := range m.Topics() {
		for p := range t.Partitions.All() {
			was, old := before.Partition(storage.PartitionID{Topic: t.ID, Index: p.Index})
			if was == nil {
				continue
			}
			now := s.all(p)
			for _, r := range s.all(old) {
				if r.End <= p.LogStart {
					continue
				}
				i, _ := slices.BinarySearchFunc(now, r.Base, func(is Range, base storage.Offset) int { return int(is.End - base - 1) })
				if i == len(now) || now[i].Base > r.Base || now[i].End < r.End {
					return fmt.Errorf("%s-%d: nothing has [%d, %d) any more", t.Name, p.Index, r.Base, r.End)
				}
			}
		}
	}
	return nil
}

// all is the ranges of a partition, filed or not.
func (s shelf) all(p *Partition) (ranges []Range) {
	for i := range p.Filed() {
		for _, f := range s.content(&p.Filed()[i]) {
			ranges = append(ranges, RangeOf(&f))
		}
	}
	return slices.AppendSeq(ranges, p.Ranges().All())
}

// fill commits n objects of partition 0, with ten offsets each, the first from the
// committed end on.
func (l *testLog) fill(n int) {
	l.t.Helper()
	for n > 0 {
		some := min(n, MaxPreparedIDs)
		first := l.prepare(some)
		for i := range some {
			_, p := l.state.Image().Partition(storage.PartitionID{Topic: testID(7)})
			end := p.CommittedEnd()
			l.accepted(NewCommitObject(1, 2, first+storage.ObjectID(i), 1<<26, []PartitionRange{rangeAt(0, end, end+10)}))
		}
		n -= some
	}
}

// filing is the command that moves n ranges of partition 0 behind what the last
// manifest has, or into a new one; of the first manifest, it leaves out drop.
func (l *testLog) filing(s shelf, n, drop int, replace bool) *pb.FileRanges {
	l.t.Helper()
	of := storage.PartitionID{Topic: testID(7)}
	_, p := l.state.Image().Partition(of)
	f := Filing{Partition: of, LeaderEpoch: p.LeaderEpoch}
	var ranges []object.Filed
	if filed := p.Filed(); replace {
		was := &filed[len(filed)-1]
		f.Replaced = was.ID
		ranges = slices.Clone(s.content(was))
		f.Dropped, ranges = ranges[:drop:drop], ranges[drop:]
	}
	for r := range p.Ranges().All() {
		if len(f.Moved) == n {
			break
		}
		o, _ := l.state.Image().Object(r.Object)
		f.Moved = append(f.Moved, FiledRange(&r, o.Size))
	}
	id := l.prepare(1)
	ref, err := s.make(id, of, append(ranges, f.Moved...))
	if err != nil {
		l.t.Fatal(err)
	}
	return NewFileRanges(1, 2, id, ref, &f)
}

func (l *testLog) logStart(to storage.Offset) {
	l.t.Helper()
	topic := testID(7)
	l.accepted(&pb.MoveLogStarts{Topics: []*pb.MoveLogStarts_Topic{{TopicId: topic[:], Partitions: []int32{0}, Offsets: []int64{int64(to)}}}})
}

func (l *testLog) refused(code Code, body proto.Message) {
	l.t.Helper()
	before := l.state.Image()
	if err := Refused(l.apply(body)); CodeOf(err) != code {
		l.t.Fatalf("%v, want %v", err, code)
	}
	after := *l.state.Image()
	if after.offset = before.offset; !bytes.Equal(after.Snapshot(), before.Snapshot()) {
		l.t.Fatal("a refused command changed something")
	}
}

// TestManifestsTakeOver follows ranges into manifests, out of them by the log
// start, and to their end with the topic.
func TestManifestsTakeOver(t *testing.T) {
	l, s := newLog(t, 1), shelf{}
	of := storage.PartitionID{Topic: testID(7)}
	partition := func() *Partition {
		_, p := l.state.Image().Partition(of)
		return p
	}
	l.fill(20)
	whole := s.all(partition())
	l.accepted(l.filing(s, 5, 0, false)) // [0, 50)
	first := partition().Filed()[0]
	l.accepted(l.filing(s, 5, 0, true)) // [0, 100)
	l.accepted(l.filing(s, 5, 0, false))
	if p := partition(); len(p.Filed()) != 2 || p.Ranges().Len() != 5 || p.Filed()[0].Ranges != 10 || !slices.Equal(s.all(p), whole) || p.TieredBytes() != 2000 {
		t.Fatalf("%+v, %d ranges", p.Filed(), p.Ranges().Len())
	}
	m := l.state.Image()
	if o, ok := m.Object(first.ID); !ok || o.State != Condemned || m.NumObjects(Committed) != 7+15 || m.ObjectBytes(Committed) < 20<<26 || m.FiledRanges() != 15 || m.LiveBytes() != 2000 || m.filed.objectBytes != 15<<26 {
		t.Fatalf("the manifest that was replaced is %+v; %d committed, %d filed", o, m.NumObjects(Committed), m.FiledRanges())
	}
	if err := s.check(m, m); err != nil {
		t.Fatal(err)
	}

	// The log start passes into the first manifest, past it, and into the last.
	l.logStart(99)
	if p := partition(); len(p.Filed()) != 2 || m.NumObjects(Condemned) != 1 {
		t.Fatalf("%+v", p.Filed())
	}
	before := partition().Filed()[0]
	l.logStart(100)
	if p := partition(); len(p.Filed()) != 1 || p.Filed()[0].Base != 100 {
		t.Fatalf("%+v", p.Filed())
	}
	l.logStart(125)
	l.accepted(l.filing(s, 1, 2, true))
	if p := partition(); p.Filed()[0].Base != 120 || p.Filed()[0].End != 160 || p.Filed()[0].Ranges != 4 {
		t.Fatalf("%+v", p.Filed())
	}
	for i, r := range whole[10:12] {
		if o, ok := l.state.Image().Object(r.Object); !ok || o.State != Condemned || o.Size != 1<<26 || o.Since != l.index {
			t.Fatalf("dropped object %d is %+v", i, o)
		}
	}

	// The first is dissolved; its objects lived until then, in the bucket's eyes.
	if _, known := l.state.Image().Object(whole[0].Object); known {
		t.Fatal("an object of a manifest is in a state before that is dissolved")
	}
	other := slices.Clone(s.content(&before))
	other[3].Size++
	l.refused(InvalidRequest, dissolving(before.ID, other))
	l.refused(InvalidRequest, dissolving(before.ID, other[1:]))
	l.refused(ResourceNotFound, dissolving(partition().Filed()[0].ID, s.content(&partition().Filed()[0])))
	if n := l.accepted(dissolving(before.ID, s.content(&before))); n != ObjectCount(11) {
		t.Fatalf("%v condemned", n)
	}
	l.refused(ResourceNotFound, dissolving(before.ID, s.content(&before)))
	topic := testID(7)
	l.accepted(&pb.DeleteTopic{TopicId: topic[:]})
	for d := range l.state.Image().Dying() {
		if d.Partition != of {
			t.Fatalf("%+v", d)
		}
		l.accepted(dissolving(d.ID, s.content(&d.Manifest)))
	}
	m = l.state.Image()
	if m.filed != (filed{}) || m.NumObjects(Committed) != 0 || m.NumObjects(Condemned) != len(whole)+4 || m.LiveBytes() != 0 {
		t.Fatalf("%+v left, %d committed, %d condemned", m.filed, m.NumObjects(Committed), m.NumObjects(Condemned))
	}
}

// TestFilingIsRefusedWhole: whatever has changed since a broker wrote a manifest,
// nothing of it is taken, and everything stays where it was.
func TestFilingIsRefusedWhole(t *testing.T) {
	begin := func() (*testLog, shelf) {
		l, s := newLog(t, 1), shelf{}
		l.fill(9)
		l.accepted(l.filing(s, 3, 0, false))
		return l, s
	}
	for name, c := range map[string]struct {
		code   Code
		change func(l *testLog, s shelf, c *pb.FileRanges)
	}{
		"another leader epoch": {FencedLeaderEpoch, func(_ *testLog, _ shelf, c *pb.FileRanges) { c.LeaderEpoch-- }},
		"another leader": {NotLeaderOrFollower, func(l *testLog, _ shelf, c *pb.FileRanges) {
			c.BrokerId, c.BrokerEpoch = 2, 3
			c.ObjectId = uint64(l.accepted(&pb.PrepareObjects{BrokerId: 2, BrokerEpoch: 3, Count: 1}).(ObjectIDs).First)
		}},
		"another registration":    {StaleBrokerEpoch, func(_ *testLog, _ shelf, c *pb.FileRanges) { c.BrokerEpoch-- }},
		"other content":           {Conflict, func(_ *testLog, _ shelf, c *pb.FileRanges) { c.Crc++ }},
		"another size":            {Conflict, func(_ *testLog, _ shelf, c *pb.FileRanges) { c.Size++ }},
		"another object":          {Conflict, func(_ *testLog, _ shelf, c *pb.FileRanges) { c.MovedObjects[1]++ }},
		"another manifest":        {Conflict, func(_ *testLog, _ shelf, c *pb.FileRanges) { c.Replaced++ }},
		"all ranges":              {InvalidRequest, func(l *testLog, s shelf, c *pb.FileRanges) { proto.Merge(reset(c), l.filing(s, 6, 0, true)) }},
		"what is above the start": {OffsetOutOfRange, func(l *testLog, s shelf, c *pb.FileRanges) { proto.Merge(reset(c), l.filing(s, 2, 1, true)) }},
		"nothing":                 {InvalidRequest, func(_ *testLog, _ shelf, c *pb.FileRanges) { c.Replaced, c.MovedObjects = 0, nil }},
		"a compacted topic": {PolicyViolation, func(l *testLog, _ shelf, _ *pb.FileRanges) {
			l.accepted(&pb.AlterConfigs{ResourceType: int32(TopicResource), Name: "t", Version: l.configVersion(), Set: []*pb.ConfigEntry{{Key: cleanupPolicy, Value: "compact,delete"}}})
		}},
		"a shared object": {InvalidRequest, func(l *testLog, s shelf, c *pb.FileRanges) {
			id := l.prepare(1)
			l.accepted(NewCommitObject(1, 2, id, 1<<26, []PartitionRange{rangeAt(0, 90, 95), rangeAt(0, 95, 99)}))
			l.fill(1)
			proto.Merge(reset(c), l.filing(s, 7, 0, true))
		}},
		"a compaction before": {Conflict, func(l *testLog, _ shelf, _ *pb.FileRanges) {
			r := rangeAt(0, 30, 50)
			one := Replacement{PartitionRange: r}
			for is := range l.ranges(0).All() {
				if is.Base < 50 {
					one.Removed = append(one.Removed, RemovedRange{is.Object, is.Base, is.End})
				}
			}
			l.accepted(NewReplaceRanges(1, 2, l.prepare(1), 1<<26, []Replacement{one}))
		}},
		"a log start before":    {Conflict, func(l *testLog, _ shelf, _ *pb.FileRanges) { l.logStart(45) }},
		"another filing before": {Conflict, func(l *testLog, s shelf, _ *pb.FileRanges) { l.accepted(l.filing(s, 2, 0, true)) }},
	} {
		t.Run(name, func(t *testing.T) {
			l, s := begin()
			l.t = t
			filing := l.filing(s, 2, 0, true)
			c.change(l, s, filing)
			l.refused(c.code, filing)
			m := l.state.Image()
			if err := s.check(m, m); err != nil {
				t.Fatal(err)
			}
		})
	}

	// A manifest in the middle takes in nothing, and is not cut.
	l, s := begin()
	l.accepted(l.filing(s, 3, 0, false))
	middle := l.filing(s, 2, 0, true)
	_, p := l.state.Image().Partition(storage.PartitionID{Topic: testID(7)})
	middle.Replaced = uint64(p.Filed()[0].ID)
	l.refused(Conflict, middle)

	// A compaction that comes after a filing finds its ranges gone.
	one := Replacement{PartitionRange: rangeAt(0, 30, 50)}
	for _, f := range s.content(&p.Filed()[1])[:2] {
		one.Removed = append(one.Removed, RemovedRange{f.Object, f.Base, f.End})
	}
	if got := l.apply(NewReplaceRanges(1, 2, l.prepare(1), 1<<26, []Replacement{one})).(RangeResults); CodeOf(got[0]) != Conflict {
		t.Fatalf("%v", got)
	}
}

func reset(c *pb.FileRanges) *pb.FileRanges {
	proto.Reset(c)
	return c
}

func (l *testLog) configVersion() uint64 {
	_, v := l.state.Image().Config(Resource{TopicResource, "t"})
	return v
}

// TestNothingNamedIsCondemnedByAManifest: a broker that says that a manifest listed
// what is named elsewhere is refused.
func TestNothingNamedIsCondemnedByAManifest(t *testing.T) {
	l, s := newLog(t, 1), shelf{}
	l.fill(6)
	l.accepted(l.filing(s, 3, 0, false))
	l.logStart(15)
	c := l.filing(s, 1, 1, true)
	_, p := l.state.Image().Partition(storage.PartitionID{Topic: testID(7)})
	lie := s.content(&p.Filed()[0])[0]
	named, _ := p.Ranges().Last()
	lie.Object = named.Object
	c.Dropped = object.AppendFiled(nil, &lie)
	// The broker wrote what follows from its lie.
	was, moved := p.Filed()[0], slices.Collect(p.Ranges().All())[0]
	o, _ := l.state.Image().Object(moved.Object)
	entry := FiledRange(&moved, o.Size)
	rest := int(was.ManifestRef.Bytes) - len(c.Dropped)
	c.Crc = object.AddFiledCRC(object.CutFiledCRC(was.CRC, c.Dropped, rest), object.AppendFiled(nil, &entry))
	c.Size = uint64(object.ManifestHead + rest + len(object.AppendFiled(nil, &entry)))
	l.refused(Conflict, c)
}

// TestFilingOverRandomSchedules commits, compacts, files, moves log starts, drops,
// dissolves and forgets in any order, by commands most of which fit and some of
// which were meant for an older image: no range is lost, nothing named is condemned,
// nothing is forgotten that was not, and a snapshot has all of it.
func TestFilingOverRandomSchedules(t *testing.T) {
	accepted := map[string]int{}
	for seed := range uint64(14) {
		rng := rand.New(rand.NewPCG(seed, 7))
		l, s := newLog(t, 2), shelf{}
		var stale []proto.Message
		for step := range 200 {
			before := l.state.Image()
			of := storage.PartitionID{Topic: testID(7 + byte(rng.IntN(2))), Index: rng.Int32N(2)}
			at := func(partition int32, base, end storage.Offset) PartitionRange {
				r := rangeAt(partition, base, end)
				r.Partition.Topic = of.Topic
				return r
			}
			_, p := before.Partition(of)
			var body proto.Message
			switch kind := rng.IntN(20); {
			case len(stale) > 0 && kind == 0:
				body = stale[rng.IntN(len(stale))]
			case p == nil:
				if rng.IntN(2) == 0 {
					body = &pb.CreateTopic{TopicId: of.Topic[:], Name: string(rune('m' + of.Topic[0])), Assignments: []*pb.Assignment{{Replicas: []int32{1}}, {Replicas: []int32{1}}}}
				}
			case kind < 6:
				r := at(of.Index, p.CommittedEnd(), p.CommittedEnd()+storage.Offset(1+rng.IntN(9)))
				r.Range.MaxTimestamp, r.Range.HasAborts, r.Range.OpenTransactions = rng.Int64N(1000), rng.IntN(5) == 0, rng.IntN(5) == 0
				ranges := []PartitionRange{r}
				if rng.IntN(4) == 0 {
					_, other := before.Partition(storage.PartitionID{Topic: of.Topic, Index: 1 - of.Index})
					ranges = append(ranges, at(1-of.Index, other.CommittedEnd(), other.CommittedEnd()+3))
				}
				body = NewCommitObject(1, 2, l.prepare(1), 1000, ranges)
			case kind < 8 && p.Ranges().Len() > 1:
				l2 := slices.Collect(p.Ranges().All())
				from := rng.IntN(len(l2) - 1)
				one := Replacement{PartitionRange: at(of.Index, l2[from].Base, l2[from+1].End)}
				for _, r := range l2[from : from+2] {
					one.Removed = append(one.Removed, RemovedRange{r.Object, r.Base, r.End})
				}
				body = NewReplaceRanges(1, 2, l.prepare(1), 1000, []Replacement{one})
			case kind < 14:
				body = s.random(rng, l, p, of)
			case kind < 16:
				to := p.LogStart + storage.Offset(rng.IntN(20))
				body = &pb.MoveLogStarts{Topics: []*pb.MoveLogStarts_Topic{{TopicId: of.Topic[:], Partitions: []int32{of.Index}, Offsets: []int64{int64(min(to, p.CommittedEnd()))}}}}
			case kind == 16 && rng.IntN(6) == 0:
				body = &pb.DeleteTopic{TopicId: of.Topic[:]}
			case kind == 17:
				var ids []uint64
				for o := range before.ObjectsIn(Condemned) {
					ids = append(ids, uint64(o.ID))
				}
				body = &pb.ForgetObjects{ObjectIds: ids}
			default:
				for d := range before.Dying() {
					body = dissolving(d.ID, s.content(&d.Manifest))
				}
			}
			if body == nil {
				continue
			}
			if rng.IntN(3) == 0 {
				stale = append(stale, body)
			}
			before = l.state.Image()
			result := l.apply(body)
			if Refused(result) == nil {
				accepted[fmt.Sprintf("%T", body)]++
				if c, ok := body.(*pb.FileRanges); ok && c.DroppedRanges > 0 {
					accepted["dropping"]++
				}
			}
			if err := checkImage(before, l.state.Image(), s, mustCommand(t, body)); err != nil {
				t.Fatalf("seed %d, step %d, after %T (%v): %v", seed, step, body, Refused(result), err)
			}
			if rng.IntN(20) == 0 {
				restored := NewState()
				if err := restored.Restore(l.state.Snapshot()()); err != nil || !bytes.Equal(restored.Snapshot()(), l.state.Snapshot()()) {
					t.Fatalf("seed %d, step %d: restore: %v", seed, step, err)
				}
				l.state = restored
			}
		}
	}
	t.Log(accepted)
	for _, what := range []string{"*metadatapb.FileRanges", "*metadatapb.DissolveManifest", "dropping", "*metadatapb.ReplaceRanges"} {
		if accepted[what] < 10 {
			t.Errorf("only %d times %s: the schedules show nothing", accepted[what], what)
		}
	}
}

// random files what can be filed of a partition: some of its first ranges, behind
// the last manifest or in one of their own, or what is left of the first manifest.
func (s shelf) random(rng *rand.Rand, l *testLog, p *Partition, of storage.PartitionID) proto.Message {
	m := l.state.Image()
	f := Filing{Partition: of, LeaderEpoch: p.LeaderEpoch}
	var ranges []object.Filed
	filed := p.Filed()
	at := len(filed) - 1
	if len(filed) > 0 && rng.IntN(2) == 0 {
		at = 0
	}
	if len(filed) > 0 && rng.IntN(4) > 0 {
		f.Replaced, ranges = filed[at].ID, slices.Clone(s.content(&filed[at]))
		for at == 0 && len(ranges) > 1 && ranges[0].End <= p.LogStart && rng.IntN(8) > 0 {
			f.Dropped, ranges = append(f.Dropped, ranges[0]), ranges[1:]
		}
	}
	if at == len(filed)-1 {
		most := rng.IntN(4)
		for r := range p.Ranges().All() {
			o, _ := m.Object(r.Object)
			if len(f.Moved) == most || o.Mixed || len(f.Moved)+1 == p.Ranges().Len() {
				break
			}
			f.Moved = append(f.Moved, FiledRange(&r, o.Size))
		}
	}
	id := l.prepare(1)
	ref, err := s.make(id, of, append(ranges, f.Moved...))
	if err != nil {
		return nil
	}
	return NewFileRanges(1, 2, id, ref, &f)
}

// TestManifestsComeWithTheirLevel: a cluster below level 3 files nothing, and its
// snapshot has nothing of it.
func TestManifestsComeWithTheirLevel(t *testing.T) {
	below := &Image{clusterID: "c", featureLevel: ManifestsFeatureLevel - 1}
	for _, body := range []proto.Message{&pb.FileRanges{}, &pb.DissolveManifest{}} {
		if _, err := Encode(below, body); CodeOf(err) != UnsupportedVersion {
			t.Errorf("%T below level 3: %v", body, err)
		}
	}
}

// TestMemoryDependsOnPartitions: what retained ranges of a partition take of
// the image before they are filed, and after.
func TestMemoryDependsOnPartitions(t *testing.T) {
	const ranges, keep = 4_000, 64
	take := func(file bool) int64 {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.GC() // empties pools of what other tests have put there
		runtime.ReadMemStats(&before)
		s := NewState()
		l := newLog(t, 1)
		l.fill(ranges)
		if file {
			s := shelf{}
			for at := ranges; at > keep; at -= min(4096, at-keep) {
				l.accepted(l.filing(s, min(4096, at-keep), 0, false))
			}
		}
		snapshot := l.state.Snapshot()()
		l = nil
		if err := s.Restore(snapshot); err != nil {
			t.Fatal(err)
		}
		size := len(snapshot)
		snapshot = nil
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&after)
		t.Logf("filed %v: %d bytes of memory, %d of snapshot", file, after.HeapAlloc-before.HeapAlloc, size)
		runtime.KeepAlive(s)
		return int64(after.HeapAlloc) - int64(before.HeapAlloc)
	}
	whole, filed := take(false), take(true)
	t.Logf("%.1f bytes a range before, %.2f after", float64(whole)/ranges, float64(filed)/ranges)
	if filed*8 > whole { // the runtime's own is in it, too
		t.Fatalf("%d bytes with manifests, %d without", filed, whole)
	}
}

// TestEntriesAreReckonedWithoutThem: the CRC of what is left of entries, and of what
// came to them, follows from theirs.
func TestEntriesAreReckonedWithoutThem(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		b := make([]byte, rng.IntN(5000))
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		cut := rng.IntN(len(b) + 1)
		whole := object.AddFiledCRC(0, b)
		if object.AddFiledCRC(object.AddFiledCRC(0, b[:cut]), b[cut:]) != whole || object.CutFiledCRC(whole, b[:cut], len(b)-cut) != object.AddFiledCRC(0, b[cut:]) {
			t.Fatalf("%d bytes, cut at %d", len(b), cut)
		}
	}
}

// BenchmarkManifests applies the commands of a full manifest: 64 ranges more, and its
// end, with 4,096 objects.
func BenchmarkManifests(b *testing.B) {
	l, s := newLog(b, 1), shelf{}
	l.fill(4096 + 64)
	l.accepted(l.filing(s, 4032, 0, false))
	more := mustCommand(b, l.filing(s, 64, 0, true))
	of := l.state.Snapshot()()
	apply := func(b *testing.B, snapshot, command []byte) {
		b.ReportAllocs()
		for b.Loop() {
			b.StopTimer()
			fresh := NewState()
			if err := fresh.Restore(snapshot); err != nil {
				b.Fatal(err)
			}
			b.StartTimer()
			if result, err := fresh.Apply(l.index+10, command); err != nil || Refused(result) != nil {
				b.Fatal(err, Refused(result))
			}
		}
		b.ReportMetric(float64(len(command)), "command-bytes")
	}
	b.Run("file=64", func(b *testing.B) { apply(b, of, more) })
	l.apply(l.filing(s, 64, 0, true))
	topic := testID(7)
	l.accepted(&pb.DeleteTopic{TopicId: topic[:]})
	for d := range l.state.Image().Dying() {
		command := mustCommand(b, dissolving(d.ID, s.content(&d.Manifest)))
		b.Run("dissolve=4096", func(b *testing.B) { apply(b, l.state.Snapshot()(), command) })
	}
}
