package log

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/disk"
)

// TestOnlyWhatIsCommittedIsUploaded, and what was uploaded stays so.
func TestOnlyWhatIsCommittedIsUploaded(t *testing.T) {
	s := open(t, tiered(disk.NewMem(disk.MemOptions{})))
	l := lead(t, s, partition(topicA, 0), 1)
	appendAll(t, l, values(t, "0"), values(t, "1"))
	l.SetConfig(Config{MinInSync: 2})
	if r := send(t, l, values(t, "2"), AppendOptions{Epoch: storage.NoEpoch, LeaderOnly: true}).wait(t); r.Err != nil {
		t.Fatal(r.Err)
	}
	wantOutOfRange(t, l.SetUploaded(3))
	if l.Uploaded() != 0 {
		t.Fatalf("uploaded to %d", l.Uploaded())
	}
	for _, end := range []storage.Offset{2, 1, 0, 2} {
		setUploaded(t, l, end)
		if l.Uploaded() != 2 {
			t.Fatalf("uploaded to %d", l.Uploaded())
		}
	}
	if err := s.Drop(topicA); err != nil {
		t.Fatal(err)
	}
	wantErr(t, l.SetUploaded(2), ErrDropped)
	_, err := l.UploadPoint(false)
	wantErr(t, err, ErrDropped)
	if got := s.PendingUpload(nil); len(got) != 0 {
		t.Fatalf("of a dropped log there waits %+v", got)
	}
}

// appendAt appends one batch at a time of the broker's clock.
func appendAt(t testing.TB, l *Log, millis int64, b batch.Batch) {
	t.Helper()
	if err := l.store.Admit(context.Background(), len(b)); err != nil {
		t.Fatal(err)
	}
	a := make(answer, 1)
	l.Append(time.UnixMilli(millis), b, AppendOptions{Epoch: storage.NoEpoch, LeaderOnly: true}, a)
	if r := a.wait(t); r.Err != nil {
		t.Fatal(r.Err)
	}
}

// TestPendingUpload: partitions that have something to upload are listed, with
// how much it is and since when; the others are not even looked at.
func TestPendingUpload(t *testing.T) {
	o := tiered(disk.NewMem(disk.MemOptions{}))
	clock := int64(5000)
	o.Now = func() time.Time { return time.UnixMilli(clock) }
	s := open(t, o)
	var logs []*Log
	for i := range int32(20) {
		logs = append(logs, lead(t, s, partition(topicA, i), 1))
	}
	pending := func(want ...PendingUpload) {
		t.Helper()
		got := s.PendingUpload(nil)
		slices.SortFunc(got, func(a, b PendingUpload) int { return cmp.Compare(a.Partition.Index, b.Partition.Index) })
		if !slices.Equal(got, want) {
			t.Fatalf("waiting %+v, want %+v", got, want)
		}
	}
	listed := func() (n int) {
		for l := s.backlogs.head.Load(); l != nil; l = l.nextListed {
			n++
		}
		return n
	}
	pending()
	one, two := values(t, "one"), values(t, "two", "three")
	size := int64(len(one))
	appendAt(t, logs[3], 1000, bytes.Clone(one))
	appendAt(t, logs[3], 2000, two)
	appendAt(t, logs[7], 3000, bytes.Clone(one))
	third := PendingUpload{logs[3].id, 0, 3, size + int64(len(two)), 1000, false}
	seventh := PendingUpload{logs[7].id, 0, 1, size, 3000, false}
	for range 2 {
		pending(third, seventh)
		if listed() != 2 {
			t.Fatalf("%d logs are listed", listed())
		}
	}
	// What is not committed does not wait yet.
	logs[3].SetConfig(Config{MinInSync: 2})
	logs[9].SetConfig(Config{MinInSync: 2})
	appendAt(t, logs[3], 4000, bytes.Clone(one))
	appendAt(t, logs[9], 4000, bytes.Clone(one))
	pending(third, seventh)
	// What came after the point is younger than it.
	if _, err := logs[3].UploadPoint(false); err != nil {
		t.Fatal(err)
	}
	logs[3].SetConfig(Config{})
	setUploaded(t, logs[3], 1)
	pending(PendingUpload{logs[3].id, 1, 4, int64(len(two)) + size, 1000, false}, seventh)
	setUploaded(t, logs[3], 3)
	pending(PendingUpload{logs[3].id, 3, 4, size, 5000, false}, seventh)
	// What the log start has passed, or a truncation took, does not wait.
	setLogStart(t, logs[3], 4)
	if err := logs[9].TruncateTo(0, 2); err != nil {
		t.Fatal(err)
	}
	pending(seventh)
	if listed() != 1 {
		t.Fatalf("%d logs are listed", listed())
	}
	// It is known after a restart.
	s = reopen(t, s)
	pending()                           // the high watermark is that of the last state
	lead(t, s, partition(topicA, 7), 2) // and now it is the end
	seventh.Since = clock
	pending(seventh)
	l := lead(t, s, partition(topicA, 3), 2)
	appendAt(t, l, 6000, bytes.Clone(one))
	pending(PendingUpload{l.id, 4, 5, size, 6000, false}, seventh)
	setUploaded(t, l, 5)
	pending(seventh)
}

