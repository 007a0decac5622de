package broker

import (
	"testing"
	"testing/synctest"

	"rustmq.dev/rustmq/consensus/metadata"
	pb "rustmq.dev/rustmq/consensus/metadata/metadatapb"
	"rustmq.dev/rustmq/roles/controller"
	"rustmq.dev/rustmq/storage"
)

// recover has the cluster begin another life with less of a partition than the bucket has.
func (c *held) recover(topic string, at storage.Offset) {
	c.t.Helper()
	t, _ := c.controller.Image().Topic(topic)
	if _, err := c.controller.propose(&pb.SetBucket{Nonce: []byte("nonce of a bucke"), Incarnation: controller.FirstIncarnation}); err != nil {
		c.t.Fatal(err)
	}
	next, _, err := metadata.Recover(c.controller.Image(), metadata.RecoverOptions{Cuts: []metadata.Cut{{Partition: storage.PartitionID{Topic: t.ID}, At: at}}})
	if err != nil {
		c.t.Fatal(err)
	}
	c.controller.mu.Lock()
	defer c.controller.mu.Unlock()
	if err := c.controller.state.Restore(next.Snapshot()); err != nil {
		c.t.Fatal(err)
	}
}

// TestWhatIsCutIsLed (RULES 7): a broker that comes back with what lies behind a cut leads the partition from
// there on; nothing of that comes back.
func TestWhatIsCutIsLed(t *testing.T) {
	for _, closed := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			c := startHeld(t, 1)
			c.createTopic("events", 1)
			for _, v := range []string{"a", "b", "torn", "behind it"} {
				c.leads("events")
				c.produced("events", v)
			}
			m := c.nodes[1]
			if closed { // what its log knows of the committed end is on the disk then
				m.Close()
				if err := m.store.Close(); err != nil {
					t.Fatal(err)
				}
			}
			left := c.kill(1)
			c.recover("events", 2)
			c.begin(1, left)
			c.want("events", "a", "b")
			c.produced("events", "anew")
			c.want("events", "a", "b", "anew")
		})
	}
}
