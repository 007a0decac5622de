package txn

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/roles/broker/coordinator"
	"rustmq.dev/rustmq/storage/guard"
)

const (
	// A request waits at most this long for a record that is being written, or for
	// markers, before its client is told to come back: less than what clients wait
	// between two tries is not worth an answer.
	maxPark = time.Second
	// Requests that may wait for one id; one producer sends few at a time.
	maxParked = 100

	// How long an id that is idle waits for a time that is believed.
	expiryCheck = 10 * time.Minute

	// Between two sendings of markers: the first wait, and the longest.
	minRetry = 100 * time.Millisecond
	maxRetry = 5 * time.Second
)

// Event is what a core is told.
type Event interface{ event() }

// Call names a request until it is answered.
type Call uint64

// WriteID names a write until it is known to be committed or not. Writes are
// committed in the order they were asked for.
type WriteID uint64

// Request asks something on behalf of a client. Body is an InitProducerID or
// EndTxn request of package kmsg, or one of the questions below; the core keeps
// none of its bytes once it is answered.
type Request struct {
	Call Call
	Full bool // no room for new ids or partitions
	Body any

	until time.Time // it waits no longer; zero: it has not waited yet
}

// Written tells the fate of writes.
type Written struct {
	IDs []WriteID
	Err error
}

// Marked tells which partitions of a transaction that was to be marked are to be
// tried again.
type Marked struct {
	TransactionalID string
	Left            []Partition
}

// GotID is a producer id that was asked for, or why there is none.
type GotID struct {
	ID  int64
	Err error
}

// Tick says that the deadline has come. Believed is the time that ids expire by; zero:
// none does now.
type Tick struct{ Believed time.Time }

func (Request) event() {}
func (Written) event() {}
func (Marked) event()  {}
func (GotID) event()   {}
func (Tick) event()    {}

// Questions that are not a request of the protocol as it stands.
type (
	// AddPartitions is answered by a []int16, a code for each partition, once they
	// belong to the transaction; with VerifyOnly, whether they do.
	AddPartitions struct {
		TransactionalID string
		ProducerID      int64
		ProducerEpoch   int16
		VerifyOnly      bool
		Version         int16 // transaction version of the producer
		Partitions      []Partition
	}
	// Describe is answered by a *kmsg.DescribeTransactionsResponseTransactionState.
	Describe struct{ TransactionalID string }
	// List is answered by a []kmsg.ListTransactionsResponseTransactionState.
	List struct {
		States      map[State]bool // nil: all
		ProducerIDs map[int64]bool // nil: all
		Longer      int64          // ms that the transaction has run for; negative: any
	}
)

// Effects are what the shell must do after a step.
type Effects struct {
	Answers []Answer
	Writes  []Write
	Markers []Sending
	NeedIDs int // producer ids to get; a [GotID] answers each
	Notes   []Note
}

// Answer ends a call.
type Answer struct {
	Call Call
	Body any
}

// Write asks for a record to be committed; a [Written] answers it. A nil value
// takes back the key.
type Write struct {
	ID         WriteID
	Key, Value []byte
}

// Sending asks for markers; a [Marked] answers it.
type Sending struct {
	TransactionalID string
	Marker          Marker // without the coordinator's epoch
}

// Note is something worth a line in the log.
type Note struct {
	TransactionalID, What string
	ProducerID            int64
	ProducerEpoch         int16
	State                 State
}

// Core holds the transactional ids of one partition of the topic and decides what
// becomes of them. It belongs to one goroutine.
type Core struct {
	opt     Options
	ids     map[string]*transaction
	alarms  coordinator.Alarms[*transaction] // of every one that has a deadline
	writes  map[WriteID]func(err error)
	lastID  WriteID
	spare   []int64   // producer ids that nobody needed after all
	starved []Request // each waits for a producer id that was asked for
	open    int       // transactions that are not complete
	bytes   int64
	skips   int // records of kinds that are not known here

	fx   Effects
	now  time.Time
	wall int64 // ms
}

// NewCore returns a core without ids. Of the options it uses the limits.
func NewCore(opt Options) *Core {
	return &Core{opt: opt, ids: map[string]*transaction{}, writes: map[WriteID]func(error){}}
}

// Step applies one event and returns what the shell must do. now never goes back;
// wall is the time that records carry.
func (c *Core) Step(now, wall time.Time, ev Event) Effects {
	c.begin(now, wall)
	switch ev := ev.(type) {
	case Request:
		c.request(ev)
	case Written:
		for _, id := range ev.IDs {
			then := c.writes[id]
			delete(c.writes, id)
			then(ev.Err)
		}
	case Marked:
		c.marked(ev)
	case GotID:
		c.gotID(ev)
	case Tick:
		for t := range c.alarms.Due(now) {
			c.expire(t, ev.Believed)
			c.schedule(t)
		}
	}
	return c.fx
}

