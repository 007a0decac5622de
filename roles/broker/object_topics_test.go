package broker

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/broker/cold"
	"rustmq.dev/rustmq/roles/broker/upload"
	"rustmq.dev/rustmq/roles/controller"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/bucket"
	"rustmq.dev/rustmq/storage/disk"
	"rustmq.dev/rustmq/storage/log"
)

// ackInterval is the default.
const ackInterval = 250 * time.Millisecond

// held is brokers over one bucket, whose topics are acknowledged from there.
type held struct {
	*replicated
	bucket *bucket.Faulty
}

func startHeld(t *testing.T, n int32) *held {
	c := &held{startReplicas(t, 0), bucket.NewFaulty(bucket.NewMemory())}
	c.controller.place = func(_ string, i int32) []int32 { return []int32{1 + i%n} }
	for id := int32(1); id <= n; id++ {
		c.begin(id, disk.NewMem(disk.MemOptions{}))
	}
	return c
}

func (c *held) begin(id int32, fs *disk.Mem, change ...func(*Options)) {
	c.start(id, fs, append([]func(*Options){tiered, func(o *Options) {
		o.Tier = &Tier{
			Bucket: c.bucket, IDAge: time.Minute, Cold: cold.Options{BlockCache: 1 << 20},
			Upload: upload.Limits{
				AckInterval: ackInterval, AckBytes: 1 << 20, Interval: 10 * time.Second, ObjectBytes: 1 << 20, OwnBytes: 1 << 19, ObjectRanges: 100,
				Parallel: 2, RetryMin: 100 * time.Millisecond, RetryMax: time.Second, Urgent: 0.9,
			},
		}
	}}, change...)...).bucketMet.Store(true)
}

func (c *held) createTopic(name string, partitions int32, configs ...string) {
	c.t.Helper()
	c.controller.createTopic(name, partitions, append(configs, "rustmq.durability", "object")...)
	for _, m := range c.nodes {
		m.settle(c.t.Context())
	}
}

// burn ends a broker, and all that it had on its disk.
func (c *held) burn(id int32) {
	c.kill(id)
	c.begin(id, disk.NewMem(disk.MemOptions{}))
}

// leads waits until a topic is led by somebody who takes batches.
func (c *held) leads(topic string) *member {
	c.t.Helper()
	var at *member
	c.eventually("the partition is led", func() bool {
		if at = c.leader(topic); at == nil {
			return false
		}
		tp := at.table.byName([]byte(topic))
		return tp != nil && tp.partition(0).role.Load().log != nil && tp.partition(0).role.Load().epoch == c.partition(topic).LeaderEpoch
	})
	return at
}

