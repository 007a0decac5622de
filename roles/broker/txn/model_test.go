package txn

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
	"pgregory.net/rapid"

	"rustmq.dev/rustmq/test/seeded"
)

// TestRandomTransactions lets producers of one transactional id begin, add
// partitions, write, end and die, in both transaction versions, while records are
// late, fail, or are cut off by restarts, markers are lost and sent again, and
// requests come twice, late, or over another connection. It holds that
//
//   - a transaction has one outcome, and the one its producer was told; a producer
//     that heard nothing is told the same when it asks again;
//   - nothing of a transaction is in the outcome of another: what comes late of one
//     is refused;
//   - who was fenced off changes nothing any more;
//   - a marker is written to every partition of a transaction, before the next one
//     begins, with the one outcome, whatever is restarted meanwhile;
//   - a call is answered once, and within the time that requests may wait;
//   - once the trouble ends, no transaction is open, and the state, and the estimate
//     of its memory, are those that the log gives.
//
// The seed is printed when it fails; -rapid.seed runs it again.
func TestRandomTransactions(t *testing.T) {
	seeded.Check(t, func(rt *rapid.T) {
		w := newWorld(rt)
		for range rapid.IntRange(50, 600).Draw(rt, "steps") {
			w.disturb()
		}
		w.settle()
	})
}

const modelID = "tx"

// world is a core, the log behind it, the partitions and the producers.
type world struct {
	t      *rapid.T
	opt    Options
	core   *Core
	now    time.Time
	call   Call
	open   map[Call]answered
	nextID int64

	log     []record
	held    []Write
	sending []Sending
	needs   int
	busy    time.Time // when something was being written or an id was awaited

	producers  []*producer
	sent       []any // requests, to be sent again
	partitions map[Partition]*partition
	outcomes   map[identity]bool // decided on record: commit or not
	told       map[identity]bool // told to a producer
}

type record struct{ key, value []byte }

type answered struct {
	at   time.Time
	then func(any)
}

// identity names a transaction, where every one has an epoch of its own. Producers
// of version 1 use theirs again, so that only the newest of an epoch counts.
type identity struct {
	id    int64
	epoch int16
}

// partition is a partition as the log of rustmq keeps it: what is open, and in
// which epoch.
type partition struct {
	epoch map[int64]int16       // newest, by producer id
	open  map[int64]*openRecord // by producer id
}

// openRecord is what a transaction has written and no marker has ended.
type openRecord struct {
	identity
	by    *producer
	nonce int // of the producer's transaction
}

// producer is a process with the transactional id.
type producer struct {
	version int16 // 1 or 2
	id      int64
	epoch   int16
	phase   string // new, ready, open, ending, again, dead
	nonce   int    // of its transaction
	commit  bool   // how it is to end
	added   map[Partition]bool
	wrote   map[Partition]bool
	asked   int // requests that are not answered
	fenced  bool
	doubt   bool                         // an end was not heard of
	ends    map[*kmsg.EndTxnRequest]bool // that it has sent for its transaction
}

func newWorld(t *rapid.T) *world {
	w := &world{
		t: t, now: time.Unix(1_700_000_000, 0), open: map[Call]answered{}, nextID: 1000,
		partitions: map[Partition]*partition{}, outcomes: map[identity]bool{}, told: map[identity]bool{},
	}
	w.opt = Options{MaxTimeout: DefaultMaxTimeout, IDExpiration: DefaultIDExpiration}
	if rapid.Bool().Draw(t, "short-lived") {
		w.opt.IDExpiration = 40 * time.Second
	}
	w.core = NewCore(w.opt)
	for i := range 3 {
		w.partitions[Partition{"t", int32(i)}] = &partition{epoch: map[int64]int16{}, open: map[int64]*openRecord{}}
	}
	if rapid.Bool().Draw(t, "old") { // an id whose epochs run out soon
		m := begun(7)
		m.epoch, m.timeout, m.updated = math.MaxInt16-int16(rapid.IntRange(2, 6).Draw(t, "left")), 10*time.Second, w.now.UnixMilli()
		w.log = append(w.log, record{idKey(modelID), encode(&m)})
		w.core = w.replayed()
	}
	w.birth()
	return w
}

