package wal

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"rustmq.dev/rustmq/storage/guard"
)

const (
	// writers is how many commits may be on their way to the disk at once: while
	// one waits for its sync, the device takes the bytes of the next
	// (docs/design/0001).
	writers = 2
	// overlapBytes is from how many queued bytes on a commit begins beside another.
	// Fewer wait for the device to be free, and share one sync with what comes
	// meanwhile. Of small segments it is a sixteenth.
	overlapBytes = 256 << 10

	never = math.MaxInt64 // no number of queued bytes wakes the committer
)

// commit is what one write makes durable: groups that lie one behind the other in
// one segment.
type commit struct {
	segment *segment
	groups  []*group
	bufs    [][]byte
	off     int64
	last    uint64 // the highest sequence that was written once this has ended
	ended   bool
	err     error
}

// commitLoop says what is written when, and completes what was, in log order; the
// writers write. It blocks on appenders that are copying, on kick and on the
// writers, and with SyncInterval on the disk.
func (w *WAL) commitLoop(ctx context.Context) {
	defer close(w.writes)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	wait := idleMark
	if w.o.Sync == SyncInterval {
		wait = w.o.SyncInterval
	}
	armed := false // a mark, or a sync, is owed when the timer fires
	owed := false  // it fired while there was a write under way
	stop := ctx.Done()
	for {
		alive := w.begin()
		if alive && len(w.flying) == 0 && (owed || stop == nil) {
			owed = false
			var marking bool
			if marking, alive = w.settle(); marking {
				continue
			}
			if stop == nil && alive {
				return
			}
		}
		if !alive {
			w.failRest()
			return
		}
		select {
		case <-w.kick:
		case c := <-w.wrote:
			c.ended = true
			w.completeEnded()
			if !armed || w.o.Sync == SyncAlways {
				timer.Reset(wait)
				armed = true
			}
		case <-timer.C:
			armed, owed = false, true
		case <-stop:
			stop = nil
			w.mu.Lock()
			w.due = true
			w.mu.Unlock()
		}
	}
}

// writeLoop writes what it is handed. It blocks on the disk.
func (w *WAL) writeLoop() {
	for c := range w.writes {
		c.err = w.write(c)
		w.wrote <- c
	}
}

// begin starts the writes that may start now. False: the log is dead.
func (w *WAL) begin() bool {
	for w.take() {
		seg := w.taken[0].chunk.segment
		if !w.mayFly(seg) {
			return true
		}
		if !w.settleSegment(seg) {
			return false
		}
		c := w.form()
		w.flying = append(w.flying, c)
		w.writes <- c
	}
	return w.deadError() == nil
}

// mayFly reports whether a write to the segment may begin beside those under way:
// in the same segment, when its header is on disk. So what a crash leaves
// unconfirmed is never more than a segment holds, and nothing lies on disk behind
// the end of a segment, or a header, that does not.
func (w *WAL) mayFly(seg *segment) bool {
	switch {
	case len(w.flying) == 0:
		return true
	case len(w.flying) == writers || w.o.Sync == SyncInterval:
		return false
	}
	return guard.Check("wal.overlap", seg.headed && seg == w.flying[0].segment)
}

// take reports whether groups were taken that are not on their way. If there are
// none it takes the queue, and closes the open group, when it is due; else it says
// what the committer waits for.
func (w *WAL) take() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.dead != nil || len(w.taken) > 0 {
		return w.dead == nil
	}
	switch {
	case len(w.flying) == 0:
		w.wakeAt = 0
	case len(w.queue) > 0 && !w.mayFly(w.queue[0].chunk.segment):
		w.wakeAt = never
	default:
		w.wakeAt = w.overlap
	}
	if !w.due || w.queued < w.wakeAt {
		return false
	}
	w.takeQueue()
	return len(w.taken) > 0
}

// takeQueue takes what is queued. w.mu is held.
func (w *WAL) takeQueue() {
	w.taken, w.queue = w.queue, w.taken[:0]
	w.due, w.queued, w.wakeAt = false, 0, never
	w.open = nil
}

// form makes a commit of the taken groups that lie one behind the other. It waits
// for their copies.
func (w *WAL) form() *commit {
	c := w.commits[len(w.commits)-1]
	w.commits = w.commits[:len(w.commits)-1]
	seg := w.taken[0].chunk.segment
	at := w.taken[0].chunk.base + int64(w.taken[0].start)
	*c = commit{segment: seg, groups: c.groups[:0], bufs: c.bufs[:0], off: at}
	if !seg.headed {
		c.bufs = append(c.bufs, seg.header(w.durable.Load(), w.begun.Load()))
		c.off = 0
	}
	for _, g := range w.taken {
		if g.chunk.segment != seg || g.chunk.base+int64(g.start) != at {
			break
		}
		b := w.finish(g)
		c.bufs = append(c.bufs, b)
		c.groups = append(c.groups, g)
		at += int64(len(b))
	}
	w.taken = slices.Delete(w.taken, 0, len(c.groups))
	c.last = w.written
	w.lastWritten = seg
	return c
}

