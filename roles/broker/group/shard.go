package group

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/guard"
	"rustmq.dev/rustmq/storage/log"
)

const (
	// A log that could not be read is read again after this time.
	loadRetry = time.Second

	// What one batch of the log may expand to.
	maxBatch = 128 << 20
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
	loaded    chan struct{} // closed then

	mu      sync.Mutex // guards inbox, waiting, appends and closed
	inbox   []message
	waiting int // requests in inbox
	appends int // not completed
	closed  bool
	wake    chan struct{} // holds a token while the inbox is not empty

	expireAt  time.Time // when it is next looked for offsets that have expired
	core      *Core
	catalogue Catalogue // that the core knows
	calls     map[Call]waiter
	call      Call
	groups    int // as counted in the coordinator's totals
	bytes     int64
	builder   *batch.Builder
	writes    []WriteID // of the records in builder

	inFlight   int         // appends whose completion was not handled
	held       []heldWrite // batches that wait for a step of the snapshot
	compaction compaction
}

// message is a request, the completion of an append or a trim, or tells of a topic that
// was deleted.
type message struct {
	ctx      context.Context
	request  Request
	waiter   waiter
	appended *completion
	trimmed  *trimmed
	deleted  string
}

// completion tells the fate of a batch. One of a snapshot holds no writes.
type completion struct {
	ids  []WriteID
	next storage.Offset // behind it in the log
	err  error
}

// heldWrite is a batch, or a marker, that is to be appended.
type heldWrite struct {
	ids      []WriteID
	batch    batch.Batch
	verified log.Guard
	marker   *log.Marker
}

// waiter is whoever asked: exactly one of the two is called, once.
type waiter struct {
	done   func(any)
	refuse func(code int16)
}

func newShard(c *Coordinator, partition int32, epoch storage.Epoch, after *shard) *shard {
	s := &shard{
		c: c, partition: partition, epoch: epoch, after: after,
		settled: make(chan struct{}), loaded: make(chan struct{}), wake: make(chan struct{}, 1),
		calls: map[Call]waiter{}, builder: new(batch.Builder),
	}
	s.ctx, s.stop = context.WithCancel(c.ctx)
	return s
}

