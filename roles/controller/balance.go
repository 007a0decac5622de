package controller

import (
	"bytes"
	"cmp"
	"maps"
	"slices"
	"time"

	"rustmq.dev/rustmq/configs"
	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/guard"
)

const (
	// idleLoad is what every partition counts besides the bytes that pass, in bytes a
	// second: where nothing is known of load, or nothing passes, all count the same.
	idleLoad = 1024
	// balancedWithin is the part of the mean by which two brokers may differ.
	balancedWithin = 0.1
	// stillFor is how long a leadership that was moved stays where it is.
	stillFor = time.Minute
	// movesARound bounds one command, so that clients look for leaders bit by bit.
	movesARound = 50
	// loadMemory is after how long without a report of its leader a load is forgotten.
	loadMemory = time.Minute
	// loadHalf is after what time half of what is known of a load comes from newer reports.
	loadHalf = 15 * time.Second
	// maxLoads bounds the partitions that a report names, and those whose load is known.
	maxLoads = 20_000
	// maxDamaged bounds the damaged partitions that are told.
	maxDamaged = 1000
)

// PartitionLoad is what the leader of a partition says of it.
type PartitionLoad struct {
	Partition storage.PartitionID
	Rate      int64 // bytes that came in and went out, a second
	Tail      int64 // bytes of it that the bucket does not have
	Damaged   bool  // its log cannot be read back whole, and nothing of it is served
}

// load is what is known of one partition.
type load struct {
	rate float64 // bytes a second, smoothed
	tail int64
	at   time.Time // of the last report
}

// balancer decides which leaderships move. It is a pure core: it reads no clock, and is
// not safe for concurrent use.
type balancer struct {
	movesAMinute int
	loads        map[storage.PartitionID]load
	damaged      map[storage.PartitionID]time.Time // when their leaders last said so
	moved        map[storage.PartitionID]time.Time // in the last minute
	made         []time.Time                       // of all moves in the last minute, in order
	disks        disks
}

func newBalancer(movesAMinute int) *balancer {
	return &balancer{movesAMinute: movesAMinute, loads: map[storage.PartitionID]load{}, damaged: map[storage.PartitionID]time.Time{}, moved: map[storage.PartitionID]time.Time{}, disks: disks{}}
}

// heldByBucket reports whether any broker may lead partitions of a topic: what they have
// acknowledged is in the bucket.
func heldByBucket(image *metadata.Image, t *metadata.Topic) bool {
	return image.FeatureLevel() >= metadata.ObjectTopicsFeatureLevel && !t.Internal && configs.Durability(t.Configs) == configs.ObjectDurability
}

// report takes what a broker says of what it leads by image. What it leads and does not
// name has no load.
func (b *balancer) report(now time.Time, image *metadata.Image, broker int32, loads []PartitionLoad) {
	named := map[storage.PartitionID]PartitionLoad{}
	for _, l := range loads[:min(len(loads), maxLoads)] {
		if guard.Check("controller.load-of-the-leader", leads(image, broker, l.Partition)) && l.Rate >= 0 && l.Tail >= 0 {
			named[l.Partition] = l
		}
	}
	b.reportDamage(now, image, broker, named)
	for id, was := range b.loads {
		if _, is := named[id]; !is && leads(image, broker, id) {
			named[id] = PartitionLoad{Partition: id}
		} else if now.Sub(was.at) >= loadMemory {
			delete(b.loads, id)
		}
	}
	for id, l := range named {
		was, known := b.loads[id]
		if !known && len(b.loads) >= maxLoads {
			continue
		}
		is := load{float64(l.Rate), l.Tail, now}
		if known {
			// Of a and b by half-lives, without exp: what is new weighs t/(t+half).
			t := float64(now.Sub(was.at))
			is.rate = was.rate + (is.rate-was.rate)*t/(t+float64(loadHalf))
		}
		if is.rate < 1 && is.tail == 0 {
			delete(b.loads, id)
			continue
		}
		b.loads[id] = is
	}
}

// reportDamage takes which of the partitions that a broker leads are damaged.
func (b *balancer) reportDamage(now time.Time, image *metadata.Image, broker int32, named map[storage.PartitionID]PartitionLoad) {
	for id, at := range b.damaged {
		if leads(image, broker, id) || now.Sub(at) >= loadMemory {
			delete(b.damaged, id)
		}
	}
	for id, l := range named {
		if l.Damaged && len(b.damaged) < maxLoads {
			b.damaged[id] = now
		}
	}
}

