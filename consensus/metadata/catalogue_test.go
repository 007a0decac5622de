package metadata

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	pb "rustmq.dev/rustmq/consensus/metadata/metadatapb"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/test/seeded"
)

// log applies commands one behind the other, none of which may stop it.
type testLog struct {
	t     testing.TB
	state *State
	index uint64
}

func (l *testLog) apply(body proto.Message) any {
	l.t.Helper()
	l.index++
	result, err := l.state.Apply(l.index, mustCommand(l.t, body))
	if err != nil {
		l.t.Fatalf("index %d: %v", l.index, err)
	}
	return result
}

// accepted applies a command of which nothing is refused.
func (l *testLog) accepted(body proto.Message) any {
	l.t.Helper()
	result := l.apply(body)
	var all []error
	switch is := result.(type) {
	case *Error:
		all = []error{is}
	case RangeResults:
		all = is
	case LogStarts:
		all = is
	}
	for i, err := range all {
		if err != nil {
			l.t.Fatalf("index %d: entry %d: %v", l.index, i, err)
		}
	}
	return result
}

// newLog is a cluster with brokers 1 and 2 in service, of epochs 2 and 3, and a
// topic of ids 7 whose partitions broker 1 leads, before broker 2.
func newLog(t testing.TB, partitions int) *testLog {
	t.Helper()
	l := &testLog{t: t, state: NewState()}
	l.accepted(&pb.InitCluster{ClusterId: "c", FeatureLevel: LatestFeatureLevel})
	for id := range int32(2) {
		l.accepted(&pb.RegisterBroker{BrokerId: id + 1, Incarnation: make([]byte, 16), Directory: bytes.Repeat([]byte{byte(id)}, 16)})
	}
	for id := range int32(2) {
		l.accepted(&pb.FenceBroker{BrokerId: id + 1, BrokerEpoch: int64(id) + 2})
	}
	assignments := make([]*pb.Assignment, partitions)
	for i := range assignments {
		assignments[i] = &pb.Assignment{Replicas: []int32{1, 2}}
	}
	l.accepted(&pb.CreateTopic{TopicId: bytes.Repeat([]byte{7}, 16), Name: "t", Assignments: assignments})
	return l
}

func (l *testLog) prepare(count int) storage.ObjectID {
	l.t.Helper()
	return l.accepted(&pb.PrepareObjects{BrokerId: 1, BrokerEpoch: 2, Count: uint32(count)}).(ObjectIDs).First
}

// rangeAt is ten bytes for each offset, of an object of any size.
func rangeAt(partition int32, base, end storage.Offset) PartitionRange {
	return PartitionRange{
		Partition: storage.PartitionID{Topic: testID(7), Index: partition},
		Range:     Range{Base: base, End: end, Bytes: 10 * int64(end-base), MaxTimestamp: int64(end)},
	}
}

func (l *testLog) ranges(partition int32) Ranges {
	_, p := l.state.Image().Partition(storage.PartitionID{Topic: testID(7), Index: partition})
	return p.Ranges()
}

// TestOneMovedRangeOfAThousand (RULES 5.3): of a commit with a thousand ranges
// one has lost its leader epoch. That one is refused and only that one; and the
// object stays as long as one range of it is left (promise 4).
func TestOneMovedRangeOfAThousand(t *testing.T) {
	l := newLog(t, 1000)
	id := l.prepare(1)
	ranges := make([]PartitionRange, 1000)
	for i := range ranges {
		ranges[i] = rangeAt(int32(i), 0, 10)
	}
	ranges[500].Range.Epoch = 1 // its leader knows of a move that the catalogue does not, yet
	results := l.apply(NewCommitObject(1, 2, id, 1<<20, ranges)).(RangeResults)
	for i, err := range results {
		if (err != nil) != (i == 500) {
			t.Fatalf("range %d: %v", i, err)
		}
	}
	o, _ := l.state.Image().Object(id)
	if o.State != Committed || o.Ranges != 999 || o.LiveBytes != 99_900 || !o.Mixed || l.ranges(500).Len() != 0 || l.ranges(499).Len() != 1 {
		t.Fatalf("object %+v", o)
	}
	for i := range int32(1000) {
		if o, _ := l.state.Image().Object(id); o.State != Committed {
			t.Fatalf("condemned with %d ranges left: %+v", 1000-i, o)
		}
		l.accepted(&pb.AdvanceLogStart{BrokerId: 1, BrokerEpoch: 2, Entries: []*pb.AdvanceLogStart_Entry{{TopicId: ranges[i].Partition.Topic[:], Partition: i, Offset: 10}}})
	}
	if o, _ := l.state.Image().Object(id); o.State != Condemned || o.Since != l.index || o.LiveBytes != 0 {
		t.Fatalf("after its last range: %+v", o)
	}
}

