package controller

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"

	"rustmq.dev/rustmq/consensus/metadata"
	pb "rustmq.dev/rustmq/consensus/metadata/metadatapb"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/bucket"
	"rustmq.dev/rustmq/storage/object"
)

// filing makes a manifest of the first n ranges of a partition: behind what its last
// one lists, but for drop of its ranges, or in one of its own.
func filing(t testing.TB, image *metadata.Image, of storage.PartitionID, id storage.ObjectID, n, drop int, was []object.Filed) (f metadata.Filing, content []byte, ref object.ManifestRef) {
	t.Helper()
	_, p := image.Partition(of)
	f = metadata.Filing{Partition: of, LeaderEpoch: p.LeaderEpoch}
	if was != nil {
		f.Replaced = p.Filed()[len(p.Filed())-1].ID
		f.Dropped, was = was[:drop:drop], was[drop:]
	}
	for r := range p.Ranges().All() {
		if len(f.Moved) == n {
			break
		}
		o, _ := image.Object(r.Object)
		f.Moved = append(f.Moved, metadata.FiledRange(&r, o.Size))
	}
	m := object.Manifest{
		Header: object.Header{ID: id, Cluster: image.ClusterID(), Incarnation: FirstIncarnation, Broker: 1}, Partition: of, Topic: "t",
		Ranges: slices.Concat(was, f.Moved),
	}
	content, ref, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return f, content, ref
}

// retained is a partition with ranges of ten offsets, some of them in manifests.
type retained struct {
	t     testing.TB
	state *metadata.State
	index uint64
	epoch int64
	of    storage.PartitionID
	lists map[storage.ObjectID][]object.Filed
}

func newRetained(t testing.TB) *retained {
	r := &retained{t: t, state: metadata.NewState(), of: storage.PartitionID{Topic: storage.TopicID{1}}, lists: map[storage.ObjectID][]object.Filed{}}
	r.apply(metadata.Encode(r.state.Image(), &pb.InitCluster{ClusterId: "c", FeatureLevel: metadata.LatestFeatureLevel}))
	id := bytes.Repeat([]byte{1}, 16)
	r.epoch = int64(r.apply(metadata.Encode(r.state.Image(), &pb.RegisterBroker{BrokerId: 1, Incarnation: id, Directory: id})).(metadata.BrokerEpoch))
	r.apply(metadata.Encode(r.state.Image(), &pb.FenceBroker{BrokerId: 1, BrokerEpoch: r.epoch}))
	r.apply(metadata.Encode(r.state.Image(), &pb.CreateTopic{TopicId: r.of.Topic[:], Name: "t", Assignments: assignments([][]int32{{1}})}))
	return r
}

func (r *retained) apply(command []byte, err error) any {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
	r.index++
	result, err := r.state.Apply(r.index, command)
	if err := errors.Join(err, metadata.Refused(result)); err != nil {
		r.t.Fatal(err)
	}
	return result
}

func (r *retained) partition() *metadata.Partition {
	_, p := r.state.Image().Partition(r.of)
	return p
}

func (r *retained) prepare() storage.ObjectID {
	r.t.Helper()
	return r.apply(metadata.Encode(r.state.Image(), &pb.PrepareObjects{BrokerId: 1, BrokerEpoch: r.epoch, Count: 1})).(metadata.ObjectIDs).First
}

func (r *retained) commit(size, millis int64) {
	r.t.Helper()
	p := r.partition()
	is := rangeOf(r.of.Topic, 0, p.CommittedEnd(), p.CommittedEnd()+10)
	is.Range.Bytes, is.Range.MaxTimestamp, is.Range.Epoch = size, millis, p.LeaderEpoch
	for _, err := range r.apply(metadata.Encode(r.state.Image(), metadata.NewCommitObject(1, r.epoch, r.prepare(), 1<<20, []metadata.PartitionRange{is}))).(metadata.RangeResults) {
		if err != nil {
			r.t.Fatal(err)
		}
	}
}

