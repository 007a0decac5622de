package broker

import (
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/twmb/franz-go/pkg/kerr"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/broker/wire"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/guard"
)

// Session epochs of a request that are no number in a session (KIP-227).
const (
	finalSessionEpoch   = -1 // end the session, if any, and fetch without
	initialSessionEpoch = 0  // end the session, if any, and begin another
)

// session remembers what a client fetches, so that its requests name only what
// changes, and responses only what is new. A client of thousands of partitions
// costs a look at each one's high watermark for a fetch, and a registered waiter
// that stays from fetch to fetch. A session belongs to its connection: who
// connects again begins another.
type session struct {
	id      int32
	byID    bool // of topics: versions from v13 on
	budget  *sessionBudget
	current atomic.Pointer[fetchRequest] // to wake; nil between fetches

	mu     sync.Mutex // guards all below
	epoch  int32      // that the next request has
	busy   bool       // a fetch is in progress; it owns parts
	ended  bool
	parts  []*fetchPart // in the order they are read
	lookup map[sessionKey]*fetchPart
	most   int // partitions that lookup and parts have had room for
}

type sessionKey struct {
	name  string
	id    storage.TopicID
	index int32
}

// sessionBudget bounds all sessions of a broker.
type sessionBudget struct {
	mu         sync.Mutex
	sessions   int
	partitions int
}

func newSessionBudget() *sessionBudget { return new(sessionBudget) }

func (b *sessionBudget) take(sessions, partitions int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	fits := b.sessions+sessions <= maxSessions && b.partitions+partitions <= maxSessionPartitions
	if !guard.Check("broker.session-budget", fits) {
		return false
	}
	b.sessions += sessions
	b.partitions += partitions
	return true
}

func (b *sessionBudget) give(sessions, partitions int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sessions -= sessions
	b.partitions -= partitions
}

func (b *sessionBudget) counts() (sessions, partitions int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.sessions, b.partitions
}

// openSession makes a session of the request's partitions. False: there is no
// room for one, and the request is answered without, as the protocol allows.
func (f *fetchRequest) openSession() bool {
	s := &session{
		byID: f.q.Version >= 13, budget: f.b.sessions, epoch: 1, busy: true,
		lookup: map[sessionKey]*fetchPart{},
	}
	// Nothing is kept for who may be a replay (RULES §8).
	if !guard.Check("broker.early-session", !f.r.Conn.EarlyData()) {
		return false
	}
	if len(f.q.Partitions) == 0 || !rememberable(f.q.Topics) || !s.budget.take(1, len(f.q.Partitions)) {
		return false
	}
	for s.id == 0 {
		s.id = rand.Int32()
	}
	s.update(f)
	s.budget.give(0, len(f.q.Partitions)-len(s.parts)) // named twice
	evicted, ok := f.conn.addSession(s)
	if evicted != nil {
		evicted.close()
	}
	if !ok {
		s.busy = false
		s.close()
		return false
	}
	s.current.Store(f)
	f.session, f.parts = s, s.parts
	return true
}

// continueSession brings the session up to date with the request.
func (f *fetchRequest) continueSession() *kerr.Error {
	s := f.conn.session(f.q.SessionID)
	if s == nil {
		return kerr.FetchSessionIDNotFound
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.ended:
		return kerr.FetchSessionIDNotFound
	case s.byID != (f.q.Version >= 13):
		return kerr.FetchSessionTopicIDError
	case s.busy || s.epoch != f.q.SessionEpoch:
		return kerr.InvalidFetchSessionEpoch
	}
	if s.epoch == math.MaxInt32 {
		s.epoch = 0
	}
	s.epoch++
	s.forget(f)
	// What it has is named again by most requests, and counted only where room is short.
	taken := len(f.q.Partitions)
	fits := rememberable(f.q.Topics)
	if fits && !s.budget.take(0, taken) {
		taken = s.lacks(f)
		fits = s.budget.take(0, taken)
	}
	if !fits {
		return kerr.FetchSessionIDNotFound // the client begins anew, without a session
	}
	before := len(s.parts)
	s.update(f)
	s.budget.give(0, taken-(len(s.parts)-before))
	s.busy = true
	s.current.Store(f)
	f.session, f.parts = s, s.parts
	return nil
}

