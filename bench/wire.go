package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// wire is a connection that has one request outstanding at a time: what thousands of
// members of groups can be, where as many clients would be the load themselves.
type wire struct {
	conn   net.Conn
	format *kmsg.RequestFormatter
	next   int32
	buf    []byte
}

func dialWire(ctx context.Context, addr string) (*wire, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return nil, errors.Join(err, conn.Close())
		}
	}
	return &wire{conn: conn, format: kmsg.NewRequestFormatter(kmsg.FormatterClientID("bench"))}, nil
}

func (w *wire) close() { _ = w.conn.Close() }

// ask sends a request of some version and returns its response.
func ask[P kmsg.Response](w *wire, version int16, q kmsg.Request) (P, error) {
	var none P
	q.SetVersion(version)
	w.next++
	w.buf = w.format.AppendRequest(w.buf[:0], q, w.next)
	if _, err := w.conn.Write(w.buf); err != nil {
		return none, err
	}
	var head [4]byte
	if _, err := io.ReadFull(w.conn, head[:]); err != nil {
		return none, err
	}
	size := int(binary.BigEndian.Uint32(head[:]))
	if size < 4 || size > 64*mib {
		return none, fmt.Errorf("a response of %d bytes", size)
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(w.conn, body); err != nil {
		return none, err
	}
	body = body[4:] // the correlation id: nothing else is outstanding
	if q.IsFlexible() {
		body = body[1:] // a header without tags
	}
	p := q.ResponseKind()
	p.SetVersion(version)
	if err := p.ReadFrom(body); err != nil {
		return none, fmt.Errorf("response to key %d, version %d: %w", q.Key(), version, err)
	}
	return p.(P), nil
}

// settled asks again while a coordinator says that it is not there yet.
func settled[P kmsg.Response](ctx context.Context, code func(P) int16, try func() (P, error)) (P, error) {
	for {
		p, err := try()
		if err != nil {
			return p, err
		}
		switch kerr.ErrorForCode(code(p)) {
		case kerr.NotCoordinator, kerr.CoordinatorNotAvailable, kerr.CoordinatorLoadInProgress:
		default:
			return p, nil
		}
		select {
		case <-ctx.Done():
			return p, fmt.Errorf("the coordinator is not there: %w", ctx.Err())
		case <-time.After(5 * time.Millisecond):
		}
	}
}
