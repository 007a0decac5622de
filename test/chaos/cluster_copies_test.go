//go:build chaos

package chaos

import (
	"fmt"
	"testing"
	"time"

	"rustmq.dev/rustmq/test/tally"
)

// A topic is copied in transactions while servers of a cluster, the coordinators among
// them, are killed, stopped and paused: who reads what is committed finds the same records
// in the same order.
func TestExactlyOnceCopySurvivesFailovers(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 74, 3, "broker.groups.min_session_timeout=1s")
	source := newHistory("source")
	c.create(source.topic, 3)
	c.create("copied", 3)
	copies := newCopies(t, c, source, c.logs)
	var done []string
	begin, least := time.Now(), max(25*time.Second, soak(t))
	for time.Since(begin) < least {
		must(t, copies.broken(copies.goOn()))
		done = append(done, c.disturb())
		copies.lives.Add(1)
		if err := copies.broken(copies.readAgain()); err != nil {
			t.Fatal(fmt.Errorf("after %v: %w", done, err))
		}
	}
	copies.finish(t)
	must(t, copies.broken(c.clean()))
	must(t, copies.broken(c.agree(t.Context(), source.topic, copies.to.topic)))
	c.counts.Add(copies.counts())
	tally.Log(t, c.counts)
	t.Logf("after %v", done)
}
