package hour

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"rustmq.dev/rustmq/storage/bucket"
)

// weather is how the bucket is for a while. Shares are of calls, 0 to 1.
type weather struct {
	name  string
	down  bool          // nothing is answered at all
	fails float64       // with 503, and nothing is done
	lost  float64       // done, and the answer is not
	late  float64       // not answered, and done minutes later
	flips float64       // a bit of what is read
	half  float64       // a list ends half way
	stale time.Duration // lists are of as long ago as that at most
	slow  time.Duration // a call takes as long as that at most
}

var (
	fair    = weather{name: "fair", slow: 50 * time.Millisecond}
	climate = []weather{
		fair,
		{name: "drizzle", fails: 0.05, lost: 0.1, late: 0.1, flips: 0.02, half: 0.1, stale: 2 * time.Minute, slow: time.Second},
		{name: "drizzle", lost: 0.2, late: 0.05, stale: 4 * time.Minute, slow: 500 * time.Millisecond},
		{name: "rain", fails: 0.1, lost: 0.15, late: 0.25, flips: 0.05, half: 0.3, stale: 6 * time.Minute, slow: 3 * time.Second},
		{name: "storm", fails: 0.5, lost: 0.2, late: 0.2, half: 0.5, stale: 6 * time.Minute, slow: 5 * time.Second},
		{name: "fog", flips: 0.05, stale: 8 * time.Minute, half: 0.5, slow: 200 * time.Millisecond},
		{name: "night", down: true},
	}
)

// latest is after what time a call that was late is done: also long after its object
// was given up, deleted and forgotten.
const latest = 7 * time.Minute

// sky is the bucket of the world, which outlives every process.
type sky struct {
	memory *bucket.Memory

	mu       sync.Mutex // held for no call that takes time
	rng      *rand.Rand
	now      weather
	history  []change
	landings sync.WaitGroup // what is late
	counts   struct{ calls, refused, lost, late, flipped, stale, objects, deleted int }
}

// change is one of the keys.
type change struct {
	at   time.Time
	info bucket.Info
	gone bool
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
	ended chan struct{}
}

var (
	errGone   = errors.New("this process is gone")
	errBusy   = errors.New("503 slow down")
	errSilent = errors.New("connection reset")
)

// fate is what becomes of one call.
type fate struct {
	err               error // of the call, in the end
	lost, late, flips bool
	half, within      float64
	stale             time.Duration
}

// begin takes the time of a call, and says what becomes of it; an error ends it.
func (h *handle) begin(ctx context.Context, op, key string) (fate, error) {
	s := h.sky
	s.mu.Lock()
	w := s.now
	s.counts.calls++
	f := fate{within: s.rng.Float64(), half: w.half, stale: time.Duration(s.rng.Float64() * float64(w.stale))}
	delay := time.Duration(s.rng.Float64() * float64(w.slow))
	roll := s.rng.Float64()
	refused := roll < w.fails
	roll -= w.fails
	f.lost = !refused && roll < w.lost
	roll -= w.lost
	f.late = !refused && !f.lost && roll < w.late
	f.flips = s.rng.Float64() < w.flips
	switch {
	case refused || w.down:
		s.counts.refused++
	case f.lost:
		s.counts.lost++
	}
	s.mu.Unlock()
	fail := func(err error) error { return &bucket.Error{Op: op, Key: key, Err: err, Temporary: true} }
	if f.lost || f.late {
		f.err = fail(errSilent)
	}
	var answer <-chan time.Time
	if !w.down {
		answer = time.After(delay)
	}
	select {
	case <-h.ended:
		return f, fail(errGone)
	case <-ctx.Done():
		return f, fail(ctx.Err())
	case <-answer:
	}
	if refused {
		return f, fail(errBusy)
	}
	return f, nil
}

// do does what changes the bucket, now or later.
func (h *handle) do(f fate, work func()) {
	s := h.sky
	if !f.late {
		s.mu.Lock()
		defer s.mu.Unlock()
		work()
		return
	}
	s.mu.Lock()
	s.counts.late++
	s.mu.Unlock()
	s.landings.Add(1)
	time.AfterFunc(time.Duration(f.within*float64(latest)), func() {
		defer s.landings.Done()
		s.mu.Lock()
		defer s.mu.Unlock()
		work()
	})
}

// note keeps the history of a key, which was there before or not. s.mu is held.
func (s *sky) note(key string, was bool) {
	info, err := s.memory.Stat(context.Background(), key)
	if is := err == nil; is != was && strings.Contains(key, "/data/") {
		if is {
			s.counts.objects++
		} else {
			s.counts.deleted++
		}
	}
	if err != nil {
		info = bucket.Info{Key: key}
	}
	s.history = append(s.history, change{time.Now(), info, err != nil})
}

