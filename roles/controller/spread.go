package controller

import (
	"slices"
	"time"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/guard"
)

// DefaultSpreadAfter is for how long a broker must have been in service, in this controller's
// term, to be given replicas of others because it has few.
const DefaultSpreadAfter = 5 * time.Second

// maxSpreading bounds the partitions that are under way to other brokers at a time: each has
// a tail to be sent.
const maxSpreading = 20

// spreader decides which replicas move to brokers that have few, as one that has joined.
// A broker with less than half of the mean is given replicas until it has the mean, from
// those that have most; the others keep what they have, however uneven: somebody may have
// wanted it so. It is a pure core: it reads no clock, and is not safe for concurrent use.
type spreader struct {
	movesAMinute int
	given        map[int32]bool // brokers that are being given replicas
	made         []time.Time    // of all moves in the last minute, in order
}

func newSpreader(movesAMinute int) *spreader {
	return &spreader{movesAMinute: movesAMinute, given: map[int32]bool{}}
}

// plan returns the moves that are to begin now, and takes them for begun. settled says
// of a broker whether it has been in service for long enough. While a broker is out of
// service, or is drained, nothing moves: what it has may come back, or is about to move.
func (s *spreader) plan(now time.Time, image *metadata.Image, settled func(int32) bool) []PlannedMove {
	s.made = slices.DeleteFunc(s.made, func(at time.Time) bool { return now.Sub(at) >= time.Minute })
	if s.movesAMinute == 0 {
		return nil
	}
	for b := range image.Brokers() {
		if !guard.Check("controller.spreads-undisturbed", !b.Fenced && !b.Draining) {
			return nil
		}
	}
	f, underWay := spreadField(image)
	if !s.receive(f, settled) {
		return nil
	}
	f.receives, f.most = s.given, min(maxSpreading-underWay, s.movesAMinute-len(s.made))
	if f.most <= 0 {
		return nil
	}
	var all []*spread
	for t := range image.Topics() {
		for p := range t.Partitions.All() {
			still := len(p.Adding)+len(p.Removing) == 0 && p.Leader != metadata.NoLeader && f.spreads(image, t, p)
			if still && guard.Check("controller.spreads-in-sync", len(p.ISR) == len(p.Replicas)) {
				all = append(all, &spread{t, p, slices.Clone(p.Replicas)})
			}
		}
	}
	for _, is := range all {
		f.part(is)
	}
	f.even(all)
	var moves []PlannedMove
	for _, is := range all {
		if !slices.Equal(is.replicas, is.is.Replicas) {
			moves = append(moves, is.move())
			s.made = append(s.made, now)
		}
	}
	return moves
}

// receive brings up to date which brokers are given replicas, and reports whether any is.
func (s *spreader) receive(f *field, settled func(int32) bool) bool {
	total := 0
	for _, c := range f.brokers {
		total += f.replicas[c.id]
	}
	mean := total / max(1, len(f.brokers))
	receives := map[int32]bool{}
	for _, c := range f.brokers {
		has := f.replicas[c.id]
		few := 2*has < mean || s.given[c.id] && has < mean
		if few && guard.Check("controller.spreads-to-settled", settled(c.id)) {
			receives[c.id] = true
		}
	}
	s.given = receives
	return len(receives) > 0
}

// spreads reports whether the replicas of a partition may move. One whose acks wait for the bucket has no
// replica but its leader, which moves by load. One that is to be given more gets them where there
// are few, once brokers have been there for longer than it takes to move: who comes and goes within that time
// must not go with the only replica.
func (f *field) spreads(image *metadata.Image, t *metadata.Topic, p *metadata.Partition) bool {
	return !heldByBucket(image, t) && guard.Check("controller.spreads-what-is-grown", !grows(t, p, min(MaxDefaultReplicas, len(f.brokers))))
}

// spreadField returns how replicas that may move lie on brokers, and how many partitions are under way.
func spreadField(image *metadata.Image) (f *field, underWay int) {
	f = emptyField(image)
	for t := range image.Topics() {
		for p := range t.Partitions.All() {
			if !heldByBucket(image, t) && len(p.Adding)+len(p.Removing) > 0 {
				underWay++
			}
			if f.spreads(image, t, p) {
				f.count(p)
			}
		}
	}
	return f, underWay
}

// move is what is planned of the partition; it knows no tail.
func (s *spread) move() PlannedMove {
	return PlannedMove{
		Topic: s.topic.Name, Partition: storage.PartitionID{Topic: s.topic.ID, Index: s.is.Index},
		From: s.is.Replicas, To: s.replicas, InBucket: s.is.TieredBytes(),
	}
}
