//go:build seeds

package seeds

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"time"
)

// between is a random time of the course of things.
func (w *world) between(low, high time.Duration) time.Duration {
	return low + time.Duration(w.rng.Int64N(int64(high-low)))
}

func pass(d time.Duration) { <-time.After(d) }

// suffer has things happen, one after the other, while the weather and the disks change
// as they like.
func (w *world) suffer() {
	stop := w.climates()
	defer stop()
	pass(w.between(time.Second, 5*time.Second))
	for until := time.Now().Add(w.between(lasts/2, lasts)); time.Now().Before(until) && !w.ill(); {
		w.happened("%s", w.disturb())
		pass(w.between(0, 5*time.Second))
	}
}

// climates has the bucket fail, and disks be slow, beside what else happens.
func (w *world) climates() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	rng := rand.New(rand.NewPCG(w.seed, 5))
	var wg sync.WaitGroup
	wg.Go(func() {
		for w.sleep(ctx, time.Duration(rng.Int64N(int64(30*time.Second)))) {
			d := time.Duration(rng.Int64N(int64(15 * time.Second)))
			switch weather := climate[rng.IntN(len(climate))]; rng.IntN(3) {
			case 0:
				n := w.nodes[rng.IntN(size)]
				if l := n.now(); l != nil {
					w.happened("the disk of node %d is slow for %v", n.id, d)
					w.counted("disks_slow", 1)
					l.slow.Store(int64(500 * time.Millisecond))
					w.sleep(ctx, d)
					l.slow.Store(int64(briskSync))
				}
			default:
				w.happened("the bucket is %+v for %v", weather, d)
				if weather != fair {
					w.counted("bucket_outages", 1)
				}
				w.sky.turn(weather)
				w.sleep(ctx, d)
				w.sky.turn(fair)
			}
		}
	})
	return func() {
		cancel()
		wg.Wait()
	}
}

// fault is something that must be survived, and is undone when it returns what it was. n is
// a node, and d is not long.
type fault struct {
	name  string
	often int
	do    func(w *world, n *node, d time.Duration) string
}

var faults = []fault{
	{"end", 2, (*world).endOne},
	{"all", 2, (*world).endAll},
	{"both", 1, (*world).endLeaders},
	{"squeeze", 2, func(w *world, _ *node, _ time.Duration) string { return w.squeeze(w.rng.Int32N(partitions)) }},
	{"pause", 1, func(w *world, n *node, _ time.Duration) string {
		return w.pause(n, w.between(500*time.Millisecond, 8*time.Second))
	}},
	{"wipe", 1, func(w *world, n *node, _ time.Duration) string { return w.wipe(n) }},
	{"rot", 1, func(w *world, n *node, _ time.Duration) string { return w.rot(n) }},
	{"drain", 1, (*world).drain},
	{"roll", 1, func(w *world, _ *node, _ time.Duration) string { return w.roll() }},
	{"move", 1, func(w *world, _ *node, _ time.Duration) string { return w.move() }},
	{"lag", 1, func(w *world, n *node, d time.Duration) string { return w.lag(n, 2*d) }},
	{"zombie", 2, func(w *world, _ *node, _ time.Duration) string { // it leads on, as far as it and its clients know
		return w.part(w.leader(w.rng.Int32N(partitions)), 2, w.between(1500*time.Millisecond, 6*time.Second))
	}},
	{"estranged", 1, func(w *world, _ *node, _ time.Duration) string {
		return w.estrange(w.leader(w.rng.Int32N(partitions)), w.between(1500*time.Millisecond, 6*time.Second))
	}},
	{"part", 2, func(w *world, n *node, d time.Duration) string { return w.part(n, w.rng.IntN(4), d) }},
}

// chosen are the faults of FAULTS, names with commas between, or all, each as often as it is
// to be drawn.
func chosen() (all []fault) {
	names := os.Getenv("FAULTS")
	for _, f := range faults {
		if names == "" || strings.Contains(","+names+",", ","+f.name+",") {
			for range f.often {
				all = append(all, f)
			}
		}
	}
	return all
}

// disturb does one thing that must be survived, and undoes it.
func (w *world) disturb() string {
	n, d := w.nodes[w.rng.IntN(size)], w.between(0, 6*time.Second)
	all := chosen()
	return all[w.rng.IntN(len(all))].do(w, n, d)
}

