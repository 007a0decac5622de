package group

import (
	"context"
	"errors"
	"rustmq.dev/rustmq/roles/broker/coordinator/coordinatortest"
	"testing"
	"testing/synctest"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/log"
)

func txnCommitRequest(group string, producer, offset int64) *kmsg.TxnOffsetCommitRequest {
	req := kmsg.NewPtrTxnOffsetCommitRequest()
	req.Version, req.TransactionalID, req.Group, req.ProducerID = 5, "tx", group, producer
	req.Topics = txnTopics("t", offset)
	return req
}

func (h *house) askTxnCommit(req *kmsg.TxnOffsetCommitRequest) <-chan *kmsg.TxnOffsetCommitResponse {
	h.t.Helper()
	return call(h, func(ctx context.Context, req *kmsg.TxnOffsetCommitRequest, answer func(*kmsg.TxnOffsetCommitResponse)) {
		h.TxnOffsetCommit(ctx, req, log.Guard{}, answer)
	}, req)
}

func (h *house) txnCommit(req *kmsg.TxnOffsetCommitRequest) int16 {
	h.t.Helper()
	return now(h.t, h.askTxnCommit(req)).Topics[0].Partitions[0].ErrorCode
}

func (h *house) askMark(producer int64, commit bool) <-chan error {
	got := make(chan error, 2)
	h.EndTransaction(h.t.Context(), Partition("g"), log.Marker{ProducerID: producer, Commit: commit}, func(err error) { got <- err })
	return got
}

func (h *house) mark(producer int64, commit bool) {
	h.t.Helper()
	if err := now(h.t, h.askMark(producer, commit)); err != nil {
		h.t.Fatal(err)
	}
}

// stable is the code of a fetch that takes no offset which a transaction may change.
func (h *house) stable(group string) int16 {
	h.t.Helper()
	req := kmsg.NewPtrOffsetFetchRequest()
	req.Version, req.RequireStable = 8, true
	req.Groups = []kmsg.OffsetFetchRequestGroup{{Group: group, Topics: []kmsg.OffsetFetchRequestGroupTopic{{Topic: "t", Partitions: []int32{0}}}}}
	return now(h.t, call(h, h.OffsetFetch, req)).Groups[0].Topics[0].Partitions[0].ErrorCode
}

func (h *house) wantOffset(want int64) {
	h.t.Helper()
	if got := h.fetched("g"); got != want {
		h.t.Fatalf("offset %d, want %d", got, want)
	}
}

// An offset in a transaction is committed with it: not before, nor if it is aborted,
// also when the coordinator begins anew meanwhile.
func TestOffsetsAreCommittedByTheMarker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t)
		h.load(1)
		wantCode(t, "commit", commitCode(now(t, h.commit("g", 1))), nil)
		wantCode(t, "stable", h.stable("g"), nil)
		h.log.Hold()
		first := h.askTxnCommit(txnCommitRequest("g", 7, 5))
		none(t, first)
		wantCode(t, "while it is written", h.stable("g"), kerr.UnstableOffsetCommit)
		h.log.Release()
		wantCode(t, "in a transaction", now(t, first).Topics[0].Partitions[0].ErrorCode, nil)
		for epoch := range storage.Epoch(2) {
			h.wantOffset(1)
			wantCode(t, "in a transaction", h.stable("g"), kerr.UnstableOffsetCommit)
			h.load(epoch + 2)
		}
		h.mark(8, true) // another's
		h.wantOffset(1)
		h.log.Hold()
		marked := h.askMark(7, true)
		none(t, marked)
		h.wantOffset(1)
		h.log.Release()
		if err := now(t, marked); err != nil {
			t.Fatal(err)
		}
		h.wantOffset(5)
		wantCode(t, "stable", h.stable("g"), nil)

		wantCode(t, "in a transaction", h.txnCommit(txnCommitRequest("g", 7, 9)), nil)
		h.mark(7, false)
		h.wantOffset(5)
		h.load(9)
		h.wantOffset(5)
		wantCode(t, "stable", h.stable("g"), nil)
		// A group that only a transaction knows is there once that commits.
		other := neighbours(1)[0]
		wantCode(t, "in a transaction", h.txnCommit(txnCommitRequest(other, 7, 3)), nil)
		h.mark(7, false)
		if st := h.Stats(); st.Groups != 1 {
			t.Errorf("%+v", st)
		}
	})
}

// What is committed after an offset in a transaction is not undone by it.
func TestLateTransactionDoesNotTurnAnOffsetBack(t *testing.T) {
	for _, restart := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			h := open(t)
			h.load(1)
			wantCode(t, "in a transaction", h.txnCommit(txnCommitRequest("g", 7, 5)), nil)
			wantCode(t, "in another", h.txnCommit(txnCommitRequest("g", 8, 6)), nil)
			wantCode(t, "commit", commitCode(now(t, h.commit("g", 4))), nil)
			wantCode(t, "in a third", h.txnCommit(txnCommitRequest("g", 9, 7)), nil)
			if restart {
				h.load(2)
			}
			h.mark(7, true)
			h.wantOffset(4)
			h.mark(9, true)
			h.wantOffset(7)
			h.mark(8, true)
			h.wantOffset(7)
		})
	}
}

