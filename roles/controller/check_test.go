package controller

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/bucket"
	"rustmq.dev/rustmq/storage/object"
)

// sizedCatalogue has objects of 100 bytes.
type sizedCatalogue struct{ *modelCatalogue }

func (c sizedCatalogue) Object(id storage.ObjectID) (*metadata.Object, bool) {
	o, known := c.modelCatalogue.Object(id)
	o.Size = 100
	return o, known
}

func (c sizedCatalogue) ObjectsIn(s metadata.ObjectState) iter.Seq[*metadata.Object] {
	return func(yield func(*metadata.Object) bool) {
		for _, id := range c.in(s) {
			if o, _ := c.Object(id); !yield(o) {
				return
			}
		}
	}
}

// TestComparison has a line for each way in which a key and the catalogue can
// stand to each other.
func TestComparison(t *testing.T) {
	const next = 10
	keyOf := func(id storage.ObjectID) string { return object.Key("p", "c", 1, id) }
	parse := func(key string) (storage.ObjectID, error) {
		k, err := object.ParseKey("p", key)
		return k.ID, err
	}
	for _, c := range []struct {
		name  string
		state metadata.ObjectState // of object 7
		size  int64                // as listed; below 0: not listed
		id    storage.ObjectID     // 0: 7
		key   string               // listed instead of the object's
		part  stretch
		want  string
	}{
		{"named and there", committed, 100, 0, "", stretch{}, "committed"},
		{"named with another size", committed, 99, 0, "", stretch{}, "suspect"},
		{"named and not there", committed, -1, 0, "", stretch{}, "suspect"},
		{"named, elsewhere", committed, -1, 0, "", stretch{after: keyOf(7)}, ""},
		{"named, further on", committed, -1, 0, "", stretch{upTo: keyOf(6)}, ""},
		{"named, at the end of the stretch", committed, -1, 0, "", stretch{upTo: keyOf(7)}, "suspect"},
		{"under way", prepared, 5, 0, "", stretch{}, "prepared"},
		{"not begun", prepared, -1, 0, "", stretch{}, ""},
		{"condemned", condemned, 100, 0, "", stretch{}, "condemned"},
		{"condemned and deleted", condemned, -1, 0, "", stretch{}, ""},
		{"come after its deletion", forgotten, 100, 0, "", stretch{}, "orphan"},
		{"listed behind the stretch", forgotten, 100, 0, "", stretch{upTo: keyOf(6)}, ""},
		{"forgotten", forgotten, -1, 0, "", stretch{}, ""},
		{"never issued", forgotten, 100, next, "", stretch{}, "foreign"},
		{"issued last", forgotten, 100, next - 1, "", stretch{}, "orphan"},
		{"listed in a manifest and there", shelved, 100, 0, "", stretch{}, "committed"},
		{"listed in a manifest with another size", shelved, 99, 0, "", stretch{}, "suspect"},
		{"listed in a manifest and not there", shelved, -1, 0, "", stretch{}, "suspect"},
		{"listed in a manifest, elsewhere", shelved, -1, 0, "", stretch{after: keyOf(7)}, ""},
		{"come after its deletion, while a manifest is damaged", forgotten, 100, 0, "", stretch{}, "unjudged"},
		{"listed in a manifest, while another is damaged", shelved, 100, 0, "", stretch{}, "committed"},
		{"no key of ours", forgotten, 100, 0, "p/c/00000001/data/07/7.tmp", stretch{}, "foreign"},
	} {
		cat := sizedCatalogue{newModelCatalogue()}
		cat.next = next
		cat.states[7] = c.state
		id, key := c.id, c.key
		if id == 0 {
			id = 7
		}
		if key == "" {
			key = keyOf(id)
		}
		var listed []bucket.Info
		if c.size >= 0 {
			listed = append(listed, bucket.Info{Key: key, Size: c.size})
		}
		f := &filedPart{to: math.MaxUint64}
		if c.state == shelved {
			f.objects = []filedObject{{Filed: object.Filed{Object: 7, Size: 100}}}
		}
		if strings.HasSuffix(c.name, "damaged") {
			f.damaged = damages{8: {}}
		}
		got := compare(cat, f, keyOf, parse, c.part, listed)
		var is []string
		for what, tally := range map[string]Tally{
			"committed": got.Committed, "prepared": got.Prepared, "condemned": got.Condemned, "orphan": got.Orphans, "foreign": got.Foreign,
			"missing": got.Missing, "unjudged": got.Unjudged, "wrong-size": got.WrongSize, "suspect": {Objects: int64(len(got.suspects))},
		} {
			if tally.Objects > 0 {
				is = append(is, what)
			}
		}
		if strings.Join(is, " ") != c.want {
			t.Errorf("%s: %v, want %q", c.name, is, c.want)
		}
		for _, f := range got.findings {
			if f.Kind != c.want || f.Key != key || f.Size != c.size || f.Detail == "" {
				t.Errorf("%s: found %+v", c.name, f)
			}
		}
	}
}

