package consensus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
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
	ids      []uint64 // that a group begins with
	mu       sync.Mutex
	nodes    map[uint64]*Node
	doors    map[uint64]Receiver
	cut      map[uint64]bool // members that nothing reaches, and that reach nobody
	asks     map[uint64]bool // members that get no answer when they ask
	lose     func() bool     // whether a message is lost; nil: none is. Called under mu
	fs       map[uint64]*disk.Mem
	faults   map[uint64]*disk.Faulty // over them, where there is a map
	joined   map[uint64]bool
	lives    map[uint64]byte // of the directory of a member
	machines map[uint64]*register
}

// port is the network of one member.
type port struct {
	c    *cluster
	from Member
}

// memberOf is a member in its first directory.
func memberOf(id uint64) Member { return Member{ID: id, Directory: [16]byte{byte(id)}} }

func (c *cluster) member(id uint64) Member {
	m := memberOf(id)
	m.Directory[1] = c.lives[id]
	return m
}

// door returns who answers for a member, nil while nobody does that from can reach.
func (p port) door(to uint64) Receiver {
	p.c.mu.Lock()
	defer p.c.mu.Unlock()
	if p.c.cut[to] || p.c.cut[p.from.ID] {
		return nil
	}
	return p.c.doors[to]
}

func (p port) Attach(r Receiver) {
	p.c.mu.Lock()
	defer p.c.mu.Unlock()
	p.c.doors[p.from.ID] = r
}

func (p port) Send(m Message) {
	err := errors.New("nobody is there")
	p.c.mu.Lock()
	lost := p.c.lose != nil && p.c.lose()
	p.c.mu.Unlock()
	if lost {
		if m.Raft.GetType() != raftpb.MsgSnap { // how one ended is always told
			return
		}
	} else if door := p.door(m.To.ID); door != nil {
		copied := m
		copied.Raft = proto.Clone(m.Raft).(*raftpb.Message) // as if it had been sent in bytes
		err = door.Receive(copied)
	}
	p.c.mu.Lock()
	from := p.c.nodes[p.from.ID]
	p.c.mu.Unlock()
	switch {
	case from == nil:
	case m.Raft.GetType() == raftpb.MsgSnap:
		from.SnapshotSent(m.To.ID, err)
	case err != nil:
		from.Unreachable(m.To.ID)
	}
}

func (p port) Hello(_ context.Context, peer uint64) (Hello, error) {
	door := p.door(peer)
	p.c.mu.Lock()
	unheard := p.c.asks[p.from.ID]
	p.c.mu.Unlock()
	if door == nil || unheard {
		return Hello{}, errors.New("nobody is there")
	}
	return door.Hello()
}

func emptyCluster(t *testing.T, ids ...uint64) *cluster {
	return &cluster{
		t: t, ids: ids, nodes: map[uint64]*Node{}, doors: map[uint64]Receiver{}, cut: map[uint64]bool{}, asks: map[uint64]bool{},
		fs: map[uint64]*disk.Mem{}, joined: map[uint64]bool{}, lives: map[uint64]byte{}, machines: map[uint64]*register{},
	}
}

func newCluster(t *testing.T, ids ...uint64) *cluster {
	t.Helper()
	c := emptyCluster(t, ids...)
	c.start(ids...)
	return c
}

func (c *cluster) options(id uint64) Options {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fs[id] == nil {
		c.fs[id] = disk.NewMem(disk.MemOptions{})
	}
	member := c.member(id)
	opt := Options{
		NodeID: id, Directory: member.Directory, FS: c.fs[id], Network: port{c, member}, SnapshotEntries: 500, LogCapacity: minLogCapacity,
		Joined: c.joined[id], Join: !slices.Contains(c.ids, id),
		OnJoined: func() error {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.joined[id] = true
			return nil
		},
	}
	if c.faults != nil {
		c.faults[id] = disk.NewFaulty(c.fs[id])
		opt.FS = c.faults[id]
	}
	for _, other := range c.ids {
		if other != id {
			opt.Peers = append(opt.Peers, other)
		}
	}
	return opt
}

// start opens members side by side, as each waits for the others.
func (c *cluster) start(ids ...uint64) {
	c.t.Helper()
	var opening sync.WaitGroup
	for _, id := range ids {
		opening.Go(func() {
			if err := c.open(c.t.Context(), id); err != nil {
				c.t.Errorf("open member %d: %v", id, err)
			}
		})
	}
	opening.Wait()
	if c.t.Failed() {
		c.t.FailNow()
	}
}

func (c *cluster) open(ctx context.Context, id uint64) error {
	opt := c.options(id)
	machine := &register{}
	opt.StateMachine = machine
	n, err := Open(ctx, opt)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		delete(c.doors, id)
		return err
	}
	c.nodes[id], c.machines[id] = n, machine
	return nil
}

func (c *cluster) stop(id uint64) {
	c.t.Helper()
	c.mu.Lock()
	n := c.nodes[id]
	delete(c.nodes, id)
	delete(c.doors, id)
	c.mu.Unlock()
	closeNode(c.t, n)
}

// wipe takes the directory of a member that is stopped: it is another one from now on.
func (c *cluster) wipe(id uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lives[id]++
	delete(c.fs, id)
	delete(c.joined, id)
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
		c.propose(c.leader(), "a")
		c.agree()
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
			if err := n.Receive(Message{From: try.from, To: memberOf(1), Raft: try.m}); err == nil {
				t.Errorf("%s: taken", name)
			}
		}
		if err := n.Receive(Message{From: memberOf(2), To: Member{ID: 1, Directory: [16]byte{98}}, Raft: vote(2, 1, raftpb.MsgVote)}); err == nil {
			t.Error("a vote for another directory: taken")
		}
		if err := n.Receive(Message{From: memberOf(2), To: memberOf(1), Raft: vote(2, 1, raftpb.MsgVote)}); err != nil {
			t.Errorf("a member's vote: %v", err)
		}
	})
}

// TestShorterLogThanAcked: a member whose log is shorter than what it has told the leader
// ends with an error that names the log, and takes nothing more.
func TestShorterLogThanAcked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, 2, 3)
		defer c.close()
		leads := c.leader()
		c.propose(leads, "a")
		c.agree()
		leader, id := leads.opt.NodeID, uint64(1)
		if leader == id {
			id = 2
		}
		n := c.nodes[id]
		beat := &raftpb.Message{
			Type: raftpb.MsgHeartbeat.Enum(), From: new(leader), To: new(id), Term: new(n.Status().Term), Commit: new(uint64(1 << 20)),
		}
		if err := n.Receive(Message{From: memberOf(leader), To: memberOf(id), Raft: beat}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		err := n.Receive(Message{From: memberOf(leader), To: memberOf(id), Raft: beat})
		if damaged, ok := errors.AsType[*CorruptionError](err); !ok || !strings.Contains(damaged.Error(), "recover --join") {
			t.Errorf("a message after it: %v", err)
		}
	})
}
