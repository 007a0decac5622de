package consensus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"rustmq.dev/rustmq/storage/guard"
	"rustmq.dev/rustmq/storage/wal"
)

// lowestTerm is that of the entry a new group begins behind.
const lowestTerm = 1

// recover opens the log and the newest snapshot, and decides what they mean.
func (n *Node) recover(ctx context.Context) (*entryLog, *snapshot, error) {
	files := snapshots{fs: n.opt.FS, dir: n.opt.SnapshotsDir}
	if err := n.opt.FS.MkdirAll(files.dir); err != nil {
		return nil, nil, fmt.Errorf("make %s: %w", files.dir, err)
	}
	snap, err := files.newest()
	if err != nil {
		return nil, nil, err
	}
	entries := &entryLog{snapshots: files, replayed: newReplay(), rotten: func(*CorruptionError) {}}
	if err := n.openLog(ctx, entries, func(err error) {
		n.tell(func(e *events) { e.durable = append(e.durable, func() error { return err }) })
	}); err != nil {
		return nil, nil, err
	}
	if snap, err = n.begin(ctx, entries, files, snap); err != nil {
		return nil, nil, errors.Join(err, n.wal.Close())
	}
	return entries, snap, nil
}

// openLog opens the WAL and replays it into entries.
func (n *Node) openLog(ctx context.Context, entries *entryLog, onDead func(error)) (err error) {
	n.wal, err = wal.Open(ctx, wal.Options{
		FS: n.opt.FS, Dir: n.opt.Dir, Owner: entries, Log: n.opt.Log,
		Capacity: n.opt.LogCapacity, SegmentSize: n.opt.segmentSize(), ChunkSize: min(chunkBytes, n.opt.segmentSize()/4&^4095), Memory: logMemory,
		MaxPayload: n.opt.maxCommand() + 4096,
		OnDead:     onDead,
	})
	if err != nil {
		return fmt.Errorf("open the log: %w", err)
	}
	return nil
}

func (n *Node) begin(ctx context.Context, entries *entryLog, files snapshots, snap *snapshot) (*snapshot, error) {
	self := n.self()
	r := entries.replayed
	if r.hasHard && r.hard.member != self {
		return nil, fmt.Errorf("consensus: %s/ belongs to member %d with directory %x, this is %d with %x", n.opt.Dir, r.hard.member.ID, r.hard.member.Directory, self.ID, self.Directory)
	}
	begins := r.frames == 0
	if begins {
		first, err := n.bootstrap(ctx, files, snap)
		if err != nil {
			return nil, err
		}
		snap = first
	} else if snap == nil {
		return nil, &CorruptionError{File: files.dir, Reason: "there is a log but no snapshot that it begins behind"}
	}
	r.hard.member = self
	records, err := r.finish(snap)
	if err != nil {
		return nil, &CorruptionError{File: n.opt.Dir, Reason: err.Error()}
	}
	entries.start(n.wal, snap, records, r)
	if len(n.opt.Peers) > 0 && !n.opt.Joined {
		if err := n.join(ctx, entries, begins); err != nil {
			return nil, err
		}
	}
	if len(snap.state) > 0 {
		if err := n.opt.StateMachine.Restore(snap.state); err != nil {
			return nil, fmt.Errorf("restore snapshot %d: %w", snap.index, err)
		}
	}
	return snap, nil
}

