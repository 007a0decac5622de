package tiering_test

import (
	"testing"
	"time"

	"rustmq.dev/rustmq/roles/broker/tiering"
)

func TestBandwidthWaitsForTheSlowerOfRateAndPace(t *testing.T) {
	now := time.Unix(1, 0)
	paced := time.Duration(0)
	b := tiering.Bandwidth{Rate: 1000, Now: func() time.Time { return now }, Pace: func(n int64) time.Duration { return paced }}
	for i, of := range []struct{ pace, want time.Duration }{
		{0, 0}, {0, time.Second}, {5 * time.Second, 5 * time.Second}, {time.Second, 3 * time.Second},
	} {
		paced = of.pace
		if got := time.Duration(b.Take(1000)); got != of.want {
			t.Errorf("turn %d comes after %v, want %v", i, got, of.want)
		}
	}
	unbound := tiering.Bandwidth{Now: time.Now, Pace: func(int64) time.Duration { return time.Minute }}
	if got := time.Duration(unbound.Take(1)); got != time.Minute {
		t.Errorf("without a rate of its own the turn comes after %v, want a minute", got)
	}
}

// A rate that is set counts for what is taken from then on.
func TestBandwidthChanges(t *testing.T) {
	now := time.Unix(1000, 0)
	b := &tiering.Bandwidth{Now: func() time.Time { return now }}
	if turn := b.Take(1 << 30); turn != 0 {
		t.Errorf("without a bound: %v", turn)
	}
	b.Set(100)
	b.Take(100)
	if turn := b.Take(1); turn != tiering.Turn(time.Second) {
		t.Errorf("behind a second's worth: %v", turn)
	}
	b.Set(0)
	if turn := b.Take(1); turn != 0 {
		t.Errorf("without a bound again: %v", turn)
	}
}
