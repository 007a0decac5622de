package broker

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/roles/broker/compact"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/bucket"
	"rustmq.dev/rustmq/storage/log"
	"rustmq.dev/rustmq/test/seeded"
)

// sifted is the dumb twin of a partition whose records modules change, drop, route and
// refuse: what is at which offset, what was routed, and where each producer stands.
type sifted struct {
	t   *testing.T
	n   *node
	c   *client
	rng *rand.Rand

	end       int64
	records   []siftedRecord
	routed    []string
	producers map[int64]*siftedProducer
	clock     int64 // of producers, ms
}

type siftedRecord struct {
	offset, timestamp int64
	value             string // "": a marker
	of                int64  // the producer whose transaction it is part of; 0: none
	in                int    // which transaction of his
}

type siftedProducer struct {
	id            int64
	next          int32
	transactional bool
	open          bool
	first         int64 // offset of the open transaction
	transaction   int
	aborted       map[int]bool
	sent          []siftedBatch // the last five of this transaction, or in all
}

type siftedBatch struct {
	records []byte
	base    int64
}

func (m *sifted) batch(p *siftedProducer, values []string) []byte {
	m.t.Helper()
	o := batch.BuilderOptions{Codec: batch.Codec(m.rng.IntN(5))}
	if p != nil {
		o.Producer, o.Transactional = &batch.Producer{ID: p.id, BaseSequence: p.next}, p.transactional
	}
	w := batch.NewBuilder(o)
	for i, v := range values {
		w.Add(m.clock+int64(i), nil, []byte(v))
	}
	b, err := w.Build()
	if err != nil {
		m.t.Fatal(err)
	}
	return b
}

// produce sends one batch, and notes what it comes to.
func (m *sifted) produce(p *siftedProducer) {
	m.t.Helper()
	values := make([]string, 1+m.rng.IntN(6))
	kinds := []string{"a", "a", "up", "drop", "drop", "to:out"}
	if m.rng.IntN(3) == 0 {
		kinds = []string{"drop"}
	}
	refused := false
	for i := range values {
		kind := kinds[m.rng.IntN(len(kinds))]
		if m.rng.IntN(40) == 0 {
			kind = "bad"
		}
		if p != nil && p.transactional && kind == "to:out" {
			kind = "up"
		}
		refused = refused || kind == "bad"
		values[i] = fmt.Sprintf("%s %d", kind, m.rng.IntN(1_000_000))
		if kind == "to:out" {
			values[i] = fmt.Sprintf("to:out:%d", m.rng.IntN(1_000_000))
		}
	}
	m.clock += 10
	records := m.batch(p, values)
	code, base := m.send(p, records)
	if refused {
		if code != kerr.InvalidRecord.Code {
			m.t.Fatalf("a batch with a bad record: %v", kerr.ErrorForCode(code))
		}
		return
	}
	if code != 0 || base != m.end {
		m.t.Fatalf("%q: %v, offset %d, want %d", values, kerr.ErrorForCode(code), base, m.end)
	}
	if p != nil {
		if p.transactional && !p.open {
			p.open, p.first = true, base
			p.transaction++
		}
		p.next += int32(len(values))
		p.sent = append(p.sent, siftedBatch{records, base})
		p.sent = p.sent[max(0, len(p.sent)-5):]
	}
	for i, v := range values {
		r := siftedRecord{offset: base + int64(i), timestamp: m.clock + int64(i), value: v}
		if p != nil && p.transactional {
			r.of, r.in = p.id, p.transaction
		}
		switch {
		case strings.HasPrefix(v, "drop"):
			continue
		case strings.HasPrefix(v, "to:"):
			m.routed = append(m.routed, v)
			continue
		case strings.HasPrefix(v, "up"):
			r.value = strings.ToUpper(v)
		}
		m.records = append(m.records, r)
	}
	m.end += int64(len(values))
}

func (m *sifted) send(p *siftedProducer, records []byte) (code int16, base int64) {
	m.t.Helper()
	q := produceTo("in", 0, []int16{-1, 1}[m.rng.IntN(2)], bytes.Clone(records))
	if p != nil && p.transactional {
		q.TransactionID = kmsg.StringPtr("txn")
	}
	part := ask[*kmsg.ProduceResponse](m.c, 12, q).Topics[0].Partitions[0]
	return part.ErrorCode, part.BaseOffset
}

// again sends one of the last five batches of a producer again, or one that is not due.
func (m *sifted) again(p *siftedProducer) {
	m.t.Helper()
	if len(p.sent) == 0 || p.transactional && !p.open {
		return
	}
	if m.rng.IntN(4) == 0 {
		skipping := *p
		skipping.next += 3
		if code, _ := m.send(p, m.batch(&skipping, []string{"to:out:never"})); !p.transactional && code != kerr.OutOfOrderSequenceNumber.Code {
			m.t.Fatalf("a batch that is not due: %v", kerr.ErrorForCode(code))
		}
		return
	}
	was := p.sent[m.rng.IntN(len(p.sent))]
	if code, base := m.send(p, was.records); code != 0 || base != was.base {
		m.t.Fatalf("a duplicate: %v, offset %d, was %d", kerr.ErrorForCode(code), base, was.base)
	}
}