// file files n ranges, behind the others that the last manifest has or alone.
func (r *retained) file(n, drop int, behind bool) {
	r.t.Helper()
	var was []object.Filed
	if filed := r.partition().Filed(); behind && len(filed) > 0 {
		was = r.lists[filed[len(filed)-1].ID]
	}
	id := r.prepare()
	f, content, ref := filing(r.t, r.state.Image(), r.of, id, n, drop, was)
	m, _, err := object.ReadManifest(content)
	if err != nil {
		r.t.Fatal(err)
	}
	r.lists[id] = m.Ranges
	r.apply(metadata.Encode(r.state.Image(), metadata.NewFileRanges(1, r.epoch, id, ref, &f)))
}

func (r *retained) logStart(to storage.Offset) {
	r.t.Helper()
	r.apply(metadata.Encode(r.state.Image(), moveLogStarts([]LogStart{{Partition: r.of, Offset: to}})))
}

// TestRetentionLooksIntoManifests: what goes by age and by bytes is the same whether
// ranges are filed or not; and a manifest is read when something of it may go, not
// at every look.
func TestRetentionLooksIntoManifests(t *testing.T) {
	for seed := range uint64(60) {
		rng := rand.New(rand.NewPCG(seed, 3))
		filed, whole := newRetained(t), newRetained(t)
		a, twin := newRetainer(), newRetainer()
		keep := Retention{Age: -1, Bytes: -1}
		if rng.IntN(3) > 0 {
			keep.Age = time.Duration(rng.IntN(400)) * time.Millisecond
		}
		if rng.IntN(3) > 0 {
			keep.Bytes = rng.Int64N(300)
		}
		always := func(map[string]string) Retention { return keep }
		reads := 0
		read := func(_ storage.PartitionID, m *metadata.Manifest) ([]object.Filed, bool) {
			reads++
			return filed.lists[m.ID], true
		}
		now := retentionNow
		for range 60 {
			switch rng.IntN(6) {
			case 0, 1:
				size, millis := 1+rng.Int64N(60), now.UnixMilli()-rng.Int64N(200)
				switch rng.IntN(8) {
				case 0:
					millis = -1
				case 1: // compaction by key left nothing
					size, millis = 0, -1
				}
				filed.commit(size, millis)
				whole.commit(size, millis)
			case 2:
				if n := filed.partition().Ranges().Len(); n > 1 {
					filed.file(1+rng.IntN(min(4, n-1)), 0, rng.IntN(3) > 0)
				}
			case 3:
				if p := filed.partition(); len(p.Filed()) > 0 {
					first := filed.lists[p.Filed()[0].ID]
					below := 0
					for below < len(first)-1 && first[below].End <= p.LogStart {
						below++
					}
					if below > 0 && len(p.Filed()) == 1 {
						filed.file(0, below, true)
					}
				}
			case 4:
				now = now.Add(time.Duration(rng.IntN(120)) * time.Millisecond)
			case 5: // somebody deletes records
				if p := filed.partition(); rng.IntN(3) == 0 {
					to := min(p.CommittedEnd(), p.LogStart+storage.Offset(rng.IntN(15)))
					filed.logStart(to)
					whole.logStart(to)
				}
			}
			want := twin.pastRetention(whole.state.Image(), always, now, nil)
			before := reads
			got := a.pastRetention(filed.state.Image(), always, now, read)
			// As many manifests as one look reads may not be enough.
			for more := got; reads-before >= maxManifestsRetained && len(more) > 0; got = more {
				filed.logStart(more[0].Offset)
				before = reads
				if more = a.pastRetention(filed.state.Image(), always, now, read); len(more) == 0 {
					break
				}
			}
			if !slices.Equal(got, want) {
				t.Fatalf("seed %d: %v is past %+v, want %v; log start %d, manifests %+v", seed, got, keep, want, filed.partition().LogStart, filed.partition().Filed())
			}
			if len(want) > 0 {
				filed.logStart(want[0].Offset)
				whole.logStart(want[0].Offset)
			}
			quiet := reads
			if again := a.pastRetention(filed.state.Image(), always, now, read); len(again) > 0 {
				t.Fatalf("seed %d: %v moves again", seed, again)
			}
			if again := reads; a.pastRetention(filed.state.Image(), always, now, read) != nil || reads != again {
				t.Fatalf("seed %d: a look that changed nothing read %d manifests, and then %d", seed, again-quiet, reads-again)
			}
		}
	}
}

