package broker

import (
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"rustmq.dev/rustmq/roles/broker/cold"
	"rustmq.dev/rustmq/roles/broker/quota"
	"rustmq.dev/rustmq/roles/broker/wire"
	"rustmq.dev/rustmq/security/acl"
	"rustmq.dev/rustmq/storage/guard"
	"rustmq.dev/rustmq/storage/log"
	"rustmq.dev/rustmq/transport/kafka"
)

// fetchRequest is a Fetch request between its arrival and its answer. It is
// evaluated at once, and again whenever one of its partitions has got records,
// until there are enough of them or its time is over. No goroutine waits.
type fetchRequest struct {
	b        *Broker
	r        *kafka.Request
	conn     *connection
	client   quota.Client // what it is held to
	asks     acl.Client   // who asks, where judges is set
	judges   bool         // what may be read is decided
	q        wire.FetchRequest
	session  *session     // nil: a fetch without
	own      []fetchPart  // of a fetch without session
	parts    []*fetchPart // in the order they are read
	named    named        // parts of own
	near     bool         // the client is in this broker's rack
	rack     string       // the client's, if it is another
	begun    time.Time
	since    time.Time     // when it began to wait; zero: it does not
	waited   time.Duration // before that
	deadline time.Time
	timer    *time.Timer
	state    atomic.Int32 // fetchRunning, …
	ended    atomic.Bool  // the connection is gone, or the broker closes
	parked   bool

	response   wire.FetchResponse
	results    []log.ReadResult // pinned until the response is written
	fromBucket []cold.Result    // the same
	hints      hints
	bytes      int  // read by the present evaluation, held until release
	starved    bool // the evaluation found no memory to read into
	limit      int  // of bytes, for the whole response
	limited    bool // the evaluation left records unread, for a limit of bytes
	full       bool // the evaluation left records unread that cannot be read, or do not fit the response, or the connection's share of memory, any more
	owing      bool // it read none: the client has had more than its quota
	free       func()
}

// States of a fetch. Only one goroutine evaluates it at a time: who moves it
// from waiting to running.
const (
	fetchRunning   int32 = iota
	fetchSignalled       // running, and woken since
	fetchWaiting
)

func newFetchRequest(b *Broker, r *kafka.Request) *fetchRequest {
	f, ok := b.fetches.Get().(*fetchRequest)
	if !ok {
		f = new(fetchRequest)
		f.free = f.recycle
	}
	f.b, f.r = b, r
	f.begun, f.since, f.waited = b.opt.Now(), time.Time{}, 0
	f.starved = false
	f.ended.Store(false)
	f.state.Store(fetchRunning)
	b.requests.Add(1)
	return f
}

// recycle lets go of the records; the transport calls it once the response is
// written, or never will be.
func (f *fetchRequest) recycle() {
	f.release()
	f.response.Reset()
	f.forgetParts()
	b := f.b
	f.b, f.r, f.conn, f.client, f.session, f.hints, f.rack = nil, nil, nil, quota.Client{}, nil, hints{}, ""
	f.asks, f.judges = acl.Client{}, false
	b.fetches.Put(f)
}

// forgetNamed lets go of what was parsed of the request: its parts have what they need.
func (f *fetchRequest) forgetNamed() {
	f.q.Release()
	f.named.clear()
}

// forgetParts lets go of the parts, which are not registered, and of what was parsed. An
// answer may wait long for its client.
func (f *fetchRequest) forgetParts() {
	f.forgetNamed()
	if f.session != nil {
		f.session, f.parts = nil, nil // the session's
	}
	for i := range f.own {
		f.own[i].recycle()
	}
	if cap(f.own) > keptParts {
		f.b.wide.put(f.own)
		f.own, f.parts = nil, nil
		return
	}
	clear(f.parts)
	f.own, f.parts = f.own[:0], f.parts[:0]
}

func (f *fetchRequest) release() {
	if f.bytes > 0 {
		f.b.fetchMemory.give(f.conn, f.bytes)
	}
	f.bytes = 0
	for i := range f.results {
		f.results[i].Release()
	}
	clear(f.results)
	f.results = f.results[:0]
	for i := range f.fromBucket {
		f.fromBucket[i].Release()
	}
	clear(f.fromBucket)
	f.fromBucket = f.fromBucket[:0]
}

