package pace

import (
	"time"

	"rustmq.dev/rustmq/storage/guard"
)

const (
	// every is how often the rate is drawn anew, from a hundred samples.
	every  = 200 * time.Millisecond
	sample = 2 * time.Millisecond

	// tooLate is how late a sample is that counts. A processor that is free is there
	// within the millisecond that the kernel counts such waits in.
	tooLate = 2 * time.Millisecond

	// mostLate of a hundred samples may be: on a busy machine one or two are, whatever
	// we do, and five when two processors move what they can.
	mostLate = 2

	// least is what is never gone below, in bytes a second.
	least = 32 << 20

	// enough, in bytes a second, is more than a processor can move: no bound.
	enough = 4 << 30

	// growth is the part of the rate by which it grows, as a divisor.
	growth = 40
)

// window is what was seen in a fifth of a second, or what took its place.
type window struct {
	samples, late int
	appended      bool          // somebody produced
	moved         int64         // bytes, by all meters together
	took          time.Duration // above 0
}

// governor draws the rate. It has no clock and no lock.
type governor struct {
	rate int64 // bytes a second, least at least; 0: no bound
}

// step takes account of what was seen.
func (g *governor) step(w window) {
	switch {
	case !w.appended:
		if g.rate *= 2; g.rate >= enough {
			g.rate = 0
		}
	case w.late*100 > mostLate*w.samples && w.moved > 0: // else it is others
		now := int64(float64(w.moved) / w.took.Seconds())
		if g.rate > 0 {
			now = min(now, g.rate)
		}
		g.rate = now / 2
		if !guard.Check("pace.least", g.rate >= least) {
			g.rate = least
		}
	case g.rate > 0:
		if g.rate += g.rate / growth; g.rate >= enough {
			g.rate = 0
		}
	}
}