// submit puts a request into the inbox, or refuses it.
func (s *shard) submit(ctx context.Context, r Request, done func(any), refuse func(code int16)) {
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
		s.inbox = append(s.inbox, message{ctx: ctx, request: r, waiter: waiter{done, refuse}})
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

// topicDeleted puts into the inbox that a topic was deleted, however many requests wait
// and while the log is read: nobody says so again.
func (s *shard) topicDeleted(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.inbox = append(s.inbox, message{deleted: name})
		s.signal()
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
	s.expireAt = time.Now().Add(s.c.opt.OffsetCheck)
	s.forgetGone()
	for {
		timer.Reset(time.Until(s.wakeAt()))
		select {
		case <-s.ctx.Done():
			return
		case <-timer.C:
		case <-s.wake:
		}
		s.lookAround()
		// Heartbeats that came in time count, however late it is now.
		for _, m := range s.take() {
			s.handle(m)
		}
		if now := time.Now(); !now.Before(s.deadline(now)) {
			s.perform(s.core.Step(now, Tick{Wall: s.c.opt.Now()}))
		}
		if now := time.Now(); !now.Before(s.expireAt) {
			s.expireAt = now.Add(s.c.opt.OffsetCheck)
			s.forgetGone()
			s.perform(s.core.Step(now, ExpireOffsets{Wall: s.c.opt.Now()}))
		}
		s.flush()
		s.compact(time.Now())
		s.count()
	}
}

// lookAround tells the core which topics there are, if they are others than before.
func (s *shard) lookAround() {
	now := s.c.opt.Catalogue()
	if s.catalogue != nil && s.catalogue.Version() == now.Version() {
		return
	}
	s.catalogue = now
	s.perform(s.core.Step(time.Now(), TopicsChanged{Wall: s.c.opt.Now(), Catalogue: now}))
}

// forgetGone forgets the offsets of topics that were deleted while nobody was told, or
// could write it down. One that was made anew before that is there, and keeps what was
// committed for the one before it: records do not say which it was.
func (s *shard) forgetGone() {
	if topics := s.c.opt.Topics; topics != nil {
		s.forget(func(topic string) bool { return guard.Check("group.topic-gone", topics.Gone(topic)) })
	}
}

func (s *shard) forget(gone func(topic string) bool) {
	s.perform(s.core.Step(time.Now(), ForgetTopics{Wall: s.c.opt.Now(), Gone: gone}))
}

// wakeAt is when there is something to do though nothing comes in.
func (s *shard) wakeAt() time.Time {
	next := s.expireAt
	for _, at := range []time.Time{s.core.Deadline(), s.compaction.retry} {
		if !at.IsZero() && at.Before(next) {
			next = at
		}
	}
	return next
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

// deadline is the core's, or a moment after now when there is none.
func (s *shard) deadline(now time.Time) time.Time {
	if d := s.core.Deadline(); !d.IsZero() {
		return d
	}
	return now.Add(1)
}

func (s *shard) handle(m message) {
	switch {
	case m.appended != nil:
		s.appended(m.appended)
		return
	case m.trimmed != nil:
		s.trimDone(time.Now(), m.trimmed.err)
		return
	case m.deleted != "":
		s.forget(func(topic string) bool { return topic == m.deleted })
		return
	}
	if m.ctx.Err() != nil {
		m.waiter.refuse(kerr.CoordinatorNotAvailable.Code) // nobody hears it
		return
	}
	s.call++
	m.request.Call, m.request.Wall, m.request.Full = s.call, s.c.opt.Now(), s.c.full()
	s.calls[s.call] = m.waiter
	s.perform(s.core.Step(time.Now(), m.request))
	s.count()
}

// perform answers, and collects what is to be written.
func (s *shard) perform(fx Effects) {
	for _, a := range fx.Answers {
		w := s.calls[a.Call]
		delete(s.calls, a.Call)
		w.done(a.Body)
	}
	for _, w := range fx.Writes {
		if w.Txn != nil || w.Marker != nil {
			s.flush()
			s.writeTransactional(w)
			continue
		}
		size := 0
		for _, r := range w.Records {
			size += len(r.Key) + len(r.Value)
		}
		if s.builder.Len() > 0 && s.builder.Size()+size > maxWrite {
			s.flush()
		}
		now := s.c.opt.Now().UnixMilli()
		for _, r := range w.Records {
			s.builder.Add(now, r.Key, r.Value)
		}
		s.writes = append(s.writes, w.ID)
	}
	for _, n := range fx.Notes {
		s.c.opt.Logger.Info(n.What, "group", n.Group, "generation", n.Generation, "members", n.Members, "member", n.Member)
	}
}

// flush appends what was collected as one batch.
func (s *shard) flush() {
	if len(s.writes) == 0 {
		return
	}
	ids := s.writes
	b, err := s.builder.Build()
	s.writes = nil
	s.builder.Reset(batch.BuilderOptions{})
	s.appendOrHold(heldWrite{ids: ids, batch: b}, err)
}

// writeTransactional appends what is part of a transaction, or its end: a batch of
// its own.
func (s *shard) writeTransactional(w Write) {
	h := heldWrite{ids: []WriteID{w.ID}, marker: w.Marker}
	var err error
	if w.Txn != nil {
		h.verified = w.Txn.Verified
		h.batch, err = s.transactional(w)
	}
	s.appendOrHold(h, err)
}

// transactional builds the batch of a write in a transaction. It has no sequence
// number, as in Kafka: each is sent once.
func (s *shard) transactional(w Write) (batch.Batch, error) {
	b := batch.NewBuilder(batch.BuilderOptions{
		Producer:      &batch.Producer{ID: w.Txn.ProducerID, Epoch: w.Txn.ProducerEpoch, BaseSequence: -1},
		Transactional: true,
	})
	now := s.c.opt.Now().UnixMilli()
	for _, r := range w.Records {
		b.Add(now, r.Key, r.Value)
	}
	return b.Build()
}

// appendOrHold appends, unless a snapshot comes first. failed says why there is
// nothing to append.
func (s *shard) appendOrHold(h heldWrite, failed error) {
	if failed == nil && (s.compaction.holds() || len(s.held) > 0) {
		s.held = append(s.held, h)
		return
	}
	s.append(completion{ids: h.ids}, h, failed)
}

// appendHeld appends what was held back, in order.
func (s *shard) appendHeld() {
	for _, h := range s.held {
		s.append(completion{ids: h.ids}, h, nil)
	}
	s.held = nil
}

// append appends a batch or a marker; done, completed, will come back by the
// inbox. failed says why there is none.
func (s *shard) append(done completion, h heldWrite, failed error) {
	s.inFlight++
	s.mu.Lock()
	s.appends++
	s.mu.Unlock()
	if failed != nil {
		done.err = failed
		s.completed(done)
		return
	}
	over := func(next storage.Offset, err error) {
		if err != nil {
			s.c.opt.Logger.Error("group records could not be written", "partition", s.partition, "epoch", s.epoch, "error", err)
		}
		done.next, done.err = next, err
		s.completed(done)
	}
	if h.marker != nil {
		s.compaction.grown += batch.MarkerSize + batchOverhead
		s.c.opt.Log.AppendMarker(s.partition, s.epoch, *h.marker, over)
		return
	}
	s.compaction.grown += int64(len(h.batch)) + batchOverhead
	s.c.opt.Log.Append(s.partition, s.epoch, h.batch, h.verified, over)
}

// appended tells the core, or the compaction, what became of a batch.
func (s *shard) appended(done *completion) {
	s.inFlight--
	if done.err == nil {
		s.compaction.end = max(s.compaction.end, done.next)
	}
	if done.ids == nil {
		s.snapshotted(done.err)
		return
	}
	s.perform(s.core.Step(time.Now(), Written{IDs: done.ids, Err: done.err}))
}

// count brings the coordinator's totals up to date.
func (s *shard) count() {
	groups, bytes := s.core.Size()
	if groups != s.groups {
		s.c.groups.Add(int64(groups - s.groups))
	}
	if bytes != s.bytes {
		s.c.bytes.Add(bytes - s.bytes)
	}
	s.groups, s.bytes = groups, bytes
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
			s.compaction = log
			core.Loaded(time.Now())
			s.core = core
			s.count()
			s.ready.Store(true)
			close(s.loaded)
			s.signal() // to look at the topics
			s.c.opt.Logger.Debug("group coordinator loaded", "partition", s.partition, "epoch", s.epoch,
				"records", records, "groups", s.groups, "skipped", core.Skipped(), "took", time.Since(begin))
			return true
		}
		if s.ctx.Err() == nil && attempt == 0 {
			s.c.opt.Logger.Error("groups cannot be loaded; trying on", "partition", s.partition, "epoch", s.epoch, "error", err)
		}
		retry.Reset(loadRetry)
	}
}