// fetch starts a Fetch request.
func (b *Broker) fetch(r *kafka.Request) {
	f := newFetchRequest(b, r)
	if err := f.q.Parse(r.Version, r.Body); err != nil {
		r.Close(err)
		b.requests.Done()
		f.recycle()
		return
	}
	f.conn, f.client = b.connections.of(r.Conn), b.quotaOf(r)
	f.takeRack()
	wait := min(max(time.Duration(f.q.MaxWaitMillis)*time.Millisecond, 0), maxFetchWait)
	f.deadline = time.Now().Add(wait)
	if !isIsolation(f.q.Isolation) {
		f.refuseEach(errIsolation)
		return
	}
	refused := f.openContext()
	f.forgetNamed()
	if refused != nil {
		f.refuse(refused)
		return
	}
	if memo := b.memo(r); memo != nil {
		f.judge(memo)
	}
	f.run()
}

// openContext resolves what the request asks for: on its own, or by a session.
func (f *fetchRequest) openContext() *kerr.Error {
	switch {
	case f.q.SessionEpoch == finalSessionEpoch:
		f.closeSession(f.q.SessionID)
	case f.q.SessionEpoch == initialSessionEpoch:
		f.closeSession(f.q.SessionID)
		if f.openSession() {
			return nil
		}
	default:
		return f.continueSession()
	}
	f.takeParts()
	return nil
}

// takeParts makes what the request names its parts. What it names again counts as it is
// named last, as for Kafka: a request of a few MiB would wait for one partition, and be
// woken by it, a hundred thousand times.
func (f *fetchRequest) takeParts() {
	n := len(f.q.Partitions)
	if n > keptParts {
		f.own = f.b.wide.get(n)
	} else if cap(f.own) < n {
		f.own = make([]fetchPart, n)
	}
	f.own = f.own[:n] // recycled
	next, used := 0, 0
	several := len(f.q.Partitions) > 1
	for i := range f.q.Topics {
		t := &f.q.Topics[i]
		found := f.b.fetchedTopic(t, f.q.Version)
		ordinal := 0
		if several {
			ordinal = f.named.topic(t)
		}
		name := topicName(t, found) // one for all partitions: it is as long as the client likes
		for range t.Partitions {
			want := f.q.Partitions[next]
			next++
			if several {
				if at, again := f.named.partition(ordinal, want.Index, used); again {
					f.own[at].want = want
					continue
				}
			}
			part := &f.own[used]
			used++
			part.fetch = f
			part.topic, part.name, part.id = found, name, t.ID
			part.want = want
			f.parts = append(f.parts, part)
		}
	}
	f.own = f.own[:used]
}

func (b *Broker) fetchedTopic(t *wire.FetchTopic, version int16) *topic {
	if version <= 12 {
		return b.table.byName(t.Name)
	}
	return b.table.byID(t.ID)
}

// topicName returns what the topic is named in the request, as a string of its own
// unless there is one.
func topicName(t *wire.FetchTopic, found *topic) string {
	if found != nil && string(t.Name) == found.name {
		return found.name
	}
	return string(t.Name)
}

// run evaluates the fetch until it is answered or waits. Whoever moved the fetch
// to fetchRunning calls it.
func (f *fetchRequest) run() {
	for {
		f.state.Store(fetchRunning) // what signalled before is seen below
		if !f.since.IsZero() {
			f.waited += f.b.opt.Now().Sub(f.since)
			f.since = time.Time{}
		}
		final := f.ended.Load() || !time.Now().Before(f.deadline)
		waited := f.starved
		enough := f.evaluate()
		if waited && !f.starved || f.starved && (enough || final) {
			f.b.fetchMemory.passOn(f)
		}
		if enough || final {
			f.answer()
			return
		}
		f.release()
		if !f.parked {
			if !f.park() {
				f.deadline = time.Now()
				continue
			}
			if f.parked = f.conn.park(f); !f.parked {
				f.ended.Store(true)
				continue
			}
			f.startTimer()
		}
		for _, part := range f.parts {
			part.watch(f.q.ReadCommitted)
		}
		f.since = f.b.opt.Now()
		if f.state.CompareAndSwap(fetchRunning, fetchWaiting) {
			return
		}
	}
}

func (f *fetchRequest) startTimer() {
	left := time.Until(f.deadline)
	if f.timer == nil {
		f.timer = time.AfterFunc(left, f.Wake)
		return
	}
	f.timer.Reset(left)
}