// endOne ends a node, which may be back before anybody has missed it.
func (w *world) endOne(n *node, d time.Duration) string {
	how := ending(w.rng.IntN(3))
	if w.rng.IntN(2) == 0 {
		d = 0
	}
	w.finish(n, how)
	pass(d)
	n.start()
	return fmt.Sprintf("node %d %v for %v", n.id, how, d)
}

// endAll ends all nodes at once.
func (w *world) endAll(_ *node, d time.Duration) string {
	how := []ending{killed, cut}[w.rng.IntN(2)]
	for _, n := range w.nodes {
		w.finish(n, how)
	}
	for _, at := range w.rng.Perm(size) {
		pass(w.between(0, d/2+time.Nanosecond))
		w.nodes[at].start()
	}
	if how == cut {
		w.counted("power_cuts_of_all", 1)
	}
	return fmt.Sprintf("all %v for %v at most", how, 3*d/2)
}

// endLeaders ends who leads the controllers, together with who leads a partition.
func (w *world) endLeaders(_ *node, d time.Duration) string {
	one, other := w.controller(), w.leader(w.rng.Int32N(partitions))
	how := []ending{killed, cut}[w.rng.IntN(2)]
	w.finish(one, how)
	w.finish(other, how)
	pass(d)
	one.start()
	other.start()
	return fmt.Sprintf("nodes %d, which leads the controllers, and %d, which leads a partition, %v for %v", one.id, other.id, how, d)
}

// part cuts a node off from the others: what it says (0), what it is told (1), both, or
// from one of them alone (3).
func (w *world) part(n *node, how int, d time.Duration) string {
	but := w.nodes[n.id%size]
	w.cut(n, how, but, true)
	pass(d)
	w.cut(n, how, but, false)
	w.counted("partitions", 1)
	return fmt.Sprintf("node %d %s for %v", n.id, []string{"not heard", "told nothing", "cut off", fmt.Sprintf("and node %d apart", but.id)}[how], d)
}

// estrange has the broker of a node hear nothing of the other nodes' controllers, and they
// nothing of it, while brokers, and controllers among themselves, speak as ever.
func (w *world) estrange(n *node, d time.Duration) string {
	set := func(is bool) {
		for _, o := range w.nodes {
			if o != n {
				w.net.close(n.name(), o.name(), controllerPort, is)
			}
		}
	}
	set(true)
	pass(d)
	set(false)
	w.counted("partitions", 1)
	return fmt.Sprintf("the broker of node %d without controllers for %v", n.id, d)
}

// controllerPort is where controllers serve brokers.
const controllerPort = 9095

func (w *world) cut(n *node, how int, but *node, is bool) {
	for _, o := range w.nodes {
		if o == n || how == 3 && o != but {
			continue
		}
		w.net.set(n.name(), o.name(), way{cut: is && how != 1})
		w.net.set(o.name(), n.name(), way{cut: is && how != 0})
	}
}

// squeeze has one follower of a partition fall out of sync, then the other, and then its
// leader end, or lose its disk too: who was in sync last has all that was acked, and the
// others may not lead without it, or without what they have.
func (w *world) squeeze(partition int32) string {
	burns := w.rng.IntN(2) == 0 && w.mayLose()
	leader := w.leader(partition)
	others := []*node{w.nodes[leader.id%size], w.nodes[(leader.id+1)%size]}
	if w.rng.IntN(2) == 0 {
		others[0], others[1] = others[1], others[0]
	}
	apart := w.between(500*time.Millisecond, 4*time.Second)
	w.cut(others[0], 2, nil, true)
	pass(apart)
	last := w.rng.IntN(3)
	how := []ending{killed, cut}[w.rng.IntN(2)]
	switch last {
	case 0: // the other is cut off too, and the leader is alone
		w.cut(others[1], 2, nil, true)
		pass(w.between(0, 3*time.Second))
	case 1: // the other ends, and comes back when the leader is gone
		w.finish(others[1], how)
		pass(w.between(0, 2*time.Second))
	}
	if last == 0 && w.rng.IntN(2) == 0 { // but comes back, goes on with the leader, and ends with it
		last = 3
		w.cut(others[1], 2, nil, false)
		w.cut(others[0], 2, nil, true)
		pass(w.between(time.Second, 4*time.Second))
		w.finish(others[1], how)
	}
	w.finish(leader, how)
	if burns {
		w.burn(leader)
	}
	w.cut(others[0], 2, nil, false)
	w.cut(others[1], 2, nil, false)
	w.counted("partitions", 1)
	if last == 3 {
		pass(w.between(0, 3*time.Second)) // alone, it has to wait
	}
	first, second, away := others[1], leader, w.between(0, 5*time.Second)
	if burns && w.rng.IntN(2) == 0 { // who has nothing comes back before who has all
		first, second = second, first
	}
	first.start()
	pass(away)
	second.start()
	what := how.String()
	if burns {
		what = w.readmit(leader)
	}
	return fmt.Sprintf("node %d cut off for %v, then node %d %s, and node %d, which leads, %v for %v: %s", others[0].id, apart, others[1].id,
		[]string{"too", "ended", "stayed", "too, and back"}[last], leader.id, how, away, what)
}

