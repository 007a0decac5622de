package object

import (
	"bytes"
	"fmt"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/test/seeded"
)

// drawRange draws a range and its batches: of a record or many bytes, with
// holes at both ends and between, or none at all.
func drawRange(t *rapid.T, p storage.PartitionID) (Range, []batch.Batch) {
	at := rapid.OneOf(rapid.Int64Range(0, 3), rapid.Int64Range(1<<62, 1<<62+9)).Draw(t, "base")
	r := Range{
		Partition: p, Topic: rapid.StringMatching(`[a-z]{1,9}`).Draw(t, "topic"), Base: storage.Offset(at), Holes: rapid.Bool().Draw(t, "holes"),
		LastStable: storage.Offset(rapid.Int64Range(0, 1<<62).Draw(t, "last stable")),
	}
	hole := func() {
		if r.Holes {
			at += rapid.Int64Range(0, 9).Draw(t, "hole")
		}
	}
	epoch := storage.Epoch(rapid.Int32Range(0, 5).Draw(t, "epoch"))
	var batches []batch.Batch
	hole()
	for range rapid.IntRange(0, 12).Draw(t, "batches") {
		w := batch.NewBuilder(batch.BuilderOptions{BaseOffset: storage.Offset(at), LeaderEpoch: epoch})
		millis := rapid.OneOf(rapid.Int64Range(-1, 9), rapid.Int64Range(1<<61, 1<<62)).Draw(t, "millis")
		for range rapid.IntRange(1, 4).Draw(t, "records") {
			w.Add(millis, nil, make([]byte, rapid.SampledFrom([]int{0, 1, 100, 3000}).Draw(t, "bytes")))
		}
		b, err := w.Build()
		if err != nil {
			t.Fatal(err)
		}
		if rapid.IntRange(0, 3).Draw(t, "next epoch") == 0 || len(r.Epochs) == 0 {
			epoch++
			r.Epochs = append(r.Epochs, EpochStart{epoch, storage.Offset(at)})
		}
		if rapid.IntRange(0, 3).Draw(t, "aborts") == 0 {
			r.Aborted = append(r.Aborted, Aborted{
				ProducerID: rapid.Int64Range(0, 1<<62).Draw(t, "producer"), Last: storage.Offset(at),
				First: storage.Offset(rapid.Int64Range(0, at).Draw(t, "first")),
			})
		}
		batches = append(batches, b)
		at = int64(b.NextOffset())
		hole()
	}
	if r.End = storage.Offset(at); r.End == r.Base {
		r.End, r.Holes = r.End+1, true
	}
	r.Producers = rapid.SliceOfN(rapid.Byte(), 0, 20).Draw(t, "producers")
	r.Batches = feed(batches...)
	return r, batches
}

// TestRoundTrip: whatever is packed is whole, is found by offset and time where
// a reader that looks at every batch finds it, and is planned once.
func TestRoundTrip(t *testing.T) {
	seeded.Check(t, func(t *rapid.T) {
		var ids []storage.PartitionID
		for range rapid.IntRange(0, 4).Draw(t, "ranges") {
			ids = append(ids, storage.PartitionID{Topic: storage.TopicID{1, rapid.Byte().Draw(t, "topic id")}, Index: rapid.Int32Range(0, 300).Draw(t, "index")})
		}
		slices.SortFunc(ids, ComparePartitions)
		ids = slices.Compact(ids)
		var ranges []Range
		var batches [][]batch.Batch
		for _, p := range ids {
			r, b := drawRange(t, p)
			ranges, batches = append(ranges, r), append(batches, b)
		}
		o := WriteOptions{BlockSize: rapid.SampledFrom([]int{0, 1, 200, 2000}).Draw(t, "block size")}
		var out, again bytes.Buffer
		s, err := Write(&out, header, ranges, o)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Write(&again, header, ranges, o); err != nil || !bytes.Equal(out.Bytes(), again.Bytes()) {
			t.Fatalf("the second time it is another object: %v", err)
		}
		b := out.Bytes()
		if h, err := Verify(s.Size, readFrom(b), func(err error) { t.Error(err) }); err != nil || h != header {
			t.Fatalf("header %+v, %v", h, err)
		}
		d, err := ReadDirectory(int64(len(b)), readFrom(b))
		if err != nil || len(d.Entries) != len(ranges) {
			t.Fatalf("directory %+v, %v", d, err)
		}
		for i, e := range d.Entries {
			x, err := openIndex(b, header.ID, e)
			if err != nil {
				t.Fatal(err)
			}
			checkIndex(t, b, x, &ranges[i], batches[i], s.Placements[i])
		}
	})
}

