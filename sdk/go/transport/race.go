package transport

import (
	"context"
	"errors"
	"net"
	"time"
)

// arrival is the end of one attempt of a race.
type arrival struct {
	conn *conn
	via  Mode
	err  error
}

// race dials a broker over one transport or both, as the plan has it, and returns the
// connection that is to be used. It lets the generation go that the caller holds.
func (d *Dialer) race(ctx context.Context, g *generation, b *broker, p plan) (net.Conn, error) {
	defer d.let(g)
	r := &heat{d: d, g: g, b: b, plan: p, began: time.Now(), arrivals: make(chan arrival, 2)}
	ctx, r.cancel = context.WithCancel(ctx)
	defer r.cancel() // ends the attempt over TCP that has lost
	defer context.AfterFunc(d.ctx, r.cancel)()
	r.ctx = ctx
	if p.first == Auto {
		r.start(QUIC)
		r.start(TCP)
	} else {
		r.start(p.first)
	}
	c, err := r.run()
	d.background(func() { r.late(c != nil && c.via == TCP) })
	if err != nil {
		return nil, err
	}
	return c, nil
}

// heat is one race.
type heat struct {
	d        *Dialer
	g        *generation
	b        *broker
	plan     plan
	began    time.Time
	ctx      context.Context // of the attempt over TCP; that over QUIC goes on
	cancel   context.CancelFunc
	arrivals chan arrival
	running  [3]bool // by Mode
	tried    [3]bool
}

// start begins an attempt. The one over QUIC outlives the race: what comes of it is to be known.
func (r *heat) start(via Mode) {
	r.running[via], r.tried[via] = true, true
	r.d.mu.Lock()
	r.g.users++ // of the connection, or until the attempt has failed
	r.d.mu.Unlock()
	dial := func() {
		a := arrival{via: via}
		if via == TCP {
			a.conn, a.err = r.d.viaTCP(r.ctx, r.g, r.b)
		} else {
			// A known broker's answer need not be waited for before something is written.
			a.conn, a.err = r.d.shaken(r.g, r.b, r.plan.first == QUIC)
		}
		if a.err != nil {
			r.d.let(r.g)
		}
		r.arrivals <- a
	}
	if !r.d.background(dial) {
		r.d.let(r.g)
		r.arrivals <- arrival{via: via, err: ErrClosed}
	}
}

// background runs f until Close waits for it, and reports whether it does.
func (d *Dialer) background(f func()) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return false
	}
	d.wait.Go(f)
	return true
}

// shaken is a stream over QUIC to a broker that has answered, or, early, to one of which a
// session is known: what is written is sent at once then.
func (d *Dialer) shaken(g *generation, b *broker, early bool) (*conn, error) {
	ctx, cancel := context.WithTimeout(d.ctx, handshakeTimeout)
	defer cancel()
	c, err := d.overQUIC(ctx, g, b)
	if err != nil {
		return nil, err
	}
	if early && d.background(func() { d.guard(c) }) {
		return c, nil
	}
	if err := c.handshake(ctx); err != nil {
		d.forget(c)
		_ = c.Conn.Close() // it was nobody's
		return nil, &net.OpError{Op: "dial", Net: "quic", Addr: unresolved(b.addr), Err: err}
	}
	return c, nil
}

// guard ends a connection that was given away early, and whose broker does not answer, while it
// does over TCP. It blocks on the handshake, and then on a dial, both bounded.
func (d *Dialer) guard(c *conn) {
	d.mu.Lock()
	bound := max(earlyTimeout, headTrips*c.broker.choice.rtt())
	d.mu.Unlock()
	ctx, cancel := context.WithTimeout(d.ctx, bound)
	defer cancel()
	err := c.handshake(ctx)
	if err == nil {
		c.broker.through(c.of)
		return
	}
	if d.answersTCP(c.broker) {
		d.blocked(c.broker, err) // first: who dials again takes TCP
		c.of.quic.Drop(c.broker.addr)
	}
}

