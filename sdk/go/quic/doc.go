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
// nothing and holds the rest until the handshake is complete.
//
// A Dialer is safe for concurrent use. Close ends its connections.
package quic