// TestSuspectsAreBelievedOfTheStore: a listing may lag.
func TestSuspectsAreBelievedOfTheStore(t *testing.T) {
	for _, c := range []struct {
		info    bucket.Info
		missing bool
		want    string
	}{
		{bucket.Info{Size: 100}, false, ""}, {bucket.Info{Size: 7}, false, FoundWrongSize}, {bucket.Info{}, true, FoundMissing},
	} {
		var got comparison
		got.confirm(Finding{Key: "k", Want: 100, Size: 3}, c.info, c.missing)
		if c.want == "" {
			if len(got.findings) > 0 || got.Committed != (Tally{1, 100}) {
				t.Errorf("%+v: %+v", c.info, got)
			}
		} else if len(got.findings) != 1 || got.findings[0].Kind != c.want || got.findings[0].Size != c.info.Size || got.Committed.Objects > 0 {
			t.Errorf("%+v: %+v", c.info, got)
		}
	}
}

// checkWorld is a cluster with a bucket and objects of two partitions in it.
type checkWorld struct {
	*testing.T
	c       *Controller
	bucket  bucket.Bucket
	objects []storage.ObjectID
}

// newCheckWorld has four objects: two are named, the third is being uploaded, the
// fourth is dead and forgotten.
func newCheckWorld(t *testing.T, grace time.Duration) *checkWorld {
	w := &checkWorld{T: t, bucket: bucket.NewMemory()}
	w.c = open(t, Options{Bucket: &BucketOptions{
		Bucket: w.bucket, Prefix: "p", Deadline: time.Hour, Grace: grace, Audit: time.Hour, Retention: time.Hour, MetadataLog: time.Hour,
		Keep: func(map[string]string) Retention { return Retention{-1, -1} },
	}})
	is, _ := w.c.Image().Bucket()
	epoch, err := w.c.RegisterBroker(t.Context(), Registration{BrokerID: 1, Incarnation: [16]byte{1}, BucketNonce: is.Nonce})
	if err := errors.Join(err, w.c.Heartbeat(t.Context(), 1, epoch)); err != nil {
		t.Fatal(err)
	}
	topic := create(t, w.c, NewTopic{Name: "t", Partitions: 2, ReplicationFactor: 1}).ID
	first, err := w.c.PrepareObjects(t.Context(), 1, epoch, 4)
	if err != nil {
		t.Fatal(err)
	}
	for i := range storage.ObjectID(4) {
		w.objects = append(w.objects, first+i)
	}
	for i, id := range w.objects[:2] {
		base := storage.Offset(2 * i)
		s := w.put(id, topic, base)
		var ranges []metadata.PartitionRange
		for _, p := range s.Placements {
			ranges = append(ranges, metadata.PartitionRange{Partition: p.Partition, Range: metadata.Range{
				Base: p.Base, End: p.End, Bytes: p.Bytes, MaxTimestamp: p.MaxTimestamp,
				IndexPosition: p.Index.Position, IndexLength: p.Index.Length, IndexCRC: p.Index.CRC,
			}})
		}
		results, err := w.c.CommitObject(t.Context(), 1, epoch, id, s.Size, ranges)
		if err := errors.Join(append(results, err)...); err != nil {
			t.Fatal(err)
		}
	}
	w.put(w.objects[2], topic, 4)
	dead := w.objects[3:]
	if n, err := w.c.CondemnObjects(t.Context(), dead); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	if n, err := w.c.ForgetObjects(t.Context(), dead); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	return w
}

