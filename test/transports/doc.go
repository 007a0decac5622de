// Package transports has the Go SDK's transports meet a whole rustmq: what no test of the
// SDK's own module can, which must not depend on the server.
package transports
