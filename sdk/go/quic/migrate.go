package quic

import (
	"context"
	"errors"
	"fmt"

	"github.com/quic-go/quic-go"
)

// maxLeft sockets are kept that connections have migrated from: those are known
// there until they end, and closing one would end them.
const maxLeft = 8

// Migrate moves all connections to a new socket (RFC 9000 §9), and so to the
// address that this machine has now; streams notice nothing. A connection whose
// broker does not answer there within ctx stays where it was, and is an error. After
// many moves connections are ended instead, for the next dials to make anew.
func (d *Dialer) Migrate(ctx context.Context) error {
	d.moving.Lock()
	defer d.moving.Unlock()
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return ErrClosed
	}
	if d.socket == nil {
		d.mu.Unlock()
		return nil // nobody has dialled
	}
	if len(d.left) == maxLeft {
		return d.leave()
	}
	socket, err := newSocket()
	if err != nil {
		d.mu.Unlock()
		return fmt.Errorf("migrate: %w", err)
	}
	d.left = append(d.left, d.socket)
	d.socket = socket
	moving := map[string]*shared{}
	for addr, s := range d.conns {
		if s.established() {
			moving[addr] = s
		}
	}
	d.dials.Add(1) // Close waits for it
	done := d.ctx
	d.mu.Unlock()
	defer d.dials.Done()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(done, cancel)()
	moved := make(chan error)
	for addr, s := range moving {
		go func() {
			if err := s.migrate(ctx, socket); err != nil {
				moved <- fmt.Errorf("migrate the connection to %s: %w", addr, err)
				return
			}
			moved <- nil
		}()
	}
	var errs []error
	for range moving {
		errs = append(errs, <-moved)
	}
	return errors.Join(errs...)
}

func (s *shared) migrate(ctx context.Context, socket *quic.Transport) error {
	conn := s.conn
	if err := handshaken(ctx, conn); err != nil {
		return err
	}
	s.settle()
	path, err := conn.AddPath(socket)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(conn.Context(), cancel)()
	if err := path.Probe(ctx); err != nil {
		return errors.Join(err, path.Close())
	}
	return path.Switch()
}

// leave ends all connections, and closes all sockets. d.mu is held, and let go.
func (d *Dialer) leave() error {
	sockets := append(d.left, d.socket)
	d.left, d.socket = nil, nil
	for addr, s := range d.conns {
		if s.established() {
			delete(d.conns, addr)
		}
	}
	d.mu.Unlock()
	var errs []error
	for _, socket := range sockets {
		errs = append(errs, socket.Close(), socket.Conn.Close()) // ends its connections
	}
	return errors.Join(errs...)
}