// Loaded begins what the replayed ids were waiting for: deadlines, and markers of
// what was decided.
func (c *Core) Loaded(now, wall time.Time) Effects {
	c.begin(now, wall)
	for _, t := range c.sorted() {
		c.entered(t)
		c.schedule(t)
	}
	return c.fx
}

func (c *Core) begin(now, wall time.Time) {
	c.fx, c.now, c.wall = Effects{}, now, wall.UnixMilli()
}

// Deadline is when the core wants a [Tick]; zero: it does not.
func (c *Core) Deadline() time.Time { return c.alarms.Next() }

// Size returns the number of ids and an estimate of their bytes.
func (c *Core) Size() (ids int, bytes int64) { return len(c.ids), c.bytes }

// Open returns how many transactions are not complete.
func (c *Core) Open() int { return c.open }

// Skipped returns how many replayed records were of unknown kinds.
func (c *Core) Skipped() int { return c.skips }

func (c *Core) request(r Request) {
	switch body := r.Body.(type) {
	case *kmsg.InitProducerIDRequest:
		c.initProducerID(r, body)
	case *AddPartitions:
		c.addPartitions(r, body)
	case *kmsg.EndTxnRequest:
		c.endTxn(r, body)
	case *Describe:
		c.answer(r.Call, c.describe(body))
	case *List:
		c.answer(r.Call, c.list(body))
	case surveyTransactions:
		c.answer(r.Call, c.survey())
	default:
		panic(fmt.Sprintf("txn: request of type %T", r.Body))
	}
}

// refuse answers a request with an error.
func (c *Core) refuse(r Request, code int16) { c.answer(r.Call, refusal(r.Body, code)) }

func (c *Core) answer(call Call, body any) {
	c.fx.Answers = append(c.fx.Answers, Answer{call, body})
}

// write asks for a record to be committed, and runs then when that is known.
func (c *Core) write(key, value []byte, then func(err error)) {
	c.lastID++
	c.writes[c.lastID] = then
	c.fx.Writes = append(c.fx.Writes, Write{c.lastID, key, value})
}

// move writes that t becomes next, and runs then when that is known: t is what it
// was before, or next.
func (c *Core) move(t *transaction, next metadata, then func(err error)) {
	if t.pending != nil {
		panic(fmt.Sprintf("txn: %q becomes %v while its becoming %v is written", t.id, next.state, t.pending.state))
	}
	t.pending = &next
	c.write(idKey(t.id), encode(&next), func(err error) {
		t.pending = nil
		if guard.Check("txn.state-recorded", err == nil) {
			t.recorded = true
			t.metadata, t.retry, t.retries = next, time.Time{}, 0
			c.entered(t)
		}
		c.count(t)
		then(err)
		c.settled(t)
	})
	c.count(t)
	c.schedule(t)
}

// entered begins what a state is for.
func (c *Core) entered(t *transaction) {
	t.owed = nil
	switch {
	case t.state == Ongoing:
		t.expires = c.after(t.started, t.timeout)
	case t.state.preparing():
		t.expires = time.Time{}
		t.owed = map[Partition]bool{}
		for p := range t.partitions {
			t.owed[p] = true
		}
		c.send(t)
	default:
		t.expires = c.after(t.updated, c.opt.IDExpiration)
	}
}

// after is the moment so long after a time on the wall clock, which may have been
// another broker's: at most as long after now.
func (c *Core) after(wall int64, d time.Duration) time.Time {
	passed := max(0, c.wall-wall)
	if passed >= d.Milliseconds() {
		return c.now
	}
	return c.now.Add(d - time.Duration(passed)*time.Millisecond)
}

// gotID lets the next request that needs a producer id go on.
func (c *Core) gotID(ev GotID) {
	if ev.Err == nil {
		c.spare = append(c.spare, ev.ID)
	}
	if len(c.starved) == 0 {
		return
	}
	r := c.starved[0]
	c.starved[0] = Request{}
	c.starved = c.starved[1:]
	if ev.Err != nil && len(c.spare) == 0 {
		c.refuse(r, kerr.CoordinatorLoadInProgress.Code) // whatever it was, the client is to try again
		return
	}
	c.request(r)
}

// producerID returns an id that nobody has had; false: r is looked at again when
// there is one.
func (c *Core) producerID(r Request) (id int64, ok bool) {
	if len(c.spare) == 0 {
		c.starved = append(c.starved, r)
		c.fx.NeedIDs++
		return 0, false
	}
	id = c.spare[0]
	c.spare = c.spare[1:]
	return id, true
}

// park lets a request wait for t's next state.
func (c *Core) park(t *transaction, r Request) {
	if len(t.parked) >= maxParked {
		c.refuse(r, kerr.ConcurrentTransactions.Code)
		return
	}
	if r.until.IsZero() {
		r.until = c.now.Add(maxPark)
	}
	t.parked = append(t.parked, r)
	c.bytes += parkedBytes
	c.schedule(t)
}

