package log

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/disk"
	"rustmq.dev/rustmq/storage/wal"
)

// reopen closes the store in an orderly way and opens it again.
func reopen(t testing.TB, s *Store) *Store {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return open(t, s.o)
}

// kill opens what a store leaves that is killed, once all that was appended is on disk.
func kill(t testing.TB, s *Store) *Store {
	t.Helper()
	if err := s.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
	o := s.o
	o.FS = s.o.FS.(*disk.Mem).Clone()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return open(t, o)
}

func TestRestartIntoOldEpoch(t *testing.T) {
	s := open(t, small(disk.NewMem(disk.MemOptions{})))
	l := lead(t, s, partition(topicA, 0), 5)
	appendAll(t, l, values(t, "a"))
	wantErr(t, l.BecomeLeader(4), ErrFenced)
	if err := l.BecomeLeader(5); err != nil {
		t.Fatalf("leading again what is led: %v", err)
	}
	s = reopen(t, s)
	l, _ = s.Log(partition(topicA, 0))
	wantErr(t, l.BecomeLeader(5), ErrFenced) // it was another life's
	wantErr(t, send(t, l, values(t, "b"), anyEpoch).wait(t).Err, ErrNotLeader)
	if err := l.BecomeLeader(6); err != nil {
		t.Fatal(err)
	}
	appendAll(t, l, values(t, "b"))
	if got := contents(t, l, 0, HighWatermark); !slices.Equal(got, []string{"a", "b"}) {
		t.Fatalf("read %q", got)
	}
}

// TestAckedRecordSurvivesPowerCut: kept, in order, and its offset is not given
// to another.
func TestAckedRecordSurvivesPowerCut(t *testing.T) {
	rng := newRand(t)
	for round := range 40 {
		fs := disk.NewMem(disk.MemOptions{})
		o := small(fs)
		s := open(t, o)
		l := lead(t, s, partition(topicA, 0), 1)
		acked := map[storage.Offset]string{}
		for life := storage.Epoch(2); life < 7; life++ {
			type sent struct {
				text string
				answer
			}
			var all []sent
			for i := range rng.IntN(40) {
				text := fmt.Sprintf("%d/%d/%d %s", round, life, i, make([]byte, rng.IntN(3000)))
				a := send(t, l, values(t, text), anyEpoch)
				all = append(all, sent{text, a})
				if rng.IntN(5) == 0 {
					r := a.wait(t)
					a <- r
				}
			}
			// What is answered by now is promised.
			for _, x := range all {
				if !x.pending() {
					r := <-x.answer
					if r.Err != nil {
						t.Fatal(r.Err)
					}
					acked[r.Base] = x.text
				}
			}
			var left *disk.Mem
			if rng.IntN(4) == 0 {
				left = fs.Clone()
			} else {
				left = fs.Crash(rng)
			}
			_ = s.Close()
			fs = left
			o.FS = fs
			s = open(t, o)
			l = lead(t, s, partition(topicA, 0), life)
			got := contents(t, l, 0, HighWatermark)
			for offset, text := range acked {
				if int(offset) >= len(got) || got[offset] != text {
					t.Fatalf("round %d life %d: acked record %.20q at %d is gone or another; the log has %d", round, life, text, offset, len(got))
				}
			}
			// A consumer may have seen all of it: it is promised from here on.
			for offset, text := range got {
				acked[storage.Offset(offset)] = text
			}
		}
	}
}

// TestPageCacheServed: what a killed process wrote and did not sync is read
// after the restart, and so must survive the power cut that follows.
func TestPageCacheServed(t *testing.T) {
	rng := newRand(t)
	for range 30 {
		fs := disk.NewMem(disk.MemOptions{})
		o := small(fs)
		s := open(t, o)
		l := lead(t, s, partition(topicA, 0), 1)
		for i := range 20 {
			send(t, l, values(t, fmt.Sprint(i)), anyEpoch)
		}
		killed := fs.Clone()
		_ = s.Close()
		o.FS = killed
		s = open(t, o)
		before := contents(t, lead(t, s, partition(topicA, 0), 2), 0, HighWatermark)
		o.FS = killed.Crash(rng)
		_ = s.Close()
		s = open(t, o)
		l, ok := s.Log(partition(topicA, 0))
		if !ok {
			if len(before) > 0 {
				t.Fatal("the partition is gone")
			}
			continue
		}
		if after := contents(t, l, 0, LogEnd); !slices.Equal(after[:min(len(after), len(before))], before) {
			t.Fatalf("a consumer saw %q, after the power cut the log has %q", before, after)
		}
	}
}

