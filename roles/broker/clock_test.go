package broker

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/consensus/metadata"
)

// TestLeaderWithAWrongClockCompletesNothing cuts a leader off whose clock stands still, so
// that its lease never ends by it, or has jumped by ten years: another leads, and the old
// one acks nothing to acks=all, shows nothing that can be lost, and cannot have the
// controller believe it, by the epochs that it has. With the clock as it is, it joins
// again, and nothing acked is lost.
func TestLeaderWithAWrongClockCompletesNothing(t *testing.T) {
	for name, off := range map[string]func(now, since time.Time) time.Time{
		"stands still":    func(_, since time.Time) time.Time { return since },
		"ten years ahead": func(now, _ time.Time) time.Time { return now.AddDate(10, 0, 0) },
		"ten years back":  func(now, _ time.Time) time.Time { return now.AddDate(-10, 0, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var wrong [4]atomic.Pointer[time.Time] // since when, by broker
				c := startReplicas(t, 3, func(o *Options) {
					id := o.NodeID
					o.Now = func() time.Time {
						if since := wrong[id].Load(); since != nil {
							return off(time.Now(), *since)
						}
						return time.Now()
					}
				})
				c.createTopic("events")
				zombie, is := c.leader("events"), c.partition("events")
				id, epoch := zombie.options.NodeID, zombie.registration.epoch.Load()
				acked := c.produce(zombie, "events", -1, numbered("a", 10)...)
				writer, reader := zombie.connect(), zombie.connect()
				since := time.Now()
				wrong[id].Store(&since)
				c.isolate(id)
				never := produceVersion(9, produceTo("events", 0, -1, batchOf(t, "never")))
				never.TimeoutMillis = 60_000
				writer.send(never)
				c.eventually("another leads", func() bool {
					l := c.leader("events")
					return l != nil && l != zombie && c.produce(l, "events", -1, "b0") == 0
				})
				time.Sleep(5 * time.Second) // simulated
				if name == "stands still" && c.produce(zombie, "events", 1, "lost") != 0 {
					t.Error("its lease is out by a clock that stands still: what is tested here is not what it was")
				}
				if hw := c.log(id, "events").HighWatermark(); acked != 0 || hw > 10 {
					t.Errorf("its high watermark moved to %d", hw)
				}
				q := fetchFrom("events", 0, 10, 100*time.Millisecond)
				q.Version = 11
				reader.send(q)
				if p := reader.receive().(*kmsg.FetchResponse).Topics[0].Partitions[0]; len(p.RecordBatches) > 0 {
					t.Errorf("it shows what can be lost: %d bytes", len(p.RecordBatches))
				}

				now := c.partition("events")
				shrink := metadata.PartitionChange{
					Partition: c.log(id, "events").ID(), LeaderEpoch: is.LeaderEpoch, PartitionEpoch: now.PartitionEpoch, ISR: []metadata.ReplicaEpoch{{Broker: id, Epoch: epoch}},
				}
				if err := c.controller.AlterPartitions(t.Context(), id, epoch, []metadata.PartitionChange{shrink})[0]; metadata.CodeOf(err) != metadata.FencedLeaderEpoch {
					t.Errorf("that it is alone in sync, as it says: %v", err)
				}
				object, err := c.controller.PrepareObjects(t.Context(), id, epoch, 1)
				if err != nil {
					t.Fatal(err)
				}
				upload := metadata.PartitionRange{Partition: shrink.Partition, Range: metadata.Range{
					End: 10, Bytes: 1000, IndexPosition: 1000, IndexLength: 100, Epoch: is.LeaderEpoch,
				}}
				results, err := c.controller.CommitObject(t.Context(), id, epoch, object, 2000, []metadata.PartitionRange{upload})
				if err != nil || len(results) != 1 || metadata.CodeOf(results[0]) != metadata.FencedLeaderEpoch {
					t.Errorf("what it has uploaded is committed: %v, %v", results, err)
				}

				synctest.Wait()
				for other := range c.nodes {
					c.setCut(id, other, false)
					c.setCut(other, id, false)
				}
				wrong[id].Store(nil)
				zombie.hears.reach(true)
				if got := writer.receive().(*kmsg.ProduceResponse).Topics[0].Partitions[0].ErrorCode; got != kerr.NotLeaderForPartition.Code {
					t.Errorf("its batch was answered with %v", kerr.ErrorForCode(got))
				}
				c.eventually("it is in sync", func() bool { return len(c.partition("events").ISR) == 3 })
				c.same("events", 1, 2, 3)
				if end := c.log(id, "events").HighWatermark(); end != 11 {
					t.Errorf("%d records are there, 11 were acked", end)
				}
			})
		})
	}
}
