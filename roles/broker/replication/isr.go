package replication

import (
	"slices"
	"time"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/guard"
	"rustmq.dev/rustmq/storage/log"
)

// limits of an isr.
type limits struct {
	lag        time.Duration // a follower that has not been at the end for so long is out of sync
	slowFor    time.Duration // a follower that is slow for so long leaves
	slowTimes  int           // times as slow as the quickest of the others
	slowFloor  time.Duration // what is quicker is not slow
	returnsFor time.Duration // who left for being slow must not be slow for so long to return
}

// member is what a leader knows of a follower of one partition.
type member struct {
	id        int32
	epoch     int64          // of the registration that confirms; 0: none does
	confirmed storage.Offset // what it has on disk, in common with the leader
	// At targetAt the log ended at target: who confirms that much was caught up then.
	target   storage.Offset
	targetAt time.Time
	caughtUp time.Time // when it last was known to have all
	slow     time.Time // since when it is slow; zero: it is not
	quick    time.Time // since when it is not slow, after it left for that; zero: it may return
	left     bool      // for being slow, or was found slow while it was out of sync
}

// isr decides who is in sync in one partition that is led. It reads no clock and asks
// nobody: the shell brings proposals to the controller, one at a time, and sets whom the
// log waits for.
//
// Invariant: the log waits for the union of the committed set and of every growth that
// was proposed to the controller and may yet turn out to be committed (KIP-497).
type isr struct {
	limits
	self           int32
	epochStart     storage.Offset // where the leader epoch begins
	leaderEpoch    storage.Epoch
	partitionEpoch int32
	minInSync      int
	committed      []int32 // this broker among them
	members        []*member
	proposed       []int32 // under partitionEpoch, what may be committed besides
	inFlight       bool
	awaiting       bool // the partition epoch has moved, and the metadata is to say so
	doubt          bool // what was proposed may be committed, or not
}

// proposal is a change of the set, for the controller.
type proposal struct {
	partitionEpoch int32
	isr            []int32
	epochs         []int64 // of the registrations, of those in isr; 0: this broker's own
	before         int     // how many were proposed before
}

// outcome of a proposal.
type outcome uint8

const (
	accepted outcome = iota
	refused          // the controller did not, and will not, commit it
	stale            // the partition epoch has moved: by this proposal, asked for twice, or by another event
	unknown          // it may be committed
)

func (s *isr) member(id int32) *member {
	for _, m := range s.members {
		if m.id == id {
			return m
		}
	}
	return nil
}

// set takes the word of the metadata: a partition epoch, who is in sync, and who is a
// replica. Members that come anew are given the time that a lag may take.
func (s *isr) set(now time.Time, partitionEpoch int32, committed, replicas []int32, minInSync int) {
	s.minInSync = minInSync
	if partitionEpoch > s.partitionEpoch || s.committed == nil {
		s.partitionEpoch, s.committed, s.proposed = partitionEpoch, slices.Clone(committed), nil
		s.awaiting, s.doubt = false, false
	}
	s.members = slices.DeleteFunc(s.members, func(m *member) bool { return !slices.Contains(replicas, m.id) })
	for _, id := range replicas {
		if id != s.self && s.member(id) == nil {
			s.members = append(s.members, &member{id: id, confirmed: storage.NoOffset, caughtUp: now})
		}
	}
}

// confirm takes what a follower has on disk, confirmed on a stream of that registration,
// while the leader's log ends at end.
func (s *isr) confirm(now time.Time, id int32, epoch int64, confirmed, end storage.Offset) {
	m := s.member(id)
	if m == nil {
		return
	}
	if m.epoch != epoch {
		m.epoch, m.confirmed, m.target = epoch, storage.NoOffset, storage.NoOffset
	}
	m.confirmed = max(m.confirmed, confirmed)
	switch {
	case m.confirmed >= end:
		m.caughtUp = now
		m.target, m.targetAt = end, now
	case m.target != storage.NoOffset && m.confirmed >= m.target:
		m.caughtUp = m.targetAt
		m.target, m.targetAt = end, now
	case m.target == storage.NoOffset:
		m.target, m.targetAt = end, now
	}
}

// forget takes note that a follower's stream has ended: what it confirmed is to be shown
// again (RULES 3.1).
func (s *isr) forget(id int32) {
	if m := s.member(id); m != nil {
		m.epoch, m.confirmed, m.target = 0, storage.NoOffset, storage.NoOffset
	}
}

