package broker

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"rustmq.dev/rustmq/storage/log"
)

// fullQuiet is how long no producer must have been refused for want of room until one
// that is served says that there is room again: a log at its limit takes a few and
// refuses others in turns.
const fullQuiet = 10 * time.Second

// fullForgotten is how long after the last refusal the next one begins another spell,
// though nobody was served in between.
const fullForgotten = 10 * time.Minute

// fullLog tells when producers are refused because the log has no room for them, in
// spells. It is safe for concurrent use.
type fullLog struct {
	now    func() time.Time
	inFull atomic.Bool // there is a spell of the whole log: who is served need not ask else

	mu     sync.Mutex
	spells [fullKinds]Refusing // guarded by mu
}

// fullKind is how much of the log has no room.
type fullKind uint8

const (
	fullWhole     fullKind = iota
	fullPartition          // partitions that wait for their upload; the others have room
	fullKinds
)

// Refusing is a spell in which producers are refused; zero: there is none.
type Refusing struct {
	Since, Last time.Time
	Err         error // of the last
}

// refused takes note of why a batch was not appended, and reports whether it begins a
// spell.
func (f *fullLog) refused(err error) (kind fullKind, begins bool) {
	switch {
	case errors.Is(err, log.ErrBehindRefused): // it was said of the one before
		return 0, false
	case errors.Is(err, log.ErrUploadLag):
		kind = fullPartition
	case errors.Is(err, log.ErrFull), errors.Is(err, log.ErrNoSegment):
		kind = fullWhole
	default:
		return 0, false
	}
	now := f.now()
	f.mu.Lock()
	defer f.mu.Unlock()
	s := &f.spells[kind]
	if begins = s.Since.IsZero() || now.Sub(s.Last) >= fullForgotten; begins {
		s.Since = now
	}
	s.Last, s.Err = now, err
	if kind == fullWhole {
		f.inFull.Store(true)
	}
	return kind, begins
}

// served reports whether the batch that was appended ends a spell of the whole log,
// and how long that was.
func (f *fullLog) served() (lasted time.Duration, ends bool) {
	if !f.inFull.Load() {
		return 0, false
	}
	now := f.now()
	f.mu.Lock()
	defer f.mu.Unlock()
	s := &f.spells[fullWhole]
	if s.Since.IsZero() || now.Sub(s.Last) < fullQuiet {
		return 0, false
	}
	lasted = now.Sub(s.Since)
	*s = Refusing{}
	f.inFull.Store(false)
	return lasted, true
}

// Refusals is what producers are refused for, as long as they are.
type Refusals struct {
	Log       Refusing // the log as a whole has no room, or can have no file
	Partition Refusing // partitions hold what they may of it that is not uploaded
}

// Refusals returns the spells that last: somebody was refused within [fullQuiet], or the
// log has had no room since.
func (b *Broker) Refusals() Refusals {
	f := &b.full
	now := f.now()
	f.mu.Lock()
	defer f.mu.Unlock()
	r := Refusals{Log: f.spells[fullWhole], Partition: f.spells[fullPartition]}
	if now.Sub(r.Log.Last) >= fullQuiet && b.store.Stats().Fullness < throttleFrom {
		r.Log = Refusing{}
	}
	if now.Sub(r.Partition.Last) >= fullQuiet {
		r.Partition = Refusing{}
	}
	return r
}

// refusedProduce counts a batch that a producer was refused, and says it once a spell
// where that is for want of room.
func (b *Broker) refusedProduce(part *producePart, err error) {
	b.metrics.refused.WithLabelValues(kafkaError(err).Message).Inc()
	kind, begins := b.full.refused(err)
	switch {
	case !begins:
	case kind == fullPartition:
		b.log.Warn("producers of a partition are refused: too much of it waits for its upload", "topic", part.partition.topic.name, "partition", part.partition.index, "error", err)
	default:
		b.log.Warn("producers are refused: the log is full", "error", err, "used", fmt.Sprintf("%.0f %%", 100*b.store.Stats().Fullness))
	}
}

// servedProduce says that producers are served again, after they were not.
func (b *Broker) servedProduce() {
	if lasted, ends := b.full.served(); ends {
		b.log.Warn("producers are served again: the log has room", "refused_for", lasted.Round(time.Second).String())
	}
}
