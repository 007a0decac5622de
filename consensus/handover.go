package consensus

import (
	"context"
	"errors"
	"slices"
	"time"
)

// request is what the loop does for a caller, who waits for done: it has room for the
// answer, which comes once.
type request struct {
	kind  requestKind
	index uint64 // of requestSnapshot: up to which the snapshot is to be, known to the loop
	done  chan error
}

type requestKind int

const (
	requestHandOver requestKind = iota
	requestSnapshot
)

// errNobodyElse is why a leader goes on leading.
var errNobodyElse = errors.New("consensus: no other member has a vote and was heard of lately")

// HandOver has another member lead, the one that has most of the log, and returns once
// this one does not; at once if it does not. Proposals that come meanwhile are dropped,
// which their callers are told as ErrLeadershipLost. Errors: nobody else could lead, the
// node has ended, or that of ctx: it goes on leading then.
func (n *Node) HandOver(ctx context.Context) error { return n.request(ctx, requestHandOver) }

// TakeSnapshot makes a snapshot of what is applied here, and returns once it is written;
// at once if the newest one has that.
func (n *Node) TakeSnapshot(ctx context.Context) error { return n.request(ctx, requestSnapshot) }

func (n *Node) request(ctx context.Context, kind requestKind) error {
	r := &request{kind: kind, done: make(chan error, 1)}
	n.mu.Lock()
	if ended := n.ended; ended != nil {
		n.mu.Unlock()
		return ended
	}
	n.waiting.requests = append(n.waiting.requests, r)
	n.notify()
	n.mu.Unlock()
	select {
	case err := <-r.done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// carryOut begins what was requested; settleRequests ends it.
func (l *loop) carryOut(r *request) {
	l.requests = append(l.requests, r)
	switch r.kind {
	case requestHandOver:
		others := slices.DeleteFunc(slices.Clone(l.members), func(m Member) bool { return m == l.self })
		if l.leads && !l.handOver(others) {
			l.answerRequests(errNobodyElse, func(o *request) bool { return o == r })
		}
	case requestSnapshot:
		r.index = l.applied
		l.snapshotDue = l.snapshotDue || l.applied > l.snapshotIndex
	}
	l.settleRequests()
}

// yield has another member lead if the disk here has been late for long.
func (l *loop) yield(now time.Time) {
	better := l.late.judge(now)
	if better == 0 {
		return
	}
	to := slices.DeleteFunc(slices.Clone(l.members), func(m Member) bool { return m.ID != better })
	if l.handOver(to) {
		l.n.log.Warn("the disk of this leader is ten times slower than that of another member, which is asked to lead", "to", better)
	}
}

// settleRequests answers those that have what they wanted, which the status shows by then.
func (l *loop) settleRequests() {
	if len(l.requests) == 0 {
		return
	}
	l.publish()
	l.answerRequests(nil, func(r *request) bool {
		return r.kind == requestHandOver && !l.leads || r.kind == requestSnapshot && l.snapshotIndex >= r.index
	})
}

// answerRequests answers those that match.
func (l *loop) answerRequests(err error, match func(*request) bool) {
	l.requests = slices.DeleteFunc(l.requests, func(r *request) bool {
		if !match(r) {
			return false
		}
		r.done <- err
		return true
	})
}
