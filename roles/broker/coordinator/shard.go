package coordinator

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"rustmq.dev/rustmq/storage"
)

// LoadRetry is after how long a log that could not be read is read again.
const LoadRetry = time.Second

// Shard is one partition under one leader epoch, for as long as this broker leads
// it. A runner embeds it.
type Shard[R any] struct {
	Partition int32
	Epoch     storage.Epoch
	Context   context.Context // ends with the leadership

	opt     Options
	stop    context.CancelFunc
	after   *Shard[R]     // the one before; what it appends comes before the log is read
	settled chan struct{} // closed when it has ended, and its last append with it
	ready   atomic.Bool   // loaded
	loaded  chan struct{} // closed then

	mu      sync.Mutex // guards inbox, waiting, appends and closed
	inbox   []message[R]
	waiting int // requests in inbox
	appends int // not completed
	closed  bool
	wake    chan struct{} // holds a token while the inbox is not empty

	// The goroutine's own.
	timer *time.Timer
	calls map[uint64]waiter // served, not answered
	call  uint64            // the last
}

// message is a request, or what is to be run.
type message[R any] struct {
	run     func() // nil: a request
	ctx     context.Context
	request R
	waiter  waiter
}

// waiter is whoever asked: exactly one of the two is called, once.
type waiter struct {
	done   func(any)
	refuse func(code int16)
}

func newShard[R any](opt Options, partition int32, epoch storage.Epoch, after *Shard[R]) *Shard[R] {
	s := &Shard[R]{
		Partition: partition, Epoch: epoch, opt: opt, after: after,
		settled: make(chan struct{}), loaded: make(chan struct{}), wake: make(chan struct{}, 1), calls: map[uint64]waiter{},
	}
	s.Context, s.stop = context.WithCancel(context.Background())
	return s
}

// Submit puts a request into the inbox, or refuses it.
func (s *Shard[R]) Submit(ctx context.Context, request R, done func(any), refuse func(code int16)) {
	if !s.ready.Load() {
		code := kerr.CoordinatorLoadInProgress.Code
		if s.Context.Err() != nil {
			code = kerr.NotCoordinator.Code
		}
		refuse(code)
		return
	}
	s.mu.Lock()
	closed, full := s.closed, s.waiting >= s.opt.MaxQueue
	if !closed && !full {
		s.waiting++
		s.inbox = append(s.inbox, message[R]{ctx: ctx, request: request, waiter: waiter{done, refuse}})
	}
	s.mu.Unlock()
	switch {
	case closed:
		refuse(kerr.NotCoordinator.Code)
	case full:
		refuse(kerr.CoordinatorNotAvailable.Code)
	default:
		s.Wake()
	}
}

// Post has the shard's goroutine run something; after the end it is ignored.
func (s *Shard[R]) Post(run func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.post(run)
}

func (s *Shard[R]) post(run func()) {
	if !s.closed {
		s.inbox = append(s.inbox, message[R]{run: run})
		s.Wake()
	}
}

// Appending notes that an append begins: [Shard.Appended] must be called when it is
// over, whatever became of it.
func (s *Shard[R]) Appending() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.appends++
}

// Appended posts what is to be run when an append is over; after the end all that
// counts is that it is.
func (s *Shard[R]) Appended(run func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.appends--
	s.post(run)
	s.settle()
}

// settle tells the successor when there is nothing more to come.
func (s *Shard[R]) settle() {
	if s.closed && s.appends == 0 {
		close(s.settled)
	}
}

// Wake lets Wait return though nothing came in.
func (s *Shard[R]) Wake() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// live is the shard's goroutine.
func (s *Shard[R]) live(r Runner) {
	defer s.end(r)
	if !s.awaitPredecessor() || !s.load(r) {
		return
	}
	s.timer = time.NewTimer(time.Hour)
	defer s.timer.Stop()
	r.Run()
}

// awaitPredecessor waits for the shards before, so that the log holds all that
// they have appended; false: the end came first.
func (s *Shard[R]) awaitPredecessor() bool {
	for ; s.after != nil; s.after = s.after.after {
		select {
		case <-s.after.settled:
		case <-s.Context.Done():
			return false
		}
	}
	return true
}

// load reads the log until that succeeds; false: the end came first.
func (s *Shard[R]) load(r Runner) bool {
	retry := time.NewTimer(0)
	defer retry.Stop()
	for attempt := 0; ; attempt++ {
		select {
		case <-s.Context.Done():
			return false
		case <-retry.C:
		}
		err := r.Load()
		if err == nil {
			s.ready.Store(true)
			close(s.loaded)
			return true
		}
		if s.Context.Err() == nil && attempt == 0 {
			s.opt.Logger.Error(s.opt.What+" cannot be loaded; trying on", "partition", s.Partition, "epoch", s.Epoch, "error", err)
		}
		retry.Reset(LoadRetry)
	}
}

// Wait returns when something came in, or at the first of the times given, of which
// zero ones are none; false: the end has come.
func (s *Shard[R]) Wait(alarms ...time.Time) bool {
	var first time.Time
	for _, at := range alarms {
		if first.IsZero() || !at.IsZero() && at.Before(first) {
			first = at
		}
	}
	if first.IsZero() {
		s.timer.Stop()
	} else {
		s.timer.Reset(time.Until(first))
	}
	select {
	case <-s.Context.Done():
		return false
	case <-s.timer.C:
	case <-s.wake:
	}
	return true
}

// Serve takes what is in the inbox, in order: it runs what was posted, and begins
// requests. Each is to be answered by [Shard.Answer], now or later. It stops at the end
// of the leadership, which does not wait for what came before: the rest is refused.
func (s *Shard[R]) Serve(begin func(call uint64, request R)) {
	s.mu.Lock()
	inbox := s.inbox
	s.inbox, s.waiting = nil, 0
	s.mu.Unlock()
	for i, m := range inbox {
		switch {
		case s.Context.Err() != nil:
			s.mu.Lock()
			s.inbox = append(inbox[i:], s.inbox...)
			s.mu.Unlock()
			return
		case m.run != nil:
			m.run()
		case m.ctx.Err() != nil:
			m.waiter.refuse(kerr.CoordinatorNotAvailable.Code) // nobody hears it
		default:
			s.call++
			s.calls[s.call] = m.waiter
			begin(s.call, m.request)
		}
	}
}

// Answer answers a request that was begun.
func (s *Shard[R]) Answer(call uint64, body any) {
	w := s.calls[call]
	delete(s.calls, call)
	w.done(body)
}

// end leaves nobody waiting.
func (s *Shard[R]) end(r Runner) {
	s.mu.Lock()
	s.closed = true
	rest := s.inbox
	s.inbox = nil
	s.settle()
	s.mu.Unlock()
	for _, m := range rest {
		if m.run == nil {
			m.waiter.refuse(kerr.NotCoordinator.Code)
		}
	}
	for _, w := range s.calls {
		w.refuse(kerr.NotCoordinator.Code)
	}
	s.calls = nil
	r.End()
}
