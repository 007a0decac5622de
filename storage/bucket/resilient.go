package bucket

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"time"

	"rustmq.dev/rustmq/storage/guard"
)

// ResilientOptions of a [Resilient]; a zero is the default.
type ResilientOptions struct {
	// Attempts at most of one call, the first included; default 4.
	Attempts int
	// Backoff before the first retry at most; it doubles with each, up to
	// MaxBackoff. The wait is anything between nothing and that: 200 ms, 10 s.
	Backoff, MaxBackoff time.Duration
	// RetryShare of calls that may be retries, and how many of them may be saved
	// up: 0.2, 10.
	RetryShare float64
	RetryBurst int

	// Timeout of an attempt in which nothing moves, and MinRate, in bytes a second,
	// at which its bytes must move beyond that: 15 s, 1 MiB/s.
	Timeout time.Duration
	MinRate int64

	// The circuit opens after OpenAfter failures in a row, or when of at least
	// OpenMin attempts in OpenWindow a share of OpenShare failed: 10; 20 in 10 s,
	// 0.5. It stays open for OpenFor, twice as long after each probe that fails, up
	// to MaxOpenFor: 1 s, 30 s.
	OpenAfter  int
	OpenMin    int
	OpenShare  float64
	OpenWindow time.Duration
	OpenFor    time.Duration
	MaxOpenFor time.Duration

	// OnSlow is called, from a goroutine of a timer, when a request has not moved for
	// a third of the time after which it is given up, once until the store answers
	// and none is slow; nil: nobody wants to know. It must not block.
	OnSlow func(op, key string, waited time.Duration)

	// Rand returns numbers in [0, 1) from any goroutine; default math/rand/v2.
	Rand func() float64
}

// slowShare of the time after which an attempt is given up makes it a slow one: 5 s
// where nothing is to be moved.
const slowShare = 3

func (o ResilientOptions) withDefaults() ResilientOptions {
	set(&o.Attempts, 4)
	set(&o.Backoff, 200*time.Millisecond)
	set(&o.MaxBackoff, 10*time.Second)
	set(&o.RetryShare, 0.2)
	set(&o.RetryBurst, 10)
	set(&o.Timeout, 15*time.Second)
	set(&o.MinRate, 1<<20)
	set(&o.OpenAfter, 10)
	set(&o.OpenMin, 20)
	set(&o.OpenShare, 0.5)
	set(&o.OpenWindow, 10*time.Second)
	set(&o.OpenFor, time.Second)
	set(&o.MaxOpenFor, 30*time.Second)
	if o.Rand == nil {
		o.Rand = rand.Float64
	}
	return o
}

func set[T comparable](v *T, byDefault T) {
	var zero T
	if *v == zero {
		*v = byDefault
	}
}

// Resilient asks another bucket again when that may help, and leaves it alone
// when it does not: at any load, and however the store fails, it makes at most
// 1 + RetryShare attempts a call, and far fewer once the circuit is open.
//
// A call that fails may have been done. Data given to PutIfAbsent must be of this
// writer alone (an incarnation in it is enough): when an answer was lost, a key
// that then exists with the same bytes counts as written by this call.
//
// An attempt that does not heed its context is waited for.
type Resilient struct {
	inner Bucket
	o     ResilientOptions

	mu      sync.Mutex // never held during a call to inner
	breaker breaker
	budget  budget
	health  Health
	slow    map[*watch]bool // attempts that do not move
	slowAt  time.Time       // the first of them did last, or of those before that ended without an answer
}

// Health is what a [Resilient] knows of its store.
type Health struct {
	Circuit       Circuit
	Since         time.Time // the circuit is closed, or is not; zero: from the beginning
	LastError     error     // the last failure that says something of the store
	LastErrorAt   time.Time
	LastSuccessAt time.Time
	Calls         uint64    // by callers
	Retries       uint64    // attempts beyond the first of a call
	Refused       uint64    // calls that ended with ErrUnavailable
	Slow          int       // requests under way that have not moved for long
	SlowSince     time.Time // the first had not, and since then there was no moment without one at which the store answered
}

// NewResilient wraps a bucket.
func NewResilient(b Bucket, o ResilientOptions) *Resilient {
	r := &Resilient{inner: b, o: o.withDefaults(), slow: map[*watch]bool{}}
	r.breaker.o = &r.o
	r.budget = budget{share: r.o.RetryShare, most: float64(r.o.RetryBurst)}
	return r
}

// State returns what is known of the store now.
func (r *Resilient) State() Health {
	r.mu.Lock()
	defer r.mu.Unlock()
	h := r.health
	h.Circuit, h.Since = r.breaker.circuit, r.breaker.since
	h.Slow, h.SlowSince = len(r.slow), r.slowAt
	return h
}

