package wal

import (
	"context"
	"fmt"
	"time"
)

// commitLoop writes what is queued whenever the device is free. It blocks on
// the disk, on appenders that are copying, and on kick.
func (w *WAL) commitLoop(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	wait := idleMark
	if w.o.Sync == SyncInterval {
		wait = w.o.SyncInterval
	}
	armed := false // a mark, or a sync, is owed when the timer fires
	for {
		taken := w.take()
		if len(taken) > 0 {
			if !w.commit(taken) {
				w.failRest()
				return
			}
			if !armed || w.o.Sync == SyncAlways {
				timer.Reset(wait)
				armed = true
			}
			if w.o.Sync != SyncInterval {
				continue
			}
			select { // the interval does not wait for an idle moment
			case <-timer.C:
				armed = false
				if !w.settle() {
					w.failRest()
					return
				}
			default:
			}
			continue
		}
		select {
		case <-w.kick:
		case <-timer.C:
			armed = false
			if !w.settle() {
				w.failRest()
				return
			}
		case <-ctx.Done():
			if taken := w.takeRest(); len(taken) > 0 && !w.commit(taken) {
				w.failRest()
				return
			}
			if w.marked < w.written {
				w.settle()
			}
			return
		}
	}
}

// take returns the queue and closes the open group; with nothing that is due it
// says that the committer waits.
func (w *WAL) take() []*group {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.due {
		w.idle = true
		return nil
	}
	w.due = false
	taken := w.queue
	w.queue = w.taken[:0]
	w.taken = taken
	w.open = nil
	w.idle = len(taken) == 0
	return taken
}

// takeRest returns the queue, due or not.
func (w *WAL) takeRest() []*group {
	w.mu.Lock()
	w.due = true
	w.mu.Unlock()
	return w.take()
}

// settle says on disk what is on disk: with SyncInterval it syncs, and it
// writes a mark when the last group cannot be told from a torn one.
func (w *WAL) settle() bool {
	if w.o.Sync == SyncInterval && !w.syncWritten() {
		return false
	}
	if w.marked >= w.durable.Load() {
		return true
	}
	w.mu.Lock()
	if w.dead != nil {
		w.mu.Unlock()
		return false
	}
	if len(w.queue) > 0 { // its group headers are the mark
		w.idle = false
		w.mu.Unlock()
		return true
	}
	_, err := w.reserve(0, lastBlock)
	w.idle, w.due = false, true
	w.mu.Unlock()
	if err != nil {
		return true // no room for a mark alone; the next group carries it
	}
	return w.commit(w.take())
}

// syncWritten makes durable what was written without a sync.
func (w *WAL) syncWritten() bool {
	if w.durable.Load() >= w.written {
		return true
	}
	w.counts.syncBegins()
	if w.syncOrDie(w.lastWritten.file) != nil {
		return false
	}
	w.counts.syncEnds()
	w.advance(w.written)
	return true
}

// settleSegment makes the segment before seg durable before anything is written
// to seg, whose header says so. What a crash leaves unconfirmed is never more
// than a segment holds, then, and never behind a hole.
func (w *WAL) settleSegment(seg *segment) bool {
	return w.o.Sync != SyncInterval || w.lastWritten == nil || w.lastWritten == seg || w.syncWritten()
}

// commit writes the groups with as few writes as their segments allow, makes
// them durable, and completes their appends in order.
func (w *WAL) commit(taken []*group) bool {
	for from := 0; from < len(taken); {
		to := from
		w.bufs = w.bufs[:0]
		seg := taken[from].chunk.segment
		if !w.settleSegment(seg) {
			w.complete(taken[from:], w.deadError())
			return false
		}
		at := taken[from].chunk.base + int64(taken[from].start)
		off := at
		if !seg.headed {
			w.bufs = append(w.bufs, seg.header(w.durable.Load(), w.begin.Load()))
			off = 0
		}
		for to < len(taken) && taken[to].chunk.segment == seg && taken[to].chunk.base+int64(taken[to].start) == at {
			b := w.finish(taken[to])
			w.bufs = append(w.bufs, b)
			at += int64(len(b))
			to++
		}
		if err := w.write(seg, off); err != nil {
			w.die(err)
			w.complete(taken[from:], w.deadError())
			return false
		}
		w.counts.commits.Add(1)
		seg.headed = true
		w.complete(taken[from:to], nil)
		from = to
	}
	return true
}

// finish waits for the copies of a group, writes its header, and returns the
// bytes that go to disk.
func (w *WAL) finish(g *group) []byte {
	g.copies.Wait()
	buf := g.chunk.buf
	end := alignBlock(g.end)
	clear(buf[g.end:end])
	groupHeader{stamp: g.chunk.segment.stamp, first: g.first, mark: w.durable.Load(), length: uint32(g.end - g.start), count: uint32(g.count), begin: w.begin.Load()}.encode(buf[g.start:])
	w.marked = w.durable.Load()
	if g.count > 0 {
		w.written = g.first + uint64(g.count) - 1
	}
	return buf[g.start:end]
}

func (w *WAL) write(seg *segment, off int64) error {
	if w.o.Sync == SyncAlways {
		w.counts.syncBegins()
		if err := seg.file.WriteSync(w.bufs, off); err != nil {
			return fmt.Errorf("write and sync %s: %w", seg.file.Name(), err)
		}
		w.counts.syncEnds()
		return nil
	}
	w.lastWritten = seg
	for _, b := range w.bufs {
		if _, err := seg.file.WriteAt(b, off); err != nil {
			return fmt.Errorf("write %s: %w", seg.file.Name(), err)
		}
		off += int64(len(b))
	}
	return nil
}

// advance moves durable, and tells who waits for it.
func (w *WAL) advance(durable uint64) {
	w.durable.Store(durable)
	w.mu.Lock()
	w.broadcast()
	w.mu.Unlock()
}

// complete ends groups that were written, or that never will be.
func (w *WAL) complete(done []*group, err error) {
	var bytes int64
	for _, g := range done {
		g.copies.Wait()
		bytes += int64(g.end - g.start - groupHeaderReserve)
	}
	if err == nil && w.o.Sync == SyncAlways {
		w.durable.Store(w.written)
	}
	completed := w.written
	for i, g := range done {
		for j, c := range g.completions {
			c.Committed(err)
			g.completions[j] = nil
		}
		g.chunk.pending.Add(-1)
		g.chunk = nil
		groups.Put(g)
		done[i] = nil
	}
	w.mu.Lock()
	w.unsynced -= bytes
	w.completed = completed
	w.broadcast()
	w.mu.Unlock()
}

// failRest completes with the error whatever still comes after the log died.
func (w *WAL) failRest() {
	if taken := w.takeRest(); len(taken) > 0 {
		w.complete(taken, w.deadError())
	}
}

func (w *WAL) deadError() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.dead
}