// read is what a consumer gets of a partition, from its log start on.
func (c *held) read(topic string) (out []string) {
	c.t.Helper()
	m := c.leads(topic)
	k := m.connect()
	defer k.conn.Close()
	for offset := int64(c.partition(topic).LogStart); ; {
		p := ask[*kmsg.FetchResponse](k, 12, fetchFrom(topic, 0, offset, 100*time.Millisecond)).Topics[0].Partitions[0]
		if p.ErrorCode != 0 {
			c.t.Fatalf("fetch at %d: %v", offset, kerr.ErrorForCode(p.ErrorCode))
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
		if offset >= p.HighWatermark {
			return out
		}
	}
}

func (c *held) want(topic string, want ...string) {
	c.t.Helper()
	if got := c.read(topic); !slices.Equal(got, want) {
		c.t.Fatalf("a consumer gets %q, want %q", got, want)
	}
}

// lone is a request to produce one batch.
func lone(t testing.TB, topic string, of *batch.Producer, wait time.Duration, value string) *kmsg.ProduceRequest {
	q := produceVersion(9, produceTo(topic, 0, -1, batchWith(t, batch.BuilderOptions{Producer: of}, value)))
	q.TimeoutMillis = int32(wait.Milliseconds())
	return q
}

func producedAt(r kmsg.Response) (offset int64, err error) {
	p := r.(*kmsg.ProduceResponse).Topics[0].Partitions[0]
	return p.BaseOffset, kerr.ErrorForCode(p.ErrorCode)
}

// TestAnAckOfAnObjectTopicMeansTheBucket: acks=all and acks=1 come once the object that has
// the batch is committed, soon after its interval; what comes meanwhile shares it, so that
// one producer that does not wait has all its batches in the next object.
func TestAnAckOfAnObjectTopicMeansTheBucket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startHeld(t, 1)
		c.createTopic("events", 1)
		for i, acks := range []int16{-1, 1} {
			began := time.Now()
			if code := c.produce(c.leads("events"), "events", acks, fmt.Sprint("a", i)); code != 0 {
				t.Fatal(kerr.ErrorForCode(code))
			}
			if end, took := c.partition("events").CommittedEnd(), time.Since(began); end != storage.Offset(i+1) || took < ackInterval || took > 2*ackInterval {
				t.Fatalf("acks=%d after %v, the bucket has what lies before %d", acks, took, end)
			}
		}
		began, k := time.Now(), c.leader("events").connect()
		const pipelined = 50
		for i := range pipelined {
			k.send(lone(t, "events", &batch.Producer{ID: 7, BaseSequence: int32(i)}, time.Minute, fmt.Sprint("b", i)))
		}
		for i := range pipelined {
			if offset, err := producedAt(k.receive()); err != nil || offset != int64(2+i) {
				t.Fatalf("batch %d at %d: %v", i, offset, err)
			}
		}
		if took, n := time.Since(began), c.controller.Image().NumObjects(metadata.Committed); took > 2*ackInterval || n != 3 {
			t.Fatalf("%d batches took %v, and %d objects", pipelined, took, n)
		}
		c.want("events", append([]string{"a0", "a1"}, numbered("b", pipelined)...)...)
	})
}

// TestTopicsOfOneBrokerShareAnObject, and topics that do not wait for it are in none of them.
func TestTopicsOfOneBrokerShareAnObject(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startHeld(t, 1)
		c.createTopic("one", 1)
		c.createTopic("two", 1)
		c.controller.createTopic("local", 1)
		c.nodes[1].settle(t.Context())
		if code := c.produce(c.nodes[1], "local", -1, "x"); code != 0 {
			t.Fatal(kerr.ErrorForCode(code))
		}
		k := c.leads("one").connect()
		k.send(lone(t, "one", nil, time.Minute, "a"))
		k.send(lone(t, "two", nil, time.Minute, "b"))
		for range 2 {
			if _, err := producedAt(k.receive()); err != nil {
				t.Fatal(err)
			}
		}
		if n := c.controller.Image().NumObjects(metadata.Committed); n != 1 || c.partition("local").CommittedEnd() != 0 {
			t.Fatalf("%d objects, of the other topic what lies before %d", n, c.partition("local").CommittedEnd())
		}
	})
}

