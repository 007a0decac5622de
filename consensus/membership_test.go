package consensus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"rustmq.dev/rustmq/storage/disk"
)

// change carries out changes on whoever leads, trying on while that may help.
func (c *cluster) change(changes ...Change) {
	c.t.Helper()
	var err error
	for range 100 {
		err = c.leader().ChangeMembers(c.t.Context(), changes...)
		if _, refused := errors.AsType[*ChangeError](err); err == nil || refused && !strings.Contains(err.Error(), "caught up") {
			break
		}
		time.Sleep(DefaultTick) // simulated
	}
	if err != nil {
		c.t.Fatalf("change %+v: %v", changes, err)
	}
}

// voters returns the ids with a vote, as the leader has them.
func (c *cluster) voters() (ids []uint64) {
	c.t.Helper()
	members, err := c.leader().Members(c.t.Context())
	if err != nil {
		c.t.Fatal(err)
	}
	for _, m := range members {
		if !m.Learner {
			ids = append(ids, m.ID)
		}
	}
	return ids
}

// fill applies so much that the log has been cut behind snapshots.
func (c *cluster) fill() {
	c.t.Helper()
	for i := range 40 {
		var batch []string
		for j := range 100 {
			batch = append(batch, fmt.Sprintf("%d/%d", i, j))
		}
		c.propose(c.leader(), batch...)
	}
}

// TestGroupBeginsOnceAllAreThere starts members one after another; none leads, and
// nothing is written, before the last one has answered.
func TestGroupBeginsOnceAllAreThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := emptyCluster(t, 1, 2, 3)
		defer c.close()
		opened := make(chan error, 3)
		for _, id := range c.ids {
			if got := len(opened); got > 0 {
				t.Fatalf("%d members have begun without member %d", got, id)
			}
			go func() { opened <- c.open(t.Context(), id) }()
			time.Sleep(time.Minute) // simulated
			synctest.Wait()
		}
		for range c.ids {
			if err := <-opened; err != nil {
				t.Fatal(err)
			}
		}
		c.propose(c.leader(), "a")
		c.agree()
	})
}

// TestWaitForPeersEnds: who waits for peers that never come can be stopped.
func TestWaitForPeersEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := emptyCluster(t, 1, 2)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := c.open(ctx, 1); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "[2]") {
			t.Fatalf("open: %v", err)
		}
	})
}

// TestFirstMembersAgreeOnTheirNumber: two that were told of other first members begin
// nothing.
func TestFirstMembersAgreeOnTheirNumber(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := emptyCluster(t, 1, 2, 3)
		three := c.options(1)
		three.StateMachine = &register{}
		c.ids = []uint64{1, 2}
		two := c.options(2)
		two.StateMachine = &register{}
		errs := make(chan error, 2)
		for _, opt := range []Options{three, two} {
			go func() {
				_, err := Open(t.Context(), opt)
				errs <- err
			}()
		}
		if err := <-errs; err == nil || !strings.Contains(err.Error(), "name the same first controllers") {
			t.Errorf("open: %v", err)
		}
		c.mu.Lock()
		c.doors = map[uint64]Receiver{2: c.doors[2], 1: c.doors[1]}
		c.mu.Unlock()
		if err := <-errs; err == nil || !strings.Contains(err.Error(), "name the same first controllers") {
			t.Errorf("open: %v", err)
		}
	})
}

// TestWipedVoterDoesNotRebootstrap: an empty log begins a group only if all peers are
// empty (RULES 4.1). One that was wiped waits, votes for nobody, and is a member again
// only once it was added in its new directory.
func TestWipedVoterDoesNotRebootstrap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, 2, 3)
		defer c.close()
		c.propose(c.leader(), "a")
		c.agree()
		other := c.leader().opt.NodeID%3 + 1
		third := 6 - other - c.leader().opt.NodeID
		c.stop(other)
		c.wipe(other)
		c.start(other)
		if s := c.nodes[other].Status(); s.Member || s.Applied != 0 {
			t.Fatalf("a member in a new directory: %+v", s)
		}
		// With it, one of the two others would be a majority.
		c.stop(third)
		time.Sleep(time.Minute) // simulated
		for id, n := range c.nodes {
			if n.Leader() != 0 {
				t.Errorf("member %d follows %d", id, n.Leader())
			}
		}
		c.start(third)
		c.change(Change{Remove, Member{ID: other}})
		c.change(Change{AddLearner, c.member(other)})
		c.change(Change{Promote, Member{ID: other}})
		c.propose(c.leader(), "b")
		c.agree()
		if got := fmt.Sprint(c.machines[other].commands); got != "[a b]" {
			t.Fatalf("it has applied %s", got)
		}
	})
}

// early asks a member who it is as soon as that can be asked.
type early struct {
	Network
	said Hello
	err  error
}

func (e *early) Attach(r Receiver) {
	e.said, e.err = r.Hello()
	e.Network.Attach(r)
}