func checkIndex(t *rapid.T, b []byte, x *Index, r *Range, batches []batch.Batch, p Placement) {
	got, err := serve(b, header.ID, p.Entry)
	if err != nil || !slices.EqualFunc(got, batches, func(a, b batch.Batch) bool { return bytes.Equal(a, b) }) {
		t.Fatalf("%d batches of %d come back, %v", len(got), len(batches), err)
	}
	if x.Topic != r.Topic || x.LastStable != r.LastStable || !slices.Equal(x.Epochs, r.Epochs) || !slices.Equal(x.Aborted, r.Aborted) || !bytes.Equal(x.Producers, r.Producers) {
		t.Fatalf("index %+v of %+v", x, r)
	}
	if x.Batches != int64(len(batches)) || p.Batches != x.Batches || p.Bytes != x.Bytes || p.Records != x.Records || p.MaxTimestamp != x.MaxTimestamp {
		t.Fatalf("index %+v, placed %+v", x, p)
	}
	again := x.append(nil, dataPosition(x))
	if len(x.Blocks) > 0 && !bytes.Equal(again, b[p.Index.Position:p.Index.End()]) {
		t.Fatal("the index encodes otherwise than it was read")
	}
	blockOf := func(want func(batch.Batch) bool) int {
		for i, k := range x.Blocks {
			opened, err := x.OpenBlock(i, b[k.Position:k.Position+int64(k.Length)], nil)
			if err != nil {
				t.Fatal(err)
			}
			if slices.ContainsFunc(opened, want) {
				return i
			}
		}
		return len(x.Blocks)
	}
	offset := r.Base + storage.Offset(rapid.Int64Range(0, int64(r.End-r.Base)+1).Draw(t, "offset"))
	if want := blockOf(func(b batch.Batch) bool { return b.LastOffset() >= offset }); x.Find(offset) != want {
		t.Fatalf("offset %d is looked for in block %d, it is in %d", offset, x.Find(offset), want)
	}
	millis := rapid.SampledFrom([]int64{-1, 0, 5, 9, 1 << 61, 1 << 62}).Draw(t, "time")
	if want := blockOf(func(b batch.Batch) bool { return b.MaxTimestamp() >= millis }); x.FindTime(millis) != want {
		t.Fatalf("time %d is looked for in block %d, it is in %d", millis, x.FindTime(millis), want)
	}
	checkPlan(t, x, offset)
}

// dataPosition is where the data of x begins.
func dataPosition(x *Index) int64 {
	if len(x.Blocks) == 0 {
		return 0
	}
	return x.Blocks[0].Position
}

