// Package quic listens for Kafka over QUIC (RFC 9000, TLS 1.3, ALPN "kafka").
//
// Each bidirectional stream is one ordered Kafka connection, given to
// transport/kafka, which knows no difference. A stream's requests that arrive
// before the handshake is complete may be a replay: kafka.Info says so until it
// is, and the Kafka side serves only what changes nothing and holds the rest.
//
// A [Listener] has one goroutine that accepts connections, one per connection
// that accepts streams, and those of the streams; Close ends and awaits them.
package quic
