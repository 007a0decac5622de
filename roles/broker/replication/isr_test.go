package replication

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/test/seeded"
)

func testISR(committed ...int32) (*isr, time.Time) {
	s := &isr{limits: defaultLimits, self: 1, leaderEpoch: 1}
	now := time.Unix(1000, 0)
	s.set(now, 1, committed, []int32{1, 2, 3}, 2)
	return s, now
}

func TestAFollowerThatLagsLeavesAndReturns(t *testing.T) {
	s, now := testISR(1, 2, 3)
	s.confirm(now, 2, 20, 100, 100)
	s.confirm(now, 3, 30, 100, 100)
	now = now.Add(9 * time.Second)
	s.confirm(now, 2, 20, 200, 200)
	if p, ok := s.propose(now, 200, 200); ok {
		t.Fatalf("within the time that a lag may take: %+v", p)
	}
	now = now.Add(2 * time.Second)
	p, ok := s.propose(now, 200, 200)
	if !ok || !slices.Equal(p.isr, []int32{1, 2}) || !slices.Equal(p.epochs, []int64{0, 20}) || p.partitionEpoch != 1 {
		t.Fatalf("%+v, %v", p, ok)
	}
	if r := s.replicas(); !slices.Equal(r.InSync, []int32{2, 3}) || len(r.Pending) > 0 {
		t.Errorf("a shrink binds once committed: %+v", r)
	}
	if again, ok := s.propose(now, 200, 200); ok {
		t.Errorf("two in flight: %+v", again)
	}
	s.answer(p, accepted)
	if again, ok := s.propose(now, 200, 200); ok {
		t.Errorf("before the metadata says what became of it: %+v", again)
	}
	s.set(now, 2, []int32{1, 2}, []int32{1, 2, 3}, 2)
	if r := s.replicas(); !slices.Equal(r.InSync, []int32{2}) {
		t.Errorf("%+v", r)
	}
	s.confirm(now, 3, 30, 199, 300)
	if p, ok := s.propose(now, 300, 200); ok {
		t.Errorf("it lacks what is committed: %+v", p)
	}
	s.confirm(now, 3, 30, 300, 300)
	p, ok = s.propose(now, 300, 200)
	if !ok || !slices.Equal(p.isr, []int32{1, 2, 3}) {
		t.Fatalf("%+v, %v", p, ok)
	}
	if r := s.replicas(); !slices.Equal(r.Pending, []int32{3}) {
		t.Errorf("a growth is waited for: %+v", r)
	}
}

// A follower that stops, and holds the high watermark where it has come, leaves.
func TestAFollowerThatHoldsAllUpLeaves(t *testing.T) {
	s, now := testISR(1, 2, 3)
	s.confirm(now, 2, 20, 100, 100)
	s.confirm(now, 3, 30, 100, 100)
	now = now.Add(11 * time.Second)
	s.confirm(now, 2, 20, 101, 101)
	if p, ok := s.propose(now, 101, 100); !ok || !slices.Equal(p.isr, []int32{1, 2}) {
		t.Errorf("%+v, %v", p, ok)
	}
}

// Whoever has not shown the start of the leader's epoch is not let in.
func TestNobodyJoinsBeforeTheStartOfTheEpoch(t *testing.T) {
	s, now := testISR(1, 2)
	s.epochStart = 100
	s.confirm(now, 3, 30, 99, 99)
	if p, ok := s.propose(now, 150, 50); ok {
		t.Errorf("%+v", p)
	}
	s.confirm(now, 3, 30, 150, 150)
	if _, ok := s.propose(now, 150, 50); !ok {
		t.Error("it has all")
	}
}

// Until the log waits for who is to join, its high watermark may pass them: then they are
// not proposed, and not waited for.
func TestWhoWasPassedMeanwhileIsNotProposed(t *testing.T) {
	for hw, stands := range map[storage.Offset]bool{100: true, 101: false} {
		s, now := testISR(1, 2)
		s.confirm(now, 2, 20, 101, 101)
		s.confirm(now, 3, 30, 100, 101)
		p, ok := s.propose(now, 101, 100)
		if !ok || !slices.Equal(p.isr, []int32{1, 2, 3}) || !slices.Equal(s.replicas().Pending, []int32{3}) {
			t.Fatalf("%+v, %v; waited for are %+v", p, ok, s.replicas())
		}
		if got := s.stands(p, hw); got != stands {
			t.Errorf("where %d is committed, of which 3 has 100: %v", hw, got)
		}
		if waited := len(s.replicas().Pending) > 0; waited != stands {
			t.Errorf("waited for are %+v", s.replicas())
		}
	}
}

// What a stream confirmed is forgotten with it.
func TestConfirmationsEndWithTheStream(t *testing.T) {
	s, now := testISR(1, 2)
	s.confirm(now, 3, 30, 100, 100)
	s.forget(3)
	if p, ok := s.propose(now, 100, 100); ok {
		t.Errorf("%+v", p)
	}
}

