package consensus

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"rustmq.dev/rustmq/storage/disk"
)

// TestLateLeader walks how long a leader's disk and the quickest of the others take for
// each of its entries, one every 100 ms or so.
func TestLateLeader(t *testing.T) {
	const ms = time.Millisecond
	for _, c := range []struct {
		what        string
		own, other  time.Duration
		idle        time.Duration // between two entries
		lateBetween [2]time.Duration
	}{
		{"ten times slower", 20 * ms, 2 * ms, 100 * ms, [2]time.Duration{lateFor, lateFor + time.Second}},
		{"half a second", 500 * ms, ms, 100 * ms, [2]time.Duration{lateFor, lateFor + 2*time.Second}},
		{"that hangs", time.Hour, ms, 100 * ms, [2]time.Duration{lateFor, lateFor + time.Second}},
		{"nine times slower", 18 * ms, 2 * ms, 100 * ms, [2]time.Duration{}},
		{"a hundred times slower, and yet quick", 5 * ms, ms / 20, 100 * ms, [2]time.Duration{}},
		{"all are slow", 500 * ms, 400 * ms, 100 * ms, [2]time.Duration{}},
		{"the others are slower", ms, 500 * ms, 100 * ms, [2]time.Duration{}},
		{"seldom anything to write", 500 * ms, ms, 5 * time.Second, [2]time.Duration{}},
	} {
		var l lateness
		begin := time.Unix(1000, 0)
		var at time.Duration
		told := time.Duration(0)
		next, appended, stored, confirmed := time.Duration(0), time.Duration(0), true, true
		for index := uint64(1); at < time.Minute; at += ms {
			now := begin.Add(at)
			if at >= next && stored && confirmed {
				l.appended(now, index)
				appended, stored, confirmed = at, false, false
			}
			if !confirmed && at >= appended+max(c.other, ms) {
				l.confirmed(now, 2, index)
				confirmed = true
			}
			if !stored && at >= appended+c.own {
				l.stored(now, index)
				stored = true
				index, next = index+1, at+c.idle
			}
			if at%(50*ms) == 0 && l.judge(now) == 2 && told == 0 {
				told = at
			}
		}
		if told < c.lateBetween[0] || told > c.lateBetween[1] {
			t.Errorf("%s: handed over after %v, want %v", c.what, told, c.lateBetween)
		}
	}
}

// TestLeaderWithASlowDiskHandsOver: a member whose syncs take half a second leads for some
// seconds more; another leads then, and goes on; nothing that was proposed is lost.
func TestLeaderWithASlowDiskHandsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := emptyCluster(t, 1, 2, 3)
		disks := map[uint64]*disk.Faulty{}
		c.faults = disks
		c.start(1, 2, 3)
		defer c.close()
		old := c.leader()
		write := func(n *Node, what string, seconds int) {
			for i := range 10 * seconds {
				if n.Status().Leader != n.opt.NodeID {
					return
				}
				_, _ = n.Propose(t.Context(), fmt.Append(nil, what, i)) // dropped while it hands over
				time.Sleep(100 * time.Millisecond)
			}
		}
		write(old, "quick", 30)
		if c.leader() != old {
			t.Fatal("a quick leader hands over")
		}
		disks[old.opt.NodeID].Set(disk.Rule{Op: disk.OpSync, Hook: func(disk.Op, string) { time.Sleep(500 * time.Millisecond) }})
		began := time.Now()
		write(old, "slow", 60)
		if took := time.Since(began); took < lateFor || took > lateFor+5*time.Second {
			t.Errorf("it handed over after %v", took)
		}
		next := c.leader()
		if next == old {
			t.Fatal("it leads still")
		}
		write(next, "next", 60)
		if c.leader() != next {
			t.Error("and again")
		}
		c.agree()
	})
}
