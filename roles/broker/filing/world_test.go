package filing

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"rustmq.dev/rustmq/consensus/metadata"
	pb "rustmq.dev/rustmq/consensus/metadata/metadatapb"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/bucket"
	"rustmq.dev/rustmq/storage/object"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a controller, a bucket, and for each of two partitions a dumb twin that
// remembers what was ever committed or compacted there.
type world struct {
	t      testing.TB
	limits Limits
	state  *metadata.State
	index  uint64
	epoch  int64 // of broker 1
	images []*metadata.Image
	memory *bucket.Memory
	bucket *bucket.Faulty
	twins  [2][]metadata.Range
	now    time.Time

	frozen *metadata.Image // that the filer sees; nil: the newest but lag
	lag    int
	late   func() // is done before a manifest is named
	lost   bool   // the answer does not arrive
}

func newWorld(t testing.TB, l Limits) *world { return newWorldAt(t, l, metadata.LatestFeatureLevel) }

func newWorldAt(t testing.TB, l Limits, level uint32) *world {
	if err := l.Validate(); err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, limits: l, state: metadata.NewState(), memory: bucket.NewMemory(), now: time.Unix(1_000_000, 0)}
	w.bucket = bucket.NewFaulty(w.memory)
	w.must(&pb.InitCluster{ClusterId: "c", FeatureLevel: level})
	w.epoch = int64(w.must(&pb.RegisterBroker{BrokerId: 1, Incarnation: make([]byte, 16), Directory: bytes.Repeat([]byte{1}, 16)}).(metadata.BrokerEpoch))
	w.must(&pb.FenceBroker{BrokerId: 1, BrokerEpoch: w.epoch})
	w.create()
	return w
}

func (w *world) create() {
	id := worldPartition(0).Topic
	w.must(&pb.CreateTopic{TopicId: id[:], Name: "t", Assignments: []*pb.Assignment{{Replicas: []int32{1}}, {Replicas: []int32{1}}}})
}

func worldPartition(i int) storage.PartitionID {
	return storage.PartitionID{Topic: storage.TopicID{7}, Index: int32(i)}
}

func (w *world) propose(body proto.Message) any {
	command, err := metadata.Encode(w.state.Image(), body)
	if err != nil {
		w.t.Fatal(err)
	}
	w.index++
	result, err := w.state.Apply(w.index, command)
	if err != nil {
		w.t.Fatal(err)
	}
	w.images = append(w.images, w.state.Image())
	return result
}

func (w *world) must(body proto.Message) any {
	w.t.Helper()
	result := w.propose(body)
	if err := metadata.Refused(result); err != nil {
		w.t.Fatal(err)
	}
	return result
}

func (w *world) image() *metadata.Image {
	if w.frozen != nil {
		return w.frozen
	}
	return w.images[max(0, len(w.images)-1-w.lag)]
}

// partition is one as it is now, nil when its topic is deleted.
func (w *world) partition(i int) *metadata.Partition {
	_, p := w.state.Image().Partition(worldPartition(i))
	return p
}

// Prepare implements Catalogue.
func (w *world) Prepare(_ context.Context, count int) (storage.ObjectID, error) {
	result := w.propose(&pb.PrepareObjects{BrokerId: 1, BrokerEpoch: w.epoch, Count: uint32(count)})
	if err := metadata.Refused(result); err != nil {
		return 0, err
	}
	return result.(metadata.ObjectIDs).First, nil
}

// File implements Catalogue.
func (w *world) File(_ context.Context, id storage.ObjectID, ref object.ManifestRef, f *metadata.Filing) error {
	if w.late != nil {
		w.late()
	}
	result := w.propose(metadata.NewFileRanges(1, w.epoch, id, ref, f))
	if err := metadata.Refused(result); err != nil {
		return err
	}
	if w.lost {
		return errors.New("no answer")
	}
	return nil
}

