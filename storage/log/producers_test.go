package log

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/disk"
	"rustmq.dev/rustmq/storage/wal"
)

func wantProducers(t testing.TB, s *Store, l *Log, want ...int64) {
	t.Helper()
	var got []int64
	for _, p := range l.Producers() {
		got = append(got, p.ID)
	}
	if len(got) != len(want) {
		t.Fatalf("producers %v are remembered, want %v", got, want)
	}
	for i := range got {
		if got[i] != want[i] {
			t.Fatalf("producers %v are remembered, want %v", got, want)
		}
	}
	if counted := s.Stats().Producers; counted != int64(len(want)) {
		t.Fatalf("%d producers are counted, %d remembered", counted, len(want))
	}
}

// TestRestartBringsBackNoMoreProducersThanWereRemembered: who had expired stays
// forgotten, though the WAL has what it sent, and leaves room for new ones.
func TestRestartBringsBackNoMoreProducersThanWereRemembered(t *testing.T) {
	now := sentAt
	o := small(disk.NewMem(disk.MemOptions{}))
	o.ProducerExpiry, o.MaxProducers = time.Hour, 3
	o.Now = func() time.Time { return now }
	s := open(t, o)
	l := lead(t, s, partition(topicA, 0), 1)
	appendAll(t, l, from(t, 1, 0, 0, "a"), from(t, 2, 0, 0, "a"), from(t, 3, 0, 0, "a"))
	now = now.Add(2 * time.Hour)
	s.expire(now.Add(-time.Hour).UnixMilli())
	b := from(t, 4, 0, 0, "b")
	if err := s.Admit(context.Background(), len(b)); err != nil {
		t.Fatal(err)
	}
	a := make(answer, 1)
	l.Append(now, b, anyEpoch, a)
	if r := a.wait(t); r.Err != nil {
		t.Fatal(r.Err)
	}
	now = now.Add(59 * time.Minute)
	s = reopen(t, s)
	l = lead(t, s, l.id, 2)
	wantProducers(t, s, l, 4)
	appendAll(t, l, from(t, 5, 0, 0, "c"))
	now = now.Add(2 * time.Minute) // it was heard of then, and not at the start
	s.expire(now.Add(-time.Hour).UnixMilli())
	if l.producers[4] != nil {
		t.Fatal("a producer is taken for heard of at the start")
	}
}

