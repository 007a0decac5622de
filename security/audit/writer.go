package audit

import (
	"context"
	"fmt"
	"time"
)

// Sizes and times of writing.
const (
	maxGroup      = 256 << 10 // bytes of events that are written at once, about
	tryFor        = 15 * time.Second
	firstPause    = 50 * time.Millisecond
	longestPause  = 2 * time.Second
	rememberPause = time.Second
)

// writer is what belongs to the goroutine that writes.
type writer struct {
	chain chain
	head  Head      // what was written last, once chain has begun
	kept  int64     // seq that was remembered last; -1: none
	at    time.Time // of that
}

// group is records that are written at once.
type group struct {
	records [][]byte
	events  int64 // that are lost with it
	memory  int64
}

// Start begins to write to a sink. It is called once, if at all.
func (l *Log) Start(s Sink) {
	ctx, cancel := context.WithCancel(context.Background())
	l.stop = cancel
	go l.write(ctx, s)
}

// Close writes what is queued, as long as ctx allows, and ends the writer. What is recorded
// from then on is not written.
func (l *Log) Close(ctx context.Context) error {
	l.mu.Lock()
	l.closing = true
	l.folder.flush(l.push)
	l.mu.Unlock()
	if l.stop != nil {
		l.signal()
		select {
		case <-l.ended:
		case <-ctx.Done():
		}
		l.stop()
		<-l.ended
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if left := int64(len(l.queue)) + l.lost; left > 0 {
		return fmt.Errorf("%d events could not be written to the audit log: %w", left, l.stats.Err)
	}
	return nil
}

// write is the writer. It blocks on what is to be recorded, on the sink, and on what
// remembers.
func (l *Log) write(ctx context.Context, s Sink) {
	defer close(l.ended)
	defer l.remember(true)
	for {
		g, closing := l.take()
		switch {
		case len(g.records) > 0:
			if !l.append(ctx, s, &g) {
				return
			}
			l.remember(false)
		case closing || !l.sleep(ctx):
			return
		}
	}
}

// sleep waits until there may be something to write, or to remember; false: ctx has ended.
func (l *Log) sleep(ctx context.Context) bool {
	l.mu.Lock()
	next := l.folder.next
	l.mu.Unlock()
	now := l.o.Now()
	if l.o.Remember != nil && l.w.unkept() {
		if keep := l.w.at.Add(rememberPause); next.IsZero() || keep.Before(next) {
			next = keep
		}
	}
	var due <-chan time.Time
	if !next.IsZero() {
		timer := time.NewTimer(max(next.Sub(now), 0))
		defer timer.Stop()
		due = timer.C
	}
	select {
	case <-ctx.Done():
		return false
	case <-l.wake:
	case <-due:
	}
	l.remember(false)
	return true
}

// take makes the next group; closing: there will be no further one behind an empty one.
func (l *Log) take() (g group, closing bool) {
	now := l.o.Now()
	l.mu.Lock()
	l.folder.due(now, l.push)
	n := 0
	for n < len(l.queue) && g.memory < maxGroup {
		g.memory += l.queue[n].size()
		n++
	}
	events := l.queue[:n:n]
	l.queue = l.queue[n:]
	var lost int64
	if len(l.queue) == 0 { // what was lost came behind what is queued
		l.queue, lost, l.lost = nil, l.lost, 0
	}
	closing = l.closing
	l.mu.Unlock()
	if len(events) == 0 && lost == 0 {
		return g, closing
	}
	if l.w.chain.seq == 0 {
		g.records = append(g.records, l.w.chain.begin(now, l.o.Before))
	}
	for i := range events {
		g.records = append(g.records, l.w.chain.event(&events[i]))
		g.events += max(events[i].Count, 1)
	}
	if lost > 0 {
		g.records = append(g.records, l.w.chain.gap(now, lost))
		g.events += lost
	}
	return g, closing
}

// append writes a group, however often that takes; false: ctx has ended before.
func (l *Log) append(ctx context.Context, s Sink, g *group) bool {
	l.mu.Lock()
	l.since = l.o.Now()
	l.mu.Unlock()
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		try, cancel := context.WithTimeout(ctx, tryFor)
		first, err := s.Append(try, g.records)
		cancel()
		if err == nil {
			l.written(g, first)
			return true
		}
		l.mu.Lock()
		begins := l.stats.Err == nil
		l.stats.Err = err
		l.mu.Unlock()
		if begins && ctx.Err() == nil {
			l.o.Log.Error("the audit log cannot be written; trying on", "error", err, "acts_are_refused", l.o.Block)
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			l.mu.Lock()
			l.lost += g.events
			l.mu.Unlock()
			return false
		}
	}
}

// written takes note of a group that is durable, from an offset on.
func (l *Log) written(g *group, first int64) {
	l.w.head = l.w.chain.head(first + int64(len(g.records)) - 1)
	l.mu.Lock()
	head := l.w.head
	l.head = &head
	l.memory -= g.memory
	l.stats.Written += int64(len(g.records))
	ends, lasted := l.stats.Err != nil, l.o.Now().Sub(l.since)
	l.stats.Err, l.since = nil, time.Time{}
	l.mu.Unlock()
	if ends {
		l.o.Log.Warn("the audit log is written again", "failed_for", lasted.Round(time.Millisecond).String())
	}
}

// unkept reports whether more was written than is remembered.
func (w *writer) unkept() bool { return w.head.Life != "" && w.head.Seq != w.kept }

// remember keeps how far the life has come, at most once a second unless it is the end.
func (l *Log) remember(end bool) {
	now := l.o.Now()
	if l.o.Remember == nil || !l.w.unkept() || !end && now.Sub(l.w.at) < rememberPause {
		return
	}
	l.w.at, l.w.kept = now, l.w.head.Seq
	if err := l.o.Remember(l.w.head); err != nil {
		l.o.Log.Warn("how far the audit log has come is not kept", "error", err)
	}
}
