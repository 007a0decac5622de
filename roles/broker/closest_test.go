package broker

import (
	"context"
	"fmt"
	"net"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/roles/controller"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/transport/kafka"
)

// inRacks gives each broker a rack of its own.
func inRacks(o *Options) { o.Rack = rackOf(o.NodeID) }

func rackOf(id int32) string { return fmt.Sprint("rack-", id) }

// fetchOf is a fetch of partition 0 by a client of a rack.
func fetchOf(topic string, offset int64, rack string, wait time.Duration) *kmsg.FetchRequest {
	q := fetchFrom(topic, 0, offset, wait)
	q.Rack = rack
	return q
}

// fetchAt asks a broker, and returns what it answers of partition 0.
func (c *replicated) fetchAt(id int32, q *kmsg.FetchRequest) kmsg.FetchResponseTopicPartition {
	c.t.Helper()
	k := c.nodes[id].connect()
	defer k.conn.Close()
	return ask[*kmsg.FetchResponse](k, 12, q).Topics[0].Partitions[0]
}

func (c *replicated) wantError(p kmsg.FetchResponseTopicPartition, want *kerr.Error) {
	c.t.Helper()
	if p.ErrorCode != want.Code || len(p.RecordBatches) > 0 || p.PreferredReadReplica != -1 {
		c.t.Errorf("%v with %d bytes, preferred %d; want %v", kerr.ErrorForCode(p.ErrorCode), len(p.RecordBatches), p.PreferredReadReplica, want)
	}
}

func (c *replicated) wantReferred(p kmsg.FetchResponseTopicPartition, to int32) {
	c.t.Helper()
	if p.ErrorCode != 0 || len(p.RecordBatches) > 0 || p.PreferredReadReplica != to {
		c.t.Errorf("%v with %d bytes, preferred %d; want %d", kerr.ErrorForCode(p.ErrorCode), len(p.RecordBatches), p.PreferredReadReplica, to)
	}
}

// A leader refers a reader to the replica in its rack, which serves what is committed; who
// is in no replica's rack, or the leader's, or asks for what no follower is known to have,
// is served by the leader.
func TestAReaderIsReferredToItsRack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startReplicas(t, 3, inRacks)
		c.createTopic("events")
		leads := c.partition("events").Leader
		near, far := leads%3+1, (leads+1)%3+1
		c.produce(c.leader("events"), "events", -1, numbered("v", 10)...)
		c.eventually("it knows what is committed", func() bool { return c.log(near, "events").HighWatermark() == 10 })

		p := c.fetchAt(leads, fetchOf("events", 0, rackOf(near), time.Minute))
		c.wantReferred(p, near)
		if p.HighWatermark != 10 {
			t.Errorf("it says high watermark %d", p.HighWatermark)
		}
		c.wantReferred(c.fetchAt(leads, fetchOf("events", 10, rackOf(near), time.Minute)), near)
		if got := values(t, c.fetchAt(near, fetchOf("events", 0, rackOf(near), 0)).RecordBatches); !slices.Equal(got, numbered("v", 10)) {
			t.Errorf("a follower serves %v", got)
		}
		if n := testutil.ToFloat64(c.nodes[near].metrics.followedBytes); n == 0 {
			t.Error("nobody counts what a follower serves")
		}
		if n := testutil.ToFloat64(c.nodes[leads].metrics.referred); n != 2 {
			t.Errorf("%v fetches are counted as referred", n)
		}
		for _, rack := range []string{"", rackOf(leads), "another"} {
			if got := values(t, c.fetchAt(leads, fetchOf("events", 0, rack, 0)).RecordBatches); len(got) != 10 {
				t.Errorf("rack %q: the leader serves %v", rack, got)
			}
			c.wantError(c.fetchAt(near, fetchOf("events", 0, rack, 0)), kerr.NotLeaderForPartition)
		}
		c.wantError(c.fetchAt(leads, fetchOf("events", 11, rackOf(near), 0)), kerr.OffsetOutOfRange)

		// ListOffsets stays with the leader.
		k := c.nodes[near].connect()
		defer k.conn.Close()
		list := ask[*kmsg.ListOffsetsResponse](k, 7, latestOf("events"))
		if code := list.Topics[0].Partitions[0].ErrorCode; code != kerr.NotLeaderForPartition.Code {
			t.Errorf("a follower answers ListOffsets with %v", kerr.ErrorForCode(code))
		}

		// Who is out of sync, or has not got it, is recommended to nobody.
		c.setCut(leads, far, true)
		c.setCut(far, leads, true)
		if code := c.produce(c.leader("events"), "events", 1, "w"); code != 0 {
			t.Fatal(kerr.ErrorForCode(code))
		}
		time.Sleep(inTouch) // in the bubble's time
		if p := c.fetchAt(leads, fetchOf("events", 0, rackOf(far), 0)); p.PreferredReadReplica != -1 || len(p.RecordBatches) == 0 {
			t.Errorf("referred to broker %d, which is out of touch", p.PreferredReadReplica)
		}
	})
}

