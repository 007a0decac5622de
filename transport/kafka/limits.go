package kafka

import "time"

// Limits bound what connections can cost. Zero values take the defaults.
type Limits struct {
	// MaxFrame bytes of one request; the default is that of Kafka's
	// socket.request.max.bytes, 100 MiB.
	MaxFrame int
	// ConnMemory bytes of requests and of unsent answers of one connection; a
	// frame larger than it passes alone.
	ConnMemory int64
	// TotalMemory bytes of the requests of all connections.
	TotalMemory int64
	// MaxPipelined requests of a connection that are not answered.
	MaxPipelined int
	// MaxConns connections in all, and PerIP from one address.
	MaxConns, PerIP int
	// IdleTimeout without a request, after which a connection is closed.
	IdleTimeout time.Duration
	// FrameTimeout from the first byte of a frame to its last.
	FrameTimeout time.Duration
	// HandshakeTimeout of TLS.
	HandshakeTimeout time.Duration
	// WriteTimeout of one gather write: a peer that takes nothing is cut.
	WriteTimeout time.Duration
}

func (l *Limits) fill() {
	setInt(&l.MaxFrame, 100<<20)
	setInt(&l.MaxPipelined, 1024)
	setInt(&l.MaxConns, 20_000)
	setInt(&l.PerIP, 20_000)
	if l.ConnMemory == 0 {
		l.ConnMemory = 64 << 20
	}
	if l.TotalMemory == 0 {
		l.TotalMemory = 512 << 20
	}
	setTime(&l.IdleTimeout, 10*time.Minute) // connections.max.idle.ms of Kafka
	setTime(&l.FrameTimeout, 30*time.Second)
	setTime(&l.HandshakeTimeout, 10*time.Second)
	setTime(&l.WriteTimeout, 30*time.Second)
}

func setInt(v *int, def int) {
	if *v == 0 {
		*v = def
	}
}

func setTime(v *time.Duration, def time.Duration) {
	if *v == 0 {
		*v = def
	}
}
