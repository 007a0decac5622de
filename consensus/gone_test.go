package consensus

import (
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"rustmq.dev/rustmq/test/seeded"
)

// electionTimeout is the silence after which members stand by themselves.
const electionTimeout = DefaultTick * DefaultElectionTicks

// others are the members that run, but for one.
func (c *cluster) others(id uint64) (others []*Node) {
	for other, n := range c.nodes {
		if other != id {
			others = append(others, n)
		}
	}
	return others
}

// TestLeaderThatHasGoneIsReplacedAtOnce holds that the word of a leader's death saves the
// election timeout, also to whoever hears it later than the other.
func TestLeaderThatHasGoneIsReplacedAtOnce(t *testing.T) {
	for _, apart := range []time.Duration{0, 3 * DefaultTick} {
		synctest.Test(t, func(t *testing.T) {
			c := newCluster(t, 1, 2, 3, 4, 5)
			defer c.close()
			old := c.leader()
			c.propose(old, "a")
			c.agree()
			id := old.opt.NodeID
			c.stop(id)
			began := time.Now()
			for i, n := range c.others(id) {
				time.AfterFunc(time.Duration(i)*apart/4, func() { n.Gone(id) })
			}
			next := c.leader(id)
			if took := time.Since(began); took >= electionTimeout*6/10 {
				t.Errorf("apart by %v: another led after %v", apart, took)
			}
			c.propose(next, "b")
			c.agree()
		})
	}
}

// TestWhatALeaderThatHasGoneSentIsReadLate: its last message and the word that it has gone
// come by two connections, in either order.
func TestWhatALeaderThatHasGoneSentIsReadLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, 2, 3)
		defer c.close()
		old := c.leader()
		c.propose(old, "a")
		c.agree()
		id, term := old.opt.NodeID, old.Status().Term
		c.stop(id)
		began := time.Now()
		for _, n := range c.others(id) {
			n.Gone(id)
		}
		synctest.Wait()
		for _, n := range c.others(id) {
			to := n.opt.NodeID
			beat := &raftpb.Message{Type: raftpb.MsgHeartbeat.Enum(), From: &id, To: &to, Term: &term}
			if err := n.Receive(Message{From: memberOf(id), To: memberOf(to), Raft: beat}); err != nil {
				t.Fatal(err)
			}
		}
		c.leader(id)
		if took := time.Since(began); took >= electionTimeout*6/10 {
			t.Errorf("another led after %v", took)
		}
	})
}

// TestLeaderThatLivesIsNotDeposedByAWord holds that one member whose line to the leader
// breaks does not disturb the others.
func TestLeaderThatLivesIsNotDeposedByAWord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, 2, 3)
		defer c.close()
		leader := c.leader()
		c.propose(leader, "a")
		c.agree()
		term := leader.Status().Term
		liar := c.others(leader.opt.NodeID)[0]
		for range 200 {
			liar.Gone(leader.opt.NodeID)
			leader.Gone(liar.opt.NodeID)   // who does not lead may go
			leader.Gone(leader.opt.NodeID) // and nobody is told so of itself
			time.Sleep(DefaultTick)        // simulated
		}
		if s := leader.Status(); s.Leader != leader.opt.NodeID || s.Term != term {
			t.Errorf("after wrong words of its death: %+v, it led in term %d", s, term)
		}
	})
}

// TestFlappingLinesCauseFewElections holds that members who all hear of a leader's death
// over and over elect another no oftener than every few election timeouts.
func TestFlappingLinesCauseFewElections(t *testing.T) {
	seed := seeded.Seed(t)
	random := rand.New(rand.NewPCG(seed, 0))
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, 2, 3)
		defer c.close()
		c.propose(c.leader(), "a")
		c.agree()
		term := c.leader().Status().Term
		const lasts = time.Minute
		for began := time.Now(); time.Since(began) < lasts; {
			for _, n := range c.nodes {
				if leader := n.Leader(); leader != n.opt.NodeID {
					n.Gone(leader)
				}
			}
			time.Sleep(time.Duration(random.Int64N(int64(2 * DefaultTick)))) // simulated
		}
		elected := c.leader().Status().Term - term
		if most := uint64(lasts/(goneRest*electionTimeout)) * 3; elected > most {
			t.Errorf("%d elections in %v, at most %d are due", elected, lasts, most)
		}
		c.propose(c.leader(), "b")
		c.agree()
	})
}
