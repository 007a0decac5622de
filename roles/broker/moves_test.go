package broker

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/roles/controller"
	"rustmq.dev/rustmq/storage"
)

// elect moves the leadership of a topic's partition to a broker.
func (c *replicated) elect(topic string, leader int32) {
	c.t.Helper()
	tp, _ := c.controller.Image().Topic(topic)
	if err := c.controller.ElectLeaders(c.t.Context(), []controller.LeaderElection{{Partition: storage.PartitionID{Topic: tp.ID}, Leader: leader}})[0]; err != nil {
		c.t.Fatal(err)
	}
}

// A leader that is moved may have sent on what its own disk is slow to take. Once that has
// it, the next leader is told, though nothing more is appended: who produces waits.
func TestWhoLedConfirmsWhatItAppendedItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startGated(t, 3)
		c.createTopic("events")
		old := c.partition("events").Leader
		if code := c.produce(c.leader("events"), "events", -1, numbered("a", 10)...); code != 0 {
			t.Fatal(kerr.ErrorForCode(code))
		}
		c.disks[old].hold()
		writer := c.leader("events").connect()
		q := produceVersion(9, produceTo("events", 0, -1, batchOf(t, "late")))
		q.TimeoutMillis = 60_000
		writer.send(q)
		next := old%3 + 1
		c.eventually("the others have it", func() bool {
			return c.log(next, "events").Progress().Synced == 11 && c.log(next%3+1, "events").Progress().Synced == 11
		})
		c.elect("events", next)
		time.Sleep(200 * time.Millisecond) // it is followed by then
		if hw := c.log(next, "events").HighWatermark(); hw != 10 || len(c.partition("events").ISR) != 3 {
			t.Fatalf("committed to %d, in sync are %v", hw, c.partition("events").ISR)
		}
		c.disks[old].let()
		began := time.Now()
		c.eventually("it is committed", func() bool { return c.log(next, "events").HighWatermark() == 11 })
		if took := time.Since(began); took > time.Second || len(c.partition("events").ISR) != 3 {
			t.Errorf("committed %v after all had it, in sync are %v", took, c.partition("events").ISR)
		}
		if got := writer.receive().(*kmsg.ProduceResponse).Topics[0].Partitions[0].ErrorCode; got != kerr.NotLeaderForPartition.Code {
			t.Errorf("who sent it is told %v", kerr.ErrorForCode(got))
		}
	})
}
