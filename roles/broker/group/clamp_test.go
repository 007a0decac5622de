package group

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/storage"
)

// TestOffsetsOfAnEarlierLifeAreSetBack: those that were committed before this life of the
// cluster, and not since; also while the group has members, who cannot be asked. A start
// later finds them so.
func TestOffsetsOfAnEarlierLifeAreSetBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const life = 1 << 20
		h := open(t, func(o *Options) { o.Life = func() storage.Epoch { return life } })
		commit := func(partition int32, offset int64) {
			t.Helper()
			q := commitRequest("g", offset)
			q.Topics[0].Partitions[0].Partition = partition
			wantCode(t, "commit", commitCode(now(t, call(h, h.OffsetCommit, q))), nil)
		}
		earlier := func(when string, want ...EarlierOffset) {
			t.Helper()
			got := now(t, call(h, func(ctx context.Context, _ int, answer func([]EarlierOffset)) {
				h.EarlierOffsets(ctx, Partition("g"), func(o []EarlierOffset, code int16) {
					wantCode(t, when, code, nil)
					answer(o)
				})
			}, 0))
			if !slices.Equal(got, want) {
				t.Errorf("%s: of an earlier life are %v, want %v", when, got, want)
			}
		}
		clamp := func(clamps ...Clamp) {
			t.Helper()
			got := now(t, call(h, func(ctx context.Context, of []Clamp, answer func(Clamped)) {
				h.ClampOffsets(ctx, Partition("g"), of, answer)
			}, clamps))
			if got != (Clamped{}) {
				t.Fatalf("%+v", got)
			}
		}
		of := func(partition int32, offset int64) EarlierOffset { return EarlierOffset{"g", "t", partition, offset} }

		h.load(1)
		commit(0, 100)
		commit(1, 90)
		commit(2, 80)
		earlier("in the first life")
		h.load(life)
		commit(1, 91)
		earlier("in the next", of(0, 100), of(2, 80))
		now(t, h.join("g", ""))
		clamp(Clamp{of(0, 100), 40}, Clamp{of(1, 91), 40}, Clamp{of(2, 79), 40})
		want := map[int32]int64{0: 40, 1: 91, 2: 80}
		for range 2 {
			for p, offset := range want {
				q := kmsg.NewPtrOffsetFetchRequest()
				q.Version = 8
				q.Groups = []kmsg.OffsetFetchRequestGroup{{Group: "g", Topics: []kmsg.OffsetFetchRequestGroupTopic{{Topic: "t", Partitions: []int32{p}}}}}
				if got := now(t, call(h, h.OffsetFetch, q)).Groups[0].Topics[0].Partitions[0]; got.Offset != offset || p == 0 && got.LeaderEpoch != -1 {
					t.Errorf("of %d it has committed %d, want %d; leader epoch %d", p, got.Offset, offset, got.LeaderEpoch)
				}
			}
			earlier("once set back", of(2, 80))
			h.load(life + 1)
		}
		clamp()
	})
}

// TestCompactionKeepsTheLifeOfAnOffset: what an earlier life committed, in a transaction that is open
// too, is of that life when the log was written anew in this one, and set back then.
func TestCompactionKeepsTheLifeOfAnOffset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const life = 1 << 20
		h := open(t, compacting, func(o *Options) { o.Life = func() storage.Epoch { return life } })
		earlier := func(when string, want ...EarlierOffset) {
			t.Helper()
			if got := h.earlier("g"); !slices.Equal(got, want) {
				t.Errorf("%s: of an earlier life are %v, want %v", when, got, want)
			}
		}
		is, held := EarlierOffset{"g", "t", 0, 100}, EarlierOffset{"g", "t", 0, 110}
		h.load(1)
		wantCode(t, "commit", commitCode(now(t, h.commit("g", 100))), nil)
		wantCode(t, "commit", h.txnCommit(txnCommitRequest("g", 7, 110)), nil)
		h.load(life)
		h.churn()
		earlier("once the log was written anew", held, is)
		h.load(life + 1)
		earlier("once that was loaded", held, is)
		h.churn()
		h.load(2 * life)
		earlier("once it was written anew twice", held, is)
		if got := h.clamp("g", Clamp{held, 40}, Clamp{is, 40}); got != (Clamped{Left: 1}) {
			t.Errorf("while a transaction of that life is open: %+v", got)
		}
		h.wantOffset(40)
		earlier("once what was committed is set back", held)
		h.mark(7, true) // it lies before what it was set back to
		h.wantOffset(40)
		earlier("once the transaction was committed")
		h.churn()
		h.load(2*life + 1)
		earlier("once that was written anew")
		h.wantOffset(40)
	})
}

// TestTransactionsOfAnEarlierLifeAreAwaited: what one commits in this life is of that life.
func TestTransactionsOfAnEarlierLifeAreAwaited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const life = 1 << 20
		h := open(t, func(o *Options) { o.Life = func() storage.Epoch { return life } })
		h.load(1)
		wantCode(t, "commit", h.txnCommit(txnCommitRequest("g", 7, 110)), nil)
		h.load(life)
		held := EarlierOffset{"g", "t", 0, 110}
		for _, open := range []bool{true, false} {
			if got := h.earlier("g"); !slices.Equal(got, []EarlierOffset{held}) {
				t.Errorf("of an earlier life are %v; open: %v", got, open)
			}
			want := Clamped{}
			if open {
				want.Left = 1
			}
			if got := h.clamp("g", Clamp{held, 40}); got != want {
				t.Errorf("%+v, want %+v; open: %v", got, want, open)
			}
			if open {
				h.mark(7, true)
				h.wantOffset(110)
			}
		}
		h.wantOffset(40)
	})
}

// earlier returns what the coordinator of a group says was committed in earlier lives.
func (h *house) earlier(group string) []EarlierOffset {
	h.t.Helper()
	return now(h.t, call(h, func(ctx context.Context, _ int, answer func([]EarlierOffset)) {
		h.EarlierOffsets(ctx, Partition(group), func(o []EarlierOffset, code int16) {
			wantCode(h.t, "ask for offsets of an earlier life", code, nil)
			answer(o)
		})
	}, 0))
}

func (h *house) clamp(group string, clamps ...Clamp) Clamped {
	h.t.Helper()
	return now(h.t, call(h, func(ctx context.Context, of []Clamp, answer func(Clamped)) {
		h.ClampOffsets(ctx, Partition(group), of, answer)
	}, clamps))
}

// TestOffsetsOfATopicMadeInThisLifeStay: the groups' topic itself is younger than the cluster's life.
func TestOffsetsOfATopicMadeInThisLifeStay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, func(o *Options) { o.Life = func() storage.Epoch { return 1 << 20 } })
		h.load(1)
		wantCode(t, "commit", commitCode(now(t, h.commit("g", 100))), nil)
		h.load(2)
		got := now(t, call(h, func(ctx context.Context, _ int, answer func([]EarlierOffset)) {
			h.EarlierOffsets(ctx, Partition("g"), func(o []EarlierOffset, _ int16) { answer(o) })
		}, 0))
		if len(got) > 0 {
			t.Errorf("of an earlier life are %v", got)
		}
	})
}
