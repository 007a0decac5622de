package log

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/disk"
	"rustmq.dev/rustmq/test/seeded"
)

// The dumb twin of a log: all batches that were ever appended and not truncated.
// A crash may leave any of its states since the last one that is known to be on
// disk, and nothing else; of those that the bucket has, or the log start has
// passed, fewer, but for what follows them.
type twin struct{ batches []batch.Batch }

func (w twin) end() storage.Offset {
	if len(w.batches) == 0 {
		return 0
	}
	return w.batches[len(w.batches)-1].NextOffset()
}

// sent is what the twin remembers of a producer: its last five batches.
func (w twin) sent(id int64) []sentBatch {
	var out []sentBatch
	for _, b := range w.batches {
		if b.ProducerID() == id && !b.IsControl() {
			out = append(out, sentOf(b))
		}
	}
	return out[max(0, len(out)-dedupeBatches):]
}

// epochOf is the epoch of the batch at an offset.
func (w twin) at(offset storage.Offset) (batch.Batch, bool) {
	for _, b := range w.batches {
		if b.NextOffset() > offset {
			return b, true
		}
	}
	return nil, false
}

// modelled is a log and its twin.
type modelled struct {
	id      storage.PartitionID
	log     *Log
	history []twin // the last is now
	durable int    // the first that a crash may leave
	epoch   storage.Epoch
	// What the catalogue has.
	logStart, uploaded storage.Offset

	next    map[int64]int32 // producers' next sequence numbers
	unacked []unacked
}

type unacked struct {
	answer
	base  storage.Offset
	state int  // of the history, that it led to
	parks bool // until it is committed, else it is answered once it is on disk
}

func (m *modelled) now() twin { return m.history[len(m.history)-1] }

func (m *modelled) become(w twin) { m.history = append(m.history, w) }

// model is a store under test.
type model struct {
	t     *rapid.T
	fs    *disk.Mem
	store *Store
	logs  []*modelled
	rng   *rand.Rand
	nonce int
}

func (m *model) options() Options { return tiered(m.fs) }

func (m *model) open() {
	var err error
	if m.store, err = Open(context.Background(), m.options()); err != nil {
		m.t.Fatal(err)
	}
}

func (m *model) pick() *modelled {
	return m.logs[rapid.IntRange(0, len(m.logs)-1).Draw(m.t, "log")]
}

// collect takes the answers that are there.
func (m *model) collect(l *modelled, wait bool) {
	for len(l.unacked) > 0 {
		u := l.unacked[0]
		if u.pending() && !wait {
			return
		}
		var r AppendResult
		select {
		case r = <-u.answer:
		case <-time.After(30 * time.Second):
			m.t.Fatal("an append was not answered within 30 s")
		}
		if r.Err != nil || r.Base != u.base {
			m.t.Fatalf("append at %d was answered %+v", u.base, r)
		}
		l.durable = max(l.durable, u.state)
		l.unacked = l.unacked[1:]
	}
}

// admit reports whether there was room.
func (m *model) admit(n int) bool {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	err := m.store.Admit(ctx, n)
	if err != nil && !errors.Is(err, ErrFull) {
		m.t.Fatalf("%v; %+v", err, m.store.Stats())
	}
	return err == nil
}

func (m *model) batch(o batch.BuilderOptions, records, size int) batch.Batch {
	w := batch.NewBuilder(o)
	for i := range records {
		m.nonce++
		w.Add(int64(i), nil, fmt.Appendf(make([]byte, size), "%d", m.nonce))
	}
	b, err := w.Build()
	if err != nil {
		m.t.Fatal(err)
	}
	return b
}

func (m *model) append(t *rapid.T) {
	l := m.pick()
	for range rapid.IntRange(1, 12).Draw(t, "batches") {
		o := batch.BuilderOptions{}
		id := rapid.Int64Range(-1, 3).Draw(t, "producer")
		if id >= 0 {
			o.Producer = &batch.Producer{ID: id, BaseSequence: l.next[id]}
		}
		b := m.batch(o, rapid.IntRange(1, 4).Draw(t, "records"), rapid.IntRange(0, 6000).Draw(t, "size"))
		m.appendOne(l, b)
	}
	if rapid.Bool().Draw(t, "wait") {
		m.collect(l, true)
	}
}