// rememberable reports whether all topics may go into a session, which keeps their names:
// longer ones than topics have are of any length.
func rememberable(topics []wire.FetchTopic) bool {
	for i := range topics {
		if !guard.Check("broker.session-name", len(topics[i].Name) <= metadata.MaxTopicNameLength) {
			return false
		}
	}
	return true
}

// update adds the request's partitions to the session, or changes what it wants
// of them.
func (s *session) update(f *fetchRequest) {
	next := 0
	for i := range f.q.Topics {
		t := &f.q.Topics[i]
		found := f.b.fetchedTopic(t, f.q.Version)
		key := sessionKey{name: topicName(t, found), id: t.ID} // one name for all partitions
		for range t.Partitions {
			want := f.q.Partitions[next]
			next++
			key.index = want.Index
			part := s.lookup[key]
			if part == nil {
				part = &fetchPart{session: s, topic: found, name: key.name, id: t.ID}
				s.lookup[key] = part
				s.parts = append(s.parts, part)
			} else if part.want.Offset != want.Offset {
				part.unwatch()
			}
			part.want = want
		}
	}
	s.most = max(s.most, len(s.parts))
}

// lacks counts the request's partitions that the session does not have.
func (s *session) lacks(f *fetchRequest) (n int) {
	next := 0
	for i := range f.q.Topics {
		t := &f.q.Topics[i]
		key := sessionKey{name: string(t.Name), id: t.ID}
		for range t.Partitions {
			key.index = f.q.Partitions[next].Index
			next++
			if s.lookup[key] == nil {
				n++
			}
		}
	}
	return n
}

func (s *session) forget(f *fetchRequest) {
	next := 0
	forgotten := 0
	for i := range f.q.Forgotten {
		t := &f.q.Forgotten[i]
		if !rememberable(f.q.Forgotten[i : i+1]) {
			next += t.Partitions // none is in the session
			continue
		}
		key := sessionKey{name: string(t.Name), id: t.ID}
		for range t.Partitions {
			key.index = f.q.ForgottenList[next]
			next++
			if part := s.lookup[key]; part != nil {
				part.unwatch()
				delete(s.lookup, key)
				part.forgotten = true
				forgotten++
			}
		}
	}
	if forgotten > 0 {
		s.parts = slices.DeleteFunc(s.parts, func(p *fetchPart) bool { return p.forgotten })
		s.shrink()
		s.budget.give(0, forgotten)
	}
}

// roomySession is how many times as many partitions a session may have had as it has,
// beside roomyAnyway, without being made anew.
const (
	roomySession = 2
	roomyAnyway  = 64
)

// shrink gives up what only partitions needed that were forgotten.
func (s *session) shrink() {
	if s.most <= roomySession*len(s.parts)+roomyAnyway {
		return
	}
	s.parts = slices.Clone(s.parts)
	lookup := make(map[sessionKey]*fetchPart, len(s.parts))
	for key, part := range s.lookup {
		lookup[key] = part
	}
	s.lookup, s.most = lookup, len(s.parts)
}

// endSession gives the session back once the response is encoded. Where a limit
// of bytes left partitions out, those that brought records go to the end, so
// that each gets its turn.
func (f *fetchRequest) endSession() {
	s := f.session
	s.mu.Lock()
	s.current.Store(nil)
	for _, part := range s.parts {
		if part.included {
			part.told = told{part.result.HighWatermark, part.result.LogStart, part.result.ErrorCode == 0}
		}
	}
	if f.limited {
		slices.SortStableFunc(s.parts, func(a, b *fetchPart) int { return min(a.result.Bytes, 1) - min(b.result.Bytes, 1) })
	}
	for _, part := range s.parts {
		part.result.Batches, part.result.Aborted, part.result.Leader, part.result.Diverging = nil, nil, nil, nil
	}
	s.busy = false
	ended := s.ended
	s.mu.Unlock()
	if ended {
		s.release()
	}
}

// closeSession ends the session of that id, if the connection has it.
func (f *fetchRequest) closeSession(id int32) {
	if id == 0 {
		return
	}
	if s := f.conn.removeSession(id); s != nil {
		s.close()
	}
}

// close ends the session; a fetch in progress ends it for good.
func (s *session) close() {
	s.mu.Lock()
	ended, busy := s.ended, s.busy
	s.ended = true
	s.mu.Unlock()
	if !ended && !busy {
		s.release()
	}
}

func (s *session) release() {
	for _, part := range s.parts {
		part.unwatch()
	}
	s.budget.give(1, len(s.parts))
}
