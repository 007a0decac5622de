package wal_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"rustmq.dev/rustmq/storage/disk"
	"rustmq.dev/rustmq/storage/wal"
)

// nowhere is a disk that keeps nothing, so that what is measured is the log.
type nowhere struct{ disk.FS }

func (n nowhere) Create(name string) (disk.File, error) {
	f, err := n.FS.Create(name)
	return discarded{f}, err
}

type discarded struct{ disk.File }

func (discarded) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }
func (discarded) WriteSync([][]byte, int64) error        { return nil }
func (discarded) Sync() error                            { return nil }

// signal is a completion that sends one token.
type signal chan struct{}

func (s signal) Committed(error) { s <- struct{}{} }

// TestAppendAllocatesNothing in the steady state: admission, append, commit,
// completion and release together.
func TestAppendAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	w, _ := open(t, wal.Options{FS: nowhere{disk.NewMem(disk.MemOptions{})}, Dir: "wal", Capacity: 64 << 20, SegmentSize: 8 << 20, ChunkSize: 1 << 20, Memory: 8 << 20})
	defer w.Close()
	payload := make([]byte, 1024)
	var h wal.Header = header(1, 1)
	done := make(signal, 1)
	ctx := context.Background()
	var refs [64]wal.Ref
	i := 0
	round := func() {
		for range 16 {
			if err := w.Admit(ctx, wal.Produce, len(payload)); err != nil {
				t.Fatal(err)
			}
			ref, err := w.Append(h, payload, done)
			if err != nil {
				t.Fatal(err)
			}
			w.Unadmit(len(payload))
			<-done
			if refs[i&63] != (wal.Ref{}) {
				w.Release(refs[i&63])
			}
			refs[i&63] = ref
			i++
		}
	}
	for range 2000 { // every segment and chunk has been in use
		round()
	}
	// A new segment or chunk costs a few; they are thousands of appends apart.
	if n := testing.AllocsPerRun(200, round); n >= 1 {
		t.Errorf("16 appends allocate %v times", n)
	}
}

func TestAppendRefusesWhatIsTooLarge(t *testing.T) {
	w, _ := open(t, small(disk.NewMem(disk.MemOptions{})))
	if _, err := w.Append(header(0, 0), make([]byte, 32<<10), nil); err != nil {
		t.Errorf("the largest payload: %v", err)
	}
	if _, err := w.Append(header(0, 0), make([]byte, 32<<10+1), nil); !errors.Is(err, wal.ErrTooLarge) {
		t.Errorf("a byte more: %v", err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Append(header(0, 0), nil, nil); !errors.Is(err, wal.ErrClosed) {
		t.Errorf("append after Close: %v", err)
	}
	if err := w.Admit(t.Context(), wal.Produce, 1); !errors.Is(err, wal.ErrClosed) {
		t.Errorf("admit after Close: %v", err)
	}
}

// TestSecondOpenIsToldWhoIsThere and leaves the first alone.
func TestSecondOpenIsToldWhoIsThere(t *testing.T) {
	fs := disk.NewMem(disk.MemOptions{})
	w, _ := open(t, small(fs))
	defer w.Close()
	o := small(fs)
	o.Owner = &owner{}
	if _, err := wal.Open(t.Context(), o); !errors.As(err, new(*disk.LockedError)) {
		t.Fatalf("a second open: %v", err)
	}
	if err := w.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestOptionsThatCannotWorkAreRefused(t *testing.T) {
	for _, test := range []struct {
		change func(*wal.Options)
		want   string
	}{
		{func(o *wal.Options) { o.SegmentSize = 5000 }, "multiples of 4096"},
		{func(o *wal.Options) { o.ChunkSize = 100 }, "multiples of 4096"},
		{func(o *wal.Options) { o.Capacity = int64(o.SegmentSize) }, "four segments"},
		{func(o *wal.Options) { o.Reserve = o.Capacity }, "beside it"},
		{func(o *wal.Options) { o.MaxPayload = o.SegmentSize }, "does not fit"},
	} {
		o := small(disk.NewMem(disk.MemOptions{}))
		o.Owner = &owner{}
		test.change(&o)
		if _, err := wal.Open(t.Context(), o); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("want an error with %q, got %v", test.want, err)
		}
	}
}

// TestReleasedTwiceIsABug that shows itself: the segment would be recycled under
// a live frame.
func TestReleasedTwiceIsABug(t *testing.T) {
	w, _ := open(t, small(disk.NewMem(disk.MemOptions{})))
	defer w.Close()
	ref := add(t, w, header(0, 0), []byte("x"), nil)
	w.Release(ref)
	defer func() {
		if recover() == nil {
			t.Error("a frame was released twice, and nothing happened")
		}
	}()
	w.Release(ref)
}
