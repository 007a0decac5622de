package broker

import (
	"cmp"
	"errors"
	"slices"
	"sync/atomic"

	"github.com/twmb/franz-go/pkg/kerr"

	"rustmq.dev/rustmq/roles/broker/wire"
	"rustmq.dev/rustmq/security/acl"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/guard"
	"rustmq.dev/rustmq/storage/log"
)

// fetchPart is one partition of a fetch, or of a session from one fetch to the
// next.
type fetchPart struct {
	fetch   *fetchRequest   // it belongs to; nil in a session
	session *session        // it belongs to; nil without
	topic   *topic          // nil: unknown when last looked up
	name    string          // asked for, where topics go by name
	id      storage.TopicID // asked for, where topics go by id
	want    wire.FetchPartition

	// These stand together, for there may be a million parts.
	near      bool // a log that is followed here serves it, too
	lags      bool // that is about to know that what it wants is committed
	cold      bool // its records are on their way from the bucket, which wakes the fetch
	stable    bool // it is registered for what is below the last stable offset
	denied    bool // the client may not read the topic
	included  bool // in the response
	forgotten bool // by the session's client

	judged acl.Stamp      // of whether it is denied
	sent   storage.Offset // up to where the records of the response are from the bucket; 0: none is

	watching *log.Log     // where it is registered
	place    log.Watching // by watching
	waker    *waker       // by which it is, or was; nil: another is to be made

	result wire.FetchResult // of the last evaluation
	told   told             // in the session so far
}

// told is what a session's client knows of a partition.
type told struct {
	highWatermark, logStart storage.Offset
	known                   bool
}

// waker is the waiter that a partition's log wakes. The log may come to that long
// after it took the waiter off its list, when the part that it was registered for is
// another fetch's: what it tells by then is its own, and a fetch that looks in vain.
type waker struct {
	fetch   *fetchRequest // to wake; nil: that of the session
	session *session
	state   atomic.Int32
}

// States of a waker.
const (
	wakerRegistered int32 = iota
	wakerCalled           // and registered no more
	wakerFree             // the call is over
)

// Wake is called by the log when there are records to read.
func (w *waker) Wake() {
	w.state.Store(wakerCalled)
	f := w.fetch
	if w.session != nil {
		f = w.session.current.Load()
	}
	if f != nil {
		f.Wake()
	}
	w.state.Store(wakerFree)
}

func (w *waker) registered() bool { return w.state.Load() == wakerRegistered }

// watch registers the part with its log, unless it still is: for more than the
// last evaluation saw, which was not enough; stable: of what is committed by
// transactions.
func (part *fetchPart) watch(stable bool) {
	if part.watching != nil && part.stable != stable { // the session's client has changed its mind
		part.unwatch()
	}
	if part.watching != nil && part.waker.registered() {
		return
	}
	l, ok := part.log()
	if !ok {
		part.watching = nil
		return
	}
	part.watching = l
	if part.waker == nil || part.waker.state.Load() != wakerFree {
		part.waker = &waker{fetch: part.fetch, session: part.session}
	}
	part.waker.state.Store(wakerRegistered)
	if part.stable = stable; stable {
		part.place = l.WatchStable(max(part.want.Offset, part.result.LastStable), part.waker)
	} else {
		part.place = l.Watch(max(part.want.Offset, part.result.HighWatermark), part.waker)
	}
}

func (part *fetchPart) unwatch() {
	if part.watching != nil && part.waker.registered() {
		part.watching.Unwatch(part.place)
		part.waker = nil // the log may be about to call it
	}
	part.watching = nil
}

// recycle makes part one of no partition, that keeps what it can for another. It is
// not registered.
func (part *fetchPart) recycle() { *part = fetchPart{waker: part.waker} }

// log returns the log that the part reads from, if it is here.
func (part *fetchPart) log() (*log.Log, bool) {
	p := part.partition()
	if p == nil {
		return nil, false
	}
	l, _, _ := p.reading(part.near)
	return l, l != nil
}

func (part *fetchPart) partition() *partition {
	if part.topic == nil {
		return nil
	}
	return part.topic.partition(part.want.Index)
}

func (part *fetchPart) sameTopic(other *fetchPart) bool {
	return other != nil && part.name == other.name && part.id == other.id
}

// nothing makes the result one that says nothing of the log.
func (part *fetchPart) nothing() {
	part.result = wire.FetchResult{
		Index: part.want.Index, HighWatermark: storage.NoOffset, LastStable: storage.NoOffset, LogStart: storage.NoOffset, Preferred: noReplica,
	}
}

