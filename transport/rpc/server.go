package rpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"rustmq.dev/rustmq/consensus"
	"rustmq.dev/rustmq/security/pki"
	"rustmq.dev/rustmq/storage/guard"
	"rustmq.dev/rustmq/transport/rpc/rpcpb"
)

// server answers peers.
type server struct {
	rpcpb.UnimplementedRaftServer
	r *Raft
}

// accept returns who takes what a peer says that knows that cluster.
func (s server) accept(cluster string) (consensus.Receiver, error) {
	if err := s.r.sameCluster(cluster); !guard.Check("rpc.cluster", err == nil) {
		return nil, status.Error(codes.FailedPrecondition, "the other controller: "+err.Error())
	}
	if node := s.r.attached(); node != nil {
		return node, nil
	}
	return nil, status.Error(codes.Unavailable, "this controller is still starting")
}

func (s server) Hello(_ context.Context, q *rpcpb.HelloRequest) (*rpcpb.HelloReply, error) {
	node, err := s.accept(q.GetClusterId())
	if err != nil {
		return nil, err
	}
	h, err := node.Hello()
	if err != nil {
		return nil, status.Error(codes.Unavailable, err.Error())
	}
	reply := &rpcpb.HelloReply{Member: wireMember(h.Member), First: h.First, Joins: h.Joins, ClusterId: s.r.o.Cluster()}
	for _, m := range h.Begun {
		reply.Begun = append(reply.Begun, wireMember(m))
	}
	return reply, nil
}

func (s server) Messages(stream grpc.BidiStreamingServer[rpcpb.MessageBatch, rpcpb.MessagesTaken]) error {
	for {
		batch, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		node, err := s.accept(batch.GetClusterId())
		if err != nil {
			return err
		}
		m, err := messageBetween(stream.Context(), batch.GetFrom(), batch.GetTo())
		if err != nil {
			return err
		}
		taken := new(rpcpb.MessagesTaken)
		for _, e := range batch.GetMessages() {
			if err := receive(node, m, e.GetChanged(), e.GetRaft()); err != nil {
				taken.Refused = err.Error()
			}
		}
		if err := stream.Send(taken); err != nil {
			return err
		}
	}
}

// Snapshot takes one snapshot; memory grows with what has come, not with what is said
// to come.
func (s server) Snapshot(stream grpc.ClientStreamingServer[rpcpb.SnapshotChunk, rpcpb.SnapshotTaken]) error {
	select {
	case s.r.receiving <- struct{}{}:
		defer func() { <-s.r.receiving }()
	default:
		return status.Error(codes.ResourceExhausted, "another snapshot comes in")
	}
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	node, err := s.accept(first.GetClusterId())
	if err != nil {
		return err
	}
	m, err := messageBetween(stream.Context(), first.GetFrom(), first.GetTo())
	if err != nil {
		return err
	}
	size := first.GetSize()
	if !guard.Check("rpc.snapshot-size", size <= uint64(s.r.o.MaxSnapshot)) {
		return status.Errorf(codes.ResourceExhausted, "a snapshot of %d bytes, at most %d are taken", size, s.r.o.MaxSnapshot)
	}
	data := first.GetData()
	for uint64(len(data)) < size {
		chunk, err := stream.Recv()
		if err != nil {
			return err
		}
		if more := len(data) + len(chunk.GetData()); more > cap(data) {
			// What is claimed is believed by as much again as has come: so there is never more than half of it twice.
			data = append(make([]byte, 0, max(more, min(int(size), 2*more))), data...)
		}
		data = append(data, chunk.GetData()...)
	}
	if uint64(len(data)) != size {
		return status.Errorf(codes.InvalidArgument, "%d bytes of a snapshot of %d", len(data), size)
	}
	if err := receiveSnapshot(node, m, first.GetChanged(), data); err != nil {
		return status.Error(codes.FailedPrecondition, err.Error())
	}
	return stream.SendAndClose(new(rpcpb.SnapshotTaken))
}

func receive(node consensus.Receiver, m consensus.Message, changed uint64, raft []byte) error {
	m.Changed, m.Raft = changed, new(raftpb.Message)
	if err := proto.Unmarshal(raft, m.Raft); err != nil {
		return fmt.Errorf("%d bytes that are no message of raft: %w", len(raft), err)
	}
	return node.Receive(m)
}

// receiveSnapshot is receive of a message that has its image last, as [splitSnapshot] has it: the image is not copied.
func receiveSnapshot(node consensus.Receiver, m consensus.Message, changed uint64, raft []byte) error {
	rest, image := splitImage(raft)
	m.Changed, m.Raft = changed, new(raftpb.Message)
	if err := proto.Unmarshal(rest, m.Raft); err != nil {
		return fmt.Errorf("%d bytes that are no message of raft: %w", len(raft), err)
	}
	if image != nil {
		if m.Raft.Snapshot == nil {
			m.Raft.Snapshot = new(raftpb.Snapshot)
		}
		m.Raft.Snapshot.Data = image
	}
	return node.Receive(m)
}

// messageBetween is an empty message, from the caller as its certificate says.
func messageBetween(ctx context.Context, from, to *rpcpb.Member) (m consensus.Message, err error) {
	if m.From, err = memberOf(from); err == nil {
		m.To, err = memberOf(to)
	}
	if err != nil {
		return m, status.Error(codes.InvalidArgument, err.Error())
	}
	if m.From.ID > math.MaxInt32 { // which no node has
		return m, status.Errorf(codes.InvalidArgument, "a member with id %d", m.From.ID)
	}
	return m, Admit(ctx, fmt.Sprintf("messages of controller %d", m.From.ID), int64(m.From.ID), pki.RoleController)
}

func wireMember(m consensus.Member) *rpcpb.Member {
	return &rpcpb.Member{Id: m.ID, Directory: m.Directory[:]}
}

func memberOf(m *rpcpb.Member) (consensus.Member, error) {
	out := consensus.Member{ID: m.GetId()}
	if len(m.GetDirectory()) != len(out.Directory) || out.ID == 0 {
		return out, fmt.Errorf("a member with id %d and a directory id of %d bytes", out.ID, len(m.GetDirectory()))
	}
	copy(out.Directory[:], m.GetDirectory())
	return out, nil
}
