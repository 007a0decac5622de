package txn

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/roles/broker/coordinator"
	"rustmq.dev/rustmq/roles/broker/pattern"
)

// The entry points below take a decoded request and a function that gets the
// response, exactly once, from any goroutine, perhaps before the entry point
// returns; it must not block. The request, and the bytes it points to, must stay
// as they are until then. A response may share strings with its request. ctx ends
// with the client's connection: what was not begun by then is not begun.
//
// Responses carry no throttle time, which is the caller's business.

// Versions from which on clients know that another producer has fenced them off
// (KIP-588); others learn that their epoch is invalid.
const (
	fencedInit = 4
	fencedAdd  = 2
	fencedEnd  = 2
)

// InitProducerID serves versions 0 to 5, with a transactional id.
func (c *Coordinator) InitProducerID(ctx context.Context, req *kmsg.InitProducerIDRequest, answer func(*kmsg.InitProducerIDResponse)) {
	c.submit(ctx, *req.TransactionalID, req, coordinator.Deliver(answer), func(code int16) {
		answer(refusal(req, code).(*kmsg.InitProducerIDResponse))
	})
}

// EndTxn serves versions 0 to 5.
func (c *Coordinator) EndTxn(ctx context.Context, req *kmsg.EndTxnRequest, answer func(*kmsg.EndTxnResponse)) {
	c.submit(ctx, req.TransactionalID, req, coordinator.Deliver(answer), func(code int16) {
		answer(refusal(req, code).(*kmsg.EndTxnResponse))
	})
}

// AddPartitions makes partitions part of a transaction, or says whether they are:
// a code for each.
func (c *Coordinator) AddPartitions(ctx context.Context, q *AddPartitions, answer func(codes []int16)) {
	c.submit(ctx, q.TransactionalID, q, coordinator.Deliver(answer), func(code int16) { answer(refusal(q, code).([]int16)) })
}

// AddPartitionsToTxn serves versions 0 to 5; from 4 on, brokers ask for several
// transactions.
func (c *Coordinator) AddPartitionsToTxn(ctx context.Context, req *kmsg.AddPartitionsToTxnRequest, answer func(*kmsg.AddPartitionsToTxnResponse)) {
	resp := req.ResponseKind().(*kmsg.AddPartitionsToTxnResponse)
	if req.Version < 4 {
		q := &AddPartitions{TransactionalID: req.TransactionalID, ProducerID: req.ProducerID, ProducerEpoch: req.ProducerEpoch}
		for _, t := range req.Topics {
			for _, p := range t.Partitions {
				q.Partitions = append(q.Partitions, Partition{t.Topic, p})
			}
		}
		c.addKnown(ctx, q, func(codes []int16) {
			for _, t := range req.Topics {
				rt := kmsg.NewAddPartitionsToTxnResponseTopic()
				rt.Topic = t.Topic
				for _, p := range t.Partitions {
					rp := kmsg.NewAddPartitionsToTxnResponseTopicPartition()
					rp.Partition, rp.ErrorCode = p, fencedBelow(req.Version, fencedAdd, codes[0])
					rt.Partitions, codes = append(rt.Partitions, rp), codes[1:]
				}
				resp.Topics = append(resp.Topics, rt)
			}
			answer(resp)
		})
		return
	}
	coordinator.Collect(len(req.Transactions), func(i int, put func([]int16)) {
		t := &req.Transactions[i]
		q := &AddPartitions{
			TransactionalID: t.TransactionalID, ProducerID: t.ProducerID, ProducerEpoch: t.ProducerEpoch,
			VerifyOnly: t.VerifyOnly, Version: bumpsEpochs,
		}
		for _, rt := range t.Topics {
			for _, p := range rt.Partitions {
				q.Partitions = append(q.Partitions, Partition{rt.Topic, p})
			}
		}
		c.addKnown(ctx, q, put)
	}, func(all [][]int16) {
		for i, codes := range all {
			resp.Transactions = append(resp.Transactions, addedTo(&req.Transactions[i], codes))
		}
		answer(resp)
	})
}

