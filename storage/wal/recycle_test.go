package wal_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"rustmq.dev/rustmq/storage/disk"
	"rustmq.dev/rustmq/storage/wal"
)

// TestLiveFramesAreCopiedForward: a few frames that stay live do not keep the
// log from going round, also when the oldest segment is mostly live.
func TestLiveFramesAreCopiedForward(t *testing.T) { onEveryDisk(t, liveFramesAreCopiedForward) }

func liveFramesAreCopiedForward(t *testing.T, fs disk.FS) {
	o := small(fs)
	o.Capacity = 16 * 128 << 10
	o.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	w, own := open(t, o)
	keep := map[int64]string{}
	next := int64(0)
	put := func(stay bool) {
		t.Helper()
		payload := payloadOf(1, next, 3000)
		if err := w.Admit(t.Context(), wal.Produce, len(payload)+64); err != nil {
			t.Fatalf("frame %d: %v; %+v", next, err, w.Stats())
		}
		own.mu.Lock()
		ref, err := w.Append(header(0, next), payload, nil)
		if err != nil {
			own.mu.Unlock()
			t.Fatal(err)
		}
		if stay {
			own.frames = append(own.frames, held{header(0, next), ref, string(payload)})
			keep[next] = string(payload)
		} else {
			w.Release(ref)
		}
		own.mu.Unlock()
		w.Unadmit(len(payload) + 64)
		next++
	}
	for range 120 { // two segments that are live as a whole
		put(true)
	}
	for range 3000 { // many times the capacity
		put(false)
	}
	if s := w.Stats(); s.Relocated == 0 || s.Recycled == 0 {
		t.Errorf("%d segments were copied forward, %d recycled", s.Relocated, s.Recycled)
	}
	own.mu.Lock() // refs do not move meanwhile; the last copies may not be written yet
	for _, f := range own.frames {
		payloads, _, err := w.Read(f.header.Partition, wal.KindData, []wal.Ref{f.ref}, nil)
		if err != nil || string(payloads[0]) != f.payload {
			t.Errorf("frame %d after it was copied: %v", f.header.Offset, err)
		}
	}
	own.mu.Unlock()
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	w, own = open(t, o)
	defer w.Close()
	got := map[int64]string{}
	for _, f := range own.frames {
		got[int64(f.header.Offset)] = f.payload
	}
	for offset, payload := range keep {
		if got[offset] != payload {
			t.Fatalf("frame %d is gone after the restart", offset)
		}
	}
}

// TestRecycleBeforeCancelled: a segment whose frames were released because of
// what was appended since is not recycled while that is not on disk.
func TestRecycleBeforeCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := disk.NewMem(disk.MemOptions{})
		fs := newStall(mem)
		w, _ := open(t, small(fs))
		defer w.Close()
		var first []wal.Ref
		var last wal.Ref
		for i := range 60 { // more than a segment
			last = add(t, w, header(0, int64(i)), make([]byte, 3000), nil)
			first = append(first, last)
		}
		if err := w.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second) // the spares are ready, the mark is written
		fs.hold(fmt.Sprintf("wal/segment-%06d", last.Segment))
		trim := header(0, 60)
		trim.Kind = wal.KindTrim
		if _, err := w.Append(trim, nil, nil); err != nil {
			t.Fatal(err)
		}
		for _, ref := range first {
			w.Release(ref)
		}
		synctest.Wait() // whoever could recycle has had the time
		if n := w.Stats().Recycled; n > 0 {
			t.Errorf("%d segments were recycled, and the trim is not on disk", n)
		}
		cut := mem.Clone()
		fs.letGo()
		after, own := open(t, small(cut))
		defer after.Close()
		var data, trims int
		for _, f := range own.frames {
			if f.header.Kind == wal.KindTrim {
				trims++
			} else {
				data++
			}
		}
		if data < 60 && trims == 0 {
			t.Fatalf("%d of 60 frames are there, and no trim that says why", data)
		}
		time.Sleep(time.Second)
		if n := w.Stats().Recycled; n == 0 {
			t.Error("nothing was recycled once the trim was on disk")
		}
	})
}

