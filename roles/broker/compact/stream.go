package compact

import (
	"context"
	"sync"

	"rustmq.dev/rustmq/roles/broker/tiering"
	"rustmq.dev/rustmq/storage"
)

// readsAhead is how many reads are under way, or done, beyond the one that is
// needed, if memory allows.
const readsAhead = 8

// stream does reads in the order in which they are needed, some ahead. It is used
// by one goroutine. The reads run in goroutines of their own, which wait for their
// turn and block on the bucket; end awaits them.
type stream struct {
	ctx    context.Context
	cancel context.CancelFunc
	pace   *tiering.Bandwidth
	fill   func(ctx context.Context, id storage.ObjectID, p []byte, at int64) error
	memory int64
	reads  []read
	under  sync.WaitGroup

	results []result
	next    int   // the first that is not begun
	held    int64 // bytes of those that are begun and not released
}

type result struct {
	done chan struct{} // closed when data or err are there
	data []byte
	err  error
	uses int // that are left
}

// newStream reads from fill, at the pace given, and holds about memory bytes.
func newStream(ctx context.Context, reads []read, memory int64, pace *tiering.Bandwidth, fill func(context.Context, storage.ObjectID, []byte, int64) error) *stream {
	s := &stream{pace: pace, fill: fill, memory: memory, reads: reads, results: make([]result, len(reads))}
	s.ctx, s.cancel = context.WithCancel(ctx)
	return s
}

// end gives up what is under way.
func (s *stream) end() {
	s.cancel()
	s.under.Wait()
}

// get returns what read i gave, which stays until it is released.
func (s *stream) get(i int) ([]byte, error) {
	for s.next < len(s.reads) && (s.next <= i || s.next <= i+readsAhead && s.held+s.reads[s.next].length <= s.memory) {
		s.begin(s.next)
		s.next++
	}
	<-s.results[i].done
	return s.results[i].data, s.results[i].err
}

func (s *stream) begin(i int) {
	r, to := &s.reads[i], &s.results[i]
	to.done, to.uses = make(chan struct{}), r.uses
	s.held += r.length
	// Taken here, so that reads have their turns in order: an upload in which nothing
	// moves for long is given up.
	turn := s.pace.Take(r.length)
	s.under.Go(func() {
		defer close(to.done)
		if to.err = turn.Wait(s.ctx); to.err != nil {
			return
		}
		p := make([]byte, r.length)
		if to.err = s.fill(s.ctx, r.object, p, r.position); to.err == nil {
			to.data = p
		}
	})
}

// release says that one use of read i is over; the last one frees it.
func (s *stream) release(i int) {
	if s.results[i].uses--; s.results[i].uses == 0 {
		s.held -= s.reads[i].length
		s.results[i].data = nil
	}
}