// TestUnreadManifestIsKept: what cannot be read holds back its own partition.
func TestUnreadManifestIsKept(t *testing.T) {
	r := newRetained(t)
	for range 9 {
		r.commit(10, 0)
	}
	r.file(3, 0, false)
	r.file(3, 0, false)
	first := r.partition().Filed()[0].ID
	a := newRetainer()
	all := func(map[string]string) Retention { return Retention{Age: time.Millisecond, Bytes: -1} }
	read := func(_ storage.PartitionID, m *metadata.Manifest) ([]object.Filed, bool) {
		return r.lists[m.ID], m.ID == first
	}
	if got := a.pastRetention(r.state.Image(), all, retentionNow, read); len(got) != 1 || got[0].Offset != 30 {
		t.Fatalf("%v", got)
	}
}

// file moves ranges of a partition into a manifest, as its leader does.
func (k *kept) file(p storage.PartitionID, n, drop int, behind bool) storage.ObjectID {
	k.t.Helper()
	var was []object.Filed
	_, is := k.c.Image().Partition(p)
	if filed := is.Filed(); behind {
		var err error
		if was, err = k.c.keeper().readManifest(context.Background(), p, &filed[len(filed)-1]); err != nil {
			k.t.Fatal(err)
		}
	}
	id := k.prepare()
	f, content, ref := filing(k.t, k.c.Image(), p, id, n, drop, was)
	if err := k.memory.Put(context.Background(), k.key(id), bucket.Bytes(content)); err != nil {
		k.t.Fatal(err)
	}
	if err := k.c.FileRanges(context.Background(), 1, k.epoch, id, ref, &f); err != nil {
		k.t.Fatal(err)
	}
	return id
}

// TestNothingOfAManifestIsAnOrphan: audits, restarts and the deletion of what is not
// named leave every object that a manifest lists; they go with the log start, and
// with the topic, and nothing is left then.
func TestNothingOfAManifestIsAnOrphan(t *testing.T) {
	inBucket(t, func(t *testing.T, k *kept) {
		p, q := k.topic("t", nil), k.topic("u", nil)
		var objects, others []storage.ObjectID
		for i := range storage.Offset(12) {
			objects = append(objects, k.upload(p, 10*i, 10*i+10, time.Now()))
			others = append(others, k.upload(q, 10*i, 10*i+10, time.Now()))
		}
		replaced := k.file(p, 4, 0, false)
		second := k.file(p, 2, 0, true) // [0, 60)
		third := k.file(p, 4, 0, false) // [60, 100)
		k.file(q, 9, 0, false)
		pass(4 * keptAudit)
		k.wantGone("a manifest that was replaced", replaced)
		k.reopen()
		k.register()
		pass(4 * keptAudit)
		for _, id := range slices.Concat(objects, others, []storage.ObjectID{second, third}) {
			k.wantThere("after audits", id)
		}
		// One that came after its deletion is found all the same.
		late := k.prepare()
		pass(2 * keptDeadline)
		k.wantGone("not committed in time", late)
		k.put(k.key(late))
		pass(4 * keptAudit)
		k.wantGone("late", late)

		// Into the second, whose objects stay until it is made anew.
		k.drop(p, 35)
		pass(4 * keptAudit)
		for _, id := range objects {
			k.wantThere("the log start lies in its manifest", id)
		}
		k.drop(p, 60)
		pass(2 * keptAudit)
		k.wantGone("passed by the log start", second)
		for i, id := range objects {
			if i < 6 {
				k.wantGone("passed by the log start", id)
			} else {
				k.wantThere("behind the log start", id)
			}
		}
		k.drop(p, 85)
		k.file(p, 0, 2, true)
		pass(2 * keptAudit)
		k.wantGone("dropped", objects[7])
		k.wantThere("the log start lies in it", objects[8])

		for _, result := range k.c.DeleteTopics(t.Context(), []TopicRef{{ID: p.Topic}, {ID: q.Topic}}) {
			if result.Err != nil {
				t.Fatal(result.Err)
			}
		}
		k.reopen() // with nothing dissolved yet
		k.register()
		pass(4 * keptAudit)
		if left := k.keys(object.DataPrefix("p", k.c.Image().ClusterID(), FirstIncarnation)); len(left) > 0 {
			t.Fatalf("%v is left of deleted topics", left)
		}
		if m := k.c.Image(); m.NumManifests() > 0 || m.NumObjects(metadata.Condemned) > 0 || m.FiledRanges() > 0 {
			t.Fatalf("%d manifests, %d condemned", m.NumManifests(), m.NumObjects(metadata.Condemned))
		}
	})
}

