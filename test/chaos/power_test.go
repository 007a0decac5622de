//go:build chaos

package chaos

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"rustmq.dev/rustmq/test/seeded"
)

// powerRounds are the cuts that one cluster goes through in TestPowerFailsOverAndOver.
const powerRounds = 25

// The power of all three servers, and of what the bucket lies on, fails over and over, mostly
// under acked load, now and then before anything is acked: in an election, or a recovery. After
// powerRounds times it all is judged, and another cluster begins. Three clusters side by side,
// for SOAK minutes: a cluster waits for its elections more than it works.
func TestPowerFailsOverAndOver(t *testing.T) {
	begun, least := time.Now(), 2*soak(t)
	for lane := range 3 {
		t.Run(fmt.Sprint("lane=", lane), func(t *testing.T) {
			t.Parallel()
			for round := 0; round == 0 || time.Since(begun) < least; round++ {
				if !t.Run(fmt.Sprint("round=", round), func(t *testing.T) { failPower(t, 90+lane, round) }) {
					return
				}
			}
		})
	}
}

// failPower is the life of one cluster.
func failPower(t *testing.T, number, round int) {
	c := newVolumeCluster(t, number, 3, 1<<30)
	c.vary(round)
	d := c.drill(300)
	all, began := []int{0, 1, 2}, time.Now()
	for cut := range powerRounds {
		if cut > 0 && d.rng.IntN(5) > 0 {
			d.judge(d.settle(d.history))
		}
		<-time.After(d.between(0, 300*time.Millisecond))
		d.powerCut(all...)
		d.judge(nil)
	}
	took := time.Since(began)
	d.done = append(d.done, fmt.Sprintf("%d power cuts of all", powerRounds))
	d.judge(d.settle(d.history))
	d.finish()
	t.Logf("%v for each cut", (took / powerRounds).Round(10*time.Millisecond))
}

// vary has other moments drawn in each round, and in each cluster of it.
func (c *cluster) vary(round int) {
	c.rng = rand.New(rand.NewPCG(seeded.Seed(c.t), uint64(c.number)<<32|uint64(round)))
}

// powerUp mounts volumes again, side by side.
func (c *cluster) powerUp(volumes []int) {
	c.t.Helper()
	failed := make([]error, len(volumes))
	var wg sync.WaitGroup
	for i, v := range volumes {
		wg.Go(func() { failed[i] = c.volumes[v].powerUp() })
	}
	wg.Wait()
	must(c.t, errors.Join(failed...))
}