// addedTo is the part of a response that concerns one transaction.
func addedTo(t *kmsg.AddPartitionsToTxnRequestTransaction, codes []int16) kmsg.AddPartitionsToTxnResponseTransaction {
	out := kmsg.NewAddPartitionsToTxnResponseTransaction()
	out.TransactionalID = t.TransactionalID
	for _, topic := range t.Topics {
		rt := kmsg.NewAddPartitionsToTxnResponseTransactionTopic()
		rt.Topic = topic.Topic
		for _, p := range topic.Partitions {
			rp := kmsg.NewAddPartitionsToTxnResponseTransactionTopicPartition()
			rp.Partition, rp.ErrorCode = p, codes[0]
			rt.Partitions, codes = append(rt.Partitions, rp), codes[1:]
		}
		out.Topics = append(out.Topics, rt)
	}
	return out
}

// addKnown adds partitions if all of them exist; else none.
func (c *Coordinator) addKnown(ctx context.Context, q *AddPartitions, answer func(codes []int16)) {
	codes := make([]int16, len(q.Partitions))
	known := true
	for i, p := range q.Partitions {
		codes[i] = kerr.OperationNotAttempted.Code
		if !q.VerifyOnly && !c.exists(p) {
			codes[i], known = kerr.UnknownTopicOrPartition.Code, false
		}
	}
	if !known {
		answer(codes)
		return
	}
	c.AddPartitions(ctx, q, answer)
}

func (c *Coordinator) exists(p Partition) bool {
	return c.opt.Topics == nil || p.Index >= 0 && p.Index < c.opt.Topics.Partitions(p.Topic)
}

// AddOffsetsToTxn serves versions 0 to 4. offsets is the partition that the group's
// offsets are committed in.
func (c *Coordinator) AddOffsetsToTxn(ctx context.Context, req *kmsg.AddOffsetsToTxnRequest, offsets Partition, answer func(*kmsg.AddOffsetsToTxnResponse)) {
	q := &AddPartitions{TransactionalID: req.TransactionalID, ProducerID: req.ProducerID, ProducerEpoch: req.ProducerEpoch, Partitions: []Partition{offsets}}
	c.AddPartitions(ctx, q, func(codes []int16) {
		resp := req.ResponseKind().(*kmsg.AddOffsetsToTxnResponse)
		resp.ErrorCode = fencedBelow(req.Version, fencedAdd, codes[0])
		answer(resp)
	})
}

// DescribeTransactions serves version 0.
func (c *Coordinator) DescribeTransactions(ctx context.Context, req *kmsg.DescribeTransactionsRequest, answer func(*kmsg.DescribeTransactionsResponse)) {
	type state = kmsg.DescribeTransactionsResponseTransactionState
	coordinator.Collect(len(req.TransactionalIDs), func(i int, put func(*state)) {
		id := req.TransactionalIDs[i]
		refuse := func(code int16) {
			refused := kmsg.NewDescribeTransactionsResponseTransactionState()
			refused.TransactionalID, refused.ErrorCode = id, code
			put(&refused)
		}
		if id == "" {
			refuse(kerr.InvalidRequest.Code)
			return
		}
		c.submit(ctx, id, &Describe{TransactionalID: id}, coordinator.Deliver(put), refuse)
	}, func(all []*state) {
		resp := req.ResponseKind().(*kmsg.DescribeTransactionsResponse)
		for _, s := range all {
			resp.TransactionStates = append(resp.TransactionStates, *s)
		}
		answer(resp)
	})
}

// maxPattern bounds the bytes of a pattern; package pattern bounds what it compiles to.
const maxPattern = 4 << 10

