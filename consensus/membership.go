package consensus

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"

	"rustmq.dev/rustmq/storage/guard"
)

// ChangeOp is what becomes of a member.
type ChangeOp int

// Members begin as learners, who are sent the log and have no vote.
const (
	AddLearner ChangeOp = iota
	Promote             // a learner that has caught up: it gets a vote
	Remove              // voter or learner
)

// Change of one member. Promote and Remove look at the id alone.
type Change struct {
	Op     ChangeOp
	Member Member
}

// MemberStatus is a member of the applied configuration, as this one knows it.
type MemberStatus struct {
	Member
	Learner bool
	// Of the others, the leader alone knows: the index up to which the member has the
	// log, and whether it was heard of within the last election timeout.
	Match  uint64
	Active bool
}

// ChangeError says why members cannot be changed so. Nothing was written.
type ChangeError struct {
	Member uint64
	Reason string
	Behind bool // it is to be given a vote, and will be able to later
}

func (e *ChangeError) Error() string {
	return fmt.Sprintf("consensus: member %d %s", e.Member, e.Reason)
}

// change is a change of the members on its way.
type change struct {
	changes []Change
	context []byte // of its entry, once that is proposed
	entered bool   // the entry is applied; if it led into a joint configuration, that is still to be left
	done    chan error
}