func (m *model) appendOne(l *modelled, b batch.Batch) { m.appendGuarded(l, b, Guard{}) }

func (m *model) appendGuarded(l *modelled, b batch.Batch, g Guard) {
	m.appendWith(l, b, AppendOptions{Epoch: l.epoch, LeaderOnly: true, Guard: g})
}

func (m *model) appendWith(l *modelled, b batch.Batch, o AppendOptions) {
	if !m.admit(len(b)) {
		return
	}
	a := make(answer, 1)
	l.log.Append(time.Now(), b, o, a)
	if !a.pending() {
		if r := a.wait(m.t); r.Err != nil {
			if errors.Is(r.Err, ErrFull) {
				return
			}
			m.t.Fatal(r.Err)
		} else {
			a <- r
		}
	}
	now := l.now()
	if id := b.ProducerID(); id >= 0 {
		l.next[id] = batch.NextSequence(b.LastSequence(), 1)
	}
	stamped := batch.Batch(bytes.Clone(b))
	batch.Stamp(stamped, now.end(), l.epoch)
	l.become(twin{append(slices.Clip(now.batches), stamped)})
	l.unacked = append(l.unacked, unacked{a, stamped.BaseOffset(), len(l.history) - 1, false})
}

// expect appends where the log ends, or says so and is wrong.
func (m *model) expect(t *rapid.T) {
	l := m.pick()
	o, id := batch.BuilderOptions{}, rapid.Int64Range(-1, 3).Draw(t, "producer")
	if id >= 0 {
		o.Producer = &batch.Producer{ID: id, BaseSequence: l.next[id]}
	}
	b := m.batch(o, rapid.IntRange(1, 3).Draw(t, "records"), 10)
	end := l.now().end()
	expected := max(0, end+storage.Offset(rapid.IntRange(-2, 2).Draw(t, "off by")))
	as := AppendOptions{Epoch: l.epoch, LeaderOnly: true, Condition: Expect(expected)}
	if expected == end {
		m.appendWith(l, b, as)
		return
	}
	if !m.admit(len(b)) {
		return
	}
	a := make(answer, 1)
	l.log.Append(time.Now(), b, as, a)
	r := a.wait(t)
	if refused, ok := errors.AsType[*UnexpectedEndError](r.Err); !ok || *refused != (UnexpectedEndError{expected, end}) {
		t.Fatalf("appended at %d, expected %d: %+v", end, expected, r)
	}
	if hw := l.log.HighWatermark(); hw != end || l.log.End() != end {
		t.Fatalf("refused at %d, the high watermark is %d, the end %d", end, hw, l.log.End())
	}
}

// duplicate sends one of a producer's last batches again.
func (m *model) duplicate(t *rapid.T) {
	l := m.pick()
	id := rapid.Int64Range(0, 3).Draw(t, "producer")
	sent := l.now().sent(id)
	if len(sent) == 0 {
		t.Skip("no batch to send again")
	}
	m.collect(l, true)
	again := sent[rapid.IntRange(0, len(sent)-1).Draw(t, "which")]
	b, ok := l.now().at(again.last)
	if !ok || !m.admit(len(b)) {
		return
	}
	a := make(answer, 1)
	l.log.Append(time.Now(), bytes.Clone(b), AppendOptions{Epoch: l.epoch, LeaderOnly: true}, a)
	if r := a.wait(t); r.Err != nil || r.Base != b.BaseOffset() || r.Last != b.LastOffset() {
		t.Fatalf("duplicate of %d to %d was answered %+v", b.BaseOffset(), b.LastOffset(), r)
	}
	if end := l.log.End(); end != l.now().end() {
		t.Fatalf("a duplicate moved the end from %d to %d", l.now().end(), end)
	}
}