// TestStatesAreWrittenFromTimeToTime, so that a start after a crash finds who was
// remembered too.
func TestStatesAreWrittenFromTimeToTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := disk.NewMem(disk.MemOptions{})
		o := small(mem)
		o.Now = time.Now
		s := open(t, o)
		l := lead(t, s, partition(topicA, 0), 1)
		quiet := lead(t, s, partition(topicA, 1), 1)
		state := func(l *Log) storage.Offset {
			l.mu.Lock()
			defer l.mu.Unlock()
			return l.stateAsOf
		}
		heard := time.Now()
		put := func(sequence int32) {
			b := from(t, 7, 0, sequence, "a")
			if err := s.Admit(context.Background(), len(b)); err != nil {
				t.Fatal(err)
			}
			a := make(answer, 1)
			l.Append(time.Now(), b, anyEpoch, a)
			if r := <-a; r.Err != nil {
				t.Fatal(r.Err)
			}
		}
		put(0)
		appendAll(t, quiet, values(t, "of nobody"))
		time.Sleep(59 * time.Minute)
		if got := state(l); got != 0 {
			t.Fatalf("a state as of %d is written within the hour", got)
		}
		time.Sleep(3 * time.Minute)
		if state(l) != 1 || state(quiet) != 0 {
			t.Fatalf("after an hour there are states as of %d and, without producers, %d", state(l), state(quiet))
		}
		if err := s.Flush(context.Background()); err != nil {
			t.Fatal(err)
		}
		o.FS = mem.Clone()
		killed := open(t, o)
		again, _ := killed.Log(l.id)
		if p := again.producers[7]; p == nil || p.millis != heard.UnixMilli() {
			t.Fatalf("after a crash it is %+v, heard of at %d", p, heard.UnixMilli())
		}
		put(1)
		put(2)
		long := time.Now().Add(-time.Hour).UnixMilli()
		if err := s.restate(context.Background(), long, 3); err != nil || state(l) != 1 {
			t.Fatalf("with two batches behind it a state as of %d is written: %v", state(l), err)
		}
		if err := s.restate(context.Background(), long, 2); err != nil || state(l) != 3 {
			t.Fatalf("with enough behind it the state is of %d: %v", state(l), err)
		}
		for _, s := range []*Store{s, killed} {
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// TestStartForgetsTheSilentOfTooManyProducers: those heard of last stay, whichever log
// they write to, and who has a transaction open.
func TestStartForgetsTheSilentOfTooManyProducers(t *testing.T) {
	o := small(disk.NewMem(disk.MemOptions{}))
	o.MaxProducers = 100
	s := open(t, o)
	l, other := lead(t, s, partition(topicA, 0), 1), lead(t, s, partition(topicA, 1), 1)
	transact(t, l, inTransaction(t, 1, 0, 0, "open"))
	for id := range int64(20) {
		appendAll(t, l, from(t, 10+id, 0, 0, "a"))
		appendAll(t, other, from(t, 10+id, 0, 0, "a"))
	}
	appendAll(t, l, from(t, 11, 0, 1, "again"))
	s.o.MaxProducers = 6
	s = kill(t, s)
	l, _ = s.Log(l.id)
	other, _ = s.Log(other.id)
	if got := s.Stats().Producers; got != 6 {
		t.Fatalf("%d producers are counted", got)
	}
	for _, want := range []struct {
		log *Log
		ids []int64
	}{{l, []int64{1, 11, 28, 29}}, {other, []int64{28, 29}}} {
		got := want.log.Producers()
		for i := range max(len(got), len(want.ids)) {
			if len(got) != len(want.ids) || got[i].ID != want.ids[i] {
				t.Fatalf("%s remembers %+v, want %v", want.log.id, got, want.ids)
			}
		}
	}
	appendAll(t, lead(t, s, l.id, 2), from(t, 28, 0, 1, "b"))
}

// TestProducerTakesTheMemoryOfFiveBatches also after a start that found many.
func TestProducerTakesTheMemoryOfFiveBatches(t *testing.T) {
	s := open(t, small(disk.NewMem(disk.MemOptions{})))
	l := lead(t, s, partition(topicA, 0), 1)
	for i := range int32(500) {
		appendAll(t, l, from(t, 7, 0, i, "a"))
	}
	s = kill(t, s)
	l = lead(t, s, l.id, 2)
	if p := l.producers[7]; cap(p.sent) > roomyState*dedupeBatches {
		t.Fatalf("there is room for %d batches, of which %d are kept", cap(p.sent), len(p.sent))
	}
	for i := int32(495); i < 500; i++ {
		if r := send(t, l, from(t, 7, 0, i, "a"), anyEpoch).wait(t); r.Err != nil || r.Base != storage.Offset(i) {
			t.Fatalf("the duplicate at %d was answered %+v", i, r)
		}
	}
	for i := int32(500); i < 600; i++ {
		appendAll(t, l, from(t, 7, 0, i, "a"))
	}
	if p := l.producers[7]; cap(p.sent) > roomyState*dedupeBatches {
		t.Fatalf("there is room for %d batches, of which %d are kept", cap(p.sent), len(p.sent))
	}
}

// recovered recovers a log from the frames that are left of it: its newest state, and
// what else is given.
func recovered(t testing.TB, l *Log, rest func(rec *recovery)) *Log {
	t.Helper()
	s := l.store
	if err := s.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
	rec := newRecovery()
	rec.partitions[l.id] = &replayed{}
	payloads, _, err := s.wal.Read(l.id, wal.KindState, l.stateRefs, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i, payload := range payloads {
		rec.replay(wal.Header{Kind: wal.KindState, Partition: l.id}, l.stateRefs[i], payload)
	}
	rest(rec)
	found := s.newLog(l.id)
	if err := s.recoverLog(found, rec.partitions[l.id], rec, sentAt); err != nil {
		t.Fatal(err)
	}
	return found
}

// TestWhatIsNotCommittedIsNotSettled: of a producer of whom it is a batch, or a marker,
// however long ago it was heard of.
func TestWhatIsNotCommittedIsNotSettled(t *testing.T) {
	const end = 9
	ps := producers{}
	ps.add(1, sentBatch{last: end}, false, end, 100)
	ps.mark(2, mark{offset: end, first: storage.NoOffset, epoch: 3}, end, 100)
	if gone := ps.expire(200, end); gone != 0 {
		t.Errorf("%d are forgotten", gone)
	}
	if m := ps[2].committedMark(end); m != noMark {
		t.Errorf("%+v is taken for committed", m)
	}
	ps.get(1, 50) // by a clock that was set back
	if gone := ps.expire(80, end+1); gone != 0 {
		t.Errorf("%d are forgotten that were heard of since", gone)
	}
	if gone := ps.truncate(end); gone != 2 || len(ps) != 0 {
		t.Errorf("%d are gone with what they sent, %d are left", gone, len(ps))
	}
}

// TestBatchThatTheHighWatermarkLiesInIsNotForgotten where only its copy is left: the
// log start moved into it before the log was led.
func TestBatchThatTheHighWatermarkLiesInIsNotForgotten(t *testing.T) {
	s := open(t, small(disk.NewMem(disk.MemOptions{})))
	l := lead(t, s, partition(topicA, 0), 1)
	b := from(t, 7, 0, 0, "a", "b", "c")
	appendAll(t, l, b)
	s = kill(t, s)
	l, _ = s.Log(l.id)
	setLogStart(t, l, 1)
	if l.stateAsOf != 1 {
		t.Fatalf("the state is as of %d: the test shows nothing", l.stateAsOf)
	}
	found := recovered(t, l, func(rec *recovery) {
		rec.replay(wal.Header{Kind: wal.KindData, Copy: true, Partition: l.id, Epoch: 1, Offset: 0}, wal.Ref{}, b)
	})
	if got := found.Producers(); len(got) != 1 || got[0].LastSequence != 2 {
		t.Fatalf("remembered are %+v", got)
	}
}

// TestForgottenProducersTransactionDoesNotComeBack: a state says that it is open, for
// its marker was not committed when that was written, and lies before it.
func TestForgottenProducersTransactionDoesNotComeBack(t *testing.T) {
	fs := hooked()
	s := open(t, tiered(fs))
	l := lead(t, s, partition(topicA, 0), 1)
	transact(t, l, inTransaction(t, 7, 0, 0, "a"))
	let := fs.holdSyncs(t)
	marker := sendMarker(l, Marker{ProducerID: 7, Commit: true})
	l.mu.Lock()
	err := l.writeState(&release{log: l})
	l.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	let()
	if r := marker.wait(t); r.Err != nil {
		t.Fatal(r.Err)
	}
	s.expire(time.Now().Add(time.Hour).UnixMilli())
	wantProducers(t, s, l)
	giveUpTo(t, l, 2)
	found := recovered(t, l, func(rec *recovery) {
		rec.replay(wal.Header{Kind: wal.KindTrim, Partition: l.id, Offset: 2}, wal.Ref{}, nil)
	})
	if got := found.Producers(); len(got) != 0 || found.LastStable() != 2 {
		t.Fatalf("remembered are %+v, the last stable offset is %d", got, found.LastStable())
	}
}

// TestSkippedPartLeavesNobodyKnown: the bucket has more than this disk. What a producer
// sent there, and how its transaction ended, is not known here; what it sent before
// must not be taken for the last of it.
func TestSkippedPartLeavesNobodyKnown(t *testing.T) {
	for name, skip := range map[string]func(t testing.TB, l *Log){
		"to the committed end": func(t testing.TB, l *Log) { setUploaded(t, l, 100) },
		"to the log start":     func(t testing.TB, l *Log) { setLogStart(t, l, 100) },
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, tiered(disk.NewMem(disk.MemOptions{})))
			l := lead(t, s, partition(topicA, 0), 1)
			appendAll(t, l, from(t, 7, 0, 0, "a"))
			transact(t, l, inTransaction(t, 8, 0, 0, "b"))
			transact(t, l, inTransaction(t, 9, 0, 0, "c"))
			appendMarker(t, l, Marker{ProducerID: 9})
			s = kill(t, s)
			l, _ = s.Log(l.id)
			skip(t, l)
			check := func(when string) {
				t.Helper()
				wantProducers(t, s, l)
				if l.LastStable() != 100 || l.End() != 100 {
					t.Fatalf("%s: the last stable offset is %d, the end %d", when, l.LastStable(), l.End())
				}
			}
			check("at once")
			s = kill(t, s)
			l, _ = s.Log(l.id)
			check("after a restart")
			l = lead(t, s, l.id, 2)
			appendAll(t, l, from(t, 7, 0, 51, "100")) // 1 to 50 are in the bucket
			transact(t, l, inTransaction(t, 8, 0, 60, "101"))
			wantStable(t, l, 101)
			appendMarker(t, l, Marker{ProducerID: 8})
			outcome, err := l.Outcome(100, 103)
			if err != nil || len(outcome.Aborted) != 1 || outcome.Aborted[0] != (Aborted{8, 101, 102}) {
				t.Fatalf("aborted are %+v: %v", outcome.Aborted, err)
			}
			if got := s.indexBytes.Load(); got < 0 {
				t.Fatalf("%d bytes of index are counted", got)
			}
		})
	}
}