// TestLastSpareIsForTheCleaner: whoever appends without admission cannot take
// the room that copying forward needs.
func TestLastSpareIsForTheCleaner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := small(disk.NewMem(disk.MemOptions{}))
		o.Capacity = 8 * 128 << 10
		w, _ := open(t, o)
		defer w.Close()
		for i, refused := int64(0), 0; refused < 2; {
			_, err := w.Append(header(0, i), make([]byte, 3000), nil)
			if err == nil {
				i, refused = i+1, 0
				continue
			}
			if !errors.Is(err, wal.ErrFull) {
				t.Fatal(err)
			}
			refused++
			time.Sleep(time.Second) // for more spares
			if s := w.Stats(); s.AllocatedBytes > o.Capacity {
				t.Fatalf("%d bytes of segments, of a capacity of %d", s.AllocatedBytes, o.Capacity)
			}
		}
		if w.Stats().Spares == 0 {
			t.Fatal("a full log has no spare left to copy forward with")
		}
		h := header(0, 0)
		h.Copy = true
		if _, err := w.Append(h, make([]byte, 3000), nil); err != nil {
			t.Errorf("a copy is refused: %v", err)
		}
	})
}

// TestReaderKeepsItsSegment: a segment is not recycled under a reader.
func TestReaderKeepsItsSegment(t *testing.T) {
	mem := disk.NewMem(disk.MemOptions{})
	reading, goOn := make(chan struct{}), make(chan struct{})
	var mu sync.Mutex
	armed := false
	fs := &tap{FS: mem}
	fs.ask = func(op, _ string) error {
		mu.Lock()
		stop := armed && op == "read"
		armed = armed && !stop
		mu.Unlock()
		if stop {
			close(reading)
			<-goOn
		}
		return nil
	}
	w, _ := open(t, small(fs))
	defer w.Close()
	want := string(payloadOf(1, 0, 3000))
	ref := add(t, w, header(0, 0), []byte(want), nil)
	if err := w.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	armed = true
	mu.Unlock()
	result := make(chan error, 1)
	go func() {
		payloads, _, err := w.Read(header(0, 0).Partition, wal.KindData, []wal.Ref{ref}, nil)
		if err == nil && string(payloads[0]) != want {
			err = fmt.Errorf("read %.20q", payloads[0])
		}
		result <- err
	}()
	<-reading
	w.Release(ref)
	for i := range 600 { // a quarter of the capacity: other segments are recycled only behind the first
		w.Release(add(t, w, header(0, int64(i+1)), make([]byte, 3000), nil))
	}
	if err := w.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := w.Stats().Recycled; n != 0 {
		t.Errorf("%d segments were recycled under a reader of the oldest", n)
	}
	close(goOn)
	if err := <-result; err != nil {
		t.Fatal(err)
	}
	for w.Stats().Recycled == 0 { // the end of the read is enough
		if err := w.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := w.Read(header(0, 0).Partition, wal.KindData, []wal.Ref{ref}, nil); !errors.Is(err, wal.ErrGone) {
		t.Fatalf("read of a recycled segment: %v", err)
	}
}

// TestPaddingIsCopiedAway: frames that were committed alone take a block each. A
// log that is full of such blocks, and of nothing that was released, gets its
// room back by copying them together; and stops when only padding is left to win.
func TestPaddingIsCopiedAway(t *testing.T) {
	for _, size := range []int{200, 1800, 4100} { // of which 18, 2 and 1 fit two blocks
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := tiny(disk.NewMem(disk.MemOptions{}))
				o.Capacity = 1 << 20
				w, own := open(t, o)
				defer w.Close()
				payload := make([]byte, size)
				live := int64(0)
				var err error
				for i := int64(0); err == nil; i++ {
					if err = w.Admit(t.Context(), wal.Internal, size+64); err != nil {
						break
					}
					d := newDone()
					own.mu.Lock()
					ref, failed := w.Append(header(0, i), payload, d)
					own.frames = append(own.frames, held{header(0, i), ref, string(payload)})
					own.mu.Unlock()
					w.Unadmit(size + 64)
					if err = errors.Join(failed, d.wait(t)); err == nil {
						live += int64(size) + 64
						synctest.Wait() // it ends
					}
				}
				if !errors.Is(err, wal.ErrFull) {
					t.Fatal(err)
				}
				if live < o.Capacity/4 {
					t.Errorf("the log is full with %d live bytes, of %d: %+v", live, o.Capacity, w.Stats())
				}
			})
		})
	}
}

