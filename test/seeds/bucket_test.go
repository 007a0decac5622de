//go:build seeds

package seeds

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"rustmq.dev/rustmq/storage/bucket"
)

// weather is how the bucket is for a while. Shares are of calls, 0 to 1.
type weather struct {
	down  bool          // nothing is answered at all
	fails float64       // with 503, and nothing is done
	lost  float64       // done, and the answer is not
	slow  time.Duration // a call takes as long as that at most
}

var (
	fair    = weather{slow: 50 * time.Millisecond}
	climate = []weather{
		{fails: 0.1, lost: 0.1, slow: time.Second},
		{fails: 0.5, lost: 0.2, slow: 5 * time.Second},
		{down: true},
	}
)

// sky is the bucket of the world, which outlives every process.
type sky struct {
	memory *bucket.Memory

	mu  sync.Mutex // held for no call that takes time
	rng *rand.Rand
	now weather
}

func newSky(rng *rand.Rand) *sky {
	return &sky{memory: bucket.NewMemory(), rng: rng, now: fair}
}

func (s *sky) turn(w weather) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = w
}

// handle is how one process reaches the bucket, until it ends.
type handle struct {
	sky   *sky
	ended <-chan struct{}
	gate  *gate
}

var (
	errGone   = errors.New("this process is gone")
	errBusy   = errors.New("503 slow down")
	errSilent = errors.New("connection reset")
)

// begin takes the time of a call. Its error ends it; late is what is answered though it is done.
func (h *handle) begin(ctx context.Context, op, key string) (late, err error) {
	fail := func(err error) error { return &bucket.Error{Op: op, Key: key, Err: err, Temporary: true} }
	if !h.gate.pass(h.ended) {
		return nil, fail(errGone)
	}
	s := h.sky
	s.mu.Lock()
	w := s.now
	delay := time.Duration(s.rng.Float64() * float64(w.slow))
	roll := s.rng.Float64()
	s.mu.Unlock()
	var answer <-chan time.Time
	if !w.down {
		timer := time.NewTimer(delay)
		defer timer.Stop()
		answer = timer.C
	}
	select {
	case <-h.ended:
		return nil, fail(errGone)
	case <-ctx.Done():
		return nil, fail(ctx.Err())
	case <-answer:
	}
	switch {
	case roll < w.fails:
		return nil, fail(errBusy)
	case roll < w.fails+w.lost:
		return fail(errSilent), nil
	}
	return nil, nil
}

// Put implements bucket.Bucket.
func (h *handle) Put(ctx context.Context, key string, content io.WriterTo) error {
	late, err := h.begin(ctx, "put", key)
	if err == nil {
		err = h.sky.memory.Put(context.Background(), key, content)
	}
	return first(err, late)
}

// PutIfAbsent implements bucket.Bucket.
func (h *handle) PutIfAbsent(ctx context.Context, key string, data []byte) error {
	late, err := h.begin(ctx, "putifabsent", key)
	if err == nil {
		err = h.sky.memory.PutIfAbsent(context.Background(), key, slices.Clone(data))
		if late != nil { // nobody is told
			return late
		}
	}
	return err
}

// Delete implements bucket.Bucket.
func (h *handle) Delete(ctx context.Context, key string) error {
	late, err := h.begin(ctx, "delete", key)
	if err == nil {
		err = h.sky.memory.Delete(context.Background(), key)
	}
	return first(err, late)
}

// ReadAt implements bucket.Bucket.
func (h *handle) ReadAt(ctx context.Context, key string, p []byte, off int64) error {
	late, err := h.begin(ctx, "read", key)
	if first(err, late) != nil {
		return first(err, late)
	}
	return h.sky.memory.ReadAt(ctx, key, p, off)
}

// ReadParts implements bucket.Bucket.
func (h *handle) ReadParts(ctx context.Context, key string, parts [][]byte, off int64, arrived func(part int)) error {
	return bucket.ReadEach(ctx, h, key, parts, off, arrived)
}

// Stat implements bucket.Bucket.
func (h *handle) Stat(ctx context.Context, key string) (bucket.Info, error) {
	late, err := h.begin(ctx, "stat", key)
	if first(err, late) != nil {
		return bucket.Info{}, first(err, late)
	}
	return h.sky.memory.Stat(ctx, key)
}

// List implements bucket.Bucket.
func (h *handle) List(ctx context.Context, prefix, after string, yield func(bucket.Info) bool) error {
	late, err := h.begin(ctx, "list", prefix)
	if first(err, late) != nil {
		return first(err, late)
	}
	return h.sky.memory.List(ctx, prefix, after, yield)
}

// Close implements bucket.Bucket.
func (h *handle) Close() error { return nil }

func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