// read evaluates the part: what it would add to the response, of which left
// bytes of records remain. It reports whether the client should know at once.
func (part *fetchPart) read(f *fetchRequest, left int) (urgent bool) {
	part.cold, part.sent, part.near, part.lags = false, 0, f.near, false
	part.nothing()
	part.tellAborted(f, nil)
	l, r, err := part.resolve(f)
	if f.judges && !part.mayRead(&f.asks) {
		err = kerr.TopicAuthorizationFailed
	}
	if err == nil {
		err = checkEpoch(part.want.CurrentLeaderEpoch, r.epoch)
	}
	if err == nil {
		if diverged := part.diverged(l); diverged {
			return true
		}
		part.result.Preferred, err = part.referred(f, l, r)
	}
	if err == nil {
		if part.result.Preferred != noReplica {
			part.offsets(l)
			return true
		}
		err = part.readLog(f, l, r, left)
	}
	if err == nil {
		return false
	}
	part.result.ErrorCode = code(err)
	if part.result.ErrorCode == kerr.NotLeaderForPartition.Code && r != nil && f.q.Version >= 12 {
		if f.hints.image == nil {
			f.hints = f.b.hintsFor(f.r)
		}
		part.result.Leader = f.hints.leader(r.leader, r.epoch)
	}
	return !part.lags
}

// judge decides, by what the connection remembers, whether the client may read the topics
// of the parts that are known.
func (f *fetchRequest) judge(memo *acl.Memo) {
	f.judges = true
	memo.Put(&f.asks)
	f.asks.Tell(f)
	for _, part := range f.parts {
		if part.judged != f.asks.Stamp() && part.topic != nil {
			part.judged, part.denied = f.asks.Stamp(), !memo.Allowed(part.topic.key, part.topic.name, acl.Read)
			if part.denied {
				f.asks.Refuse(acl.Read, acl.Topic, part.topic.name)
			}
		}
	}
}

// Refused implements [acl.Refusals], while the request is not answered.
func (f *fetchRequest) Refused(op acl.Operation, t acl.ResourceType, name string) {
	f.b.denied(f.r, op, t, name)
}

// mayRead reports whether the client may read the topic, there or not. Of an id that
// nobody knows it says nothing.
func (part *fetchPart) mayRead(c *acl.Client) bool {
	if part.judged != c.Stamp() {
		name := part.name
		if part.topic != nil {
			name = part.topic.name
		} else if name == "" && !part.id.IsZero() {
			return true
		}
		part.judged, part.denied = c.Stamp(), !c.Allowed(acl.Read, acl.Topic, name)
		if part.denied {
			c.Refuse(acl.Read, acl.Topic, name)
		}
	}
	return guard.Check("broker.fetch-authorised", !part.denied)
}

// resolve finds the log to read from. A topic that was unknown, or is deleted by now,
// or lacks the partition, is looked up again by what it was asked for by: another of its
// name may have been made.
func (part *fetchPart) resolve(f *fetchRequest) (*log.Log, *role, error) {
	for again := range 2 {
		if part.topic == nil || again == 1 {
			part.topic = part.lookUp(f)
		}
		p := part.partition()
		if p == nil {
			continue
		}
		l, r, err := p.reading(f.near)
		if err != errUnknownTopic {
			return l, r, err
		}
	}
	if f.q.Version >= 13 && part.topic == nil {
		return nil, nil, kerr.UnknownTopicID
	}
	return nil, nil, errUnknownTopic
}

func (part *fetchPart) lookUp(f *fetchRequest) *topic {
	if f.q.Version >= 13 {
		return f.b.table.byID(part.id)
	}
	return f.b.table.byName([]byte(part.name))
}

// diverged tells a reader that names the epoch of its last record where that
// epoch ended here, if it has read beyond (KIP-595).
func (part *fetchPart) diverged(l *log.Log) bool {
	last := part.want.LastFetchedEpoch
	if last == storage.NoEpoch {
		return false
	}
	epoch, end := l.EpochEnd(last)
	if epoch == last && end >= part.want.Offset || epoch == storage.NoEpoch {
		return false
	}
	part.result.Diverging = &wire.EpochEnd{Epoch: epoch, End: end}
	part.offsets(l)
	return true
}

func (part *fetchPart) offsets(l *log.Log) {
	now := l.Offsets()
	part.result.HighWatermark, part.result.LastStable, part.result.LogStart = now.HighWatermark, now.LastStable, now.LogStart
}

