// Package relay is a network between a client and a broker, in user space: it takes TCP
// and UDP on one port, passes both on, and makes the way longer, narrower and worse,
// or blocks it. It is for tests and measurements.
//
//	r, err := relay.Listen(relay.Options{To: broker, Delay: 25 * time.Millisecond, Loss: 0.01, Seed: 1})
//	defer r.Close()
//	// dial r.Addr()
//
// A datagram that is lost is dropped. TCP ends in the relay, so that of it no packet
// can be dropped: what would have been in a lost segment, and all behind it, comes a
// round trip later instead, as after a fast retransmission; the sender keeps its pace, which is kind to
// TCP. A new connection's first bytes wait one round trip for the handshake, which
// the kernel has answered at once. Which packets are lost follows from the seed
// and from the order in which they come.
//
// With a rate, TCP and UDP share a line in each direction; what does not fit into its
// queue is dropped where it is a datagram, and waits where it is TCP.
package relay
