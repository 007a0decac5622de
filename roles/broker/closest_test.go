package broker

import (
	"context"
	"errors"
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
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/bucket"
	"rustmq.dev/rustmq/storage/disk"
	"rustmq.dev/rustmq/storage/log"
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

// startCold starts three brokers in racks of their own over one bucket, with a topic of one
// partition that all have.
func startCold(t *testing.T) *held {
	c := startHeld(t, 0)
	c.controller.place = nil
	for id := int32(1); id <= 3; id++ {
		c.controller.replicas = append(c.controller.replicas, id)
		c.begin(id, disk.NewMem(disk.MemOptions{}), inRacks)
	}
	c.replicated.createTopic("events")
	return c
}

// inBucketAlone waits until a broker has nothing of events that the bucket has too.
func (c *held) inBucketAlone(id int32, end storage.Offset) {
	c.t.Helper()
	c.eventually("the bucket has it", func() bool { return c.partition("events").CommittedEnd() == end })
	c.eventually(fmt.Sprintf("broker %d has given it up", id), func() bool {
		if err := c.nodes[id].store.Evict(c.t.Context()); err != nil {
			c.t.Fatal(err)
		}
		return c.log(id, "events").LocalStart() == end
	})
}

// readAt is what a reader of a rack gets of events from a broker, from an offset to the end
// that it is told, and what it is told to leave out.
func (c *held) readAt(id int32, offset int64, isolation int8) (out []string, aborted []int64) {
	c.t.Helper()
	k := c.nodes[id].connect()
	defer k.conn.Close()
	for {
		q := fetchOf("events", offset, rackOf(id), time.Second)
		q.IsolationLevel, q.MaxBytes = isolation, 1<<20
		p := ask[*kmsg.FetchResponse](k, 12, q).Topics[0].Partitions[0]
		if p.ErrorCode != 0 || p.PreferredReadReplica != -1 {
			c.t.Fatalf("a fetch at %d gets %v, and is referred to %d", offset, kerr.ErrorForCode(p.ErrorCode), p.PreferredReadReplica)
		}
		for _, a := range p.AbortedTransactions {
			if !slices.Contains(aborted, a.FirstOffset) {
				aborted = append(aborted, a.FirstOffset)
			}
		}
		for raw := p.RecordBatches; len(raw) > 0; {
			b, rest, err := batch.Next(raw)
			if err != nil {
				c.t.Fatal(err)
			}
			if !b.IsControl() {
				out = append(out, values(c.t, b)...)
			}
			offset, raw = int64(b.NextOffset()), rest
		}
		if end := p.LastStableOffset; isolation == 1 && offset >= end || offset >= p.HighWatermark {
			return out, aborted
		}
	}
}

// A follower serves a reader of its rack what only the bucket has (KIP-392, D5), and goes on
// with what it has itself; transactions that were aborted there are named. While the bucket
// is away it says so, and serves what it has.
func TestAFollowerReadsFromTheBucket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startCold(t)
		leads := c.partition("events").Leader
		near := leads%3 + 1
		c.produced("events", numbered("cold", 6)...)
		l := c.log(leads, "events")
		for i, commit := range []bool{false, true} { // at 6 and 8, with a marker each
			id := int64(1000 + i)
			b := batchWith(t, batch.BuilderOptions{Transactional: true, Producer: &batch.Producer{ID: id}}, fmt.Sprint("of ", id))
			g, _, err := l.BeginVerification(id, 0, 0)
			if err == nil {
				err = c.nodes[leads].store.Admit(t.Context(), len(b))
			}
			if err != nil {
				t.Fatal(err)
			}
			done, marked := make(appendAnswer, 1), make(chan error, 1)
			l.Append(time.Now(), b, log.AppendOptions{Epoch: storage.NoEpoch, Guard: g}, done)
			if r := <-done; r.Err != nil {
				t.Fatal(r.Err)
			}
			c.nodes[leads].markPartition(t.Context(), "events", 0, log.Marker{ProducerID: id, Commit: commit}, func(err error) { marked <- err })
			if err := <-marked; err != nil {
				t.Fatal(err)
			}
		}
		c.eventually("it knows what is committed", func() bool { return c.log(near, "events").HighWatermark() == 10 })
		c.inBucketAlone(near, 10)
		c.produced("events", numbered("tail", 3)...)
		c.eventually("it has the tail", func() bool { return c.log(near, "events").HighWatermark() == 13 })

		c.wantReferred(c.fetchAt(leads, fetchOf("events", 0, rackOf(near), time.Minute)), near)
		all := slices.Concat(numbered("cold", 6), []string{"of 1000", "of 1001"}, numbered("tail", 3))
		for offset := range 6 {
			if got, _ := c.readAt(near, int64(offset), 0); !slices.Equal(got, all[offset:]) {
				t.Errorf("from %d on it serves %q", offset, got)
			}
		}
		if got, aborted := c.readAt(near, 0, 1); !slices.Equal(got, all) || !slices.Equal(aborted, []int64{6}) {
			t.Errorf("it serves %q, and says that those from %d on were aborted", got, aborted)
		}
		// With a transaction under way, what it says of the end is its own: committed to 14, stable to 13.
		open := batchWith(t, batch.BuilderOptions{Transactional: true, Producer: &batch.Producer{ID: 1002}}, "of 1002")
		g, _, err := l.BeginVerification(1002, 0, 0)
		if err == nil {
			err = c.nodes[leads].store.Admit(t.Context(), len(open))
		}
		if err != nil {
			t.Fatal(err)
		}
		done := make(appendAnswer, 1)
		l.Append(time.Now(), open, log.AppendOptions{Epoch: storage.NoEpoch, Guard: g}, done)
		if r := <-done; r.Err != nil {
			t.Fatal(r.Err)
		}
		c.eventually("it has that too", func() bool { return c.log(near, "events").HighWatermark() == 14 })
		for offset := range 6 {
			for _, q := range []*kmsg.FetchRequest{fetchOf("events", int64(offset), rackOf(near), time.Second), committedOnly(fetchOf("events", int64(offset), rackOf(near), time.Second))} {
				p := c.fetchAt(near, q)
				if p.ErrorCode != 0 || p.HighWatermark != 14 || p.LastStableOffset != 13 || p.LogStartOffset != 0 || len(p.RecordBatches) == 0 {
					t.Errorf("a cold fetch at %d, isolation %d: %v, %d bytes, high watermark %d, stable to %d, begins at %d", offset, q.IsolationLevel,
						kerr.ErrorForCode(p.ErrorCode), len(p.RecordBatches), p.HighWatermark, p.LastStableOffset, p.LogStartOffset)
				}
			}
		}
		if got, _ := c.readAt(near, 0, 1); !slices.Equal(got, all) {
			t.Errorf("of what is stable it serves %q", got)
		}

		c.bucket.Set(bucket.Rule{Op: bucket.OpRead, Err: errors.New("503"), Temporary: true})
		again := c.nodes[near].cold
		again.Maintain(time.Now().Add(24 * time.Hour)) // nothing of it is in memory any more
		if p := c.fetchAt(near, fetchOf("events", 0, rackOf(near), time.Second)); p.ErrorCode == 0 && len(p.RecordBatches) > 0 {
			t.Error("it serves what nobody could read")
		} else if p.ErrorCode == kerr.OffsetOutOfRange.Code {
			t.Error("what cannot be read is said not to be there")
		}
		if got, _ := c.readAt(near, 10, 0); !slices.Equal(got, append(numbered("tail", 3), "of 1002")) {
			t.Errorf("while the bucket is away it serves %q", got)
		}
		c.bucket.Set()
		time.Sleep(10 * time.Second) // in the bubble's time
		if got, _ := c.readAt(near, 0, 0); !slices.Equal(got, append(slices.Clone(all), "of 1002")) {
			t.Errorf("when the bucket is back it serves %q", got)
		}
	})
}

// A follower that has begun anew at the committed end has never had what lies before, and
// serves it.
func TestAFollowerThatBeganAnewReadsFromTheBucket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startCold(t)
		leads := c.partition("events").Leader
		near := leads%3 + 1
		c.produced("events", numbered("a", 4)...)
		left := c.kill(near)
		c.produced("events", numbered("b", 4)...)
		c.inBucketAlone(leads, 8)
		c.begin(near, left, inRacks)
		c.eventually("it is back in sync", func() bool { return len(c.partition("events").ISR) == 3 })
		c.produced("events", "tail")
		c.eventually("it has the tail", func() bool { return c.log(near, "events").HighWatermark() == 9 })
		if at := c.log(near, "events").LocalStart(); at != 8 {
			t.Fatalf("its log begins at %d: the test shows nothing", at)
		}
		want := slices.Concat(numbered("a", 4), numbered("b", 4), []string{"tail"})
		for _, isolation := range []int8{0, 1} {
			if got, _ := c.readAt(near, 0, isolation); !slices.Equal(got, want) {
				t.Errorf("isolation %d: it serves %q", isolation, got)
			}
		}
	})
}