// finish waits for the copies of a group, writes its header, and returns the
// bytes that go to disk.
func (w *WAL) finish(g *group) []byte {
	g.copies.Wait()
	buf := g.chunk.buf
	end := alignBlock(g.end)
	clear(buf[g.end:end])
	groupHeader{stamp: g.chunk.segment.stamp, first: g.first, mark: w.durable.Load(), length: uint32(g.end - g.start), count: uint32(g.count), begin: w.begun.Load()}.encode(buf[g.start:])
	w.marked = w.durable.Load()
	if g.count > 0 {
		w.written = g.first + uint64(g.count) - 1
	}
	return buf[g.start:end]
}

func (w *WAL) write(c *commit) error {
	file := c.segment.file
	if w.o.Sync == SyncAlways {
		if err := file.WriteSync(c.bufs, c.off); err != nil {
			return fmt.Errorf("write and sync %s: %w", file.Name(), err)
		}
		w.counts.syncs.Add(1)
		return nil
	}
	off := c.off
	for _, b := range c.bufs {
		if _, err := file.WriteAt(b, off); err != nil {
			return fmt.Errorf("write %s: %w", file.Name(), err)
		}
		off += int64(len(b))
	}
	return nil
}

// completeEnded completes the commits that have ended, up to the first that has
// not: nothing is confirmed behind a hole.
func (w *WAL) completeEnded() {
	for len(w.flying) > 0 && w.flying[0].ended {
		c := w.flying[0]
		if c.err != nil {
			w.die(c.err)
			return
		}
		w.flying = slices.Delete(w.flying, 0, 1)
		w.counts.commits.Add(1)
		c.segment.headed = true
		if w.o.Sync == SyncAlways {
			w.durable.Store(c.last)
		}
		bytes := w.tell(c.groups, nil)
		w.mu.Lock()
		w.unsynced -= bytes
		w.completed = c.last
		w.broadcast()
		w.mu.Unlock()
		w.commits = append(w.commits, c)
	}
}

// tell ends groups that were written, or that never will be, and returns the bytes
// of their frames.
func (w *WAL) tell(groupsOf []*group, err error) (bytes int64) {
	for i, g := range groupsOf {
		g.copies.Wait()
		bytes += int64(g.end - g.start - groupHeaderReserve)
		for j, c := range g.completions {
			c.Committed(err)
			g.completions[j] = nil
		}
		g.chunk.pending.Add(-1)
		g.chunk = nil
		groups.Put(g)
		groupsOf[i] = nil
	}
	return bytes
}

// failRest tells of its death whatever the log still holds, once no write is under
// way.
func (w *WAL) failRest() {
	for _, c := range w.flying {
		for !c.ended {
			(<-w.wrote).ended = true
		}
	}
	err := w.deadError()
	for _, c := range w.flying {
		w.tell(c.groups, err)
	}
	w.tell(w.taken, err)
	w.mu.Lock()
	w.taken = w.taken[:0]
	w.takeQueue()
	w.mu.Unlock()
	w.tell(w.taken, err)
}

// settle says on disk what is on disk: with SyncInterval it syncs, and it queues a
// mark when the last group cannot be told from a torn one. There is no write under
// way.
func (w *WAL) settle() (marking, alive bool) {
	if w.o.Sync == SyncInterval && !w.syncWritten() {
		return false, false
	}
	if w.marked >= w.durable.Load() {
		return false, true
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.dead != nil {
		return false, false
	}
	if len(w.queue) > 0 { // its group headers are the mark
		return false, true
	}
	if _, err := w.reserve(0, lastBlock); err != nil {
		return false, true // no room for a mark alone; the next group carries it
	}
	w.due = true
	return true, true
}

// syncWritten makes durable what was written without a sync. There is no write
// under way.
func (w *WAL) syncWritten() bool {
	if w.durable.Load() >= w.written {
		return true
	}
	// A file that has failed a sync is not synced again: the second would say that
	// all is well, of pages that the first has dropped.
	if !guard.Check("wal.sync-dead", w.deadError() == nil) {
		return false
	}
	if err := w.syncNow(w.lastWritten.file); err != nil {
		return false
	}
	w.counts.syncs.Add(1)
	w.durable.Store(w.written)
	w.mu.Lock()
	w.broadcast()
	w.mu.Unlock()
	return true
}

// settleSegment makes the segment before seg durable before anything is written
// to seg, whose header says so. What a crash leaves unconfirmed is never more
// than a segment holds, then, and never behind a hole.
func (w *WAL) settleSegment(seg *segment) bool {
	return w.o.Sync != SyncInterval || w.lastWritten == nil || w.lastWritten == seg || w.syncWritten()
}

func (w *WAL) deadError() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.dead
}
