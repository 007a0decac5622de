package pace

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// Options of a [Pacer].
type Options struct {
	// Appends counts what was appended so far, to any log of the broker. It is called
	// ten times a second at most.
	Appends func() int64
	// Late sleeps for d, or until ctx ends, and returns how much longer that took; nil:
	// as the processors are free.
	Late func(ctx context.Context, d time.Duration) time.Duration
}

// Pacer bounds background work while somebody produces, until it is closed.
type Pacer struct {
	o     Options
	rate  atomic.Int64  // of the governor
	moved atomic.Int64  // by all meters
	began chan struct{} // holds a token when something is moved
	stop  context.CancelFunc
	done  sync.WaitGroup
}

// New returns a pacer. Its goroutine costs nothing while nothing is moved.
func New(o Options) *Pacer {
	if o.Late == nil {
		o.Late = oversleep
	}
	p := &Pacer{o: o, began: make(chan struct{}, 1)}
	ctx, stop := context.WithCancel(context.Background())
	p.stop = stop
	p.done.Go(func() { p.run(ctx) })
	return p
}

// Close ends the goroutine; what meters say no longer changes.
func (p *Pacer) Close() {
	p.stop()
	p.done.Wait()
}

// Rate is the bytes a second that each meter may move now; 0: there is no bound.
func (p *Pacer) Rate() int64 { return p.rate.Load() }

func oversleep(ctx context.Context, d time.Duration) time.Duration {
	begun := time.Now()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return time.Since(begun) - d
	case <-ctx.Done():
		return 0
	}
}

// run watches whenever something is moved, and until a while after.
func (p *Pacer) run(ctx context.Context) {
	for {
		select {
		case <-p.began:
			p.watch(ctx)
		case <-ctx.Done():
			return
		}
	}
}

// watch has the governor draw the rate until nothing is moved and nothing bounded.
func (p *Pacer) watch(ctx context.Context) {
	g := governor{}
	appends, appended := p.o.Appends(), false
	for ctx.Err() == nil {
		moved, begun := p.moved.Load(), time.Now()
		w := window{samples: 1}
		if appended {
			w = p.look(ctx)
		} else {
			p.o.Late(ctx, every) // nobody is there to be held up: it is not worth the samples
		}
		now := p.o.Appends()
		appended = now > appends
		appends = now
		w.appended = appended
		w.moved, w.took = p.moved.Load()-moved, max(time.Since(begun), every)
		g.step(w)
		p.rate.Store(g.rate)
		if g.rate == 0 && w.moved == 0 {
			return
		}
	}
}

// look takes the samples of a window.
func (p *Pacer) look(ctx context.Context) (w window) {
	for w.samples < int(every/sample) && ctx.Err() == nil {
		w.samples++
		if p.o.Late(ctx, sample) >= tooLate {
			w.late++
		}
	}
	return w
}

// Meter returns one for a further kind of work.
func (p *Pacer) Meter() *Meter { return &Meter{p: p} }

// Meter says when its kind of work may go on. The zero value bounds nothing.
type Meter struct {
	p *Pacer

	mu   sync.Mutex
	paid time.Time // when what was taken is paid for
}

// Delay is how long who moves something next has to wait; 0: nothing.
func (m *Meter) Delay() time.Duration {
	if m == nil || m.p == nil || m.p.Rate() == 0 {
		return 0
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return max(0, time.Until(m.paid))
}

// Take takes n bytes and returns how long to wait before they are moved: until those
// that were taken before are paid for.
func (m *Meter) Take(n int64) time.Duration {
	if m == nil || m.p == nil {
		return 0
	}
	m.p.moved.Add(n)
	select {
	case m.p.began <- struct{}{}:
	default:
	}
	rate := m.p.Rate()
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	if rate == 0 || m.paid.Before(now) {
		m.paid = now
	}
	wait := m.paid.Sub(now)
	if rate > 0 {
		m.paid = m.paid.Add(time.Duration(float64(n) / float64(rate) * float64(time.Second)))
	}
	return wait
}