// TestCopiesComeInAnyOrder: what was copied forward is replayed late, and the
// batches it copies may be gone, or not; a copy may have been copied again.
func TestCopiesComeInAnyOrder(t *testing.T) {
	_, l := damagedBy(t, func(add func(h wal.Header, payload []byte)) {
		s := state{highWatermark: 4, epochs: epochs{{1, 0}, {2, 3}}, producers: producers{7: {sent: []sentBatch{{last: 3, first: 3}}}}}
		frame := func(kind wal.Kind, copied bool, at storage.Offset, epoch storage.Epoch) {
			b := from(t, 7, 0, int32(at), fmt.Sprint(at))
			batch.Stamp(b, at, epoch)
			add(wal.Header{Kind: kind, Copy: copied, Epoch: epoch, Offset: at}, b)
		}
		frame(wal.KindData, false, 2, 1) // 0 and 1 were in a segment that is gone
		frame(wal.KindData, false, 3, 2)
		add(wal.Header{Kind: wal.KindState}, s.encode(maxStatePart)[0])
		frame(wal.KindData, true, 1, 1)
		frame(wal.KindData, true, 0, 1)
		frame(wal.KindData, false, 4, 2)
		frame(wal.KindData, true, 2, 1) // a copy whose batch is there
		frame(wal.KindData, true, 1, 1) // a copy of a copy
		frame(wal.KindData, false, 5, 3)
		frame(wal.KindData, true, 4, 2) // above the state's high watermark
	})
	if err := l.Err(); err != nil {
		t.Fatal(err)
	}
	if got := contents(t, l, 0, LogEnd); !slices.Equal(got, []string{"0", "1", "2", "3", "4", "5"}) {
		t.Fatalf("read %q", got)
	}
	if want := (epochs{{1, 0}, {2, 3}, {3, 5}}); !slices.Equal(l.epochs, want) {
		t.Fatalf("epochs %v, want %v", l.epochs, want)
	}
	if got := l.producers[7].sent; len(got) != 3 || got[1].last != 4 || got[2].last != 5 {
		t.Fatalf("the producer sent %+v", got)
	}
}

// TestTruncationIsReplayedInItsPlace: a truncation counts for what was appended before
// it, not for what came after, copies among them.
func TestTruncationIsReplayedInItsPlace(t *testing.T) {
	_, l := damagedBy(t, func(add func(h wal.Header, payload []byte)) {
		s := state{}
		frame := func(copied bool, at storage.Offset, epoch storage.Epoch, text string) {
			b := values(t, text)
			batch.Stamp(b, at, epoch)
			add(wal.Header{Kind: wal.KindData, Copy: copied, Epoch: epoch, Offset: at}, b)
		}
		add(wal.Header{Kind: wal.KindState}, s.encode(maxStatePart)[0])
		frame(false, 0, 1, "zero")
		frame(false, 1, 1, "lost")
		frame(false, 2, 1, "lost")
		frame(true, 1, 1, "lost")
		add(wal.Header{Kind: wal.KindTruncate, Epoch: 2, Offset: 1}, nil)
		frame(false, 1, 2, "one")
		frame(true, 0, 1, "zero")
	})
	if err := l.Err(); err != nil {
		t.Fatal(err)
	}
	if got := contents(t, l, 0, LogEnd); !slices.Equal(got, []string{"zero", "one"}) {
		t.Fatalf("read %q", got)
	}
	if want := (epochs{{1, 0}, {2, 1}}); !slices.Equal(l.epochs, want) {
		t.Fatalf("epochs %v, want %v", l.epochs, want)
	}
}