// checkPlan compares a plan with what it must hold.
func checkPlan(t *rapid.T, x *Index, offset storage.Offset) {
	have := map[int]bool{}
	for i := range x.Blocks {
		have[i] = rapid.Bool().Draw(t, "have")
	}
	o := PlanOptions{
		MaxBytes: rapid.Int64Range(0, 20000).Draw(t, "max bytes"), MaxFetch: rapid.SampledFrom([]int64{0, 1, 500, 5000}).Draw(t, "max fetch"),
		Gap: rapid.SampledFrom([]int64{0, 100, 5000}).Draw(t, "gap"), Have: func(i int) bool { return have[i] },
	}
	plan := x.Plan(offset, o)
	read := map[int]bool{}
	last := -1
	for _, f := range plan {
		if f.First <= last || f.Last < f.First || have[f.First] || have[f.Last] {
			t.Fatalf("plan %+v with %v there", plan, have)
		}
		last = f.Last
		k, end := x.Blocks[f.First], x.Blocks[f.Last]
		if f.Position != k.Position || f.Position+f.Length != end.Position+int64(end.Length) || o.MaxFetch > 0 && f.Length > o.MaxFetch && f.First != f.Last {
			t.Fatalf("fetch %+v", f)
		}
		gap := int64(0)
		for i := f.First; i <= f.Last; i++ {
			read[i] = true
			if gap += int64(x.Blocks[i].Length); !have[i] {
				gap = 0
			}
			if gap > o.Gap {
				t.Fatalf("fetch %+v reads %d bytes again", f, gap)
			}
		}
	}
	// Wanted are blocks from offset on within the budget, at least one.
	budget := o.MaxBytes
	for i := x.Find(offset); i < len(x.Blocks); i++ {
		if budget -= int64(x.Blocks[i].Length); budget < 0 && i > x.Find(offset) {
			if last >= i {
				t.Fatalf("plan %+v goes beyond block %d", plan, i)
			}
			break
		}
		if !have[i] && !read[i] {
			t.Fatalf("block %d is missing from %+v", i, plan)
		}
	}
}

// TestPlan by example.
func TestPlan(t *testing.T) {
	x := &Index{Base: 0, End: 60}
	for i := range 6 { // six blocks of 100 bytes and ten offsets
		x.Blocks = append(x.Blocks, Block{First: storage.Offset(10 * i), Next: storage.Offset(10*i + 10), Position: 1000 + 100*int64(i), Length: 100})
	}
	have := func(blocks ...int) func(int) bool { return func(i int) bool { return slices.Contains(blocks, i) } }
	for _, c := range []struct {
		offset storage.Offset
		o      PlanOptions
		want   []Fetch
	}{
		{15, PlanOptions{}, []Fetch{{1, 1, 1100, 100}}},
		{15, PlanOptions{MaxBytes: 350}, []Fetch{{1, 3, 1100, 300}}},
		{0, PlanOptions{MaxBytes: 1 << 30}, []Fetch{{0, 5, 1000, 600}}},
		{0, PlanOptions{MaxBytes: 1 << 30, MaxFetch: 250}, []Fetch{{0, 1, 1000, 200}, {2, 3, 1200, 200}, {4, 5, 1400, 200}}},
		{0, PlanOptions{MaxBytes: 1 << 30, MaxFetch: 10}, []Fetch{{0, 0, 1000, 100}, {1, 1, 1100, 100}, {2, 2, 1200, 100}, {3, 3, 1300, 100}, {4, 4, 1400, 100}, {5, 5, 1500, 100}}},
		{0, PlanOptions{MaxBytes: 1 << 30, Have: have(0, 2, 5)}, []Fetch{{1, 1, 1100, 100}, {3, 4, 1300, 200}}},
		{0, PlanOptions{MaxBytes: 1 << 30, Gap: 100, Have: have(0, 2, 5)}, []Fetch{{1, 4, 1100, 400}}},
		{0, PlanOptions{MaxBytes: 1 << 30, Have: have(0, 1, 2, 3, 4, 5)}, nil},
		{60, PlanOptions{MaxBytes: 1 << 30}, nil},
	} {
		if got := x.Plan(c.offset, c.o); !reflect.DeepEqual(got, c.want) {
			t.Errorf("from %d with %s: %+v, want %+v", c.offset, fmt.Sprintf("%d/%d/%d", c.o.MaxBytes, c.o.MaxFetch, c.o.Gap), got, c.want)
		}
	}
}
