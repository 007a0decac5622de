package rpc

import (
	"context"
	"errors"
	"fmt"
	"math"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"rustmq.dev/rustmq/security/pki"
	"rustmq.dev/rustmq/storage/guard"
	"rustmq.dev/rustmq/transport/rpc/rpcpb"
)

// peersServer answers other brokers.
type peersServer struct {
	rpcpb.UnimplementedPeersServer
	p *Peers
}

func (s peersServer) Call(ctx context.Context, q *rpcpb.PeerRequest) (*rpcpb.PeerReply, error) {
	c, err := s.p.callOf(q)
	if err != nil {
		return nil, err
	}
	if err := admitPeer(ctx, c.From); err != nil {
		return nil, err
	}
	h, err := s.p.begin(len(c.Body))
	if err != nil {
		return nil, err
	}
	defer s.p.end(len(c.Body))
	ctx, cancel := context.WithTimeout(ctx, maxPeerTime)
	defer cancel()
	if err := h.AdmitPeer(ctx, c); err != nil {
		return nil, peerStatus(err)
	}
	if c.Ordered {
		turn, err := s.p.orders.enter(c.From, q.GetOrder())
		if err != nil {
			return nil, status.Error(codes.Aborted, err.Error())
		}
		defer turn.leave()
		var over context.CancelFunc
		if ctx, over, err = turn.begin(ctx); err != nil {
			return nil, status.FromContextError(err).Err()
		}
		defer over()
	}
	body, err := h.ServePeer(ctx, c)
	switch {
	case err != nil:
		return nil, peerStatus(err)
	case len(body) > MaxPeerReply:
		return nil, status.Errorf(codes.FailedPrecondition, "an answer of %d bytes, at most %d are sent", len(body), MaxPeerReply)
	}
	return &rpcpb.PeerReply{Body: body}, nil
}

// admitPeer refuses who is not, by its certificate, who it says.
func admitPeer(ctx context.Context, from PeerBroker) error {
	if from.ID == OperatorID {
		return Admit(ctx, "a request for an operator", AnyNode, pki.RoleController, pki.RoleAdmin)
	}
	return Admit(ctx, fmt.Sprintf("a request of broker %d", from.ID), int64(from.ID), pki.RoleBroker)
}

// callOf returns the call that a message is.
func (p *Peers) callOf(q *rpcpb.PeerRequest) (*PeerCall, error) {
	if ours := p.o.Cluster(); !guard.Check("rpc.peer-cluster", ours != "" && ours == q.GetClusterId()) {
		return nil, status.Errorf(codes.FailedPrecondition, "the caller belongs to cluster %q, and this broker to %q", q.GetClusterId(), ours)
	}
	isInt16 := func(v int32) bool { return v >= 0 && v <= math.MaxInt16 }
	if !isInt16(q.GetKey()) || !isInt16(q.GetVersion()) {
		return nil, status.Errorf(codes.InvalidArgument, "key %d, version %d: there are no such requests", q.GetKey(), q.GetVersion())
	}
	return &PeerCall{
		From: PeerBroker{q.GetFrom().GetId(), q.GetFrom().GetEpoch()}, To: PeerBroker{q.GetTo().GetId(), q.GetTo().GetEpoch()},
		MetadataOffset: q.GetMetadataOffset(), Key: int16(q.GetKey()), Version: int16(q.GetVersion()),
		Body: q.GetBody(), Ordered: q.GetOrder() > 0,
	}, nil
}

// begin counts a call in, and returns who serves it.
func (p *Peers) begin(bytes int) (PeerHandler, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch fits := p.calls < maxPeerCalls && p.bytes+int64(bytes) <= maxPeerBytes && bytes <= MaxPeerBody; {
	case p.handler == nil:
		return nil, status.Error(codes.Unavailable, "this broker is still starting")
	case !guard.Check("rpc.peer-calls", fits):
		return nil, status.Errorf(codes.ResourceExhausted, "%d calls of other brokers, with %d bytes, are being served", p.calls, p.bytes)
	}
	p.calls++
	p.bytes += int64(bytes)
	return p.handler, nil
}

func (p *Peers) end(bytes int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls--
	p.bytes -= int64(bytes)
}

// peerStatus is how an error of a handler goes back to the caller.
func peerStatus(err error) error {
	switch {
	case errors.Is(err, ErrPeerRefused):
		return status.Error(codes.FailedPrecondition, err.Error())
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return status.FromContextError(err).Err()
	}
	return status.Error(codes.Internal, err.Error())
}

// refusedPeer reports whether a call was refused without effect.
func refusedPeer(err error) bool {
	switch status.Code(err) {
	case codes.FailedPrecondition, codes.InvalidArgument, codes.Unimplemented, codes.PermissionDenied, codes.Unauthenticated:
		return true
	}
	return false
}

// errOvertaken says that a call came behind one of a later order of its sender.
type errOvertaken struct{ order, latest uint64 }

func (e errOvertaken) Error() string {
	return fmt.Sprintf("the call is of order %d, which its sender gave up: it is at %d", e.order, e.latest)
}
