package controller

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	pb "rustmq.dev/rustmq/consensus/metadata/metadatapb"
	"rustmq.dev/rustmq/storage"
)

// spreading is a cluster whose replicas are spread, in simulated time.
type spreading struct {
	*drawn
	s     *spreader
	now   time.Time
	here  tenures
	moves int
	begun []time.Time
}

func newSpreading(d *drawn, movesAMinute int) *spreading {
	return &spreading{drawn: d, s: newSpreader(movesAMinute), now: time.Unix(1000, 0)}
}

// tick lets some time pass, and carries out what is planned then; it is in sync by the next tick
// if lately is false.
func (w *spreading) tick(late bool) (moves []PlannedMove) {
	w.now = w.now.Add(evenPause)
	if !late {
		w.catchUp()
	}
	image := w.state.Image()
	w.here = w.here.see(w.now, image)
	moves = w.s.plan(w.now, image, w.here.before(w.now.Add(-DefaultSpreadAfter)))
	for _, m := range moves {
		_, p := image.Partition(m.Partition)
		fresh := 0
		for _, id := range m.To {
			b, known := image.Broker(id)
			if !slices.Contains(m.From, id) {
				fresh++
				if !known || b.Fenced || b.Draining || w.now.Sub(w.here[id].since) < DefaultSpreadAfter {
					w.t.Fatalf("%+v goes to broker %+v", m, b)
				}
			}
		}
		if len(m.To) != len(m.From) || fresh == 0 || len(p.ISR) != len(p.Replicas) {
			w.t.Fatalf("%+v, of which %v are in sync", m, p.ISR)
		}
		w.reassign(m.Partition, m.To)
		if _, is := w.state.Image().Partition(m.Partition); !slices.Equal(is.ISR, p.ISR) {
			w.t.Fatalf("%+v: %v are in sync, %v were", m, is.ISR, p.ISR)
		}
		w.moves, w.begun = w.moves+1, append(w.begun, w.now)
	}
	w.begun = slices.DeleteFunc(w.begun, func(at time.Time) bool { return w.now.Sub(at) >= time.Minute })
	underWay := 0
	for t := range w.state.Image().Topics() {
		for p := range t.Partitions.All() {
			if len(p.Adding) > 0 {
				underWay++
			}
		}
	}
	if len(w.begun) > w.s.movesAMinute || len(moves) > 0 && underWay > maxSpreading {
		w.t.Fatalf("%d moves in a minute, %d under way", len(w.begun), underWay)
	}
	return moves
}

// on is how many replicas a broker has, and shared how many partitions have two on a rack.
func (w *spreading) on(id int32) (n, shared int) {
	f := newField(w.state.Image())
	for t := range w.state.Image().Topics() {
		for p := range t.Partitions.All() {
			if slices.ContainsFunc(p.Replicas, func(r int32) bool {
				return f.shares(r, slices.DeleteFunc(slices.Clone(p.Replicas), func(o int32) bool { return o == r }))
			}) {
				shared++
			}
		}
	}
	return f.replicas[id], shared
}

// threeOf is three brokers, each on a rack, with ten topics of nine partitions on all of them.
func threeOf(t *testing.T) *drawn {
	d := newDrawn(t)
	for id := range int32(3) {
		d.broker(id+1, string(rune('a'+id)))
	}
	for i := range byte(10) {
		var replicas [][]int32
		for j := range 9 {
			replicas = append(replicas, [][]int32{{1, 2, 3}, {2, 3, 1}, {3, 1, 2}}[j%3])
		}
		d.topic(i+1, false, replicas...)
	}
	d.catchUp()
	return d
}

// TestANewBrokerIsGivenItsShare: within seconds of being settled it has replicas, within a minute as
// many as others, but for those that its rack does not let it have; then nothing moves for hours.
func TestANewBrokerIsGivenItsShare(t *testing.T) {
	for name, c := range map[string]struct {
		rack string
		want int
	}{
		"a rack of its own": {"d", 67},
		"the rack of 1":     {"a", 45}, // it shares what that had
	} {
		t.Run(name, func(t *testing.T) {
			w := newSpreading(threeOf(t), 300)
			for range 50 {
				if moves := w.tick(false); len(moves) > 0 {
					t.Fatalf("even, and %+v move", moves)
				}
			}
			w.broker(4, c.rack)
			for range 5 { // ten seconds
				w.tick(false)
			}
			if n, _ := w.on(4); n == 0 {
				t.Error("it has nothing after ten seconds")
			}
			for range 25 {
				w.tick(false)
			}
			n, shared := w.on(4)
			if n != c.want || shared != 0 || w.moves > n {
				t.Errorf("after a minute it has %d replicas, want %d, by %d moves; %d partitions share a rack", n, c.want, w.moves, shared)
			}
			for range 300 { // four hours
				w.now = w.now.Add(46 * time.Second)
				if moves := w.tick(false); len(moves) > 0 {
					t.Fatalf("it has its share, and %+v move", moves)
				}
			}
		})
	}
}

// TestReplicasAreSpreadBitByBit: no more than may, in a minute and at a time, though those that
// were given are not in sync yet.
func TestReplicasAreSpreadBitByBit(t *testing.T) {
	w := newSpreading(threeOf(t), 30)
	w.broker(4, "d")
	for range 10 {
		w.tick(true)
	}
	if w.moves != maxSpreading {
		t.Errorf("%d partitions are under way", w.moves)
	}
	w.tick(false)
	if w.moves != 30 {
		t.Errorf("%d moved within a minute", w.moves)
	}
	for range 60 {
		w.tick(false)
	}
	if n, _ := w.on(4); n != 67 {
		t.Errorf("it has %d replicas in the end", n)
	}
}