func (s *shard) replay() (core *Core, records int, grown compaction, err error) {
	core = NewCore(s.c.opt)
	err = s.c.opt.Log.Read(s.ctx, s.partition, s.epoch, func(b batch.Batch) error {
		grown.grown += int64(len(b)) + batchOverhead
		grown.end = b.NextOffset()
		if b.IsControl() {
			if m, ok := batch.ReadMarker(b); ok {
				core.ReplayMarker(b.ProducerID(), m.Commit)
			}
			return nil
		}
		it := b.Records(maxBatch)
		for it.Next() {
			r := it.Record()
			records++
			replay := core.Replay
			if b.IsTransactional() {
				replay = func(key, value []byte) error {
					return core.ReplayTransactional(b.ProducerID(), b.ProducerEpoch(), key, value)
				}
			}
			if err := replay(r.Key, r.Value); err != nil {
				return &RecordError{Partition: s.partition, Offset: r.Offset, Err: err}
			}
		}
		return it.Err()
	})
	return core, records, grown, err
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
		if m.appended == nil && m.trimmed == nil && m.deleted == "" {
			m.waiter.refuse(kerr.NotCoordinator.Code)
		}
	}
	for _, w := range s.calls {
		w.refuse(kerr.NotCoordinator.Code)
	}
	s.core, s.calls, s.builder, s.held = nil, nil, nil, nil
	s.c.groups.Add(-int64(s.groups))
	s.c.bytes.Add(-s.bytes)
}

// codeOf is the error code for a write that failed; tooLarge is what stands for
// a batch that the topic does not take.
func codeOf(err error, tooLarge int16) int16 {
	var invalid *batch.Error
	var kafka *kerr.Error
	switch {
	case err == nil:
		return 0
	case errors.Is(err, ErrNotLeader):
		return kerr.NotCoordinator.Code
	case errors.Is(err, ErrTooLarge), errors.As(err, &invalid) && invalid.Code == batch.MessageTooLarge:
		return tooLarge
	case errors.As(err, &kafka):
		switch kafka {
		case kerr.NotLeaderForPartition, kerr.FencedLeaderEpoch, kerr.NotCoordinator:
			return kerr.NotCoordinator.Code
		case kerr.InvalidProducerEpoch, kerr.InvalidTxnState, kerr.TransactionAbortable:
			return kafka.Code
		case kerr.MessageTooLarge, kerr.RecordListTooLarge, kerr.InvalidFetchSize:
			return tooLarge
		}
	}
	return kerr.CoordinatorNotAvailable.Code
}
