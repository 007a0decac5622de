package consensus

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"rustmq.dev/rustmq/storage/guard"
	"rustmq.dev/rustmq/storage/wal"
)

// durable is what the log needs of the WAL.
type durable interface {
	Append(h wal.Header, payload []byte, c wal.Completion) (wal.Ref, error)
	Release(ref wal.Ref)
}

// entryLog is the log behind the newest snapshot, in memory and in the WAL. It
// is raft's storage and the WAL's owner. What is appended is seen at once; that
// it is durable is told by completions, and raft waits for those.
type entryLog struct {
	snapshots snapshots

	mu       sync.Mutex
	wal      durable
	replayed *replay // while the WAL opens
	records  []record
	first    uint64 // index of records[0], or where the next entry goes
	before   uint64 // term of entry first-1
	hard     hardState
	hardRef  wal.Ref
	written  bool // hardRef is one
	newest   *raftpb.SnapshotMetadata
	changed  uint64 // index of the last applied change of the configuration

	// rotten is told that the newest snapshot cannot be read, on whatever goroutine asks for it.
	rotten func(*CorruptionError)
}

func (l *entryLog) lastIndex() uint64 { return l.first + uint64(len(l.records)) - 1 }

// InitialState implements raft.Storage.
func (l *entryLog) InitialState() (*raftpb.HardState, *raftpb.ConfState, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	hard := &raftpb.HardState{Term: new(l.hard.term), Vote: new(l.hard.vote), Commit: new(l.hard.commit)}
	return hard, raftpb.EnsureConfState(l.newest.GetConfState()), nil
}

// Entries implements raft.Storage.
func (l *entryLog) Entries(low, high, maxSize uint64) ([]*raftpb.Entry, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case low < l.first:
		return nil, raft.ErrCompacted
	case high > l.lastIndex()+1:
		return nil, raft.ErrUnavailable
	}
	var entries []*raftpb.Entry
	var size uint64
	for _, r := range l.records[low-l.first : high-l.first] {
		size += uint64(len(r.entry.GetData())) + 32
		if len(entries) > 0 && size > maxSize {
			break
		}
		entries = append(entries, r.entry)
	}
	return entries, nil
}

// Term implements raft.Storage.
func (l *entryLog) Term(index uint64) (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.term(index)
}

func (l *entryLog) term(index uint64) (uint64, error) {
	switch {
	case index+1 == l.first:
		return l.before, nil
	case index < l.first:
		return 0, raft.ErrCompacted
	case index > l.lastIndex():
		return 0, raft.ErrUnavailable
	}
	return l.records[index-l.first].entry.GetTerm(), nil
}

// LastIndex implements raft.Storage.
func (l *entryLog) LastIndex() (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lastIndex(), nil
}

// FirstIndex implements raft.Storage.
func (l *entryLog) FirstIndex() (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.first, nil
}

// Snapshot implements raft.Storage; a follower is too far behind for entries. One whose
// configuration is not the present one is none: a new member ignores what does not know
// it, and would be sent it again at once. Where the newest has rotted it is the one before,
// if the log has all that came since.
func (l *entryLog) Snapshot() (*raftpb.Snapshot, error) {
	l.mu.Lock()
	changed, first := l.changed, l.first
	l.mu.Unlock()
	snap, err := l.snapshots.newest()
	if rot, is := errors.AsType[*CorruptionError](err); is {
		l.rotten(rot)
		snap, err = l.snapshots.before(), nil
		if snap != nil && !guard.Check("consensus.older-snapshot-reaches-log", snap.index+1 >= first) {
			snap = nil
		}
	}
	if err != nil || snap == nil || !guard.Check("consensus.snapshot-knows-members", snap.index >= changed) {
		return nil, raft.ErrSnapshotTemporarilyUnavailable
	}
	return snap.message(), nil
}

// configured notes that the configuration has changed at an index.
func (l *entryLog) configured(index uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.changed = index
}

// start gives the log its content after the WAL was opened.
func (l *entryLog) start(w durable, snap *snapshot, records []record, r *replay) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wal, l.replayed = w, nil
	l.records, l.hard, l.hardRef, l.written = records, r.hard, r.hardRef, r.hasHard
	l.resetTo(snap)
	for _, ref := range r.released {
		w.Release(ref)
	}
}

// resetTo makes snap the newest snapshot, with the records right behind it.
func (l *entryLog) resetTo(snap *snapshot) {
	l.first, l.before = snap.index+1, snap.term
	l.newest = &raftpb.SnapshotMetadata{ConfState: snap.conf, Index: new(snap.index), Term: new(snap.term)}
	l.hard.term = max(l.hard.term, snap.term)
	l.hard.commit = max(l.hard.commit, snap.index)
}

// appended is told when a group of frames is durable, or the log dead. dead
// holds the entries and states that this group made superfluous, which must
// outlive it. Truncate and trim frames keep no segment alive: segments go oldest
// first, and with them what those cancel.
type appended struct {
	log  *entryLog
	dead []wal.Ref
	done func(error) // may be nil
}

// Committed implements wal.Completion.
func (a *appended) Committed(err error) {
	if err == nil {
		for _, ref := range a.dead {
			a.log.wal.Release(ref)
		}
	}
	if a.done != nil {
		a.done(err)
	}
}

// hardState returns what was last appended.
func (l *entryLog) hardState() hardState {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.hard
}

