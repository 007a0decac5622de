package cachetrace

import "rustmq.dev/rustmq/storage/cache"

// blockBytes is what a block weighs in a replay: a data block's size.
const blockBytes = 256 << 10

// Replay is how many requests of the trace a cache of so many blocks answers under
// the policy, when each block that is missed is put.
func Replay(t Trace, policy cache.Policy, capacity int) (hits int, err error) {
	c, err := cache.New(cache.Options[uint64, struct{}]{
		Policy:   policy,
		Capacity: int64(capacity) * blockBytes,
		Weigh:    func(uint64, struct{}) uint32 { return blockBytes },
	})
	if err != nil {
		return 0, err
	}
	for _, block := range t {
		if _, ok := c.Get(block); ok {
			hits++
		} else {
			c.Put(block, struct{}{})
		}
	}
	return hits, nil
}

// Row is what a cache of one size does with a trace, as shares of its requests.
type Row struct {
	Capacity               int // blocks
	Optimum, WTinyLFU, LRU float64
}

// OfOptimum is a share of the optimum's hits.
func (r Row) OfOptimum(hits float64) float64 {
	if r.Optimum == 0 {
		return 1
	}
	return hits / r.Optimum
}

// Measure makes the trace and runs it at each capacity.
func Measure(o Options, capacities ...int) ([]Row, error) {
	trace, err := Mixed(o)
	if err != nil {
		return nil, err
	}
	share := func(hits int) float64 { return float64(hits) / float64(max(len(trace), 1)) }
	var rows []Row
	for _, capacity := range capacities {
		row := Row{Capacity: capacity, Optimum: share(Optimum(trace, capacity))}
		for policy, result := range map[cache.Policy]*float64{cache.WTinyLFU: &row.WTinyLFU, cache.LRU: &row.LRU} {
			hits, err := Replay(trace, policy, capacity)
			if err != nil {
				return nil, err
			}
			*result = share(hits)
		}
		rows = append(rows, row)
	}
	return rows, nil
}
