package quic

import (
	"context"
	"errors"
	"net"
	"syscall"
	"time"

	"github.com/quic-go/quic-go"
)

// stagger between attempts at the addresses of one host (RFC 8305 §5).
const stagger = 250 * time.Millisecond

// resolve returns the addresses of host:port in the order to try them.
func resolve(ctx context.Context, addr string) ([]*net.UDPAddr, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	number, err := net.DefaultResolver.LookupPort(ctx, "udp", port)
	if err != nil {
		return nil, err
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, err
	}
	var all []*net.UDPAddr
	for _, ip := range ips {
		all = append(all, &net.UDPAddr{IP: ip.Unmap().AsSlice(), Port: number, Zone: ip.Zone()})
	}
	return all, nil
}

// race dials the addresses, each a moment after the one before or at once when
// that has failed, and returns the first connection.
func race(ctx context.Context, addrs []*net.UDPAddr, dial func(context.Context, *net.UDPAddr) (*quic.Conn, error)) (*quic.Conn, error) {
	type result struct {
		conn *quic.Conn
		err  error
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	results := make(chan result)
	next := 0
	start := func() {
		to := addrs[next]
		next++
		go func() {
			conn, err := attempt(ctx, to, dial)
			results <- result{conn, err}
		}()
	}
	start()
	running := 1
	var won *quic.Conn
	var errs []error
	timer := time.NewTimer(stagger)
	defer timer.Stop()
	for running > 0 {
		select {
		case <-timer.C:
			if won == nil && next < len(addrs) {
				start()
				running++
				timer.Reset(stagger)
			}
		case r := <-results:
			running--
			switch {
			case r.err == nil && won == nil:
				won = r.conn
				cancel()
			case r.err == nil:
				_ = r.conn.CloseWithError(0, "") // another was faster
			case won == nil:
				errs = append(errs, r.err)
				if next < len(addrs) {
					start()
					running++
					timer.Reset(stagger)
				}
			}
		}
	}
	if won != nil {
		return won, nil
	}
	return nil, errors.Join(errs...)
}

// attempt dials one address, and gives up as soon as the host says that nobody
// listens there: a QUIC socket is not told so.
func attempt(ctx context.Context, to *net.UDPAddr, dial func(context.Context, *net.UDPAddr) (*quic.Conn, error)) (*quic.Conn, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	probing, stop := context.WithTimeout(context.WithoutCancel(ctx), handshakeTimeout)
	closed := make(chan struct{})
	go func() {
		if refused(probing, to) {
			cancel(syscall.ECONNREFUSED)
			close(closed)
		}
	}()
	conn, err := dial(ctx, to)
	if err != nil {
		stop()
		if errors.Is(context.Cause(ctx), syscall.ECONNREFUSED) {
			err = syscall.ECONNREFUSED
		}
		return nil, err
	}
	// With 0-RTT there is a connection before anybody has answered.
	go func() {
		defer stop()
		select {
		case <-conn.HandshakeComplete():
		case <-conn.Context().Done():
		case <-closed:
			_ = conn.CloseWithError(0, "nobody listens") // nor hears this
		}
	}()
	return conn, nil
}

// refused reports whether the port is closed, by an ICMP message that only a
// connected socket is given. The byte it sends is no QUIC packet and is ignored.
func refused(ctx context.Context, to *net.UDPAddr) bool {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "udp", to.String())
	if err != nil {
		return false
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() }) // ends the read
	defer func() {
		if stop() {
			_ = conn.Close()
		}
	}()
	if _, err := conn.Write([]byte{0}); err == nil {
		_, err = conn.Read(make([]byte, 1))
		return errors.Is(err, syscall.ECONNREFUSED)
	}
	return errors.Is(err, syscall.ECONNREFUSED)
}