// disorder sends what a producer must not.
func (m *model) disorder(t *rapid.T) {
	l := m.pick()
	id := rapid.Int64Range(0, 3).Draw(t, "producer")
	if len(l.now().sent(id)) == 0 || !m.admit(200) {
		t.Skip("nothing known of the producer")
	}
	b := m.batch(batch.BuilderOptions{Producer: &batch.Producer{ID: id, BaseSequence: l.next[id] + 1}}, 1, 0)
	a := make(answer, 1)
	l.log.Append(time.Now(), b, AppendOptions{Epoch: l.epoch}, a)
	m.store.Unadmit(200 - len(b) - frameOverhead)
	if r := a.wait(t); !errors.Is(r.Err, ErrOutOfOrderSequence) {
		t.Fatalf("sequence %d instead of %d was answered %+v", l.next[id]+1, l.next[id], r)
	}
}

func (m *model) trim(t *rapid.T) {
	l := m.pick()
	m.collect(l, true)
	now := l.now()
	to := storage.Offset(rapid.Int64Range(0, int64(now.end())).Draw(t, "to"))
	l.logStart = max(l.logStart, to)
	if err := l.log.SetLogStart(to); err != nil {
		t.Fatal(err)
	}
	if rapid.Bool().Draw(t, "beyond") {
		if err := l.log.SetLogStart(now.end() + 1); !errors.As(err, new(*OffsetOutOfRangeError)) {
			t.Fatalf("trim beyond the end: %v", err)
		}
	}
}

// upload puts some more whole batches into the bucket.
func (m *model) upload(t *rapid.T) {
	l := m.pick()
	m.collect(l, true)
	now := l.now()
	to := storage.Offset(rapid.Int64Range(0, int64(now.end())).Draw(t, "to"))
	if b, ok := now.at(to); ok {
		to = b.BaseOffset()
	}
	l.uploaded = max(l.uploaded, to)
	if err := l.log.SetUploaded(to); err != nil {
		t.Fatal(err)
	}
	if rapid.Bool().Draw(t, "beyond") {
		if err := l.log.SetUploaded(now.end() + 1); !errors.As(err, new(*OffsetOutOfRangeError)) {
			t.Fatalf("uploaded beyond the end: %v", err)
		}
	}
}

// giveUp has some or all of what is uploaded given up.
func (m *model) giveUp(t *rapid.T) {
	if rapid.Bool().Draw(t, "all") {
		if err := m.store.Evict(context.Background()); err != nil && !errors.Is(err, ErrFull) {
			t.Fatal(err)
		}
		return
	}
	l := m.pick()
	b, ok := l.now().at(l.log.LocalStart())
	if !ok || b.NextOffset() > l.log.Uploaded() {
		t.Skip("nothing to give up")
	}
	if err := l.log.advanceLocalStart(b.NextOffset(), rapid.Bool().Draw(t, "restate")); err != nil && !errors.Is(err, ErrFull) {
		t.Fatal(err)
	}
}

// inOrder: nothing is given up that the bucket has not.
func (m *model) inOrder(t *rapid.T) {
	for _, l := range m.logs {
		local, gone := l.log.LocalStart(), max(l.uploaded, l.logStart)
		if l.log.LogStart() != l.logStart || l.log.Uploaded() != gone || local < l.logStart || local > gone {
			t.Fatalf("%s: log start %d, local start %d, uploaded %d; the catalogue has it from %d to %d",
				l.id, l.log.LogStart(), local, l.log.Uploaded(), l.logStart, l.uploaded)
		}
	}
}

