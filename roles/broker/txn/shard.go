package txn

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
)

const (
	// A log that could not be read is read again after this time.
	loadRetry = time.Second

	// What one batch of the log may expand to.
	maxBatch = 128 << 20

	// About how many bytes of records go into one batch. A batch is refused as a
	// whole, so it must not come near what a topic takes; only a single record
	// that is larger has one for itself.
	maxWrite = 128 << 10
)

// shard runs the core of one partition under one leader epoch, for as long as
// this broker leads it. Its goroutine owns all but the inbox.
type shard struct {
	c         *Coordinator
	partition int32
	epoch     storage.Epoch
	ctx       context.Context // ends with the leadership
	stop      context.CancelFunc
	after     *shard        // the one before; what it appends comes before the log is read
	settled   chan struct{} // closed when it has ended, and its last append with it
	ready     atomic.Bool   // loaded

	mu      sync.Mutex // guards inbox, waiting, appends and closed
	inbox   []message
	waiting int // requests in inbox
	appends int // not completed
	closed  bool
	wake    chan struct{} // holds a token while the inbox is not empty

	core    *Core
	calls   map[Call]waiter
	call    Call
	ids     int // as counted in the coordinator's totals
	open    int
	bytes   int64
	builder *batch.Builder
	writes  []WriteID // of the records in builder

	compaction compaction
}

// message is a request, or what became of something that a step asked for.
type message struct {
	ctx      context.Context
	body     any
	waiter   waiter
	event    Event // Marked or GotID
	appended *completion
	trimmed  *trimmed
}

// completion tells the fate of a batch. One of a snapshot holds no writes.
type completion struct {
	seq  uint64 // of the append
	ids  []WriteID
	next storage.Offset // behind it in the log
	err  error
}

// waiter is whoever asked: exactly one of the two is called, once.
type waiter struct {
	done   func(any)
	refuse func(code int16)
}

func newShard(c *Coordinator, partition int32, epoch storage.Epoch, after *shard) *shard {
	s := &shard{
		c: c, partition: partition, epoch: epoch, after: after,
		settled: make(chan struct{}), wake: make(chan struct{}, 1),
		calls: map[Call]waiter{}, builder: new(batch.Builder),
	}
	s.ctx, s.stop = context.WithCancel(c.ctx)
	return s
}

// submit puts a request into the inbox, or refuses it.
func (s *shard) submit(ctx context.Context, body any, done func(any), refuse func(code int16)) {
	if !s.ready.Load() {
		code := kerr.CoordinatorLoadInProgress.Code
		if s.ctx.Err() != nil {
			code = kerr.NotCoordinator.Code
		}
		refuse(code)
		return
	}
	s.mu.Lock()
	closed, full := s.closed, s.waiting >= s.c.opt.MaxQueue
	if !closed && !full {
		s.waiting++
		s.inbox = append(s.inbox, message{ctx: ctx, body: body, waiter: waiter{done, refuse}})
	}
	s.mu.Unlock()
	switch {
	case closed:
		refuse(kerr.NotCoordinator.Code)
	case full:
		refuse(kerr.CoordinatorNotAvailable.Code)
	default:
		s.signal()
	}
}

// post puts what is not a request into the inbox; after the end it is ignored.
func (s *shard) post(m message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.inbox = append(s.inbox, m)
		s.signal()
	}
}

// completed puts the completion of an append into the inbox; after the end all
// that counts is that it is over.
func (s *shard) completed(c completion) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.appends--
	if !s.closed {
		s.inbox = append(s.inbox, message{appended: &c})
		s.signal()
	} else if s.appends == 0 {
		close(s.settled)
	}
}

func (s *shard) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *shard) take() []message {
	s.mu.Lock()
	defer s.mu.Unlock()
	got := s.inbox
	s.inbox, s.waiting = nil, 0
	return got
}

