package log

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"rustmq.dev/rustmq/storage"
)

// TestTransactionsSettleInAnyOrder: what holds the last stable offset is what a list
// says of which everything settled is removed at once.
func TestTransactionsSettleInAnyOrder(t *testing.T) {
	for seed := range uint64(50) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 0))
			var is transactions
			var want []span // that hold it
			var end, highWatermark storage.Offset
			for range 400 {
				switch n := random.IntN(20); {
				case n < 9:
					is.begin(int64(end), end)
					want = append(want, span{int64(end), end, storage.NoOffset})
					end++
				case n < 16:
					var open []int
					for i, s := range want {
						if s.last == storage.NoOffset {
							open = append(open, i)
						}
					}
					if len(open) == 0 {
						continue
					}
					s := &want[open[random.IntN(len(open))]]
					s.last = end
					is.end(s.producer, s.first, end, random.IntN(2) == 0, true)
					end++
				case n < 19:
					highWatermark += storage.Offset(random.Int64N(int64(end-highWatermark) + 1))
					is.settle(highWatermark)
					want = slices.DeleteFunc(want, func(s span) bool { return s.last != storage.NoOffset && s.last < highWatermark })
				default:
					end = highWatermark + storage.Offset(random.Int64N(int64(end-highWatermark)+1))
					is.truncate(end)
					want = slices.DeleteFunc(want, func(s span) bool { return s.first >= end })
					for i := range want {
						if want[i].last >= end {
							want[i].last = storage.NoOffset
						}
					}
				}
				first, held := is.held()
				if held != (len(want) > 0) || held && first != want[0].first {
					t.Fatalf("held at %d (%t), want %v", first, held, want)
				}
				if stable, wanted := is.stableAsOf(highWatermark), stableOf(want, highWatermark); stable != wanted {
					t.Fatalf("stable up to %d, want %d: %v", stable, wanted, want)
				}
				left := slices.DeleteFunc(slices.Clone(is.unstable), is.isSettled)
				if !slices.Equal(left, want) {
					t.Fatalf("%v, want %v", left, want)
				}
				if n := len(is.unstable); n > 2*len(want) || n-len(want) != is.settled {
					t.Fatalf("%d are kept, %d of them settled, for %d", n, is.settled, len(want))
				}
			}
		})
	}
}

func stableOf(holding []span, highWatermark storage.Offset) storage.Offset {
	if len(holding) == 0 {
		return highWatermark
	}
	return min(highWatermark, slices.MinFunc(holding, func(a, b span) int { return cmp.Compare(a.first, b.first) }).first)
}

// BenchmarkSettle begins, ends and settles a transaction while others stay open.
//
//	go test -run '^$' -bench Settle ./storage/log
func BenchmarkSettle(b *testing.B) {
	for _, open := range []int{10, 1000, 100_000} {
		b.Run(fmt.Sprint("open=", open), func(b *testing.B) {
			var t transactions
			for i := range open {
				t.begin(int64(i), storage.Offset(i))
			}
			at := storage.Offset(open)
			b.ReportAllocs()
			for b.Loop() {
				t.begin(int64(at), at)
				t.end(int64(at), at, at+1, true, false)
				at += 2
				t.settle(at)
			}
		})
	}
}