// Put implements [Bucket].
func (r *Resilient) Put(ctx context.Context, key string, content io.WriterTo) error {
	return r.do(ctx, opPut, key, func(ctx context.Context, w *watch) error {
		c := &watchedContent{content: content, watch: w}
		err := r.inner.Put(ctx, key, c)
		if c.err != nil { // its own: no store is to blame, and no retry helps
			return &Error{Op: opPut, Key: key, Err: &contentError{c.err}}
		}
		return err
	})
}

// PutIfAbsent implements [Bucket].
func (r *Resilient) PutIfAbsent(ctx context.Context, key string, data []byte) error {
	lost := false // an earlier attempt may have been done
	return r.do(ctx, opPutNew, key, func(ctx context.Context, w *watch) error {
		w.allow(len(data))
		err := r.inner.PutIfAbsent(ctx, key, data)
		if lost && errors.Is(err, ErrExists) {
			w.allow(len(data))
			return r.compare(ctx, key, data)
		}
		lost = lost || err != nil
		return err
	})
}

// compare is nil if the object is data: the answer of an attempt was lost.
func (r *Resilient) compare(ctx context.Context, key string, data []byte) error {
	info, err := r.inner.Stat(ctx, key)
	if err != nil {
		return err
	}
	same := info.Size == int64(len(data))
	if same && len(data) > 0 {
		stored := make([]byte, len(data))
		if err := r.inner.ReadAt(ctx, key, stored, 0); err != nil {
			return err
		}
		same = bytes.Equal(stored, data)
	}
	if !guard.Check("bucket.exists-as-written", same) {
		return &Error{Op: opPutNew, Key: key, Err: ErrExists}
	}
	return nil
}

// ReadAt implements [Bucket].
func (r *Resilient) ReadAt(ctx context.Context, key string, p []byte, off int64) error {
	return r.do(ctx, opRead, key, func(ctx context.Context, w *watch) error {
		w.allow(len(p))
		return r.inner.ReadAt(ctx, key, p, off)
	})
}

// ReadParts implements [Bucket]. A retry goes on behind the last part that arrived.
func (r *Resilient) ReadParts(ctx context.Context, key string, parts [][]byte, off int64, arrived func(part int)) error {
	done := 0 // parts that arrived, up to off
	return r.do(ctx, opRead, key, func(ctx context.Context, w *watch) error {
		if done == len(parts) { // only the end of the answer was lost
			return nil
		}
		from := done
		w.allow(len(parts[done]))
		return r.inner.ReadParts(ctx, key, parts[from:], off, func(part int) {
			off += int64(len(parts[from+part]))
			if done = from + part + 1; done < len(parts) {
				w.allow(len(parts[done]))
			} else {
				w.allow(0)
			}
			arrived(done - 1)
		})
	})
}

// Stat implements [Bucket].
func (r *Resilient) Stat(ctx context.Context, key string) (info Info, err error) {
	err = r.do(ctx, opStat, key, func(ctx context.Context, _ *watch) error {
		info, err = r.inner.Stat(ctx, key)
		return err
	})
	return info, err
}

// List implements [Bucket]. A retry goes on behind the last key that was yielded.
func (r *Resilient) List(ctx context.Context, prefix, after string, yield func(Info) bool) error {
	return r.do(ctx, opList, prefix, func(ctx context.Context, w *watch) error {
		return r.inner.List(ctx, prefix, after, func(i Info) bool {
			w.pause() // the caller may take its time
			defer w.allow(0)
			after = i.Key
			return yield(i)
		})
	})
}

// Delete implements [Bucket].
func (r *Resilient) Delete(ctx context.Context, key string) error {
	return r.do(ctx, opDelete, key, func(ctx context.Context, _ *watch) error { return r.inner.Delete(ctx, key) })
}

// Close implements [Bucket].
func (r *Resilient) Close() error { return r.inner.Close() }

// do makes the attempts of one call.
func (r *Resilient) do(ctx context.Context, op, key string, try func(context.Context, *watch) error) error {
	if op != opList {
		if err := checked(op, key); err != nil {
			return err
		}
	}
	var last error
	for attempt := 1; ; attempt++ {
		t, why := r.admit(attempt > 1)
		if why != nil {
			return &Error{Op: op, Key: key, Err: refusal(why, last), Temporary: true}
		}
		err := r.attempt(ctx, op, key, try)
		v := judge(ctx, err)
		r.settle(t, v, err)
		if err == nil || !IsTemporary(err) || ctx.Err() != nil || attempt >= r.o.Attempts {
			return err
		}
		last = err
		if err := wait(ctx, r.backoff(attempt)); err != nil {
			return &Error{Op: op, Key: key, Err: errors.Join(err, last)}
		}
	}
}

func refusal(why, last error) error {
	if last == nil {
		return why
	}
	return fmt.Errorf("%w: %w", why, last)
}

// backoff is how long to wait after the nth attempt.
func (r *Resilient) backoff(n int) time.Duration {
	most := r.o.MaxBackoff
	if shift := n - 1; shift < 30 && r.o.Backoff<<shift < most {
		most = r.o.Backoff << shift
	}
	return time.Duration(r.o.Rand() * float64(most))
}

