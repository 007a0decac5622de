// Package kafka turns the bytes of a connection into Kafka requests, and
// responses into bytes. It knows no storage and no role; whether a connection is
// TCP, TLS or a QUIC stream ends here.
//
// A connection has two goroutines. The reader takes one frame after the other,
// checks its length before it makes room for it, charges it to the budgets of
// the connection and of the process, and starts it with [Handler.Serve]; it does
// not wait for the answer. The writer sends answers in the order of their
// requests, all that are ready in one gather write. Both block on the peer, and
// are bounded by deadlines.
//
// Promises. No input makes the server panic, or hold more than its budgets: a
// length is believed only up to [Limits.MaxFrame], and a frame that finds the
// budget used up is not read until there is room. What is malformed ends its
// connection, with one log line and a count, and no other. A peer that does not
// read its answers is not read from.
//
// Concurrency. A [Server] and a [Request] may be used from any goroutine. Serve
// is called by one goroutine per connection, in order of arrival.
//
// Bytes: https://kafka.apache.org/protocol — a request is
//
//	offset size field
//	0      4    length          big-endian, of all that follows
//	4      2    api key
//	6      2    api version
//	8      4    correlation id
//	12     2+n  client id       nullable string
//	14+n   …    tagged fields   from the flexible versions on (KIP-482)
//
// and a response is length, correlation id, tagged fields (flexible versions,
// but never of ApiVersions, KIP-511), body.
package kafka
