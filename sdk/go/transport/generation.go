package transport

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"slices"
	"time"

	"rustmq.dev/rustmq/sdk/go/quic"
)

// sessions are how many brokers' sessions of TLS over TCP are remembered.
const sessions = 64

// generation is the certificates that are in force, and what was dialled with them. Another
// begins with none of its sessions: who resumes one shows no certificate.
type generation struct {
	config *tls.Config  // nil: in the clear
	quic   *quic.Dialer // nil: in the clear
	users  int          // connections, and dials under way; guarded by Dialer.mu
}

// begin makes another generation the current one. d.mu is held.
func (d *Dialer) begin(config *tls.Config) {
	if config == nil {
		d.current = &generation{}
		return
	}
	over := config.Clone()
	if over.ClientSessionCache == nil {
		over.ClientSessionCache = tls.NewLRUClientSessionCache(sessions)
	}
	d.current = &generation{config: over, quic: &quic.Dialer{TLS: config}}
	d.alive[d.current] = struct{}{}
}

// generation returns what to dial with, after Options.Reload was asked where that is due. It
// is kept until [Dialer.let] says so.
func (d *Dialer) generation(every time.Duration) (*generation, error) {
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return nil, ErrClosed
	}
	now := time.Now()
	due := d.o.Reload != nil && (d.current == nil || now.Sub(d.reloaded) >= every)
	if !due && d.current == nil {
		d.begin(d.o.TLS)
	}
	current := d.current
	if !due {
		current.users++
		d.mu.Unlock()
		return current, nil
	}
	d.mu.Unlock()
	return d.reload()
}

// let gives a generation back; the last user of one that was replaced closes it.
func (d *Dialer) let(g *generation) {
	d.mu.Lock()
	defer d.mu.Unlock()
	g.users--
	d.outlived(g)
}

// outlived closes a generation that was replaced and has no users. d.mu is held.
func (d *Dialer) outlived(g *generation) {
	if g.users > 0 || g == d.current || d.closed {
		return
	}
	if _, alive := d.alive[g]; !alive {
		return
	}
	delete(d.alive, g)
	d.wait.Go(func() { d.end(g) })
}

// reload asks Options.Reload. Who asks meanwhile waits for it.
func (d *Dialer) reload() (*generation, error) {
	d.reloading.Lock()
	defer d.reloading.Unlock()
	d.mu.Lock()
	before := d.current
	if before != nil && time.Since(d.reloaded) < reloadPause { // somebody else did
		before.users++
		d.mu.Unlock()
		return before, nil
	}
	d.mu.Unlock()
	config, err := d.o.Reload()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.reloaded = time.Now()
	switch {
	case d.closed:
		return nil, ErrClosed
	case err != nil && before == nil:
		return nil, err
	case err != nil:
		d.o.Log.Warn("certificates were not read again: those before stay in force", "error", err)
	case before == nil || !same(config, d.loaded):
		d.loaded = config
		d.begin(config)
	}
	if before != nil && before != d.current {
		retired := d.open(func(c *conn) bool { return c.of == before })
		d.o.Log.Info("certificates were read again: connections begin anew as they fall quiet", "connections", len(retired))
		d.wait.Go(func() { retire(retired) })
		d.outlived(before)
	}
	d.current.users++
	return d.current, nil
}

// same reports whether two configurations show and trust the same certificates, under the same
// name: who makes one anew each time changes nothing by it.
func same(a, b *tls.Config) bool {
	if a == b || a == nil || b == nil {
		return a == b
	}
	if (a.RootCAs == nil) != (b.RootCAs == nil) || a.RootCAs != nil && !a.RootCAs.Equal(b.RootCAs) {
		return false
	}
	return a.ServerName == b.ServerName && slices.EqualFunc(a.Certificates, b.Certificates, func(x, y tls.Certificate) bool {
		return slices.EqualFunc(x.Certificate, y.Certificate, bytes.Equal)
	})
}

func retire(conns []*conn) {
	for _, c := range conns {
		c.retire()
	}
}

// end closes what nothing is left of.
func (d *Dialer) end(g *generation) {
	if err := g.quic.Close(); err != nil && !errors.Is(err, quic.ErrClosed) {
		d.o.Log.Warn("QUIC sockets were not closed", "error", err)
	}
}

// overTCP dials a broker over TCP, with TLS unless that is not wanted.
func (d *Dialer) overTCP(ctx context.Context, g *generation, addr string) (net.Conn, *net.TCPConn, error) {
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	plain, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, nil, err
	}
	below, _ := plain.(*net.TCPConn)
	if g.config == nil || d.o.PlainTCP {
		return plain, below, nil
	}
	config := g.config
	if config.ServerName == "" {
		host, _, err := net.SplitHostPort(addr)
		if err != nil {
			return nil, nil, errors.Join(err, plain.Close())
		}
		config = config.Clone()
		config.ServerName = host
	}
	over := tls.Client(plain, config)
	if err := over.HandshakeContext(ctx); err != nil {
		_ = plain.Close() // the handshake's error says more
		return nil, nil, &net.OpError{Op: "dial", Net: "tls", Addr: plain.RemoteAddr(), Err: err}
	}
	return over, below, nil
}