func latestOf(topic string) *kmsg.ListOffsetsRequest {
	q := kmsg.NewPtrListOffsetsRequest()
	tp := kmsg.NewListOffsetsRequestTopic()
	tp.Topic = topic
	p := kmsg.NewListOffsetsRequestTopicPartition()
	p.Timestamp = -1
	tp.Partitions = append(tp.Partitions, p)
	q.Topics = append(q.Topics, tp)
	return q
}

// RULES 3.4: above its own high watermark a follower says OFFSET_NOT_AVAILABLE, once it has
// waited for it; a reader that is ahead of all it has is sent to the leader, at once. Leader
// epochs fence a reader there as at the leader.
func TestAFollowerServesNoMoreThanIsCommitted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startReplicas(t, 3, inRacks)
		c.createTopic("events")
		tp, _ := c.controller.Image().Topic("events")
		leads := c.partition("events").Leader%3 + 1 // by an election, so that there is an epoch before
		near := leads%3 + 1
		if err := c.controller.ElectLeaders(t.Context(), []controller.LeaderElection{{Partition: storage.PartitionID{Topic: tp.ID}, Leader: leads}})[0]; err != nil {
			t.Fatal(err)
		}
		c.eventually("it leads", func() bool { return c.nodes[leads].serves("events") })
		c.produce(c.leader("events"), "events", -1, numbered("v", 10)...)
		c.eventually("it knows what is committed", func() bool { return c.log(near, "events").HighWatermark() == 10 })

		began := time.Now()
		c.wantReferred(c.fetchAt(near, fetchOf("events", 11, rackOf(near), time.Minute)), leads)
		if waited := time.Since(began); waited > time.Second {
			t.Errorf("it waits %v for what it has not got", waited)
		}
		q := fetchOf("events", 0, rackOf(near), 0)
		q.Topics[0].Partitions[0].CurrentLeaderEpoch = int32(c.partition("events").LeaderEpoch) - 1
		c.wantError(c.fetchAt(near, q), kerr.FencedLeaderEpoch)
		q.Topics[0].Partitions[0].CurrentLeaderEpoch += 2
		c.wantError(c.fetchAt(near, q), kerr.UnknownLeaderEpoch)

		// With one follower cut off, what acks=1 writes is on the other's disk and not
		// committed: it is not served, and who asks for what follows it waits.
		c.setCut(leads, (leads+1)%3+1, true)
		if code := c.produce(c.leader("events"), "events", 1, "w"); code != 0 {
			t.Fatal(kerr.ErrorForCode(code))
		}
		c.eventually("it has it", func() bool { return c.log(near, "events").Progress().Synced == 11 })
		if p := c.fetchAt(near, fetchOf("events", 0, rackOf(near), 0)); len(values(t, p.RecordBatches)) != 10 || p.HighWatermark != 10 {
			t.Errorf("it serves %v, to %d", values(t, p.RecordBatches), p.HighWatermark)
		}
		began = time.Now()
		c.wantError(c.fetchAt(near, fetchOf("events", 11, rackOf(near), 200*time.Millisecond)), kerr.OffsetNotAvailable)
		if waited := time.Since(began); waited != 200*time.Millisecond {
			t.Errorf("it waits %v to hear that it is committed", waited)
		}
		p := c.fetchAt(near, fetchOf("events", 10, rackOf(near), time.Minute))
		if got := values(t, p.RecordBatches); !slices.Equal(got, []string{"w"}) {
			t.Errorf("once the other is out of sync it serves %v, %v", got, kerr.ErrorForCode(p.ErrorCode))
		}
	})
}

