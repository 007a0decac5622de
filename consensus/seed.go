package consensus

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"

	"go.etcd.io/raft/v3/raftpb"

	"rustmq.dev/rustmq/storage/disk"
	"rustmq.dev/rustmq/storage/guard"
)

// SeedOptions of [Seed].
type SeedOptions struct {
	Member Member // who begins the group, alone
	// Index and Term are those that the group begins behind: higher than any that a group
	// before it may have given out.
	Index, Term uint64
	State       []byte // of the state machine at Index

	FS           disk.FS
	Dir          string // of the log; default "raft"
	SnapshotsDir string // default "snapshots"
}

// Seed makes a directory in which there is no log that of a member which is alone in its
// group, and begins with a state: [Open] goes on from there. It is durable when Seed
// returns; one that was ended on its way leaves a directory that Open and Seed refuse.
func Seed(ctx context.Context, o SeedOptions) error {
	setDefault(&o.Dir, "raft")
	setDefault(&o.SnapshotsDir, "snapshots")
	if err := Unseeded(o.FS, o.Dir, o.SnapshotsDir); err != nil {
		return err
	}
	if err := o.FS.MkdirAll(o.SnapshotsDir); err != nil {
		return fmt.Errorf("make %s: %w", o.SnapshotsDir, err)
	}
	snap := &snapshot{
		index: o.Index, term: o.Term, conf: &raftpb.ConfState{Voters: []uint64{o.Member.ID}}, members: []Member{o.Member}, state: o.State,
	}
	if err := (snapshots{fs: o.FS, dir: o.SnapshotsDir}).write(snap); err != nil {
		return err
	}
	n := &Node{opt: Options{NodeID: o.Member.ID, Directory: o.Member.Directory, FS: o.FS, Dir: o.Dir, LogCapacity: defaultLogCapacity, Log: slog.New(slog.DiscardHandler)}}
	entries := &entryLog{snapshots: snapshots{fs: o.FS, dir: o.SnapshotsDir}, replayed: newReplay()}
	if err := n.openLog(ctx, entries, func(error) {}); err != nil {
		return err
	}
	entries.replayed.hard.member = o.Member
	entries.start(n.wal, snap, nil, entries.replayed)
	durable := make(chan error, 1)
	if _, err := entries.append(nil, nil, entries.hardState(), func(err error) { durable <- err }); err != nil {
		return errors.Join(fmt.Errorf("begin the log: %w", err), n.wal.Close())
	}
	err := <-durable
	if err != nil {
		err = fmt.Errorf("begin the log: %w", err)
	}
	return errors.Join(err, n.wal.Close())
}

// Unseeded returns an error if there is anything of a log, or of its snapshots.
func Unseeded(dir disk.FS, log, snapshots string) error {
	for _, of := range []string{log, snapshots} {
		names, err := dir.List(of)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("look into %s: %w", of, err)
		}
		if !guard.Check("consensus.seed-empty", len(names) == 0) {
			return fmt.Errorf("%s/ has a metadata log, or what is left of one", of)
		}
	}
	return nil
}