// TestLatePutAfterCondemn (RULES 5.3): an id that was not committed in time is
// condemned; from then on its commit is refused, also after its key was deleted
// and the id forgotten, and it is never issued again.
func TestLatePutAfterCondemn(t *testing.T) {
	l := newLog(t, 1)
	id := l.prepare(1)
	commit := NewCommitObject(1, 2, id, 1000, []PartitionRange{rangeAt(0, 0, 10)})
	if n := l.accepted(&pb.CondemnObjects{ObjectIds: []uint64{uint64(id)}}); n != ObjectCount(1) {
		t.Fatalf("%v condemned", n)
	}
	late := func(when string) {
		t.Helper()
		if err := Refused(l.apply(commit)); CodeOf(err) != ResourceNotFound || l.ranges(0).Len() != 0 {
			t.Fatalf("%s: %v", when, err)
		}
	}
	late("condemned")
	l.accepted(&pb.ForgetObjects{ObjectIds: []uint64{uint64(id)}})
	late("forgotten")
	if next := l.prepare(1); next <= id || l.state.Image().NextObjectID() != next+1 {
		t.Fatalf("issued %s after %s", next, id)
	}
	late("forgotten, and others issued")
}

// TestPauseBetweenPhases (RULES 5.3): a broker uploads, stands still while
// another leads, commits and goes on, and then sends its phase two. Its range is
// refused and its object condemned, whether its registration is still the same
// or, at best, was renewed.
func TestPauseBetweenPhases(t *testing.T) {
	l := newLog(t, 1)
	id := l.prepare(2)
	zombie := func(id storage.ObjectID) proto.Message {
		return NewCommitObject(1, 2, id, 1000, []PartitionRange{rangeAt(0, 0, 10)})
	}
	l.accepted(&pb.FenceBroker{BrokerId: 1, BrokerEpoch: 2, Fenced: true})
	l.accepted(&pb.FenceBroker{BrokerId: 1, BrokerEpoch: 2})
	if _, p := l.state.Image().Partition(storage.PartitionID{Topic: testID(7)}); p.Leader != 2 || p.LeaderEpoch != 1 {
		t.Fatalf("%+v", p)
	}
	results := l.apply(zombie(id)).(RangeResults)
	if CodeOf(results[0]) != FencedLeaderEpoch {
		t.Fatalf("under the old epoch: %v", results)
	}
	if o, _ := l.state.Image().Object(id); o.State != Condemned {
		t.Fatalf("%+v", o)
	}
	ranges := []PartitionRange{rangeAt(0, 0, 10)}
	ranges[0].Range.Epoch = 1
	if got := l.apply(NewCommitObject(1, 2, id+1, 1000, ranges)).(RangeResults); CodeOf(got[0]) != NotLeaderOrFollower {
		t.Fatalf("under the epoch of another: %v", got)
	}
	theirs := l.accepted(&pb.PrepareObjects{BrokerId: 2, BrokerEpoch: 3, Count: 1}).(ObjectIDs).First
	l.accepted(NewCommitObject(2, 3, theirs, 1000, ranges))
	id = l.prepare(1)
	l.accepted(&pb.RegisterBroker{BrokerId: 1, Incarnation: bytes.Repeat([]byte{1}, 16), Directory: make([]byte, 16)})
	if err := Refused(l.apply(zombie(id))); CodeOf(err) != StaleBrokerEpoch || l.ranges(0).Len() != 1 {
		t.Fatalf("of the old registration: %v", err)
	}
	if o, _ := l.state.Image().Object(id); o.State != Prepared {
		t.Fatalf("%+v", o)
	}
}

// One step takes a range away and names its object again: the object stays.
func TestObjectNamedAgainInOneStep(t *testing.T) {
	l := newLog(t, 1)
	id := l.prepare(2)
	l.accepted(NewCommitObject(1, 2, id, 1000, []PartitionRange{rangeAt(0, 0, 10)}))
	result := l.accepted(NewReplaceRanges(1, 2, id+1, 1000, []Replacement{
		{PartitionRange: rangeAt(0, 0, 10), Removed: []RemovedRange{{id, 0, 10}}},
		{PartitionRange: rangeAt(0, 0, 10), Removed: []RemovedRange{{id + 1, 0, 10}}},
	}))
	if o, _ := l.state.Image().Object(id + 1); o.State != Committed || o.Ranges != 1 {
		t.Fatalf("%v: %+v", result, o)
	}
}

