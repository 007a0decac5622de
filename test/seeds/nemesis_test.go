//go:build seeds

package seeds

import (
	"context"
	"fmt"
	"time"
)

// between is a random time of the course of things.
func (w *world) between(low, high time.Duration) time.Duration {
	return low + time.Duration(w.rng.Int64N(int64(high-low)))
}

func pass(d time.Duration) { <-time.After(d) }

// suffer has things happen, one after the other.
func (w *world) suffer() {
	pass(w.between(time.Second, 5*time.Second))
	for until := time.Now().Add(lasts); time.Now().Before(until) && !w.ill(); {
		w.happened("%s", w.disturb())
		pass(w.between(0, 8*time.Second))
	}
}

// disturb does one thing that must be survived, and undoes it.
func (w *world) disturb() string {
	n := w.nodes[w.rng.IntN(size)]
	d := w.between(0, 6*time.Second)
	switch w.rng.IntN(8) {
	case 0, 1:
		how := ending(w.rng.IntN(3))
		w.finish(n, how)
		pass(d)
		n.start()
		return fmt.Sprintf("node %d %v for %v", n.id, how, d)
	case 2:
		how := []ending{killed, cut}[w.rng.IntN(2)]
		for _, n := range w.nodes {
			w.finish(n, how)
		}
		pass(d / 2)
		for _, n := range w.nodes {
			n.start()
		}
		return fmt.Sprintf("all %v for %v", how, d/2)
	case 3:
		leader := w.controller()
		w.finish(leader, killed)
		pass(d)
		leader.start()
		return fmt.Sprintf("node %d, which leads the controllers, killed for %v", leader.id, d)
	case 4:
		weather := climate[w.rng.IntN(len(climate))]
		w.sky.turn(weather)
		pass(3 * d)
		w.sky.turn(fair)
		return fmt.Sprintf("the bucket is %+v for %v", weather, 3*d)
	case 5:
		if l := n.now(); l != nil {
			l.slow.Store(int64(500 * time.Millisecond))
			pass(2 * d)
			l.slow.Store(int64(briskSync))
		}
		return fmt.Sprintf("the disk of node %d is slow for %v", n.id, 2*d)
	}
	return w.part(n, w.rng.IntN(3), d)
}

// part cuts a node off from the others: what it says (0), what it is told (1), or both.
func (w *world) part(n *node, how int, d time.Duration) string {
	set := func(cut bool) {
		for _, o := range w.nodes {
			if o == n {
				continue
			}
			w.net.link(n.name(), o.name()).set(cut && how != 1, 0)
			w.net.link(o.name(), n.name()).set(cut && how != 0, 0)
		}
	}
	set(true)
	pass(d)
	set(false)
	return fmt.Sprintf("node %d %s for %v", n.id, []string{"not heard", "told nothing", "cut off"}[how], d)
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

// finish ends the process of a node, if there is one.
func (w *world) finish(n *node, how ending) {
	n.mu.Lock()
	l := n.alive
	n.down = true
	n.mu.Unlock()
	if l != nil {
		n.end(l, how)
	}
}

// heal makes all well again.
func (w *world) heal() {
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
