package transport

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"
)

// life is a choice and its clock.
type life struct {
	choice
	now time.Time
}

func begin() *life { return &life{now: time.Unix(1_000_000, 0)} }

// ticks passes so many ticks in which the same is measured, and returns how often using has changed.
func (l *life) ticks(n int, s sample) (changes int) {
	for range n {
		l.now = l.now.Add(tick)
		if l.measured(l.now, s) {
			changes++
		}
	}
	return changes
}

func (l *life) wants(t *testing.T, using Mode, why string) {
	t.Helper()
	if l.using != using || l.why != why {
		t.Errorf("uses %v because %q; want %v, %q", l.using, l.why, using, why)
	}
}

func TestRoundTripDecides(t *testing.T) {
	for rtt, want := range map[time.Duration]Mode{
		100 * time.Microsecond: TCP, near: TCP, 4 * time.Millisecond: TCP, far: QUIC, 50 * time.Millisecond: QUIC,
	} {
		l := begin()
		if l.plan(l.now) != (plan{Auto, 0}) {
			t.Errorf("an unknown broker is dialled %+v", l.plan(l.now))
		}
		l.connected(l.now, rtt)
		if l.using != want || l.plan(l.now).first != want {
			t.Errorf("%v: %v", rtt, l.using)
		}
	}
}

// TestBetweenNearAndFarStaysWhatIs has the same round trip measured after a shorter and after a longer one.
func TestBetweenNearAndFarStaysWhatIs(t *testing.T) {
	for before, want := range map[time.Duration]Mode{time.Millisecond: TCP, 10 * time.Millisecond: QUIC} {
		l := begin()
		l.connected(l.now, before)
		l.ticks(100, sample{rtt: before})
		if changes := l.ticks(500, sample{rtt: 3 * time.Millisecond}); changes != 0 || l.using != want {
			t.Errorf("after %v: %v, %d changes", before, l.using, changes)
		}
	}
}

func TestAGuessIsCorrectedAtOnceAndADecisionLater(t *testing.T) {
	l := begin()
	l.raced(l.now, whySlow)
	l.wants(t, TCP, whySlow)
	if l.ticks(confirm-1, sample{rtt: 50 * time.Millisecond}) != 0 {
		t.Error("changed before it was confirmed")
	}
	if l.ticks(1, sample{rtt: 50 * time.Millisecond}) != 1 {
		t.Error("a guess was not corrected")
	}
	l.wants(t, QUIC, whyFar)
	l.samples = nil
	if n := l.ticks(int(dwell/tick)-1, sample{rtt: time.Millisecond}); n != 0 {
		t.Errorf("changed %d times within dwell", n)
	}
	if l.ticks(1, sample{rtt: time.Millisecond}) != 1 {
		t.Error("a decision was not corrected after dwell")
	}
	l.wants(t, TCP, whyNear)
}

func TestLossDecidesWhereTheWayIsLong(t *testing.T) {
	for _, c := range []struct {
		rtt  time.Duration
		lost uint64
		want Mode
	}{
		{3 * time.Millisecond, 1, QUIC}, {3 * time.Millisecond, 0, TCP},
		{100 * time.Microsecond, 5, TCP}, // a full socket
	} {
		l := begin()
		l.connected(l.now, c.rtt)
		l.ticks(100, sample{rtt: c.rtt, sent: 100, lost: c.lost})
		if l.using != c.want {
			t.Errorf("%+v: %v", c, l.using)
		}
	}
	l := begin()
	l.connected(l.now, 3*time.Millisecond)
	l.ticks(100, sample{rtt: 3 * time.Millisecond, sent: 1, lost: 1})
	l.wants(t, TCP, whyNear) // too few packets to say
}

