package controller

import (
	"cmp"
	"slices"
	"time"
)

// doubtTime is how long a registration whose line broke, and that came back after it was
// fenced for that, is not fenced for it again: a network that flaps costs a broker its
// leaderships so often at most.
const doubtTime = time.Minute

// sessions remembers when each registration was last heard of, and says who has been
// silent too long, or has gone. Every controller keeps them, for it may lead next. They are a
// pure core: they read no clock, and are not safe for concurrent use.
type sessions struct {
	length time.Duration // of silence
	grace  time.Duration // from the break of a line to that another would have been made; at most length
	heard  map[int32]session
	fenced map[int32]early
	looked time.Time
}

type session struct {
	epoch int64
	at    time.Time // when it was heard last, or began without that
	heard bool
	broke time.Time // when its line broke; zero: it stands, as far as is known
	floor time.Time // before it nobody is silent
}

// early is a registration that was fenced because its line broke.
type early struct {
	epoch int64
	at    time.Time
}

// silent is a registration that is to be fenced.
type silent struct {
	broker int32
	epoch  int64
	gone   bool // its line broke: its process seems to have ended
}

func newSessions(length, grace time.Duration) *sessions {
	return &sessions{length: length, grace: min(grace, length), heard: map[int32]session{}, fenced: map[int32]early{}}
}

// hear notes that a registration is alive.
func (s *sessions) hear(now time.Time, broker int32, epoch int64) {
	s.heard[broker] = session{epoch: epoch, at: now, heard: true}
}

// broke notes that the line broke over which a registration was heard. One that lives is
// heard again over another.
func (s *sessions) broke(now time.Time, broker int32, epoch int64) {
	last, ok := s.heard[broker]
	if f, was := s.fenced[broker]; was && f.epoch == epoch && now.Sub(f.at) < doubtTime {
		return // it came back
	}
	if ok && last.epoch == epoch && last.broke.IsZero() {
		last.broke = now
		s.heard[broker] = last
	}
}

// look is to be called often, by who leads and who does not, with the registrations in
// service. After a pause of its own, of half a session or more, every session begins anew,
// and after half a grace every grace does: who slept cannot know who called.
func (s *sessions) look(now time.Time, inService map[int32]int64) {
	pause := now.Sub(s.looked)
	s.looked = now
	for broker, epoch := range inService {
		last, ok := s.heard[broker]
		if !ok || last.epoch != epoch || pause >= s.length/2 {
			last = session{epoch: epoch, at: now}
		}
		if pause >= s.grace/2 && !last.broke.IsZero() {
			last.broke = now
		}
		s.heard[broker] = last
	}
	for broker := range s.heard {
		if _, ok := inService[broker]; !ok {
			delete(s.heard, broker)
		}
	}
	for broker, f := range s.fenced {
		if now.Sub(f.at) >= doubtTime {
			delete(s.fenced, broker)
		}
	}
}

// begin notes that this controller leads from now on. Who was heard here once goes on
// with its session, but has a grace at least: this controller may have been cut off until
// now, with whoever elected it. If it has heard most of them for no session, it was: then
// those begin anew. So does, in any case, who was never heard.
func (s *sessions) begin(now time.Time) {
	unheard := 0
	for _, last := range s.heard {
		if s.unheard(now, last) {
			unheard++
		}
	}
	cutOff := 2*unheard > len(s.heard)
	for broker, last := range s.heard {
		if !last.heard || cutOff && s.unheard(now, last) {
			last = session{epoch: last.epoch, at: now}
		}
		last.floor = now.Add(s.grace)
		s.heard[broker] = last
	}
}

// unheard reports whether nothing was heard of a registration for a session, or ever.
func (s *sessions) unheard(now time.Time, last session) bool {
	return !last.heard || now.Sub(last.at) >= s.length
}

// judge looks, and returns, in order of id, of the registrations in service those silent
// for a session, and those whose line broke a grace ago and who were not heard since. If
// most lines are broken, it is this controller that was cut off: then a break means nothing.
func (s *sessions) judge(now time.Time, inService map[int32]int64) []silent {
	s.look(now, inService)
	broken := 0
	for _, last := range s.heard {
		if !last.broke.IsZero() {
			broken++
		}
	}
	var fence []silent
	for broker, last := range s.heard {
		gone := !last.broke.IsZero() && now.Sub(last.broke) >= s.grace && 2*broken <= len(s.heard)
		if gone || now.Sub(last.at) >= s.length && !now.Before(last.floor) {
			fence = append(fence, silent{broker, last.epoch, gone})
		}
		if gone {
			s.fenced[broker] = early{last.epoch, now}
		}
	}
	slices.SortFunc(fence, func(a, b silent) int { return cmp.Compare(a.broker, b.broker) })
	return fence
}
