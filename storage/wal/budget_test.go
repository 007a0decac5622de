package wal_test

import (
	"bytes"
	"context"
	"errors"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"rustmq.dev/rustmq/storage/disk"
	"rustmq.dev/rustmq/storage/wal"
)

// stall is a disk whose log commits wait while it is held.
type stall struct {
	tap
	mu   sync.Mutex
	held chan struct{}
	name string // the file that waits; empty: all
}

func newStall(fs disk.FS) *stall {
	s := &stall{tap: tap{FS: fs}}
	s.ask = func(op, name string) error {
		s.mu.Lock()
		held := s.held
		wait := s.name == "" || s.name == name
		s.mu.Unlock()
		if held != nil && wait && (op == "write" || op == "sync") {
			<-held
		}
		return nil
	}
	return s
}

func (s *stall) hold(name string) {
	s.mu.Lock()
	s.held, s.name = make(chan struct{}), name
	s.mu.Unlock()
}

// next lets the call that waits go; the one behind it waits.
func (s *stall) next() {
	s.mu.Lock()
	close(s.held)
	s.held = make(chan struct{})
	s.mu.Unlock()
}

func (s *stall) letGo() {
	s.mu.Lock()
	close(s.held)
	s.held = nil
	s.mu.Unlock()
}

// TestMutualFullChunks: what Produce may hold leaves room for replication, so
// that two leaders that follow each other never wait for each other's memory.
func TestMutualFullChunks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := newStall(disk.NewMem(disk.MemOptions{}))
		o := small(fs)
		o.Capacity = 64 << 20
		w, _ := open(t, o)
		defer w.Close()
		synctest.Wait() // the spares are ready
		fs.hold("")
		payload := make([]byte, 8<<10)
		held := 0
		produce := func(class wal.Class) error {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if err := w.Admit(ctx, class, len(payload)); err != nil {
				return err
			}
			_, err := w.Append(header(0, int64(held)), payload, nil)
			w.Unadmit(len(payload))
			held++
			return err
		}
		var err error
		for err = produce(wal.Produce); err == nil; err = produce(wal.Produce) {
			if held > 1000 {
				t.Fatal("nothing bounds what was appended and not synced")
			}
		}
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("produce on a stalled disk: %v", err)
		}
		full := held
		for err = produce(wal.Replication); err == nil; err = produce(wal.Replication) {
		}
		if held-full < 2 {
			t.Fatalf("produce held %d frames, and replication found room for %d more", full, held-full)
		}
		if got := w.Stats().UnsyncedBytes; got > o.Memory*5/8 {
			t.Errorf("%d bytes wait for the disk, of a memory of %d", got, o.Memory)
		}
		fs.letGo()
		if err := produce(wal.Produce); err != nil {
			t.Fatalf("produce after the disk came back: %v", err)
		}
	})
}

// TestStalledReadersPinNothing: readers that never let go hold their share of
// the memory and no more; appends, eviction and other readers go on.
func TestStalledReadersPinNothing(t *testing.T) {
	o := small(disk.NewMem(disk.MemOptions{}))
	w, _ := open(t, o)
	defer w.Close()
	var pins []wal.Pin
	var refs []wal.Ref
	payload := make([]byte, 4000)
	for i := range 2000 {
		d := newDone()
		ref := add(t, w, header(0, int64(i)), payload, d)
		if err := d.wait(t); err != nil {
			t.Fatal(err)
		}
		if _, pin, ok := w.Pin(ref); ok && len(pins) < 500 { // never released
			pins = append(pins, pin)
		}
		refs = append(refs, ref)
		if len(refs) > 100 {
			w.Release(refs[0])
			refs = refs[1:]
		}
		s := w.Stats()
		if s.PinnedBytes > o.Memory/2 {
			t.Fatalf("readers hold %d bytes of a memory of %d", s.PinnedBytes, o.Memory)
		}
		if s.MemoryBytes > o.Memory+int64(o.ChunkSize) {
			t.Fatalf("the log holds %d bytes, of a memory of %d", s.MemoryBytes, o.Memory)
		}
	}
	if len(pins) == 0 {
		t.Fatal("nothing was pinned")
	}
	if _, _, err := w.Read(header(0, 0).Partition, wal.KindData, refs, nil); err != nil {
		t.Fatalf("a reader that does not pin: %v", err)
	}
	for _, pin := range pins {
		pin.Release()
	}
	if s := w.Stats(); s.PinnedBytes != 0 {
		t.Errorf("%d bytes are pinned after all pins were released", s.PinnedBytes)
	}
}

