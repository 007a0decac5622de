//go:build suites

package kgo

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"sync"
	"sync/atomic"

	"rustmq.dev/rustmq/sdk/go/quic"
)

// relay gives each TCP connection a stream to a broker over QUIC. It has a goroutine
// that accepts, and two for each connection; Close ends and awaits them.
type relay struct {
	listener net.Listener
	to       string
	dialer   quic.Dialer
	ctx      context.Context
	stop     context.CancelFunc
	running  sync.WaitGroup
	streams  atomic.Int64 // that were opened
}

// newRelay listens on TCP at from, host:port, and dials to.
func newRelay(from, to string, trust *tls.Config) (*relay, error) {
	l, err := net.Listen("tcp", from)
	if err != nil {
		return nil, err
	}
	r := &relay{listener: l, to: to, dialer: quic.Dialer{TLS: trust}}
	r.ctx, r.stop = context.WithCancel(context.Background())
	r.running.Go(r.accept)
	return r, nil
}

// accept blocks on the listener.
func (r *relay) accept() {
	for {
		client, err := r.listener.Accept()
		if err != nil {
			return // closed
		}
		r.running.Go(func() { r.join(client) })
	}
}

// join copies until either side ends. It blocks on both, and on the dial.
func (r *relay) join(client net.Conn) {
	defer client.Close()
	broker, err := r.dialer.DialContext(r.ctx, "", r.to)
	if err != nil {
		return // the client sees its connection end, as it would without the relay
	}
	defer broker.Close()
	r.streams.Add(1)
	over := context.AfterFunc(r.ctx, func() {
		client.Close()
		broker.Close()
	})
	defer over()
	var answers sync.WaitGroup
	answers.Go(func() {
		_, _ = io.Copy(client, broker)
		client.Close()
	})
	_, _ = io.Copy(broker, client)
	broker.Close()
	answers.Wait()
}

// Close ends all connections.
func (r *relay) Close() error {
	err := r.listener.Close()
	r.stop()
	r.running.Wait()
	if closed := r.dialer.Close(); err == nil {
		err = closed
	}
	return err
}
