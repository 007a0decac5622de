package replication

import (
	"time"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/guard"
	"rustmq.dev/rustmq/transport/rpc"
)

// receive takes what the follower says until the stream ends.
func (l *lane) receive(s *rpc.PushStream) error {
	for {
		m, err := s.Receive()
		if err != nil {
			return err
		}
		now := time.Now()
		for i := range m.Entries {
			l.takeReply(now, &m.Entries[i])
		}
		l.link.mu.Lock()
		if m.Stamp != 0 { // after what ends sessions: of those that are left it is the word
			l.heard = l.link.leader.began.Add(time.Duration(m.Stamp - 1))
		}
		l.fullness = m.Fullness
		l.link.mu.Unlock()
		l.link.leader.answered()
	}
}

func (l *lane) takeReply(now time.Time, e *rpc.Reply) {
	l.link.mu.Lock()
	f := l.sessions[e.Session] // nil: it has ended
	l.link.mu.Unlock()
	if f == nil {
		return
	}
	switch e.Kind {
	case rpc.ReplyHistory:
		l.opened(now, f, e)
	case rpc.ReplyConfirm:
		l.confirmed(now, f, e)
	case rpc.ReplyRefused:
		l.link.leader.o.Log.Debug("a follower does not take a partition; trying on", "partition", f.p.id, "epoch", f.p.epoch, "broker", l.link.peer.Broker, "reason", e.Reason)
		l.link.mu.Lock()
		current := l.is(f, e.Session)
		if current {
			l.close(f)
			l.retry(now, f, false)
		}
		l.link.mu.Unlock()
		if current {
			f.p.forget(l.link.peer.Broker)
		}
	}
}

// is reports whether the session is the feed's. link.mu is held.
func (l *lane) is(f *feed, session uint32) bool {
	return f.lane == l && f.session == session && f.state != feedClosed
}

// opened decides how a follower that has told what it has goes on.
func (l *lane) opened(now time.Time, f *feed, e *rpc.Reply) {
	ours := f.p.log.History()
	if !ours.Leads || ours.Epoch != f.p.epoch {
		return
	}
	how := planFor(ours, e.History)
	far := how.restart
	if !far {
		to, _ := f.p.log.Extent(how.at, ours.End, tailBytes)
		far = to < ours.End
	}
	l.link.mu.Lock()
	if !l.is(f, e.Session) || f.state != feedOpening {
		l.link.mu.Unlock()
		return
	}
	if l == l.link.tail && far {
		l.move(f, l.link.catchUp)
		l.link.mu.Unlock()
		return
	}
	f.state, f.plan, f.planned, f.next, f.wait = feedStreams, how, how.restart || how.truncate, how.at, 0
	f.moved.Store(false)
	l.push(f)
	l.link.mu.Unlock()
	if how.restart || how.truncate {
		f.p.forget(l.link.peer.Broker)
	}
	if !how.restart {
		l.confirmed(now, f, &rpc.Reply{Session: e.Session, Offset: min(e.History.Synced, how.at)})
	}
}

// move gives a feed to the follower's other lane.
func (l *lane) move(f *feed, to *lane) {
	l.release(f)
	f.openAt = time.Time{}
	to.adopt(f)
}

// confirmed takes what a follower has on disk in a session. It has what it was sent, and
// no more.
func (l *lane) confirmed(now time.Time, f *feed, e *rpc.Reply) {
	l.link.mu.Lock()
	current := l.is(f, e.Session) && f.state == feedStreams
	restarts := f.planned && f.plan.restart
	synced := e.Offset
	if guard.Check("replication.confirm-session", current) && !restarts {
		synced = f.credible(synced)
		l.reach(now, f, synced)
	}
	l.link.mu.Unlock()
	if !current || restarts {
		return
	}
	f.p.confirmed(now, f, l.link.peer.Incarnation, synced)
	if l == l.link.catchUp {
		l.toTail(f, e.Session, synced)
	}
}

// credible is how far a follower may have come: not beyond what it was sent.
func (f *feed) credible(synced storage.Offset) storage.Offset {
	if !guard.Check("replication.confirms-sent", synced <= f.next) {
		return f.next
	}
	return synced
}

// toTail moves a feed that has caught up to the lane of the tail.
func (l *lane) toTail(f *feed, session uint32, synced storage.Offset) {
	end := f.p.log.Progress().End
	if to, _ := f.p.log.Extent(synced, end, tailBytes/4); to < end {
		return
	}
	l.link.mu.Lock()
	defer l.link.mu.Unlock()
	if l.is(f, session) {
		l.move(f, l.link.tail)
	}
}
