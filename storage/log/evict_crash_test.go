package log

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/disk"
)

// watchedFS tells before each change of the disk.
type watchedFS struct {
	disk.FS
	before func()
}

func (w *watchedFS) Create(name string) (disk.File, error) {
	w.before()
	return w.wrap(w.FS.Create(name))
}

func (w *watchedFS) Open(name string) (disk.File, error) { return w.wrap(w.FS.Open(name)) }

func (w *watchedFS) Remove(name string) error {
	w.before()
	return w.FS.Remove(name)
}

func (w *watchedFS) SyncDir(dir string) error {
	w.before()
	return w.FS.SyncDir(dir)
}

func (w *watchedFS) wrap(f disk.File, err error) (disk.File, error) {
	if err != nil {
		return nil, err
	}
	return watchedFile{f, w}, nil
}

type watchedFile struct {
	disk.File
	fs *watchedFS
}

func (f watchedFile) WriteAt(b []byte, off int64) (int, error) {
	f.fs.before()
	return f.File.WriteAt(b, off)
}

func (f watchedFile) Sync() error {
	f.fs.before()
	return f.File.Sync()
}

func (f watchedFile) WriteSync(bufs [][]byte, off int64) error {
	f.fs.before()
	return f.File.WriteSync(bufs, off)
}

// promised is what the world knows of a partition that is uploaded, and of one
// that is not.
type promised struct {
	acked, stuck map[storage.Offset]batch.Batch
	uploaded     storage.Offset
	logStart     storage.Offset
}

func (p *promised) copy() promised {
	return promised{maps.Clone(p.acked), maps.Clone(p.stuck), p.uploaded, p.logStart}
}

// TestEvictionSurvivesACrashAtEveryChange: batches are appended, uploaded and
// given up while the WAL goes round. Before every change of the disk the process
// is killed, or the power cut; whatever of the local start that leaves, what was
// acked is in the bucket or in the WAL.
func TestEvictionSurvivesACrashAtEveryChange(t *testing.T) {
	rng := newRand(t)
	stride := 1
	if raceEnabled {
		stride = 16 // crashes are many, and much alike
	}
	var mu sync.Mutex // guards world, changes and points
	world := promised{acked: map[storage.Offset]batch.Batch{}, stuck: map[storage.Offset]batch.Batch{}}
	type point struct {
		fs     *disk.Mem
		before promised
		given  storage.Offset // how far batches may have been given up by then
	}
	var points []point
	changes := rng.IntN(stride)
	mem := disk.NewMem(disk.MemOptions{})
	fs := &watchedFS{FS: mem}
	fs.before = func() {
		mu.Lock()
		defer mu.Unlock()
		if changes++; changes%stride == 0 {
			points = append(points, point{mem.Clone(), world.copy(), max(world.uploaded, world.logStart)})
		}
	}
	o := tiered(fs)
	o.WAL.Capacity, o.WAL.SegmentSize, o.WAL.ChunkSize = 1<<20, 64<<10, 16<<10
	s := open(t, o)
	l, stuck := lead(t, s, partition(topicA, 0), 1), lead(t, s, partition(topicA, 1), 1)
	put := func(l *Log, b batch.Batch, acked map[storage.Offset]batch.Batch) {
		appendPaced(t, l, b)
		mu.Lock()
		acked[b.BaseOffset()] = bytes.Clone(b)
		mu.Unlock()
	}
	for i := range int32(240) {
		put(l, from(t, 7, 0, i, strings.Repeat("x", 2000+rng.IntN(12_000))), world.acked)
		if i%20 == 0 {
			put(stuck, from(t, 8, 0, i/20, fmt.Sprint(i)), world.stuck)
		}
		if rng.IntN(6) == 0 { // the catalogue has it first
			mu.Lock()
			world.uploaded = max(world.uploaded, l.HighWatermark()-storage.Offset(rng.IntN(3))) // it never moves back
			mu.Unlock()
			setUploaded(t, l, world.uploaded)
		}
		if rng.IntN(40) == 0 {
			mu.Lock()
			world.logStart += (l.HighWatermark() - world.logStart) / 8
			mu.Unlock()
			setLogStart(t, l, world.logStart)
		}
		if rng.IntN(50) == 0 {
			if err := s.Evict(context.Background()); err != nil {
				t.Fatal(err)
			}
		}
	}
	if l.LocalStart() == 0 || s.Stats().WAL.Recycled == 0 || s.Stats().WAL.Relocated == 0 {
		t.Fatalf("local start %d, %+v: the test shows nothing", l.LocalStart(), s.Stats().WAL)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for i, p := range points {
		for _, left := range []*disk.Mem{p.fs.Clone(), p.fs.Crash(rng)} {
			o.FS = left
			checkPromised(t, o, p.before, p.given, fmt.Sprintf("crash %d of %d", i, len(points)), rng)
		}
	}
	t.Logf("%d changes, %d crashes", changes, 2*len(points))
}

// checkPromised opens what a crash has left.
func checkPromised(t *testing.T, o Options, p promised, given storage.Offset, what string, rng *rand.Rand) {
	t.Helper()
	s, err := Open(context.Background(), o)
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	defer s.Close()
	for index, acked := range []map[storage.Offset]batch.Batch{p.acked, p.stuck} {
		l, ok := s.Log(partition(topicA, int32(index)))
		if !ok {
			if len(acked) > 0 {
				t.Fatalf("%s: partition %d is gone", what, index)
			}
			continue
		}
		if err := l.Err(); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		local := l.LocalStart()
		if index == 1 && local != 0 || local > given {
			t.Fatalf("%s: partition %d was given up to %d, uploaded to %d", what, index, local, given)
		}
		if index == 0 { // the image's, in either order
			first := rng.IntN(2) == 0
			if first {
				setUploaded(t, l, p.uploaded)
			}
			setLogStart(t, l, p.logStart)
			if !first {
				setUploaded(t, l, p.uploaded)
			}
			if l.LogStart() != p.logStart {
				t.Fatalf("%s: log start %d, want %d", what, l.LogStart(), p.logStart)
			}
		}
		if local = l.LocalStart(); local > l.LogStart() {
			_, err := l.Read(ReadRequest{Offset: l.LogStart()})
			wantNotLocal(t, err, l.LogStart(), local)
		}
		last := storage.NoOffset
		for base, want := range acked {
			last = max(last, base)
			if base < local {
				continue
			}
			r, err := l.Read(ReadRequest{Offset: base, MinOne: true, Isolation: LogEnd})
			if gone, is := errors.AsType[*NotLocalError](err); is && gone.LocalStart <= max(p.uploaded, p.logStart) {
				continue // given up since
			}
			if err != nil || len(r.Batches) != 1 || !bytes.Equal(r.Batches[0], want) {
				t.Fatalf("%s: partition %d [%d, %d): the batch at %d, which was acked, is missing or another: %v", what, index, local, l.End(), base, err)
			}
			r.Release()
		}
		if l.End() <= last {
			t.Fatalf("%s: partition %d ends at %d, and %d was acked", what, index, l.End(), last)
		}
		if last < 0 {
			continue
		}
		if got := l.Producers(); len(got) != 1 || got[0].LastSequence != int32(l.End()-1) {
			t.Fatalf("%s: partition %d ends at %d and remembers %+v", what, index, l.End(), got)
		}
		if got := l.EpochAt(l.LogStart()); got != 1 {
			t.Fatalf("%s: partition %d: epoch %d at its log start", what, index, got)
		}
	}
}
