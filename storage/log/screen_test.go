package log

import (
	"slices"
	"testing"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/disk"
)

// sift takes the records of those values out of a batch, as a transform does.
func sift(t testing.TB, b batch.Batch, gone ...string) batch.Batch {
	t.Helper()
	var w batch.Rewriter
	w.Reset(b)
	it := b.Records(0)
	for it.Next() {
		if !slices.Contains(gone, string(it.Record().Value)) {
			w.Keep(it.Raw(), it.Record().Timestamp)
		}
	}
	out, err := w.Build(b.Codec(), 0)
	if err != nil || it.Err() != nil {
		t.Fatal(err, it.Err())
	}
	return out
}

func screen(t testing.TB, l *Log, b batch.Batch, follows bool) (Screened, answer, error) {
	t.Helper()
	a := make(answer, 1)
	s, err := l.Screen(t.Context(), sentAt, b, anyEpoch, follows, a)
	return s, a, err
}

// TestScreenSaysWhatAppendWould, and appends nothing: of a batch that is there, and its
// answer waits for the high watermark; of one that is not due; of what is wrong with it.
func TestScreenSaysWhatAppendWould(t *testing.T) {
	l := leadWith(t, open(t, small(disk.NewMem(disk.MemOptions{}))), 1, 2)
	if s, a, err := screen(t, l, from(t, 7, 0, 0, "a", "b"), false); err != nil || s.Answered || !a.pending() {
		t.Fatalf("a new batch: %+v, %v", s, err)
	}
	first := send(t, l, sift(t, from(t, 7, 0, 0, "a", "b"), "a"), AppendOptions{Epoch: 1, Transformed: true})
	flush(t, l.store)
	s, again, err := screen(t, l, from(t, 7, 0, 0, "a", "b"), false)
	if err != nil || !s.Answered || !again.pending() {
		t.Fatalf("a duplicate of what is not committed: %+v, %v", s, err)
	}
	confirm(t, l, 2, 2)
	if a, b := first.wait(t), again.wait(t); a.Err != nil || b.Err != nil || b.Base != 0 || b.Last != 1 || !b.Duplicate {
		t.Fatalf("answered %+v and %+v", a, b)
	}
	if s, a, err := screen(t, l, from(t, 7, 0, 0, "a", "b"), false); err != nil || !s.Answered || a.wait(t).Base != 0 {
		t.Fatalf("a duplicate of what is committed: %+v, %v", s, err)
	}
	_, _, err = screen(t, l, from(t, 7, 0, 4, "c"), false)
	wantErr(t, err, ErrOutOfOrderSequence)
	if s, _, err := screen(t, l, from(t, 7, 0, 4, "c"), true); err != nil || s.Answered {
		t.Fatalf("one that follows another: %+v, %v", s, err)
	}
	broken := values(t, "a")
	broken[len(broken)-1] ^= 1
	_, _, err = screen(t, l, broken, false)
	wantCode(t, err, batch.CorruptMessage)
	_, _, err = screen(t, l, sift(t, values(t, "a", "b"), "a"), false)
	wantCode(t, err, batch.InvalidRecord) // no producer may send holes
	if l.End() != 2 {
		t.Fatalf("the log ends at %d", l.End())
	}
}