// TestUnevennessIsLeftAlone: only who has less than half of the mean is given anything, for the
// rest may be meant; a broker that is to have none is drained, and while one is, or is out of
// service, nothing moves.
func TestUnevennessIsLeftAlone(t *testing.T) {
	d := newDrawn(t)
	for id := range int32(4) {
		d.broker(id+1, "")
	}
	var replicas [][]int32
	for i := range 40 {
		replicas = append(replicas, []int32{1, 2, []int32{3, 4}[min(i/26, 1)]}) // 4 has 14, of 30 in the mean
	}
	d.topic(1, false, replicas...)
	d.topic(2, false, []int32{4}, []int32{4})
	d.catchUp()
	w := newSpreading(d, 300)
	quiet := func(when string) {
		t.Helper()
		for range 100 {
			if moves := w.tick(false); len(moves) > 0 {
				t.Fatalf("%s: %+v move", when, moves)
			}
		}
	}
	quiet("16 of 30 in the mean")
	w.broker(5, "")
	w.propose(&pb.ChangeBroker{BrokerId: 3, Draining: true})
	quiet("while a broker is drained")
	w.propose(&pb.ChangeBroker{BrokerId: 3})
	w.propose(&pb.FenceBroker{BrokerId: 3, BrokerEpoch: w.epochs[3], Fenced: true})
	quiet("while a broker is out of service")
	w.propose(&pb.FenceBroker{BrokerId: 3, BrokerEpoch: w.epochs[3]})
	w.catchUp()
	for range 30 {
		w.tick(false)
	}
	if n, _ := w.on(5); n < 24 {
		t.Errorf("a new broker has %d replicas", n)
	}
	if n, _ := w.on(4); n != 16 {
		t.Errorf("what was left alone has %d replicas, it had 16", n)
	}
}

// TestSpreadingComesToRest: whatever the cluster, and while brokers come, go and lag, no partition
// moves back and forth, and racks that were not shared are not.
func TestSpreadingComesToRest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newSpreading(drawCluster(t), 300)
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "disturbed"), 1))
		joined := int32(0)
		_, before := w.on(0)
		for i := range 36 {
			if i%9 == 0 && joined < 3 {
				w.broker(20+joined, []string{"", "a", "d"}[rng.IntN(3)])
				joined++
			}
			calm := i >= 31
			for b := range w.state.Image().Brokers() {
				switch {
				case rng.IntN(60) == 0 && !b.Fenced && !calm:
					w.propose(&pb.FenceBroker{BrokerId: b.ID, BrokerEpoch: w.epochs[b.ID], Fenced: true})
				case (rng.IntN(5) == 0 || calm) && b.Fenced:
					w.register(b.ID, b.Rack)
					w.propose(&pb.FenceBroker{BrokerId: b.ID, BrokerEpoch: w.epochs[b.ID]})
				case calm && b.Draining:
					w.propose(&pb.ChangeBroker{BrokerId: b.ID})
				}
			}
			w.tick(!calm && rng.IntN(3) == 0)
		}
		for range 25 {
			w.tick(false)
		}
		for range 5 {
			if moves := w.tick(false); len(moves) > 0 {
				t.Fatalf("it does not come to rest: %+v", moves)
			}
		}
		total := 0
		for _, n := range newField(w.state.Image()).replicas {
			total += n
		}
		if most := total * int(1+joined); w.moves > most { // each to each broker that came, at most
			t.Fatalf("%d moves of %d replicas", w.moves, total)
		}
		if _, after := w.on(0); after > before {
			t.Fatalf("%d partitions share a rack, %d did", after, before)
		}
	})
}

// TestSpreadMovesNothingTwice: what is under way is not planned again.
func TestSpreadMovesNothingTwice(t *testing.T) {
	w := newSpreading(threeOf(t), 300)
	w.broker(4, "d")
	seen := map[storage.PartitionID]bool{}
	for range 100 {
		for _, m := range w.tick(len(seen)%2 == 0) {
			if seen[m.Partition] {
				t.Fatalf("%v moves again", m.Partition)
			}
			seen[m.Partition] = true
		}
	}
}

// TestReplicasLagAndStay: a partition of which a replica is behind is not moved.
func TestReplicasLagAndStay(t *testing.T) {
	w := newSpreading(threeOf(t), 300)
	w.broker(4, "d")
	w.propose(&pb.FenceBroker{BrokerId: 3, BrokerEpoch: w.epochs[3], Fenced: true})
	w.propose(&pb.FenceBroker{BrokerId: 3, BrokerEpoch: w.epochs[3]})
	for range 100 {
		if moves := w.tick(true); len(moves) > 0 {
			t.Fatalf("%+v move", moves)
		}
	}
	if w.tick(false); w.moves == 0 {
		t.Error("all are in sync, and nothing moves")
	}
}

// TestWhatIsToGrowIsNotSpread: a partition that is to be given more replicas once a broker has been there for
// long keeps the only one that it has: one that comes and goes within that time takes nothing with it.
func TestWhatIsToGrowIsNotSpread(t *testing.T) {
	d := newDrawn(t)
	d.broker(1, "")
	all := slices.Repeat([][]int32{{1}}, 10)
	grows := d.topic(1, true, all...)
	d.topic(2, false, all...)
	d.catchUp()
	w := newSpreading(d, 300)
	w.broker(2, "")
	for range 30 {
		for _, m := range w.tick(false) {
			if m.Partition.Topic == grows {
				t.Fatalf("%+v moves", m)
			}
		}
	}
	if n, _ := w.on(2); n != 5 {
		t.Errorf("the new broker has %d replicas of what does not grow", n)
	}
}