// Put implements bucket.Bucket.
func (h *handle) Put(ctx context.Context, key string, content io.WriterTo) error {
	var data bytes.Buffer
	if _, err := content.WriteTo(&data); err != nil {
		return &bucket.Error{Op: "put", Key: key, Err: err}
	}
	f, err := h.begin(ctx, "put", key)
	if err != nil {
		return err
	}
	h.do(f, func() {
		was := h.sky.has(key)
		_ = h.sky.memory.Put(context.Background(), key, bucket.Bytes(data.Bytes())) // the key is one
		h.sky.note(key, was)
	})
	return f.err
}

// PutIfAbsent implements bucket.Bucket.
func (h *handle) PutIfAbsent(ctx context.Context, key string, data []byte) error {
	f, err := h.begin(ctx, "putifabsent", key)
	if err != nil {
		return err
	}
	data = slices.Clone(data)
	var exists error
	h.do(f, func() {
		if exists = h.sky.memory.PutIfAbsent(context.Background(), key, data); exists == nil {
			h.sky.note(key, false)
		}
	})
	if f.err != nil {
		return f.err
	}
	return exists
}

// Delete implements bucket.Bucket.
func (h *handle) Delete(ctx context.Context, key string) error {
	f, err := h.begin(ctx, "delete", key)
	if err != nil {
		return err
	}
	h.do(f, func() {
		if h.sky.has(key) {
			_ = h.sky.memory.Delete(context.Background(), key) // it is there
			h.sky.note(key, true)
		}
	})
	return f.err
}

// ReadAt implements bucket.Bucket.
func (h *handle) ReadAt(ctx context.Context, key string, p []byte, off int64) error {
	f, err := h.begin(ctx, "read", key)
	if err == nil {
		err = f.err
	}
	if err == nil {
		err = h.sky.memory.ReadAt(ctx, key, p, off)
	}
	if err == nil && f.flips && len(p) > 0 {
		h.sky.mu.Lock()
		h.sky.counts.flipped++
		h.sky.mu.Unlock()
		p[int(f.within*float64(len(p)))] ^= 1 << (int(f.within*1000) % 8)
	}
	return err
}

// ReadParts implements bucket.Bucket: each part is a read of its own, with faults of
// its own.
func (h *handle) ReadParts(ctx context.Context, key string, parts [][]byte, off int64, arrived func(part int)) error {
	return bucket.ReadEach(ctx, h, key, parts, off, arrived)
}

// Stat implements bucket.Bucket.
func (h *handle) Stat(ctx context.Context, key string) (bucket.Info, error) {
	f, err := h.begin(ctx, "stat", key)
	if err == nil {
		err = f.err
	}
	if err != nil {
		return bucket.Info{}, err
	}
	return h.sky.memory.Stat(ctx, key)
}

// List implements bucket.Bucket.
func (h *handle) List(ctx context.Context, prefix, after string, yield func(bucket.Info) bool) error {
	f, err := h.begin(ctx, "list", prefix)
	if err != nil {
		return err
	}
	found := h.sky.listed(prefix, after, time.Now().Add(-f.stale))
	if f.within < f.half || f.err != nil {
		found, f.err = found[:len(found)/2], &bucket.Error{Op: "list", Key: prefix, Err: errSilent, Temporary: true}
	}
	for _, i := range found {
		if !yield(i) {
			return nil
		}
	}
	return f.err
}

// listed is a list as it was at a time.
func (s *sky) listed(prefix, after string, at time.Time) []bucket.Info {
	s.mu.Lock()
	defer s.mu.Unlock()
	shown := map[string]bucket.Info{}
	for _, c := range s.history {
		switch {
		case c.at.After(at) || !strings.HasPrefix(c.info.Key, prefix) || c.info.Key <= after:
		case c.gone:
			delete(shown, c.info.Key)
		default:
			shown[c.info.Key] = c.info
		}
	}
	if n := len(s.history); n > 0 && s.history[n-1].at.After(at) {
		s.counts.stale++
	}
	var found []bucket.Info
	for _, key := range slices.Sorted(maps.Keys(shown)) {
		found = append(found, shown[key])
	}
	return found
}

// has reports whether a key is there now.
func (s *sky) has(key string) bool {
	_, err := s.memory.Stat(context.Background(), key)
	return err == nil
}

// Close implements bucket.Bucket.
func (h *handle) Close() error { return nil }