// TestTruncationTakesBackWhatIsNotCommitted, and what it took back of producers
// and epochs.
func TestTruncationTakesBackWhatIsNotCommitted(t *testing.T) {
	s := open(t, small(disk.NewMem(disk.MemOptions{})))
	l := lead(t, s, partition(topicA, 0), 1)
	appendAll(t, l, from(t, 7, 0, 0, "zero", "one"))
	wantOutOfRange(t, l.TruncateTo(1, 2)) // committed
	wantOutOfRange(t, l.TruncateTo(3, 2)) // beyond the end
	l.SetConfig(Config{MinInSync: 2})
	leaderOnly := AppendOptions{Epoch: storage.NoEpoch, LeaderOnly: true}
	send(t, l, from(t, 7, 0, 2, "two"), leaderOnly).wait(t)
	send(t, l, from(t, 7, 1, 0, "three", "four"), leaderOnly).wait(t)
	send(t, l, from(t, 8, 0, 0, "five"), leaderOnly).wait(t)
	again := send(t, l, from(t, 8, 0, 0, "five"), leaderOnly)
	if err := l.TruncateTo(4, 2); err != nil { // within a batch: it goes as a whole
		t.Fatal(err)
	}
	wantErr(t, again.wait(t).Err, ErrNotLeader)
	wantErr(t, send(t, l, values(t, "x"), leaderOnly).wait(t).Err, ErrNotLeader)
	check := func(l *Log) {
		t.Helper()
		if got := contents(t, l, 0, LogEnd); !slices.Equal(got, []string{"zero", "one", "two"}) {
			t.Fatalf("the log has %q", got)
		}
		if got := l.Producers(); len(got) != 1 || got[0].Epoch != 0 || got[0].LastSequence != 2 {
			t.Fatalf("producers %+v", got)
		}
	}
	check(l)
	if got := s.Stats().Producers; got != 1 {
		t.Fatalf("%d producers are counted", got)
	}
	s = reopen(t, s)
	l, _ = s.Log(partition(topicA, 0))
	check(l)
	if err := l.BecomeLeader(2); err != nil {
		t.Fatal(err)
	}
	appendAll(t, l, from(t, 7, 0, 3, "three"))
	if epoch, at := l.EpochEnd(1); epoch != 1 || at != 3 {
		t.Fatalf("epoch %d ended at %d", epoch, at)
	}
}

// TestTruncatedAppendInFlightDoesNotCount: the sync of a batch that was taken
// back must not move the high watermark over what came in its place.
func TestTruncatedAppendInFlightDoesNotCount(t *testing.T) {
	fs := hooked()
	l := lead(t, open(t, small(fs)), partition(topicA, 0), 1)
	appendAll(t, l, values(t, "zero"))
	let := fs.holdSyncs(t)
	kept := send(t, l, values(t, "one"), anyEpoch)
	lost := send(t, l, values(t, "two", "three", "four"), anyEpoch)
	if err := l.TruncateTo(2, 2); err != nil {
		t.Fatal(err)
	}
	if err := l.BecomeLeader(2); err != nil {
		t.Fatal(err)
	}
	w := newSignal()
	l.Watch(2, w)
	second := send(t, l, values(t, "TWO"), anyEpoch)
	let()
	if r := kept.wait(t); r.Err != nil || r.Base != 1 {
		t.Fatalf("what was spared was answered %+v", r)
	}
	wantErr(t, lost.wait(t).Err, ErrNotLeader)
	if r := second.wait(t); r.Err != nil || r.Base != 2 {
		t.Fatalf("what came in its place was answered %+v", r)
	}
	<-w.woken
	if l.HighWatermark() != 3 {
		t.Fatalf("the high watermark is %d", l.HighWatermark())
	}
}

