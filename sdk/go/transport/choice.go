package transport

import "time"

// choice decides over what one broker is dialled. It has no clock, connection or
// goroutine of its own: events come in with their time. Not safe for concurrent use.
//
// Invariants: between two changes of using that measurements bring about lie dwell, and
// confirm samples that all spoke for the change, but for the first, which corrects
// a guess; using is not QUIC before blockedUntil.
type choice struct {
	using   Mode // of new connections; Auto: nothing is known yet
	why     string
	since   time.Time
	guessed bool // using comes of a race alone

	samples  []sample // of the last window ticks
	evidence int      // samples in a row that speak for the other

	blockedUntil time.Time // UDP does not get through; zero: it does
	pause        time.Duration
	provedSince  time.Time // QUIC has worked since; zero: it does not
	movedUntil   time.Time
	nextProbe    time.Time
	probePause   time.Duration
}

// sample is what was measured of the way to a broker in one tick.
type sample struct {
	rtt        time.Duration // 0: nobody has measured it
	sent, lost uint64        // packets since the sample before
}

// plan is how to dial.
type plan struct {
	first Mode          // Auto: both at once
	head  time.Duration // before the other is tried too; negative: only when the first fails
}

// Reasons, for people.
const (
	whyUnknown = "nothing is measured yet"
	whyNear    = "the broker is near: TCP costs less a byte"
	whySlow    = "TCP has connected sooner"
	whyFar     = "the round trip is long: QUIC saves some"
	whyLoss    = "packets are lost: QUIC holds up one stream alone"
	whyMoved   = "this machine's address has changed: QUIC keeps its connections"
	whyBlocked = "QUIC does not get through"
)

// plan says how to dial at a time.
func (c *choice) plan(now time.Time) plan {
	switch {
	case c.blocked(now):
		return plan{TCP, -1}
	case c.using == Auto:
		return plan{Auto, 0}
	default:
		return plan{c.using, max(head, headTrips*c.rtt())}
	}
}

func (c *choice) blocked(now time.Time) bool { return now.Before(c.blockedUntil) }

// rtt is the shortest round trip in the window: what a busy machine or a full queue
// adds is no distance. 0: none is known.
func (c *choice) rtt() time.Duration {
	var least time.Duration
	for _, s := range c.samples {
		if s.rtt > 0 && (least == 0 || s.rtt < least) {
			least = s.rtt
		}
	}
	return least
}

// loss is the part of packets that were lost in the window, 0..1, and whether enough were sent to say.
func (c *choice) loss() (float64, bool) {
	var sent, lost uint64
	for _, s := range c.samples {
		sent, lost = sent+s.sent, lost+s.lost
	}
	if sent < enough {
		return 0, false
	}
	return min(1, float64(lost)/float64(sent)), true
}

// verdict is what the measurements speak for; Auto: for nothing.
func (c *choice) verdict(now time.Time) (Mode, string) {
	rtt := c.rtt()
	loss, known := c.loss()
	suffers := known && rtt >= lossCounts && (loss >= lossy || c.using == QUIC && loss >= clean)
	switch {
	case c.blocked(now):
		return TCP, whyBlocked
	case now.Before(c.movedUntil):
		return QUIC, whyMoved
	case suffers:
		return QUIC, whyLoss
	case rtt == 0:
		return Auto, whyUnknown
	case rtt >= far || c.using == QUIC && rtt > near:
		return QUIC, whyFar
	}
	return TCP, whyNear
}

// connected notes that a handshake over QUIC is complete, and the round trip it took.
func (c *choice) connected(now time.Time, rtt time.Duration) {
	c.blockedUntil = time.Time{}
	if c.provedSince.IsZero() {
		c.provedSince = now
	}
	if rtt > 0 {
		c.push(sample{rtt: rtt})
	}
	if c.using == Auto || c.why == whyBlocked {
		c.guess(now)
	}
}

// guess takes what little is known for a decision.
func (c *choice) guess(now time.Time) {
	using, why := c.verdict(now)
	if using == Auto {
		return
	}
	c.set(now, using, why)
	c.guessed = true
}

// raced notes that TCP has won against a broker of which nothing was known.
func (c *choice) raced(now time.Time, why string) {
	if c.using == Auto {
		c.set(now, TCP, why)
		c.guessed = true
	}
}

func (c *choice) set(now time.Time, using Mode, why string) {
	if using != c.using {
		c.since = now
	}
	c.using, c.why, c.evidence, c.guessed = using, why, 0, false
	c.probePause = probeFirst
	c.nextProbe = now.Add(probeFirst)
}

// failed notes that QUIC did not get through, while TCP does.
func (c *choice) failed(now time.Time) {
	if c.blocked(now) {
		return // another connection's failure is no second one
	}
	if !c.provedSince.IsZero() && now.Sub(c.provedSince) >= proven {
		c.pause = 0
	}
	c.provedSince = time.Time{}
	c.pause = min(max(2*c.pause, blockedFirst), blockedMost)
	c.blockedUntil = now.Add(c.pause)
	c.set(now, TCP, whyBlocked)
	c.nextProbe = c.blockedUntil
}

// moved notes that this machine's address has changed, which is worth QUIC from now on.
func (c *choice) moved(now time.Time) {
	c.movedUntil = now.Add(movedFor)
	c.samples = c.samples[:0] // of another way
	c.nextProbe = now         // which may let UDP through
}

func (c *choice) push(s sample) {
	if len(c.samples) == window {
		c.samples = append(c.samples[:0], c.samples[1:]...)
	}
	c.samples = append(c.samples, s)
}

// measured takes a sample of a tick, and reports whether using has changed by it.
func (c *choice) measured(now time.Time, s sample) bool {
	c.push(s)
	using, why := c.verdict(now)
	switch {
	case using == Auto || c.using == Auto:
		return false
	case using == c.using:
		c.evidence = 0
		if c.why != whyBlocked {
			c.why = why
		}
		c.guessed = c.guessed && len(c.samples) < confirm
		return false
	case why == whyMoved && c.provedSince.IsZero():
		return false // whether QUIC gets through here is to be seen
	}
	if c.evidence++; c.evidence < confirm || !c.guessed && now.Sub(c.since) < dwell {
		return false
	}
	c.set(now, using, why)
	return true
}

// probe reports whether the way is to be measured over QUIC now, which is not used, and
// notes that it is.
func (c *choice) probe(now time.Time) bool {
	if c.using != TCP || now.Before(c.nextProbe) {
		return false
	}
	c.probePause = min(2*c.probePause, probeMost)
	c.nextProbe = now.Add(c.probePause)
	return true
}

// worse notes that TCP's own figures have become what QUIC may be better for.
func (c *choice) worse(now time.Time) {
	if soon := now.Add(probeFirst); !c.blocked(now) && c.nextProbe.After(soon) {
		c.nextProbe, c.probePause = soon, probeFirst
	}
}