// TestPinnedMemoryIsNotReused: what a reader holds stays as it was, however much
// is appended.
func TestPinnedMemoryIsNotReused(t *testing.T) {
	w, _ := open(t, small(disk.NewMem(disk.MemOptions{})))
	defer w.Close()
	ref := add(t, w, header(0, 0), []byte("what the reader saw"), nil)
	got, pin, ok := w.Pin(ref)
	if !ok {
		t.Fatal("the newest frame is not in memory")
	}
	if err := w.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.Release(ref) // even recycled
	for i := range 2000 {
		r := add(t, w, header(0, int64(i+1)), make([]byte, 3000), nil)
		w.Release(r)
		if i%40 == 0 {
			if err := w.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	if string(got) != "what the reader saw" {
		t.Fatalf("the pinned payload became %q", got)
	}
	pin.Release()
	if s := w.Stats(); s.Recycled == 0 {
		t.Error("no segment was recycled")
	}
}

// TestLargeBatchLeavesRoomForOthers: a batch that is larger than all that Produce may have
// passes alone, and what a coordinator writes beside it has the room that it has beside
// smaller ones, and no more. Afterwards it is as before.
func TestLargeBatchLeavesRoomForOthers(t *testing.T) {
	o := small(disk.NewMem(disk.MemOptions{}))
	o.Capacity = 64 * 128 << 10
	w, _ := open(t, o)
	defer w.Close()
	produce, all := int(o.Memory*3/8), int(o.Memory/2)
	large := int(o.Memory * 6 / 10)
	hold := func(class wal.Class, n int) {
		t.Helper()
		if err := w.Admit(t.Context(), class, n); err != nil {
			t.Fatal(err)
		}
	}
	hold(wal.Coordinator, 5*int(o.Memory)) // so many segments stand ready that none is waited for below
	w.Unadmit(5 * int(o.Memory))
	for _, held := range []int{produce, large, produce, 2 * int(o.Memory), produce} {
		hold(wal.Produce, held)
		if w.TryAdmit(wal.Produce, 1) {
			t.Errorf("beside %d bytes more is produced", held)
		}
		if !w.TryAdmit(wal.Coordinator, all-produce) {
			t.Errorf("beside %d bytes coordinators write nothing", held)
			w.Unadmit(held)
			continue
		}
		if w.TryAdmit(wal.Coordinator, 1) {
			t.Errorf("beside %d bytes nothing bounds what coordinators write", held)
			w.Unadmit(1)
		}
		w.Unadmit(all - produce)
		w.Unadmit(held)
	}
}

// TestDiskBudgetRefusesProduceAndPasses: Produce is refused when what is left is
// the reserve, others go on; what is released comes back.
func TestDiskBudgetRefusesProduceAndPasses(t *testing.T) {
	o := small(disk.NewMem(disk.MemOptions{}))
	o.Capacity = 16 * 128 << 10
	w, _ := open(t, o)
	defer w.Close()
	var refs []wal.Ref
	n := 4096
	fill := func(class wal.Class) {
		t.Helper()
		for i := range 10_000 {
			if err := w.Admit(t.Context(), class, n); err != nil {
				if !errors.Is(err, wal.ErrFull) {
					t.Fatal(err)
				}
				return
			}
			ref, err := w.Append(header(0, int64(i)), make([]byte, n-64), nil)
			if err != nil {
				t.Fatalf("admitted, and refused: %v", err)
			}
			w.Unadmit(n)
			refs = append(refs, ref)
		}
		t.Fatal("nothing bounds what the log takes")
	}
	fill(wal.Produce)
	produced := len(refs)
	if full := w.Fullness(); full < 0.99 {
		t.Errorf("fullness %.2f where produce is refused", full)
	}
	fill(wal.Coordinator)
	coordinated := len(refs)
	if coordinated == produced {
		t.Error("the reserve is closed to coordinators")
	}
	fill(wal.Audit)
	audited := len(refs)
	if audited == coordinated {
		t.Error("coordinators leave nothing to the account of who did what")
	}
	fill(wal.Internal)
	if len(refs) == audited {
		t.Error("the others leave nothing to what makes room")
	}
	if s := w.Stats(); s.AllocatedBytes > o.Capacity {
		t.Errorf("%d bytes of segments, of a capacity of %d", s.AllocatedBytes, o.Capacity)
	}
	for _, ref := range refs {
		w.Release(ref)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for err := w.Admit(ctx, wal.Produce, n); err != nil; err = w.Admit(ctx, wal.Produce, n) {
		if !errors.Is(err, wal.ErrFull) || ctx.Err() != nil {
			t.Fatalf("after everything was released: %v", err)
		}
	}
	w.Unadmit(n)
}

// TestCommitsPassByThePageCache appends so much at a time that commits go to the
// device from the chunks, where wal.io permits that, and reads it back.
func TestCommitsPassByThePageCache(t *testing.T) {
	onEveryDisk(t, func(t *testing.T, fs disk.FS) {
		o := wal.Options{FS: fs, Dir: "wal", Capacity: 64 << 20, SegmentSize: 4 << 20, ChunkSize: 1 << 20, Memory: 4 << 20}
		w, _ := open(t, o)
		const frames = 60
		large := func(i int64) []byte { return bytes.Repeat(payloadOf(1, i, 1000+int(i)), 300) }
		for i := range int64(frames) {
			add(t, w, header(0, i), large(i), nil)
			if i%3 == 0 { // a small one behind it goes the other way
				if err := w.Flush(t.Context()); err != nil {
					t.Fatal(err)
				}
				add(t, w, header(1, i), payloadOf(1, i, 100), nil)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		w, own := open(t, o)
		defer w.Close()
		for _, f := range own.frames {
			want := payloadOf(1, int64(f.header.Offset), 100)
			if f.header.Partition.Index == 0 {
				want = large(int64(f.header.Offset))
			}
			if f.payload != string(want) {
				t.Fatalf("frame %d of partition %d is not what was appended", f.header.Offset, f.header.Partition.Index)
			}
		}
		if len(own.frames) != frames+frames/3 {
			t.Fatalf("%d frames are there", len(own.frames))
		}
	})
}

// TestRequestLargerThanWhatIsReadyIsPrepared: one request may need more segments
// than are kept ready.
func TestRequestLargerThanWhatIsReadyIsPrepared(t *testing.T) {
	o := small(disk.NewMem(disk.MemOptions{}))
	w, _ := open(t, o)
	defer w.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	n := 6 * 128 << 10
	if err := w.Admit(ctx, wal.Produce, n); err != nil {
		t.Fatal(err)
	}
	for at := 0; at < n; at += 30 << 10 {
		if _, err := w.Append(header(0, int64(at)), make([]byte, 30<<10-64), nil); err != nil {
			t.Fatalf("at %d of %d bytes that were admitted: %v", at, n, err)
		}
	}
	w.Unadmit(n)
}

// TestSmallerCapacityIsComeDownTo: a log that was written under a larger capacity
// takes records again as soon as its owner can do without the old ones, which it has
// to say in the log.
func TestSmallerCapacityIsComeDownTo(t *testing.T) {
	o := small(disk.NewMem(disk.MemOptions{}))
	w, _ := open(t, o)
	for i := range int64(3000) {
		add(t, w, header(1, i), make([]byte, 3000), nil)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	o.Capacity = 16 * 128 << 10
	own := &trimmer{opened: make(chan struct{})}
	o.Owner = own
	w, err := wal.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	own.w = w
	for _, f := range own.frames {
		w.Reclaimable(f.ref.Segment, frameBytes(f))
	}
	close(own.opened)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for i := int64(0); i < 3000; {
		err := w.Admit(ctx, wal.Produce, 3064)
		if errors.Is(err, wal.ErrFull) && ctx.Err() == nil {
			continue // the owner is about to make room
		}
		if err != nil {
			t.Fatalf("after %d frames: %v; %+v", i, err, w.Stats())
		}
		own.mu.Lock()
		ref, err := w.Append(header(1, i), make([]byte, 3000), nil)
		if err != nil {
			t.Fatal(err)
		}
		own.frames = append(own.frames, held{header(1, i), ref, string(make([]byte, 3000))})
		w.Reclaimable(ref.Segment, frameBytes(own.frames[len(own.frames)-1]))
		own.mu.Unlock()
		w.Unadmit(3064)
		i++
	}
}

// TestBusyLogFillsNothing: a new segment is written full of zeros while nobody
// appends, and only allocated while somebody appends as fast as zeros are written;
// where the file system cannot allocate, zeros take the space in any case.
func TestBusyLogFillsNothing(t *testing.T) {
	for _, c := range []struct {
		name              string
		busy, unsupported bool
		least, most       int64
	}{
		{"idle", false, false, 16 << 20, 16 << 20},
		{"busy", true, false, 1 << 20, 4 << 20},
		{"busy, no allocation", true, true, 16 << 20, 16 << 20},
	} {
		t.Run(c.name, func(t *testing.T) {
			var mu sync.Mutex
			var w *wal.WAL // once the segment is wanted that counts
			first, zeros := "", int64(0)
			fs := &zeroTap{FS: disk.NewMem(disk.MemOptions{}), unsupported: c.unsupported}
			fs.wrote = func(name string, n int) {
				mu.Lock()
				if w != nil && first == "" {
					first = name
				}
				counts := name == first
				if counts {
					zeros += int64(n)
				}
				mu.Unlock()
				for range 8 { // as many bytes as those zeros
					if !counts || !c.busy {
						return
					}
					if _, err := w.Append(header(0, 0), make([]byte, n/8), nil); err != nil {
						t.Error(err)
						return
					}
				}
			}
			opened, _ := open(t, wal.Options{FS: fs, Dir: "wal", Capacity: 1 << 30, SegmentSize: 16 << 20})
			defer opened.Close()
			for opened.Stats().Spares < 3 {
				runtime.Gosched()
			}
			mu.Lock()
			w = opened
			mu.Unlock()
			for opened.Stats().Spares == 3 && opened.Stats().Segments == 4 {
				add(t, opened, header(0, 0), make([]byte, 512<<10), nil) // the last one may be counted beside the first zeros
			}
			for opened.Stats().Segments == 4 {
				runtime.Gosched()
			}
			mu.Lock()
			defer mu.Unlock()
			if zeros < c.least || zeros > c.most {
				t.Errorf("%d MiB of zeros were written to %s, want %d to %d", zeros>>20, first, c.least>>20, c.most>>20)
			}
		})
	}
}