func (m *sifted) finish(p *siftedProducer) {
	m.t.Helper()
	if !p.open {
		return
	}
	commit := m.rng.IntN(2) == 0
	answer := make(chan error, 1)
	m.n.markPartition(m.t.Context(), "in", 0, log.Marker{ProducerID: p.id, Commit: commit}, func(err error) { answer <- err })
	if err := <-answer; err != nil {
		m.t.Fatal(err)
	}
	m.records = append(m.records, siftedRecord{offset: m.end, of: p.id})
	m.end++
	p.open, p.sent, p.aborted[p.transaction] = false, nil, !commit
}

// restart ends the broker and opens it again on its disk, or on what a power cut leaves.
func (m *sifted) restart() {
	m.t.Helper()
	left, cut := m.n.fs, m.rng.IntN(2) == 0
	if cut {
		left = left.Crash(m.rng)
	}
	m.n.server.Close()
	if err := errors.Join(m.n.Broker.Close(), m.n.store.Close()); err != nil && !cut {
		m.t.Fatal(err)
	}
	m.n.fs = left
	m.n.store = openStore(m.t, left)
	m.n.options.Store = m.n.store
	m.n.open()
	m.n.verifier = &oracle{}
	m.n.settle(m.t.Context())
	m.c = m.n.connect()
}

// check compares the log with its twin: what all readers see, what those of committed
// transactions do, and what is found by time.
func (m *sifted) check() {
	m.t.Helper()
	var all, committed []string
	stable := m.end
	for _, p := range m.producers {
		if p.open {
			stable = min(stable, p.first)
		}
	}
	for _, r := range m.records {
		if r.value == "" {
			continue
		}
		text := fmt.Sprintf("%d %s", r.offset, r.value)
		all = append(all, text)
		if r.offset < stable && (r.of == 0 || !m.producers[r.of].aborted[r.in]) {
			committed = append(committed, text)
		}
	}
	if got := m.read(0); !slices.Equal(got, all) {
		m.t.Fatalf("the log has %q, want %q", got, all)
	}
	if got := m.read(1); !slices.Equal(got, committed) {
		m.t.Fatalf("committed is %q, want %q", got, committed)
	}
	if got := m.n.logOf("in", 0).HighWatermark(); int64(got) != m.end {
		m.t.Fatalf("the log ends at %d, want %d", got, m.end)
	}
	var routed []string
	for _, r := range m.c.all("out", 0) {
		_, v, _ := strings.Cut(r, " ")
		routed = append(routed, v)
	}
	if !slices.Equal(routed, m.routed) {
		m.t.Fatalf("routed is %q, want %q", routed, m.routed)
	}
	for range 5 {
		millis := m.rng.Int64N(m.clock + 20)
		want := int64(-1)
		for _, r := range m.records {
			if r.timestamp >= millis || r.value == "" {
				want = r.offset
				break
			}
		}
		if offset, _, ok, err := m.n.logOf("in", 0).OffsetForTime(millis); err != nil || ok != (want >= 0) || ok && int64(offset) != want {
			m.t.Fatalf("the first record at %d: offset %d, %v %v; want %d", millis, offset, ok, err, want)
		}
	}
}

// read returns what a reader sees, from random offsets on, of which the holes are some.
func (m *sifted) read(isolation int8) (found []string) {
	m.t.Helper()
	for at := int64(0); ; {
		q := fetchFrom("in", 0, at, 0)
		q.IsolationLevel = isolation
		q.Topics[0].Partitions[0].PartitionMaxBytes = int32(1 + m.rng.IntN(2000))
		part := ask[*kmsg.FetchResponse](m.c, 12, q).Topics[0].Partitions[0]
		if part.ErrorCode != 0 {
			m.t.Fatalf("fetch at %d: %v", at, kerr.ErrorForCode(part.ErrorCode))
		}
		if len(part.RecordBatches) == 0 {
			return found
		}
		for rest := []byte(part.RecordBatches); len(rest) > 0; {
			b, behind, err := batch.Next(rest)
			if err != nil {
				break // the last one is cut off
			}
			rest = behind
			from := at
			at = int64(b.NextOffset())
			if b.IsControl() || isolation == 1 && m.isAborted(part.AbortedTransactions, b) {
				continue
			}
			it := b.Records(0)
			for it.Next() {
				if o := int64(it.Record().Offset); o >= from {
					found = append(found, fmt.Sprintf("%d %s", o, it.Record().Value))
				}
			}
			if it.Err() != nil {
				m.t.Fatal(it.Err())
			}
		}
	}
}

