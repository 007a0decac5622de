package kafka

import "time"

// Limits bound what connections can cost. Zero values take the defaults.
type Limits struct {
	// MaxFrame bytes of one request; the default is that of Kafka's
	// socket.request.max.bytes, 100 MiB.
	MaxFrame int
	// PreAuthFrame bytes of one request until the client is authenticated,
	// where [Options.RequireAuth] is set: 64 KiB.
	PreAuthFrame int
	// PreAuthMemory bytes of the requests of all such clients, 16 MiB.
	PreAuthMemory int64
	// AuthTimeout until such a client is authenticated, 30 s.
	AuthTimeout time.Duration
	// ConnMemory bytes of requests and of unsent answers of one connection,
	// 64 MiB; at that, no further request is read.
	ConnMemory int64
	// TotalMemory bytes of the requests of all connections, 512 MiB; as many
	// again of what is decoded of them ([Request.Expand]), and of what those
	// keep that wait ([Request.Park]). A frame larger than it passes alone.
	TotalMemory int64
	// TotalUnsent bytes of answers of all connections that are not written,
	// 1 GiB; at that, a connection that has some is not read from. As many
	// again of answers that may be large, from before they are made
	// ([Request.Reserve]).
	TotalUnsent int64
	// MaxPipelined requests of a connection whose answers are not sent, 1024.
	MaxPipelined int
	// MaxConns connections in all, and PerIP from one address, 20,000.
	MaxConns, PerIP int
	// FirstTimeout until the first request of a connection, 30 s.
	FirstTimeout time.Duration
	// IdleTimeout without a request while none waits for its answer, 10 min as
	// Kafka's connections.max.idle.ms.
	IdleTimeout time.Duration
	// FrameTimeout from when a frame is begun to be read to its last byte, 30 s, and
	// another second for each 512 KiB.
	FrameTimeout time.Duration
	// HandshakeTimeout of TLS, 10 s.
	HandshakeTimeout time.Duration
	// WriteTimeout of one gather write of at most 1 MiB, 30 s: a peer that
	// takes nothing is cut. While half of TotalUnsent is used, also of the whole
	// of an answer, and another second for each 512 KiB.
	WriteTimeout time.Duration
	// DrainTimeout for the answers of a client that sends no more, 5 s.
	DrainTimeout time.Duration
}

// Sizes that are nobody's to set.
const (
	// preAuthPipelined requests of a client that has yet to authenticate, whose answers
	// are not sent: it needs three, and what strangers do not take is little.
	preAuthPipelined = 8
	// slowestFrame bytes of a frame a second are waited for.
	slowestFrame = 512 << 10
	// slowestAnswer bytes a second a peer has to take while memory is short.
	slowestAnswer = 512 << 10
	// smallFrame is up to where a frame may use all of the memory. Larger ones
	// leave a quarter, so that clients which stall in them stop no small ones.
	smallFrame = 64 << 10
	// smallAnswer is up to where an answer is made without asking for room.
	smallAnswer = 16 << 10
	// writeStep bytes must pass within one write deadline.
	writeStep = 1 << 20
	// readBuffer bytes are asked of the socket at once. A frame gets memory once
	// it, or as much of it, is there; the rest is read in place.
	readBuffer = 16 << 10
	// joinedWrite bytes are put together where there is no gather write: one
	// TLS record.
	joinedWrite = 16 << 10
	// keptID bytes of a client id stay with its connection.
	keptID = 256
	// keptEncoding bytes of an encoded response stay with a reused Request.
	keptEncoding = 4 << 10
)

func (l *Limits) fill() {
	fill(&l.MaxFrame, 100<<20)
	fill(&l.PreAuthFrame, 64<<10)
	fill(&l.PreAuthMemory, 16<<20)
	fill(&l.AuthTimeout, 30*time.Second)
	fill(&l.ConnMemory, 64<<20)
	fill(&l.TotalMemory, 512<<20)
	fill(&l.TotalUnsent, 1<<30)
	fill(&l.MaxPipelined, 1024)
	fill(&l.MaxConns, 20_000)
	fill(&l.PerIP, 20_000)
	fill(&l.FirstTimeout, 30*time.Second)
	fill(&l.IdleTimeout, 10*time.Minute)
	fill(&l.FrameTimeout, 30*time.Second)
	fill(&l.HandshakeTimeout, 10*time.Second)
	fill(&l.WriteTimeout, 30*time.Second)
	fill(&l.DrainTimeout, 5*time.Second)
}

func fill[T int | int64 | time.Duration](v *T, otherwise T) {
	if *v == 0 {
		*v = otherwise
	}
}
