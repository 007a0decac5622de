package consensus

import (
	"errors"
	"fmt"
	"path"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"rustmq.dev/rustmq/storage/disk"
	"rustmq.dev/rustmq/storage/wal"
)

// InspectedKind is what a frame of a raft log is.
type InspectedKind string

// The kinds of frames, as doc.go lists them; the first three are entries.
const (
	InspectedCommand       InspectedKind = "command"
	InspectedElection      InspectedKind = "election" // the empty entry that each leader begins with
	InspectedConfiguration InspectedKind = "configuration"
	InspectedState         InspectedKind = "state"
	InspectedTruncate      InspectedKind = "truncate"
	InspectedTrim          InspectedKind = "trim"
)

// InspectedFrame is a frame of a raft log as it lies in a file, or what is wrong there.
type InspectedFrame struct {
	File    string
	At      int64
	Problem string // why it cannot be read; the rest is zero then
	Kind    InspectedKind
	Copy    bool
	Index   uint64 // of an entry; of truncate and trim the first that is concerned
	Term    uint64
	Command []byte        // of a command; valid until the callback returns
	Members []Member      // of a configuration; none where a joint one is left
	State   *InspectedVow // of a state
}

// InspectedVow is what a member has promised and knows, besides entries.
type InspectedVow struct {
	Member Member
	Term   uint64
	Vote   uint64 // 0: none
	Commit uint64 // known to be committed; may lag
	Base   uint64 // index of the last snapshot that came in place of the log
}

// Inspect calls f for every frame of the raft log in dir, as [wal.Inspect] does. It takes
// no lock, decides nothing and changes nothing: entries that were replaced, and those of a
// tail that nobody has confirmed, are among them.
func Inspect(fsys disk.FS, dir string, f func(InspectedFrame) error) error {
	return wal.Inspect(fsys, dir, func(found wal.Inspected) error {
		frame := InspectedFrame{File: found.File, At: found.At, Problem: found.Problem}
		if found.Problem == "" {
			if err := frame.read(found); err != nil {
				frame = InspectedFrame{File: found.File, At: found.At, Problem: err.Error()}
			}
		}
		return f(frame)
	})
}

func (i *InspectedFrame) read(found wal.Inspected) error {
	h := found.Header
	if h.Partition != LogPartition {
		return fmt.Errorf("a frame of partition %s, which is none of a raft log", h.Partition)
	}
	i.Copy, i.Index, i.Term = h.Copy, uint64(h.Offset), uint64(h.Epoch)
	switch h.Kind {
	case wal.KindData:
		return i.entry(found)
	case wal.KindState:
		state, err := decodeHardState(found.Payload)
		i.Kind, i.State = InspectedState, &InspectedVow{state.member, state.term, state.vote, state.commit, state.base}
		return err
	case wal.KindTruncate:
		i.Kind = InspectedTruncate
	case wal.KindTrim:
		i.Kind = InspectedTrim
	default:
		return fmt.Errorf("a frame of kind %d, which is none of a raft log", h.Kind)
	}
	return nil
}

func (i *InspectedFrame) entry(found wal.Inspected) error {
	e, err := decodeEntry(found.Header, found.Payload)
	if err != nil {
		return err
	}
	if e.GetType() != raftpb.EntryNormal {
		i.Kind = InspectedConfiguration
		var change raftpb.ConfChangeV2
		if err := proto.Unmarshal(e.GetData(), &change); err != nil {
			return fmt.Errorf("configuration of entry %d: %w", i.Index, err)
		}
		if len(change.GetContext()) > 0 {
			i.Members, _, err = decodeMembers(change.GetContext())
		}
		return err
	}
	if len(e.GetData()) == 0 {
		i.Kind = InspectedElection
		return nil
	}
	i.Kind = InspectedCommand
	_, command, whole := decodeCommand(e.GetData())
	if !whole {
		return fmt.Errorf("entry %d has %d bytes that are no command", i.Index, len(e.GetData()))
	}
	i.Command = command
	return nil
}

// InspectedSnapshot is a snapshot as it lies in a file, or what is wrong with it.
type InspectedSnapshot struct {
	File             string
	Problem          string // why it cannot be read; the rest is zero then
	Bytes            int64
	Index, Term      uint64
	Members          []Member
	Voters, Learners []uint64
	Received         bool   // from a leader, in place of the log here
	State            []byte // of the state machine; empty before anything was applied
}

// InspectSnapshots calls f for every snapshot in dir, the oldest first, and for what is
// damaged. It changes nothing.
func InspectSnapshots(fsys disk.FS, dir string, f func(InspectedSnapshot) error) error {
	files := snapshots{fsys, dir}
	names, err := files.names()
	if err != nil {
		return err
	}
	for _, name := range names {
		found := InspectedSnapshot{File: name}
		if info, err := fsys.Stat(path.Join(dir, name)); err == nil {
			found.Bytes = info.Size
		}
		snap, err := files.read(name)
		if err == nil {
			found.Index, found.Term, found.Members, found.Received, found.State = snap.index, snap.term, snap.members, snap.received, snap.state
			found.Voters, found.Learners = snap.conf.GetVoters(), snap.conf.GetLearners()
		} else {
			found.Problem = reason(err)
		}
		if err := f(found); err != nil {
			return err
		}
	}
	return nil
}

// reason is why a file cannot be read, without its name.
func reason(err error) string {
	if damaged, is := errors.AsType[*CorruptionError](err); is {
		return damaged.Reason
	}
	return err.Error()
}
