package rpc

import (
	"slices"
	"testing"

	"go.etcd.io/raft/v3/raftpb"

	"rustmq.dev/rustmq/consensus"
)

// What a leader says of its log is sent in the order of the log: a commit that went before
// the entries that it is of would be refused, and the leader would send them again. Heartbeats
// go before all of it.
func TestACommitFollowsItsEntries(t *testing.T) {
	p := &peer{wake: make(chan struct{}, 1)}
	to := consensus.Member{ID: 2}
	add := func(kind raftpb.MessageType, index uint64, entries ...*raftpb.Entry) {
		p.add(consensus.Message{To: to, Raft: &raftpb.Message{Type: kind.Enum(), Index: new(index), Term: new(uint64(1)), Entries: entries}})
	}
	add(raftpb.MsgApp, 4, &raftpb.Entry{Index: new(uint64(5))}) // of a leader that was just elected: it has no data
	add(raftpb.MsgApp, 5, &raftpb.Entry{Index: new(uint64(6)), Data: make([]byte, 100)})
	add(raftpb.MsgApp, 6) // that those are committed; what follows says so too, and takes its place
	add(raftpb.MsgHeartbeat, 0)
	add(raftpb.MsgApp, 6, &raftpb.Entry{Index: new(uint64(7)), Data: make([]byte, 2*MaxBatch)})
	add(raftpb.MsgApp, 7) // that this is
	var got []uint64
	for batch := p.take(); len(batch) > 0; batch = p.take() {
		for _, m := range batch {
			got = append(got, m.Raft.GetIndex())
		}
	}
	if want := []uint64{0, 4, 5, 6, 7}; !slices.Equal(got, want) {
		t.Errorf("sent behind %v, not %v", got, want)
	}
}
