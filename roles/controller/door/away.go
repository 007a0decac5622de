package door

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/transport/rpc"
)

// behindPatience is how long a controller is listened to that knows no leader, or has
// less than was seen: an election, and some more.
const behindPatience = 3 * time.Second

// toldAfter is how many tries to follow the metadata fail before the log says so.
const toldAfter = 5

// away is the metadata as controllers of other processes show it.
type away struct {
	view  *metadata.View // of the goroutine that follows
	image atomic.Pointer[metadata.Image]
	wake  chan struct{} // holds one token while something is to be delivered

	mu          sync.Mutex
	subscribers []*subscriber // in order of subscription; replaced, never written to
}

type subscriber struct {
	call func(*metadata.Image)
	last *metadata.Image // delivered; of the delivering goroutine
	gone bool            // guarded by away.mu
}

func newAway() *away {
	a := &away{view: metadata.NewView(), wake: make(chan struct{}, 1)}
	a.image.Store(a.view.Image())
	return a
}

// Image returns the present image.
func (a *away) Image() *metadata.Image { return a.image.Load() }

// show publishes an image.
func (a *away) show(image *metadata.Image) {
	a.image.Store(image)
	a.notify()
}

func (a *away) notify() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// deliver calls subscribers until ctx ends; who is slow is given the latest.
func (a *away) deliver(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.wake:
		}
		a.mu.Lock()
		subscribers := a.subscribers
		a.mu.Unlock()
		for _, s := range subscribers {
			if image := a.Image(); image != s.last && a.wanted(s) {
				s.call(image)
				s.last = image
			}
		}
	}
}

func (a *away) wanted(s *subscriber) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return !s.gone
}

// Subscribe is as of [controller.Controller].
func (a *away) Subscribe(f func(*metadata.Image)) (cancel func()) {
	s := &subscriber{call: f}
	a.mu.Lock()
	a.subscribers = append(slices.Clip(a.subscribers), s)
	a.mu.Unlock()
	a.notify()
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		s.gone = true
		a.subscribers = slices.DeleteFunc(slices.Clone(a.subscribers), func(other *subscriber) bool { return other == s })
	}
}

// follow has controllers show their metadata, one after the other, until ctx ends.
func (d *Door) follow(ctx context.Context) {
	whole := false
	// Not all brokers are to begin with the same controller.
	for turn, n := max(0, int(d.opt.Broker)), 0; ctx.Err() == nil; turn, n = turn+1, n+1 {
		addresses := d.addresses(d.away.Image())
		if len(addresses) > 0 {
			tail := &tail{d: d, begun: time.Now(), goal: max(d.away.Image().Offset(), d.seen.Load())}
			err := d.rpc.Images(ctx, addresses[turn%len(addresses)], d.opt.Broker, d.away.Image().Offset(), whole, tail.take)
			whole = errors.Is(err, metadata.ErrUnfit) || isCorrupt(err)
			if later, is := errors.AsType[*metadata.StopError](err); is {
				d.opt.OnDead(later)
				return
			}
			switch {
			case ctx.Err() != nil:
			case tail.grew:
				n = 0
				d.log.Info("the metadata is followed elsewhere", "error", err)
			case n == toldAfter:
				d.log.Warn("the metadata cannot be followed; trying on: what changes is not known here", "controllers", addresses, "error", err)
			}
		}
		d.pause(ctx, n)
	}
}

func isCorrupt(err error) bool {
	_, is := errors.AsType[*metadata.CorruptionError](err)
	return is
}

// tail is one stream of images.
type tail struct {
	d     *Door
	grew  bool      // it has brought something
	begun time.Time // when its controller was last known to keep up with the others
	goal  uint64    // offset that was known then, of others
}

func (t *tail) take(s rpc.ImagesState, delta []byte) error {
	a := t.d.away
	if delta != nil {
		// It refuses what leads back.
		if err := a.view.Apply(delta); err != nil {
			return err
		}
		t.grew = true
	}
	image := a.view.Image()
	if shown := a.Image(); shown.Offset() != image.Offset() || shown.ControllerID() != s.Leader {
		a.show(image.WithController(s.Leader))
	}
	if s.Leader != metadata.NoLeader && s.Offset >= t.goal {
		t.begun, t.goal = time.Now(), max(image.Offset(), t.d.seen.Load())
	} else if quiet := time.Since(t.begun); quiet > behindPatience {
		return fmt.Errorf("for %v now it is at %d, and others were at %d; of controllers that lead it knows %d", quiet.Round(time.Millisecond), s.Offset, t.goal, s.Leader)
	}
	return nil
}
