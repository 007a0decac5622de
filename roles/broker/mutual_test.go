package broker

import (
	"bytes"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/roles/controller"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/disk"
	"rustmq.dev/rustmq/storage/log"
	"rustmq.dev/rustmq/storage/wal"
)

// mutual-full-chunks (RULES 1.5): three brokers, each leads what the other two follow, and
// their disks fill one after the other while the bucket takes nothing. Producers are slowed
// down, then refused, by the fullest replica in sync, and each follower has room for what
// was taken: nobody falls out of sync, nobody waits for another, and all that was acked is
// on all. Once the bucket has it, producers are served again.
func TestBrokersThatFillEachOtherStayInSync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startReplicas(t, 3, func(o *Options) {
			s, err := log.Open(t.Context(), log.Options{
				FS: disk.NewMem(disk.MemOptions{}), Dir: "wal", Tiered: true, MaxUnuploadedShare: 1,
				WAL: wal.Options{Capacity: 16<<20 + int64(o.NodeID)*(4<<20), SegmentSize: 1 << 20, Memory: 16 << 20},
			})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { s.Close() })
			o.Store = s
		})
		topics := []string{"one", "two", "three"}
		for i, topic := range topics {
			c.createTopic(topic)
			tp, _ := c.controller.Image().Topic(topic)
			c.controller.ElectLeaders(t.Context(), []controller.LeaderElection{{Partition: storage.PartitionID{Topic: tp.ID}, Leader: int32(i + 1)}})
			c.eventually("it leads", func() bool { return c.nodes[int32(i+1)].serves(topic) })
		}
		acked := map[string]storage.Offset{}
		send := func(topic string) (code int16, throttle time.Duration) {
			leader := c.leader(topic)
			k := leader.connect()
			defer k.conn.Close()
			q := produceTo(topic, 0, -1, batchOf(t, string(bytes.Repeat([]byte{'v'}, 100<<10))))
			q.TimeoutMillis = 60_000
			p := ask[*kmsg.ProduceResponse](k, 9, q)
			code = p.Topics[0].Partitions[0].ErrorCode
			if code == 0 {
				acked[topic]++
			}
			return code, time.Duration(p.ThrottleMillis) * time.Millisecond
		}
		slowed, refused := map[string]bool{}, map[string]bool{}
		for range 400 {
			for _, topic := range topics {
				code, throttle := send(topic)
				slowed[topic] = slowed[topic] || code == 0 && throttle > 0
				if code == 0 {
					continue
				}
				if refused[topic] = true; code != kerr.KafkaStorageError.Code {
					t.Fatalf("%s: %v", topic, kerr.ErrorForCode(code))
				}
			}
			time.Sleep(20 * time.Millisecond) // in the bubble's time
			if len(refused) == len(topics) {
				break
			}
		}
		for i, topic := range topics {
			if !slowed[topic] || !refused[topic] {
				t.Errorf("%s: producers were slowed down %v, refused %v", topic, slowed[topic], refused[topic])
			}
			if full := c.nodes[int32(i+1)].store.Stats().Fullness; i > 0 && full > 0.97 {
				t.Errorf("broker %d is %v full: it did not wait for broker 1, which is smaller", i+1, full)
			}
		}
		time.Sleep(20 * time.Second) // longer than a follower may lag
		for _, topic := range topics {
			if p := c.partition(topic); len(p.ISR) != 3 {
				t.Errorf("%s: %v are in sync", topic, p.ISR)
			}
			for id := range c.nodes {
				if at := c.log(id, topic).Progress().Synced; at != acked[topic] {
					t.Errorf("%s: broker %d has %d of %d records", topic, id, at, acked[topic])
				}
			}
		}
		for _, topic := range topics { // the bucket is back
			for id := range c.nodes {
				l := c.log(id, topic)
				if err := l.SetUploaded(acked[topic]); err != nil {
					t.Fatal(err)
				}
				l.Release(acked[topic])
			}
		}
		for _, topic := range topics {
			c.eventually(fmt.Sprint("producers of ", topic, " are served again"), func() bool {
				code, _ := send(topic)
				return code == 0
			})
		}
	})
}

// What was noted of followers slows nobody down once they are not waited for: leadership
// has moved, or there are no other replicas any more.
func TestOnlyWhoWaitsForFollowersIsSlowedByThem(t *testing.T) {
	p := new(partition)
	p.fullest.Store(1000)
	q := produceRequest{parts: []producePart{{}, {partition: p}}}
	for _, c := range []struct {
		is   role
		want int32
	}{
		{role{log: new(log.Log), replicated: true}, delayFor(1)},
		{role{log: new(log.Log)}, 0},
		{role{replica: new(log.Log), replicated: true}, 0},
	} {
		p.role.Store(&c.is)
		if got := q.slowedBy(); got != c.want || p.heldUp(&c.is) != (c.want > 0) {
			t.Errorf("%+v: %d ms, refused %v; want %d ms", c.is, got, p.heldUp(&c.is), c.want)
		}
	}
}
