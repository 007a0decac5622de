package cache

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"rustmq.dev/rustmq/storage/guard"
)

// BudgetOptions bound reads under way.
type BudgetOptions struct {
	Total int64 // bytes that may be held at a time; above 0
	// Share is how many of them one reader may hold; its first read is granted
	// whatever its size, so that a large block can be read at all. 0: half.
	Share int64
}

// Budget divides the bytes of reads under way between those who read.
//
// Whoever holds the fewest bytes is served next; equals take turns, one request
// each. A reader with a deep read-ahead gets what nobody else
// wants, up to its share, and no turn before a reader that holds less. A request
// whose turn it is and that does not fit yet holds up the others, so that small
// requests do not starve a large one; one that waits for its own reader's share
// does not. Each grant looks at all readers that wait.
//
// A request for more than the total is charged the total: it is served, alone.
//
// Readers are told apart by K: a consumer, a partition, whatever fairness is to
// be between. A Budget is safe for concurrent use; it starts no goroutine.
type Budget[K comparable] struct {
	total, share int64

	mu      sync.Mutex    // guards what follows
	held    int64         // <= total
	readers map[K]*reader // those that hold or wait
	lines   []*reader     // of requests, in the order in which the readers were last served
}

// reader is one that holds bytes or waits for them.
type reader struct {
	held     int64
	requests []*request // in order of arrival; not empty while in Budget.lines
}

// request is what one Acquire waits for.
type request struct {
	bytes   int64
	granted chan struct{} // closed when the bytes are held
}

// NewBudget makes a budget. The error is an *OptionError.
func NewBudget[K comparable](o BudgetOptions) (*Budget[K], error) {
	if o.Total <= 0 {
		return nil, &OptionError{"Total", o.Total, "want at least 1"}
	}
	if o.Share == 0 {
		o.Share = max(o.Total/2, 1)
	}
	if o.Share < 0 || o.Share > o.Total {
		return nil, &OptionError{"Share", o.Share, fmt.Sprintf("want 1 to Total (%d)", o.Total)}
	}
	return &Budget[K]{total: o.Total, share: o.Share, readers: make(map[K]*reader)}, nil
}

// Acquire waits until the reader may hold so many more bytes, or ctx ends, whose
// error it then returns. What it grants is held until release is called; more
// calls of it do nothing. Bytes below 0 are a bug of the caller's, and panic.
func (b *Budget[K]) Acquire(ctx context.Context, key K, bytes int64) (release func(), err error) {
	if bytes < 0 {
		panic(fmt.Sprintf("acquire %d bytes of a budget of %d", bytes, b.total))
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if bytes == 0 {
		return func() {}, nil
	}
	q := &request{bytes: min(bytes, b.total), granted: make(chan struct{})}
	b.mu.Lock()
	r := b.readers[key]
	if r == nil {
		r = &reader{}
		b.readers[key] = r
	}
	if len(r.requests) == 0 {
		b.lines = append(b.lines, r)
	}
	r.requests = append(r.requests, q)
	b.serve()
	b.mu.Unlock()

	select {
	case <-q.granted:
		return sync.OnceFunc(func() { b.giveBack(key, r, q) }), nil
	case <-ctx.Done():
		b.withdraw(key, r, q)
		return nil, ctx.Err()
	}
}

// Held is how many bytes are held.
func (b *Budget[K]) Held() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.held
}

// Waiting is how many requests wait.
func (b *Budget[K]) Waiting() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
	for _, r := range b.lines {
		n += len(r.requests)
	}
	return n
}

// serve grants what can be granted. b.mu is held.
func (b *Budget[K]) serve() {
	for {
		next := -1
		for i, r := range b.lines {
			if !guard.Check("cache.budget-share", r.held == 0 || r.held+r.requests[0].bytes <= b.share) {
				continue
			}
			if next < 0 || r.held < b.lines[next].held {
				next = i
			}
		}
		if next < 0 {
			return
		}
		r := b.lines[next]
		q := r.requests[0]
		if !guard.Check("cache.budget", b.held+q.bytes <= b.total) {
			return
		}
		b.held += q.bytes
		r.held += q.bytes
		r.requests = r.requests[1:]
		b.lines = slices.Delete(b.lines, next, next+1)
		if len(r.requests) > 0 {
			b.lines = append(b.lines, r)
		}
		close(q.granted)
	}
}

// giveBack ends what was granted to q.
func (b *Budget[K]) giveBack(key K, r *reader, q *request) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.held -= q.bytes
	r.held -= q.bytes
	b.forget(key, r)
	b.serve()
}

// withdraw takes q back, which may have been granted by now.
func (b *Budget[K]) withdraw(key K, r *reader, q *request) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if i := slices.Index(r.requests, q); i >= 0 {
		r.requests = slices.Delete(r.requests, i, i+1)
		if len(r.requests) == 0 {
			b.lines = slices.DeleteFunc(b.lines, func(x *reader) bool { return x == r })
		}
	} else {
		b.held -= q.bytes
		r.held -= q.bytes
	}
	b.forget(key, r)
	b.serve() // q may have held up others
}

// forget drops a reader that neither holds nor waits. b.mu is held.
func (b *Budget[K]) forget(key K, r *reader) {
	if r.held == 0 && len(r.requests) == 0 {
		delete(b.readers, key)
	}
}