// isAborted reports whether a batch is of a transaction that the answer says was aborted,
// as clients find it: from the first offset on to the producer's next marker.
func (m *sifted) isAborted(said []kmsg.FetchResponseTopicPartitionAbortedTransaction, b batch.Batch) bool {
	if !b.IsTransactional() {
		return false
	}
	for _, a := range said {
		if a.ProducerID != b.ProducerID() || a.FirstOffset > int64(b.BaseOffset()) {
			continue
		}
		ended := false
		for _, r := range m.records { // its marker lies before the batch: then it is of another
			ended = ended || r.value == "" && r.offset > a.FirstOffset && r.offset < int64(b.BaseOffset()) && r.of == a.ProducerID
		}
		if !ended {
			return true
		}
	}
	return false
}

// TestSiftedPartitionIsWhatItsTwinSays: whatever modules take out, change, route and refuse, offsets grow and are never filled
// again, a batch that comes again is answered as it was, transactions end, and a restart
// changes nothing, be it after a power cut.
func TestSiftedPartitionIsWhatItsTwinSays(t *testing.T) {
	seed := seeded.Seed(t)
	for round := range uint64(6) {
		rng := rand.New(rand.NewPCG(seed, round))
		w := &wordy{}
		set := &modules{t: t}
		set.use(w, "")
		n := startNode(t, func(o *Options) { o.Transforms = set.set.Load })
		n.controller.createTopic("in", 1)
		n.controller.createTopic("out", 1)
		n.settle(t.Context())
		n.verifier = &oracle{}
		m := &sifted{t: t, n: n, c: n.connect(), rng: rng, producers: map[int64]*siftedProducer{}, clock: 1000}
		for id := int64(1); id <= 4; id++ {
			m.producers[id] = &siftedProducer{id: id, transactional: id > 2, aborted: map[int]bool{}}
		}
		for range 150 {
			p := m.producers[1+rng.Int64N(4)]
			switch k := rng.IntN(20); {
			case k < 10:
				m.produce(p)
			case k < 12:
				m.produce(nil)
			case k < 16:
				m.again(p)
			case k < 19:
				m.finish(p)
			case rng.IntN(3) == 0:
				m.restart()
			}
		}
		m.check()
		m.restart()
		m.check()
	}
}

// TestSiftedRecordsAreReadFromTheBucket: more is produced than the WAL holds, a third of it
// is dropped, whole batches too, what is in the bucket is compacted meanwhile, and the rest
// is read back from there, and found by time.
func TestSiftedRecordsAreReadFromTheBucket(t *testing.T) {
	ctx := within(t, 2*time.Minute)
	set := &modules{t: t}
	set.use(&wordy{}, "")
	n, addr := startTiered(t, bucket.NewMemory(), func(tier *Tier) {
		limits := compact.DefaultLimits()
		limits.MinObject, limits.TargetObject, limits.MaxRanges = 1<<20, 8<<20, 8
		tier.Compact = &Compaction{Limits: limits, Interval: 20 * time.Millisecond}
	})
	n.Broker.opt.Transforms = set.set.Load // nobody produces yet
	cl := newClient(t, addr, kgo.ProducerBatchMaxBytes(128<<10), kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.ProduceRequestTimeout(time.Minute))
	adm := kadm.NewClient(cl)
	if _, err := adm.CreateTopics(ctx, 1, 1, nil, "in"); err != nil {
		t.Fatal(err)
	}
	const records, size = 4500, 16 << 10
	stays := func(i int) bool { return i%3 != 1 && i/100%5 != 2 } // runs of a hundred fill batches
	filling := make([]byte, size)
	begun := time.Now().Add(-time.Hour).Truncate(time.Millisecond)
	want := 0
	for i := range records {
		value := "drop"
		if stays(i) {
			value, want = fmt.Sprintf("%08d", i), want+1
		}
		r := &kgo.Record{Topic: "in", Value: append([]byte(value), filling...), Timestamp: begun.Add(time.Duration(i) * time.Millisecond)}
		cl.Produce(ctx, r, func(r *kgo.Record, err error) {
			if err != nil || r.Offset != int64(i) {
				t.Errorf("record %d: offset %d, %v", i, r.Offset, err)
			}
		})
	}
	if err := cl.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	if l := n.logOf("in", 0); l.LocalStart() == 0 {
		t.Fatal("the partition is all in the WAL: the test shows nothing")
	}
	reader := newClient(t, addr, kgo.ConsumeTopics("in"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	next := 0
	for _, r := range consume(ctx, t, reader, want) {
		for !stays(next) {
			next++
		}
		if r.Offset != int64(next) || string(r.Value[:8]) != fmt.Sprintf("%08d", next) {
			t.Fatalf("offset %d: record %s where %d was due", r.Offset, r.Value[:8], next)
		}
		next++
	}
	for _, of := range []int{1, 250, records / 2} {
		found, err := adm.ListOffsetsAfterMilli(ctx, begun.Add(time.Duration(of)*time.Millisecond).UnixMilli(), "in")
		if err != nil {
			t.Fatal(err)
		}
		due := of
		for !stays(due) {
			due++
		}
		if o, _ := found.Lookup("in", 0); o.Err != nil || o.Offset != int64(due) {
			t.Errorf("the record %d ms in: offset %d, %v; want %d", of, o.Offset, o.Err, due)
		}
	}
}
