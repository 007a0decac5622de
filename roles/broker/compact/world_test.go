package compact

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"rustmq.dev/rustmq/consensus/metadata"
	pb "rustmq.dev/rustmq/consensus/metadata/metadatapb"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/bucket"
	"rustmq.dev/rustmq/storage/object"
)

const topicName = "orders"

// worldLimits are such that batches of a hundred bytes and more come to share
// objects, and to have their own.
var worldLimits = Limits{
	MinObject: 4000, TargetObject: 16_000, Fanout: 4, MaxRanges: 8, SaveRanges: 12, MaxMixed: 8,
	JobRanges: 3, JobInputs: 30, Parallel: 2, RetryMin: time.Second, RetryMax: 8 * time.Second,
}

// world is a controller, a bucket, and for each partition a dumb twin that
// remembers every batch.
type world struct {
	t      testing.TB
	mu     sync.Mutex // the compactor's goroutines propose too
	state  *metadata.State
	index  uint64
	epoch  int64 // of broker 1
	images []*metadata.Image
	memory *bucket.Memory
	bucket *bucket.Faulty
	twins  []*twin
	now    time.Time

	// late is done before a replacement is proposed; lost says that its answer does
	// not arrive.
	late func()
	lost bool
	lag  int // images that the compactor's is behind
}

// twin is a partition as it was produced.
type twin struct {
	batches []batch.Batch
	next    storage.Offset
	aborted []object.Aborted
	blobs   map[storage.Offset][]byte // producers, by the end of the range that has them
	starts  []object.EpochStart
}

func newWorld(t testing.TB, partitions int) *world {
	w := &world{t: t, state: metadata.NewState(), memory: bucket.NewMemory(), now: time.Unix(1_000_000, 0)}
	w.bucket = bucket.NewFaulty(w.memory)
	w.must(&pb.InitCluster{ClusterId: "c", FeatureLevel: metadata.LatestFeatureLevel})
	w.epoch = int64(w.must(&pb.RegisterBroker{BrokerId: 1, Incarnation: make([]byte, 16), Directory: bytes.Repeat([]byte{1}, 16)}).(metadata.BrokerEpoch))
	w.must(&pb.FenceBroker{BrokerId: 1, BrokerEpoch: w.epoch})
	create := &pb.CreateTopic{TopicId: bytes.Repeat([]byte{7}, 16), Name: topicName}
	for range partitions {
		create.Assignments = append(create.Assignments, &pb.Assignment{Replicas: []int32{1}})
		w.twins = append(w.twins, &twin{blobs: map[storage.Offset][]byte{}})
	}
	w.must(create)
	return w
}

func (w *world) propose(body proto.Message) any {
	w.mu.Lock()
	defer w.mu.Unlock()
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
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.images[max(0, len(w.images)-1-w.lag)]
}

func worldPartition(i int) storage.PartitionID {
	return storage.PartitionID{Topic: storage.TopicID(bytes.Repeat([]byte{7}, 16)), Index: int32(i)}
}

