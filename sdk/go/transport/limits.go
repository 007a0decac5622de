package transport

import "time"

// What decides between QUIC and TCP. TCP costs a third of the processor time a byte,
// QUIC saves round trips and isolates streams: the longer the way and the more it
// loses, the more that is worth.
const (
	// A round trip of far or more is worth QUIC, one of near or less is not: within
	// a region and its zones it is below 2 ms, between regions above 5. In between
	// stays what is.
	near = 2 * time.Millisecond
	far  = 5 * time.Millisecond

	// Loss of lossy or more is worth QUIC, until it is less than clean, where a round trip is
	// lossCounts or more: below that a sender waits less for a lost packet than for
	// its processor, and loss is what a full socket dropped.
	lossy      = 0.005
	clean      = 0.001
	lossCounts = time.Millisecond
	enough     = 500 // packets in the window, before loss says anything

	// movedFor is how long a machine whose address has changed is taken for one
	// that moves.
	movedFor = 10 * time.Minute
)

// How often is measured, and how soon acted.
const (
	tick    = time.Second
	window  = 30               // ticks that are looked at together
	confirm = 5                // ticks in a row that must speak for the other
	dwell   = 30 * time.Second // between two changes of mind

	// Where UDP does not get through it is tried again after blockedFirst, then
	// twice that, up to blockedMost. A connection that has lived for proven begins
	// the pauses anew.
	blockedFirst = 15 * time.Second
	blockedMost  = 10 * time.Minute
	proven       = time.Minute

	// While TCP is in use, the way is measured over QUIC after probeFirst, then
	// twice that, up to probeMost.
	probeFirst = time.Minute
	probeMost  = 15 * time.Minute

	// silence is how long packets that want an answer may have none, before TCP is
	// tried and, if that connects, QUIC given up. A dead broker answers neither.
	silence = 3 * time.Second

	reloadPause = time.Second      // between two calls of Options.Reload at dials
	reloadEvery = 10 * time.Second // between those while nobody dials
)

// Of dials.
const (
	handshakeTimeout = 10 * time.Second
	probeTimeout     = 3 * time.Second
	migrateTimeout   = 5 * time.Second

	// head is what the transport in use has before the other is tried too
	// (RFC 8305 §5), at least, and headTrips round trips where that is more.
	head      = 250 * time.Millisecond
	headTrips = 4

	// courtesy is how long QUIC waits, that has won against an unknown broker, for TCP
	// where the round trip says that TCP should.
	courtesy = 50 * time.Millisecond

	// An early connection whose broker has not answered in earlyTimeout, or in
	// headTrips round trips where that is more, is given up: nothing that it was sent was
	// carried out.
	earlyTimeout = time.Second
)
