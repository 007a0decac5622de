package rpc

import (
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/experimental"
	"google.golang.org/grpc/keepalive"
)

// Bounds of a server, each against a peer that is ill: servers call a few others, and
// keep their streams.
const (
	// MaxReplication is the largest message that a server of brokers must be ready to take: the
	// records of one message to a follower, with what surrounds them.
	MaxReplication = 17 << 20
	// RaftWindow is what one controller may have under way to another that has not taken it
	// yet, of each connection, in bytes: what a slow line holds of a snapshot delays the
	// heartbeats that it carries too. The rest waits with its sender.
	RaftWindow = 256 << 10
	// maxStreams of one connection: calls under way.
	maxStreams = 1024
	// maxHeader bounds what comes before a message, in bytes.
	maxHeader = 16 << 10
	// handshakeTime is how long a new connection may take to say that it is one of gRPC.
	handshakeTime = 5 * time.Second
	// aliveAfter is how long a connection may be silent before it is asked whether it
	// lives, and aliveWait how long it may take to say so. Peers may ask as often as
	// aliveLeast.
	aliveAfter = 10 * time.Second
	aliveWait  = 5 * time.Second
	aliveLeast = time.Second
)

// NewServer returns a server for services of this package whose largest message has so
// many bytes: MaxMessage, or MaxReplication for those of brokers. It bounds what a peer
// may cost. With a gate each caller proves who it is, and what that one may not say is
// refused; nil: neither side proves who it is, which is for loopback. More options are
// those of [RaftWindows].
func NewServer(g *Gate, largest int, more ...grpc.ServerOption) *grpc.Server {
	options := []grpc.ServerOption{
		grpc.MaxRecvMsgSize(largest), grpc.MaxConcurrentStreams(maxStreams), grpc.MaxHeaderListSize(maxHeader),
		grpc.ConnectionTimeout(handshakeTime), grpc.ForceServerCodecV2(NewCodec()),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: aliveAfter, Timeout: aliveWait}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: aliveLeast, PermitWithoutStream: true}),
	}
	if largest >= MaxReplication { // records come in
		options = append(options, experimental.BufferPool(new(memory)), grpc.InitialWindowSize(pushWindow), grpc.InitialConnWindowSize(pushWindow), grpc.ReadBufferSize(pushBuffer))
	}
	if g != nil {
		options = append(options, grpc.Creds(newServerProof(g.mutual)), grpc.UnaryInterceptor(g.unary), grpc.StreamInterceptor(g.stream))
	}
	return grpc.NewServer(append(options, more...)...)
}

// RaftWindows are what a server of [Raft] has besides: [RaftWindow].
func RaftWindows() []grpc.ServerOption {
	return []grpc.ServerOption{grpc.InitialWindowSize(RaftWindow), grpc.InitialConnWindowSize(RaftWindow)}
}
