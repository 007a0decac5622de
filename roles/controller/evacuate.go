package controller

import (
	"slices"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/storage"
)

// Evacuate plans how a broker comes to have no replica: each of its partitions gets
// another broker in its place, of those in service the one with the fewest replicas,
// first of racks where the partition has none. Partitions that are being moved already
// are left to that, but where it brings this broker, which a drained one cannot end: there
// it is left out, and nobody takes its place if there is no other and the partition keeps
// as many replicas as it had. Stuck are those for which there is no other broker.
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
		id   storage.PartitionID
		had  int     // replicas, before what is under way
		stay []int32 // that it comes to
	}
	var its []found
	for t := range image.Topics() {
		for i := range t.Partitions.Len() {
			p := t.Partitions.At(i)
			for _, r := range p.Replicas {
				load[r]++
			}
			still := len(p.Adding) == 0 && len(p.Removing) == 0
			if slices.Contains(p.Adding, broker) || still && slices.Contains(p.Replicas, broker) {
				stay := slices.DeleteFunc(slices.Clone(p.Replicas), func(r int32) bool { return slices.Contains(p.Removing, r) })
				its = append(its, found{storage.PartitionID{Topic: t.ID, Index: p.Index}, len(p.Replicas) - len(p.Adding), stay})
			}
		}
	}
	for _, f := range its {
		taken := map[string]bool{}
		for _, r := range f.stay {
			taken[racks[r]] = taken[racks[r]] || r != broker
		}
		best := -1
		for i, c := range others {
			if slices.Contains(f.stay, c.id) {
				continue
			}
			if best < 0 || taken[others[best].rack] && !taken[c.rack] || taken[others[best].rack] == taken[c.rack] && load[c.id] < load[others[best].id] {
				best = i
			}
		}
		at := slices.Index(f.stay, broker)
		switch {
		case best >= 0:
			f.stay[at] = others[best].id
			load[others[best].id]++
		case len(f.stay) > f.had:
			f.stay = slices.Delete(f.stay, at, at+1)
		default:
			stuck = append(stuck, f.id)
			continue
		}
		moves = append(moves, Reassignment{Partition: f.id, Replicas: f.stay})
	}
	return moves, stuck
}
