package coordinator

import (
	"math/rand/v2"
	"testing"
	"time"

	"rustmq.dev/rustmq/test/seeded"
)

type sleeper struct {
	Alarm
	rung int
}

// Alarms agree with a look at all of them, whatever is set, moved and taken back.
func TestAlarmsRingInOrder(t *testing.T) {
	seed := seeded.Seed(t)
	rng := rand.New(rand.NewPCG(seed, 0))
	var alarms Alarms[*sleeper]
	all := make([]sleeper, 20)
	now := time.Unix(1000, 0)
	for range 2000 {
		if s := &all[rng.IntN(len(all))]; rng.IntN(4) == 0 {
			alarms.Set(s, time.Time{})
			if !s.WakesAt().IsZero() {
				t.Fatalf("set to %v after it was taken back", s.WakesAt())
			}
		} else {
			at := now.Add(time.Duration(1 + rng.IntN(50)))
			alarms.Set(s, at)
			if !s.WakesAt().Equal(at) {
				t.Fatalf("set to %v, want %v", s.WakesAt(), at)
			}
		}
		now = now.Add(time.Duration(rng.IntN(5)))
		var next time.Time
		var due []*sleeper
		for i := range all {
			switch at := all[i].WakesAt(); {
			case at.IsZero():
			case !now.Before(at):
				due = append(due, &all[i])
			case next.IsZero() || at.Before(next):
				next = at
			}
		}
		last := time.Time{}
		for s := range alarms.Due(now) {
			if s.WakesAt().Before(last) || now.Before(s.WakesAt()) {
				t.Fatalf("one set to %v rings at %v, after %v", s.WakesAt(), now, last)
			}
			last = s.WakesAt()
			s.rung++
			alarms.Set(s, time.Time{})
		}
		for _, s := range due {
			if s.rung != 1 {
				t.Fatalf("%d rings, want one", s.rung)
			}
			s.rung = 0
		}
		for i := range all {
			if all[i].rung != 0 {
				t.Fatal("one rang that was not due")
			}
		}
		if got := alarms.Next(); !got.Equal(next) {
			t.Fatalf("next at %v, want %v", got, next)
		}
	}
}