// TestTheNextLeaderHasAllThatWasAcked, though the disk of the one before is gone, and that of
// the one before it: from the bucket, with what it knows of producers, so that a batch that
// is sent again is answered as the first was.
func TestTheNextLeaderHasAllThatWasAcked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startHeld(t, 3)
		c.createTopic("events", 1)
		of := &batch.Producer{ID: 7}
		var want []string
		for round := range 4 {
			m := c.leads("events")
			k := m.connect()
			for range 5 {
				value := fmt.Sprint(round, "/", of.BaseSequence)
				k.send(lone(t, "events", of, time.Minute, value))
				want = append(want, value)
				of.BaseSequence++
			}
			for range 5 {
				if _, err := producedAt(k.receive()); err != nil {
					t.Fatal(err)
				}
			}
			before := c.partition("events")
			c.burn(before.Leader)
			m = c.leads("events")
			if is := c.partition("events"); is.Leader == before.Leader || is.LeaderEpoch <= before.LeaderEpoch || len(is.Replicas) != 1 {
				t.Fatalf("led by %d under %d after %d under %d, replicas %v", is.Leader, is.LeaderEpoch, before.Leader, before.LeaderEpoch, is.Replicas)
			}
			again := *of
			again.BaseSequence--
			k = m.connect()
			k.send(lone(t, "events", &again, time.Minute, want[len(want)-1]))
			if offset, err := producedAt(k.receive()); err != nil || offset != int64(len(want)-1) {
				t.Fatalf("sent again, it is at %d of %d: %v", offset, len(want), err)
			}
			c.want("events", want...)
		}
		for id := range int32(3) { // a power cut of all, and no disk comes back
			c.kill(id + 1)
		}
		if is := c.partition("events"); is.Leader != metadata.NoLeader {
			t.Fatalf("led by %d", is.Leader)
		}
		c.begin(2, disk.NewMem(disk.MemOptions{}))
		c.want("events", want...)
	})
}

// TestAPausedLeaderOfAnObjectTopicAcksNothing: another leads by the time its object is put;
// the catalogue refuses it, and what waits for it is sent to the next leader.
func TestAPausedLeaderOfAnObjectTopicAcksNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startHeld(t, 2)
		c.createTopic("events", 1)
		old := c.leads("events")
		if code := c.produce(old, "events", -1, "a"); code != 0 {
			t.Fatal(kerr.ErrorForCode(code))
		}
		before := c.partition("events")
		resume := make(chan struct{})
		puts := make(chan struct{}, 1)
		c.bucket.Set(bucket.Rule{Op: bucket.OpPut, Limit: 1, Hook: func(context.Context, bucket.Op, string) error {
			puts <- struct{}{}
			<-resume
			return nil
		}})
		k := old.connect()
		k.send(lone(t, "events", nil, time.Minute, "never acked"))
		<-puts
		// Its images do not come, its commits do: what is told is what the catalogue says.
		c.controller.mu.Lock()
		others := c.controller.subscribers
		c.controller.subscribers = map[int]func(*metadata.Image){}
		for id, call := range others {
			c.controller.subscribers[id] = func(image *metadata.Image) {
				if c.partitionOf(image).Leader != before.Leader {
					call(image)
				}
			}
		}
		c.controller.mu.Unlock()
		next := before.Leader%2 + 1
		c.nodes[next].settle(t.Context())
		c.elect("events", next)
		c.nodes[next].images.offer(c.controller.Image())
		c.leads("events")
		if code := c.produce(c.nodes[next], "events", -1, "b"); code != 0 {
			t.Fatal(kerr.ErrorForCode(code))
		}
		refused := old.uploader.Stats().RefusedRanges
		close(resume)
		c.eventually("the catalogue refuses it", func() bool { return old.uploader.Stats().RefusedRanges > refused })
		old.images.offer(c.controller.Image())
		if _, err := producedAt(k.receive()); err != kerr.NotLeaderForPartition {
			t.Fatalf("who waits is told %v", err)
		}
		c.want("events", "a", "b")
	})
}

func (c *held) partitionOf(image *metadata.Image) *metadata.Partition {
	t, _ := image.Topic("events")
	return t.Partition(0)
}

// TestWithoutItsLeaseALeaderOfAnObjectTopicTakesNothing, with acks=all too: it could not commit.
func TestWithoutItsLeaseALeaderOfAnObjectTopicTakesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startHeld(t, 1)
		c.createTopic("events", 1)
		m := c.leads("events")
		if code := c.produce(m, "events", -1, "a"); code != 0 {
			t.Fatal(kerr.ErrorForCode(code))
		}
		m.hears.reach(false)
		k := m.connect()
		k.send(lone(t, "events", nil, 3*time.Second, "b"))
		if _, err := producedAt(k.receive()); err != kerr.RequestTimedOut {
			t.Fatalf("without a controller it is told %v", err)
		}
		k.send(lone(t, "events", nil, 3*time.Second, "c"))
		if _, err := producedAt(k.receive()); err != kerr.NotLeaderForPartition {
			t.Fatalf("without its lease it is told %v", err)
		}
		m.hears.reach(true)
		c.eventually("it takes batches again", func() bool { return c.produce(m, "events", -1, "d") == 0 })
		c.want("events", "a", "b", "d")
	})
}