// TestAMemberThatReadsItsLogIsNotTakenForEmpty: what peers hear of a member before it has
// read its log is not that it has none, or they would begin another group with it.
func TestAMemberThatReadsItsLogIsNotTakenForEmpty(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, 2, 3)
		defer c.close()
		c.propose(c.leader(), "a")
		c.agree()
		c.stop(1)
		opt := c.options(1)
		asked := &early{Network: opt.Network}
		opt.Network, opt.StateMachine = asked, &register{}
		n, err := Open(t.Context(), opt)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = n.Close() }()
		if asked.err == nil && len(asked.said.Begun) == 0 {
			t.Errorf("a member with a log, while it reads it: %+v, want no answer", asked.said)
		}
		if h, err := n.Hello(); err != nil || len(h.Begun) != 3 {
			t.Errorf("once it has read it: %+v, %v", h, err)
		}
	})
}

// TestLostLogOfAMemberIsRefused: whoever has noted that it is a member does not begin
// anew, whatever peers say.
func TestLostLogOfAMemberIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, 2, 3)
		defer c.close()
		c.leader()
		for id := range c.nodes {
			if !c.joined[id] {
				t.Errorf("member %d has not noted that it is one", id)
			}
		}
		c.stop(3)
		delete(c.fs, 3)
		err := c.open(t.Context(), 3)
		if _, lost := errors.AsType[*LostLogError](err); !lost {
			t.Fatalf("open: %v", err)
		}
	})
}

// TestAMemberNotesItsLogInALaterStart, where the one that began the log came no further.
func TestAMemberNotesItsLogInALaterStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := emptyCluster(t, 1, 2)
		defer c.close()
		opt := c.options(2)
		opt.StateMachine, opt.OnJoined = &register{}, func() error { return errors.New("the disk is full") }
		failed := make(chan error, 1)
		go func() {
			_, err := Open(t.Context(), opt)
			failed <- err
		}()
		c.start(1)
		if err := <-failed; err == nil {
			t.Fatal("a member began that could not note its log")
		}
		c.start(2)
		c.propose(c.leader(), "a")
		c.agree()
		if !c.joined[2] {
			t.Error("its log is noted nowhere")
		}
	})
}

// TestMemberThatWasSlowToBeginIsSentTheLog: two of three have begun before the third,
// which had answered them, got answers itself.
func TestMemberThatWasSlowToBeginIsSentTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := emptyCluster(t, 1, 2, 3)
		defer c.close()
		c.asks[3] = true
		opened := make(chan error, 1)
		go func() { opened <- c.open(t.Context(), 3) }()
		c.start(1, 2)
		c.propose(c.leader(), "a")
		c.mu.Lock()
		c.asks[3] = false
		c.mu.Unlock()
		if err := <-opened; err != nil {
			t.Fatal(err)
		}
		c.propose(c.leader(), "b")
		c.agree()
		if s := c.nodes[3].Status(); !s.Member || !c.joined[3] {
			t.Fatalf("%+v", s)
		}
	})
}

// TestLearnerCatchesUpAndVotes adds a fourth member, whose log must come by a snapshot,
// and takes a first one out.
func TestLearnerCatchesUpAndVotes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, 2, 3)
		defer c.close()
		c.fill()
		c.start(4)
		if err := c.leader().ChangeMembers(t.Context(), Change{Promote, Member{ID: 4}}); err == nil {
			t.Error("a stranger was promoted")
		}
		c.isolate(4, true)
		c.change(Change{AddLearner, c.member(4)})
		err := c.leader().ChangeMembers(t.Context(), Change{Promote, Member{ID: 4}})
		if err == nil || !strings.Contains(err.Error(), "not caught up") {
			t.Errorf("a learner that has nothing was promoted: %v", err)
		}
		if got := c.voters(); !slices.Equal(got, []uint64{1, 2, 3}) {
			t.Errorf("voters %v", got)
		}
		c.isolate(4, false)
		c.change(Change{Promote, Member{ID: 4}})
		c.change(Change{Remove, Member{ID: 1}})
		if got := c.voters(); !slices.Equal(got, []uint64{2, 3, 4}) {
			t.Errorf("voters %v", got)
		}
		c.stop(1)
		c.propose(c.leader(), "last")
		c.agree()
		c.stop(4)
		c.start(4) // with its own log now
		c.agree()
	})
}

// TestTwoMembersAreReplacedAtOnce goes through a joint configuration.
func TestTwoMembersAreReplacedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, 2, 3)
		defer c.close()
		c.propose(c.leader(), "a")
		c.start(4, 5)
		c.change(Change{AddLearner, c.member(4)}, Change{AddLearner, c.member(5)})
		c.change(Change{Promote, Member{ID: 4}}, Change{Promote, Member{ID: 5}}, Change{Remove, Member{ID: 1}}, Change{Remove, Member{ID: 2}})
		if got := c.voters(); !slices.Equal(got, []uint64{3, 4, 5}) {
			t.Errorf("voters %v", got)
		}
		for _, id := range []uint64{1, 2} {
			c.stop(id)
		}
		c.propose(c.leader(), "b")
		c.agree()
	})
}