func TestAMovedMachineUsesQUICWhereItGetsThrough(t *testing.T) {
	l := begin()
	l.connected(l.now, time.Millisecond)
	l.ticks(100, sample{rtt: time.Millisecond})
	l.moved(l.now)
	if !l.probe(l.now) {
		t.Error("the new way is not measured")
	}
	if l.ticks(confirm, sample{rtt: time.Millisecond}) != 1 {
		t.Error("a moved machine stays with TCP")
	}
	l.wants(t, QUIC, whyMoved)
	l.ticks(int(movedFor/tick)+int(dwell/tick), sample{rtt: time.Millisecond})
	l.wants(t, TCP, whyNear)

	l = begin()
	l.raced(l.now, whySlow)
	l.moved(l.now)
	l.ticks(100, sample{})
	l.wants(t, TCP, whySlow) // QUIC was never seen to get through
}

// TestBlockedUDPIsTriedAgainAfterLongerAndLongerPauses also holds that one success after that brings QUIC
// back at once.
func TestBlockedUDPIsTriedAgainAfterLongerAndLongerPauses(t *testing.T) {
	l := begin()
	pause := blockedFirst
	for range 10 {
		l.failed(l.now)
		l.failed(l.now) // by another connection
		l.wants(t, TCP, whyBlocked)
		if l.plan(l.now) != (plan{TCP, -1}) {
			t.Errorf("blocked, and dialled %+v", l.plan(l.now))
		}
		l.now = l.now.Add(pause - 1)
		if l.probe(l.now) {
			t.Fatalf("tried again before %v", pause)
		}
		if l.now = l.now.Add(1); !l.probe(l.now) {
			t.Fatalf("not tried again after %v", pause)
		}
		pause = min(2*pause, blockedMost)
	}
	l.connected(l.now, 50*time.Millisecond)
	l.wants(t, QUIC, whyFar)
	l.now = l.now.Add(proven)
	l.failed(l.now)
	if l.pause != blockedFirst {
		t.Errorf("after QUIC has worked for long the pause is %v", l.pause)
	}
}

func TestTheWayIsMeasuredMoreAndMoreSeldom(t *testing.T) {
	l := begin()
	l.connected(l.now, time.Millisecond)
	probes := 0
	for end := l.now.Add(24 * time.Hour); l.now.Before(end); l.now = l.now.Add(tick) {
		if l.probe(l.now) {
			probes++
		}
	}
	if probes < 90 || probes > 110 {
		t.Errorf("%d probes in a day", probes)
	}
	l.worse(l.now)
	if l.now = l.now.Add(probeFirst); !l.probe(l.now) {
		t.Error("what has become worse is not measured")
	}
}

// TestNoFlapping meets ways that change at random: QUIC is never used while it is blocked, and between two
// changes of mind lies dwell.
func TestNoFlapping(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if given, err := strconv.ParseUint(os.Getenv("TEST_SEED"), 10, 64); err == nil {
		seed = given
	}
	t.Logf("TEST_SEED=%d", seed)
	dice := rand.New(rand.NewPCG(seed, 0))
	l := begin()
	l.raced(l.now, whySlow)
	var last time.Time
	s := sample{}
	for range 100_000 {
		if dice.IntN(7) == 0 {
			s = sample{rtt: time.Duration(dice.IntN(12)) * time.Millisecond, sent: uint64(dice.IntN(200))}
			s.lost = uint64(dice.IntN(int(s.sent/50) + 1))
		}
		switch dice.IntN(3000) {
		case 0:
			l.failed(l.now)
			last = time.Time{}
		case 1:
			l.moved(l.now)
		case 2:
			if !l.blocked(l.now) {
				l.connected(l.now, s.rtt)
			}
		}
		guessed := l.guessed
		if l.ticks(1, s) == 1 {
			if !guessed && !last.IsZero() && l.now.Sub(last) < dwell {
				t.Fatalf("changed to %v after %v", l.using, l.now.Sub(last))
			}
			last = l.now
		}
		if l.blocked(l.now) && l.using == QUIC {
			t.Fatal("QUIC is used while it is blocked")
		}
	}
}
