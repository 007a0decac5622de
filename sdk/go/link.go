package rustmq

import (
	"context"
	"crypto/tls"
	"net"
	"time"
)

const dialTimeout = 10 * time.Second

// dialFunc is what franz-go dials with.
type dialFunc func(ctx context.Context, network, addr string) (net.Conn, error)

// link is how brokers are reached.
type link struct{}

func (link) dialer(c *credentials) (dialFunc, func() error) {
	plain := &net.Dialer{Timeout: dialTimeout}
	if c == nil {
		return plain.DialContext, func() error { return nil }
	}
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		return (&tls.Dialer{NetDialer: plain, Config: c.current()}).DialContext(ctx, network, addr)
	}, func() error { return nil }
}