// TestTrimFreesTheWAL appends many times what the WAL holds.
func TestTrimFreesTheWAL(t *testing.T) {
	s := open(t, small(disk.NewMem(disk.MemOptions{})))
	l, other := lead(t, s, partition(topicA, 0), 1), lead(t, s, partition(topicA, 1), 1)
	appendAll(t, other, from(t, 7, 0, 0, "stays"))
	filler := strings.Repeat("x", 15<<10)
	const total = 3 * 8 << 20
	for i := range int32(total / (16 << 10)) {
		b := from(t, 9, 0, i, filler)
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		err := s.Admit(ctx, len(b))
		cancel()
		if err != nil {
			t.Fatalf("after %d batches: %v; %+v", i, err, s.Stats())
		}
		a := make(answer, 1)
		l.Append(time.Now(), b, anyEpoch, a)
		if r := a.wait(t); r.Err != nil {
			t.Fatalf("after %d batches: %v", i, r.Err)
		}
		if i%8 == 7 {
			if err := l.SetLogStart(l.End() - 4); err != nil {
				t.Fatal(err)
			}
		}
	}
	if s.Stats().WAL.Recycled == 0 {
		t.Fatal("nothing was recycled: the test shows nothing")
	}
	end := l.End()
	s = reopen(t, s)
	l, _ = s.Log(partition(topicA, 0))
	other, _ = s.Log(partition(topicA, 1))
	if err := errors.Join(l.Err(), other.Err()); err != nil {
		t.Fatal(err)
	}
	if l.End() != end || l.LogStart() != end-4 {
		t.Fatalf("[%d, %d) after a restart, want [%d, %d)", l.LogStart(), l.End(), end-4, end)
	}
	if got := contents(t, other, 0, LogEnd); !slices.Equal(got, []string{"stays"}) {
		t.Fatalf("the other partition has %q", got)
	}
	if got := l.Producers(); len(got) != 1 || got[0].LastSequence != int32(end-1) {
		t.Fatalf("producers %+v", got)
	}
	_, err := l.Read(ReadRequest{Offset: end - 5})
	wantOutOfRange(t, err)
}

func TestTrimDoesNotLoseProducersAndEpochs(t *testing.T) {
	s := open(t, small(disk.NewMem(disk.MemOptions{})))
	l := lead(t, s, partition(topicA, 0), 1)
	appendAll(t, l, from(t, 7, 0, 0, "a"), from(t, 7, 0, 1, "b"))
	if err := l.BecomeLeader(2); err != nil {
		t.Fatal(err)
	}
	appendAll(t, l, from(t, 7, 0, 2, "c"))
	wantOutOfRange(t, l.SetLogStart(4))
	if err := l.SetLogStart(3); err != nil {
		t.Fatal(err)
	}
	if err := s.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
	// As recovery would find it once the segments are recycled: without the data.
	r := &replayed{}
	rec := newRecovery()
	rec.partitions[l.id] = r
	payloads, _, err := s.wal.Read(l.id, wal.KindState, l.stateRefs, nil)
	if err != nil {
		t.Fatal(err)
	}
	rec.replay(wal.Header{Kind: wal.KindState, Partition: l.id}, l.stateRefs[0], payloads[0])
	rec.replay(wal.Header{Kind: wal.KindTrim, Partition: l.id, Offset: 3}, wal.Ref{}, nil)
	found := s.newLog(l.id)
	if err := s.recoverLog(found, r, rec, time.Now()); err != nil {
		t.Fatal(err)
	}
	if got, want := found.Producers(), l.Producers(); !slices.Equal(got, want) || len(want) != 1 {
		t.Fatalf("producers %+v, want %+v", got, want)
	}
	if !slices.Equal(found.epochs, l.epochs) || found.logStart != 3 || found.end != 3 {
		t.Fatalf("[%d, %d) with epochs %v, want %v", found.logStart, found.end, found.epochs, l.epochs)
	}
}

