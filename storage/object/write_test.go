package object

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
)

// TestWriteRefuses: what would be lost, or not be found again, is not packed,
// and the range is named, so that the others can go without it.
func TestWriteRefuses(t *testing.T) {
	p := storage.PartitionID{Topic: topicA, Index: 3}
	good := func() Range {
		return Range{Partition: p, Topic: "orders", Base: 10, End: 13, Batches: feed(build(t, 10, 1, "a", "b"), build(t, 12, 1, "c"))}
	}
	var out bytes.Buffer
	if _, err := Write(&out, header, []Range{good()}, WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	damaged := build(t, 12, 1, "c")
	damaged[batch.HeaderSize] ^= 1
	broken := errors.New("the log is gone")
	for name, change := range map[string]func(r *Range){
		"crc":            func(r *Range) { r.Batches = feed(build(t, 10, 1, "a", "b"), damaged) },
		"begins early":   func(r *Range) { r.Batches = feed(build(t, 9, 1, "a", "b", "c"), build(t, 12, 1, "d")) },
		"out of order":   func(r *Range) { r.Holes, r.Batches = true, feed(build(t, 12, 1, "c"), build(t, 10, 1, "a", "b")) },
		"twice":          func(r *Range) { r.Holes, r.Batches = true, feed(build(t, 10, 1, "a"), build(t, 10, 1, "a")) },
		"beyond the end": func(r *Range) { r.Batches = feed(build(t, 10, 1, "a", "b"), build(t, 12, 1, "c", "d")) },
		"begins late":    func(r *Range) { r.Batches = feed(build(t, 11, 1, "b"), build(t, 12, 1, "c")) },
		"gap":            func(r *Range) { r.Batches = feed(build(t, 10, 1, "a"), build(t, 12, 1, "c")) },
		"ends early":     func(r *Range) { r.Batches = feed(build(t, 10, 1, "a", "b")) },
		"none":           func(r *Range) { r.Batches = nil },
		"cut off":        func(r *Range) { r.Batches = feed(build(t, 10, 1, "a", "b"), build(t, 12, 1, "c")[:60]) },
		"two at once": func(r *Range) {
			r.Batches = feed(append(build(t, 10, 1, "a", "b"), build(t, 12, 1, "c")...))
		},
		"an error": func(r *Range) { r.Batches = func(func(batch.Batch) error) error { return broken } },
		"refusal that is not passed on": func(r *Range) {
			r.Holes = true
			r.Batches = func(yield func(batch.Batch) error) error {
				_ = yield(damaged)
				_ = yield(build(t, 12, 1, "c"))
				return nil
			}
		},
		"no topic":     func(r *Range) { r.Topic = "" },
		"no partition": func(r *Range) { r.Partition = storage.PartitionID{} },
		"no offsets":   func(r *Range) { r.End = r.Base },
		"epochs":       func(r *Range) { r.Epochs = []EpochStart{{3, 10}, {2, 11}} },
		"aborted":      func(r *Range) { r.Aborted = []Aborted{{ProducerID: 1, First: 1, Last: 13}} },
		"cut too far":  func(r *Range) { r.Cut, r.Base = true, 12 },
	} {
		r := good()
		change(&r)
		_, err := Write(io.Discard, header, []Range{r}, WriteOptions{})
		var refused *RangeError
		if !errors.As(err, &refused) || refused.Partition != r.Partition {
			t.Errorf("%s: %v", name, err)
		}
		if name == "an error" && !errors.Is(err, broken) {
			t.Errorf("the caller's error is lost in %v", err)
		}
	}
	for name, ranges := range map[string][]Range{
		"behind its turn": {{Partition: storage.PartitionID{Topic: topicB}, Topic: "b", Base: 0, End: 1, Holes: true}, good()},
		"twice":           {good(), good()},
	} {
		if _, err := Write(io.Discard, header, ranges, WriteOptions{}); !errors.As(err, new(*RangeError)) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, h := range []Header{{Cluster: "c"}, {ID: 1}, {ID: 1, Cluster: "../c"}, {ID: 1, Cluster: strings.Repeat("c", 65)}} {
		if _, err := Write(io.Discard, h, nil, WriteOptions{}); err == nil {
			t.Errorf("an object of %+v was written", h)
		}
	}
	for _, size := range []int{-1, 64<<20 + 1} {
		if _, err := Write(io.Discard, header, nil, WriteOptions{BlockSize: size}); err == nil || !strings.Contains(err.Error(), fmt.Sprint(size)) {
			t.Errorf("blocks of %d bytes: %v", size, err)
		}
	}
}

// failing is a writer that takes n bytes.
type failing struct{ n int }

var errFull = errors.New("full")

func (w *failing) Write(p []byte) (int, error) {
	if len(p) > w.n {
		n := w.n
		w.n = 0
		return n, errFull
	}
	w.n -= len(p)
	return len(p), nil
}

// TestFailedWritesAreReported, at whatever byte, and blame no range.
func TestFailedWritesAreReported(t *testing.T) {
	ranges := func() []Range {
		return []Range{{Partition: storage.PartitionID{Topic: topicA}, Topic: "a", Base: 0, End: 2,
			Batches: feed(build(t, 0, 1, strings.Repeat("x", 100<<10)), build(t, 1, 1, strings.Repeat("y", 100<<10)))}}
	}
	_, s := pack(t, header, WriteOptions{}, ranges()...)
	for n := 0; n < int(s.Size); n += 9973 {
		_, err := Write(&failing{n}, header, ranges(), WriteOptions{})
		if !errors.Is(err, errFull) || errors.As(err, new(*RangeError)) {
			t.Fatalf("after %d bytes: %v", n, err)
		}
	}
	if _, err := Write(&failing{int(s.Size) - 1}, header, ranges(), WriteOptions{}); !errors.Is(err, errFull) {
		t.Fatalf("without the last byte: %v", err)
	}
}

// TestLogStartInsideOfABatch: it is packed whole, and found from the log start.
func TestLogStartInsideOfABatch(t *testing.T) {
	p := storage.PartitionID{Topic: topicA}
	first, second := build(t, 0, 1, "a", "b", "c"), build(t, 3, 1, "d")
	b, s := pack(t, header, WriteOptions{}, Range{Partition: p, Topic: "a", Base: 2, End: 4, Cut: true, Batches: feed(first, second)})
	if _, found := verify(t, b); found != nil {
		t.Fatal(found)
	}
	got, err := serve(b, header.ID, s.Placements[0].Entry)
	if err != nil || len(got) != 2 || !bytes.Equal(got[0], first) || !bytes.Equal(got[1], second) {
		t.Fatalf("%d batches, %v", len(got), err)
	}
	x, err := openIndex(b, header.ID, s.Placements[0].Entry)
	if err != nil || x.Find(2) != 0 || x.Blocks[0].First != 2 {
		t.Errorf("blocks %+v, %v", x.Blocks, err)
	}
	// Only the first batch may begin before its turn.
	_, err = Write(io.Discard, header, []Range{{Partition: p, Topic: "a", Base: 2, End: 6, Cut: true, Holes: true, Batches: feed(build(t, 3, 1, "d"), build(t, 1, 1, "b", "c", "d", "e"))}}, WriteOptions{})
	if !errors.As(err, new(*RangeError)) {
		t.Errorf("a second batch from before the log start: %v", err)
	}
}

// TestBlocksAreCutBetweenBatches, at the size asked for; a larger batch is a
// block of its own.
func TestBlocksAreCutBetweenBatches(t *testing.T) {
	small, large := strings.Repeat("s", 1000), strings.Repeat("l", 300<<10)
	var batches []batch.Batch
	for i := range 600 {
		value := small
		if i == 300 {
			value = large
		}
		batches = append(batches, build(t, storage.Offset(i), int64(i), value))
	}
	b, s := pack(t, header, WriteOptions{}, Range{Partition: storage.PartitionID{Topic: topicA}, Topic: "a", Base: 0, End: 600, Batches: feed(batches...)})
	x, err := openIndex(b, header.ID, s.Placements[0].Entry)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, k := range x.Blocks {
		got = append(got, fmt.Sprintf("[%d, %d) %dKiB", k.First, k.Next, k.Length>>10))
	}
	if want := "[[0, 244) 254KiB [244, 300) 58KiB [300, 301) 300KiB [301, 545) 254KiB [545, 600) 57KiB]"; fmt.Sprint(got) != want {
		t.Errorf("blocks are %s, want %s", fmt.Sprint(got), want)
	}
}

// TestWriteAllocatesNothingPerBatch.
func TestWriteAllocatesNothingPerBatch(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	per := func(n int) float64 {
		var batches []batch.Batch
		for i := range n {
			batches = append(batches, build(t, storage.Offset(i), 1, "v"))
		}
		ranges := []Range{{Partition: storage.PartitionID{Topic: topicA}, Topic: "a", Base: 0, End: storage.Offset(n), Batches: feed(batches...)}}
		return testing.AllocsPerRun(10, func() {
			if _, err := Write(io.Discard, header, ranges, WriteOptions{}); err != nil {
				t.Fatal(err)
			}
		})
	}
	few, many := per(10), per(1000)
	t.Logf("%.0f allocations for 10 batches, %.0f for 1000", few, many)
	if many > few {
		t.Errorf("%.0f allocations for 10 batches, %.0f for 1000", few, many)
	}
}
