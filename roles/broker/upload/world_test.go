package upload

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"rustmq.dev/rustmq/consensus/metadata"
	pb "rustmq.dev/rustmq/consensus/metadata/metadatapb"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/bucket"
	"rustmq.dev/rustmq/storage/disk"
	"rustmq.dev/rustmq/storage/log"
	"rustmq.dev/rustmq/storage/object"
	"rustmq.dev/rustmq/test/seeded"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errAway = errors.New("connection refused")

const worldIDAge = time.Minute

var worldTopic = storage.TopicID{7}

// world is one broker's log beside a bucket and a catalogue, each of which may
// fail: the shells around an uploader, and what a client was told.
type world struct {
	t      *testing.T
	fs     disk.FS
	store  *log.Store
	inner  bucket.Bucket
	bucket *bucket.Faulty
	limits Limits
	config log.Config // of logs
	up     *Uploader
	said   slog.Handler

	mu       sync.Mutex
	state    *metadata.State
	registry int64 // epoch of the registration
	start    byte
	// before and after a command about objects: an error before it ends it, one
	// after it is a lost answer; each may wait.
	before, after func(command string) error
	issued        map[storage.ObjectID]time.Time
	behind        bool // images are not carried out
	// answersNothing: commits have no results.
	answersNothing bool
	roles          map[storage.PartitionID]Led
	carried        *metadata.Image                  // the image that roles are as of
	records        map[storage.PartitionID][]string // acked, by offset
	verified       map[storage.ObjectID]bool        // objects that were looked through
	isOff          func() bool                      // the disk is gone: what fails then is no fault
}

func newWorld(t *testing.T, partitions int) *world {
	w := &world{
		t: t, fs: disk.NewMem(disk.MemOptions{}), inner: bucket.NewMemory(), state: metadata.NewState(), said: slog.DiscardHandler,
		limits: Limits{
			Interval: 2 * time.Second, ObjectBytes: 16 << 10, OwnBytes: 8 << 10, ObjectRanges: 1000, Parallel: 2,
			RetryMin: 100 * time.Millisecond, RetryMax: time.Second, Urgent: 0.5,
		},
		issued: map[storage.ObjectID]time.Time{}, roles: map[storage.PartitionID]Led{}, records: map[storage.PartitionID][]string{}, verified: map[storage.ObjectID]bool{},
		isOff: func() bool { return false },
	}
	w.bucket = bucket.NewFaulty(w.inner)
	w.apply(&pb.InitCluster{ClusterId: "c", FeatureLevel: metadata.LatestFeatureLevel})
	w.register()
	topic := &pb.CreateTopic{TopicId: worldTopic[:], Name: "t"}
	for range partitions {
		topic.Assignments = append(topic.Assignments, &pb.Assignment{Replicas: []int32{1}})
	}
	w.apply(topic)
	return w
}

// open starts the broker's side.
func (w *world) open() {
	w.t.Helper()
	store, err := log.Open(context.Background(), storeOptions(w.fs))
	if err != nil {
		w.t.Fatal(err)
	}
	w.begin(store)
}

// storeOptions are of a store of few segments, whose memory does not hold them
// all.
func storeOptions(fsys disk.FS) log.Options {
	o := log.Options{FS: fsys, Dir: "wal", Tiered: true}
	o.WAL.Capacity, o.WAL.SegmentSize, o.WAL.ChunkSize, o.WAL.Memory = 8<<20, 128<<10, 32<<10, 256<<10
	return o
}

// begin leads what the image says, and uploads.
func (w *world) begin(store *log.Store) {
	w.t.Helper()
	w.store = store
	w.follow()
	w.up = Start(Options{
		Limits: w.limits, Store: store, Partitions: w, Catalogue: w, Bucket: w.bucket, IDAge: worldIDAge,
		Key:    func(id storage.ObjectID) string { return object.Key("", "c", 1, id) },
		Header: object.Header{Cluster: "c", Incarnation: 1, Broker: 1}, Log: slog.New(w.said),
	})
}

