// Package quic dials Kafka brokers over QUIC (RFC 9000, TLS 1.3, ALPN "kafka").
//
// Each net.Conn it returns is one bidirectional stream, which to the broker is
// one ordered Kafka connection; all streams to a broker share one QUIC
// connection. A [Dialer] is what franz-go's kgo.Dialer wants:
//
//	d := &quic.Dialer{TLS: &tls.Config{RootCAs: pool}}
//	client, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.Dialer(d.DialContext))
//
// A Dialer that has met a broker before resumes its session and sends the first
// request in the first packet (0-RTT); the broker serves there only what changes
// nothing and holds the rest until the handshake is complete. Where the broker
// has forgotten the session, what was written early is written again, unseen by
// the caller.
//
// A connection that died is made anew by the next dial. One without streams ends
// after ten seconds; until then another stream costs no handshake. Closing a
// stream says that no more requests come and that no answers are wanted; what
// was written before still arrives while the Dialer is open.
//
// A Dialer and its streams are safe for concurrent use. Close ends them all. An
// error of a dial is a *net.OpError with Op "dial"; errors of a stream whose
// connection is gone are net.ErrClosed, as Kafka clients expect, who then dial
// again.
package quic
