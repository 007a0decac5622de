package pattern

import (
	"context"
	"errors"
	"sync"
	"time"
)

const (
	// MatchTime is how long a match may take that a client asks for, others' turns not
	// counted. A pattern of some letters matches a hundred thousand names in less than
	// a second; one that is made to be slow needs minutes.
	MatchTime = 5 * time.Second
	// turn is after how long another match goes on.
	turn = 10 * time.Millisecond
)

// Why a match is given up.
var (
	ErrTooLong = errors.New("the pattern takes too long to match")
	ErrNobody  = errors.New("nobody waits for the match")
)

// Turns lets matches with many names go on in turns, so that none waits long for another
// and all together take one processor. The zero value is ready.
type Turns struct{ turn sync.Mutex }

// Match is one match that takes turns. It belongs to one goroutine.
type Match struct {
	turns *Turns
	ctxs  []context.Context
	limit time.Duration

	has   bool      // the turn
	since time.Time // it has this one
	took  time.Duration
	err   error
}

// Begin begins a match. It is given up when one of these contexts ends, and when it has
// taken longer than limit, if that is not zero.
func (t *Turns) Begin(limit time.Duration, ctxs ...context.Context) *Match {
	return &Match{turns: t, ctxs: ctxs, limit: limit}
}

// Next reports whether the match goes on with one more name, and waits for its turn.
func (m *Match) Next() bool {
	if now := time.Now(); m.has && now.Sub(m.since) >= turn {
		m.pass(now)
	}
	if m.limit > 0 && m.took > m.limit {
		m.err = ErrTooLong
	}
	for _, ctx := range m.ctxs {
		if ctx.Err() != nil {
			m.err = ErrNobody
		}
	}
	if m.err == nil && !m.has {
		m.turns.turn.Lock()
		m.has, m.since = true, time.Now()
	}
	return m.err == nil
}

func (m *Match) pass(now time.Time) {
	m.took += now.Sub(m.since)
	m.has = false
	m.turns.turn.Unlock()
}

// End ends the match, and says why it was given up, if it was.
func (m *Match) End() error {
	if m.has {
		m.pass(time.Now())
	}
	return m.err
}
