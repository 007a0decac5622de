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

// suffer has things happen, one after the other, or two at a time.
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
	switch w.rng.IntN(3) {
	case 0:
		how := ending(w.rng.IntN(3))
		away := w.between(0, 6*time.Second)
		w.finish(n, how)
		pass(away)
		n.start()
		return fmt.Sprintf("node %d %v for %v", n.id, how, away)
	case 1:
		how := killed
		if w.rng.IntN(2) == 0 {
			how = cut
		}
		for _, n := range w.nodes {
			w.finish(n, how)
		}
		pass(w.between(0, 3*time.Second))
		for _, n := range w.nodes {
			n.start()
		}
		return fmt.Sprintf("all %v", how)
	}
	d := w.between(0, 6*time.Second)
	l := w.net.link(n.name(), w.nodes[w.rng.IntN(size)].name())
	if l.inner {
		return "nothing"
	}
	l.set(true, 0)
	pass(d)
	l.set(false, 0)
	return fmt.Sprintf("a link of node %d down for %v", n.id, d)
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
