package rpc

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"rustmq.dev/rustmq/security/pki"
	"rustmq.dev/rustmq/storage/guard"
)

const (
	// MaxPush bounds the data in a message of a stream of replication, in bytes. A batch
	// goes in one. A server must be ready to take a MiB more.
	MaxPush        = 16 << 20
	maxPushMessage = MaxPush + 1<<20
	// maxEntries bounds what is decoded of a message.
	maxEntries = 64 << 10
	// helloPatience is how long a follower may take to say whether it takes a stream: it
	// may have to wait for the image that names the leader.
	helloPatience = 10 * time.Second
)

// Pushes opens streams of replication to followers.
type Pushes struct {
	cluster func() string
	lines   *lines
}

// PushesOptions of [Pushes].
type PushesOptions struct {
	Cluster func() string     // id of the cluster
	Mutual  *pki.Mutual       // nil: neither side proves who it is
	Dial    []grpc.DialOption // more of them
}

// NewPushes returns what opens streams. Streams over different ones share no connection.
func NewPushes(o PushesOptions) *Pushes {
	return &Pushes{cluster: o.Cluster, lines: newLines(o.Mutual, pki.RoleBroker, append([]grpc.DialOption{grpc.WithDisableRetry(), grpc.WithWriteBufferSize(pushBuffer)}, o.Dial...))}
}

// Close ends all connections, and the streams with them.
func (p *Pushes) Close() error { return p.lines.close() }

// PushStream is the leader's end of a stream to a follower. Send is for one goroutine at
// a time, Receive for another.
type PushStream struct {
	stream grpc.ClientStream
	close  func()
}

// Open opens a stream to the follower at an address (host:port), and returns once that
// has taken it. The stream ends with ctx, or by Close, which is to be called. An address
// has one stream at a time.
func (p *Pushes) Open(ctx context.Context, address string, from, to Incarnation) (*PushStream, error) {
	line, err := p.lines.toNode(address, int64(to.Broker))
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	late := time.AfterFunc(helloPatience, cancel)
	defer late.Stop()
	desc := replicationService().Streams[0]
	stream, err := line.NewStream(ctx, &desc, replicationMethod, grpc.ForceCodecV2(NewCodec()), grpc.MaxCallRecvMsgSize(maxPushMessage), grpc.MaxCallSendMsgSize(maxPushMessage))
	if err == nil {
		hello := &pushHello{cluster: p.cluster(), leader: from, follower: to}
		_ = stream.SendMsg(hello) // an error of it is told by RecvMsg
		err = stream.RecvMsg(new(PushReply))
	}
	end := func() {
		cancel()
		p.lines.drop(address) // no other stream is on it, and it may be what is wrong
	}
	if err != nil {
		end()
		return nil, fmt.Errorf("replicate to broker %d at %s: %w", to.Broker, address, err)
	}
	return &PushStream{stream, end}, nil
}

// Send sends a message; its Release is called when its data is not needed any more,
// whether it went or not. It blocks while the follower takes nothing.
func (s *PushStream) Send(m *PushMessage) error {
	defer m.drop()
	if err := s.stream.SendMsg(m); err != nil {
		return fmt.Errorf("push: %w", err) // Receive says why
	}
	return nil
}

// Receive waits for what the follower says.
func (s *PushStream) Receive() (*PushReply, error) {
	m := new(PushReply)
	if err := s.stream.RecvMsg(m); err != nil {
		return nil, fmt.Errorf("receive from a follower: %w", err)
	}
	return m, nil
}

// Close ends the stream with its connection, and what blocks on it.
func (s *PushStream) Close() { s.close() }

// PushHandler is a follower.
type PushHandler interface {
	// TakePushes serves a stream from a leader until that or ctx ends. A stream that it
	// does not take ends by its error before anything was sent.
	TakePushes(ctx context.Context, leader, follower Incarnation, s *FollowerStream) error
}

// FollowerStream is the follower's end. Send is for one goroutine at a time, Receive for
// another.
type FollowerStream struct{ stream grpc.ServerStream }

// Receive waits for the next message of the leader; its data is the stream's until
// [PushMessage.Done].
func (s *FollowerStream) Receive() (*PushMessage, error) {
	m := new(PushMessage)
	if err := s.stream.RecvMsg(m); err != nil {
		return nil, fmt.Errorf("receive from a leader: %w", err)
	}
	return m, nil
}

// Send sends a message; the first says that the stream is taken.
func (s *FollowerStream) Send(m *PushReply) error {
	if err := s.stream.SendMsg(m); err != nil {
		return fmt.Errorf("answer a leader: %w", err)
	}
	return nil
}

// RegisterReplication makes s take streams of leaders. The server must speak
// [NewCodec] (grpc.ForceServerCodecV2).
func RegisterReplication(s grpc.ServiceRegistrar, cluster func() string, h PushHandler) {
	desc := replicationService()
	desc.Streams[0].Handler = func(_ any, stream grpc.ServerStream) error {
		hello := new(pushHello)
		if err := stream.RecvMsg(hello); err != nil {
			return err
		}
		if ours := cluster(); !guard.Check("rpc.replication-cluster", ours == hello.cluster) {
			return status.Errorf(codes.FailedPrecondition, "the leader belongs to cluster %q, this broker to %q", hello.cluster, ours)
		}
		if err := Admit(stream.Context(), fmt.Sprintf("a stream of replication of broker %d", hello.leader.Broker), int64(hello.leader.Broker), pki.RoleBroker); err != nil {
			return err
		}
		return h.TakePushes(stream.Context(), hello.leader, hello.follower, &FollowerStream{stream})
	}
	s.RegisterService(&desc, h)
}

const replicationMethod = "/rustmq.rpc.Replication/Push"

func replicationService() grpc.ServiceDesc {
	return grpc.ServiceDesc{
		ServiceName: "rustmq.rpc.Replication", HandlerType: (*PushHandler)(nil),
		Streams: []grpc.StreamDesc{{StreamName: "Push", ServerStreams: true, ClientStreams: true}},
	}
}