// readLog reads records, up to the limits of the partition and of what is left
// for the response. The first batch of a response is read whatever its size.
func (part *fetchPart) readLog(f *fetchRequest, l *log.Log, r *role, left int) error {
	part.offsets(l)
	if r.log == nil {
		if err := part.isAhead(l); err != nil {
			return err
		}
	}
	end := part.result.HighWatermark
	if f.q.ReadCommitted {
		end = part.result.LastStable
	}
	if part.want.Offset >= end && r.log != nil { // beyond it is who has read what another leads by now
		if p := part.partition(); p != nil && !f.b.leased(p, p.role.Load()) {
			return errLeaseOut
		}
	}
	if part.want.Offset == end {
		return nil
	}
	if f.owing || left <= 0 && f.bytes > 0 {
		f.limited, f.full = true, true
		return nil
	}
	bound := left < int(part.want.MaxBytes) // by the response, not the partition
	want := min(max(int(part.want.MaxBytes), 0), max(left, 0))
	for offset := part.want.Offset; ; {
		if f.q.ReadCommitted && offset >= end && offset <= l.End() {
			return nil // what lies there was not decided
		}
		granted, ok := f.b.fetchMemory.take(f, want)
		if !ok {
			return nil
		}
		if until := l.LocalStart(); f.b.cold != nil && offset < until && offset >= part.result.LogStart {
			got, err := part.readCold(f, l, &until, granted)
			f.b.fetchMemory.correct(f.conn, granted, got.Bytes)
			if err != nil || len(got.Batches) > 0 || got.Next < until {
				f.bytes += got.Bytes
				f.full = f.full || got.Failing || bound && got.Limited && !got.Pending
				return err
			}
			offset = until // nothing lies between
			continue
		}
		read, cut, err := f.b.readLog(l, log.ReadRequest{
			Offset:    offset,
			MaxBytes:  granted,
			MinOne:    f.bytes == 0,
			Isolation: isolation(f.q.ReadCommitted),
		})
		f.b.fetchMemory.correct(f.conn, granted, read.Bytes)
		if _, moved := errors.AsType[*log.NotLocalError](err); moved && f.b.cold != nil {
			continue // given up since
		}
		if err != nil {
			return err
		}
		next := part.want.Offset
		if n := len(read.Batches); n > 0 {
			next = batch.Batch(read.Batches[n-1]).NextOffset()
		}
		f.full = f.full || cut || bound && next < end
		return part.take(f, read)
	}
}

// take adds what was read from the log to the response.
func (part *fetchPart) take(f *fetchRequest, read log.ReadResult) error {
	f.results = append(f.results, read)
	if f.q.Version < zstdFetch && holdsZstd(read.Batches) {
		f.b.fetchMemory.give(f.conn, read.Bytes) // released with f.results
		return kerr.UnsupportedCompressionType
	}
	f.bytes += read.Bytes
	part.result.Batches, part.result.Bytes = read.Batches, read.Bytes
	part.tellAborted(f, read.Aborted)
	part.result.HighWatermark, part.result.LastStable, part.result.LogStart = read.HighWatermark, read.LastStable, read.LogStart
	f.limited = f.limited || read.Bytes == 0
	return nil
}

// tellAborted adds transactions that a reader of what is committed has to leave
// out, in order of their first offsets: there are clients that take the list as a
// queue, and give out the records of what is further back in it than it should be.
func (part *fetchPart) tellAborted(f *fetchRequest, aborted []log.Aborted) {
	if !f.q.ReadCommitted {
		return
	}
	if part.result.Aborted == nil {
		part.result.Aborted = make([]wire.AbortedTransaction, 0, len(aborted))
	}
	for _, t := range aborted {
		part.result.Aborted = append(part.result.Aborted, wire.AbortedTransaction{ProducerID: t.ProducerID, First: t.First})
	}
	slices.SortStableFunc(part.result.Aborted, func(a, b wire.AbortedTransaction) int { return cmp.Compare(a.First, b.First) })
}

// Versions whose clients know zstd (KIP-110).
const (
	zstdProduce = 7
	zstdFetch   = 10
)

func holdsZstd(batches [][]byte) bool {
	for _, b := range batches {
		if batch.Batch(b).Codec() == batch.Zstd {
			return true
		}
	}
	return false
}

func isolation(readCommitted bool) log.Isolation {
	if readCommitted {
		return log.LastStable
	}
	return log.HighWatermark
}

// worthTelling reports whether the part goes into the response: always, but in
// a session only with something that the client does not know. early: the fetch might have
// waited on.
func (part *fetchPart) worthTelling(incremental, early bool) bool {
	p := &part.result
	if incremental && early && part.lags {
		return false // the next one will do
	}
	known := told{p.HighWatermark, p.LogStart, true}
	return !incremental || p.Bytes > 0 || p.ErrorCode != 0 || p.Diverging != nil || p.Preferred != noReplica || part.told != known
}

// noReplica is no preferred replica.
const noReplica int32 = -1