func (w *world) close() {
	w.t.Helper()
	if err := errors.Join(w.up.Close(), w.store.Close()); err != nil {
		w.t.Error(err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	clear(w.roles)
	w.carried, w.store = nil, nil
}

// restart is a new process on the same disk, which the catalogue knows as one.
func (w *world) restart() {
	w.t.Helper()
	w.close()
	w.register()
	w.open()
}

func (w *world) register() {
	w.start++
	incarnation := [16]byte{w.start}
	directory := [16]byte{1}
	result, err := w.apply(&pb.RegisterBroker{BrokerId: 1, Incarnation: incarnation[:], Directory: directory[:]})
	if err != nil {
		w.t.Fatal(err)
	}
	w.registry = int64(result.(metadata.BrokerEpoch))
	w.fence(false)
}

// fence takes the broker out of service, which ends its leader epochs, or puts it
// back.
func (w *world) fence(fenced bool) {
	w.t.Helper()
	if _, err := w.apply(&pb.FenceBroker{BrokerId: 1, BrokerEpoch: w.registry, Fenced: fenced}); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) apply(body proto.Message) (any, error) {
	w.mu.Lock()
	image := w.state.Image()
	command, err := metadata.Encode(image, body)
	if err != nil {
		w.mu.Unlock()
		return nil, err
	}
	result, err := w.state.Apply(image.Offset()+1, command)
	behind := w.behind
	w.mu.Unlock()
	if err != nil {
		w.t.Errorf("apply: %v", err)
	}
	if !behind {
		w.follow()
	}
	if refused := metadata.Refused(result); refused != nil {
		return nil, refused
	}
	return result, err
}

// follow carries out the newest image, as a broker does.
func (w *world) follow() {
	if w.store == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	image := w.state.Image()
	t, ok := image.TopicByID(worldTopic)
	if !ok {
		return
	}
	var before *metadata.Topic
	if w.carried != nil {
		before, _ = w.carried.TopicByID(worldTopic)
	}
	w.carried = image
	for _, p := range metadata.ChangedPartitions(before, t) {
		id := storage.PartitionID{Topic: worldTopic, Index: p.Index}
		if p.Leader != 1 {
			delete(w.roles, id)
			continue
		}
		was, led := w.roles[id]
		l, err := w.store.Create(id, w.config)
		if errors.Is(err, log.ErrClosed) || err != nil && w.isOff() {
			return
		}
		if err == nil {
			err = l.SetLogStart(p.LogStart)
		}
		if err == nil {
			err = l.SetUploaded(p.CommittedEnd())
		}
		if err == nil && (!led || was.Epoch != p.LeaderEpoch) {
			err = l.BecomeLeader(p.LeaderEpoch)
		}
		if errors.Is(err, log.ErrClosed) || err != nil && w.isOff() {
			return
		}
		if err != nil {
			w.t.Errorf("lead %s: %v", id, err)
			continue
		}
		w.roles[id] = Led{Log: l, Topic: "t", Epoch: p.LeaderEpoch}
	}
}

// Led implements Partitions.
func (w *world) Led(id storage.PartitionID) (Led, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	led, ok := w.roles[id]
	return led, ok
}

func (w *world) object(command string, body proto.Message) (any, error) {
	w.mu.Lock()
	before, after := w.before, w.after
	w.mu.Unlock()
	if before != nil {
		if err := before(command); err != nil {
			return nil, err
		}
	}
	result, err := w.apply(body)
	if after != nil {
		if err := after(command); err != nil {
			return nil, err
		}
	}
	return result, err
}

// Prepare implements Catalogue.
func (w *world) Prepare(_ context.Context, count int) (storage.ObjectID, error) {
	result, err := w.object("prepare", &pb.PrepareObjects{BrokerId: 1, BrokerEpoch: w.registry, Count: uint32(count)})
	if err != nil {
		return 0, err
	}
	first := result.(metadata.ObjectIDs).First
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range count {
		w.issued[first+storage.ObjectID(i)] = time.Now()
	}
	return first, nil
}

// Commit implements Catalogue.
func (w *world) Commit(_ context.Context, id storage.ObjectID, size int64, ranges []metadata.PartitionRange) ([]error, error) {
	result, err := w.object("commit", metadata.NewCommitObject(1, w.registry, id, size, ranges))
	if err != nil {
		return nil, err
	}
	if w.answersNothing {
		return nil, nil
	}
	return result.(metadata.RangeResults), nil
}

// condemnAll gives up every id that is prepared.
func (w *world) condemnAll() {
	w.t.Helper()
	command := &pb.CondemnObjects{}
	for o := range w.state.Image().ObjectsIn(metadata.Prepared) {
		command.ObjectIds = append(command.ObjectIds, uint64(o.ID))
	}
	if _, err := w.apply(command); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) hook(before, after func(string) error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.before, w.after = before, after
}

func (w *world) setBehind(behind bool) {
	w.mu.Lock()
	w.behind = behind
	w.mu.Unlock()
	if !behind {
		w.follow()
	}
}

type appended chan log.AppendResult

func (a appended) Appended(r log.AppendResult) { a <- r }

func id(partition int) storage.PartitionID {
	return storage.PartitionID{Topic: worldTopic, Index: int32(partition)}
}

// build makes a batch for the end of a partition.
func (w *world) build(partition, records, bytes int) (raw batch.Batch, values []string) {
	w.t.Helper()
	b := batch.NewBuilder(batch.BuilderOptions{})
	for i := range records {
		value := fmt.Sprintf("%d/%d/%d", partition, len(w.records[id(partition)])+i, w.start)
		values = append(values, value)
		b.Add(time.Now().UnixMilli(), nil, append([]byte(value), make([]byte, bytes/records)...))
	}
	raw, err := b.Build()
	if err != nil {
		w.t.Fatal(err)
	}
	return raw, values
}

// append appends one batch of these many records and bytes, and waits for the ack.
func (w *world) append(partition, records, bytes int) {
	w.t.Helper()
	led, ok := w.Led(id(partition))
	if !ok {
		return
	}
	raw, values := w.build(partition, records, bytes)
	if err := w.store.Admit(context.Background(), len(raw)); err != nil {
		w.t.Fatal(err)
	}
	answer := make(appended, 1)
	led.Log.Append(time.Now(), raw, log.AppendOptions{Epoch: led.Epoch}, answer)
	r := <-answer
	if errors.Is(r.Err, log.ErrUploadLag) {
		return
	}
	if r.Err != nil {
		w.t.Fatalf("append to %d: %v", partition, r.Err)
	}
	if int(r.Base) != len(w.records[id(partition)]) {
		w.t.Fatalf("partition %d: appended at %d, %d records were acked before", partition, r.Base, len(w.records[id(partition)]))
	}
	w.records[id(partition)] = append(w.records[id(partition)], values...)
}

// deleteRecords moves a log start forward, as DeleteRecords does.
func (w *world) deleteRecords(partition int, to storage.Offset) {
	w.t.Helper()
	led, ok := w.Led(id(partition))
	if !ok {
		return
	}
	result, err := w.apply(&pb.AdvanceLogStart{BrokerId: 1, BrokerEpoch: w.registry, Entries: []*pb.AdvanceLogStart_Entry{
		{TopicId: worldTopic[:], Partition: int32(partition), LeaderEpoch: int32(led.Epoch), Offset: int64(to)},
	}})
	// A role may be behind the image.
	if err != nil || result.(metadata.LogStarts)[0] != nil && metadata.CodeOf(result.(metadata.LogStarts)[0]) != metadata.FencedLeaderEpoch {
		w.t.Fatal(err, result)
	}
}

func (w *world) partition(partition int) *metadata.Partition {
	t, _ := w.state.Image().TopicByID(worldTopic)
	return t.Partition(int32(partition))
}

// bucketRecords reads what the catalogue names of a partition, from the bucket.
func (w *world) bucketRecords(partition int) map[storage.Offset]string {
	w.t.Helper()
	found := map[storage.Offset]string{}
	for r := range w.partition(partition).Ranges().All() {
		w.rangeRecords(partition, r, found)
	}
	return found
}

func (w *world) rangeRecords(partition int, r metadata.Range, found map[storage.Offset]string) {
	w.t.Helper()
	key := object.Key("", "c", 1, r.Object)
	read := func(p []byte, off int64) error { return w.inner.ReadAt(context.Background(), key, p, off) }
	info, err := w.inner.Stat(context.Background(), key)
	if err != nil {
		w.t.Fatalf("partition %d: range [%d, %d): %v", partition, r.Base, r.End, err)
	}
	if !w.verified[r.Object] {
		if _, err := object.Verify(info.Size, read, func(error) {}); err != nil {
			w.t.Fatal(err)
		}
		w.verified[r.Object] = true
	}
	index := w.index(partition, r)
	for i, block := range index.Blocks {
		data := make([]byte, block.Length)
		if err := read(data, block.Position); err != nil {
			w.t.Fatal(err)
		}
		batches, err := index.OpenBlock(i, data, nil)
		if err != nil {
			w.t.Fatal(err)
		}
		for _, b := range batches {
			for it := b.Records(0); it.Next(); {
				r := it.Record()
				if _, twice := found[r.Offset]; twice {
					w.t.Fatalf("partition %d: record %d is there twice", partition, r.Offset)
				}
				found[r.Offset] = string(r.Value)
			}
		}
	}
}

// index reads that of a range.
func (w *world) index(partition int, r metadata.Range) *object.Index {
	w.t.Helper()
	raw := make([]byte, r.IndexLength)
	if err := w.inner.ReadAt(context.Background(), object.Key("", "c", 1, r.Object), raw, r.IndexPosition); err != nil {
		w.t.Fatal(err)
	}
	index, err := object.DecodeIndex(raw, r.Object, r.Entry(id(partition)))
	if err != nil {
		w.t.Fatal(err)
	}
	return index
}

// wantUploaded expects all that was acked, and is not before the log start, in
// the bucket, once and as it was.
func (w *world) wantUploaded() {
	w.t.Helper()
	for p := range w.records {
		partition := int(p.Index)
		is, want := w.partition(partition), w.records[p]
		if is.CommittedEnd() != storage.Offset(len(want)) {
			w.t.Fatalf("partition %d: committed up to %d of %d, log start %d; %+v", partition, is.CommittedEnd(), len(want), is.LogStart, w.up.Stats())
		}
		found := w.bucketRecords(partition)
		for offset := is.LogStart; offset < storage.Offset(len(want)); offset++ {
			if got := found[offset]; len(got) < len(want[offset]) || got[:len(want[offset])] != want[offset] {
				w.t.Fatalf("partition %d: record %d is %.20q, was %.20q", partition, offset, got, want[offset])
			}
		}
		if led, ok := w.Led(p); ok && led.Log.Uploaded() != is.CommittedEnd() {
			w.t.Fatalf("partition %d: the log believes in %d, the catalogue has %d", partition, led.Log.Uploaded(), is.CommittedEnd())
		}
	}
}

// wantNoneTooFar: a log never believes that more is uploaded than the catalogue
// names.
func (w *world) wantNoneTooFar() {
	w.t.Helper()
	for p := range w.records {
		if led, ok := w.Led(p); ok {
			if far := led.Log.Uploaded(); far > w.partition(int(p.Index)).CommittedEnd() {
				w.t.Fatalf("partition %d: the log believes in %d, the catalogue has %d", p.Index, far, w.partition(int(p.Index)).CommittedEnd())
			}
		}
	}
}

func newRand(t testing.TB) *rand.Rand {
	t.Helper()
	return rand.New(rand.NewPCG(seeded.Seed(t), 3))
}

// addRecords adds the records of a read to others, and returns where it ends.
func addRecords(read log.ReadResult, found map[storage.Offset]string) (next storage.Offset) {
	for _, raw := range read.Batches {
		b := batch.Batch(raw)
		for it := b.Records(0); it.Next(); {
			found[it.Record().Offset] = string(it.Record().Value)
		}
		next = b.NextOffset()
	}
	return next
}