// A reader who has all that a follower has waits there, and is sent back to the leader if
// the follower is out of touch with that: more would not come.
func TestAFollowerOutOfTouchSendsReadersBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startReplicas(t, 3, inRacks)
		c.createTopic("events")
		leads := c.partition("events").Leader
		near := leads%3 + 1
		c.produce(c.leader("events"), "events", -1, "v0")
		c.eventually("it knows what is committed", func() bool { return c.log(near, "events").HighWatermark() == 1 })

		k := c.nodes[near].connect()
		defer k.conn.Close()
		began := ask[*kmsg.FetchResponse](k, 12, inSession(fetchOf("events", 1, rackOf(near), 0), 0, 0))
		if began.SessionID == 0 {
			t.Fatal("no session")
		}
		q := next(began.SessionID, 1, time.Minute)
		q.SetVersion(12)
		q.Rack = rackOf(near)
		k.send(q)
		c.produce(c.leader("events"), "events", -1, "v1")
		got := k.receive().(*kmsg.FetchResponse)
		if v := values(t, got.Topics[0].Partitions[0].RecordBatches); !slices.Equal(v, []string{"v1"}) {
			t.Errorf("who waited got %v", v)
		}

		c.setCut(leads, near, true)
		c.setCut(near, leads, true)
		time.Sleep(inTouch + 200*time.Millisecond) // in the bubble's time
		if got := values(t, c.fetchAt(near, fetchOf("events", 0, rackOf(near), 0)).RecordBatches); len(got) != 2 {
			t.Errorf("out of touch it serves %v", got)
		}
		c.wantReferred(c.fetchAt(near, fetchOf("events", 2, rackOf(near), time.Minute)), leads)
	})
}

// franz-go with a rack reads from the follower there, all and in order, across the loss of
// that follower and of the leader.
func TestAClientReadsFromItsRack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startReplicas(t, 3, inRacks)
		c.createTopic("events")
		leads := c.partition("events").Leader
		near := leads%3 + 1
		cl, err := kgo.NewClient(
			kgo.SeedBrokers("127.0.0.1:9093"), kgo.Rack(rackOf(near)), kgo.ConsumeTopics("events"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
			kgo.Dialer(c.dialKafka), kgo.MetadataMinAge(100*time.Millisecond), kgo.FetchMaxWait(500*time.Millisecond),
		)
		if err != nil {
			t.Fatal(err)
		}
		defer cl.Close()
		read := 0
		consume := func(n int) {
			t.Helper()
			c.produce(c.leader("events"), "events", -1, numbered(fmt.Sprint("at ", read, ": "), n)...)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			for want := read + n; read < want; {
				polled := cl.PollFetches(ctx)
				if err := polled.Err0(); err != nil {
					t.Fatalf("read %d of %d: %v", read, want, err)
				}
				polled.EachRecord(func(r *kgo.Record) {
					if r.Offset != int64(read) {
						t.Errorf("offset %d comes after %d", r.Offset, read-1)
					}
					read++
				})
			}
		}
		consume(10)
		before := testutil.ToFloat64(c.nodes[leads].metrics.fetchedBytes)
		consume(50)
		if served := testutil.ToFloat64(c.nodes[near].metrics.followedBytes); served == 0 || testutil.ToFloat64(c.nodes[leads].metrics.fetchedBytes) != before {
			t.Errorf("the follower served %v bytes, the leader went from %v to %v", served, before, testutil.ToFloat64(c.nodes[leads].metrics.fetchedBytes))
		}
		c.isolate(near)
		consume(10)
		c.rejoin(near)
		c.eventually("it is back in sync", func() bool { return len(c.partition("events").ISR) == 3 })
		c.isolate(leads)
		c.eventually("another leads", func() bool {
			l := c.partition("events").Leader
			return l != leads && l > 0 && c.nodes[l].serves("events")
		})
		consume(10)
	})
}

// dialKafka reaches the broker that listens where clients are told.
func (c *replicated) dialKafka(_ context.Context, _, address string) (net.Conn, error) {
	var port int32
	fmt.Sscanf(address, "127.0.0.1:%d", &port)
	m := c.nodes[port-9092]
	if m == nil || m.hears.isDeaf() {
		return nil, errReset
	}
	near, far := net.Pipe()
	done := make(chan struct{})
	server := m.node.server
	go func() {
		defer close(done)
		server.ServeConn(far, kafka.Info{Listener: "kafka", Transport: "tcp"})
	}()
	c.t.Cleanup(func() { near.Close(); <-done })
	return near, nil
}

// Where the log begins holds at a follower too, as soon as it has heard of it.
func TestAFollowerKnowsWhereItsLogBegins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startReplicas(t, 3, inRacks, tiered)
		c.createTopic("events")
		leads := c.partition("events").Leader
		near := leads%3 + 1
		c.produce(c.leader("events"), "events", -1, numbered("v", 10)...)
		c.eventually("it knows what is committed", func() bool { return c.log(near, "events").HighWatermark() == 10 })
		if err := c.log(near, "events").SetLogStart(4); err != nil {
			t.Fatal(err)
		}
		c.wantError(c.fetchAt(near, fetchOf("events", 3, rackOf(near), 0)), kerr.OffsetOutOfRange)
		if got := values(t, c.fetchAt(near, fetchOf("events", 4, rackOf(near), 0)).RecordBatches); !slices.Equal(got, numbered("v", 10)[4:]) {
			t.Errorf("%v", got)
		}
	})
}