// ChangeMembers carries out changes as one, through a joint configuration where they
// concern several votes, and returns when the resulting configuration is applied here,
// and a majority of it knows that it is committed: members that were removed can be
// stopped. One change is under way at a time. A leader does not remove itself: it hands
// over to another one, which is to be asked again.
//
// Errors: *ChangeError, ErrChanging, *NotLeaderError, ErrLeadershipLost (it may still
// happen), and that of ctx (as well).
func (n *Node) ChangeMembers(ctx context.Context, changes ...Change) error {
	c := &change{changes: changes, done: make(chan error, 1)}
	n.mu.Lock()
	if ended := n.ended; ended != nil {
		n.mu.Unlock()
		return ended
	}
	n.waiting.changes = append(n.waiting.changes, c)
	n.notify()
	n.mu.Unlock()
	select {
	case err := <-c.done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Members returns the members, in order of id.
func (n *Node) Members(ctx context.Context) ([]MemberStatus, error) {
	answer := make(chan []MemberStatus, 1)
	n.mu.Lock()
	if ended := n.ended; ended != nil {
		n.mu.Unlock()
		return nil, ended
	}
	n.waiting.asked = append(n.waiting.asked, answer)
	n.notify()
	n.mu.Unlock()
	select {
	case members, ok := <-answer:
		if !ok {
			return nil, ErrClosed
		}
		return members, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// memberStatus answers Members.
func (l *loop) memberStatus() []MemberStatus {
	progress := l.raft.Status().Progress // empty but on the leader
	var all []MemberStatus
	for _, m := range l.members {
		s := MemberStatus{Member: m, Learner: slices.Contains(l.conf.GetLearners(), m.ID)}
		if p, ok := progress[m.ID]; ok {
			s.Match, s.Active = p.Match, p.RecentActive || m.ID == l.self.ID
		}
		all = append(all, s)
	}
	return all
}

// changeMembers begins a change.
func (l *loop) changeMembers(c *change) error {
	status := l.raft.BasicStatus()
	switch {
	case status.RaftState != raft.StateLeader:
		return &NotLeaderError{Leader: status.Lead}
	// raft drops, without a word, a change that comes while one may be under way.
	case l.change != nil, len(l.conf.GetVotersOutgoing()) > 0, l.appliedTerm != status.HardState.GetTerm():
		return ErrChanging
	}
	members, steps, err := l.plan(c.changes)
	if err != nil {
		return err
	}
	if !slices.Contains(members, l.self) {
		l.handOver(members)
		return &NotLeaderError{}
	}
	c.context = encodeMembers(members)
	if err := l.raft.ProposeConfChange(&raftpb.ConfChangeV2{Changes: steps, Context: c.context}); err != nil {
		return &NotLeaderError{Leader: status.Lead}
	}
	l.change = c
	return nil
}

// plan returns the members that result, in order of id, and what raft calls the changes.
func (l *loop) plan(changes []Change) (members []Member, steps []*raftpb.ConfChangeSingle, err error) {
	members = slices.Clone(l.members)
	voters := len(l.conf.GetVoters())
	touched := map[uint64]bool{}
	for _, c := range changes {
		id := c.Member.ID
		at := slices.IndexFunc(members, func(m Member) bool { return m.ID == id })
		learner := slices.Contains(l.conf.GetLearners(), id)
		refuse := func(reason string) error { return &ChangeError{Member: id, Reason: reason} }
		var kind raftpb.ConfChangeType
		switch {
		case touched[id]:
			return nil, nil, refuse("is named twice in one change")
		case c.Op == AddLearner && at >= 0:
			return nil, nil, refuse("is a member already; remove it first if it has lost its directory")
		case c.Op == AddLearner && id == 0:
			return nil, nil, refuse("has no id")
		case c.Op == AddLearner:
			members = append(members, c.Member)
			kind = raftpb.ConfChangeAddLearnerNode
		case at < 0:
			return nil, nil, refuse("is no member")
		case c.Op == Promote && !learner:
			return nil, nil, refuse("has a vote already")
		case c.Op == Promote:
			if !guard.Check("consensus.promote-caught-up", l.caughtUp(id)) {
				return nil, nil, &ChangeError{Member: id, Reason: "has not caught up with the log yet; try again when it has", Behind: true}
			}
			kind, voters = raftpb.ConfChangeAddNode, voters+1
		default:
			members = slices.Delete(members, at, at+1)
			kind = raftpb.ConfChangeRemoveNode
			if !learner {
				voters--
			}
		}
		touched[id] = true
		steps = append(steps, &raftpb.ConfChangeSingle{Type: kind.Enum(), NodeId: new(id)})
	}
	if len(steps) == 0 || voters < 1 {
		return nil, nil, &ChangeError{Member: l.self.ID, Reason: "would be left without a member that has a vote"}
	}
	slices.SortFunc(members, func(a, b Member) int { return cmp.Compare(a.ID, b.ID) })
	return members, steps, nil
}

// caughtUp reports whether a learner lacks only what is under way to it.
func (l *loop) caughtUp(id uint64) bool {
	status := l.raft.Status()
	p, ok := status.Progress[id]
	return ok && p.RecentActive && p.State == tracker.StateReplicate && p.Match+caughtUp >= status.HardState.GetCommit()
}

// handOver asks the one of those members that has most of the log, and a vote already, to
// lead, and reports whether there is one.
func (l *loop) handOver(to []Member) bool {
	var best, match uint64
	for id, p := range l.raft.Status().Progress {
		known := slices.ContainsFunc(to, func(m Member) bool { return m.ID == id })
		if known && !p.IsLearner && p.RecentActive && p.Match > match {
			best, match = id, p.Match
		}
	}
	if best != 0 {
		l.raft.TransferLeader(best)
	}
	return best != 0
}

// settleChange tells a change that it has happened, once its configuration is not a
// joint one any more and the heartbeats that tell of it were answered: until then others
// might still ask for the votes of those that left.
func (l *loop) settleChange() {
	c := l.change
	if c == nil || !c.entered || len(l.conf.GetVotersOutgoing()) > 0 {
		return
	}
	l.numbers++
	l.reads[l.numbers] = &barrier{done: func(err error) {
		if l.change == c {
			l.change = nil
			c.done <- err
		}
	}}
	l.raft.ReadIndex(l.readContext(l.numbers))
}

// union returns members and those of others whose ids they do not have.
func union(members, others []Member) []Member {
	all := slices.Clone(members)
	for _, m := range others {
		if !slices.ContainsFunc(members, func(o Member) bool { return o.ID == m.ID }) {
			all = append(all, m)
		}
	}
	slices.SortFunc(all, func(a, b Member) int { return cmp.Compare(a.ID, b.ID) })
	return all
}

// membersIn returns those that conf names; a joint one names also who is to leave.
func membersIn(members []Member, conf *raftpb.ConfState) []Member {
	return slices.DeleteFunc(slices.Clone(members), func(m Member) bool {
		for _, ids := range [][]uint64{conf.GetVoters(), conf.GetVotersOutgoing(), conf.GetLearners(), conf.GetLearnersNext()} {
			if slices.Contains(ids, m.ID) {
				return false
			}
		}
		return true
	})
}
