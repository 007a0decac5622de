// Package quic listens for Kafka over QUIC (RFC 9000, TLS 1.3, ALPN "kafka").
//
// Each bidirectional stream is one ordered Kafka connection, given to
// transport/kafka, which knows no difference. The end of a client's stream (FIN)
// says that it sends no more requests: what it has asked is still answered. A
// client that also wants no answers says so (STOP_SENDING); a reset stream ends
// at once.
//
// A request that arrives before the handshake is complete may be a replay
// (0-RTT): kafka.Info says so until it is, and the Kafka side serves only what
// changes nothing and holds the rest. A handshake that fails ends its streams.
//
// Whom a client's certificate names is asked once for a connection, with its first stream
// (Options.Identify), of what TLS has verified, be it by a ticket; a stream of a connection that
// nobody has verified is refused. A connection ends with its certificate. Handshakes that
// fail are in the log, one a second at most.
//
// What a client can make this side hold is bounded: connections in all and by
// address, counted from their first packet; streams of a connection, counted
// until the Kafka side has let go of them, so that streams opened and reset in a
// loop do not pile up; bytes sent ahead, by windows that only grow while a
// budget for all connections lasts. When many handshakes are under way, clients
// must first prove their address (Retry).
//
// A connection is a stranger's until one of its streams is known (kafka.Info.Known). Strangers
// have half a minute, and send little, one and all together (strangers.go); where
// there is no place for another connection, the one that came first gives way.
//
// A [Listener] has one goroutine that accepts connections, one per connection
// that accepts streams, those of the streams, and while there are strangers one that watches
// them; Close ends and awaits them.
package quic
