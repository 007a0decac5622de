package consensus

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"rustmq.dev/rustmq/storage/disk"
)

// cluster is several members joined by a network in memory. It lives in a
// synctest bubble: time passes when everybody waits.
type cluster struct {
	t        *testing.T
	mu       sync.Mutex
	nodes    map[uint64]*Node
	cut      map[uint64]bool // members that nothing reaches, and that reach nobody
	notEmpty bool
	fs       map[uint64]*disk.Mem
	machines map[uint64]*register
}

// port is the network of one member.
type port struct {
	c    *cluster
	from Member
}

func memberOf(id uint64) Member { return Member{ID: id, Directory: [16]byte{byte(id)}} }

func (p port) Send(to Member, m *raftpb.Message) {
	p.c.mu.Lock()
	node := p.c.nodes[to.ID]
	lost := p.c.cut[to.ID] || p.c.cut[p.from.ID] || node == nil
	p.c.mu.Unlock()
	if lost {
		return
	}
	copied := proto.Clone(m).(*raftpb.Message) // as if it had been sent in bytes
	_ = node.Receive(p.from, copied)
}

func (p port) Empty(context.Context, Member) (bool, error) { return !p.c.notEmpty, nil }

func newCluster(t *testing.T, ids ...uint64) *cluster {
	t.Helper()
	c := &cluster{t: t, nodes: map[uint64]*Node{}, cut: map[uint64]bool{}, fs: map[uint64]*disk.Mem{}, machines: map[uint64]*register{}}
	for _, id := range ids {
		c.fs[id] = disk.NewMem(disk.MemOptions{})
	}
	for _, id := range ids {
		c.start(id)
	}
	return c
}

func (c *cluster) options(id uint64) Options {
	opt := Options{NodeID: id, Directory: memberOf(id).Directory, FS: c.fs[id], Network: port{c, memberOf(id)}, SnapshotEntries: 500, LogCapacity: minLogCapacity}
	for other := range c.fs {
		if other != id {
			opt.Peers = append(opt.Peers, memberOf(other))
		}
	}
	return opt
}

func (c *cluster) start(id uint64) {
	c.t.Helper()
	opt := c.options(id)
	machine := &register{}
	opt.StateMachine = machine
	n, err := Open(c.t.Context(), opt)
	if err != nil {
		c.t.Fatalf("open member %d: %v", id, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.nodes[id], c.machines[id] = n, machine
}

func (c *cluster) stop(id uint64) {
	c.t.Helper()
	c.mu.Lock()
	n := c.nodes[id]
	delete(c.nodes, id)
	c.mu.Unlock()
	closeNode(c.t, n)
}

func (c *cluster) close() {
	for id := range c.fs {
		if c.nodes[id] != nil {
			c.stop(id)
		}
	}
}

func (c *cluster) isolate(id uint64, cut bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cut[id] = cut
}

// leader waits for a leader that is not among those excluded.
func (c *cluster) leader(except ...uint64) *Node {
	c.t.Helper()
	for range 200 {
		synctest.Wait()
		for id, n := range c.nodes {
			excluded := false
			for _, e := range except {
				excluded = excluded || e == id
			}
			if !excluded && n.Leader() == id {
				return n
			}
		}
		time.Sleep(DefaultTick) // simulated
	}
	c.t.Fatal("nobody was elected")
	return nil
}

// agree waits until all members have applied the same.
func (c *cluster) agree() {
	c.t.Helper()
	var got string
	for range 200 {
		time.Sleep(DefaultTick) // simulated
		synctest.Wait()
		got = ""
		same := true
		for id := range c.nodes {
			state := c.machines[id].String()
			same = same && (got == "" || got == state)
			got = state
		}
		if same {
			return
		}
	}
	for id := range c.nodes {
		c.t.Errorf("member %d: %+v", id, c.nodes[id].Status())
	}
	c.t.FailNow()
}

func (c *cluster) propose(n *Node, commands ...string) {
	c.t.Helper()
	var proposals []*Proposal
	for _, command := range commands {
		proposals = append(proposals, n.Start([]byte(command)))
	}
	for i, p := range proposals {
		if _, err := p.Wait(c.t.Context()); err != nil {
			c.t.Fatalf("propose %q: %v", commands[i], err)
		}
	}
}

func TestThreeMembersApplyTheSame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, 2, 3)
		defer c.close()
		c.propose(c.leader(), "a", "b", "c")
		c.agree()
		for id, n := range c.nodes {
			if err := n.Barrier(t.Context()); err != nil {
				t.Errorf("barrier at member %d: %v", id, err)
			}
			if n.Leader() == id {
				continue
			}
			_, err := n.Propose(t.Context(), []byte("d"))
			notLeader, ok := errors.AsType[*NotLeaderError](err)
			if !ok || notLeader.Leader != c.leader().opt.NodeID {
				t.Errorf("proposal to follower %d: %v", id, err)
			}
		}
	})
}

