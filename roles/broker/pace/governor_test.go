package pace

import (
	"testing"
	"time"
)

// machine is one in simulated time on which samples are late when more is moved than it
// has processors for.
type machine struct {
	fits   int64 // bytes a second
	wanted int64 // by the background, if nothing bounds it
}

// run has the governor draw the rate for so long, and returns the windows in which too
// many samples were late, and what was moved.
func (m machine) run(g *governor, appended bool, long time.Duration) (late int, moved int64) {
	for range long / every {
		rate := m.wanted
		if g.rate > 0 {
			rate = min(rate, g.rate)
		}
		w := window{samples: 100, late: 1, appended: appended, moved: rate * int64(every) / int64(time.Second), took: every}
		if rate > m.fits {
			w.late = 8
			late++
		}
		moved += w.moved
		g.step(w)
	}
	return late, moved
}

func TestBackgroundGivesWayAtOnceAndComesBack(t *testing.T) {
	const mib = 1 << 20
	m := machine{fits: 120 * mib, wanted: 300 * mib}
	var g governor
	if late, _ := m.run(&g, true, 10*time.Second); late > 3 {
		t.Errorf("too late in %d of the first 50 windows, want 3 at most", late)
	}
	late, moved := m.run(&g, true, 100*time.Second)
	if late > 25 {
		t.Errorf("too late in %d of 500 windows, want 25 at most", late)
	}
	if rate := moved / 100; rate < m.fits/2 {
		t.Errorf("%d MiB a second were moved, want half of what fits, %d", rate/mib, m.fits/mib)
	}
	if m.run(&g, false, 2*time.Second); g.rate != 0 {
		t.Errorf("two seconds after the last append the rate is %d, want none", g.rate)
	}
}

func TestNothingIsBoundWhereNothingIsLate(t *testing.T) {
	m := machine{fits: 8 << 30, wanted: 2 << 30}
	var g governor
	if m.run(&g, true, time.Minute); g.rate != 0 {
		t.Errorf("rate %d, want none", g.rate)
	}
}

func TestACatchUpGoesOnHoweverBusyTheMachineIs(t *testing.T) {
	m := machine{fits: 0, wanted: 300 << 20}
	var g governor
	m.run(&g, true, time.Second)
	if _, moved := m.run(&g, true, 10*time.Second); moved < 10*least/100*99 {
		t.Errorf("%d bytes in ten seconds, want %d a second", moved, least)
	}
}

// What is late while nothing is moved is not the background's doing.
func TestOthersDoNotTakeTheRateAway(t *testing.T) {
	g := governor{rate: 8 * least}
	for range 10 {
		g.step(window{samples: 100, late: 50, appended: true, took: every})
	}
	if g.rate < 8*least {
		t.Errorf("rate %d, want no less than before, %d", g.rate, 8*least)
	}
}