// ListTransactions serves versions 0 to 2: the ids of the partitions loaded here.
// While a partition loads, the response says so, and holds the others' ids.
func (c *Coordinator) ListTransactions(ctx context.Context, req *kmsg.ListTransactionsRequest, answer func(*kmsg.ListTransactionsResponse)) {
	resp := req.ResponseKind().(*kmsg.ListTransactionsResponse)
	q := &List{Longer: -1}
	if req.Version >= 1 {
		q.Longer = req.DurationFilterMillis
	}
	for _, name := range req.StateFilters {
		if i := slices.Index(stateNames[:], name); i >= 0 {
			if q.States == nil {
				q.States = map[State]bool{}
			}
			q.States[State(i)] = true
		} else {
			resp.UnknownStateFilters = append(resp.UnknownStateFilters, name)
		}
	}
	if len(req.StateFilters) > 0 && q.States == nil {
		answer(resp) // no state that exists was asked for
		return
	}
	for _, id := range req.ProducerIDFilters {
		if q.ProducerIDs == nil {
			q.ProducerIDs = map[int64]bool{}
		}
		q.ProducerIDs[id] = true
	}
	if req.Version >= 2 && req.TransactionalIDPattern != nil && *req.TransactionalIDPattern != "" {
		expression, err := matching(*req.TransactionalIDPattern)
		if err != nil {
			resp.ErrorCode = kerr.InvalidRegularExpression.Code
			answer(resp)
			return
		}
		all := answer
		answer = func(resp *kmsg.ListTransactionsResponse) { c.matches.filter(ctx, expression.Regexp, resp, all) }
	}
	c.listAll(ctx, q, resp, answer)
}

// matching makes of a pattern what matches whole ids (KIP-1152).
func matching(source string) (*pattern.Pattern, error) {
	if len(source) > maxPattern {
		return nil, fmt.Errorf("a pattern of %d bytes, at most %d are taken", len(source), maxPattern)
	}
	return pattern.Compile(source)
}

func (c *Coordinator) listAll(ctx context.Context, q *List, resp *kmsg.ListTransactionsResponse, answer func(*kmsg.ListTransactionsResponse)) {
	type part struct {
		ids  []kmsg.ListTransactionsResponseTransactionState
		code int16
	}
	here := c.shards.All()
	coordinator.Collect(len(here), func(i int, put func(part)) {
		here[i].Submit(ctx, q,
			func(body any) { put(part{ids: body.([]kmsg.ListTransactionsResponseTransactionState)}) },
			func(code int16) { put(part{code: code}) })
	}, func(parts []part) {
		all := 0
		for _, p := range parts {
			all += len(p.ids)
		}
		resp.TransactionStates = make([]kmsg.ListTransactionsResponseTransactionState, 0, all)
		for _, p := range parts {
			resp.TransactionStates = append(resp.TransactionStates, p.ids...)
			if p.code != 0 && p.code != kerr.NotCoordinator.Code {
				resp.ErrorCode = p.code
			}
		}
		slices.SortFunc(resp.TransactionStates, func(a, b kmsg.ListTransactionsResponseTransactionState) int {
			return strings.Compare(a.TransactionalID, b.TransactionalID)
		})
		answer(resp)
	})
}

// refusal answers a request or question with an error.
func refusal(body any, code int16) any {
	switch q := body.(type) {
	case *kmsg.InitProducerIDRequest:
		resp := q.ResponseKind().(*kmsg.InitProducerIDResponse)
		resp.ProducerID, resp.ProducerEpoch = noProducerID, noProducerEpoch
		resp.ErrorCode = fencedBelow(q.Version, fencedInit, code)
		return resp
	case *kmsg.EndTxnRequest:
		resp := q.ResponseKind().(*kmsg.EndTxnResponse)
		resp.ProducerID, resp.ProducerEpoch = noProducerID, noProducerEpoch
		resp.ErrorCode = fencedBelow(q.Version, fencedEnd, code)
		return resp
	case *AddPartitions:
		return slices.Repeat([]int16{code}, len(q.Partitions))
	}
	panic(fmt.Sprintf("txn: a refusal of %T", body))
}

// fencedBelow returns the code as clients of that version know it.
func fencedBelow(version, since, code int16) int16 {
	if version < since && code == kerr.ProducerFenced.Code {
		return kerr.InvalidProducerEpoch.Code
	}
	return code
}