func (w *world) key(id storage.ObjectID) string { return object.Key("p", "c", 1, id) }

func (w *world) options() Options {
	return Options{
		Limits: w.limits, Interval: time.Minute, Image: w.image, Broker: 1, Files: func(*metadata.Topic) bool { return true },
		Catalogue: w, Bucket: w.bucket, Key: w.key, Header: object.Header{Cluster: "c", Incarnation: 1, Broker: 1},
		IDAge: time.Hour, Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return w.now },
	}
}

func (w *world) filer() *Filer { return newFiler(w.options()) }

var errAway = errors.New("the bucket is away")

func (w *world) away(is bool) {
	w.bucket.Set()
	if is {
		w.bucket.Set(bucket.Rule{Err: errAway, Temporary: true})
	}
}

// upload commits an object: of a large range, l; a small one, s; a large one beside
// the other partition's, m; two small ones of the same partition, 2.
func (w *world) upload(i int, kind rune) {
	w.t.Helper()
	id, err := w.Prepare(context.Background(), 1)
	if err != nil {
		w.t.Fatal(err)
	}
	end := w.partition(i).CommittedEnd()
	ranges := []metadata.PartitionRange{w.rangeAt(i, end, end+10, 200)}
	switch kind {
	case 's':
		ranges[0].Range.Bytes = 20
	case 'm':
		other := w.partition(1 - i).CommittedEnd()
		ranges = append(ranges, w.rangeAt(1-i, other, other+10, 20))
	case '2':
		ranges[0].Range.Bytes = 20
		ranges = append(ranges, w.rangeAt(i, end+10, end+20, 20))
	}
	w.commit(id, metadata.NewCommitObject(1, w.epoch, id, 1000, ranges), ranges)
}

func (w *world) rangeAt(i int, base, end storage.Offset, size int64) metadata.PartitionRange {
	return metadata.PartitionRange{Partition: worldPartition(i), Range: metadata.Range{
		Base: base, End: end, Bytes: size, MaxTimestamp: int64(end), IndexPosition: 900, IndexLength: 50, IndexCRC: uint32(base),
		Epoch: w.partition(i).LeaderEpoch, HasAborts: base%3 == 0, OpenTransactions: base%7 == 0,
	}}
}

// commit puts an object, names it by a command, and has the twins know.
func (w *world) commit(id storage.ObjectID, command proto.Message, ranges []metadata.PartitionRange) {
	w.t.Helper()
	if err := w.memory.Put(context.Background(), w.key(id), bucket.Bytes("object")); err != nil {
		w.t.Fatal(err)
	}
	for _, err := range w.must(command).(metadata.RangeResults) {
		if err != nil {
			w.t.Fatal(err)
		}
	}
	for _, r := range ranges {
		r.Range.Object = id
		twin := &w.twins[r.Partition.Index]
		*twin = slices.DeleteFunc(*twin, func(is metadata.Range) bool { return is.Base >= r.Range.Base && is.End <= r.Range.End })
		*twin = append(*twin, r.Range)
		slices.SortFunc(*twin, func(a, b metadata.Range) int { return int(a.Base - b.Base) })
	}
}

// compact puts one range in the place of n, from a place in the image's on.
func (w *world) compact(i, from, n int) {
	w.t.Helper()
	is := slices.Collect(w.partition(i).Ranges().All())[from : from+n]
	id, err := w.Prepare(context.Background(), 1)
	if err != nil {
		w.t.Fatal(err)
	}
	var size int64
	for _, r := range is {
		size += r.Bytes
	}
	one := metadata.Replacement{PartitionRange: w.rangeAt(i, is[0].Base, is[n-1].End, size)}
	for _, r := range is {
		one.Removed = append(one.Removed, metadata.RemovedRange{Object: r.Object, Base: r.Base, End: r.End})
	}
	w.commit(id, metadata.NewReplaceRanges(1, w.epoch, id, 1<<20, []metadata.Replacement{one}), []metadata.PartitionRange{one.PartitionRange})
}

