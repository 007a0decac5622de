// Package transport dials Kafka brokers over QUIC or TCP, whichever is better for the way
// there. A [Dialer] is what franz-go's kgo.Dialer wants:
//
//	d := transport.New(transport.Options{TLS: &tls.Config{RootCAs: pool}})
//	defer d.Close()
//	client, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.Dialer(d.Dial))
//
// QUIC saves round trips, isolates streams from each other's losses and survives a
// change of address; TCP costs a third of the processor time a byte. In the mode [Auto]
// an unknown broker is dialled over both; then the round trip, the loss and changes of
// this machine's address decide (choice.go, by the figures in limits.go), measured once
// a second on what is open. The choice is per broker; it changes seldom, and connections over the
// other transport end then when they owe no answer, so that no request is lost by it.
//
// Where UDP does not get through, TCP is used, and QUIC tried again after longer and longer
// pauses. Where this machine's address changes, QUIC connections move with it.
//
// All streams to a broker share one QUIC connection. Sessions are resumed, over QUIC with the first
// request in the first packet (0-RTT): package quic says why that is safe.
//
// Certificates may be replaced while a Dialer is in use ([Options.Reload], [Files]).
//
// A Dialer and its connections are safe for concurrent use. It has a goroutine that
// measures, and others for dials and moves, all of which Close ends and awaits. An error of a
// connection that has ended is net.ErrClosed, as Kafka clients expect, who then dial again.
//
// The lock of a Dialer is taken before those of package quic, never the other way round, and
// never together with that of a connection.
package transport
