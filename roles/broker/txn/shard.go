package txn

import (
	"time"

	"rustmq.dev/rustmq/roles/broker/coordinator"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
)

const (
	// What one batch of the log may expand to.
	maxBatch = 128 << 20

	// About how many bytes of records go into one batch. A batch is refused as a
	// whole, so it must not come near what a topic takes; only a single record
	// that is larger has one for itself.
	maxWrite = 128 << 10
)

// shard runs the core of one partition under one leader epoch, for as long as
// this broker leads it. Its goroutine owns all of it.
type shard struct {
	*coordinator.Shard[any]
	c *Coordinator

	core    *Core
	ids     int // as counted in the coordinator's totals
	open    int
	bytes   int64
	builder *batch.Builder
	writes  []WriteID // of the records in builder

	compaction compaction
}

// completion tells the fate of a batch. One of a snapshot holds no writes.
type completion struct {
	seq  uint64 // of the append
	ids  []WriteID
	next storage.Offset // behind it in the log
	err  error
}

func (c *Coordinator) newShard(s *coordinator.Shard[any]) *shard {
	return &shard{Shard: s, c: c, builder: new(batch.Builder)}
}

// Run goes on until the leadership ends.
func (s *shard) Run() {
	for {
		// What a step asked for is appended before the next wait, together.
		s.flush()
		s.compact(time.Now())
		s.count()
		if !s.Wait(s.core.Deadline(), s.compaction.Retry) {
			return
		}
		s.Serve(s.begin)
		if at := s.core.Deadline(); !at.IsZero() && !time.Now().Before(at) {
			believed, ok := s.c.opt.Believed()
			if !ok {
				believed = time.Time{}
			}
			s.step(Tick{believed})
		}
	}
}

// begin gives a request to the core.
func (s *shard) begin(call uint64, body any) {
	s.step(Request{Call: Call(call), Full: s.c.full(), Body: body})
	s.count()
}

func (s *shard) step(ev Event) { s.perform(s.core.Step(time.Now(), s.c.opt.Now(), ev)) }

// perform answers, collects what is to be written and asks for what is needed.
func (s *shard) perform(fx Effects) {
	for _, a := range fx.Answers {
		s.Answer(uint64(a.Call), a.Body)
	}
	for _, w := range fx.Writes {
		if s.builder.Len() > 0 && s.builder.Size()+len(w.Key)+len(w.Value) > maxWrite {
			s.flush()
		}
		s.builder.Add(s.c.opt.Now().UnixMilli(), w.Key, w.Value)
		s.writes = append(s.writes, w.ID)
	}
	for _, m := range fx.Markers {
		m.Marker.CoordinatorEpoch = s.Epoch
		s.c.opt.Markers.WriteMarkers(m.Marker, func(left []Partition) {
			s.Post(func() { s.step(Marked{m.TransactionalID, left}) })
		})
	}
	for range fx.NeedIDs {
		s.c.opt.NewProducerID(func(id int64, err error) { s.Post(func() { s.step(GotID{id, err}) }) })
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

// append appends the batch that is built; done, completed, comes back by the
// inbox.
func (s *shard) append(done completion) {
	b, err := s.builder.Build()
	s.builder.Reset(batch.BuilderOptions{})
	done.seq = s.compaction.appending(len(b))
	s.Appending()
	if err != nil {
		done.err = err
		s.Appended(func() { s.appended(done) })
		return
	}
	s.c.opt.Log.Append(s.Partition, s.Epoch, b, func(next storage.Offset, err error) {
		if err != nil {
			s.c.opt.Logger.Error("transaction records could not be written", "partition", s.Partition, "epoch", s.Epoch, "error", err)
		}
		done.next, done.err = next, err
		s.Appended(func() { s.appended(done) })
	})
}

// appended tells the compaction, and the core, what became of a batch.
func (s *shard) appended(done completion) {
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

// Load reads the log into a new core, and goes on with what was decided.
func (s *shard) Load() error {
	begin := time.Now()
	core, records, log, err := s.replay()
	if err != nil {
		return err
	}
	s.core, s.compaction = core, log
	s.perform(core.Loaded(time.Now(), s.c.opt.Now()))
	s.count()
	s.c.opt.Logger.Debug("transaction coordinator loaded", "partition", s.Partition, "epoch", s.Epoch,
		"records", records, "ids", s.ids, "open", s.open, "skipped", core.Skipped(), "took", time.Since(begin))
	return nil
}

func (s *shard) replay() (core *Core, records int, log compaction, err error) {
	core = NewCore(s.c.opt)
	err = s.c.opt.Log.Read(s.Context, s.Partition, s.Epoch, func(b batch.Batch) error {
		log.Replayed(b)
		if b.IsControl() {
			return nil
		}
		it := b.Records(maxBatch)
		for it.Next() {
			r := it.Record()
			records++
			if err := core.Replay(r.Key, r.Value); err != nil {
				return &RecordError{Partition: s.Partition, Offset: r.Offset, Err: err}
			}
		}
		return it.Err()
	})
	return core, records, log, err
}

// End lets go of the core.
func (s *shard) End() {
	s.core, s.builder = nil, nil
	s.c.ids.Add(-int64(s.ids))
	s.c.open.Add(-int64(s.open))
	s.c.bytes.Add(-s.bytes)
}
