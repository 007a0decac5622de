package log

import (
	"bytes"
	"reflect"
	"slices"
	"testing"
	"time"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/disk"
)

// leadBehindBucket makes a log whose acks wait for the bucket, and leads it.
func leadBehindBucket(t testing.TB, s *Store, epoch storage.Epoch) *Log {
	t.Helper()
	l, err := s.Create(partition(topicA, 0), Config{BucketAcks: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.BecomeLeader(epoch); err != nil {
		t.Fatal(err)
	}
	return l
}

// TestAcksWaitForTheBucket: what is on disk is for the bucket alone; it is answered, and
// readers see it, in order, once that has it, acks=1 and a batch sent again too.
func TestAcksWaitForTheBucket(t *testing.T) {
	s := open(t, tiered(disk.NewMem(disk.MemOptions{})))
	l := leadBehindBucket(t, s, 1)
	all := []answer{
		send(t, l, from(t, 7, 0, 0, "a", "b"), anyEpoch),
		send(t, l, values(t, "c"), AppendOptions{Epoch: 1, LeaderOnly: true}),
		send(t, l, from(t, 7, 0, 0, "a", "b"), anyEpoch),
		send(t, l, from(t, 7, 0, 2, "d"), AppendOptions{Epoch: 1, LeaderOnly: true}),
	}
	flush(t, s)
	pending := func(of ...answer) {
		t.Helper()
		for i, a := range of {
			if !a.pending() {
				t.Fatalf("answer %d came before the bucket had it: %+v", i, <-a)
			}
		}
	}
	pending(all...)
	if got := contents(t, l, 0, HighWatermark); len(got) > 0 || l.HighWatermark() != 0 {
		t.Fatalf("a consumer sees %q, up to %d", got, l.HighWatermark())
	}
	if got := contents(t, l, 0, Uploadable); !slices.Equal(got, []string{"a", "b", "c", "d"}) || l.Uploadable() != 4 {
		t.Fatalf("for the bucket there are %q, up to %d", got, l.Uploadable())
	}
	if p := s.PendingUpload(nil); len(p) != 1 || p[0].HighWatermark != 4 || !p[0].Awaited {
		t.Fatalf("%+v", p)
	}
	wantOutOfRange(t, l.SetUploaded(5))
	setUploaded(t, l, 2)
	for _, i := range []int{0, 2} {
		if r := all[i].wait(t); r.Err != nil || r.Base != 0 || r.Last != 1 || r.Duplicate != (i == 2) {
			t.Fatalf("%d: %+v", i, r)
		}
	}
	pending(all[1], all[3])
	if got := contents(t, l, 0, HighWatermark); !slices.Equal(got, []string{"a", "b"}) {
		t.Fatalf("a consumer sees %q", got)
	}
	setUploaded(t, l, 4)
	for _, i := range []int{1, 3} {
		if r := all[i].wait(t); r.Err != nil || r.Base != storage.Offset(1+i/2+1) {
			t.Fatalf("%d: %+v", i, r)
		}
	}
}

// TestTheBucketGetsOnlyWhatIsOnDisk: a start never lacks what the catalogue has of it.
func TestTheBucketGetsOnlyWhatIsOnDisk(t *testing.T) {
	fs := hooked()
	s := open(t, tiered(fs))
	l := leadBehindBucket(t, s, 1)
	flush(t, s)
	let := fs.holdSyncs(t)
	a := send(t, l, values(t, "a"), anyEpoch)
	if l.Uploadable() != 0 || len(s.PendingUpload(nil)) != 0 || len(contents(t, l, 0, Uploadable)) != 0 {
		t.Fatalf("up to %d is for the bucket, and not on disk", l.Uploadable())
	}
	wantOutOfRange(t, l.SetUploaded(1))
	let()
	flush(t, s)
	setUploaded(t, l, 1)
	if r := a.wait(t); r.Err != nil {
		t.Fatal(r.Err)
	}
}

// TestWhoWaitsForTheBucketIsToldInTime: after its deadline, and at once when another leads.
func TestWhoWaitsForTheBucketIsToldInTime(t *testing.T) {
	s := open(t, tiered(disk.NewMem(disk.MemOptions{})))
	l := leadBehindBucket(t, s, 1)
	soon := send(t, l, values(t, "a"), AppendOptions{Epoch: 1, Deadline: sentAt.Add(time.Second)})
	late := send(t, l, values(t, "b"), anyEpoch)
	flush(t, s)
	l.Expire(sentAt.Add(time.Second))
	wantErr(t, soon.wait(t).Err, ErrTimedOut)
	l.Resign()
	wantErr(t, late.wait(t).Err, ErrNotLeader)
}

// TestMarkersWaitForTheBucket, and what a range says of transactions is as of its end.
func TestMarkersWaitForTheBucket(t *testing.T) {
	s := open(t, tiered(disk.NewMem(disk.MemOptions{})))
	l := leadBehindBucket(t, s, 1)
	data := []answer{sendVerified(t, l, inTransaction(t, 7, 0, 0, "a")), sendVerified(t, l, inTransaction(t, 8, 0, 0, "b"))}
	flush(t, s)
	setUploaded(t, l, 2)
	for _, a := range data {
		if r := a.wait(t); r.Err != nil {
			t.Fatal(r.Err)
		}
	}
	commit, abort := sendMarker(l, Marker{ProducerID: 7, Commit: true}), sendMarker(l, Marker{ProducerID: 8})
	again := sendMarker(l, Marker{ProducerID: 7, Commit: true})
	flush(t, s)
	if !commit.pending() || !abort.pending() || !again.pending() {
		t.Fatal("a marker is answered that the bucket has not")
	}
	wantStable(t, l, 0)
	for end, want := range map[storage.Offset]Outcome{3: {LastStable: 1}, 4: {LastStable: 4, Aborted: []Aborted{{8, 1, 3}}}} {
		if got, err := l.Outcome(2, end); err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("[2, %d) has %+v, want %+v: %v", end, got, want, err)
		}
	}
	setUploaded(t, l, 3)
	if r := commit.wait(t); r.Err != nil {
		t.Fatal(r.Err)
	}
	if r := again.wait(t); r.Err != nil {
		t.Fatal(r.Err)
	}
	wantStable(t, l, 1)
	setUploaded(t, l, 4)
	if r := abort.wait(t); r.Err != nil {
		t.Fatal(r.Err)
	}
	wantStable(t, l, 4)
}

// toBucket is a log's next range: its batches, and what it says of producers as of its end.
func toBucket(t testing.TB, l *Log, end storage.Offset) (batches []batch.Batch, epochs []EpochStart, producers []byte) {
	t.Helper()
	point, err := l.UploadPoint(false)
	if err != nil {
		t.Fatal(err)
	}
	r, err := l.Read(ReadRequest{Offset: point.From, MaxBytes: 1 << 20, Isolation: Uploadable})
	if err != nil {
		t.Fatal(err)
	}
	for _, raw := range r.Batches {
		if b := batch.Batch(bytes.Clone(raw)); b.NextOffset() <= end {
			batches = append(batches, b)
		}
	}
	r.Release()
	producers = l.ProducersAsOf(end)
	setUploaded(t, l, end)
	return batches, point.Epochs, producers
}

// TestALogBeginsAnewAsTheBucketKnowsIt: whatever of it the new leader had, it has the
// producers, transactions and epochs of what is committed, and of nothing else; a batch that
// is there is answered as the first was, also after a crash.
func TestALogBeginsAnewAsTheBucketKnowsIt(t *testing.T) {
	s := open(t, tiered(disk.NewMem(disk.MemOptions{})))
	l := leadBehindBucket(t, s, 1)
	send(t, l, from(t, 5, 0, 0, "a"), anyEpoch)
	sendVerified(t, l, inTransaction(t, 7, 0, 0, "b"))
	sendVerified(t, l, inTransaction(t, 8, 0, 0, "c"))
	flush(t, s)
	r := Rebuild{}
	_, epochs, producers := toBucket(t, l, 3)
	if asOf, err := r.Producers(producers); err != nil || asOf != 3 {
		t.Fatalf("producers as of %d: %v", asOf, err)
	}
	for _, e := range epochs {
		r.Epoch(e)
	}
	l.Resign()
	if err := l.BecomeLeader(4); err != nil {
		t.Fatal(err)
	}
	send(t, l, from(t, 5, 0, 1, "d"), anyEpoch)
	sendMarker(l, Marker{ProducerID: 7, Commit: true, CoordinatorEpoch: 3})
	sendVerified(t, l, inTransaction(t, 9, 1, 0, "e"))
	flush(t, s)
	batches, epochs, _ := toBucket(t, l, 6)
	for _, e := range epochs {
		r.Epoch(e)
	}
	for _, b := range batches {
		r.Batch(b, sentAt.UnixMilli())
	}
	want := remembered(l)
	send(t, l, from(t, 5, 0, 2, "never committed"), anyEpoch)
	encoded := r.Encode(1, 6)

	o := open(t, tiered(disk.NewMem(disk.MemOptions{})))
	other := leadBehindBucket(t, o, 2) // it had led, and has what was never committed
	stray := send(t, other, from(t, 5, 0, 0, "x", "y", "z"), anyEpoch)
	wantErr(t, other.RestartFromBucket(6, encoded), ErrFenced)
	other.Resign()
	wantErr(t, stray.wait(t).Err, ErrNotLeader)
	encoded[20] ^= 1
	wantReplicaError(t, other.RestartFromBucket(6, encoded))
	encoded[20] ^= 1
	if err := other.RestartFromBucket(6, encoded); err != nil {
		t.Fatal(err)
	}
	for _, how := range []string{"before", "after a crash"} {
		other.SetConfig(Config{BucketAcks: true})
		setLogStart(t, other, 1)
		setUploaded(t, other, 6)
		if got := remembered(other); !reflect.DeepEqual(got, want) {
			t.Fatalf("%s: %+v, want %+v", how, got, want)
		}
		if other.EpochAt(1) != 1 || other.EpochAt(5) != 4 || other.End() != 6 || other.HighWatermark() != 6 {
			t.Fatalf("%s: it ends at %d, committed to %d; epochs %v", how, other.End(), other.HighWatermark(), other.epochs)
		}
		o = kill(t, o)
		other, _ = o.Log(other.id)
	}
	other.SetConfig(Config{BucketAcks: true})
	setLogStart(t, other, 1)
	setUploaded(t, other, 6)
	if err := other.BecomeLeader(5); err != nil {
		t.Fatal(err)
	}
	if _, err := other.Latest(); err != nil {
		t.Fatal(err)
	}
	if r := send(t, other, from(t, 5, 0, 1, "d"), anyEpoch).wait(t); r.Err != nil || r.Base != 3 || !r.Duplicate {
		t.Fatalf("sent again: %+v", r)
	}
	next := send(t, other, from(t, 5, 0, 2, "f"), anyEpoch)
	wantErr(t, send(t, other, from(t, 9, 0, 0, "older epoch"), anyEpoch).wait(t).Err, ErrInvalidProducerEpoch)
	flush(t, o)
	setUploaded(t, other, 7)
	if r := next.wait(t); r.Err != nil || r.Base != 6 {
		t.Fatalf("%+v", r)
	}
	wantStable(t, other, 2) // that of 8 is open, of 9 too
}

// TestWhatWasNotCommittedGoesWithTheEpoch: a leader that keeps its log keeps what the bucket
// has of it, and its producers as of that.
func TestWhatWasNotCommittedGoesWithTheEpoch(t *testing.T) {
	s := open(t, tiered(disk.NewMem(disk.MemOptions{})))
	l := leadBehindBucket(t, s, 1)
	send(t, l, from(t, 7, 0, 0, "a"), anyEpoch)
	flush(t, s)
	setUploaded(t, l, 1)
	send(t, l, from(t, 7, 0, 1, "b"), anyEpoch)
	s = kill(t, s)
	l, _ = s.Log(l.id)
	l.SetConfig(Config{BucketAcks: true})
	if err := l.TruncateTo(1, 3); err != nil {
		t.Fatal(err)
	}
	setUploaded(t, l, 1)
	if err := l.BecomeLeader(3); err != nil {
		t.Fatal(err)
	}
	other := send(t, l, from(t, 7, 0, 1, "c"), anyEpoch)
	flush(t, s)
	setUploaded(t, l, 2)
	if r := other.wait(t); r.Err != nil || r.Duplicate || r.Base != 1 {
		t.Fatalf("%+v", r)
	}
	if got := contents(t, l, 0, HighWatermark); !slices.Equal(got, []string{"a", "c"}) {
		t.Fatalf("%q", got)
	}
}
