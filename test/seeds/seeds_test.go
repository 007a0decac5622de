//go:build seeds

package seeds

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"

	"rustmq.dev/rustmq/storage/disk"
	"rustmq.dev/rustmq/test/seeded"
	"rustmq.dev/rustmq/test/tally"
)

const (
	size = 3 // nodes
	// lasts is how long things happen to a world, of simulated time, at most; half of it at
	// least.
	lasts = 80 * time.Second
	// count is how many seeds of a commit the suite goes through: as many everywhere, so
	// that one machine sees what another will.
	count = 10
)

// number is what an environment variable says.
func number(t *testing.T, name string) (n uint64, set bool) {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return 0, false
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s=%q: a number", name, text)
	}
	return n, true
}

// soaking is for how long new seeds are taken: for SOAK minutes; 0: there are count of them.
func soaking(t *testing.T) time.Duration {
	t.Helper()
	minutes, _ := number(t, "SOAK")
	return time.Duration(minutes) * time.Minute
}

// TestSeedsKeepThePromises goes through count seeds of the commit, or new ones for SOAK
// minutes; through SEED alone if that is set, TIMES times.
func TestSeedsKeepThePromises(t *testing.T) {
	seed, one := number(t, "SEED")
	times, _ := number(t, "TIMES")
	soak := soaking(t)
	if !one {
		seed = seeded.Seed(t) % 1e9
	}
	begun, simulated, seeds := time.Now(), time.Duration(0), uint64(0)
	goesOn := func(n uint64) bool {
		switch {
		case one:
			return n < max(times, 1)
		case soak > 0:
			return time.Since(begun) < soak
		}
		return n < count
	}
	for n := uint64(0); goesOn(n); n++ {
		at := seed + n
		if one {
			at = seed
		}
		ok := t.Run(fmt.Sprint("seed=", at), func(t *testing.T) {
			t.Logf("seed %d; again: SEED=%d make suite-seeds", at, at)
			var w *world
			var c *crowd
			synctest.Test(t, func(t *testing.T) {
				w = newWorld(t, at)
				c = w.live()
				simulated += time.Since(w.began)
				w.counts["simulated_seconds"] = int64(time.Since(w.began).Seconds())
			})
			w.linear(t, c) // here, for it takes real time
			w.counts["seeds"] = 1
			tally.Log(t, w.counts)
		})
		seeds++
		if !ok && !one {
			t.Logf("seed %d failed: SEED=%d TIMES=5 make suite-seeds", at, at)
		}
	}
	real := time.Since(begun)
	t.Logf("seeds: %d seeds, %.1f simulated minutes in %.0f s, %.2f for each real second", seeds, simulated.Minutes(), real.Seconds(), simulated.Minutes()/real.Seconds())
}

// world is a cluster through a seed, and who uses it.
type world struct {
	t     *testing.T
	seed  uint64
	rng   *rand.Rand // of the course of things, which one goroutine decides
	began time.Time
	net   *network
	sky   *sky
	nodes [size]*node

	leaving sync.WaitGroup // processes that have ended, and what is left of them

	mu       sync.Mutex
	chances  *rand.Rand // of moments; guarded by mu, as is what follows
	clients  uint64
	problems []string
	done     []string // what happened

	counts tally.Counts // of what happened, until all is well, and of what was found then; guarded by mu
	well   bool         // all is, or is about to be; of who does things

	named int   // objects in the catalogue at the end
	lossy bool  // it has a topic of one replica, which no disk may be lost with
	wiped *node // lost its disk, or a bit of it, and not everything was in sync since; nil: none. Of who does things
	flips int   // bits that were; led: their nodes were made leaders then
	led   int
}

func newWorld(t *testing.T, seed uint64) *world {
	stream := func(n uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, n)) }
	w := &world{t: t, seed: seed, rng: stream(1), began: time.Now(), net: newNetwork(stream(2)), sky: newSky(stream(3)), chances: stream(4), counts: tally.Counts{}}
	for i := range w.nodes {
		w.nodes[i] = &node{w: w, id: i + 1, mem: disk.NewMem(disk.MemOptions{})}
	}
	return w
}

// problem is what must never be.
func (w *world) problem(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.problems) < 20 {
		w.problems = append(w.problems, fmt.Sprintf("after %v: ", time.Since(w.began).Round(time.Millisecond))+fmt.Sprintf(format, args...))
	}
}

// happened notes what is done to the world.
func (w *world) happened(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.done = append(w.done, fmt.Sprintf("%v ", time.Since(w.began).Round(time.Millisecond))+fmt.Sprintf(format, args...))
	if os.Getenv("SEED_LOGS") != "" {
		fmt.Fprintln(os.Stderr, w.done[len(w.done)-1])
	}
}

// counted counts what happened, or was found, so many times.
func (w *world) counted(name string, n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.counts[name] += int64(n)
}

func (w *world) ill() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.problems) > 0
}

// chance draws a moment.
func (w *world) chance(draw func(*rand.Rand) int64) int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return draw(w.chances)
}

// crash cuts the power of a disk.
func (w *world) crash(m *disk.Mem) *disk.Mem {
	w.mu.Lock()
	rng := rand.New(rand.NewPCG(w.chances.Uint64(), 0))
	w.mu.Unlock()
	return m.Crash(rng)
}

// client is a machine that nothing happens to, with clients on it.
func (w *world) client() *host {
	w.mu.Lock()
	w.clients++
	name := fmt.Sprintf("127.1.%d.%d", w.clients/250, w.clients%250+1)
	w.mu.Unlock()
	return w.net.boot(name)
}

// sleep passes simulated time; false: ctx ended.
func (w *world) sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// live is the course of a world.
func (w *world) live() *crowd {
	for _, n := range w.nodes {
		n.start()
	}
	w.happened("begun")
	crowd := w.populate()
	watch := w.watch()
	w.suffer()
	w.heal()
	crowd.finish()
	watch.finish()
	if !w.ill() {
		w.judge(crowd)
	}
	w.end()
	w.tell(crowd)
	return crowd
}

// create makes a topic with so many replicas, as soon as that can be done.
func (w *world) create(topic string, replicas int16) {
	client := w.newClient()
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for {
		_, err := kadm.NewClient(client).CreateTopic(ctx, partitions, replicas, nil, topic)
		if err == nil || errors.Is(err, kerr.TopicAlreadyExists) {
			return
		}
		if !w.sleep(ctx, 200*time.Millisecond) {
			w.problem("create %s: %v", topic, err)
			return
		}
	}
}

// end ends all nodes, and waits until nothing is left of them.
func (w *world) end() {
	for _, n := range w.nodes {
		n.mu.Lock()
		l := n.alive
		n.mu.Unlock()
		if l != nil {
			n.end(l, killed)
		}
	}
	w.leaving.Wait()
}

// tell logs what was, and fails the test if anything was wrong.
func (w *world) tell(c *crowd) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.t.Logf("%v of simulated time: %s", time.Since(w.began).Round(time.Second), c.tell())
	if len(w.problems) == 0 {
		return
	}
	for _, n := range w.nodes {
		if dir := os.Getenv("SEED_LOGS"); dir != "" {
			_ = os.WriteFile(fmt.Sprintf("%s/seed-%d-node-%d.log", dir, w.seed, n.id), []byte(n.said.String()), 0o600)
		}
	}
	w.t.Errorf("seed %d:\n%s\nafter:\n%s", w.seed, strings.Join(w.problems, "\n"), strings.Join(w.done, "\n"))
}
