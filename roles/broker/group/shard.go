package group

import (
	"time"

	"rustmq.dev/rustmq/roles/broker/coordinator"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/guard"
	"rustmq.dev/rustmq/storage/log"
)

// maxBatch is what one batch of the log may expand to.
const maxBatch = 128 << 20

// shard runs the core of one partition under one leader epoch, for as long as
// this broker leads it. Its goroutine owns all of it.
type shard struct {
	*coordinator.Shard[Request]
	c *Coordinator

	expireAt  time.Time // when it is next looked for offsets that have expired
	core      *Core
	catalogue Catalogue // that the core knows
	groups    int       // as counted in the coordinator's totals
	bytes     int64
	names     int64
	builder   *batch.Builder
	writes    []WriteID // of the records in builder
	matching  matching

	inFlight   int         // appends whose completion was not handled
	held       []heldWrite // batches that wait for a step of the snapshot
	compaction compaction
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

func (c *Coordinator) newShard(s *coordinator.Shard[Request]) *shard {
	return &shard{Shard: s, c: c, builder: new(batch.Builder)}
}

// Run goes on until the leadership ends.
func (s *shard) Run() {
	s.expireAt = time.Now().Add(s.c.opt.OffsetCheck)
	s.forgetGone()
	for s.Wait(s.expireAt, s.core.Deadline(), s.compaction.Retry) {
		s.lookAround()
		// Heartbeats that came in time count, however late it is now.
		s.Serve(s.begin)
		if now := time.Now(); !now.Before(s.deadline(now)) {
			s.perform(s.core.Step(now, Tick{Wall: s.c.opt.Now()}))
		}
		if now := time.Now(); !now.Before(s.expireAt) {
			s.expireAt = now.Add(s.c.opt.OffsetCheck)
			s.forgetGone()
			if believed, ok := s.c.opt.Believed(); guard.Check("group.clock-believed", ok) {
				s.perform(s.core.Step(now, ExpireOffsets{Wall: s.c.opt.Now(), Believed: believed}))
			}
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
// committed for the one before it only where the record does not say which it was.
func (s *shard) forgetGone() {
	if topics := s.c.opt.Topics; topics != nil {
		s.forget(func(topic string, id storage.TopicID) bool {
			return guard.Check("group.topic-gone", isGone(topics.Newest(topic), id))
		})
	}
}

func (s *shard) forget(gone func(topic string, id storage.TopicID) bool) {
	s.perform(s.core.Step(time.Now(), ForgetTopics{Wall: s.c.opt.Now(), Gone: gone}))
}

// deadline is the core's, or a moment after now when there is none.
func (s *shard) deadline(now time.Time) time.Time {
	if d := s.core.Deadline(); !d.IsZero() {
		return d
	}
	return now.Add(1)
}

// begin gives a request to the core.
func (s *shard) begin(call uint64, r Request) {
	r.Call, r.Wall, r.Full = Call(call), s.c.opt.Now(), s.c.full()
	if topics := s.c.opt.Topics; topics != nil {
		r.Newest = topics.Newest
	}
	s.perform(s.core.Step(time.Now(), r))
	s.count()
}

// perform answers, and collects what is to be written.
func (s *shard) perform(fx Effects) {
	for _, a := range fx.Answers {
		s.Answer(uint64(a.Call), a.Body)
	}
	for _, w := range fx.Writes {
		if w.Txn != nil || w.Marker != nil {
			s.flush()
			s.writeTransactional(w)
			continue
		}
		size := 0
		for _, r := range w.Records {
			size += r.size()
		}
		if s.builder.Len() > 0 && s.builder.Size()+size > maxWrite {
			s.flush()
		}
		now := s.c.opt.Now().UnixMilli()
		for _, r := range w.Records {
			s.builder.Add(now, r.Key, r.Value, r.headers()...)
		}
		s.writes = append(s.writes, w.ID)
	}
	s.match(fx.Match)
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
		b.Add(now, r.Key, r.Value, r.headers()...)
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

// append appends a batch or a marker; done, completed, comes back by the
// inbox. failed says why there is none.
func (s *shard) append(done completion, h heldWrite, failed error) {
	s.inFlight++
	s.Appending()
	if failed != nil {
		done.err = failed
		s.Appended(func() { s.appended(done) })
		return
	}
	over := func(next storage.Offset, err error) {
		if err != nil {
			s.c.opt.Logger.Error("group records could not be written", "partition", s.Partition, "epoch", s.Epoch, "error", err)
		}
		done.next, done.err = next, err
		s.Appended(func() { s.appended(done) })
	}
	if h.marker != nil {
		s.compaction.Appending(batch.MarkerSize)
		s.c.opt.Log.AppendMarker(s.Partition, s.Epoch, *h.marker, over)
		return
	}
	s.compaction.Appending(len(h.batch))
	s.c.opt.Log.Append(s.Partition, s.Epoch, h.batch, h.verified, over)
}

// appended tells the core, or the compaction, what became of a batch.
func (s *shard) appended(done completion) {
	s.inFlight--
	if done.err == nil {
		s.compaction.End = max(s.compaction.End, done.next)
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
	if names := s.core.names; names != s.names {
		s.c.names.Add(names - s.names)
		s.names = names
	}
	s.groups, s.bytes = groups, bytes
}

// Load reads the log into a new core.
func (s *shard) Load() error {
	begin := time.Now()
	core, records, log, err := s.replay()
	if err != nil {
		return err
	}
	s.core, s.compaction = core, log
	core.Loaded(time.Now())
	s.count()
	s.Wake() // to look at the topics
	s.c.opt.Logger.Debug("group coordinator loaded", "partition", s.Partition, "epoch", s.Epoch,
		"records", records, "groups", s.groups, "skipped", core.Skipped(), "took", time.Since(begin))
	return nil
}

func (s *shard) replay() (core *Core, records int, log compaction, err error) {
	core = NewCore(s.c.opt)
	began := storage.Epoch(0) // this life of the cluster did, and the partition is of one before
	if life := s.c.opt.Life; life != nil && s.Epoch >= life() {
		began = life()
	}
	err = s.c.opt.Log.Read(s.Context, s.Partition, s.Epoch, func(b batch.Batch) error {
		log.Replayed(b)
		if b.LeaderEpoch() < began {
			core.ReplayLife(began)
		} else {
			core.ReplayLife(0)
		}
		if b.IsControl() {
			if m, ok := batch.ReadMarker(b); ok {
				core.ReplayMarker(b.ProducerID(), m.Commit)
			}
			return nil
		}
		it := b.Records(maxBatch)
		for it.Next() {
			records++
			r, err := recordOf(it.Record())
			switch {
			case err != nil:
			case b.IsTransactional():
				err = core.ReplayTransactional(b.ProducerID(), b.ProducerEpoch(), r)
			default:
				err = core.Replay(r)
			}
			if err != nil {
				return &RecordError{Partition: s.Partition, Offset: it.Record().Offset, Err: err}
			}
		}
		return it.Err()
	})
	return core, records, log, err
}

// End lets go of the core.
func (s *shard) End() {
	s.core, s.builder, s.held = nil, nil, nil
	s.c.groups.Add(-int64(s.groups))
	s.c.bytes.Add(-s.bytes)
	s.c.names.Add(-s.names)
}
