package controller

import (
	"cmp"
	"slices"

	"rustmq.dev/rustmq/consensus/metadata"
)

// candidate is a broker that may be given replicas.
type candidate struct {
	id   int32
	rack string
}

// candidates returns the brokers in service that are not being drained, in order of id.
func candidates(image *metadata.Image) []candidate {
	var found []candidate
	for b := range image.Brokers() {
		if !b.Fenced && !b.Draining {
			found = append(found, candidate{id: b.ID, rack: b.Rack})
		}
	}
	return found
}

// place returns the replicas of count partitions, the leader first. Leaders go
// round the brokers, from the start-th on; the replicas of a partition are on
// different brokers, and on different racks as far as there are enough. Round
// by round followers are shifted, so that the partitions of one leader do not
// all have the same ones. There are at least replicas brokers.
func place(brokers []candidate, count, replicas, start int) [][]int32 {
	ring := interleaveRacks(brokers)
	placed := make([][]int32, count)
	for i := range placed {
		first := (start%len(ring) + i) % len(ring)
		shift := 0
		if others := len(ring) - 1; others > 0 {
			shift = (i / len(ring)) % others
		}
		placed[i] = choose(ring, first, shift, replicas)
	}
	return placed
}

// choose takes ring[first], then others from a place shift further on: those
// of racks that have none yet before the rest.
func choose(ring []candidate, first, shift, replicas int) []int32 {
	chosen := make([]int32, 1, replicas)
	chosen[0] = ring[first].id
	racks := []string{ring[first].rack}
	for _, anyRack := range []bool{false, true} {
		for j := range len(ring) - 1 {
			if len(chosen) == replicas {
				return chosen
			}
			c := ring[(first+1+(shift+j)%(len(ring)-1))%len(ring)]
			if slices.Contains(chosen, c.id) || !anyRack && slices.Contains(racks, c.rack) {
				continue
			}
			chosen = append(chosen, c.id)
			racks = append(racks, c.rack)
		}
	}
	return chosen
}

// interleaveRacks orders brokers so that neighbours are on different racks: the
// first of each rack, then the second of each, and so on.
func interleaveRacks(brokers []candidate) []candidate {
	type ranked struct {
		candidate
		rank int
	}
	inRack := map[string]int{}
	order := make([]ranked, 0, len(brokers))
	for _, b := range slices.SortedFunc(slices.Values(brokers), func(a, b candidate) int { return cmp.Compare(a.id, b.id) }) {
		order = append(order, ranked{b, inRack[b.rack]})
		inRack[b.rack]++
	}
	slices.SortStableFunc(order, func(a, b ranked) int {
		return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(a.rack, b.rack))
	})
	ring := make([]candidate, len(order))
	for i, o := range order {
		ring[i] = o.candidate
	}
	return ring
}
