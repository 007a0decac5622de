package rpc

import (
	"bytes"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"rustmq.dev/rustmq/consensus"
)

// taker is a node that keeps the message it was given.
type taker struct {
	consensus.Receiver
	took consensus.Message
}

func (t *taker) Receive(m consensus.Message) error {
	t.took = m
	return nil
}

// What comes of a message with an image is what protobuf makes of the same bytes, and the image is
// where it came; so it is for messages that another encoder has made, and for none at all.
func TestASnapshotIsTakenAsItWasSent(t *testing.T) {
	with := func(data []byte) *raftpb.Message {
		return &raftpb.Message{
			Type: new(raftpb.MsgSnap), To: new(uint64(2)), Term: new(uint64(7)),
			Snapshot: &raftpb.Snapshot{Data: data, Metadata: &raftpb.SnapshotMetadata{Index: new(uint64(9)), Term: new(uint64(6)), ConfState: &raftpb.ConfState{Voters: []uint64{1, 2}}}},
		}
	}
	for what, m := range map[string]*raftpb.Message{
		"an image": with(bytes.Repeat([]byte("image"), 100)), "an empty one": with(nil), "one byte": with([]byte{0}),
		"none": {Type: new(raftpb.MsgApp), Commit: new(uint64(3))}, "nothing": {},
	} {
		head, image, err := splitSnapshot(m)
		if err != nil {
			t.Fatal(err)
		}
		whole, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		for how, sent := range map[string][]byte{"as it is sent": append(head, image...), "by protobuf": whole} {
			want := new(raftpb.Message)
			if err := proto.Unmarshal(sent, want); err != nil {
				t.Fatal(err)
			}
			var to taker
			if err := receiveSnapshot(&to, consensus.Message{}, 0, sent); err != nil {
				t.Fatal(err)
			}
			got := to.took.Raft.GetSnapshot().GetData()
			if !proto.Equal(to.took.Raft, want) || !bytes.Equal(got, m.GetSnapshot().GetData()) {
				t.Errorf("%s, %s: %v, want %v", what, how, to.took.Raft, want)
			}
			if n := len(got); how == "as it is sent" && n > 0 && &got[n-1] != &sent[len(sent)-1] {
				t.Errorf("%s was copied", what)
			}
		}
	}
	for _, damaged := range [][]byte{{0xff}, {snapshotField<<3 | 2, 200}, {snapshotField<<3 | 2, 2, dataField<<3 | 2, 9}} {
		if err := receiveSnapshot(new(taker), consensus.Message{}, 0, damaged); err == nil {
			t.Errorf("%v was taken", damaged)
		}
	}
}