// pace takes how long followers have taken of late to confirm what they were sent, by
// broker; who is not named has had nothing to confirm.
func (s *isr) pace(now time.Time, took map[int32]time.Duration) {
	for _, m := range s.members {
		mine, known := took[m.id]
		others := time.Duration(0)
		for _, o := range s.members {
			if t, ok := took[o.id]; ok && o != m && (others == 0 || t < others) && slices.Contains(s.committed, o.id) {
				others = t
			}
		}
		switch {
		case !known || others == 0 || mine < s.slowFloor || mine < time.Duration(s.slowTimes)*others/2:
			m.slow = time.Time{}
			if m.left && m.quick.IsZero() {
				m.quick = now
			}
			if m.left && now.Sub(m.quick) >= s.returnsFor {
				m.left, m.quick = false, time.Time{}
			}
		case mine >= time.Duration(s.slowTimes)*others:
			if m.slow.IsZero() {
				m.slow = now
			}
			m.quick = time.Time{}
			if now.Sub(m.slow) >= s.slowFor && !slices.Contains(s.committed, m.id) {
				m.left = true // by the word of the leader before, perhaps, which nobody passes on
			}
		default: // between the two nothing changes
			m.quick = time.Time{}
		}
	}
}

// propose says what the set should be, if it should be another one, and notes that this
// is being asked for. The log ends at end, its high watermark is at hw.
func (s *isr) propose(now time.Time, end, hw storage.Offset) (proposal, bool) {
	if s.inFlight || s.awaiting || s.committed == nil {
		return proposal{}, false
	}
	next := []int32{}
	for _, id := range s.committed {
		if m := s.member(id); id == s.self || m != nil && !s.lags(m, now, end) {
			next = append(next, id)
		}
	}
	for _, m := range s.members { // the slow leave one at a time, the rest must be enough
		if at := slices.Index(next, m.id); at >= 0 && !m.slow.IsZero() && now.Sub(m.slow) >= s.slowFor && len(next) > s.minInSync {
			next, m.left = slices.Delete(next, at, at+1), true
			break
		}
	}
	for _, m := range s.members {
		slow := m.left || !m.slow.IsZero()
		if !slices.Contains(next, m.id) && (!slow || len(next) < s.minInSync) && s.mayJoin(m, now, end, hw) {
			next = append(next, m.id)
		}
	}
	// In doubt the set is asked for as it is, to hear that nothing else was committed.
	if sameSet(next, s.committed) && !s.doubt {
		return proposal{}, false
	}
	p := proposal{partitionEpoch: s.partitionEpoch, isr: next, before: len(s.proposed)}
	for _, id := range next {
		epoch := int64(0)
		if m := s.member(id); m != nil {
			epoch = m.epoch
		}
		p.epochs = append(p.epochs, epoch)
	}
	s.inFlight = true
	for _, id := range next {
		if !slices.Contains(s.committed, id) && !slices.Contains(s.proposed, id) {
			s.proposed = append(s.proposed, id)
		}
	}
	return p, true
}

// lags reports whether a follower in sync has not been at the end for too long.
func (s *isr) lags(m *member, now time.Time, end storage.Offset) bool {
	if m.epoch != 0 && m.confirmed >= end {
		m.caughtUp = now
	}
	return now.Sub(m.caughtUp) > s.lag
}

// mayJoin reports whether a follower has what one in sync must have: all that is
// committed, the start of the leader's epoch with it (KIP-966), and all else but of late.
func (s *isr) mayJoin(m *member, now time.Time, end, hw storage.Offset) bool {
	return m.epoch != 0 && !s.lags(m, now, end) &&
		guard.Check("replication.joins-committed", m.confirmed >= max(hw, s.epochStart))
}

// stands reports whether the proposal in flight may be asked for, now that the log waits
// for all in it, and has a high watermark of hw: until it did, that may have passed who is
// to join. One that may not is taken back.
func (s *isr) stands(p proposal, hw storage.Offset) bool {
	for _, id := range p.isr {
		m := s.member(id)
		if id == s.self || slices.Contains(s.committed, id) || m != nil && guard.Check("replication.joins-waited-for", m.confirmed >= hw) {
			continue
		}
		s.inFlight = false
		if p.partitionEpoch == s.partitionEpoch {
			s.proposed = s.proposed[:p.before]
		}
		return false
	}
	return true
}

// answer takes what became of the proposal in flight.
func (s *isr) answer(p proposal, o outcome) {
	s.inFlight = false
	if p.partitionEpoch != s.partitionEpoch {
		return // the metadata has gone on, and said who is in sync
	}
	switch {
	case o == unknown:
		s.doubt = true
	case o == stale || o == accepted && !sameSet(p.isr, s.committed):
		s.awaiting = true
	default: // commands are applied in order: none of those before will be committed
		s.proposed, s.doubt = nil, false
	}
}

// replicas is whom the log waits for.
func (s *isr) replicas() log.Replicas {
	r := log.Replicas{}
	for _, id := range s.committed {
		if id != s.self {
			r.InSync = append(r.InSync, id)
		}
	}
	for _, id := range s.proposed {
		if id != s.self && !slices.Contains(s.committed, id) {
			r.Pending = append(r.Pending, id)
		}
	}
	return r
}

func sameSet(a, b []int32) bool {
	if len(a) != len(b) {
		return false
	}
	for _, id := range a {
		if !slices.Contains(b, id) {
			return false
		}
	}
	return true
}
