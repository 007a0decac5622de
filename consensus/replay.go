package consensus

import (
	"fmt"

	"go.etcd.io/raft/v3/raftpb"

	"rustmq.dev/rustmq/storage/guard"
	"rustmq.dev/rustmq/storage/wal"
)

// record is an entry and where it lies in the WAL.
type record struct {
	entry *raftpb.Entry
	ref   wal.Ref
}

// replay rebuilds a log from its frames, in order of sequence. It is a pure
// core: it reads no file and keeps no payload.
type replay struct {
	frames   int
	entries  map[uint64]record
	hard     hardState
	hardRef  wal.Ref
	hasHard  bool
	trimmed  uint64    // entries up to here were said to be in a snapshot
	released []wal.Ref // frames that nothing needs any more
}

func newReplay() *replay { return &replay{entries: map[uint64]record{}} }

func (r *replay) frame(h wal.Header, ref wal.Ref, payload []byte) error {
	if h.Partition != LogPartition {
		return fmt.Errorf("a frame of partition %s in a raft log", h.Partition)
	}
	r.frames++
	switch h.Kind {
	case wal.KindData:
		return r.data(h, ref, payload)
	case wal.KindState:
		state, err := decodeHardState(payload)
		if err != nil {
			return err
		}
		if r.hasHard {
			r.released = append(r.released, r.hardRef)
		}
		r.hard, r.hardRef, r.hasHard = state, ref, true
	case wal.KindTruncate:
		for index := range r.entries {
			if index >= uint64(h.Offset) {
				r.drop(index)
			}
		}
	case wal.KindTrim:
		r.trimmed = max(r.trimmed, uint64(max(h.Offset, 1))-1)
	default:
		return fmt.Errorf("a frame of kind %d in a raft log", h.Kind)
	}
	return nil
}

func (r *replay) data(h wal.Header, ref wal.Ref, payload []byte) error {
	e, err := decodeEntry(h, payload)
	if err != nil {
		return err
	}
	before, there := r.entries[e.GetIndex()]
	if there {
		if !h.Copy || before.entry.GetTerm() != e.GetTerm() {
			return fmt.Errorf("entry %d of term %d where one of term %d was not truncated", h.Offset, h.Epoch, before.entry.GetTerm())
		}
		r.released = append(r.released, before.ref)
	}
	r.entries[e.GetIndex()] = record{e, ref}
	return nil
}

func (r *replay) drop(index uint64) {
	if old, ok := r.entries[index]; ok {
		r.released = append(r.released, old.ref)
		delete(r.entries, index)
	}
}

// finish returns the entries behind snap, which is nil when there is none. An
// entry that is missing although the log says that it was there is an error.
func (r *replay) finish(snap *snapshot) ([]record, error) {
	var base uint64
	if snap != nil {
		base = snap.index
	}
	if !guard.Check("consensus.trim-needs-snapshot", r.trimmed <= base) {
		return nil, fmt.Errorf("entries up to %d were left to a snapshot, the newest one ends at %d", r.trimmed, base)
	}
	received := snap != nil && snap.received && snap.index > r.hard.base
	var records []record
	for index := range r.entries {
		if index <= base || received {
			r.drop(index)
		}
	}
	for index := base + 1; len(r.entries) > len(records); index++ {
		e, ok := r.entries[index]
		if !guard.Check("consensus.log-gap", ok) {
			return nil, fmt.Errorf("entry %d is missing, %d are behind it", index, len(r.entries)-len(records))
		}
		records = append(records, e)
	}
	if last := base + uint64(len(records)); !guard.Check("consensus.commit-in-log", r.hard.commit <= last) {
		return nil, fmt.Errorf("entry %d was committed, the log ends at %d", r.hard.commit, last)
	}
	return records, nil
}