// TestTornTrimVoidsNothing: where the log begins is not said on disk before that
// is there which outdates what lies before it, as it would be in one commit that a
// power cut tears.
func TestTornTrimVoidsNothing(t *testing.T) {
	rng := newRand(t)
	for _, mode := range []wal.SyncMode{wal.SyncAlways, wal.SyncInterval} {
		synctest.Test(t, func(t *testing.T) {
			mem := disk.NewMem(disk.MemOptions{})
			fs := newStall(mem)
			o := small(fs)
			o.Sync = mode
			w, _ := open(t, o)
			defer w.Close()
			var refs []wal.Ref
			for i := range 60 { // more than a segment
				refs = append(refs, add(t, w, header(0, int64(i)), make([]byte, 3000), nil))
			}
			time.Sleep(time.Second) // all is on disk, the spares are ready, the mark is written
			fs.hold(fmt.Sprintf("wal/segment-%06d", refs[59].Segment))
			defer fs.letGo()
			add(t, w, header(0, 60), []byte("the committer waits for it"), nil)
			synctest.Wait()
			trim := header(0, 60)
			trim.Kind = wal.KindTrim
			if _, err := w.Append(trim, payloadOf(1, 60, 3*page), nil); err != nil {
				t.Fatal(err)
			}
			for _, ref := range refs {
				w.Release(ref)
			}
			for range 8 { // from the write of frame 60 to where all is recycled
				synctest.Wait()
				for range 20 {
					after, own := open(t, small(mem.Clone().Crash(rng)))
					var data, trims int
					for _, f := range own.frames {
						if f.header.Kind == wal.KindTrim {
							trims++
						} else {
							data++
						}
					}
					if err := after.Close(); err != nil {
						t.Fatal(err)
					}
					if data < 60 && trims == 0 {
						t.Fatalf("%d of 60 frames are there, and no trim that says why", data)
					}
				}
				fs.next()
			}
			synctest.Wait()
			if w.Stats().Recycled == 0 {
				t.Error("nothing was recycled once the trim was on disk")
			}
		})
	}
}

// reclaimer is an owner that gives up what it said it could.
type reclaimer struct {
	owner
	asked []uint32
}

func (r *reclaimer) Relocate(ctx context.Context, segment uint32) error {
	r.mu.Lock()
	r.asked = append(r.asked, segment)
	kept := r.frames[:0]
	for _, f := range r.frames {
		if f.ref.Segment == segment && f.header.Partition.Index == 1 {
			r.w.Reclaimable(segment, -frameBytes(f))
			r.w.Release(f.ref)
		} else {
			kept = append(kept, f)
		}
	}
	r.frames = kept
	r.mu.Unlock()
	return r.owner.Relocate(ctx, segment)
}