func (w *checkWorld) key(id storage.ObjectID) string { return w.c.keeper().key(id) }

// put writes two records of each partition.
func (w *checkWorld) put(id storage.ObjectID, topic storage.TopicID, base storage.Offset) *object.Summary {
	w.Helper()
	builder := batch.NewBuilder(batch.BuilderOptions{BaseOffset: base})
	builder.Add(1000, nil, []byte("a"))
	builder.Add(2000, nil, []byte("b"))
	built, err := builder.Build()
	if err != nil {
		w.Fatal(err)
	}
	var ranges []object.Range
	for p := range int32(2) {
		ranges = append(ranges, object.Range{
			Partition: storage.PartitionID{Topic: topic, Index: p}, Topic: "t", Base: base, End: base + 2, LastStable: base + 2,
			Epochs:  []object.EpochStart{{Epoch: 0, Start: base}},
			Batches: func(yield func(batch.Batch) error) error { return yield(built) },
		})
	}
	var out bytes.Buffer
	s, err := object.Write(&out, object.Header{ID: id, Cluster: w.c.Image().ClusterID(), Incarnation: 1, Broker: 1}, ranges, object.WriteOptions{})
	if err != nil {
		w.Fatal(err)
	}
	w.write(w.key(id), out.Bytes())
	return s
}

func (w *checkWorld) write(key string, content []byte) {
	w.Helper()
	if err := w.bucket.Put(w.Context(), key, bucket.Bytes(content)); err != nil {
		w.Fatal(err)
	}
}

func (w *checkWorld) read(key string) []byte {
	w.Helper()
	content, err := bucket.ReadAll(w.Context(), w.bucket, key, 1<<20)
	if err != nil {
		w.Fatal(err)
	}
	return content
}

// check checks all of it, in calls of that length.
func (w *checkWorld) check(r CheckRequest) (whole *CheckReport, calls int) {
	w.Helper()
	whole = new(CheckReport)
	for {
		report, err := w.c.CheckBucket(w.Context(), r)
		if err != nil {
			w.Fatal(err)
		}
		whole.Add(report)
		calls++
		if r.After = report.Next; r.After == "" {
			return whole, calls
		}
	}
}

func (w *checkWorld) expect(r CheckRequest, want ...string) *CheckReport {
	w.Helper()
	report, _ := w.check(r)
	var got []string
	for _, f := range report.Findings {
		line := f.Kind + " " + f.Object
		if f.Range != nil {
			line += fmt.Sprintf(" %s-%d [%d, %d)", f.Range.Topic, f.Range.Partition, f.Range.Base, f.Range.End)
		}
		got = append(got, line)
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		w.Errorf("found %q, want %q", got, want)
	}
	return report
}

func TestCheckOfAWholeBucket(t *testing.T) {
	w := newCheckWorld(t, time.Hour)
	for _, budget := range []time.Duration{0, 1} { // 1: a call for each key
		report, calls := w.check(CheckRequest{Verify: true, Budget: budget})
		if budget == 1 && calls < 3 || budget == 0 && calls != 1 {
			t.Errorf("%d calls", calls)
		}
		if report.Damaged() || len(report.Findings) > 0 || report.Committed.Objects != 2 || report.Prepared.Objects != 1 || report.Verified != report.Committed {
			t.Errorf("%+v", report)
		}
	}
	if err := w.bucket.Delete(t.Context(), w.key(w.objects[0])); err != nil {
		t.Fatal(err)
	}
	w.write(w.key(w.objects[1]), append(w.read(w.key(w.objects[1])), 0))
	w.write(w.key(w.objects[3]), []byte("late"))
	w.write(w.key(99), []byte("of whom?"))
	w.write("p/"+w.c.Image().ClusterID()+"/00000001/data/zz", []byte("odd"))
	const missing, orphan, wrong, foreign = "missing 0000000000000001", "orphan 0000000000000004", "wrong-size 0000000000000002", "foreign 0000000000000063"
	report := w.expect(CheckRequest{Findings: 1, Verify: true}, foreign, missing, orphan, wrong)
	if !report.Damaged() || report.Foreign != (Tally{2, 11}) || report.Missing.Objects != 1 || report.Orphans != (Tally{1, 4}) || report.Committed.Objects != 0 {
		t.Errorf("%+v", report)
	}
	w.expect(CheckRequest{Findings: 1, Verify: true, Budget: 1}, "foreign ", foreign, missing, orphan, wrong) // one of each kind a call
}

