package log

import (
	"context"
	"sync"
	"testing"
	"time"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/disk"
)

// TestCoordinatorsWaitWhileTooFewAreInSync: what they append is answered once it is known
// what became of it, which is not when an ISR shrinks.
func TestCoordinatorsWaitWhileTooFewAreInSync(t *testing.T) {
	l := leadWith(t, open(t, small(disk.NewMem(disk.MemOptions{}))), 1, 2)
	internal := AppendOptions{Epoch: 1, Internal: true}
	coordinators := send(t, l, values(t, "0"), internal)
	clients := send(t, l, values(t, "1"), anyEpoch)
	marker := make(answer, 1)
	l.AppendMarker(context.Background(), time.Now(), Marker{ProducerID: 7, CoordinatorEpoch: 1}, MarkerOptions{Epoch: 1}, marker)
	flush(t, l.store)
	l.SetReplicas(Replicas{Pending: []int32{2}})
	wantErr(t, clients.wait(t).Err, ErrNotEnoughReplicasAfterAppend)
	wantErr(t, send(t, l, values(t, "2"), internal).wait(t).Err, ErrNotEnoughReplicas)
	if !coordinators.pending() || !marker.pending() {
		t.Fatal("a coordinator was told that its record is not committed, which it may be yet")
	}
	l.SetReplicas(Replicas{InSync: []int32{2}})
	confirm(t, l, 2, l.End())
	for _, a := range []answer{coordinators, marker} {
		if r := a.wait(t); r.Err != nil {
			t.Fatal(r.Err)
		}
	}
}

// TestCoordinatorsWaitForWhatIsOnItsWayToTheDiskToo: an ISR that shrinks before a record is
// on disk says no more of what becomes of it.
func TestCoordinatorsWaitForWhatIsOnItsWayToTheDiskToo(t *testing.T) {
	fs := hooked()
	l := leadWith(t, open(t, small(fs)), 1, 2)
	let := fs.holdSyncs(t)
	internal := send(t, l, values(t, "0"), AppendOptions{Epoch: 1, Internal: true})
	marker := make(answer, 1)
	l.AppendMarker(t.Context(), sentAt, Marker{ProducerID: 7, CoordinatorEpoch: 1}, MarkerOptions{Epoch: 1}, marker)
	l.SetReplicas(Replicas{Pending: []int32{2}})
	let()
	flush(t, l.store)
	l.SetReplicas(Replicas{InSync: []int32{2}})
	confirm(t, l, 2, l.End())
	for _, a := range []answer{internal, marker} {
		if r := a.wait(t); r.Err != nil {
			t.Fatal(r.Err)
		}
	}
}

// TestAppendsWaitForFollowersUntilTheirDeadline, and are in the log all the same.
func TestAppendsWaitForFollowersUntilTheirDeadline(t *testing.T) {
	l := leadWith(t, open(t, small(disk.NewMem(disk.MemOptions{}))), 1, 2)
	soon, late := AppendOptions{Epoch: 1, Deadline: sentAt.Add(time.Second)}, AppendOptions{Epoch: 1, Deadline: sentAt.Add(time.Minute)}
	first, second, third := send(t, l, values(t, "0"), soon), send(t, l, values(t, "1"), late), send(t, l, values(t, "2"), anyEpoch)
	flush(t, l.store)
	l.Expire(sentAt)
	if !first.pending() {
		t.Fatal("answered before its deadline")
	}
	l.Expire(sentAt.Add(time.Second))
	wantErr(t, first.wait(t).Err, ErrTimedOut)
	if !second.pending() || !third.pending() {
		t.Fatal("answered before their deadlines")
	}
	confirm(t, l, 2, 3)
	if a, b := second.wait(t), third.wait(t); a.Err != nil || b.Err != nil || l.HighWatermark() != 3 {
		t.Fatalf("%+v, %+v; the high watermark is %d", a, b, l.HighWatermark())
	}
}

// TestMarkersWaitForFollowersUntilTheirDeadline: who gave up waiting sends them again, and
// again, and none is kept beyond that.
func TestMarkersWaitForFollowersUntilTheirDeadline(t *testing.T) {
	l := leadWith(t, open(t, small(disk.NewMem(disk.MemOptions{}))), 1, 2)
	end := func(at time.Time) answer {
		a := make(answer, 1)
		l.AppendMarker(t.Context(), at, Marker{ProducerID: 7, CoordinatorEpoch: 1}, MarkerOptions{Epoch: 1, Deadline: at.Add(time.Second)}, a)
		flush(t, l.store)
		return a
	}
	for i := range 3 {
		at := sentAt.Add(time.Duration(i) * time.Minute)
		a := end(at)
		l.Expire(at)
		if !a.pending() {
			t.Fatalf("try %d: answered before its deadline", i)
		}
		l.Expire(at.Add(time.Second))
		wantErr(t, a.wait(t).Err, ErrTimedOut)
	}
	if l.End() != 1 {
		t.Fatalf("the log ends at %d, want one marker", l.End())
	}
	a := end(sentAt)
	confirm(t, l, 2, 1)
	if r := a.wait(t); r.Err != nil || r.Base != 0 {
		t.Fatalf("%+v", r)
	}
}

// slowly is an append whose answer takes until it is let, and then is noted.
type slowly struct {
	began, let chan struct{}
	order      chan<- storage.Offset
}

func (s slowly) Appended(r AppendResult) {
	close(s.began)
	<-s.let
	s.order <- r.Base
}

// TestAnswersKeepTheOrderOfTheLog, whoever confirms: coordinators take the last answer for
// the last of their log.
func TestAnswersKeepTheOrderOfTheLog(t *testing.T) {
	l := leadWith(t, open(t, small(disk.NewMem(disk.MemOptions{}))), 1, 2)
	order, opened := make(chan storage.Offset, 3), make(chan struct{})
	close(opened)
	first := slowly{make(chan struct{}), make(chan struct{}), order}
	for _, done := range []slowly{first, {make(chan struct{}), opened, order}} {
		b := values(t, "x")
		if err := l.store.Admit(t.Context(), len(b)); err != nil {
			t.Fatal(err)
		}
		l.Append(sentAt, b, AppendOptions{Epoch: 1, Internal: true}, done)
	}
	flush(t, l.store)
	var one sync.WaitGroup
	one.Go(func() { confirm(t, l, 2, 1) })
	<-first.began
	confirm(t, l, 2, 3) // by another stream, while the first is told, also of what the disk has not
	b := values(t, "x")
	if err := l.store.Admit(t.Context(), len(b)); err != nil {
		t.Fatal(err)
	}
	l.Append(sentAt, b, AppendOptions{Epoch: 1, Internal: true}, slowly{make(chan struct{}), opened, order})
	flush(t, l.store)
	close(first.let)
	one.Wait()
	for want := range storage.Offset(3) {
		if got := <-order; got != want {
			t.Fatalf("the answer of %d came for the one of %d", got, want)
		}
	}
}
