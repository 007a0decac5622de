package broker

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/bucket"
	"rustmq.dev/rustmq/storage/log"
	"rustmq.dev/rustmq/test/seeded"
	"rustmq.dev/rustmq/transport/kafka"
)

// ledger is the dumb twin of a partition with transactions: each offset, and how
// its transaction ended.
type ledger struct {
	t       *testing.T
	n       *besideBucket
	rng     *rand.Rand
	server  *kafka.Server
	end     int64
	open    map[int64]*transaction // by producer
	next    map[int64]int32        // sequence numbers
	records []ledgerRecord
}

type ledgerRecord struct {
	offset int64
	of     *transaction // nil: none
}

type transaction struct {
	first            int64
	decided, aborted bool
}

// lastStable is where the first transaction begins that is open.
func (m *ledger) lastStable() int64 {
	stable := m.end
	for _, of := range m.open {
		stable = min(stable, of.first)
	}
	return stable
}

func (m *ledger) log() (*log.Log, *role) {
	m.t.Helper()
	l, r, err := m.n.b.table.byName([]byte("t")).partition(0).leading()
	if err != nil {
		m.t.Fatal(err)
	}
	return l, r
}

func (m *ledger) append(id int64) {
	m.t.Helper()
	l, r := m.log()
	count := 1 + m.rng.IntN(3)
	o := batch.BuilderOptions{}
	var of *transaction
	if id >= 0 {
		o.Transactional, o.Producer = true, &batch.Producer{ID: id, BaseSequence: m.next[id]}
		if of = m.open[id]; of == nil {
			of = &transaction{first: m.end}
			m.open[id] = of
		}
		m.next[id] += int32(count)
	}
	w := batch.NewBuilder(o)
	for i := range count {
		w.Add(time.Now().UnixMilli(), nil, []byte(strings.Repeat("x", m.rng.IntN(15_000))))
		m.records = append(m.records, ledgerRecord{m.end + int64(i), of})
	}
	raw, err := w.Build()
	if err == nil {
		err = m.n.store.Admit(m.t.Context(), len(raw))
	}
	if err != nil {
		m.t.Fatal(err)
	}
	options := log.AppendOptions{Epoch: r.epoch}
	if id >= 0 {
		if options.Guard, _, err = l.BeginVerification(id, 0, o.Producer.BaseSequence); err != nil {
			m.t.Fatal(err)
		}
	}
	answer := make(appendAnswer, 1)
	l.Append(time.Now(), raw, options, answer)
	if got := <-answer; got.Err != nil || int64(got.Base) != m.end {
		m.t.Fatalf("append at %d: %+v", m.end, got)
	}
	m.end += int64(count)
}

// decide ends the transaction of a producer, if one is open, either way.
func (m *ledger) decide(id int64) {
	m.t.Helper()
	if m.open[id] != nil {
		m.mark(id, m.rng.IntN(3) > 0)
	}
}

func (m *ledger) mark(id int64, aborted bool) {
	m.t.Helper()
	of := m.open[id]
	of.decided, of.aborted = true, aborted
	answer := make(chan error, 1)
	m.n.b.markPartition(m.t.Context(), "t", 0, log.Marker{ProducerID: id, Commit: !of.aborted}, func(err error) { answer <- err })
	if err := <-answer; err != nil {
		m.t.Fatal(err)
	}
	delete(m.open, id)
	m.end++
}

func (m *ledger) start(b bucket.Bucket) {
	m.t.Helper()
	if err := m.n.open(b); err != nil {
		m.t.Fatal(err)
	}
	m.server = kafka.New(kafka.Options{Handler: m.n.b, EarlyOK: EarlyOK})
	synctest.Wait()
}

func (m *ledger) connect() *client {
	n := &node{Broker: m.n.b, t: m.t, store: m.n.store, server: m.server}
	return n.connect()
}

func (m *ledger) stop() {
	m.server.Close()
	m.n.close()
}

// visible is what a client makes of one partition of a response: it leaves out
// markers, and what the response says was aborted. It takes that list as it comes,
// as clients do that rely on Kafka's order.
func visible(t *testing.T, part kmsg.FetchResponseTopicPartition) (offsets []int64, next int64) {
	t.Helper()
	next = -1
	aborted := part.AbortedTransactions
	out := map[int64]bool{}
	for rest := part.RecordBatches; len(rest) > 0; {
		b, more, err := batch.Next(rest)
		if err != nil {
			t.Fatal(err)
		}
		rest, next = more, int64(b.NextOffset())
		for len(aborted) > 0 && aborted[0].FirstOffset <= int64(b.LastOffset()) {
			out[aborted[0].ProducerID] = true
			aborted = aborted[1:]
		}
		if m, ok := batch.ReadMarker(b); ok {
			if !m.Commit {
				delete(out, b.ProducerID())
			}
			continue
		}
		if b.IsTransactional() && out[b.ProducerID()] {
			continue
		}
		for o := b.BaseOffset(); o < b.NextOffset(); o++ {
			offsets = append(offsets, int64(o))
		}
	}
	return offsets, next
}

// compare reads on from an offset to the last stable offset.
func (m *ledger) compare(c *client, from int64) {
	m.t.Helper()
	for offset, stable := from, m.lastStable(); offset < stable; {
		offset = m.fetch(c, offset)
	}
}

