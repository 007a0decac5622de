package controller

import (
	"fmt"
	"testing"
	"time"
)

func TestSilentBrokersAreFenced(t *testing.T) {
	const session = 8 * time.Second
	now := time.Unix(0, 0)
	s := newSessions(session, 4*time.Second)
	judge := func(after time.Duration, want string, inService map[int32]int64) {
		t.Helper()
		for end := now.Add(after); now.Before(end); {
			now = now.Add(time.Second)
			got := fmt.Sprint(s.judge(now, inService))
			if now.Before(end) && got != "[]" {
				t.Fatalf("at %s: fenced %s too early", now, got)
			}
			if !now.Before(end) && got != want {
				t.Fatalf("at %s: fenced %s, want %s", now, got, want)
			}
		}
	}
	both := map[int32]int64{1: 10, 2: 11}
	judge(time.Second, "[]", both) // the first look: whoever it has not heard of begins
	judge(6*time.Second, "[]", both)
	s.hear(now, 1, 10)
	judge(2*time.Second, "[{2 11 false}]", both)
	judge(time.Second, "[]", map[int32]int64{1: 10, 2: 20}) // back under another epoch
	s.hear(now, 2, 20)
	// The controller itself sleeps: nobody is fenced for that.
	now = now.Add(time.Hour)
	judge(time.Second, "[]", map[int32]int64{1: 10, 2: 20})
	s.hear(now, 2, 20)
	judge(7*time.Second, "[]", map[int32]int64{1: 10, 2: 20})
	s.hear(now, 2, 20)
	judge(time.Second, "[{1 10 false}]", map[int32]int64{1: 10, 2: 20})
	// A heartbeat of an older registration counts for nothing.
	s.hear(now, 2, 19)
	judge(time.Second, "[]", map[int32]int64{2: 20})
	if len(s.heard) != 1 {
		t.Fatalf("remembers %v", s.heard)
	}
}

// heardBy is a controller that hears brokers 1 to 3, by name of what happens each second.
type heardBy struct {
	*sessions
	t         *testing.T
	now       time.Time
	inService map[int32]int64
}

func newHeardBy(t *testing.T) *heardBy {
	h := &heardBy{newSessions(10*time.Second, 4*time.Second), t, time.Unix(0, 0), map[int32]int64{1: 10, 2: 20, 3: 30}}
	h.follow(2, 1, 2, 3) // before the first look it was asleep, as it were
	return h
}

func (h *heardBy) pass(brokers []int32) {
	h.now = h.now.Add(time.Second)
	for _, b := range brokers {
		h.hear(h.now, b, h.inService[b])
	}
}

// follow passes seconds in which another leads, and these brokers are heard here.
func (h *heardBy) follow(seconds int, brokers ...int32) {
	for range seconds {
		h.pass(brokers)
		h.look(h.now, h.inService)
	}
}

// lead passes as many seconds as it takes until one is to be fenced; it is to be so many,
// and those. None within a minute is 0 seconds.
func (h *heardBy) lead(what string, seconds int, fenced string, brokers ...int32) {
	h.t.Helper()
	for n := 1; n <= 60; n++ {
		h.pass(brokers)
		if got := h.judge(h.now, h.inService); len(got) > 0 {
			if n != seconds || fmt.Sprint(got) != fenced {
				h.t.Errorf("%s: after %d s %v are fenced, want %s after %d", what, n, got, fenced, seconds)
			}
			return
		}
	}
	if seconds != 0 {
		h.t.Errorf("%s: nobody is fenced, want %s after %d s", what, fenced, seconds)
	}
}

// TestNewLeaderJudgesByWhatItHeard holds that sessions do not begin anew at another leader,
// and that one that was cut off or paused fences nobody for that.
func TestNewLeaderJudgesByWhatItHeard(t *testing.T) {
	h := newHeardBy(t)
	h.follow(5, 1, 3)
	h.begin(h.now)
	h.lead("broker 2 died before the leader did", 5, "[{2 20 false}]", 1, 3)

	h = newHeardBy(t)
	h.follow(9, 1, 3)
	h.begin(h.now)
	h.lead("it died long before", 4, "[{2 20 false}]", 1, 3)

	h = newHeardBy(t)
	h.follow(11, 1, 3)
	h.begin(h.now)
	h.lead("the election took longer than its session", 4, "[{2 20 false}]", 1, 3)

	h = newHeardBy(t)
	h.follow(11, 1)
	h.begin(h.now)
	h.lead("this controller heard one of three, its own", 10, "[{2 20 false} {3 30 false}]", 1)

	h = newHeardBy(t)
	h.follow(9)
	h.begin(h.now)
	h.lead("this controller was cut off, and heard nobody", 0, "", 1, 2, 3)

	h = newHeardBy(t)
	h.follow(11)
	h.begin(h.now)
	h.lead("it was so for a session, and one is dead", 10, "[{2 20 false}]", 1, 3)

	h = newHeardBy(t)
	h.inService[4] = 40 // which never was heard here
	h.follow(8, 1, 2, 3)
	h.begin(h.now)
	h.lead("a broker that tells this controller nothing", 10, "[{4 40 false}]", 1, 2, 3)

	h = newHeardBy(t)
	h.now = h.now.Add(9 * time.Second) // asleep
	h.begin(h.now)
	h.lead("this controller slept", 11, "[{2 20 false}]", 1, 3)
}

// TestBrokerWhoseLineBrokeIsFencedEarly holds that a broken line ends a session early if
// no other comes, unless that may be this controller's own doing.
func TestBrokerWhoseLineBrokeIsFencedEarly(t *testing.T) {
	h := newHeardBy(t)
	h.broke(h.now, 2, 20)
	h.lead("it died", 4, "[{2 20 true}]", 1, 3)
	h.lead("while it is not fenced yet", 1, "[{2 20 true}]", 1, 3)

	// It lives after all: it comes back under the same epoch.
	h.follow(5, 1, 2, 3)
	h.broke(h.now, 2, 20)
	h.lead("a line that flaps", 0, "", 1, 2, 3)
	h.broke(h.now, 2, 20)
	h.lead("once a minute at most", 4, "[{2 20 true}]", 1, 3)
	h.follow(5, 1, 2, 3)
	h.broke(h.now, 2, 20)
	h.lead("until then silence counts", 10, "[{2 20 false}]", 1, 3)
	h.inService[2] = 21
	h.follow(1, 1, 2, 3)
	h.broke(h.now, 2, 20)
	h.lead("the line of an older process", 0, "", 1, 2, 3)
	h.broke(h.now, 2, 21)
	h.lead("another process is trusted anew", 4, "[{2 21 true}]", 1, 3)

	h = newHeardBy(t)
	h.broke(h.now, 2, 20)
	h.follow(1, 1, 3)
	h.lead("it is heard again", 0, "", 1, 2, 3)

	h = newHeardBy(t)
	h.broke(h.now, 2, 20)
	h.broke(h.now, 3, 30)
	h.lead("most lines broke", 10, "[{2 20 false} {3 30 false}]", 1)

	h = newHeardBy(t)
	h.broke(h.now, 2, 20)
	h.now = h.now.Add(2 * time.Second) // asleep, for less than a session
	h.lead("this controller slept", 5, "[{2 20 true}]", 1, 3)

	h = newHeardBy(t)
	h.broke(h.now, 2, 20)
	h.follow(3, 1, 3)
	h.begin(h.now)
	h.lead("the leader died with it", 1, "[{2 20 true}]", 1, 3)
}
