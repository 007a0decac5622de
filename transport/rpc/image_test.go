package rpc_test

import (
	"bytes"
	"runtime"
	"testing"
	"testing/synctest"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"rustmq.dev/rustmq/consensus"
	"rustmq.dev/rustmq/transport/rpc"
)

// weigher is a node that notes what is in memory when it is given a message.
type weigher struct {
	deaf
	live int64
}

func (w *weigher) Receive(m consensus.Message) error {
	w.live = liveHeap()
	return w.deaf.Receive(m)
}

// liveHeap is the bytes that are in use.
func liveHeap() int64 {
	runtime.GC()
	runtime.GC() // of what pools keep over the first
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestAnImageIsHeldOnce by who is sent it: metadata may have hundreds of megabytes.
func TestAnImageIsHeldOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size, beside = 16 << 20, 4 << 20 // what the connection has
		h := newHouse(t, 1, 2)
		taken, taker := rpc.NewRaft(h.options(2)), &weigher{}
		taken.Attach(taker)
		server := h.listen(2, taken)
		defer server.Stop()
		net, node := rpc.NewRaft(h.options(1)), &deaf{}
		net.Attach(node)
		image := bytes.Repeat([]byte("an image"), size/8)
		before := liveHeap()
		net.Send(consensus.Message{From: member(1), To: member(2), Raft: &raftpb.Message{
			Type: raftpb.MsgSnap.Enum(), From: proto.Uint64(1), To: proto.Uint64(2), Term: proto.Uint64(1),
			Snapshot: &raftpb.Snapshot{Data: image, Metadata: &raftpb.SnapshotMetadata{Index: proto.Uint64(9), Term: proto.Uint64(1)}},
		}})
		synctest.Wait()
		if len(node.snapshot) != 1 || node.snapshot[0] != nil {
			t.Fatalf("it was sent: %v", node.snapshot)
		}
		if got := taker.got[0].Raft.GetSnapshot(); !bytes.Equal(got.GetData(), image) || got.GetMetadata().GetIndex() != 9 {
			t.Errorf("it came as %d bytes, %v", len(got.GetData()), got.GetMetadata())
		}
		if held := taker.live - before; held > size+beside {
			t.Errorf("%d bytes are held for an image of %d", held, size)
		}
		if err := net.Close(); err != nil {
			t.Error(err)
		}
		if err := taken.Close(); err != nil {
			t.Error(err)
		}
	})
}