// TestScreenLeavesConditionsOfTransactionsToAppend: what a transaction has sent before may wait
// for its coordinator's word, and not be in the log yet. Of any other batch it asks now.
func TestScreenLeavesConditionsOfTransactionsToAppend(t *testing.T) {
	s := open(t, small(disk.NewMem(disk.MemOptions{})))
	id := partition(storage.TopicID{1}, 0)
	l, err := s.Create(id, Config{ExpectOffset: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.BecomeLeader(1); err != nil {
		t.Fatal(err)
	}
	producer := &batch.Producer{ID: 7}
	first := expecting(t, batch.BuilderOptions{Transactional: true, Producer: producer}, "0")
	second := expecting(t, batch.BuilderOptions{Transactional: true, Producer: &batch.Producer{ID: 7, BaseSequence: 1}}, "1")
	late := expecting(t, batch.BuilderOptions{Transactional: true, Producer: &batch.Producer{ID: 7, BaseSequence: 2}}, "1")
	of := verify(t, l, first)
	for _, b := range []batch.Batch{first, second, late} {
		if screened, a, err := screen(t, l, b, false); err != nil || screened.Answered || !a.pending() {
			t.Fatalf("%+v, %v", screened, err)
		}
	}
	for _, b := range []batch.Batch{first, second} {
		a := sendScreened(t, l, b, of)
		if r := a.wait(t); r.Err != nil {
			t.Fatalf("what followed on what it expected: %v", r.Err)
		}
	}
	wantUnexpected(t, sendScreened(t, l, late, of).wait(t).Err, UnexpectedEndError{Expected: 1, End: 2})
	_, _, err = screen(t, l, expecting(t, batch.BuilderOptions{}, "1"), false)
	wantUnexpected(t, err, UnexpectedEndError{Expected: 1, End: 2})
}

// sendScreened appends a batch of a transaction, with the condition that is read of it.
func sendScreened(t testing.TB, l *Log, b batch.Batch, of Guard) answer {
	t.Helper()
	condition, err := conditionOf(b)
	if err != nil {
		t.Fatal(err)
	}
	return send(t, l, b, AppendOptions{Epoch: 1, Guard: of, Condition: condition})
}

// TestReplicasTakeWhatTransformsLeave: batches with holes, and without a record, are
// followed, recovered and found by time like others, and their producers go on behind them,
// with whoever leads then.
func TestReplicasTakeWhatTransformsLeave(t *testing.T) {
	followers := open(t, small(disk.NewMem(disk.MemOptions{})))
	follower := following(t, followers, partition(topicA, 0), 1)
	leader := leadWith(t, open(t, small(disk.NewMem(disk.MemOptions{}))), 1, 2)
	var answers []answer
	for i, gone := range [][]string{{"b"}, {"a", "b", "c"}, nil, {"a", "c"}} {
		b := from(t, 7, 0, int32(3*i), "a", "b", "c")
		if gone != nil {
			b = sift(t, b, gone...)
		}
		answers = append(answers, send(t, leader, b, AppendOptions{Epoch: 1, Transformed: gone != nil}))
	}
	flush(t, leader.store)
	ship(t, leader, follower)
	for i, a := range answers {
		if r := a.wait(t); r.Err != nil || r.Base != storage.Offset(3*i) || r.Last != r.Base+2 {
			t.Fatalf("batch %d: %+v", i, r)
		}
	}
	want := []string{"a", "c", "a", "b", "c", "b"}
	for range 2 {
		if got := contents(t, follower, 0, HighWatermark); !slices.Equal(got, want) || follower.End() != 12 {
			t.Fatalf("the follower has %q, and ends at %d", got, follower.End())
		}
		if offset, _, ok, err := follower.OffsetForTime(1_700_000_000_001); err != nil || !ok || offset != 2 {
			t.Fatalf("by time: %d, %v, %v", offset, ok, err)
		}
		followers = reopen(t, followers)
		follower, _ = followers.Log(partition(topicA, 0))
		if err := follower.BecomeLeader(2); err != nil {
			t.Fatal(err)
		}
	}
	if r := send(t, follower, from(t, 7, 0, 3, "a", "b", "c"), anyEpoch).wait(t); r.Err != nil || !r.Duplicate || r.Base != 3 {
		t.Fatalf("the batch of which nothing was left comes again: %+v", r)
	}
	if r := send(t, follower, from(t, 7, 0, 12, "d"), anyEpoch).wait(t); r.Err != nil || r.Base != 12 {
		t.Fatalf("the next: %+v", r)
	}
}
