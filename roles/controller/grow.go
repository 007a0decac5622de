package controller

import (
	"math"
	"slices"
	"time"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/guard"
)

// DefaultGrowAfter is for how long a broker must have been in service, in this controller's
// term, to be given replicas that nobody asked for: they stay when it goes, and
// min.insync.replicas with them.
const DefaultGrowAfter = time.Minute

// tenures is since when registrations are in service, as far as was seen. It is a pure
// core: it reads no clock.
type tenures map[int32]tenure

type tenure struct {
	epoch int64
	since time.Time
}

// see returns what is known once image was seen. A new registration, or one that was out
// of service, begins anew.
func (s tenures) see(now time.Time, image *metadata.Image) tenures {
	is := tenures{}
	for b := range image.Brokers() {
		if b.Fenced {
			continue
		}
		was, ok := s[b.ID]
		if !ok || was.epoch != b.Epoch {
			was = tenure{b.Epoch, now}
		}
		is[b.ID] = was
	}
	return is
}

// before returns what says of a broker whether it is in service since then.
func (s tenures) before(then time.Time) func(int32) bool {
	return func(id int32) bool {
		is, ok := s[id]
		return ok && !is.since.After(then)
	}
}

// maxGrowing bounds the partitions that are given more replicas at a time: each has a
// tail to be sent.
const maxGrowing = 20

// grow returns the partitions to be given more replicas now: of topics of the brokers' own,
// and of those that did not ask for a number, which have less than settled brokers in service
// can hold, up to MaxDefaultReplicas. While a broker is drained it returns none. What is under
// way counts, unless it waits for a broker that is not there.
func grow(image *metadata.Image, settled func(int32) bool) []Reassignment {
	for b := range image.Brokers() {
		if !guard.Check("controller.grows-undrained", !b.Draining) {
			return nil
		}
	}
	f := newField(image)
	may := slices.DeleteFunc(slices.Clone(f.brokers), func(c candidate) bool { return !guard.Check("controller.grows-on-settled", settled(c.id)) })
	want := min(MaxDefaultReplicas, len(may))
	room := maxGrowing
	type few struct {
		id storage.PartitionID
		p  *metadata.Partition
	}
	var fews []few
	for t := range image.Topics() {
		for p := range t.Partitions.All() {
			switch {
			case len(p.Adding) > 0 && !slices.ContainsFunc(p.Adding, func(id int32) bool { return !f.serves(id) }):
				room--
			case len(p.Adding)+len(p.Removing) > 0 || p.Leader == metadata.NoLeader:
			case grows(t, p, want) && len(fews) < maxGrowing:
				fews = append(fews, few{storage.PartitionID{Topic: t.ID, Index: p.Index}, p})
			}
		}
	}
	var moves []Reassignment
	f.brokers = may
	for _, is := range fews {
		if !guard.Check("controller.grows-bit-by-bit", len(moves) < room) {
			break
		}
		replicas := slices.Clone(is.p.Replicas)
		for len(replicas) < want {
			id := f.lightest(replicas)
			if id == metadata.NoLeader {
				break
			}
			replicas = append(replicas, id)
			f.replicas[id]++
		}
		if len(replicas) > len(is.p.Replicas) {
			moves = append(moves, Reassignment{Partition: is.id, Replicas: replicas})
		}
	}
	return moves
}

// grows reports whether a partition is to have so many replicas, and has fewer.
func grows(t *metadata.Topic, p *metadata.Partition, want int) bool {
	return (t.Internal || t.ReplicasUnset) && len(p.Replicas) < want
}

// field is how replicas lie on brokers.
type field struct {
	brokers  []candidate // that may be given replicas
	racks    map[int32]string
	replicas map[int32]int // of each, those that come counted and those that go not

	receives map[int32]bool // brokers that replicas may move to; nil: all
	most     int            // replicas that may move
}

func newField(image *metadata.Image) *field {
	f := emptyField(image)
	for t := range image.Topics() {
		for p := range t.Partitions.All() {
			f.count(p)
		}
	}
	return f
}

// emptyField knows of no replica.
func emptyField(image *metadata.Image) *field {
	f := &field{brokers: candidates(image), racks: map[int32]string{}, replicas: map[int32]int{}, most: math.MaxInt}
	for b := range image.Brokers() {
		f.racks[b.ID] = b.Rack
	}
	return f
}

// count takes the replicas of a partition.
func (f *field) count(p *metadata.Partition) {
	for _, r := range p.Replicas {
		if !slices.Contains(p.Removing, r) {
			f.replicas[r]++
		}
	}
}

// mayMoveTo reports whether a replica may move to a broker.
func (f *field) mayMoveTo(id int32) bool {
	return guard.Check("controller.spreads-bit-by-bit", f.most > 0) && (f.receives == nil || f.receives[id])
}

func (f *field) serves(id int32) bool {
	return slices.ContainsFunc(f.brokers, func(c candidate) bool { return c.id == id })
}

// lightest returns the broker to be given one more replica beside those: of a rack that
// none of them is on, if there is one, that with the fewest; NoLeader: there is none.
func (f *field) lightest(beside []int32) int32 {
	best, bestTaken := metadata.NoLeader, false
	for _, c := range f.brokers {
		if slices.Contains(beside, c.id) {
			continue
		}
		taken := slices.ContainsFunc(beside, func(id int32) bool { return f.racks[id] == c.rack })
		if best == metadata.NoLeader || bestTaken && !taken || bestTaken == taken && f.replicas[c.id] < f.replicas[best] {
			best, bestTaken = c.id, taken
		}
	}
	return best
}
