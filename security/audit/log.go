package audit

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"rustmq.dev/rustmq/storage/guard"
)

// Sink makes records durable.
type Sink interface {
	// Append returns once the records are durable, in order, and where the first of them
	// is. A group that it gave an error for is given again, the same, until it succeeds:
	// it is appended once all the same. It blocks until ctx ends.
	Append(ctx context.Context, records [][]byte) (first int64, err error)
}

// Options of a Log.
type Options struct {
	Node   int32
	Before *Head // what is known of the node's life before; nil: nothing
	Policy Policy
	// Block has Admit refuse acts while nothing can be recorded; otherwise what cannot be
	// is counted, and the log says how much that was once it can.
	Block bool
	// Memory is what events that wait to be written may take, in bytes; 0: DefaultMemory.
	Memory int64
	// Remember keeps how far the life has come, for [Options.Before] of the next; it is
	// called at most once a second. nil: nothing is kept.
	Remember func(Head) error
	Log      *slog.Logger     // nil: none
	Now      func() time.Time // nil: time.Now
}

// DefaultMemory has room for some ten thousand events.
const DefaultMemory = 8 << 20

// patience is how long a group may be under way until the log counts as one that cannot be
// written: an election of the topic's leader takes less.
const patience = 10 * time.Second

// ErrBlocked is in the error of Admit.
var ErrBlocked = errors.New("the audit log cannot be written, and security.audit.on_full is block")

// Stats is a moment of a log.
type Stats struct {
	Events  map[Outcome]int64 // recorded, each of those that are folded too
	Written int64             // records
	Lost    int64             // events that found no room in memory
	Queued  int               // records that wait
	Failing time.Duration     // for how long writing has not succeeded; 0: it does
	Err     error             // why
}

// Log is the account of one process. The zero Log is not usable.
type Log struct {
	o     Options
	wake  chan struct{}
	ended chan struct{}      // closed when the writer has
	stop  context.CancelFunc // of the writer; nil: it was not started
	w     writer

	mu      sync.Mutex
	folder  *folder           // guarded by mu
	queue   []Event           // guarded by mu
	memory  int64             // of queue, and of what is being written; guarded by mu
	lost    int64             // since the last gap was told; guarded by mu
	stats   Stats             // guarded by mu
	counts  [Failed + 1]int64 // guarded by mu
	since   time.Time         // when the group under way was first tried; zero: none is; guarded by mu
	head    *Head             // nil: nothing is written; guarded by mu
	closing bool              // guarded by mu
}

// New returns a log that queues what is recorded until Start.
func New(o Options) *Log {
	if o.Memory == 0 {
		o.Memory = DefaultMemory
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	var life [16]byte
	_, _ = rand.Read(life[:]) // never fails
	return &Log{
		o: o, wake: make(chan struct{}, 1), ended: make(chan struct{}), folder: newFolder(),
		w: writer{chain: chain{node: o.Node, life: hex.EncodeToString(life[:])}, kept: -1},
	}
}

// Record implements [Recorder]. An event of a class that the policy leaves out is nothing.
func (l *Log) Record(e Event) {
	e, wanted := l.o.Policy.Filter(e)
	if !wanted {
		return
	}
	now := l.o.Now()
	e.Node = l.o.Node
	if e.Time.IsZero() {
		e.Time = now
	}
	l.mu.Lock()
	l.counts[e.Outcome]++
	if l.folder.take(now, &e) {
		l.push(e)
	}
	l.mu.Unlock()
	l.signal()
}

// push queues e, if there is room. l.mu is held.
func (l *Log) push(e Event) {
	size := e.size()
	if !guard.Check("audit.memory", l.memory+size <= l.o.Memory) {
		n := max(e.Count, 1)
		l.lost += n
		l.stats.Lost += n
		return
	}
	l.memory += size
	l.queue = append(l.queue, e)
}

func (l *Log) signal() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// Admit implements [Recorder].
func (l *Log) Admit() error {
	if !l.o.Block || l.o.Policy.Empty() {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.refusing(); !guard.Check("audit.block", err == nil) {
		return fmt.Errorf("%w: %w", ErrBlocked, err)
	}
	return nil
}

// refusing says why an event might not be recorded that comes now. l.mu is held.
func (l *Log) refusing() error {
	switch {
	case l.stats.Err != nil:
		return l.stats.Err
	case l.memory > l.o.Memory/2:
		return fmt.Errorf("%d events wait to be written", len(l.queue))
	case !l.since.IsZero() && l.o.Now().Sub(l.since) > patience:
		return fmt.Errorf("nothing was written for %v", l.o.Now().Sub(l.since).Round(time.Second))
	}
	return nil
}

// Stats returns the present figures.
func (l *Log) Stats() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.stats
	s.Events = map[Outcome]int64{}
	for _, o := range Outcomes() {
		s.Events[o] = l.counts[o]
	}
	s.Queued = len(l.queue)
	if !l.since.IsZero() && (s.Err != nil || l.o.Now().Sub(l.since) > patience) {
		s.Failing = l.o.Now().Sub(l.since)
	}
	return s
}

// Head is the newest record that was written; false: none was.
func (l *Log) Head() (Head, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.head == nil {
		return Head{}, false
	}
	return *l.head, true
}
