package rustmq

import (
	"math/rand/v2"
	"testing"
)

// TestNothingIsCommittedBeforeAllBeforeItIsDone hands records out, and has them done in any order, beside
// a count by hand.
func TestNothingIsCommittedBeforeAllBeforeItIsDone(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		p := newProgress()
		n := 1 + r.IntN(50)
		places := make([]int64, n)
		var s *span
		for i := range n {
			// Offsets have holes: compaction, and markers of transactions.
			s, places[i] = p.add(&Record{Topic: "t", Offset: int64(i * 3), LeaderEpoch: 7})
		}
		done := make([]bool, n)
		for _, i := range r.Perm(n) {
			s.done(places[i], 1)
			done[i] = true
			first := 0
			for first < n && done[first] {
				first++
			}
			at, moved := p.take()["t"][0]
			if moved && (first == 0 || at.Offset != int64((first-1)*3+1)) {
				t.Fatalf("committed %+v where the first %d are done", at, first)
			}
			if !moved && done[0] && i == first-1 {
				t.Fatalf("nothing to commit though the first %d are done now", first)
			}
			if back := s.first; back != int64(first) {
				t.Fatalf("%d records are given up where %d are done", back, first)
			}
		}
		if !s.isEnded() && len(p.rewound()) != 0 {
			t.Fatal("something is read again though all is done")
		}
	}
}

func TestWhatIsRevokedCountsUntilHandlersAreIdle(t *testing.T) {
	p := newProgress()
	s, first := p.add(&Record{Topic: "t", Offset: 5})
	_, second := p.add(&Record{Topic: "t", Offset: 6})
	if !s.begin() {
		t.Fatal("a span that is open was refused")
	}
	closed := p.close(map[string][]int32{"t": {0}, "other": {3}}, false)
	if len(closed) != 1 || s.begin() {
		t.Fatalf("%d spans were closed, or another handler begun", len(closed))
	}
	select {
	case <-s.idle:
		t.Fatal("idle while a handler is at work")
	default:
	}
	if !s.mayCommit() {
		t.Error("a handler at work may not commit what it has done")
	}
	s.done(first, 1)
	s.end()
	<-s.idle
	if at := p.final(closed)["t"][0].Offset; at != 6 {
		t.Errorf("committed %d", at)
	}
	if s.mayCommit() {
		t.Error("what is given up may be committed")
	}
	s.done(second, 1)
	if len(p.take()) != 0 {
		t.Error("what others have is committed")
	}
	// The partition comes back: a span of its own.
	again, _ := p.add(&Record{Topic: "t", Offset: 6})
	if again == s || !again.begin() {
		t.Error("the old span goes on")
	}
}

func TestSeekForgetsWhatIsAtWork(t *testing.T) {
	p := newProgress()
	s, place := p.add(&Record{Topic: "t", Offset: 5})
	s.begin()
	p.close(map[string][]int32{"t": {0}}, true)
	s.done(place, 1)
	if s.mayCommit() || len(p.take()) != 0 {
		t.Error("a position before the seek may be committed")
	}
	s.end()
	<-s.idle
}

func TestWhatCouldNotBeCommittedIsTakenAgain(t *testing.T) {
	p := newProgress()
	s, place := p.add(&Record{Topic: "t", Offset: 5})
	s.done(place, 1)
	taken := p.take()
	if len(p.take()) != 0 {
		t.Error("taken twice")
	}
	p.restore(taken)
	if at := p.take()["t"][0].Offset; at != 6 {
		t.Errorf("taken %d", at)
	}
}

// TestPlacesAreDoneByRanges has some records handed out at once, and done at once, in stretches of any
// length and order, while others are handed out.
func TestPlacesAreDoneByRanges(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	p := newProgress()
	var done []bool
	var offsets []int64 // with holes now and then, in and between what is handed out at once
	var s *span
	next, epoch := int64(0), int32(0)
	for range 2000 {
		records := make([]*Record, 1+r.IntN(8))
		for i := range records {
			if r.IntN(20) == 0 {
				next, epoch = next+1+r.Int64N(5), epoch+r.Int32N(2)
			}
			records[i] = &Record{Topic: "t", Offset: next, LeaderEpoch: epoch}
			offsets = append(offsets, next)
			next++
		}
		var place int64
		if s, place = p.add(records...); place != int64(len(done)) {
			t.Fatalf("the place is %d after %d records", place, len(done))
		}
		done = append(done, make([]bool, len(records))...)
		for range r.IntN(4) {
			// One that begins before what is at work, as a retry's, or that takes all.
			from := max(0, int(s.first)-r.IntN(3))
			n := r.IntN(len(done) - from + 1)
			s.done(int64(from), int64(n))
			for i := range n {
				done[from+i] = true
			}
			first := 0
			for first < len(done) && done[first] {
				first++
			}
			if s.first != int64(first) {
				t.Fatalf("%d records are given up where %d are done", s.first, first)
			}
			if at, moved := p.take()["t"][0]; moved && at.Offset != offsets[first-1]+1 {
				t.Fatalf("committed %+v where the first %d are done", at, first)
			}
		}
	}
	if back := p.rewound()["t"][0].Offset; len(done) > int(s.first) && back != offsets[s.first] {
		t.Errorf("read again from %d, and the first that is not done is %d", back, offsets[s.first])
	}
}
