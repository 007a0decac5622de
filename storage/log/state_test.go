package log

import (
	"bytes"
	"slices"
	"testing"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/disk"
)

// TestManyProducersSurviveInSeveralParts: more than one state frame holds.
func TestManyProducersSurviveInSeveralParts(t *testing.T) {
	o := small(disk.NewMem(disk.MemOptions{}))
	o.WAL.Capacity, o.WAL.SegmentSize, o.WAL.ChunkSize, o.WAL.Memory = 64<<20, 4<<20, 1<<20, 8<<20
	s := open(t, o)
	l := lead(t, s, partition(topicA, 0), 1)
	const n = 6000
	var last answer
	for id := range int64(n) {
		last = send(t, l, from(t, id, int16(id%3), int32(id), "x"), anyEpoch)
	}
	if r := last.wait(t); r.Err != nil {
		t.Fatal(r.Err)
	}
	want := l.Producers()
	if err := l.SetLogStart(n); err != nil {
		t.Fatal(err)
	}
	if len(l.stateRefs) < 2 {
		t.Fatalf("%d parts: the test shows nothing", len(l.stateRefs))
	}
	s = reopen(t, s)
	l, _ = s.Log(l.id)
	if got := l.Producers(); !slices.Equal(got, want) || len(got) != n {
		t.Fatalf("%d producers after the restart, want %d the same", len(got), n)
	}
	if got := s.Stats().Producers; got != n {
		t.Fatalf("%d are counted", got)
	}
}

func TestStateReadsBack(t *testing.T) {
	t.Run("state", func(t *testing.T) { stateReadsBack(t, goldenState(), "testdata/state.hex") })
	t.Run("ahead", func(t *testing.T) {
		got := stateReadsBack(t, goldenAhead(), "testdata/ahead.hex")
		if got.knows() != 120 || !slices.Equal(got.aborted, []span{{7, 2, 110}}) {
			t.Errorf("as of %d, aborted %v", got.knows(), got.aborted)
		}
	})
	t.Run("transactions", func(t *testing.T) {
		got := stateReadsBack(t, goldenTransactions(), "testdata/transactions.hex")
		// As of the high watermark: the marker above it is yet to come.
		for id, want := range map[int64]producer{
			7: {marks: []mark{{storage.NoOffset, storage.NoOffset, 1, 4}}, open: 95},
			9: {marks: nil, open: storage.NoOffset},
			5: {marks: []mark{{storage.NoOffset, storage.NoOffset, 3, 0}}, open: storage.NoOffset},
		} {
			if p := got.producers[id]; p == nil || !slices.Equal(p.marks, want.marks) || p.open != want.open {
				t.Errorf("producer %d was read back as %+v, want %+v", id, p, want)
			}
		}
		if !slices.Equal(got.aborted, []span{{7, 2, 60}, {9, 70, 80}}) || !slices.Equal(got.committed, []span{{5, 61, 71}}) {
			t.Errorf("read back aborted %v, committed %v", got.aborted, got.committed)
		}
	})
}

// TestTransactionsOfAStateInSeveralParts are read back as they were, and in no
// other order.
func TestTransactionsOfAStateInSeveralParts(t *testing.T) {
	s := goldenTransactions()
	s.highWatermark = 1000
	for i := range storage.Offset(40) {
		s.committed = append(s.committed, span{int64(i), 10 + i, 100 + i})
		s.producers[100+int64(i)] = &producer{open: 200 + i, marks: []mark{{storage.NoOffset, storage.NoOffset, int16(i), int32(i)}}}
	}
	parts := s.encode(300)
	if len(parts) < 10 {
		t.Fatalf("%d parts", len(parts))
	}
	var got state
	for i, part := range parts {
		if last, err := got.decode(part); err != nil || last != (i == len(parts)-1) || len(part) > 300 {
			t.Fatalf("part %d of %d: %d bytes, last %v, %v", i, len(parts), len(part), last, err)
		}
	}
	if !slices.Equal(got.aborted, s.aborted) || !slices.Equal(got.committed, s.committed) || len(got.producers) != len(s.producers) {
		t.Fatalf("read back %v, %v and %d producers", got.aborted, got.committed, len(got.producers))
	}
	for id, p := range got.producers {
		if want := s.producers[id]; p.open != want.open || p.epoch() != want.epoch() || len(p.sent) != len(want.sent) {
			t.Errorf("producer %d was read back as %+v, want %+v", id, p, want)
		}
	}
	var other state
	for _, i := range []int{0, 2, 1} {
		if _, err := other.decode(parts[i]); err != nil {
			return
		}
	}
	t.Error("transactions out of order were taken")
}