func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// admit asks for the permission to make one attempt.
func (r *Resilient) admit(retry bool) (turn, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !retry {
		r.health.Calls++
		r.budget.earn()
	}
	t, ok := r.breaker.ask(time.Now())
	if !ok {
		r.health.Refused++
		return t, fmt.Errorf("%w: the circuit is open", ErrUnavailable)
	}
	if retry {
		if !r.budget.spend() {
			r.health.Refused++
			r.breaker.tell(t, says, time.Now(), 0)
			return t, fmt.Errorf("%w: no retry is left", ErrUnavailable)
		}
		r.health.Retries++
	}
	return t, nil
}

// settle takes note of what an attempt says of the store.
func (r *Resilient) settle(t turn, v verdict, err error) {
	jitter := r.o.Rand()
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	r.breaker.tell(t, v, now, jitter)
	switch v {
	case answers:
		r.health.LastSuccessAt = now
		if len(r.slow) == 0 {
			r.slowAt = time.Time{}
		}
	case fails:
		r.health.LastError, r.health.LastErrorAt = err, now
	}
}

// judge says what the end of an attempt means for the store. ctx is the caller's.
func judge(ctx context.Context, err error) verdict {
	var content *contentError
	switch {
	case err == nil, errors.Is(err, ErrNotFound), errors.Is(err, ErrExists), errors.Is(err, ErrUnsupported):
		return answers
	case ctx.Err() != nil, errors.As(err, &content), errors.Is(err, errOffset):
		return says
	case errors.Is(err, io.ErrUnexpectedEOF) && !IsTemporary(err): // the range is not in the object
		return answers
	}
	return fails
}

// errStalled says that an attempt took longer than its bytes may.
var errStalled = errors.New("timed out")

// attempt makes one, under a watch.
func (r *Resilient) attempt(ctx context.Context, op, key string, try func(context.Context, *watch) error) error {
	inner, cancel := context.WithCancelCause(ctx)
	w := &watch{r: r, op: op, key: key, moved: time.Now(), after: r.o.Timeout / slowShare}
	w.stall = time.AfterFunc(r.o.Timeout, func() { cancel(errStalled) })
	w.slow = time.AfterFunc(w.after, w.isSlow)
	err := try(inner, w)
	w.pause()
	stalled := errors.Is(context.Cause(inner), errStalled)
	cancel(nil)
	if err != nil && stalled && ctx.Err() == nil {
		return &Error{Op: op, Key: key, Err: fmt.Errorf("%w: %w", errStalled, err), Temporary: true}
	}
	return err
}

// watch ends an attempt in which nothing moves, and tells of it before.
type watch struct {
	r       *Resilient
	op, key string
	stall   *time.Timer
	slow    *time.Timer

	// Guarded by r.mu.
	moved time.Time
	after time.Duration // from then on it is slow; 0: never, whatever timer still runs
}

// allow gives the attempt the time from now on that n bytes may take.
func (w *watch) allow(n int) {
	within := w.r.o.Timeout + time.Duration(float64(n)/float64(w.r.o.MinRate)*float64(time.Second))
	w.move(within / slowShare)
	w.stall.Reset(within)
	w.slow.Reset(within / slowShare)
}

func (w *watch) pause() {
	w.move(0)
	w.stall.Stop()
	w.slow.Stop()
}

func (w *watch) move(after time.Duration) {
	w.r.mu.Lock()
	defer w.r.mu.Unlock()
	w.moved, w.after = time.Now(), after
	delete(w.r.slow, w)
}

// isSlow takes note that nothing has moved.
func (w *watch) isSlow() {
	w.r.mu.Lock()
	waited := time.Since(w.moved)
	is := w.after > 0 && waited >= w.after
	first := is && w.r.slowAt.IsZero()
	if is {
		w.r.slow[w] = true
	}
	if first {
		w.r.slowAt = w.moved
	}
	w.r.mu.Unlock()
	if first && w.r.o.OnSlow != nil {
		w.r.o.OnSlow(w.op, w.key, waited)
	}
}

// watchedContent gives an upload time as it moves, and tells an error of the
// content from one of the store.
type watchedContent struct {
	content io.WriterTo
	watch   *watch
	err     error // of the content
}

func (c *watchedContent) WriteTo(w io.Writer) (int64, error) {
	to := &watchedWriter{w: w, watch: c.watch}
	c.watch.allow(0)
	n, err := c.content.WriteTo(to)
	if err != nil && to.err == nil {
		c.err = err
	}
	// What was written may still lie in buffers.
	c.watch.allow(int(n))
	return n, err
}

func (c *watchedContent) Size() int64 { return sizeOf(c.content) }

type watchedWriter struct {
	w     io.Writer
	watch *watch
	err   error
}

func (w *watchedWriter) Write(p []byte) (int, error) {
	w.watch.allow(len(p))
	n, err := w.w.Write(p)
	if err != nil {
		w.err = err
	}
	return n, err
}