// catalogued is a partition as it is now.
func (w *world) catalogued(i int) *metadata.Partition {
	w.mu.Lock()
	defer w.mu.Unlock()
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

// Replace implements Catalogue.
func (w *world) Replace(_ context.Context, id storage.ObjectID, size int64, replacements []metadata.Replacement) ([]error, error) {
	if w.late != nil {
		w.late()
	}
	result := w.propose(metadata.NewReplaceRanges(1, w.epoch, id, size, replacements))
	if err := metadata.Refused(result); err != nil {
		return nil, err
	}
	if w.lost {
		return nil, errors.New("no answer")
	}
	return result.(metadata.RangeResults), nil
}

func (w *world) key(id storage.ObjectID) string { return object.Key("p", "c", 1, id) }

func (w *world) options() Options {
	return Options{
		Limits: worldLimits, Interval: time.Minute, Image: w.image, Broker: 1, Catalogue: w, Bucket: w.bucket, Key: w.key,
		Header: object.Header{Cluster: "c", Incarnation: 1, Broker: 1}, IDAge: time.Hour, Log: slog.New(slog.DiscardHandler),
		Now: func() time.Time { return w.now },
	}
}

// compact does what is due until nothing is.
func (w *world) compact(c *Compactor) {
	w.t.Helper()
	for range 200 {
		before := c.planner.running + len(c.planner.queue)
		c.begin()
		c.done.Wait()
		if s := c.Stats(); before == 0 && s.Queued == 0 {
			if w.quiet(c) {
				return
			}
		}
	}
	w.t.Fatal("it never comes to an end")
}

// quiet reports whether nothing would be begun now.
func (w *world) quiet(c *Compactor) bool {
	p := newPlanner(c.o.Limits)
	p.backoff, p.settling = c.planner.backoff, c.planner.settling
	return len(p.plan(c.o.Now(), c.view(w.image()))) == 0
}

// produce appends a batch of about size bytes to a partition.
func (w *world) produce(i, size int, abort bool) {
	x := w.twins[i]
	epoch := w.catalogued(i).LeaderEpoch
	if n := len(x.starts); n == 0 || x.starts[n-1].Epoch != epoch {
		x.starts = append(x.starts, object.EpochStart{Epoch: epoch, Start: x.next})
	}
	b := batch.NewBuilder(batch.BuilderOptions{BaseOffset: x.next, LeaderEpoch: epoch})
	for n := range 3 {
		b.Add(int64(x.next)*10+int64(n), nil, bytes.Repeat([]byte{byte(x.next)}, size/3))
	}
	built, err := b.Build()
	if err != nil {
		w.t.Fatal(err)
	}
	if abort {
		x.aborted = append(x.aborted, object.Aborted{ProducerID: int64(x.next), First: max(0, x.next-5), Last: x.next})
	}
	x.batches = append(x.batches, built)
	x.next = built.NextOffset()
}

// upload puts up to n batches of each partition named into one object, as the
// uploader does.
func (w *world) upload(n int, partitions ...int) {
	w.t.Helper()
	slices.Sort(partitions)
	var ranges []object.Range
	var epochs []storage.Epoch
	for _, i := range partitions {
		x, p := w.twins[i], w.catalogued(i)
		from := p.CommittedEnd()
		first := slices.IndexFunc(x.batches, func(b batch.Batch) bool { return b.NextOffset() > from })
		if first < 0 {
			continue
		}
		batches := x.batches[first:min(first+n, len(x.batches))]
		end := batches[len(batches)-1].NextOffset()
		r := object.Range{
			Partition: worldPartition(i), Topic: topicName, Base: from, End: end, LastStable: stableAt(end),
			Epochs: epochsOf(x, from, end), Aborted: abortedOf(x, from, end), Cut: batches[0].BaseOffset() < from,
			Batches: func(yield func(batch.Batch) error) error {
				for _, b := range batches {
					if err := yield(b); err != nil {
						return err
					}
				}
				return nil
			},
		}
		if int(end)%2 == 0 {
			r.Producers = fmt.Appendf(nil, "producers of %d as of %d", i, end)
			x.blobs[end] = r.Producers
		}
		ranges, epochs = append(ranges, r), append(epochs, p.LeaderEpoch)
	}
	if len(ranges) == 0 {
		return
	}
	id, err := w.Prepare(context.Background(), 1)
	if err != nil {
		w.t.Fatal(err)
	}
	var out bytes.Buffer
	s, err := object.Write(&out, object.Header{ID: id, Cluster: "c", Incarnation: 1, Broker: 1}, ranges, object.WriteOptions{BlockSize: 300})
	if err != nil {
		w.t.Fatal(err)
	}
	if err := w.memory.Put(context.Background(), w.key(id), bucket.Bytes(out.Bytes())); err != nil {
		w.t.Fatal(err)
	}
	var commit []metadata.PartitionRange
	for i := range s.Placements {
		p := &s.Placements[i]
		commit = append(commit, metadata.PartitionRange{Partition: p.Partition, Range: metadata.NewRange(p, epochs[i])})
	}
	for _, err := range w.must(metadata.NewCommitObject(1, w.epoch, id, s.Size, commit)).(metadata.RangeResults) {
		if err != nil {
			w.t.Fatal(err)
		}
	}
}

// moveLogStart moves a log start, as DeleteRecords does.
func (w *world) moveLogStart(i int, to storage.Offset) {
	id := worldPartition(i)
	for _, err := range w.must(&pb.AdvanceLogStart{BrokerId: 1, BrokerEpoch: w.epoch, Entries: []*pb.AdvanceLogStart_Entry{{
		TopicId: id.Topic[:], Partition: id.Index, LeaderEpoch: int32(w.catalogued(i).LeaderEpoch), Offset: int64(to),
	}}}).(metadata.LogStarts) {
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

// collect deletes every condemned object, without any grace.
func (w *world) collect() {
	var ids []uint64
	for o := range w.state.Image().ObjectsIn(metadata.Condemned) {
		if err := w.memory.Delete(context.Background(), w.key(o.ID)); err != nil {
			w.t.Fatal(err)
		}
		ids = append(ids, uint64(o.ID))
	}
	if len(ids) > 0 {
		w.must(&pb.ForgetObjects{ObjectIds: ids})
	}
}

// epochsOf returns what a range [from, end) says of leader epochs.
func epochsOf(x *twin, from, end storage.Offset) (epochs []object.EpochStart) {
	for i, e := range x.starts {
		if i+1 < len(x.starts) && x.starts[i+1].Start <= from {
			continue
		}
		if e.Start = max(e.Start, from); e.Start < end {
			epochs = append(epochs, e)
		}
	}
	return epochs
}

// stableAt is the last stable offset of a log that ends there.
func stableAt(end storage.Offset) storage.Offset { return end - end%3 }

func abortedOf(x *twin, from, end storage.Offset) (aborted []object.Aborted) {
	for _, a := range x.aborted {
		if from <= a.Last && a.Last < end {
			aborted = append(aborted, a)
		}
	}
	return aborted
}

// check reads every range of every partition through the catalogue.
func (w *world) check() {
	w.t.Helper()
	for i, x := range w.twins {
		p := w.catalogued(i)
		var got []batch.Batch
		var from, end storage.Offset
		for r := range p.Ranges().All() {
			if got == nil {
				from = r.Base
			}
			end = r.End
			index, batches, err := w.read(i, r)
			if err != nil {
				w.t.Fatalf("partition %d, [%d, %d) of object %s: %v", i, r.Base, r.End, r.Object, err)
			}
			got = append(got, batches...)
			w.checkIndex(x, r, index)
		}
		var want []batch.Batch
		for _, b := range x.batches {
			if b.NextOffset() > from && b.NextOffset() <= end {
				want = append(want, b)
			}
		}
		if !slices.EqualFunc(got, want, func(a, b batch.Batch) bool { return bytes.Equal(a, b) }) {
			w.t.Fatalf("partition %d: %d batches are read of [%d, %d), %d were produced", i, len(got), from, end, len(want))
		}
	}
	for o := range w.state.Image().ObjectsIn(metadata.Committed) {
		if o.Ranges == 0 {
			w.t.Fatalf("object %s has no range left and is not condemned", o.ID)
		}
	}
}

func (w *world) checkIndex(x *twin, r metadata.Range, index *object.Index) {
	w.t.Helper()
	var blob []byte
	for end := r.End; end > r.Base && blob == nil; end-- {
		blob = x.blobs[end]
	}
	aborted := abortedOf(x, r.Base, r.End)
	if !slices.Equal(index.Epochs, epochsOf(x, r.Base, r.End)) || !slices.Equal(index.Aborted, aborted) || r.HasAborts != (len(aborted) > 0) ||
		!bytes.Equal(index.Producers, blob) || index.LastStable != stableAt(r.End) || r.OpenTransactions != (stableAt(r.End) < r.End) || index.Topic != topicName {
		w.t.Fatalf("the index of [%d, %d) says %+v; epochs %v, aborts %v, producers %q are due", r.Base, r.End, index, epochsOf(x, r.Base, r.End), aborted, blob)
	}
}

func (w *world) read(i int, r metadata.Range) (*object.Index, []batch.Batch, error) {
	read := func(at int64, n int) ([]byte, error) {
		b := make([]byte, n)
		return b, w.memory.ReadAt(context.Background(), w.key(r.Object), b, at)
	}
	b, err := read(r.IndexPosition, int(r.IndexLength))
	if err != nil {
		return nil, nil, err
	}
	index, err := object.DecodeIndex(b, r.Object, r.Entry(worldPartition(i)))
	if err != nil {
		return nil, nil, err
	}
	var batches []batch.Batch
	for n, k := range index.Blocks {
		if b, err = read(k.Position, int(k.Length)); err != nil {
			return nil, nil, err
		}
		opened, err := index.OpenBlock(n, b, nil)
		if err != nil {
			return nil, nil, err
		}
		batches = append(batches, opened...)
	}
	return index, batches, nil
}