// TestLeaderCanBeRemoved: it hands over to another one, which removes it.
func TestLeaderCanBeRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, 2, 3)
		defer c.close()
		old := c.leader()
		c.propose(old, "a")
		c.change(Change{Remove, Member{ID: old.opt.NodeID}})
		c.stop(old.opt.NodeID) // none of the others needs it
		c.propose(c.leader(), "b")
		c.agree()
	})
}

func TestChangesThatMakeNoSenseAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, 2)
		defer c.close()
		c.propose(c.leader(), "a")
		for name, changes := range map[string][]Change{
			"nothing":             nil,
			"a member again":      {{AddLearner, c.member(2)}},
			"its new directory":   {{AddLearner, Member{ID: 2, Directory: [16]byte{9}}}},
			"no id":               {{AddLearner, Member{}}},
			"a voter's promotion": {{Promote, Member{ID: 2}}},
			"a stranger's":        {{Promote, Member{ID: 7}}},
			"a stranger's end":    {{Remove, Member{ID: 7}}},
			"twice":               {{Remove, Member{ID: 2}}, {AddLearner, c.member(2)}},
			"nobody left":         {{Remove, Member{ID: 1}}, {Remove, Member{ID: 2}}},
		} {
			err := c.leader().ChangeMembers(t.Context(), changes...)
			if _, refused := errors.AsType[*ChangeError](err); !refused {
				t.Errorf("%s: %v", name, err)
			}
		}
		follower := c.nodes[3-c.leader().opt.NodeID]
		err := follower.ChangeMembers(t.Context(), Change{Remove, Member{ID: 1}})
		if _, notLeader := errors.AsType[*NotLeaderError](err); !notLeader {
			t.Errorf("by a follower: %v", err)
		}
		leader := c.leader()
		c.isolate(follower.opt.NodeID, true) // nothing is committed
		first := make(chan error, 1)
		go func() { first <- leader.ChangeMembers(t.Context(), Change{AddLearner, memberOf(3)}) }()
		synctest.Wait()
		if err := leader.ChangeMembers(t.Context(), Change{AddLearner, memberOf(4)}); !errors.Is(err, ErrChanging) {
			t.Errorf("beside another: %v", err)
		}
		if err := <-first; !errors.Is(err, ErrLeadershipLost) {
			t.Errorf("a change that nobody confirms: %v", err)
		}
	})
}

// script is a network of peers that say what they are told to.
type script struct {
	asked int
	hello func(asked int, peer uint64) Hello
}

func (s *script) Attach(Receiver) {}
func (s *script) Send(Message)    {}
func (s *script) Hello(_ context.Context, peer uint64) (Hello, error) {
	s.asked++
	return s.hello(s.asked, peer), nil
}

// TestPeersAreAskedTwice: the directory that member 3 answered from is lost, with a vote
// that it gave in it, before the answer of its next one; a group that counts on
// the new one would forget that vote. The second round finds that member 2 has begun.
func TestPeersAreAskedTwice(t *testing.T) {
	first := []uint64{1, 2, 3}
	wiped := Member{ID: 3, Directory: [16]byte{33}}
	begun := []Member{memberOf(1), memberOf(2), memberOf(3)}
	net := &script{hello: func(asked int, peer uint64) Hello {
		switch {
		case peer == 3:
			return Hello{Member: wiped, First: first}
		case asked > 2:
			return Hello{Member: memberOf(2), First: first, Begun: begun}
		}
		return Hello{Member: memberOf(2), First: first}
	}}
	opt := options(disk.NewMem(disk.MemOptions{}), &register{})
	opt.Peers, opt.Network = []uint64{2, 3}, net
	n, err := Open(t.Context(), opt)
	if err != nil {
		t.Fatal(err)
	}
	defer closeNode(t, n)
	if s := n.Status(); s.Member || s.Applied != 0 {
		t.Fatalf("a group was begun: %+v", s)
	}
}

// TestANewMemberIsSentNoOldSnapshot: one from before it was added does not know it, and
// it would ignore it. Until there is a newer one, there is none.
func TestANewMemberIsSentNoOldSnapshot(t *testing.T) {
	fs := disk.NewMem(disk.MemOptions{})
	if err := fs.MkdirAll("snapshots"); err != nil {
		t.Fatal(err)
	}
	log := newEntryLog(&tape{})
	log.snapshots = snapshots{fs: fs, dir: "snapshots"}
	if err := log.snapshots.write(&snapshot{index: 5, term: 1, conf: new(raftpb.ConfState)}); err != nil {
		t.Fatal(err)
	}
	if _, err := log.Snapshot(); err != nil {
		t.Fatal(err)
	}
	log.configured(6)
	if _, err := log.Snapshot(); !errors.Is(err, raft.ErrSnapshotTemporarilyUnavailable) {
		t.Fatalf("a snapshot from before the change: %v", err)
	}
	if err := log.snapshots.write(&snapshot{index: 6, term: 1, conf: new(raftpb.ConfState)}); err != nil {
		t.Fatal(err)
	}
	if _, err := log.Snapshot(); err != nil {
		t.Fatal(err)
	}
}