// TestUntieredStoreListsNothing: nobody would take it from the list.
func TestUntieredStoreListsNothing(t *testing.T) {
	s := open(t, small(disk.NewMem(disk.MemOptions{})))
	appendAll(t, lead(t, s, partition(topicA, 0), 1), values(t, "a"))
	if s.backlogs.head.Load() != nil {
		t.Fatal("a log is listed")
	}
}

// TestUploadLagHoldsItsPartitionAlone: who holds its share of the WAL waits for
// its uploads; the others do not, nor does what the broker itself must append,
// nor the answer to a duplicate.
func TestUploadLagHoldsItsPartitionAlone(t *testing.T) {
	o := tiered(disk.NewMem(disk.MemOptions{}))
	o.MaxUnuploadedShare = 0.125
	s := open(t, o)
	l, other := lead(t, s, partition(topicA, 0), 1), lead(t, s, partition(topicA, 1), 1)
	filler := strings.Repeat("x", 15<<10)
	appended := int32(0)
	try := func(l *Log, b batch.Batch, o AppendOptions) error {
		return send(t, l, b, o).wait(t).Err
	}
	var err error
	for ; ; appended++ {
		if err = try(l, from(t, 7, 0, appended, filler), anyEpoch); err != nil {
			break
		}
	}
	wantErr(t, err, ErrUploadLag)
	wantErr(t, err, ErrFull)
	if held := int64(appended) * (15 << 10); held > s.Stats().Capacity/8 || held < s.Stats().Capacity/10 {
		t.Fatalf("held back with %d bytes in a WAL of %d", held, s.Stats().Capacity)
	}
	if r := send(t, l, from(t, 7, 0, appended-1, filler), anyEpoch).wait(t); r.Err != nil || r.Base != storage.Offset(appended-1) {
		t.Fatalf("a duplicate was answered %+v", r)
	}
	if err := try(l, values(t, filler), AppendOptions{Epoch: storage.NoEpoch, Internal: true}); err != nil {
		t.Fatalf("the broker itself: %v", err)
	}
	if err := try(other, values(t, filler), anyEpoch); err != nil {
		t.Fatalf("another partition: %v", err)
	}
	setUploaded(t, l, 10)
	if err := try(l, from(t, 7, 0, appended, filler), anyEpoch); err != nil {
		t.Fatalf("after an upload: %v", err)
	}
	// The same share is known after a restart.
	l = lead(t, reopen(t, s), l.id, 2)
	for err = nil; err == nil; {
		err = try(l, values(t, filler), anyEpoch)
	}
	wantErr(t, err, ErrUploadLag)
	if err := l.SetLogStart(l.HighWatermark()); err != nil {
		t.Fatal(err)
	}
	if err := try(l, values(t, filler), anyEpoch); err != nil {
		t.Fatalf("after a trim: %v", err)
	}
}

func TestUnuploadedShareIsAShare(t *testing.T) {
	for _, share := range []float64{-0.1, 1.1} {
		o := tiered(disk.NewMem(disk.MemOptions{}))
		o.MaxUnuploadedShare = share
		if _, err := Open(context.Background(), o); err == nil {
			t.Fatalf("opened with a share of %v", share)
		}
	}
}

