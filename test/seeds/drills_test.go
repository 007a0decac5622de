//go:build seeds

package seeds

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"rustmq.dev/rustmq/test/seeded"
	"rustmq.dev/rustmq/test/tally"
)

// drill is one thing that happens to a world over and over, in short cycles under acked load,
// while all else is well; at the end the world is judged as any other.
type drill struct {
	name  string
	times int // in a world of the suite; soak times as often in one of a soak
	soak  int
	crowd func(*world) *crowd
	do    func(*world, *crowd) string
}

// cuts are power cuts of all nodes at once.
func cuts() drill { return drill{"cuts", 4, 10, (*world).populateLean, (*world).cutAll} }

// leaders are pauses of who leads, and partitions of it alone, for longer than its lease.
func leaders() drill { return drill{"leaders", 2, 10, (*world).populateSource, (*world).loseLeader} }

// TestPowerCutsOfAllLoseNothing: whenever the power of all nodes fails at once, in their load,
// in their elections and in their recovery, what was acked is there.
func TestPowerCutsOfAllLoseNothing(t *testing.T) { practise(t, cuts()) }

// TestLeadersThatAreGoneAckNothing: what a leader acks that was paused, or cut off, is not lost,
// nor acked twice by it and by the one that took its place.
func TestLeadersThatAreGoneAckNothing(t *testing.T) { practise(t, leaders()) }

// practise goes through one seed of the commit; through new ones for SOAK minutes, two side by
// side; through SEED alone if that is set, TIMES times.
func practise(t *testing.T, d drill) {
	seed, one := number(t, "SEED")
	repeat, _ := number(t, "TIMES")
	soak, begun := soaking(t), time.Now()
	count, side, times := max(repeat, 1), 1, d.times
	if soak > 0 {
		side = 2
	}
	if one || soak > 0 {
		times *= d.soak
	}
	if !one {
		seed = seeded.Seed(t) % 1e9
	}
	var next, seeds atomic.Uint64
	var wg sync.WaitGroup
	for range side {
		wg.Go(func() {
			for {
				n := next.Add(1) - 1
				if soak > 0 && !one && time.Since(begun) >= soak || (soak == 0 || one) && n >= count {
					return
				}
				at := seed + n
				if one {
					at = seed
				}
				t.Run(fmt.Sprint("seed=", at), func(t *testing.T) { d.run(t, at, times) })
				seeds.Add(1)
			}
		})
	}
	wg.Wait()
	t.Logf("%s: %d seeds in %.0f s", d.name, seeds.Load(), time.Since(begun).Seconds())
}

// run is one world.
func (d drill) run(t *testing.T, seed uint64, times int) {
	t.Logf("seed %d; again: SEED=%d scripts/suite.sh %s", seed, seed, d.name)
	var w *world
	var c *crowd
	synctest.Test(t, func(t *testing.T) {
		w = newWorld(t, seed)
		c = w.endure(d, times)
		w.counts["simulated_seconds"] = int64(time.Since(w.began).Seconds())
	})
	if c.record != nil {
		w.linear(t, c) // here, for it takes real time
	}
	w.counts["seeds"] = 1
	tally.Log(t, w.counts)
}

// endure is the course of a world to which one thing happens so many times.
func (w *world) endure(d drill, times int) *crowd {
	for _, n := range w.nodes {
		n.start()
	}
	c := d.crowd(w)
	watch := w.watch()
	for range times {
		if w.ill() {
			break
		}
		w.happened("%s", d.do(w, c))
	}
	w.heal()
	c.finish()
	watch.finish()
	if !w.ill() {
		w.judge(c)
	}
	w.end()
	w.tell(c)
	return c
}

// populateLean is a crowd of one writer and one reader of a topic: a cycle costs the starts of
// nodes, and little else.
func (w *world) populateLean() *crowd {
	c := &crowd{w: w}
	w.create("source", size)
	c.source = &flow{history: newHistory("source", w.problem), whole: true}
	c.source.writers = append(c.source.writers, w.write(&writer{number: 1, history: c.source.history}, 60*time.Millisecond))
	c.source.reader = w.read(c.source.history)
	return c
}

// cutAll cuts the power of all nodes at once, and has them begin again, together or one by one:
// mostly under acked load; now and then before anything is acked, in an election or a recovery.
func (w *world) cutAll(c *crowd) string {
	under := "under load"
	if w.rng.IntN(5) == 0 {
		under = "before the load"
		pass(w.between(0, 1500*time.Millisecond))
	} else {
		w.progress(c.source.history, 1+w.rng.IntN(20))
		pass(w.between(0, 100*time.Millisecond))
	}
	for _, n := range w.nodes {
		w.finish(n, cut)
	}
	w.counted("power_cuts_of_all", 1)
	apart := time.Nanosecond
	if w.rng.IntN(3) == 0 {
		apart = time.Second
	}
	for _, at := range w.rng.Perm(size) {
		pass(w.between(0, apart))
		w.nodes[at].start()
	}
	return "all cut " + under
}

// loseLeader has a node that leads a partition be paused, not heard, told nothing or cut off,
// for longer than its lease, until others have acked something, and comes back.
func (w *world) loseLeader(c *crowd) string {
	w.progress(c.source.history, 1+w.rng.IntN(20))
	n, d := w.leader(w.rng.Int32N(partitions)), w.between(1500*time.Millisecond, 4*time.Second)
	switch how := w.rng.IntN(5); how {
	case 0, 1:
		return w.pause(n, d)
	case 2:
		return w.estrange(n, d)
	default:
		return w.part(n, w.rng.IntN(3), d)
	}
}

// progress waits until so many records more are acked; that none are, with all well, is wrong.
func (w *world) progress(h *history, more int) {
	begun, _ := h.counts()
	for until := time.Now().Add(patience); time.Now().Before(until); pass(20 * time.Millisecond) {
		if now, _ := h.counts(); now-begun >= more || w.ill() {
			return
		}
	}
	w.problem("nothing is acked, with all well for %v", patience)
}
