package log

import (
	"context"
	"errors"

	"rustmq.dev/rustmq/storage"
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

// relocate appends anew what the log has in a segment and the bucket has not, and
// gives up the rest.
func (l *Log) relocate(ctx context.Context, segment uint32) error {
	l.mu.Lock()
	stated := false
	for _, ref := range l.stateRefs {
		stated = stated || ref.Segment == segment
	}
	touched := l.index.mayLieIn(segment)
	l.mu.Unlock()
	if !stated && !touched {
		return nil
	}
	if uploaded := l.uploadedIn(segment); stated || uploaded != storage.NoOffset {
		if err := l.advanceLocalStart(uploaded, stated); err != nil {
			return err
		}
	}
	from := l.LocalStart()
	for {
		r := leases.Get().(*lease)
		l.mu.Lock()
		p := l.index.find(from)
		bytes := 0
		r.synced = l.replica.synced
		for n, looked := 0, 0; n < relocateEntries && bytes < relocateBytes && l.index.valid(p); n += looked {
			if p, looked = l.index.nextIn(segment, p, relocateEntries-n); !l.index.valid(p) {
				break
			}
			b, e := l.index.at(p)
			from = b.baseOf(p.entry)
			if from >= r.synced {
				p = place{len(l.index.blocks), 0} // nor is anything behind it: it is too young to be moved
				break
			}
			if e.ref.Segment != segment {
				break // not before all that this step may look at
			}
			r.wanted = append(r.wanted, wanted{from, e.ref})
			bytes += int(e.ref.Length) + frameOverhead
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
				if err := l.advanceLocalStart(storage.NoOffset, true); err != nil {
					r.release()
					return err
				}
			}
			err := l.copyForward(ctx, r, bytes)
			if errors.As(err, new(*unreadableError)) {
				err = l.copySingly(ctx, r.wanted)
			}
			if err != nil {
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
		return &unreadableError{err}
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

// unreadableError says that batches that were to be copied could not be read.
type unreadableError struct{ why error }

func (e *unreadableError) Error() string { return e.why.Error() }
func (e *unreadableError) Unwrap() error { return e.why }

// isDamage reports whether err says that a batch was not what was written there.
func isDamage(err error) bool {
	return errors.As(err, new(*wal.CorruptionError)) || errors.As(err, new(*CorruptionError))
}

// copySingly is copyForward of batches one of which cannot be read. If the bucket has
// that one, it is left to it, at the latest when what lies before is released. If it is damaged, it is given up, and with it the log. Or
// the segment, and all behind it, would stay for ever; as it does where the disk only
// fails to read it, which may pass.
func (l *Log) copySingly(ctx context.Context, of []wanted) error {
	for _, want := range of {
		r := leases.Get().(*lease)
		r.wanted, r.synced = append(r.wanted, want), want.base+1
		err := l.copyForward(ctx, r, int(want.ref.Length)+frameOverhead)
		r.release()
		if errors.As(err, new(*unreadableError)) {
			left, waits := l.leave(want, err)
			if left {
				continue
			}
			if !waits && isDamage(err) && !guard.Check("log.relocate-damage", false) {
				err = l.lose(want, err)
			}
		}
		if err != nil {
			return err
		}
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
		p := l.index.find(made.base)
		b, e := l.index.at(p)
		needless = e.ref
		b.move(e, made.to)
		if b.nextOf(p.entry) <= l.dispensable() { // since it was copied
			moved := tally{wal: l.store.wal}
			moved.add(needless, -1)
			moved.add(made.to, 1)
			moved.report()
		}
	}
	l.mu.Unlock()
	l.store.wal.Release(needless)
}
