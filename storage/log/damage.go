package log

import (
	"encoding/binary"
	"fmt"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/guard"
	"rustmq.dev/rustmq/storage/wal"
)

// A corrupt partition is refused until it is dropped, and must not hold up the WAL
// until then, which recycles its segments in order: its batches are copied forward
// like all others. What showed the damage cannot be, for in another place it may not
// show it. In its stead, and that of the state, a state frame says that there was
// damage, and which; it is written before the first copy.
const (
	damageFlag   = 4       // of a state frame, see doc.go
	damageHeader = 12      // version, flag, zero, offset
	maxReason    = 4 << 10 // bytes of the reason that are kept
)

// encodeDamage returns what a later start is to say.
func encodeDamage(e *CorruptionError) []byte {
	b := make([]byte, damageHeader, damageHeader+len(e.Reason))
	b[0], b[1] = stateVersion, damageFlag
	binary.LittleEndian.PutUint64(b[4:], uint64(e.Offset))
	return append(b, e.Reason[:min(len(e.Reason), maxReason)]...)
}

// decodeDamage reads a frame of encodeDamage; false: it is none.
func decodeDamage(id storage.PartitionID, b []byte) (*CorruptionError, bool) {
	if len(b) < damageHeader || b[0] != stateVersion || b[1] != damageFlag {
		return nil, false
	}
	return &CorruptionError{Partition: id, Offset: storage.Offset(binary.LittleEndian.Uint64(b[4:])), Reason: string(b[damageHeader:])}, true
}

// condemn refuses a log that was found corrupt, and holds on to what showed it.
func (l *Log) condemn(why error, r *replayed) {
	l.refused = why
	l.stateRefs = append(l.stateRefs, r.evidence...)
	if end, some := l.index.end(); some {
		l.replica.synced = end // it was read from the disk
	}
}

// restateDamage writes down why the log is refused, and lets go of its state, and of
// what showed the damage, once that is on disk. l.mu is held.
func (l *Log) restateDamage(why *CorruptionError) error {
	if guard.Check("log.damage-outlasts", false) {
		return nil
	}
	freed := &release{log: l, refs: l.stateRefs}
	ref, err := l.store.wal.Append(wal.Header{Kind: wal.KindState, Partition: l.id, Offset: l.localStart}, encodeDamage(why), freed)
	if err != nil {
		return fmt.Errorf("write that %s is corrupt: %w", l.id, err)
	}
	l.stateRefs = []wal.Ref{ref}
	return nil
}
