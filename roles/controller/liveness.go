package controller

import (
	"cmp"
	"slices"
	"time"
)

// sessions remembers when each registration was last heard of, and says who has
// been silent too long. It is a pure core: it reads no clock, and is not safe
// for concurrent use.
type sessions struct {
	length time.Duration
	heard  map[int32]session
	judged time.Time
}

type session struct {
	epoch int64
	at    time.Time
}

// silent is a registration that is to be fenced.
type silent struct {
	broker int32
	epoch  int64
}

func newSessions(length time.Duration) *sessions {
	return &sessions{length: length, heard: map[int32]session{}}
}

// hear notes that a registration is alive.
func (s *sessions) hear(now time.Time, broker int32, epoch int64) {
	s.heard[broker] = session{epoch, now}
}

// judge returns, of the registrations in service, those silent for a session,
// in order of id. One it has never heard of begins its session now. After a
// pause of its own, of half a session or more, every session begins anew: who
// slept cannot know who called.
func (s *sessions) judge(now time.Time, inService map[int32]int64) []silent {
	slept := now.Sub(s.judged) >= s.length/2
	s.judged = now
	var fence []silent
	for broker, epoch := range inService {
		last, ok := s.heard[broker]
		switch {
		case !ok || last.epoch != epoch || slept:
			s.heard[broker] = session{epoch, now}
		case now.Sub(last.at) >= s.length:
			fence = append(fence, silent{broker, epoch})
		}
	}
	for broker := range s.heard {
		if _, ok := inService[broker]; !ok {
			delete(s.heard, broker)
		}
	}
	slices.SortFunc(fence, func(a, b silent) int { return cmp.Compare(a.broker, b.broker) })
	return fence
}
