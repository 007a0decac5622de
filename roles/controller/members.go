package controller

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"rustmq.dev/rustmq/consensus"
	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/storage"
)

// MemberRole is what a controller is to the group.
type MemberRole string

const (
	Voter   MemberRole = "voter"
	Learner MemberRole = "learner" // is sent the log, and has no vote yet
	Waiting MemberRole = "waiting" // made itself known, and is no member
)

// Member is a controller, of the group or not.
type Member struct {
	ID        uint64
	Directory [16]byte // of its data directory
	Role      MemberRole
	Leads     bool
	// Raft and Controller are the host:port that it made known; "" if it has not, or from
	// another directory than that of the member.
	Raft, Controller string
	Match            uint64 // index up to which it has the log, as the leader knows
	Active           bool   // heard of within the last election timeout
}

// Group is the controllers, as the leader knows them.
type Group struct {
	Leader    uint64
	Term      uint64
	Committed uint64 // index up to which a majority has the log
	Snapshot  uint64 // index of the leader's newest snapshot
	Members   []Member

	// Damaged are partitions of which the broker that leads them has said that its log cannot
	// be read back whole, and that it serves nothing of them; a thousand at most.
	Damaged []storage.PartitionID
	// Troubles is what nodes find wrong with themselves.
	Troubles []NodeTrouble
}

// promotePause is between two looks whether a learner has caught up.
const promotePause = 200 * time.Millisecond

// Status is where this controller stands in the group.
func (c *Controller) Status() consensus.Status { return c.node.Status() }

// Members returns the controllers, in order of id, members first where one id is used by
// two directories. Only the controller that leads knows it: others answer NotController.
func (c *Controller) Members(ctx context.Context) (*Group, error) {
	status := c.node.Status()
	if status.Leader != uint64(c.opt.NodeID) {
		return nil, clientError(&consensus.NotLeaderError{Leader: status.Leader})
	}
	members, err := c.node.Members(ctx)
	if err != nil {
		return nil, clientError(err)
	}
	g := &Group{Leader: status.Leader, Term: status.Term, Committed: status.Committed, Snapshot: status.Snapshot}
	image := c.state.Image()
	for _, m := range members {
		role := Voter
		if m.Learner {
			role = Learner
		}
		is := Member{ID: m.ID, Directory: m.Directory, Role: role, Leads: m.ID == status.Leader, Match: m.Match, Active: m.Active}
		if known, ok := image.ControllerNode(m.ID); ok && known.Directory == m.Directory {
			is.Raft, is.Controller = known.Raft, known.Controller
		}
		g.Members = append(g.Members, is)
	}
	for known := range image.Controllers() {
		if !slices.ContainsFunc(members, func(m consensus.MemberStatus) bool { return m.ID == known.ID && m.Directory == known.Directory }) {
			g.Members = append(g.Members, Member{ID: known.ID, Directory: known.Directory, Role: Waiting, Raft: known.Raft, Controller: known.Controller})
		}
	}
	c.balanceMu.Lock()
	g.Damaged = c.balance.damage(c.opt.Now())
	c.balanceMu.Unlock()
	g.Troubles = c.troubles.told(c.opt.Now())
	if why := c.clock.stopped(); why != nil {
		g.Troubles = append(g.Troubles, NodeTrouble{c.opt.NodeID, Trouble{
			Kind: "clock", Severity: Warning, What: why.Error(),
			Do: "make sure that the time of that node is right, then `rustmq admin storage confirm-clock`: until then nothing is deleted by its age",
		}})
	}
	slices.SortStableFunc(g.Members, func(a, b Member) int { return cmp.Compare(a.ID, b.ID) })
	return g, nil
}

// AddController gives a controller that waits the log and then, once it has caught up, a
// vote; it returns when it has that. Whoever asks again goes on where a call was ended.
func (c *Controller) AddController(ctx context.Context, id uint64) error {
	if err := c.Ended(); err != nil {
		return c.leads()
	}
	known, ok := c.state.Image().ControllerNode(id)
	if !ok {
		return metadata.Errorf(metadata.ResourceNotFound, "controller %d has not made itself known: start it with the controllers of this cluster as its --peers, and add it then", id)
	}
	member := consensus.Member{ID: id, Directory: known.Directory}
	members, err := c.node.Members(ctx)
	if err != nil {
		return clientError(err)
	}
	at := slices.IndexFunc(members, func(m consensus.MemberStatus) bool { return m.ID == id })
	switch {
	case at < 0:
		if err := changeError(c.node.ChangeMembers(ctx, consensus.Change{Op: consensus.AddLearner, Member: member})); err != nil {
			return err
		}
	case members[at].Member != member:
		return metadata.Errorf(metadata.InvalidRequest, "controller %d is a member with a directory that it has lost: remove it first, and then add it", id)
	case !members[at].Learner:
		return nil // has its vote
	}
	for {
		err := c.node.ChangeMembers(ctx, consensus.Change{Op: consensus.Promote, Member: member})
		if refused, is := errors.AsType[*consensus.ChangeError](err); (!is || !refused.Behind) && !errors.Is(err, consensus.ErrChanging) {
			return changeError(err)
		}
		pause := time.NewTimer(promotePause)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return metadata.Errorf(metadata.RequestTimedOut, "controller %d is a learner, and has not caught up with the log yet: ask again, it gets its vote then: %v", id, context.Cause(ctx))
		}
	}
}

// RemoveController takes a member out of the group, which can be stopped when this
// returns, and forgets its addresses.
func (c *Controller) RemoveController(ctx context.Context, id uint64) error {
	if err := c.Ended(); err != nil {
		return c.leads()
	}
	members, err := c.node.Members(ctx)
	if err != nil {
		return clientError(err)
	}
	image := c.state.Image()
	at := slices.IndexFunc(members, func(m consensus.MemberStatus) bool { return m.ID == id })
	if at < 0 {
		if _, known := image.ControllerNode(id); !known {
			return metadata.Errorf(metadata.ResourceNotFound, "there is no controller %d; `rustmq admin controllers list` shows those there are", id)
		}
		return c.UnregisterController(ctx, id)
	}
	if err := changeError(c.node.ChangeMembers(ctx, consensus.Change{Op: consensus.Remove, Member: members[at].Member})); err != nil {
		return err
	}
	if known, ok := image.ControllerNode(id); !ok || known.Directory != members[at].Directory {
		return nil // what made itself known waits to be added in its place
	}
	return c.UnregisterController(ctx, id)
}

// changeError gives an error of a change of members a code.
func changeError(err error) error {
	refused, is := errors.AsType[*consensus.ChangeError](err)
	switch {
	case err == nil:
		return nil
	case is:
		return metadata.Errorf(metadata.InvalidRequest, "controller %d %s", refused.Member, refused.Reason)
	case errors.Is(err, consensus.ErrChanging):
		return metadata.Errorf(metadata.InvalidRequest, "another change of the controllers is under way, or their leader is new: ask again in a moment")
	}
	return clientError(fmt.Errorf("change the controllers: %w", err))
}

// HandOver has another controller lead, if this one does, and returns once it does not.
func (c *Controller) HandOver(ctx context.Context) error { return c.node.HandOver(ctx) }

// TakeSnapshot makes a snapshot of the metadata applied here, and returns the index up to
// which it goes.
func (c *Controller) TakeSnapshot(ctx context.Context) (index uint64, err error) {
	if err := c.node.TakeSnapshot(ctx); err != nil {
		return 0, clientError(fmt.Errorf("take a snapshot: %w", err))
	}
	return c.node.Status().Snapshot, nil
}
