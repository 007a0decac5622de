package coordinator

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/twmb/franz-go/pkg/kerr"

	"rustmq.dev/rustmq/storage"
)

// Options say what is coordinated. All are needed.
type Options struct {
	What       string // that is coordinated, in the plural, for the logger
	Partitions int32  // of the topic
	MaxQueue   int    // requests waiting for one shard
	Logger     *slog.Logger
}

// Runner is what a coordinator does with one partition. One goroutine calls Load
// until it succeeds, then Run once, then End; when the leadership ends before, only
// End.
type Runner interface {
	Load() error // reads the log into a new state
	Run()        // returns when Wait says that the end has come
	End()        // lets go of the state
}

// Shards are the partitions of a topic that are coordinated here, each by a runner
// S, which takes requests R.
type Shards[R any, S Runner] struct {
	opt  Options
	open func(*Shard[R]) S
	run  sync.WaitGroup // the goroutines of shards

	led []atomic.Pointer[led[R, S]] // by partition; nil: not led here

	mu     sync.Mutex  // guards changes of led, last and closed
	last   []*Shard[R] // the last that there was; its successor waits for it
	closed bool
}

type led[R any, S Runner] struct {
	*Shard[R]
	runner S
}

// New returns the shards of a coordinator, none yet. open makes the runner of a
// shard, in Load; it must not block, nor call the Shards.
func New[R any, S Runner](opt Options, open func(*Shard[R]) S) *Shards[R, S] {
	return &Shards[R, S]{
		opt: opt, open: open,
		led: make([]atomic.Pointer[led[R, S]], opt.Partitions), last: make([]*Shard[R], opt.Partitions),
	}
}

// Load begins a shard for a partition that this broker leads under epoch. One under
// a lower epoch is ended first; under the same, nothing happens.
func (p *Shards[R, S]) Load(partition int32, epoch storage.Epoch) {
	p.mu.Lock()
	defer p.mu.Unlock()
	was := p.led[partition].Load()
	if p.closed || was != nil && was.Epoch >= epoch {
		return
	}
	s := newShard[R](p.opt, partition, epoch, p.last[partition])
	l := &led[R, S]{s, p.open(s)}
	p.last[partition] = s
	p.led[partition].Store(l)
	if was != nil {
		was.stop() // now that AwaitLoad finds the next one
	}
	p.run.Go(func() { s.live(l.runner) })
}

// Unload ends a partition's shard. It returns before that is done.
func (p *Shards[R, S]) Unload(partition int32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.unload(partition)
}

func (p *Shards[R, S]) unload(partition int32) {
	if was := p.led[partition].Swap(nil); was != nil {
		was.stop()
	}
}

// Close ends every shard and returns when nothing runs any more. Completions that
// come later are ignored.
func (p *Shards[R, S]) Close() {
	p.mu.Lock()
	p.closed = true
	for i := range p.led {
		p.unload(int32(i))
	}
	p.mu.Unlock()
	p.run.Wait()
}

// Submit passes a request to a partition's shard. Exactly one of the two is called,
// once: done with the answer, or refuse with the reason why there is none. A
// partition that the topic does not have is not led here.
func (p *Shards[R, S]) Submit(ctx context.Context, partition int32, request R, done func(any), refuse func(code int16)) {
	if partition < 0 || partition >= p.opt.Partitions {
		refuse(kerr.NotCoordinator.Code)
		return
	}
	l := p.led[partition].Load()
	if l == nil {
		refuse(kerr.NotCoordinator.Code)
		return
	}
	l.Submit(ctx, request, done, refuse)
}

// Shard returns the shard of a partition that is led here; nil: it is not.
func (p *Shards[R, S]) Shard(partition int32) *Shard[R] {
	if l := p.led[partition].Load(); l != nil {
		return l.Shard
	}
	return nil
}

// AwaitLoad returns when a partition's shard has read its log, at once when it is not
// led here, and when it is led no more, or ctx ends.
func (p *Shards[R, S]) AwaitLoad(ctx context.Context, partition int32) {
	var before *led[R, S]
	for l := p.led[partition].Load(); l != nil && l != before; l = p.led[partition].Load() {
		select {
		case <-l.loaded:
			return
		case <-ctx.Done():
			return
		case <-l.Context.Done(): // under this epoch
			before = l
		}
	}
}

// All returns the runners of the partitions led here, in their order.
func (p *Shards[R, S]) All() []S {
	var all []S
	for i := range p.led {
		if l := p.led[i].Load(); l != nil {
			all = append(all, l.runner)
		}
	}
	return all
}

// Loaded returns how many shards have read their log, and how many have not yet.
func (p *Shards[R, S]) Loaded() (loaded, loading int) {
	for i := range p.led {
		switch l := p.led[i].Load(); {
		case l == nil:
		case l.ready.Load():
			loaded++
		default:
			loading++
		}
	}
	return loaded, loading
}