// truncate takes back what was appended while too few replicas were in sync.
func (m *model) truncate(t *rapid.T) {
	l := m.pick()
	m.collect(l, true)
	l.log.SetConfig(Config{MinInSync: 2})
	hw := l.log.HighWatermark()
	for range rapid.IntRange(1, 6).Draw(t, "batches") {
		o := batch.BuilderOptions{}
		id := rapid.Int64Range(-1, 3).Draw(t, "producer")
		if id >= 0 {
			o.Producer = &batch.Producer{ID: id, BaseSequence: l.next[id]}
		}
		m.appendOne(l, m.batch(o, 2, 100))
		if rapid.Bool().Draw(t, "transaction") {
			m.transactOne(l, firstTransactional)
		}
	}
	if rapid.Bool().Draw(t, "wait") {
		m.collect(l, true)
	}
	if got := l.log.HighWatermark(); got != hw {
		t.Fatalf("the high watermark moved from %d to %d with too few in sync", hw, got)
	}
	if rapid.Bool().Draw(t, "marker") {
		hw = m.markUncommitted(l)
	}
	to := storage.Offset(rapid.Int64Range(int64(hw), int64(l.now().end())).Draw(t, "to"))
	l.epoch++
	if err := l.log.TruncateTo(to, l.epoch); err != nil {
		t.Fatal(err)
	}
	now := l.now()
	keep := slices.Clone(now.batches)
	for len(keep) > 0 && keep[len(keep)-1].NextOffset() > to {
		keep = keep[:len(keep)-1]
	}
	l.become(twin{slices.Clip(keep)})
	end := l.now().end()
	for len(l.unacked) > 0 {
		u := l.unacked[len(l.unacked)-1]
		if u.base < end {
			break
		}
		// It may have been answered before; then it was acks=1 and is lost.
		if r := u.wait(t); r.Err != nil && !errors.Is(r.Err, ErrNotLeader) {
			t.Fatalf("truncated append at %d was answered %+v", u.base, r)
		}
		l.unacked = l.unacked[:len(l.unacked)-1]
	}
	// A marker may have stayed, and be refused all the same: who leads next says
	// whether it is committed.
	l.unacked = slices.DeleteFunc(l.unacked, func(u unacked) bool { return u.parks })
	m.restoreSequences(l)
	if err := l.log.BecomeLeader(l.epoch); err != nil {
		t.Fatal(err)
	}
	l.log.SetConfig(Config{})
	// What stays is committed once it is on disk, and nobody waits for a marker.
	if err := m.store.wal.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
}

// markUncommitted ends a transaction, and perhaps begins the next, while a follower is
// in sync that has confirmed nothing. It returns the high watermark.
func (m *model) markUncommitted(l *modelled) storage.Offset {
	l.log.SetReplicas(Replicas{InSync: []int32{2}})
	s, _ := l.now().state(firstTransactional)
	m.markOne(l, Marker{ProducerID: firstTransactional, ProducerEpoch: s.Epoch + 1, CoordinatorEpoch: max(0, s.CoordinatorEpoch), Commit: rapid.Bool().Draw(m.t, "commit"), TransactionVersion: 2})
	if rapid.Bool().Draw(m.t, "next") {
		m.transactOne(l, firstTransactional)
	}
	return l.log.HighWatermark()
}

func (m *model) restoreSequences(l *modelled) {
	l.next = map[int64]int32{}
	for id := range int64(4) {
		if sent := l.now().sent(id); len(sent) > 0 {
			l.next[id] = batch.NextSequence(sent[len(sent)-1].lastSequence(), 1)
		}
	}
}

// relocate copies what lies in the oldest segment of a log forward.
func (m *model) relocate(t *rapid.T) {
	if m.store.wal.Fullness() > 0.5 {
		t.Skip("the WAL would not ask: there is nothing to win")
	}
	l := m.pick()
	l.log.mu.Lock()
	oldest := l.log.stateRefs[0].Segment
	for _, ref := range l.log.everything(nil) {
		oldest = min(oldest, ref.Segment)
	}
	l.log.mu.Unlock()
	if err := (owner{m.store}).Relocate(context.Background(), oldest); err != nil && !errors.Is(err, ErrFull) {
		t.Fatal(err)
	}
}

func (m *model) evictAll(*rapid.T) {
	filler := m.logs[0]
	m.collect(filler, true)
	for range m.options().WAL.Memory / (16 << 10) {
		m.appendOne(filler, m.batch(batch.BuilderOptions{}, 1, 16<<10))
		m.collect(filler, true)
	}
	filler.logStart = filler.now().end()
	if err := filler.log.SetLogStart(filler.logStart); err != nil {
		m.t.Fatalf("%v; %+v", err, m.store.Stats())
	}
}

