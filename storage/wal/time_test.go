package wal_test

import (
	"errors"
	"path"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"rustmq.dev/rustmq/storage/disk"
	"rustmq.dev/rustmq/storage/wal"
)

// TestIdleLogWritesAMark: within 10 ms of the last commit a mark says that it is
// on disk, so that damage to it is told from a torn tail; then nothing more is
// written.
func TestIdleLogWritesAMark(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := disk.NewMem(disk.MemOptions{})
		w, _ := open(t, small(mem))
		defer w.Close()
		synctest.Wait()
		d := newDone()
		add(t, w, header(0, 0), []byte("x"), d)
		if err := d.wait(t); err != nil {
			t.Fatal(err)
		}
		before := w.Stats().Commits
		time.Sleep(10 * time.Millisecond)
		synctest.Wait()
		if got := w.Stats().Commits - before; got != 1 {
			t.Fatalf("%d commits within 10 ms of the last append, want the mark", got)
		}
		before = w.Stats().Commits
		time.Sleep(time.Hour)
		if got := w.Stats().Commits - before; got != 0 {
			t.Fatalf("an idle log made %d commits in an hour", got)
		}
		// The frame is at or below the mark: to lose it is corruption.
		damaged := mem.Clone()
		content, err := disk.ReadFile(damaged, "wal/segment-000001")
		if err != nil {
			t.Fatal(err)
		}
		f, err := damaged.Open("wal/segment-000001")
		if err != nil {
			t.Fatal(err)
		}
		clear(content[page : 2*page])
		if err := f.WriteSync([][]byte{content}, 0); err != nil {
			t.Fatal(err)
		}
		if refused, err := refuses(small(damaged)); !refused {
			t.Fatalf("open of a log whose marked frame is gone: %v", err)
		}
	})
}

// TestLoneAppendIsOneWriteAndOneSync: the latency of an append on an idle log,
// as a count.
func TestLoneAppendIsOneWriteAndOneSync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		ops := map[string]int{}
		fs := &tap{FS: disk.NewMem(disk.MemOptions{})}
		fs.ask = func(op, _ string) error {
			mu.Lock()
			defer mu.Unlock()
			ops[op]++
			return nil
		}
		w, _ := open(t, small(fs))
		defer w.Close()
		add(t, w, header(0, 0), []byte("x"), nil)
		time.Sleep(time.Second)
		synctest.Wait()
		mu.Lock()
		clear(ops)
		mu.Unlock()
		d := newDone()
		add(t, w, header(0, 1), []byte("x"), d)
		if err := d.wait(t); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		if ops["write"] != 1 || ops["sync"] != 1 || len(ops) != 2 {
			t.Fatalf("an append took %v", ops)
		}
	})
}

// TestIntervalAcksBeforeTheSync: with SyncInterval an append completes when it is
// written, and is durable within the interval, under load too.
func TestIntervalAcksBeforeTheSync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := small(disk.NewMem(disk.MemOptions{}))
		o.Sync, o.SyncInterval = wal.SyncInterval, 50*time.Millisecond
		w, _ := open(t, o)
		defer w.Close()
		synctest.Wait()
		began := time.Now()
		for i := range int64(1000) { // a load that never pauses for an interval
			d := newDone()
			w.Release(add(t, w, header(0, i), make([]byte, 100), d))
			if err := d.wait(t); err != nil {
				t.Fatal(err)
			}
			if i == 0 && w.Durable() != 0 {
				t.Fatal("the first append was synced before it was acked")
			}
			time.Sleep(time.Millisecond)
			if behind := uint64(i+1) - w.Durable(); behind > 55 {
				t.Fatalf("%d appends of a millisecond each are not synced, interval 50 ms", behind)
			}
		}
		time.Sleep(50 * time.Millisecond)
		synctest.Wait()
		if w.Durable() != 1000 {
			t.Fatalf("durable is %d after the last interval, appended 1000", w.Durable())
		}
		// One an interval, and one for each segment that was filled.
		if s := w.Stats(); s.Syncs > 2+int64(time.Since(began)/o.SyncInterval)+int64(1000*page/o.SegmentSize)*2 {
			t.Errorf("%d syncs in %v at an interval of 50 ms", s.Syncs, time.Since(began))
		}
	})
}

