package consensus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

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
	entries := &entryLog{snapshots: files, replayed: newReplay()}
	n.wal, err = wal.Open(ctx, wal.Options{
		FS: n.opt.FS, Dir: n.opt.Dir, Owner: entries, Log: n.opt.Log,
		Capacity: n.opt.LogCapacity, SegmentSize: n.opt.segmentSize(), ChunkSize: min(chunkBytes, n.opt.segmentSize()/4&^4095), Memory: logMemory,
		MaxPayload: n.opt.maxCommand() + 4096,
		OnDead: func(err error) {
			n.tell(func(e *events) { e.durable = append(e.durable, func() error { return err }) })
		},
	})
	if err != nil {
		return nil, nil, fmt.Errorf("open the log: %w", err)
	}
	if snap, err = n.begin(ctx, entries, files, snap); err != nil {
		return nil, nil, errors.Join(err, n.wal.Close())
	}
	return entries, snap, nil
}

func (n *Node) begin(ctx context.Context, entries *entryLog, files snapshots, snap *snapshot) (*snapshot, error) {
	self := Member{ID: n.opt.NodeID, Directory: n.opt.Directory}
	r := entries.replayed
	if r.hasHard && r.hard.member != self {
		return nil, fmt.Errorf("consensus: %s/ belongs to member %d with directory %x, this is %d with %x", n.opt.Dir, r.hard.member.ID, r.hard.member.Directory, self.ID, self.Directory)
	}
	if r.frames == 0 {
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
	if len(snap.state) > 0 {
		if err := n.opt.StateMachine.Restore(snap.state); err != nil {
			return nil, fmt.Errorf("restore snapshot %d: %w", snap.index, err)
		}
	}
	return snap, nil
}

// bootstrap begins a new group, if an empty log is no sign of a lost one.
func (n *Node) bootstrap(ctx context.Context, files snapshots, snap *snapshot) (*snapshot, error) {
	if err := n.mayBegin(ctx, snap); err != nil {
		return nil, err
	}
	members := append([]Member{{ID: n.opt.NodeID, Directory: n.opt.Directory}}, n.opt.Peers...)
	slices.SortFunc(members, func(a, b Member) int { return cmp.Compare(a.ID, b.ID) })
	conf := new(raftpb.ConfState)
	for _, m := range members {
		conf.Voters = append(conf.Voters, m.ID)
	}
	first := &snapshot{index: 1, term: lowestTerm, conf: conf, members: members}
	if err := files.write(first); err != nil {
		return nil, err
	}
	n.log.Info("a new group of controllers begins", "members", len(members))
	return first, nil
}

func (n *Node) mayBegin(ctx context.Context, snap *snapshot) error {
	lost := func(reason string) error { return &LostLogError{Dir: n.opt.Dir, Reason: reason} }
	if !guard.Check("consensus.lost-log-joined", !n.opt.Joined) {
		return lost("this node has belonged to a cluster")
	}
	if !guard.Check("consensus.lost-log-snapshot", snap == nil || snap.index == 1) {
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
	for _, peer := range n.opt.Peers {
		empty, err := n.opt.Network.Empty(ctx, peer)
		if err != nil {
			return fmt.Errorf("ask member %d whether its log is empty: %w", peer.ID, err)
		}
		if !guard.Check("consensus.peers-empty", empty) {
			return lost(fmt.Sprintf("that of member %d is not", peer.ID))
		}
	}
	return nil
}
