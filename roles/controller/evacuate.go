package controller

import (
	"slices"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/storage"
)

// Evacuate plans how a broker comes to have no replica: each of its partitions gets
// another broker in its place, of those in service the one with the fewest replicas,
// first of racks where the partition has none. Partitions that are being moved already
// are left to that. Stuck are those for which there is no other broker.
func Evacuate(image *metadata.Image, broker int32) (moves []Reassignment, stuck []storage.PartitionID) {
	load, racks := map[int32]int{}, map[int32]string{}
	var others []candidate
	for _, c := range candidates(image) {
		if c.id != broker {
			others = append(others, c)
		}
	}
	for b := range image.Brokers() {
		racks[b.ID] = b.Rack
	}
	type found struct {
		id storage.PartitionID
		p  *metadata.Partition
	}
	var its []found
	for t := range image.Topics() {
		for i := range t.Partitions.Len() {
			p := t.Partitions.At(i)
			for _, r := range p.Replicas {
				load[r]++
			}
			if slices.Contains(p.Replicas, broker) && len(p.Adding) == 0 && len(p.Removing) == 0 {
				its = append(its, found{storage.PartitionID{Topic: t.ID, Index: p.Index}, p})
			}
		}
	}
	for _, f := range its {
		taken := map[string]bool{}
		for _, r := range f.p.Replicas {
			taken[racks[r]] = taken[racks[r]] || r != broker
		}
		best := -1
		for i, c := range others {
			if slices.Contains(f.p.Replicas, c.id) {
				continue
			}
			if best < 0 || taken[others[best].rack] && !taken[c.rack] || taken[others[best].rack] == taken[c.rack] && load[c.id] < load[others[best].id] {
				best = i
			}
		}
		if best < 0 {
			stuck = append(stuck, f.id)
			continue
		}
		replicas := slices.Clone(f.p.Replicas)
		replicas[slices.Index(replicas, broker)] = others[best].id
		load[others[best].id]++
		moves = append(moves, Reassignment{Partition: f.id, Replicas: replicas})
	}
	return moves, stuck
}