func TestLogStartNeverMovesBack(t *testing.T) {
	s := open(t, small(disk.NewMem(disk.MemOptions{})))
	l := lead(t, s, partition(topicA, 0), 1)
	appendAll(t, l, values(t, "a", "b", "c"), values(t, "d"))
	for _, to := range []storage.Offset{2, 1, 0, 2} { // within a batch
		if err := l.SetLogStart(to); err != nil {
			t.Fatal(err)
		}
	}
	s = reopen(t, s)
	l, _ = s.Log(l.id)
	if l.LogStart() != 2 || l.End() != 4 {
		t.Fatalf("[%d, %d)", l.LogStart(), l.End())
	}
	if got := contents(t, l, 2, LogEnd); !slices.Equal(got, []string{"c", "d"}) {
		t.Fatalf("read %q", got)
	}
	_, err := l.Read(ReadRequest{Offset: 1})
	wantOutOfRange(t, err)
}

func TestDropRemovesATopicForGood(t *testing.T) {
	s := open(t, small(disk.NewMem(disk.MemOptions{})))
	other := storage.TopicID{0xb}
	live := s.Stats().WAL.LiveBytes
	for i := range int32(3) {
		appendAll(t, lead(t, s, partition(topicA, i), 1), from(t, 7, 0, 0, "a"))
	}
	if err := s.Drop(topicA); err != nil {
		t.Fatal(err)
	}
	if err := s.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
	if got := s.Stats(); got.WAL.LiveBytes != live || got.IndexBytes != 0 || got.Producers != 0 || got.Partitions != 0 {
		t.Fatalf("after the drop: %+v", got)
	}
	appendAll(t, lead(t, s, partition(other, 0), 1), values(t, "stays"))
	s = reopen(t, s)
	if got := s.Partitions(); len(got) != 1 || got[0] != partition(other, 0) {
		t.Fatalf("after the restart: %v", got)
	}
	if err := s.Drop(topicA); err != nil {
		t.Fatalf("dropping what is not there: %v", err)
	}
}

// TestRelocationCopiesWhatIsLive, and nothing that has changed since it looked.
func TestRelocationCopiesWhatIsLive(t *testing.T) {
	s := open(t, small(disk.NewMem(disk.MemOptions{})))
	l := lead(t, s, partition(topicA, 0), 1)
	appendAll(t, l, values(t, "zero"), values(t, "one"))
	r := &lease{}
	for _, e := range l.index.blocks[0].entries {
		r.wanted = append(r.wanted, wanted{storage.Offset(e.base), e.ref})
	}
	stale := r.wanted[1].ref
	stale.Offset += 8
	l.index.blocks[0].entries[1].ref = stale // moved since r looked
	was := r.wanted[0].ref
	frames := s.wal.Stats().Appends
	err := l.copyForward(context.Background(), r, 1000)
	frames = s.wal.Stats().Appends - frames
	appendAll(t, l, values(t, "two")) // the copy is on disk before it
	r.clear()
	if err != nil || l.index.blocks[0].entries[0].ref == was {
		t.Fatalf("nothing was copied: %v", err)
	}
	if frames != 1 || l.index.blocks[0].entries[1].ref != stale {
		t.Fatal("a batch was copied that is not where it was looked up")
	}
}

func TestSecondStoreIsToldWhoHasTheFirst(t *testing.T) {
	fs := disk.NewMem(disk.MemOptions{})
	open(t, small(fs))
	_, err := Open(context.Background(), small(fs))
	if !errors.As(err, new(*disk.LockedError)) {
		t.Fatalf("opened twice: %v", err)
	}
}

func TestClosedStoreTakesNothing(t *testing.T) {
	s := open(t, small(disk.NewMem(disk.MemOptions{})))
	l := lead(t, s, partition(topicA, 0), 1)
	appendAll(t, l, values(t, "a"))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	wantErr(t, s.Admit(context.Background(), 1), ErrClosed)
	a := make(answer, 1)
	l.Append(time.Now(), values(t, "b"), anyEpoch, a)
	wantErr(t, a.wait(t).Err, ErrClosed)
	_, err := l.Read(ReadRequest{})
	wantErr(t, err, ErrClosed)
	wantErr(t, l.SetLogStart(1), ErrClosed)
	if _, err := s.Create(partition(topicA, 1), Config{}); err == nil {
		t.Fatal("a log was made in a closed store")
	}
	if err := s.Drop(topicA); err == nil {
		t.Fatal("a topic was dropped in a closed store")
	}
}