// TestWithoutItsBucketNothingIsAcked, nor lost: it waits as long as the client does, and what
// the client sends again is the same batch.
func TestWithoutItsBucketNothingIsAcked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startHeld(t, 1)
		c.createTopic("events", 1)
		k := c.leads("events").connect()
		c.bucket.Set(bucket.Rule{Op: bucket.OpPut, Err: errUnreached, Temporary: true})
		of := &batch.Producer{ID: 7}
		k.send(lone(t, "events", of, time.Second, "a"))
		if _, err := producedAt(k.receive()); err != kerr.RequestTimedOut {
			t.Fatalf("it is told %v", err)
		}
		if got := c.read("events"); len(got) > 0 {
			t.Fatalf("a consumer gets %q", got)
		}
		k.send(lone(t, "events", of, time.Minute, "a"))
		time.Sleep(10 * time.Second)
		other := c.leader("events").connect()
		other.send(lone(t, "events", nil, time.Minute, "told at once")) // it would only take memory
		if _, err := producedAt(other.receive()); err != kerr.KafkaStorageError {
			t.Fatalf("after 10 s it is told %v", err)
		}
		c.bucket.Set()
		if offset, err := producedAt(k.receive()); err != nil || offset != 0 {
			t.Fatalf("at %d: %v", offset, err)
		}
		if code := c.produce(c.leader("events"), "events", -1, "b"); code != 0 {
			t.Fatal(kerr.ErrorForCode(code))
		}
		c.want("events", "a", "b")
	})
}

// TestALostCommitAnswerIsNoLoss: the image says that the range is there, and it is acked.
func TestALostCommitAnswerIsNoLoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startHeld(t, 1)
		c.createTopic("events", 1)
		m := c.leads("events")
		m.hears.mute.Store(true)
		if code := c.produce(m, "events", -1, "a"); code != 0 {
			t.Fatal(kerr.ErrorForCode(code))
		}
		m.hears.mute.Store(false)
		if code := c.produce(m, "events", -1, "b"); code != 0 {
			t.Fatal(kerr.ErrorForCode(code))
		}
		c.want("events", "a", "b")
	})
}

// TestARestartKeepsTheLogAndNotItsTail: it needs nothing of the bucket while nobody else has
// led, and what was not acked is no part of what is led next.
func TestARestartKeepsTheLogAndNotItsTail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startHeld(t, 1)
		c.createTopic("events", 1)
		m := c.leads("events")
		of := &batch.Producer{ID: 7}
		k := m.connect()
		k.send(lone(t, "events", of, time.Minute, "a"))
		if _, err := producedAt(k.receive()); err != nil {
			t.Fatal(err)
		}
		c.bucket.Set(bucket.Rule{Op: bucket.OpPut, Err: errUnreached}, bucket.Rule{Op: bucket.OpRead, Err: errUnreached})
		of.BaseSequence = 1
		k.send(lone(t, "events", of, time.Second, "b"))
		if _, err := producedAt(k.receive()); err != kerr.RequestTimedOut {
			t.Fatal(err)
		}
		c.begin(1, c.kill(1))
		m = c.leads("events")
		if got := content(t, c.log(1, "events")); !slices.Equal(got, []string{"a"}) || c.log(1, "events").End() != 1 {
			t.Fatalf("%q, and an end at %d", got, c.log(1, "events").End())
		}
		c.bucket.Set()
		k = m.connect()
		k.send(lone(t, "events", of, time.Minute, "c")) // another batch of the same number
		if offset, err := producedAt(k.receive()); err != nil || offset != 1 {
			t.Fatalf("at %d: %v", offset, err)
		}
		c.want("events", "a", "c")
	})
}

