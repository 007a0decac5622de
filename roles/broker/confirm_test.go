package broker

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/broker/group"
)

// coordinates is who leads the partition of a group, by the controller.
func (c *replicated) coordinates(id string) *member {
	t, ok := c.controller.Image().Topic(group.Topic)
	if !ok {
		c.t.Fatal("no topic of groups")
	}
	if leader := t.Partition(group.Partition(id)).Leader; leader != metadata.NoLeader {
		return c.nodes[leader]
	}
	return nil
}

// commitOffset is answered with the code of a commit of events-0.
func (c *client) commitOffset(id string, offset int64) int16 {
	return ask[*kmsg.OffsetCommitResponse](c, 8, commitOf(id, offset)).Topics[0].Partitions[0].ErrorCode
}

// Who asks a coordinator that was cut off how far a group is does not hear how far it was: a
// copy in transactions would be made again, though nobody's clock was wrong (RULES 3.7).
func TestACoordinatorThatIsCutOffTellsNoOffsets(t *testing.T) {
	for _, of := range []struct {
		after   time.Duration
		brokers bool // cut off from them too, not from the controller alone
	}{{0, true}, {500 * time.Millisecond, true}, {3 * time.Second, true}, {0, false}, {3 * time.Second, false}} { // before its lease is out, and after
		t.Run(fmt.Sprintf("%v,%v", of.after, of.brokers), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := startReplicas(t, 3)
				c.createTopic("events")
				c.nodes[1].connect().findGroups("g")
				for _, m := range c.nodes {
					m.settle(t.Context())
				}
				zombie := c.coordinates("g")
				asks := zombie.connect()
				c.eventually("a commit is taken", func() bool { return asks.commitOffset("g", 10) == 0 })
				if at := asks.committed("g"); at != 10 {
					t.Fatalf("the group is at %d", at)
				}
				if of.brokers {
					c.isolate(zombie.options.NodeID)
				} else {
					zombie.hears.reach(false)
					c.fence(zombie.options.NodeID)
				}
				c.eventually("the group goes on elsewhere", func() bool {
					m := c.coordinates("g")
					return m != nil && m != zombie && m.connect().commitOffset("g", 20) == 0
				})
				time.Sleep(of.after)
				if zombie.table.byName([]byte(group.Topic)).partition(group.Partition("g")).role.Load().log == nil {
					t.Fatal("it knows already")
				}
				if at := asks.committed("g"); at != -100-int64(kerr.NotCoordinator.Code) {
					t.Errorf("who was cut off says %d", at)
				}
				if at := c.coordinates("g").connect().committed("g"); at != 20 {
					t.Errorf("who coordinates says %d", at)
				}
			})
		})
	}
}

// Nor does one that has ended to lead, and not yet to coordinate: while an image is carried out
// the partition's followers are let go first.
func TestACoordinatorThatLeadsNoMoreTellsNoOffsets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startReplicas(t, 3)
		c.createTopic("events")
		c.nodes[1].connect().findGroups("g")
		for _, m := range c.nodes {
			m.settle(t.Context())
		}
		m := c.coordinates("g")
		asks := m.connect()
		c.eventually("a commit is taken", func() bool { return asks.commitOffset("g", 10) == 0 })
		m.replication.leader.Unlead(m.table.byName([]byte(group.Topic)).partition(group.Partition("g")).id())
		if at := asks.committed("g"); at != -100-int64(kerr.NotCoordinator.Code) {
			t.Errorf("it says %d", at)
		}
	})
}
