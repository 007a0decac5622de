package txn

import (
	"context"
	"regexp"
	"slices"
	"sync"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/roles/broker/pattern"
)

// maxMatches bounds the listings that are held against a pattern at once.
const maxMatches = 100

// matches holds listings against patterns, on goroutines that no shard waits for: a
// match costs what the pattern wants it to.
type matches struct {
	turns  pattern.Turns
	ending context.Context
	end    context.CancelFunc
	run    sync.WaitGroup

	mu      sync.Mutex // guards closed and waiting
	closed  bool
	waiting int
}

func newMatches() *matches {
	m := &matches{}
	m.ending, m.end = context.WithCancel(context.Background())
	return m
}

// close ends what is being matched, and returns when it has.
func (m *matches) close() {
	m.mu.Lock()
	m.closed = true
	m.mu.Unlock()
	m.end()
	m.run.Wait()
}

// filter answers with those of resp that match, from another goroutine, or refuses.
func (m *matches) filter(ctx context.Context, expression *regexp.Regexp, resp *kmsg.ListTransactionsResponse, answer func(*kmsg.ListTransactionsResponse)) {
	refuse := func(code int16) {
		resp.TransactionStates, resp.ErrorCode = nil, code
		answer(resp)
	}
	m.mu.Lock()
	takes := !m.closed && m.waiting < maxMatches
	if takes {
		m.waiting++
		m.run.Go(func() {
			match := m.turns.Begin(pattern.MatchTime, ctx, m.ending)
			resp.TransactionStates = slices.DeleteFunc(resp.TransactionStates, func(t kmsg.ListTransactionsResponseTransactionState) bool {
				return !match.Next() || !expression.MatchString(t.TransactionalID)
			})
			err := match.End()
			m.mu.Lock()
			m.waiting--
			m.mu.Unlock()
			switch err {
			case nil:
				answer(resp)
			case pattern.ErrTooLong:
				refuse(kerr.InvalidRegularExpression.Code)
			default:
				refuse(kerr.CoordinatorNotAvailable.Code)
			}
		})
	}
	m.mu.Unlock()
	if !takes {
		refuse(kerr.CoordinatorNotAvailable.Code)
	}
}