// What could not be written is in no transaction, and a transaction whose marker
// could not be written is open.
func TestFailedTransactionalWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t)
		h.load(1)
		wantCode(t, "commit", commitCode(now(t, h.commit("g", 1))), nil)
		h.log.Set(func(l *coordinatortest.Log) { l.Fail = kerr.TransactionAbortable })
		wantCode(t, "not verified", h.txnCommit(txnCommitRequest("g", 7, 5)), kerr.TransactionAbortable)
		wantCode(t, "stable", h.stable("g"), nil)
		h.log.Set(func(l *coordinatortest.Log) { l.Fail = nil })
		h.mark(7, true)
		h.wantOffset(1)
		wantCode(t, "in a transaction", h.txnCommit(txnCommitRequest("g", 7, 6)), nil)
		h.log.Set(func(l *coordinatortest.Log) { l.Fail = errors.New("disk full") })
		if err := now(t, h.askMark(7, true)); err == nil {
			t.Fatal("a marker that was not written")
		}
		h.wantOffset(1)
		wantCode(t, "stable", h.stable("g"), kerr.UnstableOffsetCommit)
		h.log.Set(func(l *coordinatortest.Log) { l.Fail = nil })
		h.mark(7, true)
		h.wantOffset(6)
		if err := <-h.askMark(-1, true); err != nil {
			t.Fatal(err)
		}
		got := make(chan error, 1)
		h.EndTransaction(t.Context(), 99, log.Marker{}, func(err error) { got <- err })
		if err := now(t, got); !errors.Is(err, kerr.NotCoordinator) {
			t.Fatal(err)
		}
	})
}

// A consumer's generation fences what its producer commits (KIP-447); a producer
// that says nothing of a consumer may commit, as before.
func TestTransactionsAreFencedByTheGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t)
		h.load(1)
		m := now(t, h.join("g", "")).MemberID
		q := txnCommitRequest("g", 7, 5)
		q.MemberID, q.Generation = m, 1
		wantCode(t, "before the assignment", h.txnCommit(q), nil)
		wantCode(t, "sync", now(t, h.sync("g", m, 1)).ErrorCode, nil)
		wantCode(t, "of a member", h.txnCommit(q), nil)
		q.Generation = 2
		wantCode(t, "of another generation", h.txnCommit(q), kerr.IllegalGeneration)
		q.Generation, q.MemberID = 1, "stranger"
		wantCode(t, "of a stranger", h.txnCommit(q), kerr.UnknownMemberID)
		wantCode(t, "of nobody", h.txnCommit(txnCommitRequest("g", 7, 6)), nil)
		q = txnCommitRequest("unknown", 7, 6)
		h.Load(Partition("unknown"), 1)
		synctest.Wait()
		q.Generation = 3
		wantCode(t, "of no group", h.txnCommit(q), kerr.IllegalGeneration)
		h.mark(7, true)
		h.wantOffset(6)
	})
}

// A producer knows the errors of the classic protocol only: any other kills it.
func TestTransactionOfAStaleMemberIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		topics, _ := withTopics(someTopics())
		h := open(t, topics)
		h.load(1)
		is := now(t, h.beat("g", "m", joinEpoch))
		wantCode(t, "join", is.ErrorCode, nil)
		q := txnCommitRequest("g", 7, 5)
		q.MemberID, q.Generation = "m", is.MemberEpoch
		wantCode(t, "of a member", h.txnCommit(q), nil)
		for _, epoch := range []int32{is.MemberEpoch - 1, is.MemberEpoch + 1} {
			q.Generation = epoch
			wantCode(t, "of another epoch", h.txnCommit(q), kerr.IllegalGeneration)
		}
		q.MemberID = "stranger"
		wantCode(t, "of a stranger", h.txnCommit(q), kerr.UnknownMemberID)
	})
}

// Who deletes a group deletes what transactions would commit to it.
func TestDeletedGroupStaysDeleted(t *testing.T) {
	for _, restart := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			h := open(t)
			h.load(1)
			wantCode(t, "in a transaction", h.txnCommit(txnCommitRequest("g", 7, 5)), nil)
			deleted := now(t, call(h, h.DeleteGroups, &kmsg.DeleteGroupsRequest{Version: 2, Groups: []string{"g"}}))
			wantCode(t, "delete", deleted.Groups[0].ErrorCode, nil)
			if restart {
				h.load(2)
			}
			h.mark(7, true)
			h.wantOffset(-1)
			if st := h.Stats(); st.Groups != 0 || st.Bytes != 0 {
				t.Errorf("%+v", st)
			}
		})
	}
}

// Every version of TxnOffsetCommit, by name and by id.
func TestTxnOffsetCommitByVersion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, func(o *Options) { o.Topics = catalogue{} })
		h.load(1)
		for version := range int16(7) {
			q := txnCommitRequest("g", 7, int64(version))
			q.Version = version
			if q.Topics[0].TopicID = [16]byte{1}; version >= 6 {
				q.Topics[0].Topic = ""
			}
			wantCode(t, "known", h.txnCommit(q), nil)
			h.mark(7, true)
			h.wantOffset(int64(version))
			q.Topics[0].Partitions[0].Partition = 2
			want := kerr.UnknownTopicOrPartition
			if version >= 6 {
				want = kerr.UnknownTopicID
			}
			wantCode(t, "unknown", h.txnCommit(q), want)
			if got := RefuseTxnOffsetCommit(q, 3); got.Topics[0].Partitions[0].ErrorCode != 3 || got.Topics[0].TopicID != q.Topics[0].TopicID {
				t.Errorf("%+v", got)
			}
		}
	})
}