// TestALogOfAnEpochThatOthersFollowedIsGivenUp: what it has behind is not what the bucket has,
// whether it ends before or behind that.
func TestALogOfAnEpochThatOthersFollowedIsGivenUp(t *testing.T) {
	for _, more := range []int{0, 5} {
		synctest.Test(t, func(t *testing.T) {
			c := startHeld(t, 2)
			c.createTopic("events", 1)
			first := c.partition("events").Leader
			m := c.leads("events")
			if code := c.produce(m, "events", -1, "a"); code != 0 {
				t.Fatal(kerr.ErrorForCode(code))
			}
			c.bucket.Set(bucket.Rule{Op: bucket.OpPut, Err: errUnreached})
			k := m.connect()
			for range 1 + more {
				k.send(lone(t, "events", nil, time.Second, "never acked"))
			}
			for range 1 + more {
				producedAt(k.receive())
			}
			fs := c.kill(first)
			c.bucket.Set()
			if code := c.produce(c.leads("events"), "events", -1, "b", "c"); code != 0 {
				t.Fatal(kerr.ErrorForCode(code))
			}
			c.kill(c.partition("events").Leader)
			c.begin(first, fs)
			c.want("events", "a", "b", "c")
			if code := c.produce(c.leads("events"), "events", -1, "d"); code != 0 {
				t.Fatal(kerr.ErrorForCode(code))
			}
			c.want("events", "a", "b", "c", "d")
		})
	}
}

// TestALogIsKeptByItsLastCommittedBatch: one that began anew with the history of an epoch does
// not have what was adopted of that epoch later, where the cluster was brought back from its
// bucket; what it took meanwhile, under its own epoch, is not what the bucket has there.
func TestALogIsKeptByItsLastCommittedBatch(t *testing.T) {
	s := openTieredStore(t, disk.NewMem(disk.MemOptions{}))
	l, err := s.Create(storage.PartitionID{Topic: storage.TopicID{1}}, log.Config{BucketAcks: true})
	var known log.Rebuild
	known.Epoch(log.EpochStart{Epoch: 1})
	if err == nil {
		err = l.RestartFromBucket(1, known.Encode(0, 1))
	}
	if err == nil {
		err = l.BecomeLeader(2)
	}
	raw := batchOf(t, "never acked")
	if err == nil {
		err = s.Admit(t.Context(), len(raw))
	}
	if err != nil {
		t.Fatal(err)
	}
	l.Append(time.Now(), raw, log.AppendOptions{Epoch: 2}, nil)
	l.Resign()
	for _, is := range []struct {
		end   storage.Offset
		epoch storage.Epoch
		kept  bool
	}{{1, 1, true}, {2, 1, false}, {2, 2, true}, {3, 2, false}} {
		if kept := keepsLog(l, is.end, is.epoch, true); kept != is.kept {
			t.Errorf("committed to %d under %d: kept %v", is.end, is.epoch, kept)
		}
	}
}