// forget takes back a connection whose generation the caller lets go.
func (d *Dialer) forget(c *conn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(c.broker.conns, c)
}

func (c *conn) handshake(ctx context.Context) error {
	return c.Conn.(interface {
		HandshakeContext(context.Context) error
	}).HandshakeContext(ctx)
}

// run waits for the connection to use.
func (r *heat) run() (*conn, error) {
	var errs []error
	var ready *conn                    // has arrived, and waits for the other
	var waited, other <-chan time.Time // until when; from when the other is tried too
	if r.plan.head >= 0 {
		timer := time.NewTimer(r.plan.head)
		defer timer.Stop()
		other = timer.C
	}
	for {
		select {
		case <-r.ctx.Done():
			if ready != nil {
				return ready, nil
			}
			return nil, errors.Join(append(errs, &net.OpError{Op: "dial", Net: "tcp", Addr: unresolved(r.b.addr), Err: r.ctx.Err()})...)
		case <-other:
			r.startOther()
		case <-waited:
			r.note(ready.via)
			return ready, nil
		case a := <-r.arrivals:
			r.running[a.via] = false
			if a.err != nil {
				errs = append(errs, a.err)
				if ready != nil {
					r.note(ready.via)
					return ready, nil
				}
				r.startOther()
				if !r.running[TCP] && !r.running[QUIC] {
					return nil, errors.Join(errs...)
				}
				continue
			}
			if ready != nil { // both are there
				return r.better(ready, a.conn), nil
			}
			patience := r.patience(a.conn)
			if patience <= 0 {
				r.note(a.via)
				return a.conn, nil
			}
			ready, waited = a.conn, time.After(patience)
		}
	}
}

// startOther starts what has not been tried.
func (r *heat) startOther() {
	for _, via := range []Mode{QUIC, TCP} {
		if !r.tried[via] {
			r.start(via)
		}
	}
}

// patience is how long a connection that has arrived waits for the other transport, which
// may be the better one.
func (r *heat) patience(c *conn) time.Duration {
	if r.plan.first != Auto {
		return 0
	}
	took := time.Since(r.began)
	if c.via == QUIC {
		if r.verdict() == TCP && r.running[TCP] {
			return courtesy
		}
		return 0
	}
	if took < far || !r.running[QUIC] {
		return 0
	}
	return took / 2
}

// verdict notes that QUIC gets through, and returns what its round trip speaks for.
func (r *heat) verdict() Mode {
	r.b.through(r.g)
	r.d.mu.Lock()
	defer r.d.mu.Unlock()
	return r.b.choice.using
}

// better returns the connection of the transport that is chosen, and ends the other.
func (r *heat) better(a, b *conn) *conn {
	use, not := a, b
	if using := r.verdict(); b.via == using {
		use, not = b, a
	}
	_ = not.Close() // nothing was asked of it
	r.note(use.via)
	return use
}

// note tells the choice who has won.
func (r *heat) note(via Mode) {
	if via == QUIC {
		r.verdict()
		return
	}
	d := r.d
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.o.now()
	if r.tried[QUIC] && !r.running[QUIC] && r.b.choice.using != TCP {
		r.b.choice.failed(now) // QUIC has failed, and TCP has not
	}
	why := whySlow
	if time.Since(r.began) < far {
		why = whyNear
	}
	r.b.choice.raced(now, why)
}

// late takes what arrives after the race, and notes what comes of QUIC, which is blocked if
// it fails where TCP has won. It blocks on attempts, which end by themselves.
func (r *heat) late(overTCP bool) {
	for _, via := range []Mode{QUIC, TCP} {
		if !r.running[via] {
			continue
		}
		a := <-r.arrivals
		switch {
		case a.err == nil && a.via == QUIC:
			r.b.through(r.g)
			_ = a.conn.Close() // nothing was asked of it
		case a.err == nil:
			_ = a.conn.Close()
		case a.via == QUIC && overTCP && r.d.ctx.Err() == nil:
			r.d.blocked(r.b, a.err)
		}
	}
}