func (w *world) birth() {
	w.producers = append(w.producers, &producer{
		version: rapid.SampledFrom([]int16{1, 2, 2}).Draw(w.t, "version"), id: noProducerID, epoch: noProducerEpoch, phase: "new",
	})
}

func (w *world) step(ev Event) { w.perform(w.core.Step(w.now, w.now, ev)) }

func (w *world) perform(fx Effects) {
	for _, a := range fx.Answers {
		asked, ok := w.open[a.Call]
		if !ok {
			w.t.Fatalf("call %d answered twice, or never made: %v", a.Call, a.Body)
		}
		delete(w.open, a.Call)
		w.t.Logf("answer %d: %+v", a.Call, a.Body)
		asked.then(a.Body)
	}
	w.held = append(w.held, fx.Writes...)
	w.sending = append(w.sending, fx.Markers...)
	w.needs += fx.NeedIDs
	for _, n := range fx.Markers {
		w.mayMark(n)
	}
}

// mayMark holds that markers say what is on record.
func (w *world) mayMark(s Sending) {
	m := w.recorded()
	if m == nil || !m.state.preparing() || (m.state == PrepareCommit) != s.Marker.Commit || m.producerID != s.Marker.ProducerID || m.epoch != s.Marker.ProducerEpoch {
		w.t.Fatalf("markers %+v, on record is %+v", s, m)
	}
}

// recorded is what the log says of the id.
func (w *world) recorded() *metadata {
	if len(w.log) == 0 || w.log[len(w.log)-1].value == nil {
		return nil
	}
	m, err := decode(w.log[len(w.log)-1].value)
	if err != nil {
		w.t.Fatal(err)
	}
	return &m
}

// land commits the first n of the writes that are held.
func (w *world) land(n int) (ids []WriteID) {
	for _, wr := range w.held[:n] {
		before := w.recorded()
		w.log = append(w.log, record{wr.Key, wr.Value})
		ids = append(ids, wr.ID)
		if m := w.recorded(); m != nil {
			w.t.Logf("record %+v", m)
			w.transition(before, m)
		} else if before != nil && (before.state == Ongoing || before.state.preparing()) {
			w.t.Fatalf("the id expires in state %v", before.state)
		}
	}
	w.held = w.held[n:]
	return ids
}

// transition holds that a record follows on the one before.
func (w *world) transition(before, m *metadata) {
	if before == nil {
		return
	}
	if before.producerID == m.producerID && m.epoch < before.epoch {
		w.t.Fatalf("epoch %d after %d", m.epoch, before.epoch)
	}
	if m.state.preparing() {
		if before.state == PrepareCommit || before.state == PrepareAbort {
			w.t.Fatalf("%v after %v", m.state, before.state)
		}
		if m.state == PrepareCommit && before.state != Ongoing {
			w.t.Fatalf("a commit of what is %v", before.state)
		}
		if !maps.Equal(m.partitions, before.partitions) && before.state == Ongoing {
			w.t.Fatalf("partitions %v end as %v", before.partitions, m.partitions)
		}
		w.outcomes[identity{before.producerID, before.epoch}] = m.state == PrepareCommit
	}
	if m.state == CompleteCommit || m.state == CompleteAbort {
		for p, part := range w.partitions {
			if o := part.open[before.producerID]; o != nil {
				w.t.Fatalf("complete, and %v has %+v open", p, o)
			}
		}
	}
	if before.state.preparing() && !m.state.preparing() && m.state != CompleteCommit && m.state != CompleteAbort {
		w.t.Fatalf("%v after %v", m.state, before.state)
	}
}

func (w *world) ask(body any, then func(any)) {
	w.call++
	w.t.Logf("%v call %d: %T %+v", w.now.Unix(), w.call, body, body)
	w.open[w.call] = answered{w.now, then}
	w.step(Request{Call: w.call, Body: body})
}

