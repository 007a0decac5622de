package txn

import (
	"errors"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// No answer promises what is not on record: neither an id, nor a partition, nor the
// end of a transaction.
func TestAnswersWaitForTheirRecord(t *testing.T) {
	d := newDesk(t)
	begun := d.send(initRequest(nobody))
	d.needs = 0
	d.step(GotID{ID: 7})
	d.silent(begun)
	d.land(nil)
	if resp := d.answer(begun).(*kmsg.InitProducerIDResponse); resp.ErrorCode != 0 || resp.ProducerID != 7 || resp.ProducerEpoch != 0 {
		t.Fatalf("%+v", resp)
	}
	w := who{7, 0}
	added := d.send(addRequest(w, 2, t0))
	d.silent(added)
	d.land(nil)
	d.answer(added)
	ended := d.send(endRequest(w, 5, true))
	d.silent(ended)
	if len(d.sending) > 0 {
		t.Fatal("markers before the decision is on record")
	}
	d.land(nil)
	if resp := d.answer(ended).(*kmsg.EndTxnResponse); resp.ProducerID != 7 || resp.ProducerEpoch != 1 {
		t.Fatalf("%+v", resp)
	}
	d.state(PrepareCommit)
}

// What could not be written did not happen, and can be asked for again.
func TestFailedRecordsPromiseNothing(t *testing.T) {
	d := newDesk(t)
	full := errors.New("disk full")
	failed := func(body any) {
		t.Helper()
		call := d.send(body)
		for ; d.needs > 0; d.needs-- {
			d.nextID++
			d.step(GotID{ID: d.nextID})
		}
		d.land(full)
		if got := codeIn(d.answer(call)); got != kerr.CoordinatorNotAvailable.Code {
			t.Fatalf("%+v: %v", body, kerr.ErrorForCode(got))
		}
	}
	failed(initRequest(nobody))
	if ids, bytes := d.core.Size(); ids != 0 || bytes != 0 {
		t.Fatalf("%d ids, %d bytes", ids, bytes)
	}
	w := d.init(nobody)
	failed(addRequest(w, 2, t0))
	d.state(Empty)
	d.refused(&AddPartitions{TransactionalID: "tx", ProducerID: w.id, ProducerEpoch: w.epoch, VerifyOnly: true, Partitions: []Partition{t0}}, kerr.TransactionAbortable)
	d.add(w, 2, t0)
	failed(endRequest(w, 5, true))
	d.state(Ongoing)
	next := d.end(w, 5, false)
	d.state(CompleteAbort)
	failed(initRequest(next))
	if again := d.init(nobody); again.epoch != next.epoch+1 {
		t.Fatalf("%+v after %+v", again, next)
	}
}

// A decision is carried out by a coordinator that finds it on record, to every
// partition, and only then is the transaction complete.
func TestDecisionSurvivesARestart(t *testing.T) {
	for _, commit := range []bool{true, false} {
		d := newDesk(t)
		w := d.init(nobody)
		d.add(w, 2, t0, t1)
		d.send(endRequest(w, 5, commit))
		d.land(nil)
		d.restart()
		if len(d.sending) != 1 {
			t.Fatalf("%d sendings", len(d.sending))
		}
		m := d.sending[0].Marker
		if m.Commit != commit || m.ProducerID != w.id || m.ProducerEpoch != w.epoch+1 || m.Version != 2 || !slices.Equal(m.Partitions, []Partition{t0, t1}) {
			t.Fatalf("%+v", m)
		}
		waits := d.send(addRequest(who{w.id, w.epoch + 1}, 2, t0))
		d.mark(t1)
		if len(d.held) > 0 {
			t.Fatal("complete without a marker in every partition")
		}
		d.silent(waits)
		d.wait(minRetry)
		if len(d.sending) != 1 || !slices.Equal(d.sending[0].Marker.Partitions, []Partition{t1}) {
			t.Fatalf("%+v", d.sending)
		}
		d.mark()
		d.land(nil)
		d.land(nil)
		if codes := d.answer(waits).([]int16); codes[0] != 0 {
			t.Fatalf("%v", codes)
		}
		d.state(Ongoing)
	}
}

// Jepsen's finding: an end that comes late, over another connection, must not touch
// the transaction after its own. Nor must a partition that is added late.
func TestLateRequestsDoNotTouchTheNextTransaction(t *testing.T) {
	d := newDesk(t)
	first := d.init(nobody)
	d.add(first, 2, t0)
	second := d.end(first, 5, true)
	d.add(second, 2, t1)
	d.refused(endRequest(first, 5, false), kerr.ProducerFenced)
	d.refused(endRequest(first, 5, true), kerr.ProducerFenced)
	d.refused(endRequest(first, 4, true), kerr.ProducerFenced)
	d.refused(addRequest(first, 2, t0), kerr.ProducerFenced)
	verify := addRequest(first, 2, t1)
	verify.VerifyOnly = true
	d.refused(verify, kerr.ProducerFenced)
	d.state(Ongoing)
	d.end(second, 5, true)
	d.state(CompleteCommit)
}

// Partitions were added on produce, and the end is of a client that keeps its epoch:
// the marker is one of that epoch, or the log would take it for a late one and the
// transaction would hang.
func TestMarkersAreOfTheVersionThatEndedIt(t *testing.T) {
	for _, commit := range []bool{true, false} {
		d := newDesk(t)
		w := d.init(nobody)
		d.add(w, 2, t0)
		d.send(endRequest(w, 4, commit))
		d.land(nil)
		if len(d.sending) != 1 {
			t.Fatalf("%d sendings", len(d.sending))
		}
		if m := d.sending[0].Marker; m.Version != 1 || m.ProducerEpoch != w.epoch {
			t.Fatalf("%+v", m)
		}
	}
}

// Who has not heard that his transaction ended asks again, and is told the same:
// not another outcome.
func TestEndIsAnsweredAgain(t *testing.T) {
	for _, restart := range []bool{false, true} {
		d := newDesk(t)
		w := d.init(nobody)
		d.add(w, 2, t0)
		next := d.end(w, 5, true)
		if restart {
			d.restart()
		}
		if again := d.end(w, 5, true); again != next {
			t.Fatalf("%+v, then %+v", next, again)
		}
		d.refused(endRequest(w, 5, false), kerr.InvalidTxnState)
		d.state(CompleteCommit)
	}
	d := newDesk(t)
	w := d.init(nobody)
	d.refused(endRequest(w, 4, true), kerr.InvalidTxnState)
	d.add(w, 0, t0)
	d.end(w, 4, false)
	d.end(w, 4, false)
	d.refused(endRequest(w, 4, true), kerr.InvalidTxnState)
	d.refused(endRequest(who{w.id, w.epoch + 1}, 4, false), kerr.ProducerFenced)
	d.refused(endRequest(who{w.id + 1, w.epoch}, 4, false), kerr.InvalidProducerIDMapping)
	d.state(CompleteAbort)
}

// With an epoch of its own a producer may abort what it is not sure to have begun,
// but not commit it.
func TestAbortOfNothing(t *testing.T) {
	d := newDesk(t)
	w := d.init(nobody)
	d.refused(endRequest(w, 5, true), kerr.InvalidTxnState)
	next := d.end(w, 5, false)
	d.refused(endRequest(next, 5, true), kerr.InvalidTxnState)
	if after := d.end(next, 5, false); after.epoch != w.epoch+2 {
		t.Fatalf("%+v after two", after)
	}
	d.refused(endRequest(w, 5, false), kerr.ProducerFenced)
}

// A producer is told how its transaction ended before the markers are written. If it
// ends the next one by then, as franz-go does when no record got out, that waits for
// the markers, and is no sign of another producer. The id may be another by then.
func TestAbortOfNothingWaitsForTheMarkers(t *testing.T) {
	for _, rotates := range []bool{false, true} {
		d, w := newDesk(t), nobody
		if rotates {
			d, w = deskNearEnd(t, 1)
		}
		w = d.init(w)
		d.add(w, 2, t0)
		ended := d.send(endRequest(w, 5, true))
		for ; d.needs > 0; d.needs-- {
			d.nextID++
			d.step(GotID{ID: d.nextID})
		}
		d.land(nil)
		resp := d.answer(ended).(*kmsg.EndTxnResponse)
		next := who{resp.ProducerID, resp.ProducerEpoch}
		if (next.id != w.id) != rotates {
			t.Fatalf("%+v after %+v", next, w)
		}
		d.state(PrepareCommit)
		abort, late := d.send(endRequest(next, 5, false)), d.send(endRequest(w, 5, false))
		d.silent(abort)
		if got := codeIn(d.answer(late)); got != kerr.InvalidTxnState.Code {
			t.Fatalf("an end of the transaction before: %v", kerr.ErrorForCode(got))
		}
		d.settle()
		if got := codeIn(d.answer(abort)); got != 0 {
			t.Fatalf("rotated %v: %v", rotates, kerr.ErrorForCode(got))
		}
		d.state(CompleteAbort)
		if again := d.end(next, 5, false); again.id != next.id || again.epoch != next.epoch+1 {
			t.Fatalf("%+v after %+v", again, next)
		}
	}
}

// A producer that begins fences off the one before: its transaction is aborted, and
// it can do nothing any more, whatever it names.
func TestBeginFencesTheProducerBefore(t *testing.T) {
	d := newDesk(t)
	first := d.init(nobody)
	d.add(first, 2, t0)
	call := d.send(initRequest(nobody))
	d.land(nil)
	d.silent(call)
	m := d.mark()[0].Marker
	if m.Commit || m.ProducerEpoch != first.epoch+1 {
		t.Fatalf("%+v", m)
	}
	d.settle()
	second := who{d.answer(call).(*kmsg.InitProducerIDResponse).ProducerID, d.answer(call).(*kmsg.InitProducerIDResponse).ProducerEpoch}
	if second.id != first.id || second.epoch != first.epoch+2 {
		t.Fatalf("%+v after %+v", second, first)
	}
	for _, named := range []who{first, {first.id, first.epoch + 1}, {first.id + 1, second.epoch}} {
		d.refused(initRequest(named), kerr.ProducerFenced)
	}
	d.refused(addRequest(first, 2, t0), kerr.ProducerFenced)
	d.refused(addRequest(who{first.id + 1, second.epoch}, 2, t0), kerr.InvalidProducerIDMapping)
	d.refused(endRequest(first, 5, true), kerr.ProducerFenced)
	d.refused(endRequest(who{first.id, first.epoch + 1}, 4, true), kerr.ProducerFenced)
	d.add(second, 2, t0)
	// A late copy of a request that the one before sent aborts nothing.
	d.refused(initRequest(first), kerr.ProducerFenced)
	d.state(Ongoing)
}

// The one before does not begin again either, where the one that fenced it off gave
// up before it was told of its epoch.
func TestBeginThatGivesUpFencesTheProducerBefore(t *testing.T) {
	d := newDesk(t)
	first := d.init(nobody)
	d.add(first, 2, t0)
	call := d.send(initRequest(nobody))
	d.land(nil)
	d.wait(maxPark)
	if got := codeIn(d.answer(call)); got != kerr.ConcurrentTransactions.Code {
		t.Fatalf("%v", kerr.ErrorForCode(got))
	}
	d.settle()
	d.state(CompleteAbort)
	d.refused(initRequest(first), kerr.ProducerFenced)
	d.refused(addRequest(first, 2, t0), kerr.ProducerFenced)
}

// A producer that names what it has goes on (KIP-360), and is told the same when it
// asks again.
func TestProducerGoesOnUnderTheNextEpoch(t *testing.T) {
	d := newDesk(t)
	w := d.init(nobody)
	next := d.init(w)
	if next.id != w.id || next.epoch != w.epoch+1 {
		t.Fatalf("%+v after %+v", next, w)
	}
	if again := d.init(w); again != next {
		t.Fatalf("%+v, then %+v", next, again)
	}
	d.add(next, 2, t0)
	d.refused(initRequest(w), kerr.ProducerFenced) // it must have heard
	after := d.init(next)                          // it aborts its own transaction
	if after.epoch != next.epoch+1 {
		t.Fatalf("%+v after %+v", after, next)
	}
}

// A transaction that takes too long is aborted under an epoch that its producer
// does not have. It may go on from there (KIP-588).
func TestTimeOutAborts(t *testing.T) {
	for _, restart := range []bool{false, true} {
		d := newDesk(t)
		w := d.init(nobody)
		d.wait(3 * time.Second)
		d.add(w, 2, t0)
		d.wait(6 * time.Second)
		d.add(w, 2, t1) // which does not prolong it
		if restart {
			d.restart()
		}
		d.wait(3 * time.Second)
		d.state(Ongoing)
		d.wait(time.Second)
		d.land(errors.New("disk full"))
		d.state(Ongoing)
		d.wait(minRetry)
		d.land(nil)
		d.state(PrepareAbort)
		late := d.send(endRequest(w, 5, true))
		if m := d.mark()[0].Marker; m.Commit || m.ProducerEpoch != w.epoch+1 {
			t.Fatalf("%+v", m)
		}
		d.settle()
		if got := codeIn(d.answer(late)); got != kerr.InvalidTxnState.Code {
			t.Fatalf("a commit after the time-out: %v", kerr.ErrorForCode(got))
		}
		d.state(CompleteAbort)
		if next := d.end(w, 5, false); next.epoch != w.epoch+1 {
			t.Fatalf("%+v after %+v", next, w)
		}
		if next := d.init(w); next.epoch != w.epoch+1 {
			t.Fatalf("%+v after %+v", next, w)
		}
	}
}

// deskNearEnd is a desk whose producer has begun, and can be given so many epochs
// more.
func deskNearEnd(t *testing.T, left int16) (*desk, who) {
	d := newDesk(t)
	m := begun(7)
	m.epoch, m.timeout, m.updated = math.MaxInt16-2-left, 10*time.Second, d.now.UnixMilli()
	d.log = append(d.log, record{idKey("tx"), encode(&m)})
	d.restart()
	return d, d.init(nobody)
}

// When its epochs run out a producer gets another id: between transactions, or when
// it begins. The highest epoch is never given away.
func TestEpochsRunOut(t *testing.T) {
	t.Run("at the end of a transaction", func(t *testing.T) {
		for _, restart := range []bool{false, true} {
			d, w := deskNearEnd(t, 1)
			if w = d.init(w); w.epoch != math.MaxInt16-1 {
				t.Fatalf("%+v", w)
			}
			d.add(w, 2, t0)
			next := d.end(w, 5, true)
			if next.id == w.id || next.epoch != 0 {
				t.Fatalf("%+v after %+v", next, w)
			}
			if restart {
				d.restart()
			}
			if again := d.end(w, 5, true); again != next {
				t.Fatalf("%+v, then %+v", next, again)
			}
			d.add(next, 2, t0)
			if got := codeIn(d.answer(d.send(endRequest(w, 5, true)))); got == 0 {
				t.Fatal("a late end of the producer id before ends the transaction after")
			}
			d.state(Ongoing)
		}
	})
	t.Run("when it begins", func(t *testing.T) {
		d, w := deskNearEnd(t, 1)
		for w.id == 7 {
			if w.epoch == math.MaxInt16 {
				t.Fatal("the highest epoch was given away")
			}
			last := w
			if w = d.init(last); w.id != 7 && (w.epoch != 0 || d.init(last) != w) {
				t.Fatalf("%+v after %+v", w, last)
			}
		}
	})
	t.Run("after a time-out", func(t *testing.T) {
		d, w := deskNearEnd(t, 1)
		for w.epoch < math.MaxInt16-1 {
			w = d.init(w)
		}
		d.add(w, 2, t0)
		d.wait(11 * time.Second)
		d.settle()
		d.state(CompleteAbort)
		d.refused(endRequest(w, 5, false), kerr.ProducerFenced)
		if next := d.init(w); next.id == w.id || next.epoch != 0 {
			t.Fatalf("%+v after %+v", next, w)
		}
	})
}

// Requests wait for a state that is on its way, and not for ever.
func TestRequestsWaitForTheNextState(t *testing.T) {
	d := newDesk(t)
	w := d.init(nobody)
	first, second := d.send(addRequest(w, 2, t0)), d.send(addRequest(w, 2, t1))
	d.silent(second)
	d.land(nil)
	d.silent(second)
	d.land(nil)
	d.answer(first)
	if codes := d.answer(second).([]int16); codes[0] != 0 {
		t.Fatal(codes)
	}
	d.send(endRequest(w, 5, true))
	d.land(nil)
	var waits []Call
	for range maxParked {
		waits = append(waits, d.send(addRequest(who{w.id, w.epoch + 1}, 2, t0)))
	}
	if got := codeIn(d.answer(d.send(initRequest(nobody)))); got != kerr.ConcurrentTransactions.Code {
		t.Fatalf("one more than may wait: %v", kerr.ErrorForCode(got))
	}
	d.wait(maxPark - 1)
	d.silent(waits[0])
	d.wait(1)
	for _, call := range waits {
		if got := codeIn(d.answer(call)); got != kerr.ConcurrentTransactions.Code {
			t.Fatalf("%v", kerr.ErrorForCode(got))
		}
	}
	d.settle()
	if again := NewCore(d.core.opt); again.bytes != 0 {
		t.Fatal(again.bytes)
	}
}

// Beyond the bounds on memory nothing new is taken, and what exists goes on.
func TestFullCoordinatorTakesNothingNew(t *testing.T) {
	d := newDesk(t)
	w := d.init(nobody)
	d.add(w, 2, t0)
	d.full = true
	stranger := initRequest(nobody)
	stranger.TransactionalID = kmsg.StringPtr("another")
	d.refused(stranger, kerr.CoordinatorNotAvailable)
	if ids, _ := d.core.Size(); ids != 1 {
		t.Fatalf("%d ids", ids)
	}
	d.refused(addRequest(w, 2, t0, t1), kerr.CoordinatorNotAvailable)
	d.add(w, 2, t0)
	d.init(d.end(w, 5, true))
}

// An id without a transaction is forgotten in the end, and whoever names it gets
// another producer id; one with a transaction is not.
func TestIDsExpire(t *testing.T) {
	d := newDesk(t, func(o *Options) { o.IDExpiration = time.Minute })
	w := d.init(nobody)
	d.wait(30 * time.Second)
	d.add(w, 2, t0)
	d.wait(40 * time.Second)
	d.settle()
	d.state(CompleteAbort)
	d.wait(time.Minute - time.Second)
	if len(d.held) > 0 {
		t.Fatal("expires early")
	}
	d.wait(time.Second)
	d.land(errors.New("disk full"))
	d.state(CompleteAbort)
	d.wait(minRetry)
	if len(d.held) != 1 || d.held[0].Value != nil {
		t.Fatalf("%+v", d.held)
	}
	d.land(nil)
	if ids, bytes := d.core.Size(); ids != 0 || bytes != 0 || !d.core.Deadline().IsZero() {
		t.Fatalf("%d ids, %d bytes", ids, bytes)
	}
	d.refused(addRequest(w, 2, t0), kerr.InvalidProducerIDMapping)
	d.refused(endRequest(w, 5, false), kerr.InvalidProducerIDMapping)
	d.restart()
	if ids, _ := d.core.Size(); ids != 0 {
		t.Fatalf("%d ids after a restart", ids)
	}
	if again := d.init(w); again.id == w.id || again.epoch != 0 {
		t.Fatalf("%+v after %+v", again, w)
	}
}

// A clock that is years ahead, at a start say, takes no id: each has its time by the one
// that is believed, and stays while none is.
func TestIDsExpireByABelievedTime(t *testing.T) {
	const week = DefaultIDExpiration
	d := newDesk(t)
	d.init(nobody)
	d.settle()
	wrong := d.now.Add(10 * 365 * 24 * time.Hour)
	tick := func(believed time.Time) {
		t.Helper()
		at := d.core.Deadline()
		if at.IsZero() {
			t.Fatal("nothing is to be done any more")
		}
		if at.After(d.now) {
			d.now = at
		}
		d.perform(d.core.Step(d.now, wrong, Tick{believed}))
	}
	stays := func(when string) {
		t.Helper()
		if ids, _ := d.core.Size(); ids != 1 || len(d.held) > 0 {
			t.Fatalf("%s: %d ids, %d writes", when, ids, len(d.held))
		}
		if !d.core.Deadline().After(d.now) {
			t.Fatalf("%s: it is looked at again at once", when)
		}
	}
	begun := d.now
	d.restart()
	d.perform(d.core.Loaded(d.now, wrong))
	for range 10 {
		tick(time.Time{})
		stays("no time is believed")
	}
	tick(begun.Add(week / 2))
	stays("half a week is believed")
	tick(begun.Add(-week))
	stays("a time before it was used is believed")
	tick(begun.Add(week))
	if len(d.held) != 1 {
		t.Fatal("a week is believed: it stays")
	}
	d.land(errors.New("disk full"))
	tick(time.Time{})
	stays("no time is believed after a try")
	tick(begun.Add(week))
	d.land(nil)
	if ids, _ := d.core.Size(); ids != 0 {
		t.Fatalf("%d ids", ids)
	}
}

func TestRequestsThatMakeNoSense(t *testing.T) {
	d := newDesk(t)
	w := d.init(nobody)
	edit := func(change func(*kmsg.InitProducerIDRequest)) *kmsg.InitProducerIDRequest {
		q := initRequest(nobody)
		change(q)
		return q
	}
	d.refused(edit(func(q *kmsg.InitProducerIDRequest) { q.TransactionalID = new(string) }), kerr.InvalidRequest)
	d.refused(edit(func(q *kmsg.InitProducerIDRequest) { q.ProducerEpoch = 1 }), kerr.InvalidRequest)
	d.refused(edit(func(q *kmsg.InitProducerIDRequest) { q.ProducerID = 1 }), kerr.InvalidRequest)
	d.refused(edit(func(q *kmsg.InitProducerIDRequest) { q.TransactionTimeoutMillis = 0 }), kerr.InvalidTransactionTimeout)
	d.refused(edit(func(q *kmsg.InitProducerIDRequest) { q.TransactionTimeoutMillis = 900_001 }), kerr.InvalidTransactionTimeout)
	old := edit(func(q *kmsg.InitProducerIDRequest) {
		q.Version, q.ProducerID, q.ProducerEpoch = 3, w.id, w.epoch+5
	})
	d.refused(old, kerr.InvalidProducerEpoch)
	oldEnd := endRequest(who{w.id, w.epoch + 5}, 1, true)
	d.refused(oldEnd, kerr.InvalidProducerEpoch)
	d.refused(&AddPartitions{Partitions: []Partition{t0}}, kerr.InvalidRequest)
	d.refused(kmsg.NewPtrEndTxnRequest(), kerr.InvalidRequest)
	call := d.send(edit(func(q *kmsg.InitProducerIDRequest) { q.TransactionalID = kmsg.StringPtr("other") }))
	d.needs--
	d.step(GotID{Err: errors.New("no controller")})
	if got := codeIn(d.answer(call)); got != kerr.CoordinatorLoadInProgress.Code {
		t.Fatalf("without a producer id: %v", kerr.ErrorForCode(got))
	}
}
