package txn

import (
	"context"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// A listing that is held against a slow pattern ends with its client, and with the
// coordinator; of a pattern that is soon matched another is answered meanwhile.
func TestListingsAreMatchedBesideTheShards(t *testing.T) {
	listing := func(n int) *kmsg.ListTransactionsResponse {
		resp := kmsg.NewPtrListTransactionsResponse()
		for i := range n {
			resp.TransactionStates = append(resp.TransactionStates, kmsg.ListTransactionsResponseTransactionState{TransactionalID: strconv.Itoa(i) + strings.Repeat("a", 100)})
		}
		return resp
	}
	m := newMatches()
	slow := regexp.MustCompile(`\A(?:(?:.?){300}b)\z`)
	filter := func(ctx context.Context, n int, expression *regexp.Regexp) chan *kmsg.ListTransactionsResponse {
		answered := make(chan *kmsg.ListTransactionsResponse, 1)
		m.filter(ctx, expression, listing(n), func(r *kmsg.ListTransactionsResponse) { answered <- r })
		return answered
	}
	ctx, leave := context.WithCancel(t.Context())
	left, ended := filter(ctx, 20_000, slow), filter(t.Context(), 20_000, slow)
	if r := <-filter(t.Context(), 100, regexp.MustCompile(`\A7a+\z`)); r.ErrorCode != 0 || len(r.TransactionStates) != 1 {
		t.Errorf("a pattern like others: %d, %d ids", r.ErrorCode, len(r.TransactionStates))
	}
	leave()
	refused := func(what string, r *kmsg.ListTransactionsResponse) {
		t.Helper()
		if r.ErrorCode != kerr.CoordinatorNotAvailable.Code || len(r.TransactionStates) > 0 {
			t.Errorf("%s: %d, %d ids", what, r.ErrorCode, len(r.TransactionStates))
		}
	}
	refused("its client is gone", <-left)
	m.close()
	refused("the coordinator has ended", <-ended)
	refused("after the end", <-filter(t.Context(), 20_000, slow))
}

// So many listings wait for a match, and no more.
func TestMatchingListingsAreBounded(t *testing.T) {
	m := newMatches()
	holds := m.turns.Begin(0) // nobody else has a turn
	holds.Next()
	codes := make(chan int16, maxMatches+1)
	for range maxMatches + 1 {
		resp := kmsg.NewPtrListTransactionsResponse()
		resp.TransactionStates = []kmsg.ListTransactionsResponseTransactionState{{TransactionalID: "a"}}
		m.filter(t.Context(), regexp.MustCompile("a"), resp, func(r *kmsg.ListTransactionsResponse) { codes <- r.ErrorCode })
	}
	if code := <-codes; code != kerr.CoordinatorNotAvailable.Code {
		t.Errorf("one too many: %d", code)
	}
	if err := holds.End(); err != nil {
		t.Error(err)
	}
	var rest []int16
	for range maxMatches {
		rest = append(rest, <-codes)
	}
	if slices.Max(rest) != 0 {
		t.Errorf("those that waited: %v", rest)
	}
	m.close()
}
