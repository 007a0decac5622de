package log

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"pgregory.net/rapid"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
)

// What the dumb twin says of transactions, by walking through all batches.

// The producers of the model that have transactions.
const firstTransactional, transactionalProducers = 10, 3

// isTransactional: their epochs are raised by every second one's markers, as by
// coordinators of transaction version 2.
func bumps(id int64) bool { return id%2 == 0 }

// state is what is to be remembered of a producer.
func (w twin) state(id int64) (s ProducerState, known bool) {
	s = ProducerState{ID: id, Epoch: -1, LastSequence: -1, CoordinatorEpoch: -1, CurrentTransactionStart: storage.NoOffset}
	for _, b := range w.batches {
		if b.ProducerID() != id {
			continue
		}
		known = true
		if b.ProducerEpoch() > s.Epoch {
			s.Epoch, s.LastSequence = b.ProducerEpoch(), -1
		}
		if m, ok := batch.ReadMarker(b); ok {
			s.CoordinatorEpoch, s.CurrentTransactionStart = m.CoordinatorEpoch, storage.NoOffset
			continue
		}
		s.LastSequence = b.LastSequence()
		if b.IsTransactional() && s.CurrentTransactionStart == storage.NoOffset {
			s.CurrentTransactionStart = b.BaseOffset()
		}
	}
	return s, known
}

// transactions returns all that ended, and those that are open.
func (w twin) transactions() (ended []Aborted, committed map[storage.Offset]bool, open map[int64]storage.Offset) {
	committed, open = map[storage.Offset]bool{}, map[int64]storage.Offset{}
	for _, b := range w.batches {
		id := b.ProducerID()
		first, isOpen := open[id]
		if m, ok := batch.ReadMarker(b); ok {
			if isOpen {
				ended = append(ended, Aborted{id, first, b.LastOffset()})
				committed[b.LastOffset()] = m.Commit
			}
			delete(open, id)
		} else if b.IsTransactional() && !isOpen {
			open[id] = b.BaseOffset()
		}
	}
	return ended, committed, open
}

// lastStable of the twin, if the high watermark, and its end, were there.
func (w twin) lastStable(highWatermark storage.Offset) storage.Offset {
	ended, _, open := w.transactions()
	stable := highWatermark
	for _, first := range open {
		stable = min(stable, first)
	}
	for _, t := range ended {
		if t.Last >= highWatermark {
			stable = min(stable, t.First)
		}
	}
	return stable
}

// aborted are the transactions that a reader of [from, to) must know, in order of
// their markers.
func (w twin) aborted(from, to storage.Offset) (out []Aborted) {
	ended, committed, _ := w.transactions()
	for _, t := range ended {
		if !committed[t.Last] && t.First < to && t.Last >= from {
			out = append(out, t)
		}
	}
	slices.SortFunc(out, func(a, b Aborted) int { return cmp.Compare(a.Last, b.Last) })
	return out
}

// transact sends a batch or two of a transaction, whether or not one is open.
func (m *model) transact(t *rapid.T) {
	l := m.pick()
	id := firstTransactional + rapid.Int64Range(0, transactionalProducers-1).Draw(t, "producer")
	for range rapid.IntRange(1, 3).Draw(t, "batches") {
		m.transactOne(l, id)
	}
	if rapid.Bool().Draw(t, "wait") {
		m.collect(l, true)
	}
}

func (m *model) transactOne(l *modelled, id int64) {
	s, _ := l.now().state(id)
	o := batch.BuilderOptions{Transactional: true, Producer: &batch.Producer{ID: id, Epoch: max(0, s.Epoch)}}
	if s.LastSequence >= 0 {
		o.Producer.BaseSequence = batch.NextSequence(s.LastSequence, 1)
	}
	b := m.batch(o, 2, 300)
	guard, open, err := l.log.BeginVerification(id, b.ProducerEpoch(), b.BaseSequence())
	if err != nil {
		m.t.Fatal(err)
	}
	if want := s.CurrentTransactionStart != storage.NoOffset; open != want {
		m.t.Fatalf("producer %d has a transaction open: %t; it is %+v", id, open, s)
	}
	if !open { // nobody has confirmed it
		m.refused(l, b, AppendOptions{Epoch: l.epoch, LeaderOnly: true}, ErrUnverified)
	}
	m.appendGuarded(l, b, guard)
}

// refused appends what must not be.
func (m *model) refused(l *modelled, b batch.Batch, o AppendOptions, want error) {
	if !m.admit(len(b)) {
		return
	}
	a := make(answer, 1)
	l.log.Append(time.Now(), bytes.Clone(b), o, a)
	if r := a.wait(m.t); !errors.Is(r.Err, want) {
		m.t.Fatalf("it was answered %+v, want %v", r, want)
	}
}