// TestWhatIsDeadIsNotUsed: a frame that lives in the oldest segment keeps those
// behind it from being recycled, and not for long: what is dead in them is free as
// soon as it is wanted, and nobody need hurry for it.
func TestWhatIsDeadIsNotUsed(t *testing.T) {
	o := small(disk.NewMem(disk.MemOptions{}))
	o.Capacity = 32 * 128 << 10
	w, own := open(t, o)
	defer w.Close()
	ref := add(t, w, header(0, 0), make([]byte, 3000), nil)
	own.mu.Lock()
	own.frames = append(own.frames, held{header(0, 0), ref, string(make([]byte, 3000))})
	own.mu.Unlock()
	var last *done
	for i := range int64(14 * (128 << 10) / page) {
		last = newDone()
		w.Release(add(t, w, header(1, i), make([]byte, page-128), last)) // a block, however many are committed at once
	}
	if err := last.wait(t); err != nil {
		t.Fatal(err)
	}
	s := w.Stats()
	if s.Relocated > 0 || s.UsedBytes < 12*128<<10 {
		t.Fatalf("the dead frames are gone already: the test shows nothing: %+v", s)
	}
	if full := w.Fullness(); full > 0.1 {
		t.Errorf("fullness %.2f, with %d of %d bytes live: %+v", full, s.LiveBytes, s.UsedBytes, s)
	}
}

// trimmer gives up all it has in a segment, once it has said so in the log.
type trimmer struct {
	owner
	opened chan struct{} // closed once w is set
}

func (o *trimmer) Relocate(ctx context.Context, segment uint32) error {
	select {
	case <-o.opened:
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := o.w.Admit(ctx, wal.Internal, 128); err != nil {
		return err
	}
	defer o.w.Unadmit(128)
	o.mu.Lock()
	defer o.mu.Unlock()
	said, err := o.w.Append(header(2, 0), make([]byte, 64), nil)
	if err != nil {
		return err
	}
	o.w.Release(said)
	o.frames = slices.DeleteFunc(o.frames, func(f held) bool {
		if f.ref.Segment == segment {
			o.w.Reclaimable(segment, -frameBytes(f))
			o.w.Release(f.ref)
		}
		return f.ref.Segment == segment
	})
	return nil
}

func frameBytes(f held) int64 { return int64(len(f.payload)+64+7) &^ 7 }

// TestReclaimableSegmentsAreAskedFor: what the owner can do without stays while
// there is room, counts as free, and is asked for before Produce is refused: also
// when all younger segments are live, and copying would win nothing.
func TestReclaimableSegmentsAreAskedFor(t *testing.T) {
	o := small(disk.NewMem(disk.MemOptions{}))
	o.Capacity = 32 * 128 << 10
	own := &reclaimer{}
	o.Owner = own
	w, err := wal.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	own.w = w
	payload := string(make([]byte, page-128)) // a block, however many are committed at once
	put := func(index int32, i int64) error {
		if err := w.Admit(t.Context(), wal.Produce, len(payload)+72); err != nil {
			return err
		}
		defer w.Unadmit(len(payload) + 72)
		own.mu.Lock()
		defer own.mu.Unlock()
		h := header(index, i)
		ref, err := w.Append(h, []byte(payload), nil)
		if err == nil {
			own.frames = append(own.frames, held{h, ref, payload})
			if index == 1 {
				w.Reclaimable(ref.Segment, frameBytes(own.frames[len(own.frames)-1]))
			}
		}
		return err
	}
	const some = 12 * (128 << 10) / page
	for i := range int64(some) {
		if err := put(1, i); err != nil {
			t.Fatal(err)
		}
	}
	own.mu.Lock()
	if len(own.asked) > 0 {
		t.Errorf("segments %v were asked for, with more than half of the log free", own.asked)
	}
	own.mu.Unlock()
	if full := w.Fullness(); full > 0.1 {
		t.Errorf("fullness %.2f, and all of it could be given up", full)
	}
	live := int64(0)
	for err = put(0, live); err == nil; err = put(0, live) {
		live++
	}
	if !errors.Is(err, wal.ErrFull) {
		t.Fatal(err)
	}
	if s := w.Stats(); s.ReclaimableBytes > 128<<10 || live < some {
		t.Errorf("refused after %d frames, with %d bytes that could be given up", live, s.ReclaimableBytes)
	}
	own.mu.Lock()
	defer own.mu.Unlock()
	for i := range live { // and nothing else was
		if f := own.frames[int64(len(own.frames))-live+i]; f.header.Partition.Index != 0 {
			t.Fatalf("frame %d of what stays is %+v", i, f.header)
		}
	}
}