// unpark looks again at what waits for t, in order of arrival, as far as nothing
// makes it wait on.
func (c *Core) unpark(t *transaction) {
	for len(t.parked) > 0 && !t.moving() {
		c.request(c.unparked(t))
	}
}

// unparked takes the first request that waits for t.
func (c *Core) unparked(t *transaction) Request {
	r := t.parked[0]
	t.parked[0] = Request{}
	t.parked = t.parked[1:]
	c.bytes -= parkedBytes
	return r
}

// expire does what t's deadlines ask for.
func (c *Core) expire(t *transaction, believed time.Time) {
	for len(t.parked) > 0 && !c.now.Before(t.parked[0].until) {
		c.refuse(c.unparked(t), kerr.ConcurrentTransactions.Code)
	}
	due := func(at time.Time) bool { return !at.IsZero() && !c.now.Before(at) }
	switch {
	case t.pending != nil || t.sending:
	case t.state.preparing():
		if due(t.retry) {
			c.send(t)
		}
	case due(t.expires) && (t.retry.IsZero() || due(t.retry)):
		if t.state == Ongoing {
			c.timeOut(t)
		} else if left := c.left(t, believed); left > 0 {
			t.expires, t.retry, t.retries = c.now.Add(left), time.Time{}, 0
		} else {
			c.forget(t)
		}
	}
}

// left is how long an id that is idle stays, by the time that is believed: by the wall
// clock, which may be wrong, it has outlived its time.
func (c *Core) left(t *transaction, believed time.Time) time.Duration {
	if believed.IsZero() {
		return expiryCheck
	}
	left := c.opt.IDExpiration - max(0, believed.Sub(time.UnixMilli(t.updated)))
	if !guard.Check("txn.id-outlived", left <= 0) {
		return left
	}
	return 0
}

// backOff puts off the next try of what has failed.
func (c *Core) backOff(t *transaction) {
	t.retry = c.now.Add(min(minRetry<<min(t.retries, 10), maxRetry))
	t.retries++
}

// forget takes back all that is on record of an id that has expired.
func (c *Core) forget(t *transaction) {
	dead := t.metadata
	dead.state = Dead
	t.pending = &dead
	c.write(idKey(t.id), nil, func(err error) {
		t.pending = nil
		if guard.Check("txn.expiry-recorded", err == nil) {
			t.recorded = false
			c.note(t, "transactional id expired")
		} else {
			c.backOff(t)
		}
		c.settled(t)
	})
}

// settled follows the end of a write: whoever waited for it goes on.
func (c *Core) settled(t *transaction) {
	c.dropIfBare(t)
	c.unpark(t)
	c.schedule(t)
}

// schedule sets t's alarm to its next deadline.
func (c *Core) schedule(t *transaction) {
	var next time.Time
	sooner := func(at time.Time) {
		if !at.IsZero() && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	if len(t.parked) > 0 {
		sooner(t.parked[0].until)
	}
	if t.pending == nil && !t.sending {
		if t.retry.IsZero() {
			sooner(t.expires)
		} else {
			sooner(t.retry)
		}
	}
	if c.ids[t.id] != t {
		next = time.Time{}
	}
	c.alarms.Set(t, next)
}

// make returns a new id. It is nothing until a record of it is committed.
func (c *Core) make(id string, producerID int64) *transaction {
	t := &transaction{id: id, metadata: begun(producerID)}
	c.ids[id] = t
	c.count(t)
	return t
}

// dropIfBare forgets an id of which nothing is on record, nor will be.
func (c *Core) dropIfBare(t *transaction) {
	if !t.recorded && t.pending == nil && c.ids[t.id] == t {
		delete(c.ids, t.id)
		c.bytes -= t.bytes
		t.bytes = 0
		if t.open {
			c.open--
			t.open = false
		}
		c.schedule(t)
	}
}

// count brings the totals up to date with t.
func (c *Core) count(t *transaction) {
	if open := t.state == Ongoing || t.state.preparing(); open != t.open {
		t.open = open
		if open {
			c.open++
		} else {
			c.open--
		}
	}
	n := idBytes + int64(len(t.id)) + t.size()
	if t.pending != nil {
		n += t.pending.size()
	}
	c.bytes += n - t.bytes
	t.bytes = n
}

func (c *Core) note(t *transaction, what string) {
	c.fx.Notes = append(c.fx.Notes, Note{t.id, what, t.producerID, t.epoch, t.state})
}

// sorted returns the transactions by id.
func (c *Core) sorted() []*transaction {
	return slices.SortedFunc(maps.Values(c.ids), func(a, b *transaction) int { return cmp.Compare(a.id, b.id) })
}