// disturb does one thing at random.
func (w *world) disturb() {
	p := w.producers[rapid.IntRange(0, len(w.producers)-1).Draw(w.t, "producer")]
	switch rapid.SampledFrom([]string{
		"act", "act", "act", "act", "act", "act", "act", "act", "land", "land", "land", "mark", "mark", "id", "fail", "wait", "again", "birth", "die", "restart", "write-late",
	}).Draw(w.t, "what") {
	case "act":
		w.act(p)
	case "land":
		if n := rapid.IntRange(0, len(w.held)).Draw(w.t, "writes"); n > 0 {
			w.step(Written{IDs: w.land(n)})
		}
	case "mark":
		if len(w.sending) > 0 {
			w.mark(rapid.IntRange(0, 3).Draw(w.t, "marked"))
		}
	case "id":
		w.giveID(rapid.IntRange(0, 4).Draw(w.t, "id") > 0)
	case "fail":
		if len(w.held) > 0 && rapid.IntRange(0, 3).Draw(w.t, "fail") == 0 {
			var ids []WriteID
			for _, wr := range w.held {
				ids = append(ids, wr.ID)
			}
			w.held = nil
			w.step(Written{IDs: ids, Err: errors.New("disk full")})
		}
	case "wait":
		w.wait(time.Duration(rapid.IntRange(0, 12_000).Draw(w.t, "ms")) * time.Millisecond)
	case "again":
		if len(w.sent) > 0 {
			w.again(w.sent[rapid.IntRange(0, len(w.sent)-1).Draw(w.t, "request")])
		}
	case "birth":
		if len(w.producers) < 4 {
			w.birth()
		}
	case "die":
		if rapid.IntRange(0, 3).Draw(w.t, "die") == 0 {
			p.phase = "dead"
		}
	case "restart":
		if rapid.IntRange(0, 2).Draw(w.t, "restart") == 0 {
			w.restart(rapid.IntRange(0, len(w.held)).Draw(w.t, "landed"))
		}
	case "write-late":
		w.writeLate(p)
	}
}

func (w *world) giveID(ok bool) {
	if w.needs == 0 {
		return
	}
	w.needs--
	if !ok {
		w.step(GotID{Err: errors.New("no controller")})
		return
	}
	w.nextID++
	w.step(GotID{ID: w.nextID})
}

// mark writes some of the markers that were asked for. At 0 all answers are lost:
// some were written, and all are asked for again.
func (w *world) mark(most int) {
	s := w.sending[0]
	w.sending = w.sending[1:]
	var left []Partition
	for i, p := range s.Marker.Partitions {
		if i < most || most == 0 && i == 0 {
			w.end(p, s.Marker)
		}
		if i >= most {
			left = append(left, p)
		}
	}
	w.step(Marked{s.TransactionalID, left})
}

// end writes a marker to a partition.
func (w *world) end(at Partition, m Marker) {
	part := w.partitions[at]
	o := part.open[m.ProducerID]
	if m.ProducerEpoch < part.epoch[m.ProducerID] || m.Version >= bumpsEpochs && o != nil && m.ProducerEpoch <= part.epoch[m.ProducerID] {
		w.t.Fatalf("a marker %+v for %v, which has epoch %d, %+v", m, at, part.epoch[m.ProducerID], o)
	}
	part.epoch[m.ProducerID] = m.ProducerEpoch
	if o == nil {
		return
	}
	delete(part.open, m.ProducerID)
	if commit, ok := w.outcomes[o.identity]; !ok || commit != m.Commit {
		w.t.Fatalf("%+v of %v ends with %v, decided was %v, %v", o, at, m.Commit, commit, ok)
	}
	if commit, ok := w.told[o.identity]; ok && o.by.version >= bumpsEpochs && commit != m.Commit {
		w.t.Fatalf("%+v of %v ends with %v, told was %v", o, at, m.Commit, commit)
	}
}