// logStart moves a log start.
func (w *world) logStart(i int, to storage.Offset) {
	id := worldPartition(i)
	for _, err := range w.must(&pb.MoveLogStarts{Topics: []*pb.MoveLogStarts_Topic{{TopicId: id.Topic[:], Partitions: []int32{id.Index}, Offsets: []int64{int64(to)}}}}).(metadata.LogStarts) {
		if err != nil {
			w.t.Fatal(err)
		}
	}
}

// moveLeadership has every partition led under another epoch.
func (w *world) moveLeadership() {
	w.must(&pb.FenceBroker{BrokerId: 1, BrokerEpoch: w.epoch, Fenced: true})
	w.must(&pb.FenceBroker{BrokerId: 1, BrokerEpoch: w.epoch})
}

func (w *world) recreate() {
	id := worldPartition(0).Topic
	w.must(&pb.DeleteTopic{TopicId: id[:]})
	w.twins = [2][]metadata.Range{}
	w.create()
}

// list reads a manifest.
func (w *world) list(of storage.PartitionID, is *metadata.Manifest) []object.Filed {
	w.t.Helper()
	b, err := bucket.ReadAll(context.Background(), w.memory, w.key(is.ID), 1<<20)
	if err != nil {
		w.t.Fatalf("manifest %s of %s: %v", is.ID, of, err)
	}
	m, err := object.DecodeManifest(b, is.ID, of, is.ManifestRef)
	if err != nil {
		w.t.Fatal(err)
	}
	return m.Ranges
}

// collect dissolves what is dying, condemns what was not committed if that is wanted,
// and deletes whatever is condemned, without any grace.
func (w *world) collect(prepared bool) {
	for d := range w.state.Image().Dying() {
		c := &pb.DissolveManifest{ObjectId: uint64(d.ID)}
		for _, f := range w.list(d.Partition, &d.Manifest) {
			c.Entries = object.AppendFiled(c.Entries, &f)
		}
		w.must(c)
	}
	ids := func(in metadata.ObjectState) (ids []uint64) {
		for o := range w.state.Image().ObjectsIn(in) {
			ids = append(ids, uint64(o.ID))
		}
		return ids
	}
	if prepared {
		w.must(&pb.CondemnObjects{ObjectIds: ids(metadata.Prepared)})
	}
	condemned := ids(metadata.Condemned)
	for _, id := range condemned {
		if err := w.memory.Delete(context.Background(), w.key(storage.ObjectID(id))); err != nil {
			w.t.Fatal(err)
		}
	}
	w.must(&pb.ForgetObjects{ObjectIds: condemned})
}

// check compares what partitions have, in manifests and in the image, with their
// twins, and returns all that is named. All of it is in the bucket.
func (w *world) check() (named map[storage.ObjectID]bool) {
	w.t.Helper()
	named = map[storage.ObjectID]bool{}
	for i := range w.twins {
		p := w.partition(i)
		var got []metadata.Range
		for n := range p.Filed() {
			m := &p.Filed()[n]
			named[m.ID] = true
			for _, f := range w.list(worldPartition(i), m) {
				got = append(got, metadata.RangeOf(&f))
			}
		}
		got = slices.AppendSeq(got, p.Ranges().All())
		for _, r := range got {
			named[r.Object] = true
		}
		below := func(r metadata.Range) bool { return r.End <= p.LogStart }
		w.twins[i] = slices.DeleteFunc(w.twins[i], below)
		if got = slices.DeleteFunc(got, below); !slices.Equal(got, w.twins[i]) {
			w.t.Fatalf("partition %d has\n%v\nand should have\n%v", i, got, w.twins[i])
		}
	}
	for id := range named {
		if _, err := w.memory.Stat(context.Background(), w.key(id)); err != nil {
			w.t.Fatalf("object %s is named: %v", id, err)
		}
	}
	return named
}

