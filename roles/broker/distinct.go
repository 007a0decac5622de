package broker

import (
	"cmp"
	"slices"
)

// distinct merges the topics that a request names again, and drops the partitions
// that it names again, so that a small request has no huge answer. Partitions come
// out in order, the first of each kept; the memory is that of the request.
func distinct[T, P any](topics []T, name func(*T) string, partitions func(*T) *[]P, index func(P) int32) []T {
	at := make(map[string]int, len(topics))
	kept := topics[:0]
	for i := range topics {
		t := topics[i]
		if first, again := at[name(&t)]; again {
			into := partitions(&kept[first])
			*into = append(*into, *partitions(&t)...)
			continue
		}
		at[name(&t)] = len(kept)
		kept = append(kept, t)
	}
	clear(topics[len(kept):])
	for i := range kept {
		all := partitions(&kept[i])
		slices.SortStableFunc(*all, func(a, b P) int { return cmp.Compare(index(a), index(b)) })
		*all = slices.CompactFunc(*all, func(a, b P) bool { return index(a) == index(b) })
	}
	return kept
}

func itself(index int32) int32 { return index }
