package quic

import "time"

// Limits that are not for an operator to set.
const (
	handshakeTimeout = 10 * time.Second

	// A client may send that much ahead on a stream, and on all of a
	// connection. Windows begin small and grow with what the path takes.
	firstStreamWindow = 256 << 10
	firstConnWindow   = 512 << 10
	streamWindow      = 16 << 20
	// All streams together may have what one may: 16 MiB each round trip, 160 MiB/s at 100 ms.
	// A byte that comes alone takes two hundred, which nothing but this bounds for who is known
	// (docs/design/0030).
	connWindow = 16 << 20

	// halfOpen handshakes may be under way before clients must prove that
	// they are where they say.
	halfOpen = 256

	// WantedBuffer is the socket buffer that QUIC needs for its full rate.
	WantedBuffer = 1 << 20
	askedBuffer  = 7 << 20
)

// Defaults of [Options].
const (
	DefaultIdleTimeout = 2 * time.Minute
	DefaultMaxStreams  = 256
	DefaultMaxConns    = 2000
	// DefaultWindowMemory has the first window of that many connections.
	DefaultWindowMemory = 1 << 30
)