// fetch compares one response with what a client is to see, and returns where it
// ends.
func (m *ledger) fetch(c *client, offset int64) (next int64) {
	m.t.Helper()
	stable := m.lastStable()
	q := committedOnly(fetchFrom("t", 0, offset, time.Minute))
	if offset >= stable {
		q.MaxWaitMillis = 0
	}
	q.Topics[0].Partitions[0].PartitionMaxBytes = 1 + m.rng.Int32N(30_000)
	part := ask[*kmsg.FetchResponse](c, 12, q).Topics[0].Partitions[0]
	if part.ErrorCode != 0 || part.LastStableOffset != stable || part.HighWatermark != m.end {
		m.t.Fatalf("at %d: %v, stable to %d of %d, want %d of %d", offset, kerr.ErrorForCode(part.ErrorCode), part.LastStableOffset, part.HighWatermark, stable, m.end)
	}
	got, next := visible(m.t, part)
	if offset >= stable {
		if next >= 0 {
			m.t.Fatalf("at %d there is something to read, up to %d, and it is stable to %d", offset, next, stable)
		}
		return offset
	}
	if next < 0 || next > stable {
		m.t.Fatalf("at %d: read to %d, it is stable to %d", offset, next, stable)
	}
	got = slices.DeleteFunc(got, func(o int64) bool { return o < offset })
	if want := m.committed(offset, next); !slices.Equal(got, want) {
		l, _ := m.log()
		m.t.Fatalf("[%d, %d): a client sees %v, want %v; local start %d, aborted %+v", offset, next, got, want, l.LocalStart(), part.AbortedTransactions)
	}
	return next
}

// committed is which records of [from, to) a client is to see.
func (m *ledger) committed(from, to int64) (offsets []int64) {
	for _, r := range m.records {
		if r.offset >= from && r.offset < to && (r.of == nil || r.of.decided && !r.of.aborted) {
			offsets = append(offsets, r.offset)
		}
	}
	return offsets
}

// TestReadCommittedIsTheSameFromEverywhere: memory, the WAL's files, and the
// bucket, whatever was uploaded, given up or restarted between the records of a
// transaction and its end.
func TestReadCommittedIsTheSameFromEverywhere(t *testing.T) {
	seed := seeded.Seed(t)
	rng := rand.New(rand.NewPCG(seed, 7))
	for range 2 {
		synctest.Test(t, func(t *testing.T) {
			b := bucket.NewMemory()
			m := &ledger{t: t, n: newBesideBucket(t, b), rng: rng, open: map[int64]*transaction{}, next: map[int64]int32{}}
			defer m.n.c.Close()
			m.start(b)
			m.n.produce() // makes the topic, with a record in it
			m.records, m.end = append(m.records, ledgerRecord{0, nil}), 1
			for step := range 60 {
				switch rng.IntN(9) {
				default:
					for range 1 + rng.IntN(8) {
						m.append(int64(rng.IntN(4)) - 1)
					}
				case 0, 1, 2:
					m.decide(int64(rng.IntN(3)))
				case 3, 4:
					time.Sleep(1500 * time.Millisecond) // uploads
				case 5:
					m.n.evict()
				case 6:
					if step%4 == 0 {
						m.stop()
						m.start(b)
					}
				}
				if step%10 == 9 {
					c := m.connect()
					m.compare(c, rng.Int64N(m.end))
					for range 20 {
						m.fetch(c, rng.Int64N(m.end))
					}
					c.conn.Close()
				}
			}
			time.Sleep(5 * time.Second)
			m.n.evict()
			c := m.connect()
			m.compare(c, 0)
			for from := range m.end {
				m.fetch(c, from)
			}
			c.conn.Close()
			l, _ := m.log()
			if l.LocalStart() < storage.Offset(m.end)/2 {
				t.Errorf("the WAL begins at %d of %d: the test shows less than it should", l.LocalStart(), m.end)
			}
			m.stop()
		})
	}
}

// TestAbortedTransactionsAreToldInOrder: also where the marker of the earlier one
// has left the WAL, and that of the later has not.
func TestAbortedTransactionsAreToldInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := bucket.NewMemory()
		m := &ledger{t: t, n: newBesideBucket(t, b), rng: rand.New(rand.NewPCG(1, 7)), open: map[int64]*transaction{}, next: map[int64]int32{}}
		defer m.n.c.Close()
		m.start(b)
		defer m.stop()
		m.n.produce() // makes the topic, with a record in it
		m.records, m.end = append(m.records, ledgerRecord{0, nil}), 1
		var want []kmsg.FetchResponseTopicPartitionAbortedTransaction
		begin := func(id int64) {
			first := kmsg.NewFetchResponseTopicPartitionAbortedTransaction()
			first.ProducerID, first.FirstOffset = id, m.end
			want = append(want, first)
			m.append(id)
		}
		begin(0)
		m.mark(0, true)
		begin(0)
		begin(1) // ends before that of 0, and began after it
		time.Sleep(5 * time.Second)
		m.n.evict()
		if l, _ := m.log(); l.LocalStart() != storage.Offset(m.end) {
			t.Fatalf("the WAL begins at %d of %d", l.LocalStart(), m.end)
		}
		m.mark(1, true)
		m.mark(0, true)
		c := m.connect()
		defer c.conn.Close()
		part := ask[*kmsg.FetchResponse](c, 12, committedOnly(fetchFrom("t", 0, 0, time.Minute))).Topics[0].Partitions[0]
		if !slices.EqualFunc(part.AbortedTransactions, want, func(a, b kmsg.FetchResponseTopicPartitionAbortedTransaction) bool {
			return a.ProducerID == b.ProducerID && a.FirstOffset == b.FirstOffset
		}) {
			t.Errorf("told %+v, want %+v", part.AbortedTransactions, want)
		}
		if got, _ := visible(t, part); !slices.Equal(got, []int64{0}) {
			t.Errorf("a client sees %v", got)
		}
	})
}