// TestUploadPoint says of a log what a range for the bucket is to say.
func TestUploadPoint(t *testing.T) {
	s := open(t, tiered(disk.NewMem(disk.MemOptions{})))
	l := lead(t, s, partition(topicA, 0), 1)
	point := func(producers bool) UploadPoint {
		t.Helper()
		p, err := l.UploadPoint(producers)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	if p := point(false); p.From != 0 || p.HighWatermark != 0 || p.Epochs != nil || p.Producers != nil {
		t.Fatalf("of an empty log: %+v", p)
	}
	appendAll(t, l, from(t, 7, 0, 0, "0", "1"))
	for _, epoch := range []storage.Epoch{3, 4} {
		if err := l.BecomeLeader(epoch); err != nil {
			t.Fatal(err)
		}
		appendAll(t, l, from(t, 7, 0, int32(l.End()), "x"))
	}
	l.SetConfig(Config{MinInSync: 2})
	if err := l.BecomeLeader(6); err != nil {
		t.Fatal(err)
	}
	appendAt(t, l, 1, from(t, 9, 0, 0, "not committed"))
	setUploaded(t, l, 2)
	p := point(true)
	if want := []EpochStart{{3, 2}, {4, 3}}; p.From != 2 || p.HighWatermark != 4 || !slices.Equal(p.Epochs, want) {
		t.Fatalf("%+v, want epochs %v", p, want)
	}
	var got state
	if last, err := got.decode(p.Producers); err != nil || !last {
		t.Fatalf("last %v, %v", last, err)
	}
	if want := (epochs{{1, 0}, {3, 2}, {4, 3}}); got.localStart != 4 || got.highWatermark != 4 || !slices.Equal(got.epochs, want) {
		t.Fatalf("state %+v, want epochs %v", got, want)
	}
	if len(got.producers) != 1 || got.producers[7].latest().last != 3 {
		t.Fatalf("producers %+v", got.producers)
	}
	setUploaded(t, l, 4)
	if p := point(false); p.From != 4 || p.HighWatermark != 4 || len(p.Epochs) != 0 {
		t.Fatalf("of what is uploaded: %+v", p)
	}
}

// TestReclaimableIsWhatTheIndexHas: what the WAL is told could be given up is
// what is uploaded and not given up, after whatever came in between.
func TestReclaimableIsWhatTheIndexHas(t *testing.T) {
	rng := newRand(t)
	s := open(t, tiered(disk.NewMem(disk.MemOptions{})))
	l := lead(t, s, partition(topicA, 0), 1)
	for range 200 {
		switch rng.IntN(6) {
		default:
			for range rng.IntN(20) {
				appendPaced(t, l, values(t, strings.Repeat("x", rng.IntN(5000))))
			}
		case 1:
			setUploaded(t, l, l.Uploaded()+(l.HighWatermark()-l.Uploaded())*storage.Offset(rng.IntN(4))/3)
		case 2:
			setLogStart(t, l, l.LogStart()+(l.HighWatermark()-l.LogStart())*storage.Offset(rng.IntN(4))/9)
		case 3:
			if err := l.advanceLocalStart(l.LocalStart()+(l.Uploaded()-l.LocalStart())/2, rng.IntN(2) == 0); err != nil {
				t.Fatal(err)
			}
		case 4:
			l.mu.Lock()
			oldest := l.stateRefs[0].Segment
			for _, ref := range l.everything(nil) {
				oldest = min(oldest, ref.Segment)
			}
			l.mu.Unlock()
			if err := (owner{s}).Relocate(context.Background(), oldest); err != nil && !errors.Is(err, ErrFull) {
				t.Fatal(err)
			}
		}
		if err := s.Flush(context.Background()); err != nil {
			t.Fatal(err)
		}
		var reclaimable, bytes, batches int64
		l.mu.Lock()
		for p := (place{}); l.index.valid(p); p = l.index.following(p) {
			b, e := l.index.at(p)
			if b.nextOf(p.entry) <= l.uploaded {
				reclaimable += int64(e.ref.Length) + frameOverhead
			} else {
				bytes += int64(e.ref.Length)
				batches++
			}
		}
		if l.backlog.bytes != bytes || l.backlog.batches != batches {
			t.Fatalf("%+v, want %d bytes in %d batches", l.backlog, bytes, batches)
		}
		// The WAL bounds it by what is live, which is counted without rounding.
		if got := s.wal.Stats().ReclaimableBytes; got > reclaimable || got < reclaimable-8*int64(l.uploaded-l.localStart+1) {
			t.Fatalf("%d bytes could be given up, want %d", got, reclaimable)
		}
		l.mu.Unlock()
	}
}

// TestNothingIsUploadedBelowWhatProducersAreAsOf: a leader that began anew as a follower knows them, and
// which transactions are open, as of further than it is committed. Of before it could say nothing.
func TestNothingIsUploadedBelowWhatProducersAreAsOf(t *testing.T) {
	leader := lead(t, open(t, tiered(disk.NewMem(disk.MemOptions{}))), partition(topicA, 0), 1)
	appendAll(t, leader, from(t, 7, 0, 0, "0"))
	setUploaded(t, leader, 1)
	transact(t, leader, inTransaction(t, 8, 0, 0, "1"))
	appendMarker(t, leader, Marker{ProducerID: 8}) // 2: as of 1 it was open
	state, at, err := leader.ReplicaState()
	if err != nil || at != 1 {
		t.Fatalf("at %d, %v", at, err)
	}
	s := open(t, tiered(disk.NewMem(disk.MemOptions{})))
	l := following(t, s, leader.id, 1)
	if err := l.Restart(at, state, 1); err != nil {
		t.Fatal(err)
	}
	r, err := leader.Read(ReadRequest{Offset: at, MaxBytes: 64 << 10, Isolation: LogEnd})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Release()
	for _, b := range r.Batches {
		replicate(t, l, 1, b)
	}
	l.Resign()
	l.SetReplicas(Replicas{InSync: []int32{2}})
	if err := l.BecomeLeader(2); err != nil {
		t.Fatal(err)
	}
	flush(t, s)
	confirm(t, l, 2, 2)
	if got := s.PendingUpload(nil); len(got) != 0 {
		t.Errorf("to be uploaded is %+v", got)
	}
	if point, err := l.UploadPoint(true); err != nil || point.HighWatermark != point.From {
		t.Errorf("%+v, %v", point, err)
	}
	confirm(t, l, 2, 3)
	if point, err := l.UploadPoint(true); err != nil || point.From != 1 || point.HighWatermark != 3 {
		t.Errorf("%+v, %v", point, err)
	}
}