// mark ends a transaction, or says that there was none, or comes again or late.
func (m *model) mark(t *rapid.T) {
	l := m.pick()
	id := firstTransactional + rapid.Int64Range(0, transactionalProducers-1).Draw(t, "producer")
	s, known := l.now().state(id)
	marker := Marker{ProducerID: id, ProducerEpoch: max(0, s.Epoch), CoordinatorEpoch: max(0, s.CoordinatorEpoch), Commit: rapid.Bool().Draw(t, "commit")}
	if bumps(id) {
		marker.TransactionVersion = 2
	}
	open := s.CurrentTransactionStart != storage.NoOffset
	switch rapid.SampledFrom([]string{"end", "end", "end", "coordinator moved", "old coordinator", "again", "late"}).Draw(t, "which") {
	case "end":
		if bumps(id) && known {
			marker.ProducerEpoch++
		}
	case "coordinator moved":
		if bumps(id) && known {
			marker.ProducerEpoch++
		}
		marker.CoordinatorEpoch++
	case "old coordinator":
		if s.CoordinatorEpoch < 1 {
			t.Skip("there is none before")
		}
		if bumps(id) {
			marker.ProducerEpoch++
		}
		marker.CoordinatorEpoch = s.CoordinatorEpoch - 1
		m.markerRefused(l, marker, ErrCoordinatorFenced)
		return
	case "again":
		if !bumps(id) || !known || s.CoordinatorEpoch < 0 {
			t.Skip("it would end what is open")
		}
		if open { // a late one of the transaction before
			m.markerRefused(l, marker, ErrInvalidProducerEpoch)
			return
		}
	case "late":
		if s.Epoch < 1 {
			t.Skip("there is no epoch before")
		}
		marker.ProducerEpoch--
		m.markerRefused(l, marker, ErrInvalidProducerEpoch)
		return
	}
	m.markOne(l, marker)
	if rapid.Bool().Draw(t, "wait") {
		m.collect(l, true)
	}
}

func (m *model) markerRefused(l *modelled, marker Marker, want error) {
	a := make(answer, 1)
	l.log.AppendMarker(context.Background(), time.Now(), marker, MarkerOptions{Epoch: l.epoch}, a)
	if r := a.wait(m.t); !errors.Is(r.Err, want) && !errors.Is(r.Err, ErrFull) {
		m.t.Fatalf("%+v was answered %+v, want %v", marker, r, want)
	}
}

func (m *model) markOne(l *modelled, marker Marker) {
	now := l.now()
	s, known := now.state(marker.ProducerID)
	news := !known || s.CurrentTransactionStart != storage.NoOffset || s.Epoch != marker.ProducerEpoch || s.CoordinatorEpoch != marker.CoordinatorEpoch
	a := make(answer, 1)
	l.log.AppendMarker(context.Background(), sentAt, marker, MarkerOptions{Epoch: l.epoch}, a)
	if !a.pending() {
		r := a.wait(m.t)
		if errors.Is(r.Err, ErrFull) {
			return
		} else if r.Err != nil {
			m.t.Fatalf("%+v: %v", marker, r.Err)
		}
		a <- r
	}
	if !news {
		if end := l.log.End(); end != now.end() {
			m.t.Fatalf("%+v, which says nothing new, moved the end from %d to %d", marker, now.end(), end)
		}
		m.collect(l, true) // what it waits for
		a.wait(m.t)
		return
	}
	b := batch.BuildMarker(sentAt.UnixMilli(), marker.ProducerID, marker.ProducerEpoch, batch.Marker{Commit: marker.Commit, CoordinatorEpoch: marker.CoordinatorEpoch})
	batch.Stamp(b, now.end(), l.epoch)
	l.become(twin{append(slices.Clip(now.batches), b)})
	l.unacked = append(l.unacked, unacked{a, b.BaseOffset(), len(l.history) - 1, true})
}

// stable compares what a log says of transactions with the twin.
func (m *model) stable(*rapid.T) {
	for _, l := range m.logs {
		m.collect(l, true)
		l.compareTransactions(m.t)
	}
}

func (l *modelled) compareTransactions(t *rapid.T) {
	now, hw := l.now(), l.log.HighWatermark()
	if got, want := l.log.LastStable(), max(now.lastStable(hw), l.log.LogStart()); got != want {
		t.Fatalf("%s: the last stable offset is %d, want %d; the high watermark %d", l.id, got, want, hw)
	}
	states := map[int64]ProducerState{}
	for _, s := range l.log.Producers() {
		states[s.ID] = s
	}
	for id := int64(firstTransactional); id < firstTransactional+transactionalProducers; id++ {
		want, known := now.state(id)
		got, ok := states[id]
		if got.LastTimestamp = 0; ok != known || known && got != want {
			t.Fatalf("%s: producer %d is %+v, want %+v", l.id, id, got, want)
		}
	}
	from := storage.Offset(rapid.Int64Range(0, int64(hw)).Draw(t, "from"))
	to := storage.Offset(rapid.Int64Range(int64(from), int64(hw)).Draw(t, "to"))
	got, local := l.log.Aborted(from, to)
	want := slices.DeleteFunc(now.aborted(from, to), func(a Aborted) bool { return a.Last < local })
	if !slices.Equal(got, want) {
		t.Fatalf("%s: aborted of [%d, %d) are %v, want %v; local start %d", l.id, from, to, got, want, local)
	}
	l.compareOutcome(t, hw)
}

// compareOutcome compares what a range for the bucket would say.
func (l *modelled) compareOutcome(t *rapid.T, hw storage.Offset) {
	from := l.log.Uploaded()
	end := storage.Offset(rapid.Int64Range(int64(from), int64(hw)).Draw(t, "end"))
	if b, ok := l.now().at(end); ok {
		end = max(from, b.BaseOffset())
	}
	got, err := l.log.Outcome(from, end)
	if err != nil {
		t.Fatal(err)
	}
	before := twin{slices.DeleteFunc(slices.Clone(l.now().batches), func(b batch.Batch) bool { return b.BaseOffset() >= end })}
	if want := before.lastStable(end); got.LastStable != want {
		t.Fatalf("%s: [%d, %d) is stable up to %d, want %d", l.id, from, end, got.LastStable, want)
	}
	want := slices.DeleteFunc(before.aborted(from, end), func(a Aborted) bool { return a.Last < from })
	if !slices.Equal(got.Aborted, want) {
		t.Fatalf("%s: [%d, %d) has aborted %v, want %v", l.id, from, end, got.Aborted, want)
	}
}