// TestSyncAfterOneThatFailedCountsForNothing: with SyncInterval the preparer syncs before it
// recycles. When that fails, the interval's own sync, which the kernel would now
// answer with success for pages that it has dropped, counts for nothing.
func TestSyncAfterOneThatFailedCountsForNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := newPageCache(disk.NewMem(disk.MemOptions{}))
		o := small(fs)
		o.Sync, o.SyncInterval = wal.SyncInterval, time.Minute
		w, _ := open(t, o)
		var refs []wal.Ref
		for i := range int64(40) { // into the second segment
			d := newDone()
			refs = append(refs, add(t, w, header(0, i), make([]byte, 4000), d))
			if err := d.wait(t); err != nil {
				t.Fatal(err)
			}
		}
		durable := w.Durable()
		synctest.Wait()
		there, err := fs.List("wal") // not what is made as a spare from here on
		if err != nil {
			t.Fatal(err)
		}
		fs.mu.Lock()
		failed := false
		fs.failSync = func(name string) bool {
			first := !failed && slices.Contains(there, path.Base(name))
			failed = failed || first
			return first
		}
		fs.mu.Unlock()
		for _, ref := range refs[:35] {
			w.Release(ref)
		}
		synctest.Wait()
		fs.mu.Lock()
		if !failed {
			t.Error("the preparer has not synced: the test proves nothing")
		}
		fs.mu.Unlock()
		time.Sleep(2 * time.Minute)
		if got := w.Durable(); got != durable {
			t.Errorf("durable went from %d to %d by a sync after one that failed", durable, got)
		}
		if err := w.Close(); err == nil {
			t.Error("the log closed as if it were well")
		}
	})
}

// TestOneSyncAtATime: while the preparer's sync is under way, the interval's own, which
// may be answered with success for pages that the first one has failed to write, does
// not begin; and when that has failed, it does not come.
func TestOneSyncAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := disk.NewMem(disk.MemOptions{})
		var armed atomic.Bool
		var syncs atomic.Int64
		hold := make(chan struct{})
		fs := &tap{FS: mem}
		var there []string // not what is made as a spare
		fs.ask = func(op, name string) error {
			if op != "sync" || !armed.Load() || !slices.Contains(there, path.Base(name)) || syncs.Add(1) > 1 {
				return nil
			}
			<-hold
			return unix.EIO
		}
		o := small(fs)
		o.Sync, o.SyncInterval = wal.SyncInterval, time.Minute
		w, _ := open(t, o)
		var refs []wal.Ref
		for i := range int64(40) { // into the second segment
			d := newDone()
			refs = append(refs, add(t, w, header(0, i), make([]byte, 4000), d))
			if err := d.wait(t); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		var err error
		if there, err = mem.List("wal"); err != nil {
			t.Fatal(err)
		}
		durable := w.Durable()
		armed.Store(true)
		w.ReleaseAll(refs[:35])
		time.Sleep(2 * time.Minute)
		if n := syncs.Load(); n != 1 {
			t.Errorf("%d syncs are under way at once, or none", n)
		}
		close(hold)
		time.Sleep(2 * time.Minute)
		if n, got := syncs.Load(), w.Durable(); n != 1 || got != durable {
			t.Errorf("after a sync that failed came %d, and durable went from %d to %d", n-1, durable, got)
		}
		if err := w.Close(); !errors.Is(err, unix.EIO) {
			t.Errorf("the log closed with %v", err)
		}
	})
}

// TestSyncsAreTimed: what syncs take is told, of the one under way too.
func TestSyncsAreTimed(t *testing.T) {
	for name, sync := range map[string]wal.SyncMode{"always": wal.SyncAlways, "interval": wal.SyncInterval} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const slow = 500 * time.Millisecond
				fs := disk.NewFaulty(disk.NewMem(disk.MemOptions{}))
				o := small(fs)
				o.Sync, o.SyncInterval = sync, 10*time.Millisecond
				w, _ := open(t, o)
				defer w.Close()
				time.Sleep(time.Second)
				synctest.Wait()
				before := w.Stats()
				if before.Syncing != 0 {
					t.Errorf("idle, and a sync takes %v", before.Syncing)
				}
				fs.Set(disk.Rule{Op: disk.OpSync, Hook: func(disk.Op, string) { time.Sleep(slow) }})
				add(t, w, header(0, 1), []byte("x"), nil)
				time.Sleep(slow / 2)
				synctest.Wait()
				if is := w.Stats().Syncing; is < slow/4 || is > slow/2 {
					t.Errorf("after %v the sync under way has taken %v", slow/2, is)
				}
				time.Sleep(10 * slow)
				synctest.Wait()
				is := w.Stats()
				if n := is.Syncs - before.Syncs; n == 0 || (is.SyncTime-before.SyncTime)/time.Duration(n) != slow || is.Syncing != 0 {
					t.Errorf("%d syncs took %v, %v is under way", n, is.SyncTime-before.SyncTime, is.Syncing)
				}
				in := 0
				for slow > wal.SyncBound(in) {
					in++
				}
				if n := is.SyncsIn[in] - before.SyncsIn[in]; n != is.Syncs-before.Syncs {
					t.Errorf("%d of %d syncs of %v are counted up to %v", n, is.Syncs-before.Syncs, slow, wal.SyncBound(in))
				}
			})
		})
	}
}
