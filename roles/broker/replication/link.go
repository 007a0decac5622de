package replication

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/transport/rpc"
)

// link is a follower broker, in one registration.
type link struct {
	leader        *Leader
	peer          Peer
	ctx           context.Context
	stop          context.CancelFunc
	tail, catchUp *lane

	mu sync.Mutex // guards its lanes, and the feeds
}

// lane is one stream to a follower, made when there is something to send, and made anew
// when it ends.
type lane struct {
	link   *link
	pushes *rpc.Pushes
	wake   chan struct{} // holds a token while there may be something to send

	// Guarded by link.mu.
	feeds    map[*feed]struct{}
	sessions map[uint32]*feed // of the stream
	numbers  uint32
	queue    []*feed   // that have something to send, in the order they came
	notices  []*feed   // that have nothing to send but a high watermark
	noticed  time.Time // when the first of them came
	notify   *time.Timer
	late     []*feed   // that are to be opened, in no order
	lateNext time.Time // none of them before
	flying   int64     // bytes that are not confirmed
	heard    time.Time // when the newest message was sent that the follower has answered
	took     time.Duration
	tookAt   time.Time // when that was measured last
	fullness uint16
	made     time.Time // when the newest message of the stream was
	asked    bool      // an answer is waited for: the next message is sent though it be empty
}

type feedState uint8

const (
	feedClosed feedState = iota
	feedOpening
	feedStreams
)

// feed is one partition to one follower.
type feed struct {
	p     *led
	link  *link
	moved atomic.Bool // its log has, since it was looked at last

	// Guarded by link.mu.
	lane      *lane // nil: it has ended
	state     feedState
	session   uint32
	queued    bool
	notice    bool // in lane.notices
	plan      plan // to be sent before anything else
	planned   bool
	next      storage.Offset // where what is sent next begins
	confirmed storage.Offset
	sent      storage.Offset // high watermark that was sent last
	flights   []flight
	openAt    time.Time // not before
	wait      time.Duration
}

// flight is what was sent and not confirmed.
type flight struct {
	end   storage.Offset
	bytes int64
	at    time.Time
}

func newLink(l *Leader, peer Peer) *link {
	k := &link{leader: l, peer: peer}
	k.ctx, k.stop = context.WithCancel(l.ctx)
	k.tail, k.catchUp = newLane(k, l.o.Tail), newLane(k, l.o.CatchUp)
	l.running.Go(func() { k.tail.run(k.ctx) })
	l.running.Go(func() { k.catchUp.run(k.ctx) })
	return k
}

func newLane(k *link, pushes *rpc.Pushes) *lane {
	l := &lane{link: k, pushes: pushes, wake: make(chan struct{}, 1), feeds: map[*feed]struct{}{}, sessions: map[uint32]*feed{}}
	l.notify = time.AfterFunc(time.Hour, l.ring)
	l.notify.Stop()
	return l
}

// begin has a feed opened.
func (k *link) begin(f *feed) {
	k.mu.Lock()
	defer k.mu.Unlock()
	f.lane.adopt(f)
}

// end ends a feed for good.
func (k *link) end(f *feed) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if f.lane != nil {
		f.lane.release(f)
		f.lane = nil
	}
}

