package rpc

import (
	"context"
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"rustmq.dev/rustmq/security/pki"
	"rustmq.dev/rustmq/storage/guard"
	"rustmq.dev/rustmq/transport/rpc/rpcpb"
)

// ControllerService is what a controller answers with. Its methods are called by many
// goroutines.
type ControllerService interface {
	// Cluster returns the id of the cluster; "" while none is known.
	Cluster() string
	Call(context.Context, Call) Answer
	// Images sends a broker what it lacks of metadata whose offset it has, the first
	// delta whole if it asks for that, until ctx ends or send fails. Send blocks while
	// the other side does not read; a nil delta says only where this side stands, which
	// has to be said at least every [ImagesBeat].
	Images(ctx context.Context, broker int32, offset uint64, whole bool, send func(ImagesState, []byte) error) error
	// Hear takes a beat of a registration, and Broke the end of the stream that brought it.
	Hear(broker int32, epoch int64)
	Broke(broker int32, epoch int64)
}

// RegisterController makes s answer for a controller.
func RegisterController(s grpc.ServiceRegistrar, c ControllerService) {
	rpcpb.RegisterControllerServer(s, controllerServer{service: c})
}

type controllerServer struct {
	rpcpb.UnimplementedControllerServer
	service ControllerService
}

// accept judges the cluster that a caller knows, and whether it is the broker that it says;
// below 0: it says that it is none.
func (s controllerServer) accept(ctx context.Context, cluster string, broker int32) error {
	if err := sameCluster(cluster, s.service.Cluster()); !guard.Check("rpc.caller-cluster", err == nil) {
		return status.Error(codes.FailedPrecondition, "the controller: "+err.Error())
	}
	if broker < 0 {
		return nil
	}
	return Admit(ctx, fmt.Sprintf("a call of broker %d", broker), int64(broker), pki.RoleBroker)
}

func (s controllerServer) Call(ctx context.Context, q *rpcpb.CallRequest) (*rpcpb.CallReply, error) {
	if err := s.accept(ctx, q.GetClusterId(), q.GetBroker()); err != nil {
		return nil, err
	}
	if n := len(q.GetBody()); !guard.Check("rpc.call-size", n <= MaxCall) {
		return nil, status.Errorf(codes.InvalidArgument, "a body of %d bytes, at most %d are taken", n, MaxCall)
	}
	a := s.service.Call(ctx, Call{Broker: q.GetBroker(), Offset: q.GetOffset(), Method: q.GetMethod(), Body: q.GetBody()})
	reply := &rpcpb.CallReply{ClusterId: s.service.Cluster(), Offset: a.Offset, Body: a.Body}
	if u := a.Untried; u != nil {
		reply.Untried = &rpcpb.CallUntried{Reason: u.Reason, Leader: u.Leader, Address: u.Address}
	}
	if r := a.Refused; r != nil {
		reply.Refused = &rpcpb.CallRefused{Code: int32(r.Code), Message: r.Message}
	}
	return reply, nil
}

func (s controllerServer) Images(q *rpcpb.ImagesRequest, stream grpc.ServerStreamingServer[rpcpb.ImagesPart]) error {
	if err := s.accept(stream.Context(), q.GetClusterId(), q.GetBroker()); err != nil {
		return err
	}
	err := s.service.Images(stream.Context(), q.GetBroker(), q.GetOffset(), q.GetWhole(), func(state ImagesState, delta []byte) error {
		part := &rpcpb.ImagesPart{ClusterId: s.service.Cluster(), Leader: state.Leader, Address: state.Address, Offset: state.Offset}
		for {
			n := min(partBytes, len(delta))
			part.Data, delta = delta[:n], delta[n:]
			part.Rest = uint64(len(delta))
			if err := stream.Send(part); err != nil || len(delta) == 0 {
				return err
			}
		}
	})
	if err == nil {
		err = status.Error(codes.Unavailable, "the controller is closed")
	}
	return err
}

// Beats has the service hear one broker.
func (s controllerServer) Beats(stream grpc.BidiStreamingServer[rpcpb.BeatRequest, rpcpb.BeatReply]) error {
	var last *rpcpb.BeatRequest
	for {
		beat, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF):
			return nil // it ends by its own wish
		case err != nil:
			if last != nil {
				s.service.Broke(last.GetBroker(), last.GetEpoch())
			}
			return err
		}
		if id := beat.GetBroker(); !guard.Check("rpc.beat-of-a-broker", id >= 0) {
			return status.Errorf(codes.InvalidArgument, "a beat of broker %d: there is none", id)
		}
		if err := s.accept(stream.Context(), beat.GetClusterId(), beat.GetBroker()); err != nil {
			return err
		}
		last = beat
		s.service.Hear(beat.GetBroker(), beat.GetEpoch())
		if err := stream.Send(new(rpcpb.BeatReply)); err != nil {
			continue // Recv says why
		}
	}
}

// sameCluster refuses whoever is of another cluster; who knows none yet is of any.
func sameCluster(ours, theirs string) error {
	if ours != "" && theirs != "" && ours != theirs {
		return fmt.Errorf("it belongs to cluster %s, and not to %s", theirs, ours)
	}
	return nil
}