func (w *world) wait(d time.Duration) {
	until := w.now.Add(d)
	for at := w.core.Deadline(); !at.IsZero() && !at.After(until); at = w.core.Deadline() {
		if at.After(w.now) {
			w.now = at
		}
		w.step(Tick{w.now})
	}
	w.now = until
	if len(w.held) > 0 || w.needs > 0 {
		w.busy = w.now // calls wait for what is written, however long
	}
	for call, a := range w.open {
		if waited := min(w.now.Sub(a.at), w.now.Sub(w.busy)); waited > maxPark {
			w.t.Fatalf("call %d waits for %v", call, waited)
		}
	}
}

func (w *world) restart(landed int) {
	w.land(landed)
	w.held, w.sending, w.needs = nil, nil, 0
	for _, a := range w.open {
		a.then(nil)
	}
	w.open = map[Call]answered{}
	w.core = w.replayed()
}

func (w *world) replayed() *Core {
	core := NewCore(w.opt)
	for _, r := range w.log {
		if err := core.Replay(r.key, r.value); err != nil {
			w.t.Fatal(err)
		}
	}
	w.core = core
	w.perform(core.Loaded(w.now, w.now))
	return core
}

// act lets a producer do what is next for it.
func (w *world) act(p *producer) {
	if p.asked > 0 && p.phase != "open" {
		return
	}
	switch p.phase {
	case "new":
		w.begin(p)
	case "ready":
		p.nonce++
		p.ends = map[*kmsg.EndTxnRequest]bool{}
		p.added, p.wrote, p.commit = map[Partition]bool{}, map[Partition]bool{}, rapid.IntRange(0, 2).Draw(w.t, "commit") > 0
		if p.version >= bumpsEpochs && rapid.IntRange(0, 5).Draw(w.t, "nothing") == 0 {
			p.phase, p.commit = "ending", false // nothing got out, it believes
			w.endTxn(p)
			return
		}
		p.phase = "open"
		w.write(p, Partition{"t", int32(rapid.IntRange(0, 2).Draw(w.t, "partition"))})
	case "open":
		if p.asked == 0 && len(p.wrote) > 0 && rapid.IntRange(0, 2).Draw(w.t, "end") == 0 {
			p.phase = "ending"
			w.endTxn(p)
			return
		}
		if p.asked < 2 {
			w.write(p, Partition{"t", int32(rapid.IntRange(0, 2).Draw(w.t, "partition"))})
		}
	case "ending":
		w.endTxn(p)
	}
}

// begin asks for an id and epoch.
func (w *world) begin(p *producer) {
	q := kmsg.NewPtrInitProducerIDRequest()
	q.Version, q.TransactionalID, q.TransactionTimeoutMillis = 5, kmsg.StringPtr(modelID), 10_000
	q.ProducerID, q.ProducerEpoch = p.id, p.epoch
	w.sent = append(w.sent, q)
	p.asked++
	w.ask(q, func(body any) {
		p.asked--
		if body == nil || p.phase == "dead" {
			return
		}
		switch resp := body.(*kmsg.InitProducerIDResponse); resp.ErrorCode {
		case 0:
			if resp.ProducerEpoch == math.MaxInt16 {
				w.t.Fatalf("the highest epoch was given away")
			}
			p.id, p.epoch, p.phase, p.doubt = resp.ProducerID, resp.ProducerEpoch, "ready", false
			for _, other := range w.producers {
				if other != p && q.ProducerID < 0 {
					other.fenced = true
				}
			}
			p.fenced = false
		case kerr.ProducerFenced.Code:
			p.phase = "dead"
		}
	})
}

// write adds a partition to the transaction, by itself or by the way, and writes.
func (w *world) write(p *producer, at Partition) {
	q := &AddPartitions{TransactionalID: modelID, ProducerID: p.id, ProducerEpoch: p.epoch, Partitions: []Partition{at}}
	if p.version >= bumpsEpochs {
		q.Version = bumpsEpochs
	}
	nonce, fenced := p.nonce, p.fenced
	w.sent = append(w.sent, q)
	p.asked++
	w.ask(q, func(body any) {
		p.asked--
		if body == nil || p.nonce != nonce || p.phase != "open" {
			return
		}
		switch code := body.([]int16)[0]; code {
		case 0:
			if fenced {
				w.t.Fatalf("%+v was fenced off, and could add %v", p, at)
			}
			p.added[at] = true
			w.append(p, at)
		case kerr.ProducerFenced.Code, kerr.InvalidProducerIDMapping.Code:
			w.lost(p)
		}
	})
}

