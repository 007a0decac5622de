package rpc

import (
	"context"
	"fmt"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"rustmq.dev/rustmq/security/pki"
	"rustmq.dev/rustmq/storage/guard"
	"rustmq.dev/rustmq/transport/rpc/rpcpb"
)

const (
	// peerChunk is the most bytes of a connection in one message.
	peerChunk = 128 << 10
	// maxPeerConns are served at a time for all other brokers, each of which has a few: fewer
	// than a line has streams.
	maxPeerConns = 512
)

// PeerConnHandler serves a connection of another broker, which has proved which one it
// is, until it ends, and closes it.
type PeerConnHandler func(from PeerBroker, conn net.Conn)

// AttachConns says who serves connections of other brokers; nil: none is taken, and the
// other broker is told why. Before, others are told to come again.
func (p *Peers) AttachConns(h PeerConnHandler, why string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conns, p.noConns = h, why
}

// Connect opens a connection to the broker at an address, host:port, on which this
// broker speaks as a client does. Of the call, key, version and body are not looked at.
// The end of ctx, once Connect has returned, does nothing to it. Errors are those of Call.
func (p *Peers) Connect(ctx context.Context, address string, c *PeerCall) (net.Conn, error) {
	fail := func(err error) error {
		is := ErrPeerUnreachable
		if refusedPeer(err) {
			is = ErrPeerRefused
		}
		return fmt.Errorf("connect to broker %d at %s: %w: %w", c.To.ID, address, is, err)
	}
	line, err := p.connLines.toNode(address, int64(c.To.ID))
	if err != nil {
		return nil, fail(err)
	}
	lives, end := context.WithCancel(context.WithoutCancel(ctx))
	opening := context.AfterFunc(ctx, end)
	stream, err := rpcpb.NewPeersClient(line).Connect(lives)
	if err == nil {
		_ = stream.Send(&rpcpb.PeerRequest{ // an error of it is told by Recv
			ClusterId: p.o.Cluster(), From: wireBroker(c.From), To: wireBroker(c.To), MetadataOffset: c.MetadataOffset,
		})
		_, err = stream.Recv()
	}
	if !opening() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		end()
		return nil, fail(err)
	}
	ours, theirs := net.Pipe()
	go func() { // ends with either end of the connection, or with the line
		defer end()
		carry(theirs, func() ([]byte, error) {
			m, err := stream.Recv()
			return m.GetBody(), err
		}, func(b []byte) error { return stream.Send(&rpcpb.PeerRequest{Body: b}) }, end)
	}()
	return &peerConn{ours, PeerAddr(c.To.ID)}, nil
}

// Connect serves a connection of another broker.
func (s peersServer) Connect(stream grpc.BidiStreamingServer[rpcpb.PeerRequest, rpcpb.PeerReply]) error {
	hello, err := stream.Recv()
	if err != nil {
		return err
	}
	c, err := s.p.callOf(hello)
	if err != nil {
		return err
	}
	ctx := stream.Context()
	if err := Admit(ctx, fmt.Sprintf("a connection of broker %d", c.From.ID), int64(c.From.ID), pki.RoleBroker); err != nil {
		return err
	}
	h, serve, err := s.p.beginConn()
	if err != nil {
		return err
	}
	defer s.p.endConn()
	admission, cancel := context.WithTimeout(ctx, maxPeerTime)
	err = h.AdmitPeer(admission, c)
	cancel()
	if err != nil {
		return peerStatus(err)
	}
	if err := stream.Send(new(rpcpb.PeerReply)); err != nil {
		return err
	}
	ours, theirs := net.Pipe()
	served := make(chan struct{})
	go func() { // ends with the connection, which ends with the stream
		defer close(served)
		serve(c.From, &peerConn{ours, PeerAddr(c.From.ID)})
	}()
	carry(theirs, func() ([]byte, error) {
		m, err := stream.Recv()
		return m.GetBody(), err
	}, func(b []byte) error { return stream.Send(&rpcpb.PeerReply{Body: b}) }, func() {})
	<-served
	return nil
}

// beginConn counts a connection in, and returns who admits it and who serves it.
func (p *Peers) beginConn() (PeerHandler, PeerConnHandler, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.noConns != "":
		return nil, nil, status.Error(codes.FailedPrecondition, p.noConns)
	case p.handler == nil || p.conns == nil:
		return nil, nil, status.Error(codes.Unavailable, "this broker is still starting")
	case !guard.Check("rpc.peer-conns", p.open < maxPeerConns):
		return nil, nil, status.Errorf(codes.ResourceExhausted, "%d connections of other brokers are being served", p.open)
	}
	p.open++
	return p.handler, p.conns, nil
}

func (p *Peers) endConn() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open--
}

// carry carries bytes between a connection and a stream until either ends, and closes
// the connection. Stop has receive return.
func carry(conn net.Conn, receive func() ([]byte, error), send func([]byte) error, stop func()) {
	go func() { // ends with the stream, or when the connection takes nothing any more
		defer conn.Close()
		for {
			b, err := receive()
			if err != nil {
				return
			}
			if _, err := conn.Write(b); err != nil {
				return
			}
		}
	}()
	defer stop()
	defer conn.Close()
	buf := make([]byte, peerChunk)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return
		}
		if send(buf[:n]) != nil {
			return
		}
	}
}

// PeerAddr is the address of a broker as connections between brokers have it.
type PeerAddr int32

// Network implements [net.Addr].
func (PeerAddr) Network() string { return "peer" }

// String implements [net.Addr].
func (a PeerAddr) String() string { return fmt.Sprintf("broker-%d", int32(a)) }

// peerConn is one end of a connection.
type peerConn struct {
	net.Conn
	peer PeerAddr
}

func (c *peerConn) RemoteAddr() net.Addr { return c.peer }

// PeerPipe returns the two ends of a connection of a broker to itself; what one of them
// is closed for, the other reads as the end.
func PeerPipe(self int32) (client, server net.Conn) {
	a, b := net.Pipe()
	return &peerConn{a, PeerAddr(self)}, &peerConn{b, PeerAddr(self)}
}
