package consensus

import (
	"slices"

	"go.etcd.io/raft/v3"

	"rustmq.dev/rustmq/storage/guard"
)

const (
	// standApart is how many ticks lie between the first tries of two members to lead in
	// place of one that has gone: a vote and its answer, so that they do not split it.
	standApart = 2
	// standAgain is how many ticks lie at least between two tries of one member, and standTries
	// how many it makes before it leaves the rest to the election timeout: another may hear
	// later than it that the leader has gone, and until then it answers nothing; or two stand
	// at once, and split the votes. The next tries are apart by rank again.
	standAgain = 3
	standTries = 3
	// goneRest is how many election timeouts a member believes nobody again that a leader
	// has gone: lines that flap cost an election each time at most so often.
	goneRest = 4
)

// standing is what a member does about a leader that seems to have gone. It is a pure core.
type standing struct {
	in    int    // ticks until the next try; 0: none is to come
	again int    // ticks between tries
	tries int    // left
	rest  int    // ticks during which nothing is believed
	peer  uint64 // that seems to have gone
	term  uint64 // that it led in
	heard bool   // it was heard once more, and stood against all the same
}

// begin has the member stand after ticks that grow with its rank among those who may; false:
// it is too soon for that.
func (s *standing) begin(rank, electionTicks int, peer, term uint64) bool {
	if !guard.Check("consensus.gone-rest", s.rest == 0) {
		return false
	}
	*s = standing{in: 1 + rank*standApart, again: standAgain + rank*standApart, tries: standTries, rest: goneRest * electionTicks, peer: peer, term: term}
	return true
}

// tick reports whether the member is to stand now, given what raft says of it.
func (s *standing) tick(now raft.BasicStatus) bool {
	s.rest = max(0, s.rest-1)
	if s.in == 0 {
		return false
	}
	voted := now.HardState.GetTerm() != s.term && now.RaftState != raft.StateCandidate
	// What it sent before it went may be read after that is known. Once: who lives is heard
	// again by the next try.
	late := now.Lead == s.peer && !s.heard
	if voted || now.Lead != raft.None && !late {
		s.in = 0 // there is a leader, or another is about to be
		return false
	}
	if s.in--; s.in > 0 {
		return false
	}
	s.heard = s.heard || late
	if s.tries--; s.tries > 0 {
		s.in = s.again
	}
	return true
}

// Gone implements [Receiver].
func (n *Node) Gone(peer uint64) {
	n.tell(func(e *events) {
		if !slices.Contains(e.gone, peer) {
			e.gone = append(e.gone, peer)
		}
	})
}

// gone takes the word that a peer's process has ended. If it led, this member forgets it,
// so that it grants its vote to another at once, and stands itself: first the voter
// with the lowest id. Votes and terms keep this safe where the word is wrong, and a leader
// that lives is not deposed by it while a majority hears it: those answer no candidate.
func (l *loop) gone(peer uint64) error {
	s := l.raft.BasicStatus()
	if s.Lead != peer || peer == l.self.ID {
		return nil
	}
	rank, votes := l.rank(peer)
	if !l.standing.begin(rank, l.n.opt.ElectionTicks, peer, s.HardState.GetTerm()) {
		return nil
	}
	if !votes {
		l.standing.in = 0
	}
	l.n.log.Info("the controller that led has gone; another is elected", "leader", peer, "term", s.HardState.GetTerm())
	return l.raft.ForgetLeader()
}

// rank is how many voters come before this one, without a peer; false: it is none.
func (l *loop) rank(without uint64) (rank int, votes bool) {
	for _, m := range l.members {
		switch {
		case !l.votes(m.ID):
		case m.ID == l.self.ID:
			votes = true
		case m.ID < l.self.ID && m.ID != without:
			rank++
		}
	}
	return rank, votes
}

// votes reports whether a member has a vote, by either side of a change under way.
func (l *loop) votes(id uint64) bool {
	return slices.Contains(l.conf.GetVoters(), id) || slices.Contains(l.conf.GetVotersOutgoing(), id)
}
