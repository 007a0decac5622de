package replication

import (
	"context"
	"errors"
	"slices"
	"time"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/guard"
)

// What Confirm may return, besides what ctx ended for.
var (
	ErrNotLed = errors.New("the partition is not led here under the epoch")
	ErrAlone  = errors.New("no other replica is in sync")
)

// Confirm returns nil once all replicas in sync, and those that may have been added to them,
// have answered under an epoch that is led here what they were sent since the call. Then nobody
// had committed anything under a later epoch when it was called: that takes one of them, who ends
// what he follows before. It needs no clock to be right, and costs a message to each broker that
// has none on its way, whose answer may wait for [answerWait]. It blocks until then, until ctx ends,
// the epoch is led no more, [ErrNotLed], or there is nobody to ask, [ErrAlone].
func (l *Leader) Confirm(ctx context.Context, id storage.PartitionID, epoch storage.Epoch) error {
	since := time.Now()
	ticker := time.NewTicker(beat) // for changes of the sets, which nobody tells
	defer ticker.Stop()
	for {
		answered := l.nextAnswer()
		followed, err := l.confirmed(id, epoch, since)
		if followed || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-answered:
		case <-ticker.C:
		}
	}
}

// confirmed reports whether Confirm is over, and asks whom it waits for.
func (l *Leader) confirmed(id storage.PartitionID, epoch storage.Epoch, since time.Time) (bool, error) {
	l.mu.Lock()
	p := l.led[id]
	l.mu.Unlock()
	if p == nil || p.epoch != epoch {
		return false, ErrNotLed
	}
	p.mu.Lock()
	set := slices.Concat(p.isr.committed, p.isr.proposed)
	p.mu.Unlock()
	self := l.o.Self().Broker
	set = slices.DeleteFunc(set, func(id int32) bool { return id == self })
	if len(set) == 0 {
		return false, ErrAlone
	}
	all, feeds := true, *p.feeds.Load()
	for _, id := range set {
		at := slices.IndexFunc(feeds, func(f *feed) bool { return f.link.peer.Broker == id })
		if at < 0 || !feeds[at].answeredSince(since) {
			all = false
		}
	}
	return guard.Check("replication.confirms-all", all), nil
}

// answeredSince reports whether the follower has answered what it was sent after a time, and
// follows; else it is sent something, unless that is on its way.
func (f *feed) answeredSince(since time.Time) bool {
	if f.heard().After(since) {
		return true
	}
	f.link.mu.Lock()
	defer f.link.mu.Unlock()
	if f.lane != nil && !f.lane.made.After(since) {
		f.lane.asked = true
		f.lane.ring()
	}
	return false
}

// takeAsked reports whether somebody waits for an answer to a message that is yet to be sent.
func (l *lane) takeAsked() bool {
	l.link.mu.Lock()
	defer l.link.mu.Unlock()
	asked := l.asked
	l.asked = false
	return asked
}

// nextAnswer returns what is closed when a follower answers next.
func (l *Leader) nextAnswer() <-chan struct{} {
	for {
		if next := l.answer.Load(); next != nil {
			return *next
		}
		next := make(chan struct{})
		if l.answer.CompareAndSwap(nil, &next) {
			return next
		}
	}
}

// answered wakes those who wait for an answer.
func (l *Leader) answered() {
	if next := l.answer.Swap(nil); next != nil {
		close(*next)
	}
}
