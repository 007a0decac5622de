package clean

import (
	"cmp"
	"log/slog"
	"math/rand/v2"
	"slices"
	"testing"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/broker/cold"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/bucket"
	"rustmq.dev/rustmq/storage/object"
	"rustmq.dev/rustmq/test/seeded"
)

// consumer reads what is committed by transactions, as the Java client does.
type consumer struct {
	w     *world
	r     *cold.Reader
	at    storage.Offset
	woken chan struct{}
}

// Wake implements cold.Waiter.
func (c *consumer) Wake() {
	select {
	case c.woken <- struct{}{}:
	default:
	}
}

// read does one fetch, by the newest image, of what is decided. It compares what the
// client makes of each record with what became of it. false: there is nothing more.
func (c *consumer) read(maxBytes int) bool {
	c.w.t.Helper()
	p := c.w.partition()
	c.at = max(c.at, p.LogStart)
	end := p.CommittedEnd()
	until := min(c.w.stableAsOf(end), end)
	if p.Ranges().Len() == 0 || c.at >= until {
		return false
	}
	for tries := 0; ; tries++ {
		if tries == 2000 {
			c.w.t.Fatalf("no batch at %d, below %d, in %d tries: %+v; manifests %+v", c.at, until, tries, c.r.Stats(), p.Filed())
		}
		q := cold.Request{Reader: c, Offset: c.at, Until: until, MaxBytes: maxBytes, MinOne: true, Markers: end}
		got, err := c.r.Read(cold.Partition{ID: worldPartition, Ranges: p.Ranges(), Filed: p.Filed()}, q, c)
		if err != nil {
			c.w.t.Fatal(err)
		}
		if len(got.Batches) == 0 && got.Pending {
			<-c.woken
			continue
		}
		c.judge(&got)
		c.at = max(got.Next, c.at)
		return len(got.Batches) > 0
	}
}

// judge goes through a response.
func (c *consumer) judge(got *cold.Result) {
	c.w.t.Helper()
	aborted := map[storage.Offset]bool{}
	for _, r := range c.w.records {
		aborted[r.offset] = r.aborted
	}
	told := slices.Clone(got.Aborted)
	slices.SortFunc(told, func(a, b object.Aborted) int { return cmp.Compare(a.First, b.First) })
	skips := map[int64]bool{}
	for _, raw := range got.Batches {
		b := batch.Batch(raw)
		for len(told) > 0 && told[0].First <= b.LastOffset() {
			skips[told[0].ProducerID] = true
			told = told[1:]
		}
		if b.IsControl() {
			if m, ok := batch.ReadMarker(b); ok && !m.Commit {
				delete(skips, b.ProducerID())
			}
			continue
		}
		skipped := b.IsTransactional() && skips[b.ProducerID()]
		it := b.Records(0)
		for it.Next() {
			if o := it.Record().Offset; aborted[o] != skipped {
				c.w.t.Fatalf("the record at %d is skipped: %v; aborted: %v. Read from %d to %d, told of %+v", o, skipped, aborted[o], c.at, got.Next, got.Aborted)
			}
		}
		if it.Err() != nil {
			c.w.t.Fatal(it.Err())
		}
	}
}

// TestConsumersReadWhatIsCommitted: while rounds go on under them, and markers go with
// what they ended, consumers that read in small steps skip what was aborted, and
// nothing else.
func TestConsumersReadWhatIsCommitted(t *testing.T) {
	base := seeded.Seed(t)
	for seed := range uint64(15) {
		seed += base
		rng := rand.New(rand.NewPCG(seed, 5))
		t.Logf("seed %d", seed)
		w := newWorld(t)
		w.policy = Policy{DeleteRetention: 0}
		cleaner := cleaning(t, w, func(o *Options) { o.TargetObject = []int64{1, 500, 4000, 1 << 20}[rng.IntN(4)] })
		r, err := cold.New(cold.Options{
			Bucket: w.memory, Key: w.key, PieceSize: 256, IndexCache: 1 << rng.IntN(16), BlockCache: 1 << rng.IntN(16), ReadAhead: 64 << 10,
			Log: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { r.Close() })
		var consumers []*consumer
		for range 4 {
			consumers = append(consumers, &consumer{w: w, r: r, woken: make(chan struct{}, 1)})
		}
		for range 150 {
			switch n := rng.IntN(10); {
			case rng.IntN(40) == 0: // the topic is not compacted for a while
				w.file(1 + rng.IntN(4))
			case rng.IntN(40) == 0:
				p := w.partition()
				w.moveLogStart(p.LogStart + storage.Offset(rng.Int64N(int64(p.CommittedEnd()-p.LogStart)/2+1)))
			case n < 3:
				for range 1 + rng.IntN(4) {
					w.either(rng)
				}
			case n < 5:
				w.upload(1 + rng.IntN(5))
			case n < 7:
				w.step(cleaner)
			default:
				c := consumers[rng.IntN(len(consumers))]
				if !c.read(1+rng.IntN(400)) && rng.IntN(2) == 0 {
					c.at = 0
				}
			}
		}
		for _, c := range consumers {
			for c.read(200) {
			}
		}
		w.check(false)
	}
}

// file moves the first n ranges into a manifest, but for the last.
func (w *world) file(n int) {
	w.t.Helper()
	p := w.partition()
	if n = min(n, p.Ranges().Len()-1); n < 1 {
		return
	}
	id, err := w.Prepare(w.t.Context(), 1)
	if err != nil {
		w.t.Fatal(err)
	}
	filing := metadata.Filing{Partition: worldPartition, LeaderEpoch: p.LeaderEpoch}
	for r := range p.Ranges().All() {
		if o, ok := w.image().Object(r.Object); ok && len(filing.Moved) < n {
			filing.Moved = append(filing.Moved, metadata.FiledRange(&r, o.Size))
		}
	}
	m := object.Manifest{Header: object.Header{ID: id, Cluster: "c", Incarnation: 1, Broker: 1}, Partition: worldPartition, Topic: topicName, Ranges: filing.Moved}
	b, ref, err := m.Encode()
	if err != nil {
		w.t.Fatal(err)
	}
	if err := w.memory.Put(w.t.Context(), w.key(id), bucket.Bytes(b)); err != nil {
		w.t.Fatal(err)
	}
	w.must(metadata.NewFileRanges(1, w.epoch, id, ref, &filing))
}

// either produces a batch of a transaction or of none, or ends one.
func (w *world) either(rng *rand.Rand) {
	producer := 10 + rng.Int64N(3)
	records := []string{string(rune('a'+rng.IntN(5))) + "=1", string(rune('a'+rng.IntN(5))) + "=2"}
	_, open := w.open[producer]
	switch {
	case rng.IntN(4) == 0:
		w.keyed(records...)
	case open && rng.IntN(2) == 0:
		w.end(producer, rng.IntN(2) == 0)
	default:
		w.transact(producer, records[:1+rng.IntN(2)]...)
	}
}
