package wal_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/disk"
	"rustmq.dev/rustmq/storage/wal"
	"rustmq.dev/rustmq/test/seeded"
)

var exhaustive = flag.Bool("exhaustive", false, "flip every bit, of padding too")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newRand(t testing.TB) *rand.Rand {
	t.Helper()
	return rand.New(rand.NewPCG(seeded.Seed(t), 1))
}

// owner keeps what it was given, as a partition log would.
type owner struct {
	mu     sync.Mutex
	w      *wal.WAL
	frames []held
	copied []wal.Ref // what was replayed, and then a copy of it
}

// opened gives the owner its log.
func (o *owner) opened(w *wal.WAL) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.w = w
	w.ReleaseAll(o.copied)
	o.copied = nil
}

type held struct {
	header  wal.Header
	ref     wal.Ref
	payload string
}

func (o *owner) Replay(h wal.Header, ref wal.Ref, payload []byte) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if h.Copy {
		for i := range o.frames {
			if o.frames[i].header.Offset == h.Offset && o.frames[i].header.Partition == h.Partition {
				o.copied = append(o.copied, o.frames[i].ref)
				o.frames[i].ref = ref
				return nil
			}
		}
	}
	o.frames = append(o.frames, held{h, ref, string(payload)})
	return nil
}

func (o *owner) Relocate(ctx context.Context, segment uint32) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	for i := range o.frames {
		f := &o.frames[i]
		if f.ref.Segment != segment {
			continue
		}
		h := f.header
		h.Copy = true
		if err := o.w.Admit(ctx, wal.Internal, len(f.payload)+64); err != nil {
			return err
		}
		defer o.w.Unadmit(len(f.payload) + 64)
		ref, err := o.w.Append(h, []byte(f.payload), nil)
		if err != nil {
			return err
		}
		o.w.Release(f.ref)
		f.ref = ref
	}
	return nil
}

// done is a completion that closes a channel.
type done struct {
	err error
	ch  chan struct{}
}

func newDone() *done { return &done{ch: make(chan struct{})} }

func (d *done) Committed(err error) { d.err = err; close(d.ch) }

func (d *done) wait(t testing.TB) error {
	t.Helper()
	select {
	case <-d.ch:
		return d.err
	case <-time.After(20 * time.Second):
		t.Fatal("no completion after 20 s")
		return nil
	}
}

func small(fs disk.FS) wal.Options {
	return wal.Options{FS: fs, Dir: "wal", Capacity: 24 << 20, SegmentSize: 128 << 10, ChunkSize: 32 << 10, Memory: 256 << 10}
}

// onEveryDisk runs a test on a disk in memory, and on a directory once per wal.io.
func onEveryDisk(t *testing.T, test func(t *testing.T, fs disk.FS)) {
	t.Run("mem", func(t *testing.T) { test(t, disk.NewMem(disk.MemOptions{})) })
	for _, mode := range []disk.IOMode{disk.Auto, disk.Pwrite, disk.IOUring} {
		t.Run(mode.String(), func(t *testing.T) {
			fs, err := disk.OpenOSWith(t.TempDir(), disk.OSOptions{IO: mode})
			if err != nil {
				t.Fatal(err)
			}
			if got, why := fs.IO(); got != mode {
				t.Skipf("not to be had here: %v", why)
			}
			test(t, fs)
		})
	}
}

