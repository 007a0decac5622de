package consensus

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// TestLeaderHandsOver holds that a planned change of the leader takes no election timeout,
// and that the other members lose nothing by it.
func TestLeaderHandsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, 2, 3)
		defer c.close()
		old := c.leader()
		c.propose(old, "a")
		began := time.Now()
		if err := old.HandOver(t.Context()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took >= DefaultTick*DefaultElectionTicks {
			t.Errorf("it took %v", took)
		}
		if s := old.Status(); s.Leader == old.opt.NodeID {
			t.Error("it leads still")
		}
		next := c.leader()
		if next == old {
			t.Error("it leads again")
		}
		if err := old.HandOver(t.Context()); err != nil {
			t.Errorf("of one that does not lead: %v", err)
		}
		c.propose(next, "b")
		c.agree()
	})
}

// TestLeaderWithoutOthersLeadsOn holds that nobody waits for a member that is not there.
func TestLeaderWithoutOthersLeadsOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1)
		defer c.close()
		n := c.leader()
		if err := n.HandOver(t.Context()); !errors.Is(err, errNobodyElse) {
			t.Errorf("handed over to nobody: %v", err)
		}
		c.propose(n, "a")
	})
}

// TestSnapshotIsTakenWhenAsked holds that what is applied is in it when the call returns.
func TestSnapshotIsTakenWhenAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, 2, 3)
		defer c.close()
		n := c.leader()
		for range 2 { // the second finds it there
			c.propose(n, "a")
			applied := n.Status().Applied
			if err := n.TakeSnapshot(t.Context()); err != nil {
				t.Fatal(err)
			}
			if s := n.Status(); s.Snapshot < applied || s.Committed < applied {
				t.Errorf("applied %d: %+v", applied, s)
			}
			if err := n.TakeSnapshot(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		c.close()
		for _, call := range []func(context.Context) error{n.TakeSnapshot, n.HandOver} {
			if err := call(t.Context()); !errors.Is(err, ErrClosed) {
				t.Errorf("closed: %v", err)
			}
		}
	})
}
