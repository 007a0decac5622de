package log

import (
	"context"

	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/guard"
	"rustmq.dev/rustmq/storage/wal"
)

// Bounds of one step of a relocation: of what it copies, and of how long it
// holds the log.
const (
	relocateBytes   = 1 << 20
	relocateEntries = 8192
)

// relocate appends anew what the log has in a segment, and appends to moved
// where it lay. What was appended stays so even if an error ends the call.
func (l *Log) relocate(ctx context.Context, segment uint32, moved []wal.Ref) ([]wal.Ref, error) {
	l.mu.Lock()
	stated := false
	for _, ref := range l.stateRefs {
		stated = stated || ref.Segment == segment
	}
	from := l.logStart
	l.mu.Unlock()
	if stated {
		if err := l.rewriteState(); err != nil {
			return moved, err
		}
	}
	for {
		r := leases.Get().(*lease)
		l.mu.Lock()
		p := l.index.find(from)
		bytes := 0
		for n := 0; n < relocateEntries && bytes < relocateBytes && l.index.valid(p); n++ {
			b, e := l.index.at(p)
			if e.ref.Segment == segment {
				r.wanted = append(r.wanted, wanted{b.baseOf(p.entry), e.ref})
				bytes += int(e.ref.Length) + frameOverhead
			}
			from = b.nextOf(p.entry)
			p = l.index.following(p)
		}
		more := l.index.valid(p)
		l.mu.Unlock()
		if len(r.wanted) > 0 {
			// A copy comes out of order: what it would have said of epochs and
			// producers in its place, a state says before it.
			if !stated {
				stated = true
				if err := l.rewriteState(); err != nil {
					r.release()
					return moved, err
				}
			}
			var err error
			if moved, err = l.copyForward(ctx, r, bytes, moved); err != nil {
				r.release()
				return moved, err
			}
		}
		r.release()
		if !more {
			return moved, nil
		}
	}
}

// rewriteState writes the log's state anew; the one before is let go of once it
// is on disk.
func (l *Log) rewriteState() error {
	admitted, err := l.admitState()
	if err != nil {
		return err
	}
	defer l.store.wal.Unadmit(admitted)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.refused != nil {
		return nil // dropped, or corrupt: there is nothing to keep
	}
	return l.writeState()
}

// copyForward appends copies of what r wants, of what is still there then.
func (l *Log) copyForward(ctx context.Context, r *lease, bytes int, moved []wal.Ref) ([]wal.Ref, error) {
	if err := l.store.wal.Admit(ctx, wal.Internal, bytes); err != nil {
		return moved, err
	}
	defer l.store.wal.Unadmit(bytes)
	if err := l.load(r); err != nil {
		if l.moved(r.wanted) {
			return moved, nil // trimmed or truncated meanwhile: the rest is found next time
		}
		return moved, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, want := range r.wanted {
		p := l.index.find(want.base)
		if !l.index.valid(p) {
			break
		}
		b, e := l.index.at(p)
		if !guard.Check("log.relocate-live", b.baseOf(p.entry) == want.base && e.ref == want.ref) {
			continue
		}
		h := wal.Header{Kind: wal.KindData, Copy: true, Partition: l.id, Epoch: batch.Batch(r.batches[i]).LeaderEpoch(), Offset: want.base}
		ref, err := l.store.wal.Append(h, r.batches[i], nil)
		if err != nil {
			return moved, err
		}
		moved = append(moved, e.ref)
		e.ref = ref
	}
	return moved, nil
}
