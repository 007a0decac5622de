package broker

import (
	"errors"
	"fmt"
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
// spells. It is safe for concurrent use, and takes no lock: when the log is full, every
// connection comes by.
type fullLog struct {
	now    func() time.Time
	spells [fullKinds]atomic.Pointer[spells] // nil: none yet
}

// fullKind is how much of the log has no room.
type fullKind uint8

const (
	fullWhole     fullKind = iota
	fullPartition          // partitions that wait for their upload; the others have room
	fullKinds
)

var fullNames = [fullKinds]string{fullWhole: "log", fullPartition: "partition"}

// Refusing is a spell in which producers are refused; zero: there is none.
type Refusing struct {
	Since, Last time.Time
	Err         error // of the last
	Batches     int64 // that were refused; a try of the same is another
}

// Refused is the spells that are over.
type Refused struct {
	Spells  int64
	Batches int64
	Lasted  time.Duration // each from the first that was refused to the last
}

// spells is those of one kind. It never changes: another takes its place, whole.
type spells struct {
	now   Refusing
	ended Refused
}

func (f *fullLog) of(kind fullKind) (s spells, is *spells) {
	if is = f.spells[kind].Load(); is != nil {
		s = *is
	}
	return s, is
}

// refuse counts a batch, and reports whether it begins a spell.
func (s *spells) refuse(now time.Time, err error) (begins bool) {
	if begins = s.now.Since.IsZero() || now.Sub(s.now.Last) >= fullForgotten; begins {
		s.end()
		s.now.Since = now
	}
	s.now.Batches++
	if !now.Before(s.now.Last) {
		s.now.Last, s.now.Err = now, err
	}
	return begins
}

// end ends the spell, if there is one.
func (s *spells) end() {
	s.ended = s.total()
	s.now = Refusing{}
}

// total is all spells, with the one that lasts.
func (s *spells) total() Refused {
	t := s.ended
	if !s.now.Since.IsZero() {
		t.Spells++
		t.Batches += s.now.Batches
		t.Lasted += s.now.Last.Sub(s.now.Since)
	}
	return t
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
	for {
		next, is := f.of(kind)
		begins = next.refuse(now, err)
		if f.spells[kind].CompareAndSwap(is, &next) {
			return kind, begins
		}
	}
}

// served reports whether the batch that was appended ends a spell of the whole log,
// and how long that was.
func (f *fullLog) served() (lasted time.Duration, ends bool) {
	if is := f.spells[fullWhole].Load(); is == nil || is.now.Since.IsZero() {
		return 0, false
	}
	now := f.now()
	for {
		next, is := f.of(fullWhole)
		if next.now.Since.IsZero() || now.Sub(next.now.Last) < fullQuiet {
			return 0, false
		}
		lasted = now.Sub(next.now.Since)
		next.end()
		if f.spells[fullWhole].CompareAndSwap(is, &next) {
			return lasted, true
		}
	}
}

// Refusals is what producers are refused for, as long as they are, and were before.
type Refusals struct {
	Log       Refusing // the log as a whole has no room, or can have no file
	Partition Refusing // partitions hold what they may of it that is not uploaded

	LogBefore, PartitionBefore Refused // spells that are over
}

// Refusals returns the spells that last: somebody was refused within [fullQuiet], or the
// log has had no room since; and what is over.
func (b *Broker) Refusals() Refusals {
	f := &b.full
	whole, _ := f.of(fullWhole)
	parts, _ := f.of(fullPartition)
	now := f.now()
	if now.Sub(whole.now.Last) >= fullQuiet && b.store.Stats().Fullness < throttleFrom {
		whole.end()
	}
	if now.Sub(parts.now.Last) >= fullQuiet {
		parts.end()
	}
	return Refusals{Log: whole.now, Partition: parts.now, LogBefore: whole.ended, PartitionBefore: parts.ended}
}

// refusedProduce counts a batch that a producer was refused, and says it once a spell
// where that is for want of room.
func (b *Broker) refusedProduce(part *producePart, err error) {
	b.metrics.refused.count(kafkaError(err))
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
