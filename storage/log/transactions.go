package log

import (
	"cmp"
	"fmt"
	"slices"
	"sort"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/guard"
)

// Aborted is a transaction that was aborted: Last is the offset of its marker.
type Aborted struct {
	ProducerID  int64
	First, Last storage.Offset
}

// span is a transaction: its first batch is at first, its marker at last, or
// NoOffset while it is open.
type span struct {
	producer    int64
	first, last storage.Offset
}

// What a transaction, and an offset, take in memory.
const (
	spanBytes   = 24
	offsetBytes = 8
)

// transactions is what a log knows of its transactions. It does no I/O; Log.mu
// guards it.
type transactions struct {
	// unstable hold the last stable offset: the transactions that are open, and
	// those whose marker is not committed. In order of first, from oldest on; those
	// before it, and some between, are settled, and hold nothing any more. They are
	// removed together, so that settling one does not cost a look at all.
	unstable []span
	oldest   int              // in unstable, of those that are not settled
	settled  int              // of unstable; at most half, so that none is left when all are
	ending   []storage.Offset // the markers of those that are ending, in order
	upTo     storage.Offset   // markers below are committed, and what they end is settled
	// Transactions that ended, in order of last. Those aborted are kept as long as
	// the WAL has the marker; those committed until the bucket has it, for they
	// were open at the end of a range that ends before.
	aborted, committed []span
}

// bytes is what it takes in memory.
func (t *transactions) bytes() int64 {
	return spanBytes*int64(cap(t.unstable)+cap(t.aborted)+cap(t.committed)) + offsetBytes*int64(cap(t.ending))
}

func (t *transactions) none() bool {
	return len(t.unstable)+len(t.aborted)+len(t.committed) == 0
}

// restore takes over what a state knows. A marker above its high watermark, which one
// may have that is ahead of it, holds what it ended until it is committed here too.
func (t *transactions) restore(s *state) {
	*t = transactions{aborted: s.aborted, committed: s.committed}
	for id, p := range s.producers {
		if p.open != storage.NoOffset {
			t.unstable = append(t.unstable, span{id, p.open, storage.NoOffset})
		}
	}
	for _, ended := range [...][]span{s.aborted, s.committed} {
		for _, e := range ended[behind(ended, s.highWatermark):] {
			t.unstable = append(t.unstable, e)
			t.ending = append(t.ending, e.last)
		}
	}
	slices.SortFunc(t.unstable, func(a, b span) int { return cmp.Compare(a.first, b.first) })
	slices.Sort(t.ending)
}

// begin notes the first batch of a transaction.
func (t *transactions) begin(producer int64, first storage.Offset) {
	t.unstable = append(t.unstable, span{producer, first, storage.NoOffset})
}

// end notes the marker of a transaction that began at first. keep: it matters
// that it ended with a commit.
func (t *transactions) end(producer int64, first, last storage.Offset, commit, keep bool) {
	if i, ok := t.find(first); ok {
		t.unstable[i].last = last
		t.ending = append(t.ending, last)
	}
	switch {
	case !commit:
		t.aborted = append(t.aborted, span{producer, first, last})
	case keep:
		t.committed = append(t.committed, span{producer, first, last})
	}
}

func (t *transactions) find(first storage.Offset) (int, bool) {
	return slices.BinarySearchFunc(t.unstable, first, func(s span, at storage.Offset) int { return cmp.Compare(s.first, at) })
}

// settle forgets, among what holds the last stable offset, the transactions whose
// marker is committed.
func (t *transactions) settle(highWatermark storage.Offset) {
	n, _ := slices.BinarySearch(t.ending, highWatermark)
	if n == 0 {
		return
	}
	if n == len(t.ending) {
		t.ending = t.ending[:0]
	} else {
		t.ending = t.ending[n:]
	}
	t.upTo, t.settled = highWatermark, t.settled+n
	for t.oldest < len(t.unstable) && t.isSettled(t.unstable[t.oldest]) {
		t.oldest++
	}
	if 2*t.settled > len(t.unstable) {
		t.sweep()
	}
}

func (t *transactions) isSettled(s span) bool { return s.last != storage.NoOffset && s.last < t.upTo }

// sweep removes what is settled.
func (t *transactions) sweep() {
	t.unstable = slices.DeleteFunc(t.unstable, t.isSettled)
	t.oldest, t.settled = 0, 0
}

// held returns where the first transaction begins that holds the last stable
// offset.
func (t *transactions) held() (first storage.Offset, ok bool) {
	if t.oldest == len(t.unstable) {
		return 0, false
	}
	return t.unstable[t.oldest].first, true
}

// truncate takes back what lies at or behind end.
func (t *transactions) truncate(end storage.Offset) {
	t.sweep()
	n, _ := t.find(end)
	t.unstable = t.unstable[:n]
	for i := range t.unstable {
		if s := &t.unstable[i]; s.last >= end {
			s.last = storage.NoOffset
		}
	}
	n, _ = slices.BinarySearch(t.ending, end)
	t.ending = t.ending[:n]
	t.aborted = t.aborted[:behind(t.aborted, end)]
	t.committed = t.committed[:behind(t.committed, end)]
}

