package replication

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/guard"
	"rustmq.dev/rustmq/storage/log"
	"rustmq.dev/rustmq/transport/rpc"
)

// run keeps a stream to the follower until ctx ends. It blocks on the network, and on
// reads of the logs.
func (l *lane) run(ctx context.Context) {
	wait, told := time.Duration(0), false
	for ctx.Err() == nil {
		if l.idle() {
			select {
			case <-ctx.Done():
			case <-l.wake:
			}
			continue
		}
		began := time.Now()
		err := l.stream(ctx)
		for _, f := range l.down() {
			f.p.forget(l.link.peer.Broker)
		}
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > reopenMost || err == nil {
			wait, told = 0, false // it had worked
		}
		if err == nil {
			continue // what needs it next is not to wait
		}
		if !told {
			told = true
			l.link.leader.o.Log.Warn("a follower is not reached; trying on", "broker", l.link.peer.Broker, "address", l.link.peer.Address, "error", err)
		}
		wait = min(max(2*wait, reopen), reopenMost)
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}

// stream sends until the stream fails, or nothing needs it any more; then it returns nil.
func (l *lane) stream(ctx context.Context) error {
	s, err := l.pushes.Open(ctx, l.link.peer.Address, l.link.leader.o.Self(), l.link.peer.Incarnation)
	if err != nil {
		return err
	}
	var receiving sync.WaitGroup
	ended := make(chan error, 1)
	receiving.Go(func() { ended <- l.receive(s) })
	defer receiving.Wait()
	defer s.Close()
	l.link.mu.Lock()
	l.heard = time.Now()
	l.link.mu.Unlock()
	ticker := time.NewTicker(beat)
	defer ticker.Stop()
	for {
		if m := l.compose(time.Now(), l.takeAsked()); m != nil {
			if err := l.send(s, m); err != nil {
				return errors.Join(err, <-ended)
			}
			continue
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-ended:
			return err
		case <-l.wake:
		case <-ticker.C:
			if l.idle() {
				return nil
			}
			if l.silent(time.Now()) {
				s.Close()
				<-ended
				return errSilent
			}
			if err := l.send(s, l.compose(time.Now(), true)); err != nil {
				return errors.Join(err, <-ended)
			}
		}
	}
}

// errSilent ends a stream whose follower says nothing.
var errSilent = fmt.Errorf("nothing was heard for %v", sendPatience)

// silent reports whether the follower has not answered for too long what it was sent.
func (l *lane) silent(now time.Time) bool {
	l.link.mu.Lock()
	defer l.link.mu.Unlock()
	return now.Sub(l.heard) > sendPatience
}

func (l *lane) send(s *rpc.PushStream, m *rpc.PushMessage) error {
	late := time.AfterFunc(sendPatience, s.Close)
	defer late.Stop()
	return s.Send(m)
}

// compose makes the next message; nil: there is nothing to send, unless even an empty one
// is wanted, to hear that the follower is there.
func (l *lane) compose(now time.Time, empty bool) *rpc.PushMessage {
	m := &message{PushMessage: rpc.PushMessage{Stamp: 1 + int64(now.Sub(l.link.leader.began))}}
	for m.bytes < messageBytes && len(m.Entries) < messageEntries {
		f, t := l.take(now, empty || len(m.Entries) > 0)
		if f == nil {
			break
		}
		if !l.fill(m, f, t, now) {
			break
		}
	}
	if len(m.Entries) == 0 && !empty {
		return nil
	}
	l.link.mu.Lock()
	l.made = now
	l.link.mu.Unlock()
	if len(m.results) > 0 {
		results := m.results
		m.Release = func() {
			for i := range results {
				results[i].Release()
			}
		}
	}
	return &m.PushMessage
}

// message is one that is being made.
type message struct {
	rpc.PushMessage
	bytes   int
	results []log.ReadResult
}

// turn is what a feed was when it was its turn.
type turn struct {
	state   feedState
	session uint32
	plan    plan
	planned bool
	next    storage.Offset
	sent    storage.Offset
}

// take returns the feed whose turn it is: with notices, or once they have waited, one that
// has a high watermark alone comes too.
func (l *lane) take(now time.Time, notices bool) (*feed, turn) {
	l.link.mu.Lock()
	defer l.link.mu.Unlock()
	if now.Before(l.lateNext) {
		return l.takeQueued(now, notices)
	}
	l.lateNext = now.Add(reopenMost)
	for i := 0; i < len(l.late); {
		f := l.late[i]
		stale := f.lane != l || f.state != feedClosed
		if !stale && now.Before(f.openAt) {
			l.lateNext = earlier(l.lateNext, f.openAt)
			i++
			continue
		}
		l.late[i] = l.late[len(l.late)-1]
		l.late = l.late[:len(l.late)-1]
		if stale {
			continue
		}
		l.lateNext = now // there may be more
		l.numbers++
		f.state, f.session, f.sent, f.confirmed = feedOpening, l.numbers, storage.NoOffset, 0
		l.sessions[f.session] = f
		return f, turn{state: feedOpening, session: f.session}
	}
	return l.takeQueued(now, notices)
}

// takeQueued returns the first in the queue, while the window has room, or the first notice:
// where the queue is empty, or the notices have waited, for a queue that is never empty would
// keep them for good.
func (l *lane) takeQueued(now time.Time, notices bool) (*feed, turn) {
	late := now.Sub(l.noticed) >= noticeWait
	for (len(l.queue) > 0 || (notices || late) && len(l.notices) > 0) && guard.Check("replication.window", l.flying < windowBytes) {
		var f *feed
		if len(l.queue) > 0 && (!late || len(l.notices) == 0) {
			f, l.queue = l.queue[0], l.queue[1:]
			f.queued = false
		} else {
			f, l.notices = l.notices[0], l.notices[1:]
			if f.notice = false; f.queued {
				continue // it goes with its records
			}
		}
		if f.lane != l || f.state != feedStreams {
			continue
		}
		f.moved.Store(false)
		return f, turn{f.state, f.session, f.plan, f.planned, f.next, f.sent}
	}
	return nil, turn{}
}

// fill adds to a message what a feed has to send, and reports whether there may be room
// for more.
func (l *lane) fill(m *message, f *feed, t turn, now time.Time) bool {
	if t.state == feedOpening {
		m.Entries = append(m.Entries, rpc.Push{Kind: rpc.PushOpen, Session: t.session, Partition: f.p.id, LeaderEpoch: f.p.epoch, MetadataOffset: f.p.metadata})
		return true
	}
	next := t.next
	if t.planned && t.plan.restart {
		state, at, err := f.p.log.ReplicaState()
		if err != nil || len(state) > maxState {
			l.failed(f, t, now, err)
			return true
		}
		if m.bytes > 0 && m.bytes+len(state) > rpc.MaxPush {
			l.again(f, t)
			return false
		}
		m.restart(t.session, at, state)
		next = at
	} else if t.planned && t.plan.truncate {
		m.Entries = append(m.Entries, rpc.Push{Kind: rpc.PushTruncate, Session: t.session, Offset: t.plan.at})
	}
	progress := f.p.log.Progress()
	if progress.Epoch != f.p.epoch {
		return true // whoever leads will end the feed
	}
	e := rpc.Push{Kind: rpc.PushRecords, Session: t.session, Offset: progress.HighWatermark}
	size, fits := 0, true
	if next < progress.End {
		result, err := f.p.log.Read(log.ReadRequest{Offset: next, MaxBytes: min(quantum, messageBytes-m.bytes), MinOne: m.bytes == 0, Isolation: log.LogEnd})
		if err != nil || result.Epoch != f.p.epoch {
			result.Release()
			l.failed(f, t, now, err)
			return true
		}
		size = result.Bytes
		if size > 0 {
			e.Data, e.Offset = result.Batches, result.HighWatermark
			next = batch.Batch(result.Batches[len(result.Batches)-1]).NextOffset()
			m.results = append(m.results, result)
		} else {
			result.Release()
			fits = m.bytes == 0 // else it is too large for what is left of this message
		}
	}
	if size > 0 || e.Offset != t.sent {
		m.Entries = append(m.Entries, e)
	}
	m.bytes += size
	l.sent(f, t, next, e.Offset, int64(size), now, size > 0 && next < progress.End)
	if !fits {
		l.again(f, t)
	}
	return fits
}

// restart adds a state, in parts.
func (m *message) restart(session uint32, at storage.Offset, state []byte) {
	for first := true; first || len(state) > 0; first = false {
		n := min(len(state), stateChunk)
		m.Entries = append(m.Entries, rpc.Push{Kind: rpc.PushRestart, Session: session, Offset: at, Data: [][]byte{state[:n]}, Last: n == len(state)})
		m.bytes += n
		state = state[n:]
	}
}

// sent takes note of what is in a message.
func (l *lane) sent(f *feed, t turn, next, highWatermark storage.Offset, bytes int64, now time.Time, more bool) {
	l.link.leader.counts.bytes.Add(bytes)
	l.link.mu.Lock()
	defer l.link.mu.Unlock()
	if f.lane != l || f.state != feedStreams || f.session != t.session {
		return
	}
	f.planned, f.next, f.sent = false, next, highWatermark
	if bytes > 0 {
		f.flights = append(f.flights, flight{next, bytes, now})
		l.flying += bytes
	}
	if more {
		l.push(f)
	}
}

// again queues a feed that there was no room for.
func (l *lane) again(f *feed, t turn) {
	l.link.mu.Lock()
	defer l.link.mu.Unlock()
	if f.lane == l && f.state == feedStreams && f.session == t.session {
		l.pushFront(f)
	}
}

// failed has a feed opened anew: what comes next is not in the WAL any more, say.
func (l *lane) failed(f *feed, t turn, now time.Time, err error) {
	_, gone := errors.AsType[*log.NotLocalError](err)
	l.link.mu.Lock()
	current := f.lane == l && f.session == t.session && f.state != feedClosed
	if current {
		l.close(f)
		l.retry(now, f, gone)
	}
	l.link.mu.Unlock()
	if current && err != nil && !gone {
		l.link.leader.o.Log.Warn("a partition cannot be replicated; trying on", "partition", f.p.id, "broker", l.link.peer.Broker, "error", err)
	}
}
