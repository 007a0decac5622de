package kafka

import (
	"context"
	"sync"
)

// budget is bytes that connections share. A request larger than all of it
// passes when it is alone, so that a small budget slows and does not stop.
type budget struct {
	mu    sync.Mutex
	limit int64
	used  int64
	wait  []waiting // first come, first served
}

type waiting struct {
	n     int64
	ready chan struct{}
}

// take waits for n bytes, or for the end of ctx.
func (b *budget) take(ctx context.Context, n int64) error {
	b.mu.Lock()
	if len(b.wait) == 0 && b.fits(n) {
		b.used += n
		b.mu.Unlock()
		return nil
	}
	w := waiting{n, make(chan struct{})}
	b.wait = append(b.wait, w)
	b.mu.Unlock()
	select {
	case <-w.ready:
		return nil
	case <-ctx.Done():
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range b.wait {
		if b.wait[i].ready == w.ready {
			b.wait = append(b.wait[:i], b.wait[i+1:]...)
			b.admit()
			return ctx.Err()
		}
	}
	// It was given in the same moment.
	b.used -= n
	b.admit()
	return ctx.Err()
}

// give returns n bytes.
func (b *budget) give(n int64) {
	b.mu.Lock()
	b.used -= n
	b.admit()
	b.mu.Unlock()
}

func (b *budget) fits(n int64) bool { return b.used == 0 || b.used+n <= b.limit }

// admit lets waiters in, in order. b.mu is held.
func (b *budget) admit() {
	for len(b.wait) > 0 && b.fits(b.wait[0].n) {
		b.used += b.wait[0].n
		close(b.wait[0].ready)
		b.wait = b.wait[1:]
	}
}

// Frames are read into buffers of these classes, which are reused; larger ones
// are made and dropped.
const (
	smallestClass = 12 // 4 KiB
	largestClass  = 21 // 2 MiB
)

var classes [largestClass + 1]sync.Pool

// frameBuffer returns n bytes, and the class to return them to, or -1.
func frameBuffer(n int) (*[]byte, int) {
	for class := smallestClass; class <= largestClass; class++ {
		if n <= 1<<class {
			if b, ok := classes[class].Get().(*[]byte); ok {
				*b = (*b)[:n]
				return b, class
			}
			b := make([]byte, n, 1<<class)
			return &b, class
		}
	}
	b := make([]byte, n)
	return &b, -1
}

func returnBuffer(b *[]byte, class int) {
	if class >= 0 {
		classes[class].Put(b)
	}
}