// pause has a node say, hear and write nothing, as one that is stopped in its tracks.
func (w *world) pause(n *node, d time.Duration) string {
	l := n.now()
	w.net.pause(n.name(), true)
	if l != nil {
		l.gate.set(true)
	}
	pass(d)
	if l != nil {
		l.gate.set(false)
	}
	w.net.pause(n.name(), false)
	w.counted("pauses", 1)
	return fmt.Sprintf("node %d paused for %v", n.id, d)
}

// roll stops one node after the other.
func (w *world) roll() string {
	for _, at := range w.rng.Perm(size) {
		w.finish(w.nodes[at], stopped)
		pass(w.between(0, time.Second))
		w.nodes[at].start()
		pass(w.between(0, 4*time.Second))
	}
	return "all stopped, one after the other"
}

// lag has what a node says and is told take its time.
func (w *world) lag(n *node, d time.Duration) string {
	late := w.between(0, 400*time.Millisecond)
	set := func(slow time.Duration) {
		for _, o := range w.nodes {
			if o != n {
				w.net.set(n.name(), o.name(), way{slow: slow})
				w.net.set(o.name(), n.name(), way{slow: slow})
			}
		}
	}
	set(late)
	pass(d)
	set(0)
	w.counted("slow_links", 1)
	return fmt.Sprintf("node %d lags by %v for %v", n.id, late, d)
}

// controller is the node that leads the controllers, as far as one can tell.
func (w *world) controller() *node {
	for _, n := range w.nodes {
		if l := n.now(); l != nil {
			if id := l.node.Image().ControllerID(); id >= 1 && id <= size {
				return w.nodes[id-1]
			}
		}
	}
	return w.nodes[0]
}

// leader is the node that leads a partition of the source, as far as one can tell.
func (w *world) leader(partition int32) *node {
	most, leads := uint64(0), w.nodes[0]
	for _, n := range w.nodes {
		l := n.now()
		if l == nil || l.node.Image().Offset() < most {
			continue
		}
		if t, ok := l.node.Image().Topic("source"); ok {
			if id := t.Partition(partition).Leader; id >= 1 && id <= size {
				most, leads = l.node.Image().Offset(), w.nodes[id-1]
			}
		}
	}
	return leads
}

// finish ends the process of a node, if there is one.
func (w *world) finish(n *node, how ending) {
	n.mu.Lock()
	l := n.alive
	n.down = true
	n.mu.Unlock()
	if l != nil {
		n.end(l, how)
		if !w.well {
			w.counted([]string{"stops", "kills", "power_cuts"}[how], 1)
		}
	}
}

// heal makes all well again.
func (w *world) heal() {
	w.well = true
	w.sky.turn(fair)
	for _, n := range w.nodes {
		n.mu.Lock()
		l := n.alive
		n.mu.Unlock()
		if l == nil {
			n.start()
			continue
		}
		l.gate.set(false)
		l.slow.Store(int64(briskSync))
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for _, n := range w.nodes {
		for n.now() == nil {
			if !w.sleep(ctx, 100*time.Millisecond) {
				w.problem("node %d does not begin, with all well for %v", n.id, patience)
				return
			}
		}
	}
	w.happened("all is well")
}