// trim forgets the transactions that are of no use once the WAL begins at local,
// and the bucket has what lies before uploaded.
func (t *transactions) trim(local, uploaded storage.Offset) {
	t.aborted = cutFront(t.aborted, behind(t.aborted, local))
	t.committed = cutFront(t.committed, behind(t.committed, max(local, uploaded)))
}

// behind returns the first of spans, which ended, whose marker is not before an
// offset.
func behind(spans []span, offset storage.Offset) int {
	return sort.Search(len(spans), func(i int) bool { return spans[i].last >= offset })
}

// cutFront removes the first n. The memory goes with them, in the end.
func cutFront(spans []span, n int) []span {
	switch {
	case n == 0:
		return spans
	case n == len(spans):
		return nil
	case n < len(spans)/2:
		return slices.Delete(spans, 0, n)
	}
	return slices.Clone(spans[n:])
}

// stableAsOf is the last stable offset of a log that is committed up to end.
func (t *transactions) stableAsOf(end storage.Offset) storage.Offset {
	stable := end
	for _, s := range t.unstable[t.oldest:] {
		if s.first >= stable {
			break
		}
		if s.last == storage.NoOffset || s.last >= end {
			stable = s.first
		}
	}
	for _, ended := range [...][]span{t.aborted, t.committed} {
		for _, s := range ended[behind(ended, end):] {
			stable = min(stable, s.first)
		}
	}
	return stable
}

// within appends the aborted transactions that have a batch in [from, to), or
// one elsewhere and their marker behind from.
func (t *transactions) within(out []Aborted, from, to storage.Offset) []Aborted {
	for _, s := range t.aborted[behind(t.aborted, from):] {
		if s.first < to {
			out = append(out, Aborted{s.producer, s.first, s.last})
		}
	}
	return out
}

// noteTransactions does something with l.transactions, and accounts for their
// memory. l.mu is held.
func (l *Log) noteTransactions(do func(*transactions)) {
	before := l.transactions.bytes()
	do(&l.transactions)
	if after := l.transactions.bytes(); after != before {
		l.store.indexBytes.Add(after - before)
	}
}

// settleTransactions settles those whose marker is committed now. l.mu is held.
func (l *Log) settleTransactions() {
	l.noteTransactions(func(t *transactions) { t.settle(l.replica.highWatermark) })
}

// lastStable is the offset below which every transaction was decided, and that is
// committed. l.mu is held.
func (l *Log) lastStable() storage.Offset {
	stable := l.replica.highWatermark
	if first, held := l.transactions.held(); held && !guard.Check("log.last-stable", first >= stable) {
		stable = first
	}
	return max(stable, l.logStart) // deleted records hold nothing up
}

// LastStable is the offset below which no transaction is open, nor ended by a
// marker that is not committed. Who reads what is committed by transactions reads
// up to there.
func (l *Log) LastStable() storage.Offset {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lastStable()
}

// Offsets is where a log begins and how far it can be read, all as of one moment:
// LogStart <= LastStable <= HighWatermark.
type Offsets struct {
	LogStart, LastStable, HighWatermark storage.Offset
}

// Offsets returns where the log begins, and how far it can be read.
func (l *Log) Offsets() Offsets {
	l.mu.Lock()
	defer l.mu.Unlock()
	return Offsets{LogStart: l.logStart, LastStable: l.lastStable(), HighWatermark: l.replica.highWatermark}
}

// Aborted returns the aborted transactions that a reader of [from, to) must know,
// of those whose marker lies at or behind localStart, where the WAL begins now:
// the bucket's indexes have the others.
func (l *Log) Aborted(from, to storage.Offset) (aborted []Aborted, localStart storage.Offset) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.transactions.within(nil, from, to), l.localStart
}

// Outcome is what a range for the bucket says of the transactions in it.
type Outcome struct {
	LastStable storage.Offset // as if the log ended with the range
	Aborted    []Aborted      // whose marker lies in the range
}

// Outcome returns what is to be said of [from, end), which follows on what is
// uploaded, and is committed.
func (l *Log) Outcome(from, end storage.Offset) (Outcome, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.refused != nil:
		return Outcome{}, l.refused
	case from < l.uploaded || end > l.uploadable():
		return Outcome{}, fmt.Errorf("transactions of [%d, %d) in %s, uploaded to %d: %w", from, end, l.id, l.uploaded,
			&OffsetOutOfRangeError{Offset: from, LogStart: l.uploaded, End: l.replica.highWatermark})
	}
	o := Outcome{LastStable: l.transactions.stableAsOf(end)}
	for _, s := range l.transactions.aborted[behind(l.transactions.aborted, from):behind(l.transactions.aborted, end)] {
		o.Aborted = append(o.Aborted, Aborted{s.producer, s.first, s.last})
	}
	return o, nil
}
