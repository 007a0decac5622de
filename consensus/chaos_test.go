package consensus

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"rustmq.dev/rustmq/storage/disk"
	"rustmq.dev/rustmq/test/seeded"
)

// chaosSteps is what happens to a group in one run.
const chaosSteps = 120

// TestGroupSurvivesWhatHappens loses messages, cuts members off, cuts the power of some
// or all, and changes the members meanwhile. What was acknowledged is applied once, by
// everybody, in the same order.
func TestGroupSurvivesWhatHappens(t *testing.T) {
	runs := uint64(6)
	if testing.Short() {
		runs = 1
	}
	for run := range runs {
		t.Run(fmt.Sprint(run), func(t *testing.T) {
			seed := seeded.Seed(t)
			synctest.Test(t, func(t *testing.T) {
				h := &chaos{cluster: emptyCluster(t, 1, 2, 3), rng: rand.New(rand.NewPCG(seed, run)), acked: map[string]bool{}}
				h.cluster.lose = func() bool { return h.lossy && h.rng.IntN(10) == 0 }
				h.run()
			})
		})
	}
}

type chaos struct {
	*cluster
	rng   *rand.Rand // under cluster.mu where messages are lost
	lossy bool
	next  int
	acked map[string]bool
	tried []*Proposal // that were not answered in time
	names []string
}

func (h *chaos) run() {
	h.start(1, 2, 3)
	for range chaosSteps {
		h.step()
		time.Sleep(time.Duration(h.roll(20)) * DefaultTick) // simulated
		synctest.Wait()
	}
	h.calm()
	h.check()
	h.close()
}

func (h *chaos) roll(n int) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.rng.IntN(n)
}

// one returns a running member, nil if there is none.
func (h *chaos) one() *Node {
	ids := slices.Sorted(maps.Keys(h.nodes))
	if len(ids) == 0 {
		return nil
	}
	return h.nodes[ids[h.roll(len(ids))]]
}

func (h *chaos) step() {
	n := h.one()
	switch what := h.roll(16); {
	case n == nil || what == 0:
		h.startAll()
	case what < 7:
		h.proposeTo(n)
	case what == 7:
		h.isolate(n.opt.NodeID, true)
	case what < 10:
		h.isolate(n.opt.NodeID, false)
	case what == 10:
		h.mu.Lock()
		h.lossy = !h.lossy
		h.mu.Unlock()
	case what == 11:
		h.kill(n.opt.NodeID)
	case what == 12:
		for _, id := range slices.Sorted(maps.Keys(h.nodes)) {
			h.kill(id)
		}
	case what == 13:
		h.startAll()
	default:
		h.changeSomething(n)
	}
}

// proposeTo hands a member commands, whether it leads or not, and waits for a while.
func (h *chaos) proposeTo(n *Node) {
	for range 1 + h.roll(5) {
		h.next++
		name := fmt.Sprint(h.next)
		h.tried = append(h.tried, n.Start([]byte(name)))
		h.names = append(h.names, name)
	}
	time.Sleep(DefaultTick) // simulated
	h.collect()
}

// collect notes which proposals are acknowledged.
func (h *chaos) collect() {
	for i, p := range h.tried {
		select {
		case <-p.done:
			if p.err == nil {
				h.acked[h.names[i]] = true
			}
		default:
		}
	}
}

// kill cuts the power of a member.
func (h *chaos) kill(id uint64) {
	h.collect()
	h.mu.Lock()
	after := h.fs[id].Crash(h.rng)
	n := h.nodes[id]
	delete(h.nodes, id)
	delete(h.doors, id)
	h.fs[id] = after
	h.mu.Unlock()
	_ = n.Close()
	h.collect()
}

func (h *chaos) startAll() {
	for _, id := range slices.Sorted(maps.Keys(h.fs)) {
		if h.nodes[id] == nil {
			h.start(id)
		}
	}
}

// changeSomething asks a member, which may not lead, to change the members: to take one
// out, or a learner in, or to give it a vote. Fewer than three voters are never left.
func (h *chaos) changeSomething(n *Node) {
	members, err := n.Members(h.t.Context())
	if err != nil || len(members) == 0 {
		return
	}
	voters := 0
	for _, m := range members {
		if !m.Learner {
			voters++
		}
	}
	id := uint64(1 + h.roll(5))
	at := slices.IndexFunc(members, func(m MemberStatus) bool { return m.ID == id })
	var c Change
	switch {
	case at < 0:
		if h.nodes[id] == nil {
			h.mu.Lock()
			if h.fs[id] == nil {
				h.fs[id] = disk.NewMem(disk.MemOptions{})
			}
			h.mu.Unlock()
			h.start(id)
		}
		c = Change{AddLearner, h.member(id)}
	case members[at].Learner:
		c = Change{Promote, Member{ID: id}}
	case voters > 3:
		c = Change{Remove, Member{ID: id}}
	default:
		return
	}
	go func() { _ = n.ChangeMembers(h.t.Context(), c) }() // it may be answered much later
}

// calm ends all trouble, and waits until the members have applied the same. Who was taken
// out while it was away does not know, and is nobody's concern.
func (h *chaos) calm() {
	h.t.Helper()
	h.mu.Lock()
	h.lossy = false
	clear(h.cut)
	h.mu.Unlock()
	h.startAll()
	for range 400 {
		time.Sleep(DefaultTick) // simulated
		synctest.Wait()
		if leader := h.leader(); h.same(leader) {
			if _, err := leader.Propose(h.t.Context(), []byte("last")); err == nil && h.same(leader) {
				h.collect()
				return
			}
		}
	}
	for id, n := range h.nodes {
		h.t.Errorf("member %d: %+v", id, n.Status())
	}
	h.t.FailNow()
}

// members returns those that the leader has.
func (h *chaos) members(leader *Node) (running []*Node) {
	h.t.Helper()
	members, err := leader.Members(h.t.Context())
	if err != nil {
		h.t.Fatal(err)
	}
	for _, m := range members {
		running = append(running, h.nodes[m.ID])
	}
	return running
}

// same reports whether all members have applied what the leader has.
func (h *chaos) same(leader *Node) bool {
	time.Sleep(DefaultTick) // simulated
	synctest.Wait()
	for _, n := range h.members(leader) {
		if n.Status().Applied != leader.Status().Applied {
			return false
		}
	}
	return true
}

func (h *chaos) check() {
	h.t.Helper()
	leader := h.leader()
	want := h.machines[leader.opt.NodeID]
	times := map[string]int{}
	for _, command := range want.commands {
		if times[command]++; times[command] > 1 && command != "last" {
			h.t.Errorf("command %s was applied %d times", command, times[command])
		}
	}
	for name := range h.acked {
		if times[name] != 1 {
			h.t.Errorf("acknowledged command %s is there %d times", name, times[name])
		}
	}
	for _, n := range h.members(leader) {
		if m := h.machines[n.opt.NodeID]; m.String() != want.String() {
			h.t.Errorf("member %d has applied\n%s\nand the leader\n%s", n.opt.NodeID, m, want)
		}
	}
	h.t.Logf("%d commands acknowledged, %d applied, %d members, term %d", len(h.acked), len(want.commands), len(h.nodes), leader.Status().Term)
}
