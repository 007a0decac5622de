package upload

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/bucket"
	"rustmq.dev/rustmq/storage/disk"
	"rustmq.dev/rustmq/storage/log"
)

// cutDisk is a disk in memory whose power is cut at a moment: it answers nothing
// after that. Below bucket/, where another process may have made the directories
// and been killed, one is durable only once the one above it was synced; a first
// such sync fails.
type cutDisk struct {
	disk.FS
	mem *disk.Mem
	at  int // the call that changes something at which the power goes; 0: never

	// dirs is held while directories are made, synced and found: loose is what the disk
	// has at any moment, whoever makes the same one at once.
	dirs   sync.Mutex
	loose  map[string]bool // directories that are not durable yet; guarded by dirs
	failed bool            // a sync of one did; guarded by dirs

	mu    sync.Mutex // locked after dirs
	calls int        // guarded by mu
	cut   bool       // guarded by mu
}

func newCutDisk(mem *disk.Mem, at int) *cutDisk {
	d := &cutDisk{mem: mem, at: at, loose: map[string]bool{}}
	d.FS = disk.NewFaulty(mem, disk.Rule{Op: disk.OpChange, Hook: func(disk.Op, string) { d.count() }})
	return d
}

// count cuts the power when it is time: from then on nothing reaches the disk.
func (d *cutDisk) count() {
	d.mu.Lock()
	d.calls++
	now := d.calls == d.at
	d.mu.Unlock()
	if now {
		d.off()
	}
}

func (d *cutDisk) off() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.cut {
		d.cut = true
		d.FS.(*disk.Faulty).Set(disk.Rule{Err: unix.EIO})
	}
}

func (d *cutDisk) isOff() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.cut
}

// MkdirAll implements disk.FS. A directory that is not there is asked for below the
// faults: that the power is gone says nothing about what is durable.
func (d *cutDisk) MkdirAll(dir string) error {
	d.dirs.Lock()
	defer d.dirs.Unlock()
	for at := dir; strings.HasPrefix(at, "bucket"); at = path.Dir(at) {
		if _, err := d.mem.List(at); !errors.Is(err, fs.ErrNotExist) {
			break
		}
		d.loose[at] = true
	}
	return d.FS.MkdirAll(dir)
}

// SyncDir implements disk.FS.
func (d *cutDisk) SyncDir(dir string) error {
	d.dirs.Lock()
	defer d.dirs.Unlock()
	if !d.failed && strings.HasPrefix(dir, "bucket/c") && len(d.looseIn(dir)) > 0 {
		d.failed = true
		return &fs.PathError{Op: "sync", Path: dir, Err: unix.EINTR}
	}
	if err := d.FS.SyncDir(dir); err != nil {
		return err
	}
	for _, child := range d.looseIn(dir) {
		delete(d.loose, child)
	}
	return nil
}

// looseIn returns which of the directories in dir are not durable. d.dirs is held.
func (d *cutDisk) looseIn(dir string) (found []string) {
	for child := range maps.Keys(d.loose) {
		if path.Dir(child) == dir {
			found = append(found, child)
		}
	}
	return found
}

// found is the disk after the cut.
func (d *cutDisk) found(rng *rand.Rand) *disk.Mem {
	d.off()
	d.dirs.Lock()
	defer d.dirs.Unlock()
	after := d.mem.Crash(rng)
	for dir := range d.loose {
		removeAll(after, dir)
	}
	return after
}

// removeAll takes what lies below a directory.
func removeAll(m *disk.Mem, dir string) {
	names, err := m.List(dir)
	if err != nil {
		return
	}
	for _, name := range names {
		if m.Remove(path.Join(dir, name)) != nil {
			removeAll(m, path.Join(dir, name))
		}
	}
}

// retrying asks a bucket again, as long as its disk is there.
type retrying struct {
	bucket.Bucket
	disk *cutDisk
}

func (b retrying) Put(ctx context.Context, key string, content io.WriterTo) error {
	err := b.Bucket.Put(ctx, key, content)
	if bucket.IsTemporary(err) && !b.disk.isOff() {
		err = b.Bucket.Put(ctx, key, content)
	}
	return err
}

// cutRun appends, uploads, commits and gives up, on a disk that WAL and bucket
// share, until the power goes at call at. It returns how many calls there were.
// The catalogue is another machine's, and stays.
func cutRun(t *testing.T, run uint64, at int) (calls int) {
	synctest.Test(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(run, 1))
		w := newWorld(t, 3)
		mem := disk.NewMem(disk.MemOptions{})
		d := newCutDisk(mem, at)
		w.fs = d
		if w.openOn(d) {
			for range 12 {
				p := rng.IntN(3)
				switch rng.IntN(3) {
				case 0, 1:
					w.tryAppend(p, 1+rng.IntN(3), 10+rng.IntN(9000))
				case 2:
					pass(w.limits.Interval + look)
					_ = w.store.Evict(t.Context()) // as the WAL does when it wants room
				}
			}
		}
		d.mu.Lock()
		calls = d.calls
		d.mu.Unlock()
		after := d.found(rng)
		if w.store != nil { // its disk is gone
			_ = w.up.Close()
			_ = w.store.Close()
			w.store, w.carried = nil, nil
			clear(w.roles)
		}
		w.register()
		fsys := newCutDisk(after, 0)
		if !w.openOn(fsys) {
			t.Fatal("it does not start again")
		}
		defer w.close()
		w.wantReadable()
	})
	return calls
}