// lost lets a producer that was fenced off try to go on: by time-out it may.
func (w *world) lost(p *producer) {
	p.phase = "new"
}

// append writes to a partition what the coordinator has let in.
func (w *world) append(p *producer, at Partition) {
	part := w.partitions[at]
	me := identity{p.id, p.epoch}
	if part.epoch[p.id] > p.epoch {
		w.lost(p)
		return
	}
	if o := part.open[p.id]; o != nil && o.nonce != p.nonce {
		w.t.Fatalf("%v has %+v open, and %+v writes to it", at, o, p)
	}
	if _, decided := w.outcomes[me]; decided && p.version >= bumpsEpochs {
		w.t.Fatalf("%+v was decided, and is written to", me)
	}
	if m := w.recorded(); m == nil || m.state != Ongoing || !m.partitions[at] || m.producerID != p.id || m.epoch != p.epoch {
		w.t.Fatalf("%+v writes to %v, on record is %+v", p, at, m)
	}
	delete(w.outcomes, me) // of version 1, the one before with this epoch
	delete(w.told, me)
	part.epoch[p.id] = p.epoch
	part.open[p.id] = &openRecord{me, p, p.nonce}
	p.wrote[at] = true
}

// writeLate asks whether a write that was on its way may still be appended.
func (w *world) writeLate(p *producer) {
	if p.added == nil {
		return
	}
	q := &AddPartitions{TransactionalID: modelID, ProducerID: p.id, ProducerEpoch: p.epoch, VerifyOnly: true, Partitions: []Partition{{"t", 0}}}
	was := identity{p.id, p.epoch}
	w.sent = append(w.sent, q)
	w.ask(q, func(body any) {
		if body == nil || body.([]int16)[0] != 0 {
			return
		}
		if m := w.recorded(); m == nil || m.state != Ongoing || !m.partitions[q.Partitions[0]] || (identity{m.producerID, m.epoch}) != was {
			w.t.Fatalf("%+v was verified, on record is %+v", was, m)
		}
	})
}

// endTxn ends the transaction, or asks again how it ended.
func (w *world) endTxn(p *producer) {
	q := kmsg.NewPtrEndTxnRequest()
	q.Version, q.TransactionalID, q.ProducerID, q.ProducerEpoch, q.Commit = 4, modelID, p.id, p.epoch, p.commit
	if p.version >= bumpsEpochs {
		q.Version = 5
	}
	nonce, me, fenced := p.nonce, identity{p.id, p.epoch}, p.fenced
	p.ends[q] = true
	w.sent = append(w.sent, q)
	p.asked++
	w.ask(q, func(body any) {
		p.asked--
		if body == nil || p.phase != "ending" || p.nonce != nonce {
			p.doubt = true
			return
		}
		switch resp := body.(*kmsg.EndTxnResponse); resp.ErrorCode {
		case 0:
			w.mayTell(p, me, fenced)
			if p.version >= bumpsEpochs {
				if resp.ProducerID == p.id && resp.ProducerEpoch != p.epoch+1 || resp.ProducerID != p.id && resp.ProducerEpoch != 0 {
					w.t.Fatalf("%+v goes on with %d/%d", p, resp.ProducerID, resp.ProducerEpoch)
				}
				p.id, p.epoch = resp.ProducerID, resp.ProducerEpoch
			}
			p.phase = "ready"
		case kerr.ProducerFenced.Code, kerr.InvalidProducerIDMapping.Code, kerr.InvalidTxnState.Code:
			if !fenced && !w.timedOut(me) {
				w.t.Fatalf("%+v is refused with %v, on record is %+v", p, kerr.ErrorForCode(resp.ErrorCode), w.recorded())
			}
			w.lost(p)
		}
	})
}

