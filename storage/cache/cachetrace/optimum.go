package cachetrace

import "container/heap"

// never is when a block is asked for next that is not asked for again.
const never = int(^uint(0) >> 1)

// Optimum is how many requests of the trace a cache of so many blocks can answer
// at most: it keeps the blocks that are asked for again soonest, and does not keep
// a block that is asked for later than all it has.
func Optimum(t Trace, capacity int) (hits int) {
	if capacity <= 0 {
		return 0
	}
	again := nextUses(t)
	kept := make(map[uint64]int, capacity) // block: when it is asked for next
	var latest byNextUse                   // of kept; also what kept says otherwise about by now
	for i, block := range t {
		if _, ok := kept[block]; ok {
			hits++
			delete(kept, block)
		}
		if again[i] == never {
			continue
		}
		if len(kept) == capacity {
			for kept[latest[0].block] != latest[0].next {
				heap.Pop(&latest)
			}
			if latest[0].next < again[i] {
				continue
			}
			delete(kept, heap.Pop(&latest).(use).block)
		}
		kept[block] = again[i]
		heap.Push(&latest, use{block, again[i]})
	}
	return hits
}

// nextUses says for each request when its block is asked for again.
func nextUses(t Trace) []int {
	again := make([]int, len(t))
	seen := make(map[uint64]int)
	for i := len(t) - 1; i >= 0; i-- {
		next, ok := seen[t[i]]
		if !ok {
			next = never
		}
		again[i] = next
		seen[t[i]] = i
	}
	return again
}

type use struct {
	block uint64
	next  int
}

// byNextUse is a heap, the block that is asked for last on top.
type byNextUse []use

func (h byNextUse) Len() int           { return len(h) }
func (h byNextUse) Less(i, j int) bool { return h[i].next > h[j].next }
func (h byNextUse) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *byNextUse) Push(x any)        { *h = append(*h, x.(use)) }
func (h *byNextUse) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}
