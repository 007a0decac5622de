package clean

import (
	"bytes"
	"context"
	"encoding/binary"
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

var worldPartition = storage.PartitionID{Topic: storage.TopicID(bytes.Repeat([]byte{7}, 16))}

// tester is a test, or a rapid one.
type tester interface {
	Helper()
	Fatal(...any)
	Fatalf(string, ...any)
	Context() context.Context
}

// world is a controller, a bucket, and one partition beside a dumb twin that
// remembers every record.
type world struct {
	t      tester
	mu     sync.Mutex // the cleaner's goroutines propose too
	state  *metadata.State
	index  uint64
	epoch  int64 // of broker 1
	images []*metadata.Image
	memory bucket.Bucket
	bucket *bucket.Faulty
	now    time.Time
	policy Policy

	// lost says that the answers of so many calls do not arrive, after which the
	// calls are done or not.
	late func(call string) error
	lag  int // images that the cleaner's is behind

	batches []batch.Batch // as produced
	next    storage.Offset
	records []record
	open    map[int64]storage.Offset // first offset of each producer's transaction
	ended   []object.Aborted         // transactions that have ended, committed ones too
	aborted []object.Aborted
	seen    map[storage.Offset]time.Time // tombstones and markers: when their batch first had a horizon
}

// record is one as it was produced.
type record struct {
	offset     storage.Offset
	timestamp  int64
	key, value []byte
	header     string
	producer   int64 // whose transaction it belongs to; NoProducerID: none
	aborted    bool
	control    bool
}

func newWorld(t tester) *world {
	w := &world{
		t: t, state: metadata.NewState(), memory: bucket.NewMemory(), now: time.Unix(1_000_000, 0), policy: Policy{DirtyRatio: 0.5, DeleteRetention: time.Hour},
		open: map[int64]storage.Offset{}, seen: map[storage.Offset]time.Time{},
	}
	w.bucket = bucket.NewFaulty(w.memory)
	w.must(&pb.InitCluster{ClusterId: "c", FeatureLevel: metadata.LatestFeatureLevel})
	w.epoch = int64(w.must(&pb.RegisterBroker{BrokerId: 1, Incarnation: make([]byte, 16), Directory: bytes.Repeat([]byte{1}, 16)}).(metadata.BrokerEpoch))
	w.must(&pb.FenceBroker{BrokerId: 1, BrokerEpoch: w.epoch})
	w.must(&pb.CreateTopic{TopicId: worldPartition.Topic[:], Name: topicName, Assignments: []*pb.Assignment{{Replicas: []int32{1}}}})
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

func (w *world) partition() *metadata.Partition {
	w.mu.Lock()
	defer w.mu.Unlock()
	_, p := w.state.Image().Partition(worldPartition)
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

var errLost = errors.New("no answer")

// Replace implements Catalogue.
func (w *world) Replace(_ context.Context, id storage.ObjectID, size int64, replacements []metadata.Replacement) ([]error, error) {
	var lost error
	if w.late != nil {
		if lost = w.late("replace"); lost != nil && lost != errLost {
			return nil, lost
		}
	}
	result := w.propose(metadata.NewReplaceRanges(1, w.epoch, id, size, replacements))
	if err := metadata.Refused(result); err != nil {
		return nil, err
	}
	return result.(metadata.RangeResults), lost
}

// RecordCleaning implements Catalogue.
func (w *world) RecordCleaning(_ context.Context, p storage.PartitionID, epoch storage.Epoch, is metadata.Cleaning) error {
	if w.late != nil {
		if lost := w.late("record"); lost != nil {
			if lost == errLost {
				w.propose(metadata.NewRecordCleaning(1, w.epoch, p, epoch, is))
			}
			return lost
		}
	}
	return metadata.Refused(w.propose(metadata.NewRecordCleaning(1, w.epoch, p, epoch, is)))
}

func (w *world) key(id storage.ObjectID) string { return object.Key("p", "c", 1, id) }

func (w *world) options() Options {
	l := DefaultLimits()
	l.KeyMemory, l.TargetObject, l.SmallBytes = 1<<20, 4000, 0
	return Options{
		Limits: l, Interval: time.Minute, Image: w.image, Broker: 1, Catalogue: w, Bucket: w.bucket, Key: w.key,
		Policy: func(*metadata.Topic) (Policy, bool) { return w.policy, true },
		Header: object.Header{Cluster: "c", Incarnation: 1, Broker: 1}, IDAge: time.Hour, Log: slog.New(slog.DiscardHandler),
		Now: func() time.Time { return w.now },
	}
}

// cleaning is a cleaner without its own goroutine: the test says when.
func cleaning(t testing.TB, w *world, change ...func(*Options)) *Cleaner {
	o := w.options()
	for _, f := range change {
		f(&o)
	}
	c := New(o)
	t.Cleanup(func() { c.Close() })
	return c
}

// oneRound does the round that is due, if one is.
func oneRound(c *Cleaner) (did bool) {
	before := c.Stats()
	c.begin()
	c.done.Wait()
	after := c.Stats()
	return after.Rounds+after.Failures > before.Rounds+before.Failures
}

// step does the round that is due, if one is, and notes what came of it.
func (w *world) step(c *Cleaner) (did bool) {
	did = oneRound(c)
	w.note()
	return did
}

// clean does rounds until none is due.
func (w *world) clean(c *Cleaner) {
	w.t.Helper()
	for range 1000 {
		if !w.step(c) {
			return
		}
	}
	w.t.Fatal("it never comes to an end")
}

// note remembers when tombstones and markers got their horizon.
func (w *world) note() {
	for _, got := range w.read() {
		if _, has := got.batch.DeleteHorizon(); has && (got.control || got.value == nil) {
			if _, known := w.seen[got.offset]; !known {
				w.seen[got.offset] = w.now
			}
		}
	}
}

// send is what a test produces as one batch.
type send struct {
	options batch.BuilderOptions
	records []record // key, value, timestamp and header count
}

// produce appends a batch.
func (w *world) produce(s send) storage.Offset {
	w.t.Helper()
	base := w.next
	s.options.BaseOffset, s.options.LeaderEpoch = base, w.partition().LeaderEpoch
	producer := batch.NoProducerID
	if s.options.Transactional {
		producer = s.options.Producer.ID
		if _, open := w.open[producer]; !open {
			w.open[producer] = base
		}
	}
	b := batch.NewBuilder(s.options)
	for _, r := range s.records {
		if r.timestamp == 0 {
			r.timestamp = w.now.UnixMilli()
		}
		var headers []batch.Header
		if r.header != "" {
			headers = append(headers, batch.Header{Key: []byte("h"), Value: []byte(r.header)})
		}
		b.Add(r.timestamp, r.key, r.value, headers...)
		r.offset, r.producer = w.next, producer
		w.records = append(w.records, r)
		w.next++
	}
	built, err := b.Build()
	if err != nil {
		w.t.Fatal(err)
	}
	w.batches = append(w.batches, built)
	return base
}

// keyed appends a batch of records, each "key=value"; without "=": a tombstone.
func (w *world) keyed(records ...string) storage.Offset {
	w.t.Helper()
	var s send
	for _, r := range records {
		s.records = append(s.records, recordOf(r))
	}
	return w.produce(s)
}

func recordOf(s string) record {
	key, value, has := bytes.Cut([]byte(s), []byte("="))
	if !has {
		return record{key: key}
	}
	return record{key: key, value: append([]byte{}, value...)}
}

// transact appends a batch of a transaction.
func (w *world) transact(producer int64, records ...string) storage.Offset {
	w.t.Helper()
	s := send{options: batch.BuilderOptions{Transactional: true, Producer: &batch.Producer{ID: producer, BaseSequence: int32(w.next)}}}
	for _, r := range records {
		s.records = append(s.records, recordOf(r))
	}
	return w.produce(s)
}

// end writes the marker of a transaction.
func (w *world) end(producer int64, commit bool) storage.Offset {
	w.t.Helper()
	first, open := w.open[producer]
	if !open {
		w.t.Fatalf("producer %d has no transaction", producer)
	}
	delete(w.open, producer)
	kind := uint32(0)
	if commit {
		kind = 1
	}
	b := batch.NewBuilder(batch.BuilderOptions{BaseOffset: w.next, LeaderEpoch: w.partition().LeaderEpoch, Transactional: true, Control: true, Producer: &batch.Producer{ID: producer, BaseSequence: -1}})
	key := binary.BigEndian.AppendUint32(nil, kind)
	b.Add(w.now.UnixMilli(), key, make([]byte, 6))
	built, err := b.Build()
	if err != nil {
		w.t.Fatal(err)
	}
	w.ended = append(w.ended, object.Aborted{ProducerID: producer, First: first, Last: w.next})
	if !commit {
		w.aborted = append(w.aborted, object.Aborted{ProducerID: producer, First: first, Last: w.next})
		for i := range w.records {
			if r := &w.records[i]; r.producer == producer && r.offset >= first {
				r.aborted = true
			}
		}
	}
	w.records = append(w.records, record{offset: w.next, timestamp: w.now.UnixMilli(), key: key, value: make([]byte, 6), control: true, producer: producer})
	w.batches = append(w.batches, built)
	w.next++
	return built.BaseOffset()
}

// stableAsOf is the last stable offset as if the partition ended there.
func (w *world) stableAsOf(end storage.Offset) storage.Offset {
	stable := end
	for _, first := range w.open {
		stable = min(stable, first)
	}
	for _, t := range w.ended {
		if t.Last >= end {
			stable = min(stable, t.First)
		}
	}
	return stable
}

// upload puts up to n batches into an object, as the uploader does.
func (w *world) upload(n int) {
	w.t.Helper()
	p := w.partition()
	from := p.CommittedEnd()
	first := slices.IndexFunc(w.batches, func(b batch.Batch) bool { return b.NextOffset() > from })
	if first < 0 {
		return
	}
	batches := w.batches[first:min(first+n, len(w.batches))]
	end := batches[len(batches)-1].NextOffset()
	is := object.Range{
		Partition: worldPartition, Topic: topicName, Base: from, End: end, LastStable: w.stableAsOf(end), Cut: batches[0].BaseOffset() < from,
		Epochs: []object.EpochStart{{Epoch: p.LeaderEpoch, Start: from}}, Producers: fmt.Appendf(nil, "as of %d", end),
		Batches: func(yield func(batch.Batch) error) error {
			for _, b := range batches {
				if err := yield(b); err != nil {
					return err
				}
			}
			return nil
		},
	}
	for _, a := range w.aborted {
		if from <= a.Last && a.Last < end {
			is.Aborted = append(is.Aborted, a)
		}
	}
	id, err := w.Prepare(context.Background(), 1)
	if err != nil {
		w.t.Fatal(err)
	}
	var out bytes.Buffer
	s, err := object.Write(&out, object.Header{ID: id, Cluster: "c", Incarnation: 1, Broker: 1}, []object.Range{is}, object.WriteOptions{BlockSize: 300})
	if err != nil {
		w.t.Fatal(err)
	}
	if err := w.memory.Put(context.Background(), w.key(id), bucket.Bytes(out.Bytes())); err != nil {
		w.t.Fatal(err)
	}
	commit := metadata.PartitionRange{Partition: worldPartition, Range: metadata.NewRange(&s.Placements[0], p.LeaderEpoch)}
	for _, err := range w.must(metadata.NewCommitObject(1, w.epoch, id, s.Size, []metadata.PartitionRange{commit})).(metadata.RangeResults) {
		if err != nil {
			w.t.Fatal(err)
		}
	}
}

// uploaded is upload of all that there is.
func (w *world) uploadAll() {
	w.t.Helper()
	w.upload(1 << 30)
}

// moveLogStart moves the log start, as DeleteRecords does.
func (w *world) moveLogStart(to storage.Offset) {
	w.must(&pb.AdvanceLogStart{BrokerId: 1, BrokerEpoch: w.epoch, Entries: []*pb.AdvanceLogStart_Entry{{
		TopicId: worldPartition.Topic[:], LeaderEpoch: int32(w.partition().LeaderEpoch), Offset: int64(to),
	}}})
}

// moveLeadership has the partition led under another epoch.
func (w *world) moveLeadership() {
	w.must(&pb.FenceBroker{BrokerId: 1, BrokerEpoch: w.epoch, Fenced: true})
	w.must(&pb.FenceBroker{BrokerId: 1, BrokerEpoch: w.epoch})
}

// stored is a record as it is read through the catalogue.
type stored struct {
	record
	batch batch.Batch
}

// read reads every range through the catalogue.
func (w *world) read() (all []stored) {
	w.t.Helper()
	var next storage.Offset
	for is := range w.partition().Ranges().All() {
		if next != 0 && is.Base != next {
			w.t.Fatalf("[%d, %d) behind %d", is.Base, is.End, next)
		}
		next = is.End
		r := reader{partition: worldPartition, pace: unpaced(), fill: func(ctx context.Context, id storage.ObjectID, p []byte, at int64) error {
			return w.memory.ReadAt(ctx, w.key(id), p, at)
		}}
		x, err := r.index(context.Background(), is)
		if err != nil {
			w.t.Fatalf("[%d, %d) of object %s: %v", is.Base, is.End, is.Object, err)
		}
		if want := fmt.Appendf(nil, "as of %d", is.End); !bytes.Equal(x.Producers, want) || is.HasAborts != (len(x.Aborted) > 0) {
			w.t.Fatalf("the index of [%d, %d) has producers %q and %d aborted transactions", is.Base, is.End, x.Producers, len(x.Aborted))
		}
		err = r.batches(context.Background(), []*object.Index{x}, 0, func(b batch.Batch) error {
			b = slices.Clone(b)
			if b.ComputeCRC() != b.CRC() {
				return fmt.Errorf("batch at %d: its crc does not fit", b.BaseOffset())
			}
			it := b.Records(0)
			for it.Next() {
				r := it.Record()
				got := stored{record{offset: r.Offset, timestamp: r.Timestamp, key: r.Key, value: r.Value, control: b.IsControl(), producer: batch.NoProducerID}, b}
				if b.IsTransactional() {
					got.producer = b.ProducerID()
				}
				r.Headers(func(h batch.Header) bool { got.header = string(h.Value); return true })
				all = append(all, got)
			}
			return it.Err()
		})
		if err != nil {
			w.t.Fatalf("[%d, %d) of object %s: %v", is.Base, is.End, is.Object, err)
		}
	}
	return all
}

// spared reports whether a record of all is there because its batch is the one before the
// committed end, and would be gone otherwise.
func (w *world) spared(all []stored, is stored) bool {
	if is.batch.NextOffset() != w.partition().CommittedEnd() {
		return false
	}
	return !slices.ContainsFunc(all, func(r stored) bool {
		return r.batch.BaseOffset() == is.batch.BaseOffset() && !r.control && r.key != nil && r.value != nil
	})
}

// check compares what is read with what was produced. exact: a round has come to
// its end, and nothing may be left that it takes.
func (w *world) check(exact bool) {
	w.t.Helper()
	p := w.partition()
	if p.Ranges().Len() == 0 {
		return
	}
	begin, end, to := p.Ranges().At(0).Base, p.CommittedEnd(), p.Cleaning().To
	produced := map[storage.Offset]record{}
	for _, r := range w.records {
		produced[r.offset] = r
	}
	there := map[storage.Offset]bool{}
	newest := map[string]storage.Offset{} // below the cleaned point, as read
	all := w.read()
	for _, got := range all {
		was := produced[got.offset]
		was.aborted = false
		if fmt.Sprintf("%#v", got.record) != fmt.Sprintf("%#v", was) {
			w.t.Fatalf("record at %d is %+v, it was %+v", got.offset, got.record, was)
		}
		there[got.offset] = true
		if got.control || got.offset >= to || got.offset < begin {
			continue
		}
		_, twice := newest[string(got.key)]
		newest[string(got.key)] = got.offset
		if w.spared(all, got) {
			continue
		}
		if exact && (twice || got.key == nil || produced[got.offset].aborted) {
			w.t.Fatalf("record %q at %d is still there, below %d: twice %v, aborted %v", got.key, got.offset, to, twice, produced[got.offset].aborted)
		}
	}
	// Whatever has gone has a later one of its key that is there, or was a tombstone
	// whose time was over.
	last := map[string]storage.Offset{}
	for _, r := range w.records {
		if r.offset < end && !r.control && !r.aborted && r.key != nil {
			last[string(r.key)] = r.offset
		}
	}
	for _, r := range w.records {
		switch {
		case r.offset < begin || r.offset >= end || there[r.offset] || r.aborted || r.key == nil && !r.control:
		case r.control:
			if !w.mayGo(r.offset) {
				w.t.Fatalf("the marker at %d has gone at %s, it had its horizon at %s", r.offset, w.now, w.seen[r.offset])
			}
			if o, stays := w.staysOf(there, r.offset); stays {
				w.t.Fatalf("the marker at %d has gone, the record of its transaction at %d has not", r.offset, o)
			}
		case last[string(r.key)] > r.offset:
			if !w.survives(there, r) {
				w.t.Fatalf("record %q at %d has gone, and nothing of its key stands behind it", r.key, r.offset)
			}
		case r.value != nil:
			w.t.Fatalf("the last record of %q, at %d, has gone", r.key, r.offset)
		default:
			if !w.mayGo(r.offset) {
				w.t.Fatalf("the tombstone of %q at %d has gone at %s, it had its horizon at %s", r.key, r.offset, w.now, w.seen[r.offset])
			}
			for _, o := range w.records {
				if o.offset < r.offset && there[o.offset] && !o.aborted && bytes.Equal(o.key, r.key) {
					w.t.Fatalf("the tombstone of %q at %d has gone, the record at %d has not", r.key, r.offset, o.offset)
				}
			}
		}
	}
}

// mayGo reports whether a tombstone or marker was there with a horizon for its time.
func (w *world) mayGo(offset storage.Offset) bool {
	since, had := w.seen[offset]
	return had && w.now.Sub(since) >= w.policy.DeleteRetention
}

// survives reports whether behind r a record of its key is there, or a tombstone was
// that went in time.
func (w *world) survives(there map[storage.Offset]bool, r record) bool {
	for _, o := range w.records {
		if o.offset <= r.offset || o.aborted || o.control || !bytes.Equal(o.key, r.key) || o.key == nil {
			continue
		}
		if there[o.offset] {
			return true
		}
		if o.value == nil && w.mayGo(o.offset) {
			return true
		}
	}
	return false
}

// staysOf finds a record that is there of the transaction that a marker ends.
func (w *world) staysOf(there map[storage.Offset]bool, marker storage.Offset) (storage.Offset, bool) {
	for _, t := range w.ended {
		for _, r := range w.records {
			if t.Last == marker && r.producer == t.ProducerID && t.First <= r.offset && r.offset < marker && there[r.offset] {
				return r.offset, true
			}
		}
	}
	return 0, false
}