func (m *model) read(t *rapid.T) {
	l := m.pick()
	m.collect(l, true)
	now := l.now()
	at := storage.Offset(rapid.Int64Range(0, int64(now.end())+1).Draw(t, "at"))
	q := ReadRequest{Offset: at, MaxBytes: rapid.IntRange(0, 40_000).Draw(t, "max"), MinOne: rapid.Bool().Draw(t, "min one")}
	limit := now.end()
	if rapid.Bool().Draw(t, "committed") {
		q.Isolation = LastStable
		limit = now.lastStable(limit)
	}
	r, err := l.log.Read(q)
	if at < l.logStart || at > now.end() {
		if !errors.As(err, new(*OffsetOutOfRangeError)) {
			t.Fatalf("read at %d of [%d, %d): %v", at, l.logStart, now.end(), err)
		}
		return
	}
	if gone, ok := errors.AsType[*NotLocalError](err); ok {
		if at >= l.uploaded || gone.LocalStart <= at || gone.LocalStart > l.uploaded {
			t.Fatalf("read at %d, uploaded to %d: %v", at, l.uploaded, err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer r.Release()
	left, to := q.MaxBytes, at
	for _, b := range now.batches {
		if b.NextOffset() <= at {
			continue
		}
		if b.NextOffset() > limit {
			break
		}
		first := len(r.Batches) == 0 || bytes.Equal(b, r.Batches[0]) && left == q.MaxBytes
		if len(b) > left && !(q.MinOne && first && left == q.MaxBytes) {
			break
		}
		if len(r.Batches) == 0 || !bytes.Equal(r.Batches[0], b) {
			t.Fatalf("read at %d with %d bytes: batch at %d is missing or different", at, q.MaxBytes, b.BaseOffset())
		}
		r.Batches = r.Batches[1:]
		to = b.NextOffset()
		left -= len(b)
	}
	if want := now.aborted(at, to); q.Isolation == LastStable && to > at && !slices.Equal(r.Aborted, want) {
		t.Fatalf("read of [%d, %d) has aborted %v, want %v", at, to, r.Aborted, want)
	}
	if len(r.Batches) > 0 {
		t.Fatalf("read at %d with %d bytes: %d batches too many", at, q.MaxBytes, len(r.Batches))
	}
}

// crash ends the store as kill -9, a power cut or an orderly stop would, opens
// what is left, and finds one of the states that may be.
func (m *model) crash(t *rapid.T) {
	how := rapid.SampledFrom([]string{"kill", "power cut", "stop"}).Draw(t, "how")
	for _, l := range m.logs {
		m.collect(l, false)
		if how == "stop" {
			m.collect(l, true)
			l.durable = len(l.history) - 1
		}
	}
	old := m.store
	var left *disk.Mem
	switch how {
	case "kill":
		left = m.fs.Clone()
	case "power cut":
		left = m.fs.Crash(m.rng)
	}
	if err := old.Close(); err != nil && how == "stop" {
		t.Fatal(err)
	}
	if left != nil {
		m.fs = left
	}
	m.open()
	for _, l := range m.logs {
		m.recovered(l, how)
	}
}

func (m *model) recovered(l *modelled, how string) {
	var ok bool
	if l.log, ok = m.store.Log(l.id); !ok {
		m.t.Fatalf("after a %s: %s is gone", how, l.id)
	}
	if err := l.log.Err(); err != nil {
		m.t.Fatalf("after a %s: %v", how, err)
	}
	local := l.log.LocalStart()
	if l.log.LogStart() != local || local > max(l.uploaded, l.logStart) {
		m.t.Fatalf("after a %s: %s has log start %d, local start %d; uploaded to %d, log start %d", how, l.id, l.log.LogStart(), local, l.uploaded, l.logStart)
	}
	// The latest first: states may look alike.
	state := -1
	for i := len(l.history) - 1; i >= l.durable && state < 0; i-- {
		if l.history[i].end() == l.log.End() && l.history[i].sameBatches(m.t, l.log) {
			state = i
		}
	}
	if state < 0 {
		m.t.Fatalf("after a %s: %s is [%d, %d), none of its states since one to %d, until one to %d", how, l.id, local, l.log.End(),
			l.history[l.durable].end(), l.now().end())
	}
	l.history = l.history[state : state+1]
	l.durable = 0
	l.unacked = nil
	m.restoreSequences(l)
	for id := range int64(4) {
		want := l.now().sent(id)
		var got []sentBatch
		if p := l.log.producers[id]; p != nil {
			got = p.sent[max(0, len(p.sent)-dedupeBatches):]
		}
		if !slices.Equal(got, want) {
			m.t.Fatalf("after a %s: producer %d is remembered with %+v, it sent %+v", how, id, got, want)
		}
	}
	m.learn(l)
	for _, b := range l.now().batches {
		if b.BaseOffset() >= l.log.LogStart() {
			if got := l.log.EpochAt(b.BaseOffset()); got != b.LeaderEpoch() {
				m.t.Fatalf("after a %s: the epoch at %d is %d, was %d", how, b.BaseOffset(), got, b.LeaderEpoch())
			}
		}
	}
	l.epoch++
	if err := l.log.BecomeLeader(l.epoch); err != nil {
		m.t.Fatal(err)
	}
	if hw := l.log.HighWatermark(); hw != l.log.End() {
		m.t.Fatalf("after a %s: led with the high watermark at %d, the end is %d", how, hw, l.log.End())
	}
	l.compareTransactions(m.t)
}

// learn tells a log what the catalogue has, in either order.
func (m *model) learn(l *modelled) {
	tell := []func() error{
		func() error { return l.log.SetLogStart(l.logStart) },
		func() error { return l.log.SetUploaded(l.uploaded) },
	}
	if rapid.Bool().Draw(m.t, "uploads first") {
		slices.Reverse(tell)
	}
	for _, f := range tell {
		if err := f(); err != nil {
			m.t.Fatal(err)
		}
	}
}

// sameBatches reports whether the log holds the twin's batches from its local
// start on.
func (w twin) sameBatches(t *rapid.T, l *Log) bool {
	at := l.LocalStart()
	for _, want := range w.batches {
		if want.NextOffset() <= at {
			continue
		}
		r, err := l.Read(ReadRequest{Offset: at, MinOne: true, Isolation: LogEnd})
		if err != nil {
			t.Fatalf("read %s at %d: %v", l.id, at, err)
		}
		same := len(r.Batches) == 1 && bytes.Equal(r.Batches[0], want)
		r.Release()
		if !same {
			return false
		}
		at = want.NextOffset()
	}
	return true
}

// TestLogIsItsDumbTwin drives a store with three partitions through random
// appends, transactions, duplicates, trims, truncations, uploads, evictions from memory and from
// the WAL, relocations and crashes, and compares each with a slice of batches.
func TestLogIsItsDumbTwin(t *testing.T) {
	seeded.Check(t, func(rt *rapid.T) {
		m := &model{t: rt, fs: disk.NewMem(disk.MemOptions{}), rng: rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "crash seed"), 3))}
		m.open()
		defer func() { _ = m.store.Close() }()
		for i := range int32(3) {
			l := &modelled{id: partition(topicA, i), epoch: 1, history: []twin{{}}, next: map[int64]int32{}}
			var err error
			if l.log, err = m.store.Create(l.id, Config{}); err != nil {
				rt.Fatal(err)
			}
			if err := l.log.BecomeLeader(1); err != nil {
				rt.Fatal(err)
			}
			m.logs = append(m.logs, l)
		}
		if err := m.store.Flush(context.Background()); err != nil {
			rt.Fatal(err)
		}
		rt.Repeat(map[string]func(*rapid.T){
			"append":    m.append,
			"append2":   m.append,
			"transact":  m.transact,
			"transact2": m.transact,
			"mark":      m.mark,
			"mark2":     m.mark,
			"stable":    m.stable,
			"duplicate": m.duplicate,
			"disorder":  m.disorder,
			"expect":    m.expect,
			"trim":      m.trim,
			"truncate":  m.truncate,
			"relocate":  m.relocate,
			"evict":     m.evictAll,
			"read":      m.read,
			"read2":     m.read,
			"upload":    m.upload,
			"upload2":   m.upload,
			"give up":   m.giveUp,
			"give up2":  m.giveUp,
			"crash":     m.crash,
			"":          m.inOrder,
		})
	})
}