// join makes it durable that this member has a log, which begins now or in a start that
// came no further, before peers count on it.
func (n *Node) join(ctx context.Context, entries *entryLog, begins bool) error {
	durable := make(chan error, 1)
	if begins {
		if _, err := entries.append(nil, nil, entries.hardState(), func(err error) { durable <- err }); err != nil {
			return fmt.Errorf("begin the log: %w", err)
		}
	} else {
		durable <- nil // what is read from the log is
	}
	select {
	case err := <-durable:
		if err != nil {
			return fmt.Errorf("begin the log: %w", err)
		}
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := n.opt.OnJoined(); err != nil {
		return fmt.Errorf("note that this member has a log: %w", err)
	}
	return nil
}

// bootstrap begins a new group, or waits to be added to one, if an empty log is no
// sign of a lost one.
func (n *Node) bootstrap(ctx context.Context, files snapshots, snap *snapshot) (*snapshot, error) {
	if err := n.mayBegin(snap); err != nil {
		return nil, err
	}
	n.mu.Lock()
	n.empty = true
	n.mu.Unlock()
	var members []Member
	if !n.opt.Join {
		var err error
		if members, err = n.meet(ctx); err != nil {
			return nil, err
		}
	}
	first := &snapshot{conf: new(raftpb.ConfState), members: members}
	if len(members) > 0 {
		first.index, first.term = 1, lowestTerm
	}
	for _, m := range members {
		first.conf.Voters = append(first.conf.Voters, m.ID)
	}
	if err := files.write(first); err != nil {
		return nil, err
	}
	if len(members) > 0 {
		n.log.Info("a new group of controllers begins", "members", len(members))
	}
	return first, nil
}

// mayBegin says what speaks against it on this machine.
func (n *Node) mayBegin(snap *snapshot) error {
	lost := func(reason string) error { return &LostLogError{Dir: n.opt.Dir, Reason: reason} }
	if !guard.Check("consensus.lost-log-joined", !n.opt.Joined) {
		return lost("this node has belonged to a cluster")
	}
	if !guard.Check("consensus.lost-log-snapshot", snap == nil || snap.index <= 1) {
		return lost("there are snapshots of it")
	}
	for _, dir := range n.opt.Beside {
		names, err := n.opt.FS.List(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("look into %s: %w", dir, err)
		}
		if !guard.Check("consensus.lost-log-beside", len(names) == 0) {
			return lost(dir + "/ beside it is not")
		}
	}
	return nil
}

// meet waits until every first member has said, twice, who it is and that it has no
// log, and returns them: between two rounds of the same answers nobody can have begun
// and voted in a directory that is lost now (RULES 4.1). Where a group has begun,
// it returns none: whoever is in it by this directory is sent its log, and has no vote
// that it could have forgotten; who is not waits to be added.
func (n *Node) meet(ctx context.Context) ([]Member, error) {
	var before []Member
	var told time.Time
	for {
		members, missing, err := n.ask(ctx)
		if err != nil || len(members) == 0 && len(missing) == 0 {
			return nil, err
		}
		if len(missing) == 0 && guard.Check("consensus.asked-twice", slices.Equal(members, before)) {
			return members, nil
		}
		if before = members; len(missing) == 0 {
			continue
		}
		if now := time.Now(); now.Sub(told) >= helloTold {
			told = now
			n.log.Info("waiting for the other first controllers", "missing", missing)
		}
		pause := time.NewTimer(helloPause)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return nil, fmt.Errorf("consensus: no answer from members %v, with which the group is to begin: %w", missing, context.Cause(ctx))
		}
	}
}

// ask asks every peer once. It returns who is to begin a group, and which peers did not
// answer; neither where one has begun.
func (n *Node) ask(ctx context.Context) (members []Member, missing []uint64, err error) {
	members = []Member{n.self()}
	for _, peer := range n.opt.Peers {
		h, err := n.opt.Network.Hello(ctx, peer)
		switch {
		case err != nil:
			n.log.Debug("a controller does not answer", "peer", peer, "error", err)
			missing = append(missing, peer)
			continue
		case h.Member.ID != peer:
			return nil, nil, fmt.Errorf("consensus: where member %d should be, %d answers: the addresses of the controllers are not the same on all of them", peer, h.Member.ID)
		case !guard.Check("consensus.peers-empty", len(h.Begun) == 0):
			if !slices.Contains(h.Begun, n.self()) {
				n.log.Warn("the group of controllers has begun without this directory; this one waits to be added: `rustmq admin controllers add`", "peer", peer)
			}
			return nil, nil, nil
		case h.Joins:
			return nil, nil, fmt.Errorf("consensus: member %d waits to be added, and begins no group", peer)
		case !slices.Equal(h.First, n.first()):
			return nil, nil, fmt.Errorf("consensus: member %d is to begin a group of %v, this one of %v: name the same first controllers on all of them", peer, h.First, n.first())
		}
		members = append(members, h.Member)
	}
	slices.SortFunc(members, func(a, b Member) int { return cmp.Compare(a.ID, b.ID) })
	return members, missing, nil
}

func (n *Node) self() Member { return Member{ID: n.opt.NodeID, Directory: n.opt.Directory} }

// first returns the ids that a group is to begin with, in order.
func (n *Node) first() []uint64 {
	ids := append([]uint64{n.opt.NodeID}, n.opt.Peers...)
	slices.Sort(ids)
	return ids
}