// timedOut reports whether the transaction was ended by the coordinator, or so that
// nothing is known of it any more.
func (w *world) timedOut(me identity) bool {
	commit, ok := w.outcomes[me]
	m := w.recorded()
	return ok && !commit || m == nil || m.producerID != me.id || m.epoch != me.epoch
}

// mayTell holds that a producer is told what was decided, of its own transaction.
func (w *world) mayTell(p *producer, me identity, fenced bool) {
	commit, ok := w.outcomes[me]
	if !ok || commit != p.commit {
		w.t.Fatalf("%+v was told %v, decided was %v, %v", p, p.commit, commit, ok)
	}
	if fenced && p.commit {
		w.t.Fatalf("%+v was fenced off, and has committed", p)
	}
	w.told[me] = p.commit
}

// again sends a request that was sent before: a duplicate, or one that was late.
// What it may do, land and append hold.
func (w *world) again(body any) {
	before := w.newestEpoch()
	switch q := body.(type) {
	case *kmsg.EndTxnRequest:
		if q.Version < ownEpochs && w.afterwards(q) {
			return // it would end the transaction after, which is what KIP-890 is for
		}
		writes := len(w.held)
		w.ask(q, func(any) {})
		if len(w.held) > writes && q.Version >= ownEpochs && w.afterwards(q) {
			w.t.Fatalf("a late end of epoch %d ends the transaction after, of %+v", q.ProducerEpoch, before)
		}
	case *kmsg.InitProducerIDRequest:
		copied := *q
		w.ask(&copied, func(body any) {
			if resp, ok := body.(*kmsg.InitProducerIDResponse); ok && resp.ErrorCode == 0 {
				for _, p := range w.producers { // a stranger has it now
					p.fenced = p.fenced || q.ProducerID < 0
				}
			}
		})
	default:
		w.ask(q, func(any) {})
	}
}

func (w *world) newestEpoch() identity {
	t := w.core.ids[modelID]
	if t == nil {
		return identity{}
	}
	return identity{t.producerID, t.epoch}
}

// afterwards reports whether the producer that sent q has begun a transaction since,
// of the id and epoch that q names.
func (w *world) afterwards(q *kmsg.EndTxnRequest) bool {
	return slices.ContainsFunc(w.producers, func(p *producer) bool {
		return p.id == q.ProducerID && p.epoch == q.ProducerEpoch && (p.phase == "open" || p.phase == "ending") && !p.ends[q]
	})
}

// settle ends the trouble, and expects that nothing is open.
func (w *world) settle() {
	for range 60 {
		for w.needs > 0 {
			w.giveID(true)
		}
		for len(w.held) > 0 || len(w.sending) > 0 {
			if len(w.held) > 0 {
				w.step(Written{IDs: w.land(len(w.held))})
			}
			if len(w.sending) > 0 {
				w.mark(math.MaxInt)
			}
		}
		w.wait(time.Second)
	}
	if len(w.open) > 0 || len(w.held) > 0 || len(w.sending) > 0 || w.core.Open() > 0 {
		w.t.Fatalf("%d calls not answered, %d writes not done, %d markers not written, %d transactions open", len(w.open), len(w.held), len(w.sending), w.core.Open())
	}
	for at, p := range w.partitions {
		for _, o := range p.open {
			w.t.Fatalf("%v has %+v open", at, o)
		}
	}
	core := w.core
	again := w.replayed()
	if a, b := describeAll(core), describeAll(again); a != b {
		w.t.Fatalf("the state is\n%s, on record\n%s", a, b)
	}
	if a, b := core.bytes, again.bytes; a != b {
		w.t.Fatalf("%d bytes by estimate, %d on record", a, b)
	}
}

func describeAll(c *Core) string {
	out := ""
	for _, t := range c.sorted() {
		m := t.metadata
		m.lastEpoch = 0 // not on record
		out += fmt.Sprintf("%s %+v\n", t.id, m)
	}
	return out
}
