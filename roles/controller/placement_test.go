package controller

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"rustmq.dev/rustmq/test/seeded"
)

func TestPlacementGoesRound(t *testing.T) {
	three := []candidate{{1, ""}, {2, ""}, {3, ""}}
	racks := []candidate{{1, "a"}, {2, "a"}, {3, "b"}, {4, "b"}}
	for _, try := range []struct {
		brokers                []candidate
		count, replicas, start int
		want                   string
	}{
		{three[:1], 2, 1, 5, "[[1] [1]]"},
		{three, 3, 1, 0, "[[1] [2] [3]]"},
		{three, 3, 1, 1, "[[2] [3] [1]]"},
		{three, 6, 2, 0, "[[1 2] [2 3] [3 1] [1 3] [2 1] [3 2]]"},
		{racks, 4, 2, 0, "[[1 3] [3 2] [2 4] [4 1]]"},
		{racks, 1, 3, 0, "[[1 3 2]]"},
	} {
		if got := fmt.Sprint(place(try.brokers, try.count, try.replicas, try.start)); got != try.want {
			t.Errorf("%v, %d partitions of %d from %d: %s, want %s", try.brokers, try.count, try.replicas, try.start, got, try.want)
		}
	}
}

// TestPlacementIsEvenAndApart: replicas on different brokers, on as many racks
// as there are, and leaders within one of each other.
func TestPlacementIsEvenAndApart(t *testing.T) {
	seeded.Check(t, func(t *rapid.T) {
		var brokers []candidate
		racks := map[int32]string{}
		for i := range rapid.IntRange(1, 12).Draw(t, "brokers") {
			rack := rapid.SampledFrom([]string{"", "a", "b", "c"}).Draw(t, "rack")
			brokers = append(brokers, candidate{int32(i), rack})
			racks[int32(i)] = rack
		}
		different := map[string]bool{}
		for _, b := range brokers {
			different[b.rack] = true
		}
		replicas := rapid.IntRange(1, len(brokers)).Draw(t, "replicas")
		count := rapid.IntRange(1, 50).Draw(t, "partitions")
		leads := make([]int, len(brokers))
		for _, chosen := range place(brokers, count, replicas, int(rapid.Uint32().Draw(t, "start"))) {
			leads[chosen[0]]++
			used := map[string]bool{}
			for i, id := range chosen {
				if slices.Contains(chosen[:i], id) {
					t.Fatalf("broker %d twice in %v", id, chosen)
				}
				used[racks[id]] = true
			}
			if len(chosen) != replicas || len(used) != min(replicas, len(different)) {
				t.Fatalf("%v: %d replicas on %d racks of %d", chosen, len(chosen), len(used), len(different))
			}
		}
		if slices.Max(leads)-slices.Min(leads) > 1 {
			t.Fatalf("leaders %v", leads)
		}
	})
}