// loop blocks on the log while it loads, then on its inbox and its timer.
func (s *shard) loop() {
	defer s.end()
	if !s.awaitPredecessor() || !s.load() {
		return
	}
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		// What a step asked for is appended before the next wait, together.
		s.flush()
		s.compact(time.Now())
		s.count()
		if at := s.wakeAt(); at.IsZero() {
			timer.Stop()
		} else {
			timer.Reset(time.Until(at))
		}
		select {
		case <-s.ctx.Done():
			return
		case <-timer.C:
		case <-s.wake:
		}
		for _, m := range s.take() {
			s.handle(m)
		}
		if at := s.core.Deadline(); !at.IsZero() && !time.Now().Before(at) {
			s.step(Tick{})
		}
	}
}

// wakeAt is when there is something to do though nothing comes in; zero: never.
func (s *shard) wakeAt() time.Time {
	at, retry := s.core.Deadline(), s.compaction.retry
	if at.IsZero() || !retry.IsZero() && retry.Before(at) {
		return retry
	}
	return at
}

// awaitPredecessor waits for the shards before, so that the log holds all that
// they have appended; false: the end came first.
func (s *shard) awaitPredecessor() bool {
	for ; s.after != nil; s.after = s.after.after {
		select {
		case <-s.after.settled:
		case <-s.ctx.Done():
			return false
		}
	}
	return true
}

func (s *shard) handle(m message) {
	switch {
	case m.appended != nil:
		s.appended(m.appended)
	case m.trimmed != nil:
		s.trimDone(time.Now(), m.trimmed.err)
	case m.event != nil:
		s.step(m.event)
	case m.ctx.Err() != nil:
		m.waiter.refuse(kerr.CoordinatorNotAvailable.Code) // nobody hears it
	default:
		s.call++
		s.calls[s.call] = m.waiter
		s.step(Request{Call: s.call, Full: s.c.full(), Body: m.body})
		s.count()
	}
}

func (s *shard) step(ev Event) { s.perform(s.core.Step(time.Now(), s.c.opt.Now(), ev)) }

// perform answers, collects what is to be written and asks for what is needed.
func (s *shard) perform(fx Effects) {
	for _, a := range fx.Answers {
		w := s.calls[a.Call]
		delete(s.calls, a.Call)
		w.done(a.Body)
	}
	for _, w := range fx.Writes {
		if s.builder.Len() > 0 && s.builder.Size()+len(w.Key)+len(w.Value) > maxWrite {
			s.flush()
		}
		s.builder.Add(s.c.opt.Now().UnixMilli(), w.Key, w.Value)
		s.writes = append(s.writes, w.ID)
	}
	for _, m := range fx.Markers {
		m.Marker.CoordinatorEpoch = s.epoch
		s.c.opt.Markers.WriteMarkers(m.Marker, func(left []Partition) {
			s.post(message{event: Marked{m.TransactionalID, left}})
		})
	}
	for range fx.NeedIDs {
		s.c.opt.NewProducerID(func(id int64, err error) { s.post(message{event: GotID{id, err}}) })
	}
	for _, n := range fx.Notes {
		s.c.opt.Logger.Info(n.What, "transactional-id", n.TransactionalID, "producer", n.ProducerID, "producer-epoch", n.ProducerEpoch, "state", n.State.String())
	}
}

// flush appends what was collected as one batch.
func (s *shard) flush() {
	if len(s.writes) == 0 {
		return
	}
	ids := s.writes
	s.writes = nil
	s.append(completion{ids: ids})
}

// append appends the batch that is built; done, completed, will come back by the
// inbox.
func (s *shard) append(done completion) {
	b, err := s.builder.Build()
	s.builder.Reset(batch.BuilderOptions{})
	done.seq = s.compaction.appending(len(b))
	s.mu.Lock()
	s.appends++
	s.mu.Unlock()
	if err != nil {
		done.err = err
		s.completed(done)
		return
	}
	s.c.opt.Log.Append(s.partition, s.epoch, b, func(next storage.Offset, err error) {
		if err != nil {
			s.c.opt.Logger.Error("transaction records could not be written", "partition", s.partition, "epoch", s.epoch, "error", err)
		}
		done.next, done.err = next, err
		s.completed(done)
	})
}