// TestDeposedLeaderForgetsWhatNobodyHas cuts the leader off: what it proposes
// then is not acknowledged, and is gone when it is back.
func TestDeposedLeaderForgetsWhatNobodyHas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, 2, 3)
		defer c.close()
		old := c.leader()
		c.propose(old, "a")
		c.isolate(old.opt.NodeID, true)
		if _, err := old.Propose(t.Context(), []byte("lost")); !errors.Is(err, ErrLeadershipLost) {
			t.Fatalf("proposal to the leader that nobody hears: %v", err)
		}
		c.propose(c.leader(old.opt.NodeID), "b")
		c.isolate(old.opt.NodeID, false)
		c.agree()
		if got := fmt.Sprint(c.machines[old.opt.NodeID].commands); got != "[a b]" {
			t.Fatalf("the old leader has applied %s", got)
		}
	})
}

// TestFollowerBehindTheLogTakesASnapshot leaves a member away until the log
// that it lacks is gone; then restarts it once more.
func TestFollowerBehindTheLogTakesASnapshot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, 2, 3)
		defer c.close()
		away := c.leader().opt.NodeID%3 + 1
		c.propose(c.leader(), "first")
		c.stop(away)
		for i := range 40 {
			var batch []string
			for j := range 100 {
				batch = append(batch, fmt.Sprintf("%d/%d", i, j))
			}
			c.propose(c.leader(), batch...)
		}
		c.start(away)
		c.agree()
		if s := c.nodes[away].Status(); s.Snapshot < 500 {
			t.Fatalf("it took no snapshot: %+v", s)
		}
		c.stop(away)
		c.propose(c.leader(), "last")
		c.start(away)
		c.agree()
	})
}

func TestReceiveRefusesStrangers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, 2, 3)
		defer c.close()
		n := c.nodes[1]
		vote := func(from, to uint64, kind raftpb.MessageType) *raftpb.Message {
			return &raftpb.Message{Type: kind.Enum(), From: new(from), To: new(to), Term: new(uint64(100))}
		}
		wiped := Member{ID: 2, Directory: [16]byte{99}}
		for name, try := range map[string]struct {
			from Member
			m    *raftpb.Message
		}{
			"another directory": {wiped, vote(2, 1, raftpb.MsgVote)},
			"unknown member":    {Member{ID: 9}, vote(9, 1, raftpb.MsgVote)},
			"in another's name": {memberOf(2), vote(3, 1, raftpb.MsgVote)},
			"to another":        {memberOf(2), vote(2, 3, raftpb.MsgVote)},
			"local message":     {memberOf(2), vote(2, 1, raftpb.MsgStorageAppendResp)},
		} {
			if err := n.Receive(try.from, try.m); err == nil {
				t.Errorf("%s: taken", name)
			}
		}
		if err := n.Receive(memberOf(2), vote(2, 1, raftpb.MsgVote)); err != nil {
			t.Errorf("a member's vote: %v", err)
		}
	})
}

// TestWipedVoterDoesNotRebootstrap: an empty log begins a group only if all
// peers are empty (RULES 4.1).
func TestWipedVoterDoesNotRebootstrap(t *testing.T) {
	c := &cluster{t: t, notEmpty: true, fs: map[uint64]*disk.Mem{1: disk.NewMem(disk.MemOptions{}), 2: nil}}
	opt := c.options(1)
	opt.StateMachine = &register{}
	_, err := Open(t.Context(), opt)
	if _, ok := errors.AsType[*LostLogError](err); !ok {
		t.Fatalf("open: %v", err)
	}
}