// TestCheckReadsSomeObjectsAtOnce, in no more memory than that takes, and goes on
// behind the last of them when its time is up.
func TestCheckReadsSomeObjectsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const objects = 3 * checkReaders
		k := newKept(t)
		k.open()
		defer k.close()
		k.register()
		p := k.topic("t", nil)
		for i := range storage.Offset(objects) {
			id := k.upload(p, i, i+1, time.Now())
			if err := k.memory.Put(t.Context(), k.key(id), bucket.Bytes(make([]byte, 1000))); err != nil {
				t.Fatal(err)
			}
		}
		var mu sync.Mutex
		reading, most := 0, 0
		k.bucket.Set(bucket.Rule{Op: bucket.OpRead, Prefix: object.DataPrefix("p", k.c.Image().ClusterID(), FirstIncarnation), Hook: func(context.Context, bucket.Op, string) error {
			mu.Lock()
			reading++
			most = max(most, reading)
			mu.Unlock()
			<-time.After(time.Second)
			mu.Lock()
			reading--
			mu.Unlock()
			return nil
		}})
		began, seen := time.Now(), map[string]bool{}
		for r := (CheckRequest{Verify: true, Budget: 1500 * time.Millisecond}); ; {
			report, err := k.c.CheckBucket(t.Context(), r)
			if err != nil {
				t.Fatal(err)
			}
			if n := report.Verified.Objects; n == 0 || n > 2*checkReaders || report.Corrupt.Objects != n {
				t.Fatalf("a part: %+v", report)
			}
			for _, f := range report.Findings {
				seen[f.Object] = true
			}
			if r.After = report.Next; r.After == "" {
				break
			}
		}
		if took := time.Since(began); len(seen) != objects || most != checkReaders || took > objects*time.Second/2 {
			t.Errorf("%d objects in %v, %d at once", len(seen), took, most)
		}
		k.bucket.Set(bucket.Rule{Op: bucket.OpRead, Prefix: k.key(3), Err: errAway})
		if _, err := k.c.CheckBucket(t.Context(), CheckRequest{Verify: true}); err == nil || !strings.Contains(err.Error(), k.key(3)) {
			t.Errorf("an object that cannot be read: %v", err)
		}
	})
}

// TestCheckNamesTheRecordsThatAreDamaged flips a bit in each part of an object.
func TestCheckNamesTheRecordsThatAreDamaged(t *testing.T) {
	w := newCheckWorld(t, time.Hour)
	key, id := w.key(w.objects[1]), w.objects[1].String()
	whole := w.read(key)
	directory, err := object.ReadDirectory(int64(len(whole)), func(p []byte, off int64) error { copy(p, whole[off:]); return nil })
	if err != nil {
		t.Fatal(err)
	}
	second := directory.Entries[1].Index.Position
	for _, c := range []struct {
		at    int
		where string
	}{
		{40, ""}, {object.HeaderSize + 70, " t-0 [2, 4)"}, {int(directory.Entries[0].Index.Position) - 1, " t-1 [2, 4)"},
		{int(second) + 20, " t-1 [2, 4)"}, {len(whole) - 1, ""}, {len(whole) - object.FooterSize - 3, ""},
	} {
		damaged := bytes.Clone(whole)
		damaged[c.at] ^= 1
		w.write(key, damaged)
		if report := w.expect(CheckRequest{Verify: true, Findings: 1}, "corrupt "+id+c.where); report.Corrupt.Objects != 1 || report.Verified.Objects != 2 || !report.Damaged() {
			t.Errorf("byte %d: %+v", c.at, report)
		}
		if t.Failed() {
			t.Fatalf("byte %d", c.at)
		}
	}
	w.expect(CheckRequest{}) // without reading, it is as it should be
	other := w.read(w.key(w.objects[0]))
	w.write(key, other) // whole, and another
	w.expect(CheckRequest{Verify: true, Findings: 1}, "corrupt "+id)
}

