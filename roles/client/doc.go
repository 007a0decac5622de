// Package client is rustmq's client commands: produce, consume, bench and
// verify speak to any Kafka broker through franz-go, over TCP, TLS or QUIC;
// config and context work on files.
//
// Nothing here knows the server's rooms. A command gets its streams and its
// environment through [Env], so that tests run it as a process would. Values go
// to standard output, everything meant for a person to standard error.
package client