func open(t testing.TB, o wal.Options) (*wal.WAL, *owner) {
	t.Helper()
	own := &owner{}
	o.Owner = own
	w, err := wal.Open(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	own.opened(w)
	return w, own
}

func header(partition int32, offset int64) wal.Header {
	return wal.Header{Kind: wal.KindData, Partition: storage.PartitionID{Topic: storage.TopicID{7}, Index: partition}, Epoch: 3, Offset: storage.Offset(offset)}
}

// add admits and appends.
func add(t testing.TB, w *wal.WAL, h wal.Header, payload []byte, c wal.Completion) wal.Ref {
	t.Helper()
	n := len(payload) + 64
	if err := w.Admit(context.Background(), wal.Produce, n); err != nil {
		t.Fatal(err)
	}
	ref, err := w.Append(h, payload, c)
	if err != nil {
		t.Fatal(err)
	}
	w.Unadmit(n)
	return ref
}

func TestAppendedFramesAreReplayedInOrder(t *testing.T) {
	onEveryDisk(t, appendedFramesAreReplayedInOrder)
}

func appendedFramesAreReplayedInOrder(t *testing.T, fs disk.FS) {
	w, _ := open(t, small(fs))
	var last *done
	for i := range 2000 {
		last = newDone()
		add(t, w, header(int32(i%3), int64(i)), fmt.Appendf(nil, "payload %d", i), last)
		if i%50 == 0 {
			if err := last.wait(t); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := last.wait(t); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	w, own := open(t, small(fs))
	defer w.Close()
	if len(own.frames) != 2000 {
		t.Fatalf("replayed %d frames, appended 2000", len(own.frames))
	}
	for i, f := range own.frames {
		if f.header != header(int32(i%3), int64(i)) || f.payload != fmt.Sprintf("payload %d", i) {
			t.Fatalf("frame %d is %+v %q", i, f.header, f.payload)
		}
	}
}

func TestPinAndReadGiveThePayload(t *testing.T) {
	onEveryDisk(t, pinAndReadGiveThePayload)
}

func pinAndReadGiveThePayload(t *testing.T, fs disk.FS) {
	w, _ := open(t, small(fs))
	defer w.Close()
	var refs []wal.Ref
	var last *done
	for i := range 5000 {
		last = newDone()
		refs = append(refs, add(t, w, header(1, int64(i)), fmt.Appendf(make([]byte, 100), "%d", i), last))
		if i%20 == 0 {
			last.wait(t)
		}
	}
	if err := last.wait(t); err != nil {
		t.Fatal(err)
	}
	payloads, _, err := w.Read(header(1, 0).Partition, wal.KindData, refs, nil)
	if err != nil {
		t.Fatal(err)
	}
	pinned := 0
	for i, ref := range refs {
		want := string(fmt.Appendf(make([]byte, 100), "%d", i))
		if string(payloads[i]) != want {
			t.Fatalf("frame %d from the file: %q", i, payloads[i])
		}
		if b, pin, ok := w.Pin(ref); ok {
			pinned++
			if string(b) != want {
				t.Fatalf("frame %d from memory: %q", i, b)
			}
			pin.Release()
		}
	}
	if pinned == 0 || pinned == len(refs) {
		t.Fatalf("%d of %d frames were in memory: want some, and some evicted", pinned, len(refs))
	}
	if _, _, err := w.Read(header(2, 0).Partition, wal.KindData, refs[:1], nil); !errors.As(err, new(*wal.CorruptionError)) {
		t.Fatalf("read as another partition: %v", err)
	}
}

// TestAckedFramesSurvivePowerCuts cuts the power at a random moment of a random
// load, many times over, on the disk that is left each time.
func TestAckedFramesSurvivePowerCuts(t *testing.T) {
	rng := newRand(t)
	for round := range 60 {
		fs := disk.NewMem(disk.MemOptions{})
		acked := map[int64]string{}
		next := int64(0)
		for cut := range 6 {
			w, own := open(t, small(fs))
			seen := map[int64]string{}
			expect := int64(0)
			for _, f := range own.frames {
				if int64(f.header.Offset) != expect {
					t.Fatalf("round %d cut %d: frame %d where %d was due", round, cut, f.header.Offset, expect)
				}
				expect++
				seen[int64(f.header.Offset)] = f.payload
			}
			for offset, payload := range acked {
				if seen[offset] != payload {
					t.Fatalf("round %d cut %d: acked frame %d is %.20q, was %.20q", round, cut, offset, seen[offset], payload)
				}
			}
			// What recovery delivered is as good as acked.
			for offset, payload := range seen {
				acked[offset] = payload
			}
			next = expect
			var mu sync.Mutex
			appended := rng.IntN(60)
			var last *done
			for range appended {
				offset, payload := next, fmt.Sprintf("%d.%d.%d %s", round, cut, next, make([]byte, rng.IntN(3000)))
				d := newDone()
				if err := w.Admit(context.Background(), wal.Produce, len(payload)+8192); err != nil {
					t.Fatal(err)
				}
				if _, err := w.Append(header(0, offset), []byte(payload), completion(func(err error) {
					if err == nil {
						mu.Lock()
						acked[offset] = payload
						mu.Unlock()
					}
					d.Committed(err)
				})); err != nil {
					t.Fatal(err)
				}
				w.Unadmit(len(payload) + 8192)
				next++
				last = d
				if rng.IntN(4) == 0 {
					last.wait(t)
				}
			}
			var after *disk.Mem
			mu.Lock() // what is acked from here on was acked after the cut
			if rng.IntN(3) == 0 {
				after = fs.Clone() // kill -9
			} else {
				after = fs.Crash(rng)
			}
			kept := map[int64]string{}
			for k, v := range acked {
				kept[k] = v
			}
			mu.Unlock()
			_ = w.Close()
			acked, fs = kept, after
		}
	}
}

type completion func(error)

func (c completion) Committed(err error) { c(err) }

// TestAnotherSegmentSizeIsNotDamage: a log that is opened with another size of segments
// is refused by words that say so, nothing of it is touched, and with the right one it
// opens; one file of another size is damage.
func TestAnotherSegmentSizeIsNotDamage(t *testing.T) {
	mem := disk.NewMem(disk.MemOptions{})
	o := small(mem)
	w, _ := open(t, o)
	for i := range int64(200) {
		add(t, w, header(0, i), make([]byte, 3000), nil)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	before, err := mem.List("wal")
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{64 << 10, 256 << 10} {
		other := o
		other.SegmentSize, other.Owner = size, &owner{}
		_, err := wal.Open(t.Context(), other)
		wrong, is := errors.AsType[*wal.SegmentSizeError](err)
		if !is || wrong.Size != 128<<10 || wrong.Want != int64(size) {
			t.Fatalf("with segments of %d bytes: %v", size, err)
		}
		if names, err := mem.List("wal"); err != nil || !slices.Equal(names, before) {
			t.Fatalf("%q are left of %q, %v", names, before, err)
		}
	}
	w, own := open(t, o)
	if len(own.frames) != 200 {
		t.Fatalf("%d frames", len(own.frames))
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	f, err := mem.Open("wal/segment-000002")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Truncate(64<<10), f.Close()); err != nil {
		t.Fatal(err)
	}
	o.Owner = &owner{}
	_, err = wal.Open(t.Context(), o)
	if damage, is := errors.AsType[*wal.CorruptionError](err); !is || damage.File != "wal/segment-000002" || damage.Offset != 64<<10 {
		t.Fatalf("with a segment that was cut off: %v", err)
	}
}
