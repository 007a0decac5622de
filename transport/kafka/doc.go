// Package kafka turns the bytes of a connection into Kafka requests, and
// responses into bytes. It knows no storage and no role; whether a connection is
// TCP, TLS or a QUIC stream ends here.
//
// The reader of a connection takes one frame after the other (reader.go): it
// checks the length before it makes room, takes the room from the budget of the
// process once the first bytes are there, and starts the request with
// [Handler.Serve]; it does not wait for the answer. Answers come from any goroutine
// and leave in the order of their requests, all that are ready in one gather write,
// by a writer that runs only
// while there are some (writer.go). So an idle connection costs one goroutine,
// and over TCP no buffer.
//
// Promises. No input makes the server panic, or hold more than its budgets. A
// length is believed only up to [Limits.MaxFrame], and gets memory only when the
// frame, or 16 KiB of it, are there; a frame that finds the budget used up is not
// read until there is room. Frames of more than 64 KiB leave a quarter of it to
// smaller ones. What a handler makes of a frame is taken from a budget of its own
// first ([Request.Expand]), and so is an answer that may be large
// ([Request.Reserve]). A request that waits for others holds no frame back
// ([Request.Park]), nor does one that waits behind it, or for room for its answer, hold
// back what others need to be decoded. A peer that does not read its answers is not
// read from, and cut when it takes nothing for too long, or little while memory is
// short. One that is muted ([Conn.Mute]) is not read from before its time. What is
// malformed ends its connection, with one log line and a count by reason, and no other.
// Where there are as many connections as there may be, one of which nothing is known gives
// way to another (strangers.go).
// A request costs no allocation here. Whom a certificate names is asked after the handshake
// (Options.Identify), and a connection ends with its certificate ([Client]).
//
// Ownership. A [Request] and its body are the handler's until it answers, once;
// both are then used again, the body as soon as the request is parked or has room
// reserved for its answer. The buffers of an answer are the transport's until
// release is called. A handler that waits on the reader's goroutine holds back
// its connection and no other.
//
// Concurrency. A [Server], a [Conn] and a [Request] may be used from any
// goroutine; Serve is called by one per connection, in order of arrival.
// Conn.mu guards a connection's queue; nothing is called while it is held. A
// reader blocks on its peer, on memory and on room among its answers, a writer
// on its peer; deadlines bound both.
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