// goldenTransactions is the state in testdata/transactions.hex.
func goldenTransactions() *state {
	s := goldenState()
	s.producers[7].open = storage.NoOffset
	s.producers[7].marks = []mark{{60, 2, 1, 4}, {102, 95, 2, 4}}
	s.producers[5] = &producer{millis: 3, open: storage.NoOffset, marks: []mark{{71, 61, 3, 0}}}
	s.aborted, s.committed = []span{{7, 2, 60}, {9, 70, 80}}, []span{{5, 61, 71}}
	return s
}

// goldenAhead is the state in testdata/ahead.hex: as of 120, in a log that is committed to
// 100.
func goldenAhead() *state {
	s := goldenState()
	s.asOf, s.localStart = 120, 100
	s.producers[7].sent = slices.Concat(s.producers[7].sent[:2], []sentBatch{{last: 120, timestamp: 13, first: 11, epoch: 1}})
	delete(s.producers, 8)
	s.producers[8] = &producer{open: 121, millis: 1, sent: []sentBatch{{last: 121}}}
	s.aborted = []span{{7, 2, 110}}
	return s
}

func stateReadsBack(t *testing.T, s *state, golden string) state {
	t.Helper()
	parts := s.encode(maxStatePart)
	if want := readHex(t, golden); len(parts) != 1 || !bytes.Equal(parts[0], want) {
		t.Fatalf("encoded\n%x\nwant\n%x", parts[0], want)
	}
	var got state
	last, err := got.decode(parts[0])
	if err != nil || !last {
		t.Fatalf("last %v, %v", last, err)
	}
	if got.localStart != s.localStart || got.highWatermark != s.highWatermark || !slices.Equal(got.epochs, s.epochs) || len(got.producers) != len(s.producers)-1 {
		t.Fatalf("read back %+v", got)
	}
	// Of producer 7 the batch above the high watermark is left out.
	if p := got.producers[7]; p.millis != 1_700_000_000_000 || !slices.Equal(p.sent, s.producers[7].sent[:2]) {
		t.Fatalf("read back %+v", p)
	}
	for n := range parts[0] {
		if _, err := new(state).decode(parts[0][:n]); err == nil {
			t.Fatalf("cut at %d: no error", n)
		}
	}
	if _, err := new(state).decode(append(parts[0], 0)); err == nil {
		t.Fatal("a byte too many: no error")
	}
	return got
}

// goldenState is the state in testdata/state.hex.
func goldenState() *state {
	return &state{localStart: 3, highWatermark: 100, epochs: epochs{{2, 3}, {5, 50}}, producers: producers{
		7: {open: storage.NoOffset, millis: 1_700_000_000_000, sent: []sentBatch{
			{last: 90, timestamp: 11, first: 5, delta: 4, epoch: 1}, {last: 99, timestamp: 12, first: 10, delta: 0, epoch: 1},
			{last: 100, timestamp: 13, first: 11, delta: 0, epoch: 1}}},
		9: {open: storage.NoOffset, millis: -1, sent: []sentBatch{{last: 20, timestamp: -1, first: 1<<31 - 1, delta: 2, epoch: 32767}}},
		// Only above the high watermark: not in the state.
		8: {open: 101, millis: 1, sent: []sentBatch{{last: 101}}},
	}}
}

// FuzzState feeds any bytes to the decoder; what it takes, it writes the same.
func FuzzState(f *testing.F) {
	f.Add(goldenState().encode(maxStatePart)[0])
	f.Add(goldenTransactions().encode(maxStatePart)[0])
	f.Add(goldenAhead().encode(maxStatePart)[0])
	f.Add((&state{}).encode(maxStatePart)[0])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, in []byte) {
		var s state
		last, err := s.decode(in)
		if err != nil || !last {
			return
		}
		parts := s.encode(maxStatePart)
		var again state
		for _, part := range parts {
			if _, err := again.decode(part); err != nil {
				t.Fatalf("what was written is refused: %v", err)
			}
		}
		if again.localStart != s.localStart || again.highWatermark != s.highWatermark || again.knows() != s.knows() || !slices.Equal(again.epochs, s.epochs) || len(again.producers) != len(s.producers) {
			t.Fatalf("read %+v, and then %+v", s, again)
		}
		if !slices.Equal(again.aborted, s.aborted) || !slices.Equal(again.committed, s.committed) {
			t.Fatalf("read %+v, and then %+v", s, again)
		}
		for id, p := range s.producers {
			if q := again.producers[id]; q == nil || q.millis != p.millis || q.open != p.open || !slices.Equal(q.sent, p.sent) || !slices.Equal(q.marks, p.marks) {
				t.Fatalf("producer %d was %+v, and then %+v", id, p, q)
			}
		}
	})
}