// append carries out one storage message of raft. A snapshot from a leader,
// durable already, takes the place of the log. Entries take the place of
// whatever stands at their indexes and behind. The hard state is written if
// more than its commit index differs from what is written; a commit index alone
// goes with the next write. It reports whether done will be called: once all of
// it is durable, or the WAL is dead.
func (l *entryLog) append(snap *snapshot, entries []*raftpb.Entry, hard hardState, done func(error)) (called bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := &appended{log: l, done: done}
	mustState := !l.written || hard.term != l.hard.term || hard.vote != l.hard.vote || snap != nil
	committed := l.hard.commit // before this message
	hard.base, l.hard = l.hard.base, hard
	if snap != nil {
		if err := l.install(snap, a); err != nil {
			return false, err
		}
	}
	if len(entries) == 0 && !mustState {
		return false, nil
	}
	if len(entries) > 0 && entries[0].GetIndex() <= l.lastIndex() {
		if err := l.truncate(entries[0].GetIndex(), committed, a); err != nil {
			return false, err
		}
	}
	for i, e := range entries {
		if e.GetIndex() != l.lastIndex()+1 {
			return false, fmt.Errorf("entry %d behind %d", e.GetIndex(), l.lastIndex())
		}
		var c wal.Completion
		if i == len(entries)-1 && !mustState {
			c = a
		}
		ref, err := l.wal.Append(header(wal.KindData, e.GetTerm(), e.GetIndex()), encodeEntry(e), c)
		if err != nil {
			return false, fmt.Errorf("append entry %d: %w", e.GetIndex(), err)
		}
		l.records = append(l.records, record{e, ref})
	}
	if mustState {
		return true, l.writeState(a)
	}
	return true, nil
}

// writeState appends the hard state; the one before it dies with a's commit.
func (l *entryLog) writeState(a *appended) error {
	if l.written {
		a.dead = append(a.dead, l.hardRef)
	}
	ref, err := l.wal.Append(header(wal.KindState, l.hard.term, 0), l.hard.encode(), a)
	if err != nil {
		return fmt.Errorf("append the hard state of term %d: %w", l.hard.term, err)
	}
	l.hardRef, l.written = ref, true
	return nil
}

// truncate drops entries from index on, by a frame that says so.
func (l *entryLog) truncate(index, committed uint64, a *appended) error {
	if !guard.Check("consensus.truncate-behind-commit", index > committed) || index < l.first {
		panic(fmt.Sprintf("consensus: truncate from %d, committed is %d, the log begins at %d", index, committed, l.first))
	}
	if _, err := l.wal.Append(header(wal.KindTruncate, l.hard.term, index), nil, nil); err != nil {
		return fmt.Errorf("truncate from %d: %w", index, err)
	}
	for _, r := range l.records[index-l.first:] {
		a.dead = append(a.dead, r.ref)
	}
	l.records = l.records[: index-l.first : index-l.first]
	return nil
}

// install empties the log and lets it begin behind snap. The hard state that
// is written next says so.
func (l *entryLog) install(snap *snapshot, a *appended) error {
	for _, r := range l.records {
		a.dead = append(a.dead, r.ref)
	}
	for _, kind := range []wal.Kind{wal.KindTruncate, wal.KindTrim} {
		if _, err := l.wal.Append(header(kind, snap.term, snap.index+1), nil, nil); err != nil {
			return fmt.Errorf("make room for snapshot %d: %w", snap.index, err)
		}
	}
	l.records = nil
	l.resetTo(snap)
	l.hard.base = snap.index
	return nil
}

// trailing returns up to where the log may be dropped, if so much of it stays
// in front of index for peers that are a little behind.
func (l *entryLog) trailing(index uint64, entries int, bytes uint64) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	var size uint64
	for ; index >= l.first && entries > 0; index-- {
		size += uint64(frameBytes(len(l.records[index-l.first].entry.GetData())) + blockBytes)
		if size > bytes {
			break
		}
		entries--
	}
	return index
}

// compact drops the entries up to index, which snap, durable, contains. They
// are released once the frame that says so is durable too.
func (l *entryLog) compact(snap *snapshot, index uint64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.newest = &raftpb.SnapshotMetadata{ConfState: snap.conf, Index: new(snap.index), Term: new(snap.term)}
	if index < l.first {
		return nil
	}
	term, err := l.term(index)
	if err != nil {
		return fmt.Errorf("compact up to %d: %w", index, err)
	}
	a := &appended{log: l}
	drop := index - l.first + 1
	for _, r := range l.records[:drop] {
		a.dead = append(a.dead, r.ref)
	}
	if _, err := l.wal.Append(header(wal.KindTrim, term, index+1), nil, a); err != nil {
		return fmt.Errorf("compact up to %d: %w", index, err)
	}
	l.records = append([]record(nil), l.records[drop:]...)
	l.first, l.before = index+1, term
	return nil
}

// Replay implements wal.Owner.
func (l *entryLog) Replay(h wal.Header, ref wal.Ref, payload []byte) error {
	return l.replayed.frame(h, ref, payload)
}

// Relocate implements wal.Owner: it copies forward what is live in a segment.
func (l *entryLog) Relocate(ctx context.Context, segment uint32) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.records {
		r := &l.records[i]
		if r.ref.Segment != segment {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		h := header(wal.KindData, r.entry.GetTerm(), r.entry.GetIndex())
		h.Copy = true
		ref, err := l.wal.Append(h, encodeEntry(r.entry), nil)
		if err != nil {
			return fmt.Errorf("copy entry %d forward: %w", r.entry.GetIndex(), err)
		}
		l.wal.Release(r.ref)
		r.ref = ref
	}
	if l.written && l.hardRef.Segment == segment {
		old := l.hardRef
		ref, err := l.wal.Append(header(wal.KindState, l.hard.term, 0), l.hard.encode(), nil)
		if err != nil {
			return fmt.Errorf("copy the hard state forward: %w", err)
		}
		l.hardRef = ref
		l.wal.Release(old)
	}
	return nil
}