// SlowFollowerLeaves: ten times as slow for three seconds, while enough remain, and back
// with hysteresis (RULES 3.3).
func TestSlowFollowerLeaves(t *testing.T) {
	s, now := testISR(1, 2, 3)
	took := map[int32]time.Duration{2: 5 * time.Millisecond, 3: 80 * time.Millisecond}
	for range 31 {
		s.confirm(now, 2, 20, 100, 100)
		s.confirm(now, 3, 30, 100, 100)
		s.pace(now, took)
		if p, ok := s.propose(now, 100, 100); ok && now.Sub(time.Unix(1000, 0)) < 3*time.Second {
			t.Fatalf("%+v", p)
		} else if ok {
			if !slices.Equal(p.isr, []int32{1, 2}) {
				t.Fatalf("%+v", p)
			}
			s.answer(p, accepted)
			s.set(now, 2, p.isr, []int32{1, 2, 3}, 2)
		}
		now = now.Add(100 * time.Millisecond)
		if took[3] < 100*time.Millisecond {
			took[3] += 10 * time.Millisecond
		}
	}
	if slices.Contains(s.committed, 3) {
		t.Fatal("it is still in sync")
	}
	took[3] = 5 * time.Millisecond
	for began := now; ; now = now.Add(100 * time.Millisecond) {
		s.confirm(now, 3, 30, 100, 100)
		s.pace(now, took)
		if p, ok := s.propose(now, 100, 100); ok {
			if waited := now.Sub(began); waited < s.returnsFor || !slices.Contains(p.isr, 3) {
				t.Errorf("%+v after %v", p, waited)
			}
			break
		}
		if now.Sub(began) > time.Minute {
			t.Fatal("it never returns")
		}
	}
	// Where the rest would not be enough, the slow one stays.
	s, now = testISR(1, 2)
	for range 100 {
		s.confirm(now, 2, 20, 100, 100)
		s.pace(now, map[int32]time.Duration{2: time.Second, 3: time.Millisecond})
		if p, ok := s.propose(now, 100, 100); ok {
			t.Fatalf("%+v", p)
		}
		now = now.Add(100 * time.Millisecond)
	}
}

// A new leader of a partition does not know who left before it led: a follower that it finds
// slow, and out of sync, has to be quick for as long before it joins.
func TestSlowFollowerOfANewLeaderStaysOut(t *testing.T) {
	s, now := testISR(1, 2)
	s.set(now, 2, []int32{1, 2}, []int32{1, 2, 3}, 2)
	took := map[int32]time.Duration{2: 5 * time.Millisecond, 3: 500 * time.Millisecond}
	step := func() (proposal, bool) {
		now = now.Add(100 * time.Millisecond)
		s.confirm(now, 2, 20, 100, 100)
		s.confirm(now, 3, 30, 100, 100)
		s.pace(now, took)
		return s.propose(now, 100, 100)
	}
	for range 40 {
		if p, ok := step(); ok {
			t.Fatalf("a slow one joins: %+v", p)
		}
	}
	took[2] = 200 * time.Millisecond // the others are not as quick as they were
	for range 20 {
		if p, ok := step(); ok {
			t.Fatalf("it is as slow as it was, and joins: %+v", p)
		}
	}
	took[2], took[3] = 5*time.Millisecond, 5*time.Millisecond
	for began := now; ; {
		if p, ok := step(); ok {
			if !slices.Equal(p.isr, []int32{1, 2, 3}) {
				t.Errorf("%+v", p)
			}
			break
		}
		if now.Sub(began) > time.Minute {
			t.Fatal("it never joins")
		}
	}
	// Where the others are not enough, a slow one is better than none.
	s, now = testISR(1, 2)
	s.set(now, 2, []int32{1, 2}, []int32{1, 2, 3}, 2)
	took = map[int32]time.Duration{2: 5 * time.Millisecond, 3: 500 * time.Millisecond}
	for range 40 {
		step()
	}
	s.set(now, 3, []int32{1}, []int32{1, 2, 3}, 2)
	s.forget(2)
	now = now.Add(100 * time.Millisecond)
	s.confirm(now, 3, 30, 100, 100)
	s.pace(now, map[int32]time.Duration{3: 500 * time.Millisecond})
	if p, ok := s.propose(now, 100, 100); !ok || !slices.Equal(p.isr, []int32{1, 3}) {
		t.Errorf("one of two is in sync, and who is slow stays out: %+v, %v", p, ok)
	}
}

// The log waits for everybody whom the controller may count as in sync, whatever answers
// are lost, late, or of a proposal asked for twice.
func TestTheLogWaitsForAllWhoMayBeCommitted(t *testing.T) {
	seed := seeded.Seed(t)
	r := rand.New(rand.NewPCG(seed, 0))
	for range 2000 {
		s, now := testISR(1, 2)
		epoch, committed := int32(1), []int32{1, 2} // the controller's
		end := storage.Offset(100)
		var flying *proposal
		for range 60 {
			now = now.Add(time.Duration(r.IntN(3000)) * time.Millisecond)
			switch r.IntN(6) {
			case 0:
				s.confirm(now, int32(2+r.IntN(2)), 20, end, end)
			case 1:
				s.forget(int32(2 + r.IntN(2)))
			case 2:
				s.set(now, epoch, committed, []int32{1, 2, 3}, 2)
			case 3, 4:
				if flying == nil {
					if p, ok := s.propose(now, end, end); ok {
						flying = &p
						break
					}
				}
				if flying == nil {
					break
				}
				o := outcome(refused)
				switch {
				case flying.partitionEpoch != epoch:
					o = stale
				case r.IntN(3) > 0:
					o = accepted
					if !sameSet(flying.isr, committed) {
						epoch, committed = epoch+1, flying.isr
					}
					if r.IntN(3) == 0 {
						o = stale // it was asked for twice
						if sameSet(flying.isr, s.committed) {
							o = accepted
						}
					}
				}
				if r.IntN(4) == 0 {
					o = unknown
				}
				s.answer(*flying, o)
				flying = nil
			}
			waited := s.replicas()
			for _, id := range committed {
				if id != 1 && !slices.Contains(waited.InSync, id) && !slices.Contains(waited.Pending, id) {
					t.Fatalf("the controller has %v in sync at partition epoch %d, the log waits for %+v", committed, epoch, waited)
				}
			}
		}
	}
}
