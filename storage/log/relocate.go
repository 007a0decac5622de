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

// relocate appends anew what the log has in a segment.
func (l *Log) relocate(ctx context.Context, segment uint32) error {
	l.mu.Lock()
	stated := false
	for _, ref := range l.stateRefs {
		stated = stated || ref.Segment == segment
	}
	from := l.logStart
	l.mu.Unlock()
	if stated {
		if err := l.rewriteState(); err != nil {
			return err
		}
	}
	for {
		r := leases.Get().(*lease)
		l.mu.Lock()
		p := l.index.find(from)
		bytes := 0
		r.synced = l.replica.synced
		for n := 0; n < relocateEntries && bytes < relocateBytes && l.index.valid(p); n++ {
			b, e := l.index.at(p)
			if b.baseOf(p.entry) >= r.synced {
				break // nor is anything behind it: it is too young to be moved
			}
			if e.ref.Segment == segment {
				r.wanted = append(r.wanted, wanted{b.baseOf(p.entry), e.ref})
				bytes += int(e.ref.Length) + frameOverhead
			}
			from = b.nextOf(p.entry)
			p = l.index.following(p)
		}
		more := l.index.valid(p) && from < r.synced
		l.mu.Unlock()
		if len(r.wanted) > 0 {
			// A copy comes out of order: what it would have said of epochs and
			// producers in its place, a state says before it.
			if !stated {
				stated = true
				if err := l.rewriteState(); err != nil {
					r.release()
					return err
				}
			}
			if err := l.copyForward(ctx, r, bytes); err != nil {
				r.release()
				return err
			}
		}
		r.release()
		if !more {
			return nil
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
	return l.writeState(&release{log: l})
}

// copyForward appends copies of what r wants, of what is still there then.
func (l *Log) copyForward(ctx context.Context, r *lease, bytes int) error {
	if err := l.store.wal.Admit(ctx, wal.Internal, bytes); err != nil {
		return err
	}
	defer l.store.wal.Unadmit(bytes)
	if err := l.load(r); err != nil {
		if l.moved(r.wanted) {
			return nil // trimmed or truncated meanwhile: the rest is found next time
		}
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	c := &copies{log: l}
	for i := range r.batches {
		want := r.wanted[i]
		if !guard.Check("log.relocate-live", l.liesAt(want)) {
			continue
		}
		h := wal.Header{Kind: wal.KindData, Copy: true, Partition: l.id, Epoch: batch.Batch(r.batches[i]).LeaderEpoch(), Offset: want.base}
		ref, err := l.store.wal.Append(h, r.batches[i], c)
		if err != nil {
			return err
		}
		c.made = append(c.made, copied{want, ref})
	}
	return nil
}

// liesAt reports whether a batch is still where it was looked up. l.mu is held.
func (l *Log) liesAt(w wanted) bool {
	p := l.index.find(w.base)
	if !l.index.valid(p) {
		return false
	}
	b, e := l.index.at(p)
	return b.baseOf(p.entry) == w.base && e.ref == w.ref
}

// copies are told, one after the other, that they are on disk. Only then do
// they take the place of what they copy: a reader may have to go to the file.
type copies struct {
	log  *Log
	made []copied // guarded by log.mu
	next int      // the WAL's goroutine
}

type copied struct {
	wanted // where it was copied from
	to     wal.Ref
}

// Committed is called by the WAL, in the order the copies were appended.
func (c *copies) Committed(err error) {
	if err != nil {
		return
	}
	l := c.log
	l.mu.Lock()
	made := c.made[c.next]
	c.next++
	needless := made.to
	if l.liesAt(made.wanted) {
		_, e := l.index.at(l.index.find(made.base))
		needless, e.ref = e.ref, made.to
	}
	l.mu.Unlock()
	l.store.wal.Release(needless)
}
