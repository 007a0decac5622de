package floor

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/disk"
	"rustmq.dev/rustmq/storage/wal"
)

// Shape is a load: appends of so many bytes, so many of them in flight.
type Shape struct{ Size, InFlight int }

// Shapes are those of figure F4.
var Shapes = []Shape{{1 << 10, 1}, {1 << 10, 64}, {1 << 10, 512}, {64 << 10, 64}}

// String names the shape.
func (s Shape) String() string { return fmt.Sprintf("%d KiB, %d in flight", s.Size>>10, s.InFlight) }

// Appends is about how many appends fill a second.
func (s Shape) Appends() int {
	switch {
	case s.InFlight == 1:
		return 3_000
	case s.Size > 1<<10:
		return 15_000
	default:
		return 100_000 + 400_000*min(s.InFlight, 512)/512
	}
}

// Appender is the log that is driven.
type Appender interface {
	Append(payload []byte, c Completion) error
}

// Result is what a drive came to.
type Result struct {
	Appends  int
	Took     time.Duration
	P50, P99 time.Duration // from append to completion
}

// Rate is in appends a second.
func (r Result) Rate() float64 { return float64(r.Appends) / r.Took.Seconds() }

// window keeps a number of appends in flight.
type window struct {
	mu   sync.Mutex
	free sync.Cond
	room int
	err  error
	took []time.Duration
	done chan struct{} // closed with the last completion
}

type slot struct {
	w     *window
	began time.Time
}

// Committed implements Completion.
func (s *slot) Committed(err error) {
	w := s.w
	w.mu.Lock()
	defer w.mu.Unlock()
	w.took = append(w.took, time.Since(s.began))
	w.err = errors.Join(w.err, err)
	if w.room++; w.room == 1 {
		w.free.Signal()
	}
	if len(w.took) == cap(w.took) {
		close(w.done)
	}
}

// Drive appends n times and waits for the last completion.
func Drive(a Appender, s Shape, n int) (Result, error) {
	payload := make([]byte, s.Size)
	rng := rand.NewChaCha8([32]byte{1})
	_, _ = rng.Read(payload[:s.Size/2]) // half entropy
	w := &window{room: s.InFlight, took: make([]time.Duration, 0, n), done: make(chan struct{})}
	w.free.L = &w.mu
	slots := make([]slot, n)
	began := time.Now()
	for i := range slots {
		w.mu.Lock()
		for w.room == 0 {
			w.free.Wait()
		}
		w.room--
		w.mu.Unlock()
		slots[i] = slot{w, time.Now()}
		if err := a.Append(payload, &slots[i]); err != nil {
			return Result{}, err
		}
	}
	<-w.done
	r := Result{Appends: n, Took: time.Since(began)}
	slices.Sort(w.took)
	r.P50, r.P99 = w.took[n/2], w.took[n*99/100]
	return r, w.err
}

// OpenLoop opens the bare loop in dir, with a file of so many bytes.
func OpenLoop(dir string, size int64) (*Loop, error) {
	fs, err := disk.OpenOS(filepath.Join(dir, "loop"))
	if err != nil {
		return nil, err
	}
	return Open(fs, "log", size)
}

// WAL drives the write-ahead log as a broker does: each append is admitted, and
// what was appended long ago is released, so that segments are recycled.
type WAL struct {
	Log  *wal.WAL
	refs []wal.Ref // a ring
	next int
}

// OpenWAL opens a write-ahead log in dir, with the broker's defaults but for
// the bytes of its segments in all.
func OpenWAL(dir string, capacity int64) (*WAL, error) {
	fs, err := disk.OpenOS(filepath.Join(dir, "wal"))
	if err != nil {
		return nil, err
	}
	log, err := wal.Open(context.Background(), wal.Options{FS: fs, Dir: "wal", Capacity: capacity, SegmentSize: 32 << 20, Owner: nobody{}})
	if err != nil {
		return nil, err
	}
	return &WAL{Log: log, refs: make([]wal.Ref, 512)}, nil
}

// Append implements Appender.
func (w *WAL) Append(payload []byte, c Completion) error {
	n := len(payload) + 64
	if err := w.Log.Admit(context.Background(), wal.Produce, n); err != nil {
		return err
	}
	ref, err := w.Log.Append(wal.Header{Kind: wal.KindData, Partition: storage.PartitionID{Index: 1}}, payload, c)
	w.Log.Unadmit(n)
	if err != nil {
		return err
	}
	if old := w.refs[w.next]; old != (wal.Ref{}) {
		w.Log.Release(old)
	}
	w.refs[w.next] = ref
	w.next = (w.next + 1) % len(w.refs)
	return nil
}

// Close closes the log.
func (w *WAL) Close() error { return w.Log.Close() }

// nobody needs no frame.
type nobody struct{}

func (nobody) Replay(wal.Header, wal.Ref, []byte) error { return nil }
func (nobody) Relocate(context.Context, uint32) error   { return nil }
