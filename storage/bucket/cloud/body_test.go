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
	var turns, packed atomic.Int64
	var summed int64
	end := make(chan struct{})
	stopped := make(chan struct{})
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
	b := bucketOf(func(r *http.Request) (*http.Response, error) {
		summed = turns.Load() - packed.Load()
		return nil, errors.New("not stored")
	})
	const size = 8 << 20
	b.Put(t.Context(), "k", writes(func(w io.Writer) error {
		piece := make([]byte, 64<<10)
		for range size / len(piece) {
			if _, err := w.Write(piece); err != nil {
				return err
			}
		}
		packed.Store(turns.Load())
		return nil
	}))
	close(end)
	<-stopped
	if least := int64(size / yieldEvery / 2); packed.Load() < least || summed < least {
		t.Errorf("others ran %d and %d times, want %d at least", packed.Load(), summed, least)
	}
}
