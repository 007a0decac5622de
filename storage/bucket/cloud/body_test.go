package cloud

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/iotest"
)

// pieces notes what is written by one call.
type pieces struct {
	bytes.Buffer
	largest int
}

func (p *pieces) Write(b []byte) (int, error) {
	p.largest = max(p.largest, len(b))
	return p.Buffer.Write(b)
}

// TestABodyIsGivenOutInSteps: from wherever it was read up to, and again from the start.
func TestABodyIsGivenOutInSteps(t *testing.T) {
	data := make([]byte, 3*yieldEvery+100)
	for i := range data {
		data[i] = byte(i * 7)
	}
	b := newBody(data)
	for _, from := range []int64{0, 5, yieldEvery, int64(len(data)) - 1, int64(len(data)), 0} {
		if _, err := b.Seek(from, io.SeekStart); err != nil {
			t.Fatal(err)
		}
		var p pieces
		n, err := io.Copy(&p, b)
		if err != nil || n != int64(len(data))-from || !bytes.Equal(p.Bytes(), data[from:]) || p.largest > yieldEvery || b.Len() != 0 {
			t.Errorf("from %d: %d bytes, %v, the largest of %d, %d left", from, n, err, p.largest, b.Len())
		}
	}
	if err := iotest.TestReader(newBody(data[:1000]), data[:1000]); err != nil {
		t.Error(err)
	}
	if n, err := newBody(data).WriteTo(full{}); n != 3 || !errors.Is(err, io.ErrShortBuffer) {
		t.Errorf("into what takes 3 bytes: %d, %v", n, err)
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 3, io.ErrShortBuffer }

// TestAPutLetsOthersRun: on one processor others run some thirty times while 8 MiB are
// packed, and as often while they are summed.
func TestAPutLetsOthersRun(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	turns := others(t)
	var packed atomic.Int64
	var summed int64
	b := bucketOf(func(r *http.Request) (*http.Response, error) {
		summed = turns.Load() - packed.Load()
		return nil, errors.New("not stored")
	})
	const size = 8 << 20
	b.Put(t.Context(), "k", pieces64(size, func() { packed.Store(turns.Load()) }))
	if least := int64(size / yieldEvery / 2); packed.Load() < least || summed < least {
		t.Errorf("others ran %d and %d times, want %d at least", packed.Load(), summed, least)
	}
}

// TestAPutInPartsLetsOthersRun: the last is packed, and then summed by the same steps.
func TestAPutInPartsLetsOthersRun(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	turns := others(t)
	var packed, last int64
	s := &partStore{part: func(int, []byte, http.Header) { last = turns.Load() }}
	const size, part = 24 << 20, 8 << 20
	err := bucketOf(s.answer).Put(t.Context(), "k", pieces64(size, func() { packed = turns.Load() }))
	if least := int64(part / yieldEvery / 2); err != nil || last-packed < least {
		t.Errorf("%v; others ran %d times while the last part was summed, want %d at least", err, last-packed, least)
	}
}

// TestAReadLetsOthersRun: on one processor others run some thirty times while 8 MiB arrive,
// all of which were there.
func TestAReadLetsOthersRun(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	data := numbered(8 << 20)
	into := make([]byte, len(data))
	turns := others(t)
	n, err := fill(into, bytes.NewReader(data))
	if least := int64(len(data) / yieldEvery / 2); err != nil || n != len(data) || !bytes.Equal(into, data) || turns.Load() < least {
		t.Errorf("%d bytes, %v; others ran %d times, want %d at least", n, err, turns.Load(), least)
	}
	for size, want := range map[int]error{0: io.EOF, 10: io.ErrUnexpectedEOF, yieldEvery: io.ErrUnexpectedEOF, yieldEvery + 10: io.ErrUnexpectedEOF, 2 * yieldEvery: nil} {
		if n, err := fill(into[:2*yieldEvery], bytes.NewReader(data[:size])); n != size || err != want {
			t.Errorf("of %d bytes %d came, and %v, want %v", size, n, err, want)
		}
	}
}

// others counts the turns of a goroutine that is always ready, until the test ends.
func others(t *testing.T) *atomic.Int64 {
	var turns atomic.Int64
	end, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-end:
				return
			default:
				turns.Add(1)
				runtime.Gosched()
			}
		}
	}()
	t.Cleanup(func() { close(end); <-stopped })
	return &turns
}

// pieces64 is content of a size that is written 64 KiB at a time, and then calls done.
func pieces64(size int, done func()) writes {
	return func(w io.Writer) error {
		piece := make([]byte, 64<<10)
		for range size / len(piece) {
			if _, err := w.Write(piece); err != nil {
				return err
			}
		}
		done()
		return nil
	}
}
