package broker

import (
	"testing"
	"testing/synctest"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// deleteBefore asks a broker to delete the records of a topic before an offset.
func deleteBefore(at *member, topic string, offset int64) kmsg.DeleteRecordsResponseTopicPartition {
	k := at.connect()
	defer k.conn.Close()
	q := kmsg.NewPtrDeleteRecordsRequest()
	q.TimeoutMillis = 1000
	q.Topics = []kmsg.DeleteRecordsRequestTopic{{Topic: topic, Partitions: []kmsg.DeleteRecordsRequestTopicPartition{{Offset: offset}}}}
	return ask[*kmsg.DeleteRecordsResponse](k, 2, q).Topics[0].Partitions[0]
}

// TestDeleteRecordsSurvivesFailover (RULES 5.5): what was said to be deleted is, whoever leads
// next: before the answer the controller has it, which tells the next leader; and who leads no
// more, and does not know it yet, deletes nothing.
func TestDeleteRecordsSurvivesFailover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startReplicas(t, 3, tiered)
		c.createTopic("events")
		old := c.partition("events").Leader
		c.produce(c.leader("events"), "events", -1, numbered("a", 10)...)
		if p := deleteBefore(c.leader("events"), "events", 4); p.ErrorCode != 0 || p.LowWatermark != 4 {
			t.Fatalf("%+v", p)
		}
		fs := c.kill(old)
		c.eventually("another leads", func() bool { l := c.partition("events").Leader; return l != old && l > 0 })
		c.eventually("it takes batches", func() bool { return c.produce(c.leader("events"), "events", -1, "b0") == 0 })
		next := c.partition("events").Leader
		if start := c.log(next, "events").LogStart(); start != 4 {
			t.Fatalf("the next leader's log begins at %d", start)
		}
		k := c.leader("events").connect()
		q := fetchFrom("events", 0, 3, 0)
		q.Version = 11
		k.send(q)
		if got := k.receive().(*kmsg.FetchResponse).Topics[0].Partitions[0].ErrorCode; got != kerr.OffsetOutOfRange.Code {
			t.Fatalf("what was deleted is answered with %v", kerr.ErrorForCode(got))
		}
		k.conn.Close()
		c.start(old, fs)
		c.eventually("the old one is in sync", func() bool { return len(c.partition("events").ISR) == 3 })
		c.eventually("its log begins there", func() bool { return c.log(old, "events").LogStart() == 4 })

		zombie := c.leader("events")
		c.isolate(next)
		c.eventually("a third leads", func() bool { l := c.partition("events").Leader; return l != next && l > 0 })
		if p := deleteBefore(zombie, "events", 8); p.ErrorCode == 0 {
			t.Fatalf("who leads no more deletes: %+v", p)
		}
		if start := zombie.table.byName([]byte("events")).partition(0).role.Load().log.LogStart(); start != 4 {
			t.Fatalf("its log begins at %d", start)
		}
		c.rejoin(next)
		c.eventually("all are in sync", func() bool { return len(c.partition("events").ISR) == 3 })
		for id := range c.nodes {
			if start := c.log(id, "events").LogStart(); start != 4 {
				t.Errorf("the log of broker %d begins at %d", id, start)
			}
		}
	})
}