// TestABucketThatCannotBeReadIsAskedNowAndThen: by whoever is to lead several partitions, of
// which each that cannot be read wakes the others.
func TestABucketThatCannotBeReadIsAskedNowAndThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startHeld(t, 2)
		c.controller.place = func(string, int32) []int32 { return []int32{1} }
		topics := []string{"one", "two", "three"}
		for _, topic := range topics {
			c.createTopic(topic, 1)
			if code := c.produce(c.leads(topic), topic, -1, topic); code != 0 {
				t.Fatal(kerr.ErrorForCode(code))
			}
		}
		reads, enough := 0, make(chan struct{})
		var mu sync.Mutex
		c.bucket.Set(bucket.Rule{Op: bucket.OpRead, Hook: func(ctx context.Context, _ bucket.Op, _ string) error {
			mu.Lock()
			reads++
			stuck := reads > 100
			mu.Unlock()
			if stuck { // it goes on for ever, in no time
				select {
				case <-enough:
				case <-ctx.Done():
				}
			}
			return errUnreached
		}})
		c.kill(1)
		time.Sleep(10 * time.Second)
		mu.Lock()
		n := reads
		mu.Unlock()
		close(enough)
		if n < 2*len(topics) || n > 20*len(topics) {
			t.Errorf("%d reads in ten seconds for %d partitions", n, len(topics))
		}
		c.bucket.Set()
		for _, topic := range topics {
			c.want(topic, topic)
		}
	})
}

// TestDeletedRecordsStayDeleted: the log start goes with the catalogue.
func TestDeletedRecordsStayDeleted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startHeld(t, 2)
		c.createTopic("events", 1)
		if code := c.produce(c.leads("events"), "events", -1, numbered("a", 4)...); code != 0 {
			t.Fatal(kerr.ErrorForCode(code))
		}
		for _, to := range []storage.Offset{3, 4} {
			is, tp := c.partition("events"), c.leads("events").table.byName([]byte("events"))
			if err := c.controller.AdvanceLogStart(t.Context(), is.Leader, c.leader("events").registration.epoch.Load(), []controller.LogStart{
				{Partition: storage.PartitionID{Topic: tp.id}, LeaderEpoch: is.LeaderEpoch, Offset: to},
			})[0]; err != nil {
				t.Fatal(err)
			}
			c.burn(is.Leader)
			c.want("events", numbered("a", 4)[to:]...)
		}
		if code := c.produce(c.leads("events"), "events", -1, "b"); code != 0 {
			t.Fatal(kerr.ErrorForCode(code))
		}
		c.want("events", "b")
	})
}

// TestClientsOnObjectTopics: a node alone, with a producer that does not wait, transactions,
// a consumer of their outcome, and compaction of what is in the bucket meanwhile.
func TestClientsOnObjectTopics(t *testing.T) {
	ctx := within(t, time.Minute)
	_, addr := startTiered(t, bucket.NewMemory(), func(tier *Tier) {
		tier.Upload.AckInterval, tier.Upload.AckBytes = 20*time.Millisecond, 256<<10
	})
	object := "object"
	cl := newClient(t, addr, kgo.DefaultProduceTopic("out"), kgo.ProducerBatchMaxBytes(4<<10))
	for _, name := range []string{"out", "other"} {
		if r, err := kadm.NewClient(cl).CreateTopic(ctx, 1, 1, map[string]*string{"rustmq.durability": &object}, name); err != nil || r.Err != nil {
			t.Fatal(err, r.Err)
		}
	}
	var want []string
	for i := range 500 {
		want = append(want, fmt.Sprintf("%0100d", i))
		cl.Produce(ctx, kgo.StringRecord(want[i]), func(_ *kgo.Record, err error) {
			if err != nil {
				t.Errorf("record %d: %v", i, err)
			}
		})
	}
	if err := cl.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	writer := newProducer(t, addr, "w")
	for i, how := range []kgo.TransactionEndTry{kgo.TryCommit, kgo.TryAbort, kgo.TryCommit} {
		begin(t, writer)
		send(ctx, t, writer, fmt.Sprint("t", i))
		if err := writer.ProduceSync(ctx, &kgo.Record{Topic: "other", Value: []byte(fmt.Sprint("t", i))}).FirstErr(); err != nil {
			t.Fatal(err)
		}
		end(ctx, t, writer, how)
	}
	wantValues(ctx, t, committed(t, addr, "out"), append(want, "t0", "t2")...)
	wantValues(ctx, t, committed(t, addr, "other"), "t0", "t2")
}
