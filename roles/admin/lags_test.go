package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"rustmq.dev/rustmq/roles/broker"
)

// The lag of groups is remembered for an hour, of so many groups, and a look that saw nothing of a
// group leaves a gap.
func TestLagIsRemembered(t *testing.T) {
	h := newLagHistory(nil)
	now := time.Unix(1_700_000_000, 0)
	look := func(groups ...broker.GroupSummary) {
		h.note(now, groups)
		now = now.Add(lagEvery)
	}
	look(broker.GroupSummary{Group: "a", Lag: 5, Behind: new(1.5)})
	look()
	look(broker.GroupSummary{Group: "a", Lag: 7}, broker.GroupSummary{Group: "b"})
	if got := h.points("a", now); len(got) != 2 || got[0].Records != 5 || got[0].Seconds == nil || *got[0].Seconds != 1.5 || got[1].Records != 7 || got[1].Seconds != nil || got[1].Time.Sub(got[0].Time) != 2*lagEvery {
		t.Errorf("%+v", got)
	}
	if got := h.points("nobody", now); len(got) != 0 {
		t.Errorf("%+v", got)
	}
	for i := range 2 * lagPoints {
		look(broker.GroupSummary{Group: "b", Lag: int64(i)})
	}
	if got := h.points("b", now); len(got) != lagPoints || got[0].Records != lagPoints || got[lagPoints-1].Records != 2*lagPoints-1 {
		t.Errorf("%d points, from %+v", len(got), got[0])
	}
	if len(h.of) != 1 {
		t.Errorf("%d groups are remembered, one of which was gone for an hour", len(h.of))
	}
	var many []broker.GroupSummary
	for i := range 2 * maxLagGroups {
		many = append(many, broker.GroupSummary{Group: fmt.Sprint(i), Lag: 1})
	}
	if look(many...); len(h.of) != maxLagGroups || len(h.points("b", now)) == 0 {
		t.Errorf("%d groups are remembered", len(h.of))
	}
	// While nobody asks nobody looks: what was before is not of the last hour then.
	if got := h.points("b", now.Add(lagPoints*lagEvery)); len(got) != 0 {
		t.Errorf("after an hour there are %d points", len(got))
	}
	now = now.Add(10 * time.Hour)
	look(broker.GroupSummary{Group: "b", Lag: 3})
	if got := h.points("b", now); len(got) != 1 || got[0].Records != 3 {
		t.Errorf("after ten hours there are %d points", len(got))
	}
}

// lateGroups takes a while to list groups.
type lateGroups struct {
	Groups
	takes time.Duration
	looks int
}

func (g *lateGroups) ListGroups(context.Context) ([]broker.GroupSummary, error) {
	time.Sleep(g.takes) // of the bubble
	g.looks++
	return nil, nil
}

// Where looks take long, there are fewer.
func TestLooksAtLagTakeAShareOfTheTime(t *testing.T) {
	for takes, want := range map[time.Duration]int{0: 40, 2 * time.Second: 15, 9 * time.Second: 9} {
		synctest.Test(t, func(t *testing.T) {
			g := &lateGroups{takes: takes}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
			defer cancel()
			newLagHistory(g).watch(ctx)
			if g.looks < want-1 || g.looks > want+1 {
				t.Errorf("%d looks of %s in ten minutes, want %d", g.looks, takes, want)
			}
		})
	}
}

// A broker of a version before says nothing of the topics of its groups.
func TestTopicsOfAGroupAreAList(t *testing.T) {
	if said, err := json.Marshal(describedTopics(nil, nil)); err != nil || string(said) != "[]" {
		t.Errorf("%s, %v", said, err)
	}
}

// Nobody is asked for what nobody wants to see: an hour after the last question looks end, and
// begin again with the next.
func TestLagIsLookedAtWhileSomebodyAsks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &lateGroups{}
		h := newLagHistory(g)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go h.watch(ctx)
		after := func(d time.Duration) int {
			time.Sleep(d) // of the bubble
			synctest.Wait()
			return g.looks
		}
		first := after(lagWanted + lagEvery)
		if first < int(lagWanted/lagEvery) {
			t.Errorf("%d looks in the first hour", first)
		}
		if more := after(10*time.Hour) - first; more > 1 {
			t.Errorf("%d looks while nobody asks", more)
		}
		idle := g.looks
		h.want()
		h.want()
		if more := after(time.Minute) - idle; more < 4 {
			t.Errorf("%d looks in a minute after somebody has asked", more)
		}
		var none *lagHistory
		none.want() // where there are no groups
	})
}
