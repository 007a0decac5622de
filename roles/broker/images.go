package broker

import (
	"context"
	"sync"
	"sync/atomic"

	"rustmq.dev/rustmq/consensus/metadata"
)

// images are the newest image that has come, and the one that is carried out: of the broker
// what leadership.go has made logs and roles of, which requests are answered from. The
// controller's goroutine only leaves the newest here; one that a newer overtakes is never
// looked at.
type images struct {
	newest  atomic.Pointer[metadata.Image]
	wake    chan struct{} // holds a token while there is something to do
	applied atomic.Pointer[metadata.Image]

	mu      sync.Mutex
	waiting chan struct{} // closed and replaced whenever applied moves; guarded by mu
}

func newImages(first *metadata.Image) *images {
	i := &images{wake: make(chan struct{}, 1), waiting: make(chan struct{})}
	i.newest.Store(first)
	return i
}

// offer hands over an image; images come in order. It does not block.
func (i *images) offer(image *metadata.Image) {
	i.newest.Store(image)
	i.again()
}

// again has who carries them out look at the newest image once more.
func (i *images) again() {
	select {
	case i.wake <- struct{}{}:
	default:
	}
}

// image returns the image that requests are answered from; nil before the first.
func (i *images) image() *metadata.Image { return i.applied.Load() }

// wait returns once an image of that offset, or a later one, is carried out.
func (i *images) wait(ctx context.Context, offset uint64) error {
	for {
		i.mu.Lock()
		moved := i.waiting
		i.mu.Unlock()
		if image := i.applied.Load(); image != nil && image.Offset() >= offset {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (i *images) publish(image *metadata.Image) {
	i.applied.Store(image)
	i.mu.Lock()
	defer i.mu.Unlock()
	close(i.waiting)
	i.waiting = make(chan struct{})
}
