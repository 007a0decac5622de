package log

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/guard"
	"rustmq.dev/rustmq/storage/wal"
)

// A corrupt partition is refused until it is dropped, and must not hold up the WAL
// until then, which recycles its segments in order: its batches are copied forward
// like all others. What showed the damage cannot be, for in another place it may not
// show it. In its stead, and that of the state, a state frame says that there was
// damage, and which; it is written before the first copy. A batch that is found to be
// unreadable as it is to be copied goes the same way, unless the bucket has it: then it
// is left to that.
const (
	damageFlag   = 4       // of a state frame, see doc.go
	missingFlag  = 8       // beside damageFlag: it says what may be missing
	healFlag     = 16      // of a state frame that ends damage, see doc.go
	damageHeader = 12      // version, flag, zero, offset
	missingSize  = 8       // what may be missing lies before it
	maxReason    = 4 << 10 // bytes of the reason that are kept
)

// encodeDamage returns what a later start is to say, with what may be missing if that may be said.
func encodeDamage(e *CorruptionError, missing bool) []byte {
	b := make([]byte, damageHeader, damageHeader+missingSize+len(e.Reason))
	b[0], b[1] = stateVersion, damageFlag
	binary.LittleEndian.PutUint64(b[4:], uint64(e.Offset))
	if e.Missing > 0 && guard.Check("log.missing-by-level", missing) {
		b[1] |= missingFlag
		b = binary.LittleEndian.AppendUint64(b, uint64(e.Missing))
	}
	return append(b, e.Reason[:min(len(e.Reason), maxReason)]...)
}

// decodeDamage reads a frame of encodeDamage; false: it is none.
func decodeDamage(id storage.PartitionID, b []byte) (*CorruptionError, bool) {
	if len(b) < damageHeader || b[0] != stateVersion || b[1]&^missingFlag != damageFlag {
		return nil, false
	}
	e := &CorruptionError{Partition: id, Offset: storage.Offset(binary.LittleEndian.Uint64(b[4:]))}
	reason := b[damageHeader:]
	if b[1]&missingFlag != 0 && len(reason) >= missingSize {
		e.Missing, reason = max(0, storage.Offset(binary.LittleEndian.Uint64(reason))), reason[missingSize:]
	}
	e.Reason = string(reason)
	return e, true
}

// condemn refuses a log that was found corrupt, and holds on to what showed it.
func (l *Log) condemn(why error, r *replayed) {
	l.refused, l.noted = why, r.noted
	l.stateRefs = append(l.stateRefs, r.evidence...)
	if end, some := l.index.end(); some {
		l.replica.synced = end // it was read from the disk
	}
}

// leave gives up a batch that cannot be read back if the bucket has it, in a log with
// KeepLocal too: what is to be had of the batch is there. What lies before it goes with it
// and so must have been released, or is gone. left: it did; waits: it will, once that is so.
func (l *Log) leave(w wanted, why error) (left, waits bool) {
	l.mu.Lock()
	end, has, free := w.base, l.refused == nil && l.liesAt(w), false
	if has {
		p := l.index.find(w.base)
		b, _ := l.index.at(p)
		end = b.nextOf(p.entry)
		has = guard.Check("log.leave-uploaded", end <= l.uploaded)
		free = guard.Check("log.leave-released", w.base <= max(l.released, l.localStart))
	}
	l.mu.Unlock()
	if !has || !free {
		return false, has
	}
	if l.advanceLocalStart(end, false) != nil || l.LocalStart() < end {
		return false, true
	}
	l.store.o.Log.Warn("a batch cannot be read from the WAL and is left to the bucket, which has it", "partition", l.id, "offset", w.base, "error", why)
	return true, false
}

// leaveDamaged is leave of the first of some batches that cannot be read; they are in
// order, and those that the bucket cannot have are not looked at again.
func (l *Log) leaveDamaged(of []wanted) bool {
	l.mu.Lock()
	uploaded := l.uploaded
	l.mu.Unlock()
	for _, want := range of {
		if want.base >= uploaded {
			return false
		}
		r := leases.Get().(*lease)
		r.wanted, r.synced = append(r.wanted, want), want.base+1
		err := l.load(r)
		r.release()
		if err != nil {
			left, _ := l.leave(want, err)
			return left
		}
	}
	return false
}

// lose refuses the log for a batch that cannot be read back, and gives that up, and it
// alone, once the damage is written down: nothing is left of it that could be copied. Of one
// that is refused already, and is said to lack what lies before some offset, that is missing too.
func (l *Log) lose(w wanted, why error) error {
	damage := corrupt(l.id, w.base, "the batch there cannot be read back: %v", why)
	if l.refuse(damage) {
		l.store.o.Log.Error("a partition is corrupt and is served no more", "partition", l.id, "error", damage)
	}
	admitted := 2*frameOverhead + damageHeader + missingSize + maxReason
	if err := l.store.wal.Admit(l.store.ctx, wal.Internal, admitted); err != nil {
		return err
	}
	defer l.store.wal.Unadmit(admitted)
	l.mu.Lock()
	defer l.mu.Unlock()
	said, is := errors.AsType[*CorruptionError](l.refused)
	if !is || !l.liesAt(w) {
		return nil // dropped or closed meanwhile
	}
	refused, p := l.refused, l.index.find(w.base)
	b, _ := l.index.at(p)
	if next := b.nextOf(p.entry); said.Missing > 0 && !guard.Check("log.loses-while-refused", next <= said.Missing) {
		more := *said
		more.Missing, more.Reason = next, fmt.Sprintf("%s; %s", said.Reason, damage.Reason)
		said, refused = &more, &more
	}
	if err := l.restateDamage(said, w.ref); err != nil {
		return err
	}
	l.refused = refused
	l.forget(w)
	return nil
}

// forget takes a batch out of the index, and of what is counted. l.mu is held.
func (l *Log) forget(w wanted) {
	kept, before := index{}, l.index.bytes
	for p := (place{}); l.index.valid(p); p = l.index.following(p) {
		b, e := l.index.at(p)
		if b.baseOf(p.entry) != w.base {
			kept.append(b.baseOf(p.entry), e.count, e.maxTimestamp, e.ref)
			continue
		}
		if next := b.nextOf(p.entry); next > l.uploaded {
			l.backlog.remove(e.ref)
		} else if next <= l.dispensable() {
			lost := tally{wal: l.store.wal}
			lost.add(e.ref, -1)
			lost.report()
		}
	}
	l.index = kept
	l.store.indexBytes.Add(kept.bytes - before)
}

// restateDamage writes down why the log is refused, and lets go of its state, of
// what showed the damage, and of refs, once that is on disk. l.mu is held.
func (l *Log) restateDamage(why *CorruptionError, refs ...wal.Ref) error {
	if guard.Check("log.damage-outlasts", false) {
		return nil
	}
	freed := &release{log: l, refs: slices.Concat(l.stateRefs, refs)}
	ref, err := l.store.wal.Append(wal.Header{Kind: wal.KindState, Partition: l.id, Offset: l.localStart}, encodeDamage(why, l.store.heals()), freed)
	if err != nil {
		return fmt.Errorf("write that %s is corrupt: %w", l.id, err)
	}
	l.stateRefs, l.noted = []wal.Ref{ref}, true
	return nil
}