// Wake makes the fetch look again. It does not block; a call too many is
// harmless, also one that comes after the fetch was answered and reused.
func (f *fetchRequest) Wake() {
	for {
		switch f.state.Load() {
		case fetchSignalled:
			return
		case fetchRunning:
			if f.state.CompareAndSwap(fetchRunning, fetchSignalled) {
				return
			}
		case fetchWaiting:
			if f.state.CompareAndSwap(fetchWaiting, fetchRunning) {
				go f.run() // counted in b.requests since it came
				return
			}
		}
	}
}

// evaluate reads what there is, and reports whether it is enough to answer.
// Nothing is held from an evaluation before.
func (f *fetchRequest) evaluate() (enough bool) {
	f.limited, f.full, f.starved = false, false, false
	enough = len(f.parts) == 0
	f.limit = max(int(f.q.MaxBytes), 0)
	if !guard.Check("broker.fetch-bytes", f.limit <= maxFetchBytes) {
		f.limit = maxFetchBytes
	}
	if f.owing = false; f.client.Holds(quota.Consume) {
		f.limit = min(f.limit, f.client.AtOnce(quota.Consume))
		f.owing = f.client.Take(quota.Consume, f.b.opt.Now(), 0) > 0
	}
	if f.judges { // it may have waited while rules changed
		f.b.authorization.Renew(&f.asks)
	}
	for _, part := range f.parts {
		urgent := part.read(f, f.limit-f.bytes)
		enough = enough || urgent
	}
	// No wait makes a response longer than its limit, whatever is asked for at least.
	return enough || f.owing || f.full || f.bytes >= min(int(f.q.MinBytes), f.limit)
}

// answer sends what the last evaluation found.
func (f *fetchRequest) answer() {
	if f.parked {
		f.parked = false
		f.timer.Stop()
		f.conn.unpark(f)
	}
	incremental := f.q.SessionEpoch > initialSessionEpoch
	early := time.Now().Before(f.deadline)
	for _, part := range f.parts {
		part.settleCold(f)
		part.included = part.worthTelling(incremental, early)
	}
	sessionID := int32(0)
	if f.session != nil {
		sessionID = f.session.id
	}
	f.write(0, sessionID)
}

// refuse answers with an error for the whole request.
func (f *fetchRequest) refuse(err *kerr.Error) {
	f.parts = f.parts[:0]
	f.write(err.Code, 0)
}

// refuseEach answers with an error for the whole request and, before topics went by
// id, for each partition too: version 6 has no other place for it.
func (f *fetchRequest) refuseEach(err *kerr.Error) {
	if f.q.Version < 13 {
		f.takeParts()
	}
	for _, part := range f.parts {
		part.nothing()
		part.result.ErrorCode, part.included = err.Code, true
	}
	f.write(err.Code, 0)
}

// write encodes the parts that are included, those of a topic that follow each
// other as one, and hands the response to the transport.
func (f *fetchRequest) write(errorCode int16, sessionID int32) {
	w := &f.response
	topics := 0
	var last *fetchPart
	for _, part := range f.parts {
		if part.included && !part.sameTopic(last) {
			topics++
		}
		if part.included {
			last = part
		}
	}
	wait := f.b.throttled(f.r, quota.Consume, f.b.opt.Now(), f.bytes)
	w.Begin(f.q.Version, wait, errorCode, sessionID, topics)
	for i := 0; i < len(f.parts); {
		first := f.parts[i]
		if !first.included {
			i++
			continue
		}
		end, n := i, 0
		for ; end < len(f.parts); end++ {
			part := f.parts[end]
			if part.included && !part.sameTopic(first) {
				break
			}
			if part.included {
				n++
			}
		}
		w.Topic(first.name, first.id, n)
		for ; i < end; i++ {
			if part := f.parts[i]; part.included {
				part.countLoad(f.b.metrics)
				w.Partition(&part.result)
			}
		}
		w.EndTopic()
	}
	bufs := w.Finish(f.hints.endpoints)
	f.b.metrics.fetched(w.Bytes())
	f.observe(f.b.opt.Now())
	if f.session != nil {
		f.endSession()
	} else {
		for _, part := range f.parts {
			part.unwatch()
		}
	}
	f.forgetParts()
	b := f.b // f is gone once it is answered
	f.r.RespondRaw(bufs, f.free)
	b.requests.Done()
}