// openOn opens the bucket and the broker's side; false: the disk is gone.
func (w *world) openOn(d *cutDisk) bool {
	w.t.Helper()
	dir, err := bucket.NewDir(d, "bucket")
	if err != nil {
		if !d.isOff() {
			w.t.Fatal(err)
		}
		return false
	}
	w.inner = dir
	w.bucket = bucket.NewFaulty(retrying{dir, d})
	o := storeOptions(d)
	store, err := log.Open(context.Background(), o)
	if err != nil {
		if !d.isOff() {
			w.t.Fatal(err)
		}
		return false
	}
	w.fs, w.isOff = d, d.isOff
	w.begin(store)
	return true
}

// tryAppend appends what counts only if it is acked.
func (w *world) tryAppend(partition, records, bytes int) {
	led, ok := w.Led(id(partition))
	if !ok {
		return
	}
	raw, values := w.build(partition, records, bytes)
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if w.store.Admit(ctx, len(raw)) != nil {
		return
	}
	answer := make(appended, 1)
	led.Log.Append(time.Now(), raw, log.AppendOptions{Epoch: led.Epoch}, answer)
	if r := <-answer; r.Err == nil {
		w.records[id(partition)] = append(w.records[id(partition)], values...)
	}
}

// wantReadable expects everything acked in the WAL or, below the committed end,
// in the bucket.
func (w *world) wantReadable() {
	w.t.Helper()
	for p, want := range w.records {
		led, ok := w.Led(p)
		if !ok {
			w.t.Fatalf("partition %d is not led", p.Index)
		}
		found := w.bucketRecords(int(p.Index))
		for at := led.Log.LocalStart(); at < led.Log.HighWatermark(); {
			read, err := led.Log.Read(log.ReadRequest{Offset: at, MaxBytes: 1 << 20, MinOne: true})
			if err != nil || len(read.Batches) == 0 {
				w.t.Fatalf("partition %d: read at %d: %d batches, %v", p.Index, at, len(read.Batches), err)
			}
			at = addRecords(read, found)
			read.Release()
		}
		for offset, value := range want {
			if got := found[storage.Offset(offset)]; !strings.HasPrefix(got, value) {
				w.t.Fatalf("partition %d: acked record %d is %.20q, was %.20q; the WAL has [%d, %d), the bucket up to %d",
					p.Index, offset, got, value, led.Log.LocalStart(), led.Log.End(), w.partition(int(p.Index)).CommittedEnd())
			}
		}
	}
}

// TestCutDiskKeepsWhatIsDurable holds that the double above loses no directory that was
// synced: neither when it is made again as the power goes, nor when two make it at once.
func TestCutDiskKeepsWhatIsDurable(t *testing.T) {
	rng := newRand(t)
	for range 200 {
		d := newCutDisk(disk.NewMem(disk.MemOptions{}), 0)
		dir, err := bucket.NewDir(d, "bucket")
		if err != nil {
			t.Fatal(err)
		}
		var puts sync.WaitGroup
		for _, key := range []string{"c/1/a", "c/1/b"} {
			puts.Go(func() {
				if err := (retrying{dir, d}).Put(t.Context(), key, bucket.Bytes(key)); err != nil {
					t.Errorf("put %s: %v", key, err)
				}
			})
		}
		puts.Wait()
		d.off()
		if err := d.MkdirAll("bucket/c/1"); err == nil {
			t.Error("a disk without power makes a directory")
		}
		after := d.found(rng)
		for _, key := range []string{"c/1/a", "c/1/b"} {
			if _, err := after.Stat("bucket/" + key); err != nil {
				t.Fatalf("%s was put: %v", key, err)
			}
		}
	}
}

// TestPowerCutAfterCommitAndTrim cuts the power at every moment of some lives in
// which what was uploaded to a directory was given up by the WAL: what was acked
// is in one or the other.
func TestPowerCutAfterCommitAndTrim(t *testing.T) {
	rng := newRand(t)
	for range 2 {
		run := rng.Uint64()
		for at := 1; ; at++ {
			calls := cutRun(t, run, at)
			if t.Failed() {
				t.Fatalf("run %d, cut at call %d", run, at)
			}
			if calls < at {
				t.Logf("run %d: %d moments", run, calls)
				break
			}
		}
	}
}
