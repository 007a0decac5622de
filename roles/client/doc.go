// Package client is rustmq's client commands: produce, consume, bench and
// verify speak to any Kafka broker through franz-go, over TCP, TLS or QUIC;
// config and context work on files.
//
// Nothing here knows the server's rooms. A command gets its streams and its
// environment through [Env], so that tests run it as a process would. Values go
// to standard output, everything meant for a person to standard error. A command
// that names no broker takes those of its context: --context, RUSTMQ_CONTEXT, or
// the current one.
//
// An error that is a [UsageError] ends the process with 2, as do a configuration that
// cannot be used and a flag that cannot be read, any other with 1. An
// interrupt is a failure where something was left undone: produce, bench, verify
// and its check, consume with -n or -e. It is how a consume without an end ends,
// and half a load of verify.
package client
