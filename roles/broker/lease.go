package broker

import (
	"sync/atomic"
	"time"

	"rustmq.dev/rustmq/storage/guard"
)

// lease is how long this broker takes for itself that nobody else leads what it leads. The
// clock of the process stands still while the machine sleeps: whatever was heard before it
// woke says nothing any more. Its methods may be called from any goroutine.
type lease struct {
	length time.Duration
	began  time.Time
	mono   time.Duration // when it began, by the clock that goes on

	heard atomic.Int64 // when a heartbeat was sent that was answered, ns since began: a wall clock may be set
	slept atomic.Int64 // ns since began, as far as was noticed
	woke  atomic.Int64 // when that was noticed, ns since began; -1: it never slept
}

func (l *lease) begin(length time.Duration, now time.Time, mono time.Duration) {
	l.length, l.began, l.mono = length, now, mono
	l.woke.Store(-1)
}

// beaten takes note that the controller has answered a heartbeat.
func (l *lease) beaten(sent time.Time) { l.heard.Store(int64(sent.Sub(l.began))) }

// lately reports whether something was heard within the lease. The answer is of now.
func (l *lease) lately(heard time.Time, now time.Time, mono time.Duration) bool {
	return l.since(int64(heard.Sub(l.began)), now, mono)
}

// controller is as lately, of an answer of the controller.
func (l *lease) controller(now time.Time, mono time.Duration) bool {
	return l.since(l.heard.Load(), now, mono)
}

func (l *lease) since(heard int64, now time.Time, mono time.Duration) bool {
	at := int64(now.Sub(l.began))
	// A sleep of less is noticed with the next, or by the lease itself.
	if slept := int64(mono-l.mono) - at; slept-l.slept.Load() > int64(l.length)/4 {
		l.woke.Store(at) // before slept: whoever sees that sees this
		l.slept.Store(slept)
	}
	return at-heard < int64(l.length) && guard.Check("broker.lease-awake", heard > l.woke.Load())
}

// beaten takes note that the controller has answered a heartbeat.
func (b *Broker) beaten(sent time.Time) {
	if r := b.replication; r != nil {
		r.lease.beaten(sent)
	}
}

// clocks reads both. A pause between them makes the one that goes on seem late: as if it were
// ahead, it would be taken for a sleep, and a sleep that follows for what is known of already.
func (b *Broker) clocks() (now time.Time, mono time.Duration) {
	mono = b.opt.Mono()
	return b.opt.Now(), mono
}

// leased reports whether this broker may take for itself that nobody else leads a
// partition: the controller, or a follower in sync, has said so within the lease. It
// matters for what no follower confirms (RULES 3.7); what does wait for them needs no
// clock, nor does what waits for the bucket, but without the controller it would wait in
// vain.
func (b *Broker) leased(p *partition, r *role) bool {
	rs := b.replication
	if rs == nil || !r.replicated && !r.awaitsBucket {
		return true
	}
	now, mono := b.clocks()
	if rs.lease.controller(now, mono) {
		return true
	}
	heard := rs.leader.Heard(p.id())
	return guard.Check("broker.lease", !heard.IsZero() && rs.lease.lately(heard, now, mono))
}