// TestDamagedManifestKeepsEverything: while one manifest cannot be read, no object is
// judged by the others; once it is there again, what is dead goes.
func TestDamagedManifestKeepsEverything(t *testing.T) {
	inBucket(t, func(t *testing.T, k *kept) {
		p := k.topic("t", nil)
		var objects []storage.ObjectID
		for i := range storage.Offset(5) {
			objects = append(objects, k.upload(p, 10*i, 10*i+10, time.Now()))
		}
		first := k.file(p, 2, 0, false)
		k.file(p, 2, 0, false)
		late := k.prepare()
		pass(2*keptDeadline + keptGrace)
		k.wantGone("not committed in time", late)
		k.put(k.key(late))

		whole, err := bucket.ReadAll(t.Context(), k.memory, k.key(first), 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		damaged := bytes.Clone(whole)
		damaged[len(damaged)-3] ^= 1
		for name, damage := range map[string]func() error{
			"corrupt": func() error { return k.memory.Put(t.Context(), k.key(first), bucket.Bytes(damaged)) },
			"gone":    func() error { return k.memory.Delete(t.Context(), k.key(first)) },
		} {
			if err := damage(); err != nil {
				t.Fatal(err)
			}
			pass(4 * keptAudit)
			k.wantThere(name, late)
			for _, id := range objects {
				k.wantThere(name, id)
			}
		}
		if k.said.count("a manifest is damaged or missing") == 0 {
			t.Error("nothing is said of it")
		}
		if err := k.memory.Put(t.Context(), k.key(first), bucket.Bytes(whole)); err != nil {
			t.Fatal(err)
		}
		pass(4 * keptAudit)
		k.wantGone("once the manifest is there again", late)
		for _, id := range objects {
			k.wantThere("at the end", id)
		}
	})
}

// TestLostManifestOfADeletedTopic does not stop the removal of what nothing names: what
// it listed is dead, once the bucket's metadata log has the deletion. What is filed in
// manifests of others stays, and nothing is judged while one of those is lost.
func TestLostManifestOfADeletedTopic(t *testing.T) {
	inBucket(t, func(t *testing.T, k *kept) {
		p, q := k.topic("t", nil), k.topic("u", nil)
		var dead, living []storage.ObjectID
		for i := range storage.Offset(5) {
			dead = append(dead, k.upload(p, 10*i, 10*i+10, time.Now()))
			living = append(living, k.upload(q, 10*i, 10*i+10, time.Now()))
		}
		lost, others := k.file(p, 3, 0, false), k.file(q, 3, 0, false)
		pass(2 * time.Minute)
		whole, err := bucket.ReadAll(t.Context(), k.memory, k.key(others), 1<<20)
		if err == nil {
			err = errors.Join(k.memory.Delete(t.Context(), k.key(lost)), k.memory.Delete(t.Context(), k.key(others)))
		}
		if err != nil {
			t.Fatal(err)
		}
		pass(4 * keptAudit)
		k.wantThere("its topic lives", dead[0])
		k.bucket.Set(bucket.Rule{Op: bucket.OpPutIfAbsent, Err: errAway})
		if err := k.c.DeleteTopics(t.Context(), []TopicRef{{ID: p.Topic}})[0].Err; err != nil {
			t.Fatal(err)
		}
		pass(4 * keptAudit)
		if err := k.memory.Put(t.Context(), k.key(others), bucket.Bytes(whole)); err != nil {
			t.Fatal(err)
		}
		pass(4 * keptAudit)
		k.wantThere("the bucket does not know of the deletion", dead[0])
		if err := k.memory.Delete(t.Context(), k.key(others)); err != nil {
			t.Fatal(err)
		}
		k.bucket.Set()
		pass(4 * keptAudit)
		k.wantThere("another manifest is lost", dead[0])
		if err := k.memory.Put(t.Context(), k.key(others), bucket.Bytes(whole)); err != nil {
			t.Fatal(err)
		}
		pass(4 * keptAudit)
		for _, id := range dead {
			if k.has(k.key(id)) {
				t.Errorf("object %s of the deleted topic is left", id)
			}
		}
		for _, id := range living {
			k.wantThere("of another topic", id)
		}
	})
}

// TestRetentionMovesIntoAManifest by the records' age, as it does without.
func TestRetentionMovesIntoAManifest(t *testing.T) {
	inBucket(t, func(t *testing.T, k *kept) {
		p := k.topic("t", map[string]string{"age": "1h"})
		for i := range storage.Offset(8) {
			k.upload(p, 10*i, 10*i+10, time.Now())
			pass(10 * time.Minute)
		}
		// 80 minutes have passed: the oldest are 80 and 70 minutes old, and gone.
		if at := k.logStart(p); at != 20 {
			t.Fatalf("log start %d", at)
		}
		first := k.file(p, 4, 0, false) // [20, 60)
		pass(10 * time.Minute)
		if at := k.logStart(p); at != 30 {
			t.Fatalf("log start %d", at)
		}
		k.bucket.Set(bucket.Rule{Op: bucket.OpRead, Err: errAway, Temporary: true})
		pass(10 * time.Minute)
		if at := k.logStart(p); at != 30 {
			t.Fatalf("log start %d, though the manifest could not be read", at)
		}
		k.bucket.Set()
		pass(time.Minute)
		if at := k.logStart(p); at != 50 {
			t.Fatalf("log start %d", at)
		}
		pass(2 * time.Hour)
		if at := k.logStart(p); at != 80 {
			t.Fatalf("log start %d", at)
		}
		k.wantGone("all of it is too old", first)
	})
}

// solo writes and commits an object of two records of one partition.
func (w *checkWorld) solo(epoch int64, of storage.PartitionID, base storage.Offset) storage.ObjectID {
	w.Helper()
	id, err := w.c.PrepareObjects(w.Context(), 1, epoch, 1)
	if err != nil {
		w.Fatal(err)
	}
	builder := batch.NewBuilder(batch.BuilderOptions{BaseOffset: base})
	builder.Add(1000, nil, []byte("a"))
	builder.Add(2000, nil, []byte("b"))
	built, err := builder.Build()
	if err != nil {
		w.Fatal(err)
	}
	var out bytes.Buffer
	s, err := object.Write(&out, object.Header{ID: id, Cluster: w.c.Image().ClusterID(), Incarnation: 1, Broker: 1}, []object.Range{{
		Partition: of, Topic: "u", Base: base, End: base + 2, LastStable: base + 2, Epochs: []object.EpochStart{{Start: base}},
		Batches: func(yield func(batch.Batch) error) error { return yield(built) },
	}}, object.WriteOptions{})
	if err != nil {
		w.Fatal(err)
	}
	w.write(w.key(id), out.Bytes())
	p := s.Placements[0]
	results, err := w.c.CommitObject(w.Context(), 1, epoch, id, s.Size, []metadata.PartitionRange{{Partition: of, Range: metadata.Range{
		Base: p.Base, End: p.End, Bytes: p.Bytes, MaxTimestamp: p.MaxTimestamp,
		IndexPosition: p.Index.Position, IndexLength: p.Index.Length, IndexCRC: p.Index.CRC,
	}}})
	if err := errors.Join(append(results, err)...); err != nil {
		w.Fatal(err)
	}
	return id
}

// TestCheckReadsThroughManifests: what a manifest lists is compared, and read, as
// what the catalogue names; so are manifests, and what may lie in a damaged one is
// left alone.
func TestCheckReadsThroughManifests(t *testing.T) {
	w := newCheckWorld(t, time.Hour)
	broker, _ := w.c.Image().Broker(1)
	of := storage.PartitionID{Topic: create(t, w.c, NewTopic{Name: "u", Partitions: 1, ReplicationFactor: 1}).ID}
	var ids []storage.ObjectID
	for i := range storage.Offset(4) {
		ids = append(ids, w.solo(broker.Epoch, of, 2*i))
	}
	manifest, err := w.c.PrepareObjects(t.Context(), 1, broker.Epoch, 1)
	if err != nil {
		t.Fatal(err)
	}
	f, content, ref := filing(t, w.c.Image(), of, manifest, 3, 0, nil)
	w.write(w.key(manifest), content)
	if err := w.c.FileRanges(t.Context(), 1, broker.Epoch, manifest, ref, &f); err != nil {
		t.Fatal(err)
	}
	w.write(w.key(w.objects[3]), []byte("late"))
	const orphan = "orphan 0000000000000004"
	for _, budget := range []time.Duration{0, 1} {
		if report := w.expect(CheckRequest{Verify: true, Budget: budget}, orphan); report.Committed.Objects != 7 || report.Verified != report.Committed || report.Orphans.Objects != 1 {
			t.Errorf("%+v", report)
		}
	}

	first := w.read(w.key(ids[0]))
	if err := w.bucket.Delete(t.Context(), w.key(ids[1])); err != nil {
		t.Fatal(err)
	}
	damaged := bytes.Clone(first)
	damaged[object.HeaderSize+70] ^= 1
	w.write(w.key(ids[0]), damaged)
	w.write(w.key(ids[2]), append(w.read(w.key(ids[2])), 0))
	found := []string{
		"corrupt " + ids[0].String() + " u-0 [0, 2)", "missing " + ids[1].String() + " u-0 [2, 4)", orphan,
		"wrong-size " + ids[2].String() + " u-0 [4, 6)",
	}
	for _, budget := range []time.Duration{0, 1} {
		if report := w.expect(CheckRequest{Verify: true, Budget: budget}, found...); !report.Damaged() || report.Missing.Objects != 1 || report.Corrupt.Objects != 1 {
			t.Errorf("%+v", report)
		}
	}

	// With a damaged manifest nobody knows what it lists.
	whole := bytes.Clone(content)
	content[len(content)-2] ^= 1
	w.write(w.key(manifest), content)
	for _, r := range []CheckRequest{{Repair: true}, {Verify: true}, {Budget: 1}} {
		report := w.expect(r, "corrupt "+manifest.String()+" u-0 [0, 6)")
		if report.Orphans.Objects != 0 || report.Unjudged.Objects != 3 || report.Corrupt.Objects != 1 || report.Deleted.Objects != 0 {
			t.Errorf("%+v: %+v", r, report)
		}
	}
	if err := w.bucket.Delete(t.Context(), w.key(manifest)); err != nil {
		t.Fatal(err)
	}
	if report := w.expect(CheckRequest{Repair: true}, "missing "+manifest.String()+" u-0 [0, 6)"); report.Unjudged.Objects != 3 {
		t.Errorf("%+v", report)
	}
	w.write(w.key(manifest), whole)
	w.expect(CheckRequest{Verify: true}, found...)

	// Below the log start nothing is missed.
	if err := w.c.MoveLogStarts(t.Context(), []LogStart{{Partition: of, Offset: 4}})[0]; err != nil {
		t.Fatal(err)
	}
	if report := w.expect(CheckRequest{Verify: true}, orphan, found[3]); report.Verified != report.Committed {
		t.Errorf("%+v", report)
	}
}

// TestManyHoursLeaveNoOrphanAndMissNothing: uploads, filing, log starts that move by
// hand and by age, topics that come and go, uploads that are given up and land late,
// restarts and a bucket that fails, over many hours. Whatever is named is there all
// the time; in the end nothing else is. SOAK goes through more of such lives.
func TestManyHoursLeaveNoOrphanAndMissNothing(t *testing.T) {
	seeds := uint64(2)
	if os.Getenv("SOAK") != "" {
		seeds = 30
	}
	for seed := range seeds {
		inBucket(t, func(t *testing.T, k *kept) {
			rng := rand.New(rand.NewPCG(seed, 5))
			parts := []storage.PartitionID{k.topic("t0", nil), k.topic("t1", map[string]string{"age": "3h"})}
			partition := func(i int) *metadata.Partition {
				_, p := k.c.Image().Partition(parts[i])
				return p
			}
			var late []storage.ObjectID
			topics, filings := 2, 0
			for range 250 {
				i := rng.IntN(2)
				p := partition(i)
				switch rng.IntN(12) {
				case 0, 1, 2, 3:
					k.upload(parts[i], p.CommittedEnd(), p.CommittedEnd()+10, time.Now())
				case 4, 5:
					if n := p.Ranges().Len(); n > 1 {
						k.file(parts[i], 1+rng.IntN(min(n-1, 4)), 0, len(p.Filed()) > 0 && rng.IntN(3) > 0)
						filings++
					}
				case 6: // what lies below the log start is left out
					if filed := p.Filed(); len(filed) == 1 && p.LogStart > filed[0].Base {
						ranges, err := k.c.keeper().readManifest(t.Context(), parts[i], &filed[0])
						if err != nil {
							t.Fatal(err)
						}
						below := slices.IndexFunc(ranges, func(r object.Filed) bool { return r.End > p.LogStart })
						if below > 0 {
							k.file(parts[i], 0, below, true)
						}
					}
				case 7:
					k.drop(parts[i], min(p.CommittedEnd(), p.LogStart+storage.Offset(rng.IntN(40))))
				case 8:
					late = append(late, k.prepare())
				case 9:
					if rng.IntN(6) == 0 {
						for _, result := range k.c.DeleteTopics(t.Context(), []TopicRef{{ID: parts[i].Topic}}) {
							if result.Err != nil {
								t.Fatal(result.Err)
							}
						}
						topics++
						parts[i] = k.topic(fmt.Sprintf("t%d", topics), nil)
					}
				case 10:
					if rng.IntN(4) == 0 {
						k.reopen()
						k.register()
					}
				case 11:
					if len(late) > 0 { // it lands whenever
						k.put(k.key(late[0]))
						late = late[1:]
					}
				}
				if rng.IntN(8) == 0 {
					k.bucket.Set(bucket.Rule{Err: errAway, Temporary: true, Chance: 0.3, Seed: rng.Uint64()})
				}
				pass(time.Duration(rng.IntN(20)) * time.Minute)
				k.bucket.Set()
				pass(time.Minute) // it has the ids that are issued next
				k.named(seed)
			}
			for _, id := range late {
				k.put(k.key(id))
			}
			pass(10 * keptAudit)
			named := k.named(seed)
			for _, key := range k.keys(object.DataPrefix("p", k.c.Image().ClusterID(), FirstIncarnation)) {
				if !named[key] {
					t.Errorf("seed %d: %s is left, and nothing names it", seed, key)
				}
			}
			if m := k.c.Image(); m.NumObjects(metadata.Condemned)+m.NumObjects(metadata.Prepared) > 0 || filings < 15 {
				t.Errorf("seed %d: %d condemned, %d prepared after %d filings", seed, m.NumObjects(metadata.Condemned), m.NumObjects(metadata.Prepared), filings)
			}
		})
	}
}

// named returns the keys of all that is named, by the image or by a manifest; all of
// them are in the bucket.
func (k *kept) named(seed uint64) map[string]bool {
	k.t.Helper()
	named := map[string]bool{}
	for o := range k.c.Image().ObjectsIn(metadata.Committed) {
		named[k.key(o.ID)] = true
	}
	for of, is := range k.c.Image().Manifests() {
		ranges, err := k.c.keeper().readManifest(context.Background(), of, is)
		if err != nil {
			k.t.Fatalf("seed %d: %v", seed, err)
		}
		for _, r := range ranges {
			named[k.key(r.Object)] = true
		}
	}
	for key := range named {
		if _, err := k.memory.Stat(context.Background(), key); err != nil {
			k.t.Fatalf("seed %d: %s is named: %v", seed, key, err)
		}
	}
	return named
}