// TestLogStartIsTakenBeforeTheLogIsLed: after a restart the high watermark is
// that of the last state, and the controller knows better.
func TestLogStartIsTakenBeforeTheLogIsLed(t *testing.T) {
	s := open(t, small(disk.NewMem(disk.MemOptions{})))
	appendAll(t, lead(t, s, partition(topicA, 0), 1), from(t, 7, 0, 0, "a"), from(t, 7, 0, 1, "b"), from(t, 7, 0, 2, "c"))
	for _, start := range []storage.Offset{2, 9} { // within, and beyond what this disk has
		s = kill(t, s)
		l, _ := s.Log(partition(topicA, 0))
		if err := l.SetLogStart(start); err != nil {
			t.Fatal(err)
		}
		s = kill(t, s)
		l, _ = s.Log(partition(topicA, 0))
		if err := l.Err(); err != nil {
			t.Fatal(err)
		}
		if end := max(3, start); l.LogStart() != start || l.End() != end || l.HighWatermark() != start {
			t.Fatalf("[%d, %d), high watermark %d", l.LogStart(), l.End(), l.HighWatermark())
		}
		// What they did beyond the end of this disk is not known.
		if got := l.Producers(); start <= 3 && (len(got) != 1 || got[0].LastSequence != 2) || start > 3 && len(got) != 0 {
			t.Fatalf("producers %+v", got)
		}
	}
	l := lead(t, s, partition(topicA, 0), 2)
	appendAll(t, l, from(t, 7, 0, 3, "d"))
	if got := contents(t, l, 9, HighWatermark); !slices.Equal(got, []string{"d"}) {
		t.Fatalf("read %q", got)
	}
	wantOutOfRange(t, l.SetLogStart(11))
}

// TestRecycleBeforeCancelled: batches are taken back, and others come in their
// place, while the WAL goes round several times. Whatever is recycled when, no
// batch that was taken back returns.
func TestRecycleBeforeCancelled(t *testing.T) {
	s := open(t, small(disk.NewMem(disk.MemOptions{})))
	l, churn := lead(t, s, partition(topicA, 0), 1), lead(t, s, partition(topicA, 1), 1)
	leaderOnly := AppendOptions{Epoch: storage.NoEpoch, LeaderOnly: true}
	filler := strings.Repeat("x", 15<<10)
	var want []string
	for epoch := storage.Epoch(2); epoch < 200; epoch++ {
		awaitRoom(t, s, 16<<10)
		kept := fmt.Sprintf("kept in %d", epoch)
		appendAll(t, l, values(t, kept))
		want = append(want, kept)
		l.SetConfig(Config{MinInSync: 2})
		for range 3 {
			if r := send(t, l, values(t, "taken back"), leaderOnly).wait(t); r.Err != nil {
				t.Fatal(r.Err)
			}
		}
		if err := l.TruncateTo(l.HighWatermark(), epoch); err != nil {
			t.Fatal(err)
		}
		l.SetConfig(Config{})
		if err := l.BecomeLeader(epoch); err != nil {
			t.Fatal(err)
		}
		for range 8 {
			awaitRoom(t, s, 16<<10)
			appendAll(t, churn, values(t, filler))
		}
		if err := churn.SetLogStart(churn.End()); err != nil {
			t.Fatal(err)
		}
		if epoch%50 == 0 {
			s = reopen(t, s)
			l, churn = lead(t, s, l.id, epoch+1), lead(t, s, churn.id, epoch+1)
			epoch++
		}
		if got := contents(t, l, 0, LogEnd); !slices.Equal(got, want) {
			t.Fatalf("epoch %d: the log has %q", epoch, got)
		}
	}
	if st := s.Stats().WAL; st.Recycled == 0 || st.Relocated == 0 {
		t.Fatalf("%d segments recycled, %d relocated: the test shows nothing", st.Recycled, st.Relocated)
	}
}
