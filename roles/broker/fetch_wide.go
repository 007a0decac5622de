package broker

import "sync"

// keptParts is for how many partitions a fetch keeps its parts with it, to be used again:
// what it keeps is there while its answer is sent, and while it waits for others.
const keptParts = 16

// wideParts are the parts of fetches of more partitions, to be used again by others.
type wideParts struct{ pool sync.Pool }

// get returns n parts, of no partition.
func (w *wideParts) get(n int) []fetchPart {
	if parts, ok := w.pool.Get().(*[]fetchPart); ok && n <= cap(*parts) && cap(*parts) <= 2*n {
		return (*parts)[:n]
	}
	return make([]fetchPart, n)
}

// put takes back parts that are not registered. What wakes a fetch is not kept: it wakes
// the one that it was made for.
func (w *wideParts) put(parts []fetchPart) {
	if cap(parts) <= maxPooledPartitions {
		clear(parts)
		w.pool.Put(&parts)
	}
}