func TestMalformedColumnsAreRefused(t *testing.T) {
	whole := func() *pb.ReplaceRanges {
		return NewReplaceRanges(1, 2, 1, 1000, []Replacement{
			{PartitionRange: rangeAt(0, 0, 10), Removed: []RemovedRange{{1, 0, 5}, {2, 5, 10}}},
			{PartitionRange: rangeAt(1, 0, 10), Removed: []RemovedRange{{1, 0, 10}}},
		})
	}
	if _, refused := decodeReplacements(whole()); refused != nil {
		t.Fatal(refused)
	}
	for name, damage := range map[string]func(*pb.ReplaceRanges){
		"no columns":           func(c *pb.ReplaceRanges) { c.Ranges = nil },
		"no ranges":            func(c *pb.ReplaceRanges) { c.Ranges = &pb.Ranges{} },
		"short epochs":         func(c *pb.ReplaceRanges) { c.Ranges.LeaderEpochs = c.Ranges.LeaderEpochs[1:] },
		"short bases":          func(c *pb.ReplaceRanges) { c.Ranges.Bases = c.Ranges.Bases[1:] },
		"short lengths":        func(c *pb.ReplaceRanges) { c.Ranges.Lengths = c.Ranges.Lengths[1:] },
		"short bytes":          func(c *pb.ReplaceRanges) { c.Ranges.Bytes = c.Ranges.Bytes[1:] },
		"short timestamps":     func(c *pb.ReplaceRanges) { c.Ranges.MaxTimestamps = c.Ranges.MaxTimestamps[1:] },
		"short positions":      func(c *pb.ReplaceRanges) { c.Ranges.IndexPositions = c.Ranges.IndexPositions[1:] },
		"short index lengths":  func(c *pb.ReplaceRanges) { c.Ranges.IndexLengths = c.Ranges.IndexLengths[1:] },
		"short CRCs":           func(c *pb.ReplaceRanges) { c.Ranges.IndexCrcs = c.Ranges.IndexCrcs[1:] },
		"short flags":          func(c *pb.ReplaceRanges) { c.Ranges.Flags = c.Ranges.Flags[1:] },
		"flag without a name":  func(c *pb.ReplaceRanges) { c.Ranges.Flags[1] = 4 },
		"cut topic id":         func(c *pb.ReplaceRanges) { c.Ranges.TopicIds = c.Ranges.TopicIds[1:] },
		"zero topic id":        func(c *pb.ReplaceRanges) { clear(c.Ranges.TopicIds) },
		"topic of none":        func(c *pb.ReplaceRanges) { c.Ranges.TopicRanges[0] = 0 },
		"topic of too many":    func(c *pb.ReplaceRanges) { c.Ranges.TopicRanges[0] = 3 },
		"ranges of no topic":   func(c *pb.ReplaceRanges) { c.Ranges.TopicRanges[0] = 1 },
		"short removed":        func(c *pb.ReplaceRanges) { c.Removed = c.Removed[1:] },
		"nothing removed":      func(c *pb.ReplaceRanges) { c.Removed[0] = 0 },
		"too many removed":     func(c *pb.ReplaceRanges) { c.Removed[1] = 2 },
		"removed of none":      func(c *pb.ReplaceRanges) { c.Removed[0] = 1 },
		"short removed object": func(c *pb.ReplaceRanges) { c.RemovedObjects = c.RemovedObjects[1:] },
	} {
		c := whole()
		damage(c)
		if _, refused := decodeReplacements(c); refused == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

// TestColumnsComeBack: what is encoded is decoded, whatever the order.
func TestColumnsComeBack(t *testing.T) {
	seeded.Check(t, func(t *rapid.T) {
		var ranges []PartitionRange
		for range rapid.IntRange(1, 20).Draw(t, "ranges") {
			ranges = append(ranges, PartitionRange{
				Partition: storage.PartitionID{Topic: testID(byte(rapid.IntRange(1, 3).Draw(t, "topic"))), Index: rapid.Int32().Draw(t, "partition")},
				Range: Range{
					Base: storage.Offset(rapid.Int64().Draw(t, "base")), End: storage.Offset(rapid.Int64().Draw(t, "end")),
					Bytes: rapid.Int64().Draw(t, "bytes"), MaxTimestamp: rapid.Int64().Draw(t, "time"),
					IndexPosition: rapid.Int64().Draw(t, "position"), IndexLength: rapid.Uint32().Draw(t, "length"), IndexCRC: rapid.Uint32().Draw(t, "crc"),
					Epoch: storage.Epoch(rapid.Int32().Draw(t, "epoch")), HasAborts: rapid.Bool().Draw(t, "aborts"), OpenTransactions: rapid.Bool().Draw(t, "open"),
				},
			})
		}
		if back, refused := decodeRanges(encodeRanges(ranges)); refused != nil || !slices.Equal(back, ranges) {
			t.Fatalf("%v\n%v\n%v", refused, back, ranges)
		}
	})
}

// TestRangesLikeASlice holds the list in chunks against a plain one.
func TestRangesLikeASlice(t *testing.T) {
	seeded.Check(t, func(t *rapid.T) {
		var list Ranges
		var twin []Range
		draw := func(base storage.Offset, n int) (ranges []Range) {
			for range n {
				end := base + storage.Offset(rapid.IntRange(1, 3).Draw(t, "length"))
				ranges = append(ranges, Range{Base: base, End: end, Bytes: int64(end), MaxTimestamp: rapid.Int64Range(0, 1000).Draw(t, "time")})
				base = end
			}
			return ranges
		}
		end := storage.Offset(0)
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			before, beforeTwin := list, slices.Clone(twin)
			switch rapid.IntRange(0, 3).Draw(t, "step") {
			case 0:
				more := draw(end, rapid.IntRange(1, 300).Draw(t, "more"))
				if rapid.Bool().Draw(t, "at once") {
					list = list.splice(list.Len(), list.Len(), more...)
				} else {
					for _, r := range more {
						list = list.splice(list.Len(), list.Len(), r)
					}
				}
				twin = append(twin, more...)
				end = twin[len(twin)-1].End
			case 1:
				cut := rapid.IntRange(0, len(twin)).Draw(t, "cut")
				list, twin = list.splice(0, cut), slices.Clone(twin[cut:])
			default:
				if len(twin) == 0 {
					continue
				}
				from := rapid.IntRange(0, len(twin)-1).Draw(t, "from")
				to := min(len(twin), from+rapid.IntRange(1, 150).Draw(t, "run"))
				one := Range{Base: twin[from].Base, End: twin[to-1].End, Bytes: 1, MaxTimestamp: 5}
				list, twin = list.splice(from, to, one), slices.Replace(slices.Clone(twin), from, to, one)
			}
			checkRanges(t, list, twin)
			if got := slices.Collect(before.All()); !slices.Equal(got, beforeTwin) {
				t.Fatal("an earlier version changed")
			}
		}
		offset := storage.Offset(rapid.Int64Range(-1, int64(end)+1).Draw(t, "offset"))
		at := slices.IndexFunc(twin, func(r Range) bool { return r.End > offset })
		var from []Range
		if at >= 0 {
			from = twin[at:]
		}
		if got := slices.Collect(list.From(offset)); !slices.Equal(got, from) {
			t.Fatalf("from %d: %v, want %v", offset, got, from)
		}
		r, found := list.Find(offset)
		if want := at >= 0 && twin[at].Base <= offset; found != want || found && r != twin[at] {
			t.Fatalf("find %d: %v, %v", offset, r, found)
		}
		millis := rapid.Int64Range(0, 1001).Draw(t, "millis")
		at = slices.IndexFunc(twin, func(r Range) bool { return r.MaxTimestamp >= millis })
		if r, found := list.FindTime(millis); found != (at >= 0) || found && r != twin[at] {
			t.Fatalf("time %d: %v, %v", millis, r, found)
		}
	})
}

func checkRanges(t *rapid.T, list Ranges, twin []Range) {
	t.Helper()
	bytes := int64(0)
	for i, r := range twin {
		bytes += r.Bytes
		if i%50 == 0 && list.At(i) != r {
			t.Fatalf("at %d: %v, want %v", i, list.At(i), r)
		}
	}
	last, some := list.Last()
	switch {
	case !slices.Equal(slices.Collect(list.All()), twin):
		t.Fatalf("lists differ")
	case list.Len() != len(twin), list.Bytes() != bytes:
		t.Fatalf("%d ranges with %d bytes, want %d with %d", list.Len(), list.Bytes(), len(twin), bytes)
	case some != (len(twin) > 0), some && last != twin[len(twin)-1]:
		t.Fatalf("last %v, %v", last, some)
	}
	if most := 2*len(twin)/chunkRanges + 20; len(list.chunks) > most {
		t.Fatalf("%d chunks for %d ranges", len(list.chunks), len(twin))
	}
	for _, c := range list.chunks {
		if len(c.ranges) < 1 || len(c.ranges) > chunkRanges {
			t.Fatalf("a chunk of %d", len(c.ranges))
		}
	}
}

// TestSnapshotOfLevel1 reads what the first version wrote, and still writes it
// for a cluster at that level: one that is being upgraded has both.
func TestSnapshotOfLevel1(t *testing.T) {
	golden := goldenHex(t, "testdata/level1.hex")
	s := NewState()
	if err := s.Restore(golden); err != nil {
		t.Fatal(err)
	}
	if want := sample(t).Image(); show(s.Image()) != show(want) || s.Image().FeatureLevel() != 1 {
		t.Fatalf("restored\n%s\nwant\n%s", show(s.Image()), show(want))
	}
	if now := sample(t).Snapshot()(); !bytes.Equal(now, golden) {
		t.Fatalf("written now:\n%s", hex.Dump(now))
	}
	l := &testLog{t: t, state: s, index: 5}
	l.accepted(&pb.SetFeatureLevel{Level: 2})
	if first := l.accepted(&pb.PrepareObjects{BrokerId: 1, BrokerEpoch: 2, Count: 1}).(ObjectIDs).First; first != 1 {
		t.Fatalf("first id %s", first)
	}
}

// TestSnapshotOfLevel2: the same, of the last version before manifests.
func TestSnapshotOfLevel2(t *testing.T) {
	golden := goldenHex(t, "testdata/level2.hex")
	s := NewState()
	if err := s.Restore(golden); err != nil || s.Image().FeatureLevel() != ObjectsFeatureLevel {
		t.Fatalf("level %d, %v", s.Image().FeatureLevel(), err)
	}
	if again, now := s.Snapshot()(), sampleWithObjectsAt(t, ObjectsFeatureLevel).Snapshot()(); !bytes.Equal(again, golden) || !bytes.Equal(now, golden) {
		t.Fatalf("written now:\n%s", hex.Dump(now))
	}
}

func goldenHex(t *testing.T, name string) (golden []byte) {
	t.Helper()
	dump, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(dump)) {
		raw, err := hex.DecodeString(strings.ReplaceAll(strings.TrimSpace(line[10:58]), " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		golden = append(golden, raw...)
	}
	return golden
}

// TestChangedPartitionsTellsOfRanges: a commit, a replacement and retention are
// changes of the partition that they touch, and of no other.
func TestChangedPartitionsTellsOfRanges(t *testing.T) {
	l := newLog(t, 200)
	id := l.prepare(2)
	before := l.state.Image()
	changed := func(what string, want ...int32) {
		t.Helper()
		var got []int32
		for was, is := range l.state.Image().ChangedTopics(before) {
			for _, p := range ChangedPartitions(was, is) {
				got = append(got, p.Index)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: partitions %v changed, want %v", what, got, want)
		}
		before = l.state.Image()
	}
	l.accepted(NewCommitObject(1, 2, id, 5000, []PartitionRange{rangeAt(3, 0, 10), rangeAt(150, 0, 10), rangeAt(150, 10, 20)}))
	changed("commit", 3, 150)
	l.accepted(NewReplaceRanges(1, 2, id+1, 5000, []Replacement{{PartitionRange: rangeAt(150, 0, 20), Removed: []RemovedRange{{id, 0, 10}, {id, 10, 20}}}}))
	changed("replacement", 150)
	topic := testID(7)
	l.accepted(&pb.MoveLogStarts{Topics: []*pb.MoveLogStarts_Topic{{TopicId: topic[:], Partitions: []int32{3, 4}, Offsets: []int64{10, 0}}}})
	changed("retention", 3)
}

// commitOf makes a commit of n ranges that looks like an upload: 8 KiB each, close in time.
func commitOf(id storage.ObjectID, n int, partition func(i int) storage.PartitionID) *pb.CommitObject {
	ranges := make([]PartitionRange, n)
	for i := range ranges {
		base := storage.Offset(1_000_000 + i*7919)
		ranges[i] = PartitionRange{Partition: partition(i), Range: Range{
			Base: base, End: base + 80 + storage.Offset(i%40), Bytes: 8192 + int64(i*37%4096),
			MaxTimestamp: 1_800_000_000_000 + int64(i*997%250), Epoch: 5,
			IndexPosition: 9<<20 + int64(i)*180, IndexLength: 180, IndexCRC: uint32(i) * 2654435761,
		}}
	}
	return NewCommitObject(1, 2, id, 16<<20, ranges)
}

// TestCommandBytesPerRange bounds what a range takes in the log.
func TestCommandBytesPerRange(t *testing.T) {
	for _, shape := range []struct {
		name       string
		partitions int // of a topic
		most       int
	}{{"one topic", 1000, 30}, {"ten partitions a topic", 10, 32}, {"a topic each", 1, 48}} {
		command := mustCommand(t, commitOf(1, 1000, func(i int) storage.PartitionID {
			return storage.PartitionID{Topic: numberedID(i / shape.partitions), Index: int32(i % shape.partitions)}
		}))
		t.Logf("%s: %d.%d bytes per range", shape.name, len(command)/1000, len(command)/100%10)
		if len(command) > shape.most*1000 {
			t.Errorf("%s: %d bytes for 1,000 ranges", shape.name, len(command))
		}
	}
}

// BenchmarkCommit applies commits of 1,000 ranges to an image of 100,000
// partitions.
func BenchmarkCommit(b *testing.B) {
	for _, shape := range []struct{ topics, partitions, before int }{{1, 100_000, 0}, {1000, 100, 0}, {1000, 100, 100}, {100_000, 1, 0}, {1, 1, 100_000}} {
		b.Run(fmt.Sprintf("topics=%d/partitions=%d/ranges-before=%d", shape.topics, shape.partitions, shape.before), func(b *testing.B) {
			benchmarkCommit(b, shape.topics, shape.partitions, shape.before)
		})
	}
}

func benchmarkCommit(b *testing.B, topics, partitions, before int) {
	s := large(b, topics, partitions)
	l := &testLog{t: b, state: s, index: s.Image().Offset()}
	l.accepted(&pb.SetFeatureLevel{Level: LatestFeatureLevel})
	ends := make([]storage.Offset, topics*partitions)
	next := 0
	commit := func(n int) []byte {
		id := l.prepare(1)
		ranges := make([]PartitionRange, n)
		for i := range ranges {
			p := (next + i) % len(ends)
			ranges[i] = PartitionRange{
				Partition: storage.PartitionID{Topic: numberedID(p / partitions), Index: int32(p % partitions)},
				Range:     Range{Base: ends[p], End: ends[p] + 100, Bytes: 100},
			}
			ends[p] += 100
		}
		next += n
		return mustCommand(b, NewCommitObject(1, 2, id, 1<<40, ranges))
	}
	for range topics * partitions * before / 10_000 {
		command := commit(10_000)
		l.index++
		if result, err := s.Apply(l.index, command); err != nil || result.(RangeResults)[0] != nil {
			b.Fatal(result, err)
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		command := commit(1000)
		l.index++
		b.StartTimer()
		if result, err := s.Apply(l.index, command); err != nil || result.(RangeResults)[999] != nil {
			b.Fatal(result, err)
		}
	}
}

// BenchmarkImageBytes reports what a range takes in memory and in a snapshot.
func BenchmarkImageBytes(b *testing.B) {
	for _, each := range []int{1, 10, 100, 1000} {
		b.Run(fmt.Sprintf("ranges-per-partition=%d", each), func(b *testing.B) {
			l := newLog(b, 1000)
			heap := func() uint64 {
				var m runtime.MemStats
				runtime.GC()
				runtime.ReadMemStats(&m)
				return m.HeapAlloc
			}
			empty := heap()
			for round := range each {
				ranges := make([]PartitionRange, 1000)
				for i := range ranges {
					ranges[i] = rangeAt(int32(i), storage.Offset(round)*10, storage.Offset(round+1)*10)
				}
				l.accepted(NewCommitObject(1, 2, l.prepare(1), 1<<30, ranges))
			}
			full := heap()
			var snapshot []byte
			for b.Loop() {
				snapshot = l.state.Image().Snapshot()
			}
			n := float64(l.state.Image().NumRanges())
			b.ReportMetric(float64(full-empty)/n, "heap-B/range")
			b.ReportMetric(float64(len(snapshot))/n, "snapshot-B/range")
		})
	}
}