// TestProducersOfATopicLeaveRoom: who may write to one topic does not use up what is there for
// all, and what the logs of a topic forget is there for it again.
func TestProducersOfATopicLeaveRoom(t *testing.T) {
	o := small(disk.NewMem(disk.MemOptions{}))
	o.MaxProducers, o.MaxTopicProducers = 4, 2
	s := open(t, o)
	of := func(topic storage.TopicID, index int32) *Log { return lead(t, s, partition(topic, index), 1) }
	l, beside, other := of(topicA, 0), of(topicA, 1), of(storage.TopicID{9}, 0)
	full := func(what string) {
		t.Helper()
		wantErr(t, send(t, l, from(t, 3, 0, 0, "a"), anyEpoch).wait(t).Err, ErrTooManyProducers)
		if _, _, err := beside.BeginVerification(4, 0, 0); !errors.Is(err, ErrTooManyProducers) {
			t.Errorf("%s: a transaction of another: %v", what, err)
		}
	}
	appendAll(t, l, from(t, 1, 0, 0, "a"))
	appendAll(t, beside, from(t, 2, 0, 0, "a"))
	full("with two")
	appendAll(t, l, from(t, 1, 0, 1, "b"))
	appendAll(t, other, from(t, 3, 0, 0, "a"), from(t, 4, 0, 0, "a"))
	full("with two, after what failed")
	s.expire(time.Now().Add(time.Hour).UnixMilli())
	appendAll(t, l, from(t, 5, 0, 0, "a"), from(t, 6, 0, 0, "a"))
	full("with two others")
	if err := s.DropPartition(l.ID()); err != nil {
		t.Fatal(err)
	}
	appendAll(t, beside, from(t, 7, 0, 0, "a"), from(t, 8, 0, 0, "a"))
	wantErr(t, send(t, beside, from(t, 9, 0, 0, "a"), anyEpoch).wait(t).Err, ErrTooManyProducers)
	if got := s.Stats().Producers; got != 2 {
		t.Errorf("%d producers are counted", got)
	}
}
