package txn

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// desk is a core whose effects the test carries out, one by one.
type desk struct {
	t       *testing.T
	core    *Core
	now     time.Time
	call    Call
	answers map[Call]any
	log     []record
	held    []Write
	sending []Sending
	needs   int
	nextID  int64
	full    bool
}

func newDesk(t *testing.T, change ...func(*Options)) *desk {
	opt := Options{MaxTimeout: DefaultMaxTimeout, IDExpiration: DefaultIDExpiration}
	for _, c := range change {
		c(&opt)
	}
	return &desk{t: t, core: NewCore(opt), now: time.Unix(1_700_000_000, 0), answers: map[Call]any{}, nextID: 1000}
}

func (d *desk) perform(fx Effects) {
	for _, a := range fx.Answers {
		if _, twice := d.answers[a.Call]; twice {
			d.t.Fatalf("call %d answered twice", a.Call)
		}
		d.answers[a.Call] = a.Body
	}
	d.held = append(d.held, fx.Writes...)
	d.sending = append(d.sending, fx.Markers...)
	d.needs += fx.NeedIDs
}

func (d *desk) step(ev Event) { d.perform(d.core.Step(d.now, d.now, ev)) }

// send asks; what it needs is done by the test.
func (d *desk) send(body any) Call {
	d.call++
	d.step(Request{Call: d.call, Full: d.full, Body: body})
	return d.call
}

// land commits what is held, or says why not.
func (d *desk) land(err error) {
	var ids []WriteID
	for _, w := range d.held {
		ids = append(ids, w.ID)
		if err == nil {
			d.log = append(d.log, record{w.Key, w.Value})
		}
	}
	d.held = nil
	if len(ids) > 0 {
		d.step(Written{IDs: ids, Err: err})
	}
}

// mark writes the markers that are asked for, but those left.
func (d *desk) mark(left ...Partition) []Sending {
	sent := d.sending
	d.sending = nil
	for _, s := range sent {
		d.step(Marked{s.TransactionalID, left})
	}
	return sent
}

// settle does all that is asked for.
func (d *desk) settle() {
	for len(d.held)+len(d.sending)+d.needs > 0 {
		for ; d.needs > 0; d.needs-- {
			d.nextID++
			d.step(GotID{ID: d.nextID})
		}
		d.land(nil)
		d.mark()
	}
}

func (d *desk) wait(by time.Duration) {
	until := d.now.Add(by)
	for at := d.core.Deadline(); !at.IsZero() && !at.After(until); at = d.core.Deadline() {
		d.now = at
		d.step(Tick{d.now})
	}
	d.now = until
}

// restart replays the log into another core.
func (d *desk) restart() {
	d.held, d.sending, d.needs = nil, nil, 0
	d.core = NewCore(d.core.opt)
	for _, r := range d.log {
		if err := d.core.Replay(r.key, r.value); err != nil {
			d.t.Fatal(err)
		}
	}
	d.perform(d.core.Loaded(d.now, d.now))
}

func (d *desk) answer(call Call) any {
	d.t.Helper()
	body, ok := d.answers[call]
	if !ok {
		d.t.Fatalf("call %d is not answered", call)
	}
	return body
}

func (d *desk) silent(call Call) {
	d.t.Helper()
	if body, ok := d.answers[call]; ok {
		d.t.Fatalf("call %d is answered: %+v", call, body)
	}
}

// who is an id and epoch that a producer has, or names.
type who struct {
	id    int64
	epoch int16
}

var nobody = who{noProducerID, noProducerEpoch}

func initRequest(named who) *kmsg.InitProducerIDRequest {
	q := kmsg.NewPtrInitProducerIDRequest()
	q.Version, q.TransactionalID, q.TransactionTimeoutMillis = 5, kmsg.StringPtr("tx"), 10_000
	q.ProducerID, q.ProducerEpoch = named.id, named.epoch
	return q
}

func addRequest(w who, version int16, partitions ...Partition) *AddPartitions {
	return &AddPartitions{TransactionalID: "tx", ProducerID: w.id, ProducerEpoch: w.epoch, Version: version, Partitions: partitions}
}

func endRequest(w who, version int16, commit bool) *kmsg.EndTxnRequest {
	q := kmsg.NewPtrEndTxnRequest()
	q.Version, q.TransactionalID, q.ProducerID, q.ProducerEpoch, q.Commit = version, "tx", w.id, w.epoch, commit
	return q
}

var t0, t1 = Partition{"t", 0}, Partition{"t", 1}

func (d *desk) init(named who) who {
	d.t.Helper()
	call := d.send(initRequest(named))
	d.settle()
	resp := d.answer(call).(*kmsg.InitProducerIDResponse)
	if resp.ErrorCode != 0 {
		d.t.Fatalf("init with %+v: %v", named, kerr.ErrorForCode(resp.ErrorCode))
	}
	return who{resp.ProducerID, resp.ProducerEpoch}
}

func (d *desk) add(w who, version int16, partitions ...Partition) {
	d.t.Helper()
	call := d.send(addRequest(w, version, partitions...))
	d.settle()
	if codes := d.answer(call).([]int16); slices.Max(codes) != 0 {
		d.t.Fatalf("add as %+v: %v", w, codes)
	}
}

func (d *desk) end(w who, version int16, commit bool) who {
	d.t.Helper()
	call := d.send(endRequest(w, version, commit))
	d.settle()
	resp := d.answer(call).(*kmsg.EndTxnResponse)
	if resp.ErrorCode != 0 {
		d.t.Fatalf("end as %+v with %v: %v", w, commit, kerr.ErrorForCode(resp.ErrorCode))
	}
	return who{resp.ProducerID, resp.ProducerEpoch}
}

func (d *desk) refused(body any, want *kerr.Error) {
	d.t.Helper()
	call := d.send(body)
	d.settle()
	if got := codeIn(d.answer(call)); got != want.Code {
		d.t.Fatalf("%+v is answered with %v, want %v", body, kerr.ErrorForCode(got), want)
	}
}

func codeIn(body any) int16 {
	switch resp := body.(type) {
	case *kmsg.InitProducerIDResponse:
		return resp.ErrorCode
	case *kmsg.EndTxnResponse:
		return resp.ErrorCode
	case []int16:
		return resp[0]
	}
	panic(fmt.Sprintf("%T", body))
}

func (d *desk) state(want State) {
	d.t.Helper()
	if got := d.core.describe(&Describe{TransactionalID: "tx"}); got.State != want.String() {
		d.t.Fatalf("%+v, want %v", got, want)
	}
}