// TestNothingIsLostByFiling: uploads, compactions, log starts, other leader epochs,
// topics that are deleted, a bucket that fails, answers that are lost and images that
// are behind, in any order and between the planning of a manifest and its naming. At
// the end the metadata holds few ranges, and the bucket what is named and no more.
func TestNothingIsLostByFiling(t *testing.T) {
	var all Stats
	for seed := range uint64(25) {
		rng := rand.New(rand.NewPCG(seed, 11))
		w := newWorld(t, testLimits)
		f := w.filer()
		act := func() {
			i := rng.IntN(2)
			p := w.partition(i)
			switch n := p.Ranges().Len(); rng.IntN(8) {
			case 0, 1, 2, 3:
				w.upload(i, []rune("llllsm2")[rng.IntN(7)])
			case 4:
				if n > 1 {
					w.compact(i, rng.IntN(n-1), 2)
				}
			case 5:
				w.logStart(i, min(p.CommittedEnd(), p.LogStart+storage.Offset(rng.IntN(60))))
			case 6:
				if rng.IntN(4) == 0 {
					w.moveLeadership()
				}
			case 7:
				if rng.IntN(12) == 0 {
					w.recreate()
				}
			}
		}
		for range 300 {
			w.late, w.lost, w.lag = nil, rng.IntN(10) == 0, rng.IntN(4)
			if rng.IntN(4) == 0 {
				w.late = act
			}
			w.bucket.Set()
			if rng.IntN(6) == 0 {
				w.bucket.Set(bucket.Rule{Err: errAway, Temporary: true, Done: rng.IntN(2) == 0, Chance: 0.5, Seed: rng.Uint64()})
			}
			switch rng.IntN(6) {
			case 0:
				f.look()
			case 1:
				w.now = w.now.Add(time.Duration(rng.IntN(40)) * time.Second)
			case 2:
				if rng.IntN(4) == 0 {
					w.lag = 0 // a reader waits for the grace, which this has none of
					w.collect(false)
				}
			default:
				act()
			}
			w.check()
		}
		s := f.Stats()
		all.Manifests, all.Ranges, all.Dropped, all.Failures = all.Manifests+s.Manifests, all.Ranges+s.Ranges, all.Dropped+s.Dropped, all.Failures+s.Failures

		// What is not settled is compacted, as it would be.
		w.late, w.lost, w.lag = nil, false, 0
		w.bucket.Set()
		for i := range w.twins {
			for again := true; again; {
				again = false
				for n, r := range slices.Collect(w.partition(i).Ranges().All()) {
					o, _ := w.state.Image().Object(r.Object)
					if o.Mixed || o.Ranges > 1 || r.Bytes < w.limits.Large {
						if w.partition(i).Ranges().Len() < n+2 {
							break
						}
						w.compact(i, n, 2)
						again = true
						break
					}
				}
			}
		}
		for range 4 {
			w.now = w.now.Add(2 * w.limits.DropAfter)
			for f.look() > 0 {
			}
		}
		w.collect(true)
		named := w.check()
		for i := range w.twins {
			if n := w.partition(i).Ranges().Len(); n > w.limits.Ranges+w.limits.Ranges/4 {
				t.Fatalf("seed %d: the metadata holds %d ranges", seed, n)
			}
		}
		if err := w.memory.List(context.Background(), "", "", func(i bucket.Info) bool {
			if k, err := object.ParseKey("p", i.Key); err != nil || !named[k.ID] {
				t.Errorf("seed %d: %s is left, and nothing names it", seed, i.Key)
			}
			return true
		}); err != nil {
			t.Fatal(err)
		}
		if t.Failed() {
			t.FailNow()
		}
	}
	if all.Manifests < 50 || all.Dropped < 20 || all.Failures < 20 {
		t.Errorf("the schedules show little: %+v", all)
	}
	t.Logf("%+v", all)
}
