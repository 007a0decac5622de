package rpc

import (
	"context"
	"fmt"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"rustmq.dev/rustmq/consensus"
	"rustmq.dev/rustmq/security/pki"
	"rustmq.dev/rustmq/transport/rpc/rpcpb"
)

const (
	// chunkBytes is what of a snapshot goes in one message. Each has the patience of
	// a batch, so that a line of 64 KiB a second is quick enough.
	chunkBytes = 64 << 10
	// snapshotPatience is how long the other side may take to take over a snapshot.
	snapshotPatience = 30 * time.Second
)

// sendSnapshot sends a message in chunks, and tells the node how that ended.
func (r *Raft) sendSnapshot(m consensus.Message) {
	err := r.snapshot(m)
	if err != nil {
		r.o.Log.Warn("a snapshot was not sent", "peer", m.To.ID, "error", err)
	}
	if node := r.attached(); node != nil {
		node.SnapshotSent(m.To.ID, err)
	}
}

// snapshot sends on a connection of its own, which ends with it: a slow one delays no
// message to that peer. What is under way is bounded by the window of the other side
// ([RaftWindow]); the image itself is lent, and not copied.
func (r *Raft) snapshot(m consensus.Message) error {
	head, image, err := splitSnapshot(m.Raft)
	if err != nil {
		return fmt.Errorf("encode the snapshot for controller %d: %w", m.To.ID, err)
	}
	address, known := r.o.Address(m.To.ID)
	if !known {
		return fmt.Errorf("the address of controller %d is not known", m.To.ID)
	}
	own := newLines(r.o.Mutual, pki.RoleController, r.o.Dial)
	defer own.close()
	line, err := own.toNode(address, int64(m.To.ID))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(r.ctx)
	defer cancel()
	late := time.AfterFunc(r.o.Patience, cancel)
	defer late.Stop()
	stream, err := rpcpb.NewRaftClient(line).Snapshot(ctx)
	if err != nil {
		return fmt.Errorf("reach controller %d at %s: %w", m.To.ID, address, err)
	}
	chunk := &rpcpb.SnapshotChunk{
		From: wireMember(m.From), To: wireMember(m.To), ClusterId: r.o.Cluster(), Changed: m.Changed,
		Size: uint64(len(head) + len(image)), Data: head,
	}
	for {
		late.Reset(r.o.Patience)
		if err := stream.Send(chunk); err != nil || len(image) == 0 {
			break // of an error CloseAndRecv says why
		}
		n := min(chunkBytes, len(image))
		chunk = &rpcpb.SnapshotChunk{Data: image[:n]}
		image = image[n:]
	}
	late.Reset(snapshotPatience)
	if _, err := stream.CloseAndRecv(); err != nil {
		return fmt.Errorf("send a snapshot to controller %d at %s: %w", m.To.ID, address, err)
	}
	return nil
}

const snapshotField, dataField = 9, 1 // of raftpb.Message, of raftpb.Snapshot

// splitImage takes an encoded message apart into the image that ends it, which is part of b, and what
// is before it. A message that ends otherwise is returned as it is.
func splitImage(b []byte) (rest, image []byte) {
	for at := 0; at < len(b); {
		number, kind, n := protowire.ConsumeField(b[at:])
		if n < 0 {
			return b, nil
		}
		if field := b[at : at+n]; at+n == len(b) && number == snapshotField && kind == protowire.BytesType {
			inner, _ := protowire.ConsumeBytes(field[protowire.SizeTag(snapshotField):])
			number, kind, m := protowire.ConsumeField(inner)
			if number != dataField || kind != protowire.BytesType || m != len(inner) {
				return b, nil
			}
			image, _ = protowire.ConsumeBytes(inner[protowire.SizeTag(dataField):])
			return b[:at], image
		}
		at += n
	}
	return b, nil
}

// splitSnapshot encodes a message in two parts, of which the second is the image that it
// has, as it is.
func splitSnapshot(m *raftpb.Message) (head, image []byte, err error) {
	image = m.GetSnapshot().GetData()
	rest := &raftpb.Message{}
	m.ProtoReflect().Range(func(field protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		rest.ProtoReflect().Set(field, v)
		return true
	})
	if m.GetSnapshot() == nil {
		head, err = proto.Marshal(rest)
		return head, nil, err
	}
	rest.Snapshot = &raftpb.Snapshot{Metadata: m.GetSnapshot().GetMetadata()}
	if head, err = proto.Marshal(rest); err != nil {
		return nil, nil, err
	}
	// A field of a message that comes twice is merged: the second has the image alone.
	inner := protowire.SizeTag(dataField) + protowire.SizeBytes(len(image))
	head = protowire.AppendVarint(protowire.AppendTag(head, snapshotField, protowire.BytesType), uint64(inner))
	head = protowire.AppendVarint(protowire.AppendTag(head, dataField, protowire.BytesType), uint64(len(image)))
	return head, image, nil
}