// adopt takes a feed, to be opened. link.mu is held, as for all that follow.
func (l *lane) adopt(f *feed) {
	f.lane, f.state = l, feedClosed
	l.feeds[f] = struct{}{}
	l.late, l.lateNext = append(l.late, f), time.Time{}
	l.ring()
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// release lets a feed go; its session ends.
func (l *lane) release(f *feed) {
	l.close(f)
	delete(l.feeds, f)
	if f.queued {
		l.queue = slices.DeleteFunc(l.queue, func(q *feed) bool { return q == f })
		f.queued = false
	}
	if f.notice {
		l.notices = slices.DeleteFunc(l.notices, func(n *feed) bool { return n == f })
		f.notice = false
	}
}

// close ends the session of a feed.
func (l *lane) close(f *feed) {
	if f.state != feedClosed {
		delete(l.sessions, f.session)
	}
	for _, x := range f.flights {
		l.flying -= x.bytes
	}
	f.flights, f.planned, f.state = nil, false, feedClosed
}

func (l *lane) ring() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// push queues a feed that streams.
func (l *lane) push(f *feed) {
	if !f.queued {
		f.queued = true
		l.queue = append(l.queue, f)
		l.ring()
	}
}

// pushFront queues a feed that there was no room for: the next message begins with it.
func (l *lane) pushFront(f *feed) {
	if f.queued {
		l.queue = slices.DeleteFunc(l.queue, func(q *feed) bool { return q == f })
	}
	f.queued = true
	l.queue = slices.Insert(l.queue, 0, f)
	l.ring()
}

// mark notes that a feed's log has moved: at once where there are records to send, else it
// is its high watermark, which waits a while for some.
func (f *feed) mark() {
	for !f.moved.Swap(true) && !f.look(f.p.log.Progress().End) {
	}
}

// look queues a marked feed, whose log ended at end, or notes that its high watermark has
// moved; then it is not marked any more. false: it is to be marked again, for records came
// whose mark may have found it marked already.
func (f *feed) look(end storage.Offset) bool {
	f.link.mu.Lock()
	alone := f.state == feedStreams && f.lane != nil && !f.planned && f.next >= end
	switch {
	case f.state != feedStreams || f.lane == nil:
	case alone:
		f.lane.note(f)
		f.moved.Store(false)
	default:
		f.lane.push(f)
	}
	f.link.mu.Unlock()
	return !alone || f.p.log.Progress().End == end
}

// note has a high watermark sent soon. link.mu is held, as for all that follow.
func (l *lane) note(f *feed) {
	if f.notice || f.queued {
		return
	}
	if f.notice = true; len(l.notices) == 0 {
		l.noticed = time.Now()
		l.notify.Reset(noticeWait)
	}
	l.notices = append(l.notices, f)
}

// Stands implements [log.Confirmer]: what is taken of a follower at the moment its feed ends, for its
// registration has, counts for nothing.
func (f *feed) Stands() bool {
	f.link.mu.Lock()
	defer f.link.mu.Unlock()
	return f.lane != nil
}

// heard is when the follower was last known to follow, as of when it was asked.
func (f *feed) heard() time.Time {
	f.link.mu.Lock()
	defer f.link.mu.Unlock()
	if f.lane == nil || f.state != feedStreams {
		return time.Time{}
	}
	return f.lane.heard
}

// took is how long the follower takes of late to confirm what it is sent; false: it was
// sent nothing of late.
func (k *link) took(now time.Time) (time.Duration, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	took := k.tail.took
	if now.Sub(k.tail.tookAt) > k.leader.limits.slowFor {
		took = 0
	}
	for f := range k.tail.feeds {
		if len(f.flights) > 0 {
			took = max(took, now.Sub(f.flights[0].at))
		}
	}
	return took, took > 0
}

// reach takes note that a feed's follower has what lies before synced on disk.
func (l *lane) reach(now time.Time, f *feed, synced storage.Offset) {
	f.confirmed = max(f.confirmed, synced)
	n := 0
	for n < len(f.flights) && f.flights[n].end <= synced {
		l.flying -= f.flights[n].bytes
		n++
	}
	if n == 0 {
		return
	}
	if took := now.Sub(f.flights[n-1].at); l.took == 0 {
		l.took = took
	} else {
		l.took = (7*l.took + took) / 8
	}
	l.tookAt = now
	f.flights = f.flights[n:]
	if len(l.queue)+len(l.notices) > 0 {
		l.ring() // the window may have opened
	}
}

// retry has a closed feed opened again, later each time.
func (l *lane) retry(now time.Time, f *feed, atOnce bool) {
	f.openAt = now
	if !atOnce {
		f.wait = min(max(2*f.wait, reopen), reopenMost)
		f.openAt = now.Add(f.wait)
	}
	l.late, l.lateNext = append(l.late, f), earlier(l.lateNext, f.openAt)
	l.ring()
}

// down takes note that the stream has ended, and returns whose confirmations end with it.
func (l *lane) down() (ended []*feed) {
	l.link.mu.Lock()
	defer l.link.mu.Unlock()
	l.heard, l.made, l.took, l.fullness = time.Time{}, time.Time{}, 0, 0
	l.late, l.lateNext, l.queue, l.notices = nil, time.Time{}, nil, nil
	for f := range l.feeds {
		l.close(f)
		f.queued, f.notice, f.openAt = false, false, time.Time{}
		l.late = append(l.late, f)
		ended = append(ended, f)
	}
	clear(l.sessions)
	l.flying = 0
	return ended
}

// idle reports whether the lane needs no stream.
func (l *lane) idle() bool {
	l.link.mu.Lock()
	defer l.link.mu.Unlock()
	return len(l.feeds) == 0
}