// appended tells the compaction, and the core, what became of a batch.
func (s *shard) appended(done *completion) {
	s.compaction.appended(done)
	if done.ids != nil {
		s.step(Written{IDs: done.ids, Err: done.err})
	}
}

// count brings the coordinator's totals up to date.
func (s *shard) count() {
	ids, bytes := s.core.Size()
	open := s.core.Open()
	s.c.ids.Add(int64(ids - s.ids))
	s.c.open.Add(int64(open - s.open))
	s.c.bytes.Add(bytes - s.bytes)
	s.ids, s.open, s.bytes = ids, open, bytes
}

// load reads the log into a new core until that succeeds; false: the end came
// first.
func (s *shard) load() bool {
	retry := time.NewTimer(0)
	defer retry.Stop()
	for attempt := 0; ; attempt++ {
		select {
		case <-s.ctx.Done():
			return false
		case <-retry.C:
		}
		begin := time.Now()
		core, records, log, err := s.replay()
		if err == nil {
			s.core, s.compaction = core, log
			s.perform(core.Loaded(time.Now(), s.c.opt.Now()))
			s.count()
			s.ready.Store(true)
			s.c.opt.Logger.Debug("transaction coordinator loaded", "partition", s.partition, "epoch", s.epoch,
				"records", records, "ids", s.ids, "open", s.open, "skipped", core.Skipped(), "took", time.Since(begin))
			return true
		}
		if s.ctx.Err() == nil && attempt == 0 {
			s.c.opt.Logger.Error("transactions cannot be loaded; trying on", "partition", s.partition, "epoch", s.epoch, "error", err)
		}
		retry.Reset(loadRetry)
	}
}

func (s *shard) replay() (core *Core, records int, log compaction, err error) {
	core = NewCore(s.c.opt)
	err = s.c.opt.Log.Read(s.ctx, s.partition, s.epoch, func(b batch.Batch) error {
		log.grown += int64(len(b)) + batchOverhead
		log.end = b.NextOffset()
		if b.IsControl() {
			return nil
		}
		it := b.Records(maxBatch)
		for it.Next() {
			r := it.Record()
			records++
			if err := core.Replay(r.Key, r.Value); err != nil {
				return &RecordError{Partition: s.partition, Offset: r.Offset, Err: err}
			}
		}
		return it.Err()
	})
	return core, records, log, err
}

// end leaves nobody waiting.
func (s *shard) end() {
	s.mu.Lock()
	s.closed = true
	rest := s.inbox
	s.inbox = nil
	if s.appends == 0 {
		close(s.settled)
	}
	s.mu.Unlock()
	for _, m := range rest {
		if m.waiter.refuse != nil {
			m.waiter.refuse(kerr.NotCoordinator.Code)
		}
	}
	for _, w := range s.calls {
		w.refuse(kerr.NotCoordinator.Code)
	}
	s.core, s.calls, s.builder = nil, nil, nil
	s.c.ids.Add(-int64(s.ids))
	s.c.open.Add(-int64(s.open))
	s.c.bytes.Add(-s.bytes)
}

// codeOf is the error code for a write that failed; tooLarge is what stands for
// a batch that the topic does not take.
func codeOf(err error, tooLarge int16) int16 {
	var invalid *batch.Error
	switch {
	case err == nil:
		return 0
	case errors.Is(err, ErrNotLeader):
		return kerr.NotCoordinator.Code
	case errors.Is(err, ErrTooLarge), errors.As(err, &invalid) && invalid.Code == batch.MessageTooLarge:
		return tooLarge
	}
	return kerr.CoordinatorNotAvailable.Code
}