// TestRepairDeletesOrphansOnly, and those only once they were seen for the grace.
func TestRepairDeletesOrphansOnly(t *testing.T) {
	for _, c := range []struct {
		grace   time.Duration
		repair  bool
		deleted int64
	}{{0, false, 0}, {0, true, 1}, {time.Hour, true, 0}} {
		w := newCheckWorld(t, c.grace)
		w.write(w.key(w.objects[3]), []byte("late"))
		w.write(w.key(99), []byte("of whom?"))
		damaged := w.read(w.key(w.objects[1]))[1:]
		w.write(w.key(w.objects[1]), damaged)
		before := w.keys()
		report, _ := w.check(CheckRequest{Repair: c.repair})
		if report.Orphans.Objects != 1 || report.Foreign.Objects != 1 || report.WrongSize.Objects != 1 || report.Deleted.Objects != c.deleted {
			t.Errorf("%+v: %+v", c, report)
		}
		if got := int64(before - w.keys()); got != c.deleted {
			t.Errorf("%+v: %d keys are gone", c, got)
		}
	}
}

func (w *checkWorld) keys() (n int) {
	w.Helper()
	data := object.DataPrefix("p", w.c.Image().ClusterID(), 1)
	if err := w.bucket.List(w.Context(), data, "", func(bucket.Info) bool { n++; return true }); err != nil {
		w.Fatal(err)
	}
	return n
}

// TestCheckOfAnotherBucketIsRefused: all of it would be missing.
func TestCheckOfAnotherBucketIsRefused(t *testing.T) {
	w := newCheckWorld(t, time.Hour)
	key := NonceKey("p", w.c.Image().ClusterID())
	w.write(key, []byte(strings.Repeat("ab", 16)))
	refused := func(what string) {
		t.Helper()
		if _, err := w.c.CheckBucket(t.Context(), CheckRequest{}); !errors.As(err, new(*WrongBucketError)) {
			t.Errorf("%s: %v", what, err)
		}
	}
	refused("another nonce")
	if err := w.bucket.Delete(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	refused("no nonce")
	if _, err := open(t, Options{}).CheckBucket(t.Context(), CheckRequest{}); err == nil {
		t.Error("a controller without a bucket checks one")
	}
}

func TestWindowsReadWhatIsThere(t *testing.T) {
	whole := make([]byte, 3*windowBytes+5)
	for i := range whole {
		whole[i] = byte(i % 251)
	}
	requests := 0
	w := &windows{size: int64(len(whole)), read: func(p []byte, off int64) error {
		requests++
		if off+int64(len(p)) > int64(len(whole)) {
			return io.ErrUnexpectedEOF
		}
		copy(p, whole[off:])
		return nil
	}}
	const step = 1 << 20
	for at := int64(0); at+step <= int64(len(whole)); at += step {
		for _, off := range []int64{at, int64(len(whole)) - 100} { // data, and what lies behind
			p := make([]byte, min(step, int64(len(whole))-off))
			if err := w.readAt(p, off); err != nil || !bytes.Equal(p, whole[off:off+int64(len(p))]) {
				t.Fatalf("at %d: %v", off, err)
			}
		}
	}
	if requests != 4 {
		t.Errorf("%d requests", requests)
	}
	if err := w.readAt(make([]byte, 10), int64(len(whole))-5); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("beyond the end: %v", err)
	}
	if err := w.readAt(make([]byte, windowBytes+1), 7); err != nil {
		t.Errorf("more than a window: %v", err)
	}
	w.is, w.read = [2]window{}, func([]byte, int64) error { return context.Canceled }
	for range 2 {
		if err := w.readAt(make([]byte, 10), 0); !errors.Is(err, context.Canceled) {
			t.Errorf("the store failed, the window says %v", err)
		}
	}
}