// damage returns which partitions are damaged by the word of those that lead them, a thousand
// at most, in order.
func (b *balancer) damage(now time.Time) (ids []storage.PartitionID) {
	for id, at := range b.damaged {
		if now.Sub(at) < loadMemory {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, func(a, b storage.PartitionID) int {
		return cmp.Or(bytes.Compare(a.Topic[:], b.Topic[:]), cmp.Compare(a.Index, b.Index))
	})
	return ids[:min(len(ids), maxDamaged)]
}

func leads(image *metadata.Image, broker int32, id storage.PartitionID) bool {
	t, ok := image.TopicByID(id.Topic)
	if !ok {
		return false
	}
	p := t.Partition(id.Index)
	return p != nil && p.Leader == broker
}

// led is a partition as the balance sees it.
type led struct {
	id     storage.PartitionID
	p      *metadata.Partition
	held   bool // whoever serves may lead, not only who is in sync
	weight float64
	still  bool // it was moved, or its replicas move
}

// scales are the brokers that may lead, and what each leads.
type scales struct {
	load map[int32]float64
	led  []led
	flee []led // what is led on slow disks
	mean float64
}

// weigh puts an image on the scales.
func (b *balancer) weigh(image *metadata.Image) scales {
	s := scales{load: map[int32]float64{}}
	for _, c := range candidates(image) {
		if !b.disks.slow(c.id) {
			s.load[c.id] = 0
		}
	}
	for t := range image.Topics() {
		held := heldByBucket(image, t)
		for p := range t.Partitions.All() {
			is, serves := s.load[p.Leader]
			id := storage.PartitionID{Topic: t.ID, Index: p.Index}
			if !serves { // what a drained broker leads, nobody else can
				if p.Leader != metadata.NoLeader && b.disks.slow(p.Leader) {
					s.flee = append(s.flee, led{id: id, p: p, held: held, weight: idleLoad + b.loads[id].rate})
				}
				continue
			}
			_, moved := b.moved[id]
			one := led{id, p, held, idleLoad + b.loads[id].rate, moved || len(p.Adding)+len(p.Removing) > 0 || !held && len(p.ISR) < 2}
			s.load[p.Leader] = is + one.weight
			s.mean += one.weight
			if !one.still {
				s.led = append(s.led, one)
			}
		}
	}
	s.mean /= float64(max(1, len(s.load)))
	return s
}

// best returns the move that evens two brokers out most; to is NoLeader if none is worth
// it: brokers that differ by more than balancedWithin of the mean, of which a partition
// moves that is lighter than two thirds of the difference, so that this shrinks by more
// than the partition weighs. Of moves that are worth the same it is one to the first
// replica, then the first in order.
func (s *scales) best() (at int, to int32) {
	at, to = -1, metadata.NoLeader
	gain, first := 0.0, false
	least := s.least()
	for i := range s.led {
		l := &s.led[i]
		if l.still {
			continue
		}
		for _, r := range l.mayLead(least) {
			has, may := s.load[r]
			gap := s.load[l.p.Leader] - has
			if r == l.p.Leader || !guard.Check("controller.moves-to-who-serves", may) || gap <= balancedWithin*s.mean ||
				!guard.Check("controller.moves-even-out", l.weight*3 < gap*2) {
				continue
			}
			g := min(2*l.weight, 2*(gap-l.weight))
			if p := r == l.p.Replicas[0]; g > gain || g == gain && p && !first {
				at, to, gain, first = i, r, g, p
			}
		}
	}
	return at, to
}

// mayLead returns who may lead a partition: who is in sync, or, where anybody may, those who
// lead least.
func (l *led) mayLead(least []int32) []int32 {
	if l.held {
		return least
	}
	return l.p.ISR
}

// least returns the broker that leads least, the first in order of several.
func (s *scales) least() []int32 {
	var least []int32
	for _, id := range slices.Sorted(maps.Keys(s.load)) {
		if least == nil || s.load[id] < s.load[least[0]] {
			least = []int32{id}
		}
	}
	return least
}

// quickest returns, of those that may lead, who leads least; NoLeader: there is none.
func (s *scales) quickest(l *led) int32 {
	to := metadata.NoLeader
	for _, r := range l.mayLead(s.least()) {
		if has, may := s.load[r]; guard.Check("controller.flees-to-who-serves", may) && r != l.p.Leader && (to == metadata.NoLeader || has < s.load[to]) {
			to = r
		}
	}
	return to
}

// plan returns the leaderships that are to move now, and takes them for moved: first those
// on slow disks, the heaviest first, however lately they came there; then what is worth it.
func (b *balancer) plan(now time.Time, image *metadata.Image) []LeaderElection {
	b.disks.keep(func(id int32) bool { _, ok := image.Broker(id); return ok })
	maps.DeleteFunc(b.moved, func(_ storage.PartitionID, at time.Time) bool {
		return guard.Check("controller.moved-stays", now.Sub(at) >= stillFor)
	})
	b.made = slices.DeleteFunc(b.made, func(at time.Time) bool { return now.Sub(at) >= time.Minute })
	s := b.weigh(image)
	var moves []LeaderElection
	move := func(l *led, to int32) {
		b.moved[l.id] = now
		b.made = append(b.made, now)
		s.load[to] += l.weight
		moves = append(moves, LeaderElection{Partition: l.id, Leader: to})
	}
	more := func() bool { return guard.Check("controller.moves-a-minute", len(b.made) < b.movesAMinute) }
	slices.SortStableFunc(s.flee, func(a, b led) int { return cmp.Compare(b.weight, a.weight) })
	for i := range s.flee {
		if to := s.quickest(&s.flee[i]); to != metadata.NoLeader && more() {
			move(&s.flee[i], to)
		}
	}
	for fled := len(moves); len(moves)-fled < movesARound && more(); {
		at, to := s.best()
		if to == metadata.NoLeader {
			break
		}
		l := &s.led[at]
		s.load[l.p.Leader] -= l.weight
		l.still = true
		move(l, to)
	}
	return moves
}
