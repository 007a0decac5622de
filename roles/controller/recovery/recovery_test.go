package recovery

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"rustmq.dev/rustmq/configs"
	"rustmq.dev/rustmq/consensus"
	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/controller"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/bucket"
	"rustmq.dev/rustmq/storage/disk"
	"rustmq.dev/rustmq/storage/object"
)

// cluster is a controller with a bucket, and a broker that uploads.
type cluster struct {
	*controller.Controller
	t      *testing.T
	bucket bucket.Bucket
	fs     disk.FS
	id     string
	epoch  int64 // of broker 1
	topic  storage.TopicID
}

// in runs a test with a controller that knows its bucket, and a topic of one partition.
func in(t *testing.T, test func(t *testing.T, c *cluster)) {
	synctest.Test(t, func(t *testing.T) {
		c := &cluster{t: t, bucket: bucket.NewMemory(), fs: disk.NewMem(disk.MemOptions{})}
		c.open()
		defer func() { must(t, c.Close()) }()
		c.register()
		result := c.CreateTopics(t.Context(), []controller.NewTopic{{Name: "t", Partitions: 1, ReplicationFactor: 1}}, false)[0]
		must(t, result.Err)
		c.topic = result.ID
		test(t, c)
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (c *cluster) open() {
	c.t.Helper()
	ctl, err := controller.Open(context.Background(), controller.Options{
		NodeID: 1, Directory: [16]byte{1}, FS: c.fs, ClusterID: c.id, BrokerSession: 100_000 * time.Hour, Tick: time.Minute,
		Log: slog.New(slog.DiscardHandler),
		Bucket: &controller.BucketOptions{
			Bucket: c.bucket, Prefix: "p", Deadline: 10 * time.Minute, Grace: 10 * time.Minute, Audit: time.Hour, Retention: time.Hour, MetadataLog: time.Minute,
		},
	})
	must(c.t, err)
	c.Controller, c.id = ctl, ctl.Image().ClusterID()
}

// register is a start of broker 1 from the directory that it always had.
func (c *cluster) register() {
	c.t.Helper()
	nonce, err := controller.ReadNonce(c.t.Context(), c.bucket, "p", c.id)
	must(c.t, err)
	c.epoch, err = c.RegisterBroker(c.t.Context(), controller.Registration{
		BrokerID: 1, ClusterID: c.id, Incarnation: [16]byte(fmt.Appendf(nil, "%016d", c.Image().Offset())), Directory: [16]byte{1}, BucketNonce: nonce, MaxFeatureLevel: metadata.LatestFeatureLevel,
	})
	must(c.t, err)
	must(c.t, c.Heartbeat(c.t.Context(), 1, c.epoch))
}

func (c *cluster) key(id storage.ObjectID) string {
	return object.Key("p", c.id, controller.FirstIncarnation, id)
}

// put makes an object of one range, which is not committed.
func (c *cluster) put(base, end storage.Offset, epoch storage.Epoch) (storage.ObjectID, metadata.PartitionRange, int64) {
	c.t.Helper()
	id, err := c.PrepareObjects(c.t.Context(), 1, c.epoch, 1)
	must(c.t, err)
	raw, summary := c.object(c.id, id, base, end, epoch)
	must(c.t, c.bucket.Put(c.t.Context(), c.key(id), bucket.Bytes(raw)))
	return id, metadata.PartitionRange{Partition: storage.PartitionID{Topic: c.topic}, Range: metadata.NewRange(&summary.Placements[0], epoch)}, int64(len(raw))
}

// object is the bytes of one, of any cluster.
func (c *cluster) object(cluster string, id storage.ObjectID, base, end storage.Offset, epoch storage.Epoch) ([]byte, *object.Summary) {
	c.t.Helper()
	of := storage.PartitionID{Topic: c.topic}
	var raw bytes.Buffer
	summary, err := object.Write(&raw, object.Header{Cluster: cluster, Incarnation: controller.FirstIncarnation, ID: id, Broker: 1},
		[]object.Range{{Partition: of, Topic: "t", Base: base, End: end, LastStable: end, Holes: true, Epochs: []object.EpochStart{{Epoch: epoch, Start: base}}}}, object.WriteOptions{})
	must(c.t, err)
	return raw.Bytes(), summary
}

// upload makes an object of one range and commits it.
func (c *cluster) upload(base, end storage.Offset) storage.ObjectID {
	c.t.Helper()
	p := c.partition()
	id, r, size := c.put(base, end, p.LeaderEpoch)
	results, err := c.CommitObject(c.t.Context(), 1, c.epoch, id, size, []metadata.PartitionRange{r})
	must(c.t, errors.Join(append(results, err)...))
	return id
}

func (c *cluster) partition() *metadata.Partition {
	c.t.Helper()
	_, p := c.Image().Partition(storage.PartitionID{Topic: c.topic})
	if p == nil {
		c.t.Fatal("the partition is gone")
	}
	return p
}

func (c *cluster) keys(prefix string) (keys []string) {
	c.t.Helper()
	must(c.t, c.bucket.List(c.t.Context(), prefix, "", func(i bucket.Info) bool { keys = append(keys, i.Key); return true }))
	return keys
}

func (c *cluster) read(brokers ...int32) *Plan {
	c.t.Helper()
	p, err := Read(c.t.Context(), Options{Bucket: c.bucket, Prefix: "p", Cluster: c.id, Brokers: brokers})
	must(c.t, err)
	return p
}

// shipped waits until the bucket has all that was decided.
func (c *cluster) shipped() {
	c.t.Helper()
	c.HurryLog()
	pass(2 * time.Minute)
	if c.Shipped() < c.Image().Offset()-1 {
		c.t.Fatalf("the bucket has the log up to %d of %d: %v", c.Shipped(), c.Image().Offset(), c.BucketHealth())
	}
}

func pass(d time.Duration) {
	time.Sleep(d) // of the bubble
	synctest.Wait()
}

// again opens a controller in an empty directory, with what the bucket comes to.
func (c *cluster) again(life *Life) *cluster {
	c.t.Helper()
	next := &cluster{t: c.t, bucket: c.bucket, fs: disk.NewMem(disk.MemOptions{}), id: c.id, topic: c.topic}
	must(c.t, consensus.Seed(c.t.Context(), consensus.SeedOptions{
		Member: consensus.Member{ID: 1, Directory: [16]byte{1}}, Index: life.Index, Term: life.Term, State: life.State, FS: next.fs,
	}))
	next.open()
	return next
}

// TestTwoLivesOfOneCluster (RULES 5.2): the life that was ended neither commits nor deletes
// though it runs on, over restarts too; the other goes on with what the bucket had, and
// with an upload that nobody had committed, and can be brought back in its turn.
func TestTwoLivesOfOneCluster(t *testing.T) {
	in(t, func(t *testing.T, old *cluster) {
		gone := old.upload(0, 10)
		must(t, errors.Join(old.MoveLogStarts(t.Context(), []controller.LogStart{{Partition: storage.PartitionID{Topic: old.topic}, Offset: 10}})...))
		old.upload(10, 20)
		old.shipped()
		late, _, _ := old.put(20, 30, 0)

		plan := old.read()
		if is := plan.Partitions[0]; len(plan.Partitions) != 1 || is.LogStart != 10 || is.Committed != 20 || is.End != 30 || !slices.Equal(is.Awaited, []int32{1}) || !slices.Equal(plan.Taken, []storage.ObjectID{late}) {
			t.Fatalf("plan %+v", plan)
		}
		life, err := plan.Begin(t.Context(), false)
		must(t, err)
		if _, err := plan.Begin(t.Context(), false); err == nil || !strings.Contains(err.Error(), plan.Key) {
			t.Errorf("the same number is taken twice: %v", err)
		}

		// The old one runs on, and finds out though it has nothing to put there.
		pass(10 * time.Second)
		old.wantEnded("running")
		before := old.keys("")
		pass(40 * time.Minute) // well beyond the grace of what it condemned
		if !slices.Contains(old.keys(""), old.key(gone)) || !slices.Equal(before, old.keys("")) {
			t.Errorf("the bucket had %q, and has %q", before, old.keys(""))
		}
		must(t, old.Close())
		old.open()
		pass(time.Minute)
		old.wantEnded("after a restart")

		// The other one serves.
		next := old.again(life)
		defer func() { must(t, next.Close()) }()
		if p := next.partition(); p.Leader != metadata.NoLeader || p.CommittedEnd() != 30 {
			t.Fatalf("%+v", p)
		}
		next.register()
		must(t, next.ReportEnds(t.Context(), 1, next.epoch, []metadata.PartitionEnd{{Partition: storage.PartitionID{Topic: next.topic}, Epoch: 0, End: 35}}))
		if p := next.partition(); p.Leader != 1 || p.Recovery() != nil {
			t.Fatalf("%+v", p)
		}
		next.upload(30, 40)
		next.shipped()
		if plan := next.read(); plan.Incarnation != 2 || plan.Partitions[0].Committed != 40 {
			t.Errorf("the second life comes to %+v", plan)
		}
	})
}

func (c *cluster) wantEnded(when string) {
	c.t.Helper()
	fence, ended := errors.AsType[*controller.FencedError](c.BucketHealth())
	if !ended || fence.Incarnation != 2 || !strings.Contains(fence.Error(), "docs/cluster.md") {
		c.t.Errorf("%s: %v", when, c.BucketHealth())
	}
	ctx := c.t.Context()
	_, ids := c.PrepareObjects(ctx, 1, c.epoch, 1)
	_, producers, err := c.AllocateProducerIDs(ctx, 1, c.epoch)
	if producers > 0 {
		c.t.Errorf("%s: it gives out producer ids", when)
	}
	for what, err := range map[string]error{
		"object ids":   ids,
		"producer ids": err,
		"a lease":      c.Heartbeat(ctx, 1, c.epoch),
		"a topic":      c.CreateTopics(ctx, []controller.NewTopic{{Name: "another", Partitions: 1, ReplicationFactor: 1}}, false)[0].Err,
		"a member":     c.AddController(ctx, 2),
		"a departure":  c.RemoveController(ctx, 2),
	} {
		if code := metadata.CodeOf(err); code != metadata.KafkaStorageError && code != metadata.PolicyViolation || !strings.Contains(fmt.Sprint(err), "docs/cluster.md") {
			c.t.Errorf("%s: it grants %s: %v", when, what, err)
		}
	}
	if p := c.partition(); p.Leader != metadata.NoLeader || c.Image().EndedBy() != 2 || c.Ended() == nil {
		c.t.Errorf("%s: %+v, ended by %d", when, p, c.Image().EndedBy())
	}
}

// TestALivingClusterAnswers: before another life of it begins, a cluster is asked whether it
// lives; one that does says so through the bucket, and nothing is left of the question. One
// that has stopped does not hold it up, and neither does what was asked before.
func TestALivingClusterAnswers(t *testing.T) {
	in(t, func(t *testing.T, c *cluster) {
		c.shipped()
		before := c.keys("")
		plan := c.read()
		begun := time.Now()
		for range 2 {
			if lives, is := errors.AsType[*LivesError](plan.Ask(t.Context())); !is || !strings.Contains(lives.Error(), "controller-1 leads") {
				t.Fatalf("%v", lives)
			}
			if left := c.keys(""); !slices.Equal(left, before) {
				t.Errorf("the bucket had %q, and has %q", before, left)
			}
		}
		if took := time.Since(begun); took > time.Minute {
			t.Errorf("it took %s", took)
		}
		must(t, c.Close())
		plan = c.read()
		must(t, plan.Ask(t.Context()))
		must(t, plan.Ask(t.Context())) // there is a question that nobody took back
		_, err := plan.Begin(t.Context(), false)
		must(t, err)
		c.open()
		pass(time.Minute)
		c.wantEnded("started again")
	})
}

// slowBucket takes its time for each request.
type slowBucket struct {
	bucket.Bucket
	late time.Duration
}

func (b *slowBucket) Stat(ctx context.Context, key string) (bucket.Info, error) {
	defer time.Sleep(b.late) // simulated: what was there when it was asked is told late
	return b.Bucket.Stat(ctx, key)
}

func (b *slowBucket) ReadAt(ctx context.Context, key string, p []byte, off int64) error {
	time.Sleep(b.late) // simulated
	return b.Bucket.ReadAt(ctx, key, p, off)
}

func (b *slowBucket) Put(ctx context.Context, key string, content io.WriterTo) error {
	time.Sleep(b.late) // simulated
	return b.Bucket.Put(ctx, key, content)
}

// TestALivingClusterAnswersThroughASlowBucket: who asks has the same bucket, and waits for an
// answer by what its own requests take.
func TestALivingClusterAnswersThroughASlowBucket(t *testing.T) {
	in(t, func(t *testing.T, c *cluster) {
		c.shipped()
		plan := c.read()
		must(t, c.Close())
		slow := &slowBucket{c.bucket, 6 * time.Second}
		c.bucket, plan.options.Bucket = slow, slow
		c.open()
		pass(5 * time.Minute) // until it leads, and its log in the bucket is found
		if lives, is := errors.AsType[*LivesError](plan.Ask(t.Context())); !is {
			t.Errorf("%v", lives)
		}
		must(t, c.Close())
		must(t, plan.Ask(t.Context()))
		slow.late = 0
		c.open()
	})
}

// TestAskedOfADamagedAnswer: what cannot be read answers nothing.
func TestAskedOfADamagedAnswer(t *testing.T) {
	in(t, func(t *testing.T, c *cluster) {
		c.shipped()
		must(t, c.Close())
		prefix := controller.LogPrefix("p", c.id, 1)
		for _, raw := range []string{"", "life", "life 1 00 x 00000000\n", string(controller.LifeText([16]byte{}, "somebody"))} {
			must(t, c.bucket.Put(t.Context(), controller.AnswerKey(prefix), bucket.Bytes(raw)))
			must(t, c.read().Ask(t.Context()))
		}
		c.open()
	})
}

// TestALifeThatNeverShipped: it was begun, and lost again before it wrote an entry.
func TestALifeThatNeverShipped(t *testing.T) {
	in(t, func(t *testing.T, c *cluster) {
		c.upload(0, 10)
		c.shipped()
		_, err := c.read().Begin(t.Context(), false)
		must(t, err)
		second := c.read(7)
		if second.Incarnation != 2 || !strings.Contains(second.Key, "/00000002/meta/") || second.Partitions[0].Committed != 10 || len(second.Partitions[0].Awaited) != 0 {
			t.Fatalf("%+v", second)
		}
		_, err = second.Begin(t.Context(), false)
		must(t, err)
		if third := c.read(); third.Incarnation != 3 || third.Partitions[0].Committed != 10 {
			t.Errorf("%+v", third)
		}
	})
}

// makeHeld makes a topic of one partition whose acks wait for the bucket.
func (c *cluster) makeHeld(name string) storage.TopicID {
	c.t.Helper()
	result := c.CreateTopics(c.t.Context(), []controller.NewTopic{{Name: name, Partitions: 1, ReplicationFactor: 1, Configs: map[string]string{configs.DurabilityKey: configs.ObjectDurability}}}, false)[0]
	must(c.t, result.Err)
	return result.ID
}

// TestWhatTheBucketHoldsIsNotLost: a topic whose acks wait for the bucket hinders no
// recovery, and waits for nobody's word, whether its broker's directory is there or not.
func TestWhatTheBucketHoldsIsNotLost(t *testing.T) {
	in(t, func(t *testing.T, c *cluster) {
		held := c.makeHeld("held")
		c.commit(held, false, sent(t, 7, 3), ends(7, 3, true))
		c.shipped()
		for _, brokers := range [][]int32{nil, {}} {
			p := c.read(brokers...)
			if brokers != nil {
				var err error
				p, err = Read(t.Context(), Options{Bucket: c.bucket, Prefix: "p", Cluster: c.id, Brokers: brokers})
				must(t, errors.Join(err, p.UnknownTorn, p.UnknownBeyond))
			}
			i := slices.IndexFunc(p.Partitions, func(is Partition) bool { return is.Topic == "held" })
			if is := p.Partitions[i]; !is.Held || is.End != 2 || len(is.Awaited) != 0 {
				t.Errorf("of brokers %v: %+v", brokers, is)
			}
			if is := p.Partitions[1-i]; is.Held || len(is.Awaited) == 0 != (brokers != nil) {
				t.Errorf("of brokers %v, on their disks: %+v", brokers, is)
			}
		}
		life, err := c.read().Begin(t.Context(), false)
		must(t, err)
		again := c.again(life)
		defer func() { must(t, again.Close()) }()
		again.register()
		if _, p := again.Image().Partition(storage.PartitionID{Topic: held}); p.Leader != 1 || p.CommittedEnd() != 2 {
			t.Errorf("in the next life: %+v", p)
		}
	})
}

// TestDamageIsNotAbsence: a log that is not whole is not brought back as if it were.
func TestDamageIsNotAbsence(t *testing.T) {
	in(t, func(t *testing.T, c *cluster) {
		for i := range storage.Offset(4) {
			c.upload(i, i+1)
			c.shipped()
		}
		log := c.keys(controller.LogPrefix("p", c.id, 1))
		if len(log) < 4 {
			t.Fatalf("the log is %q: too little to see anything", log)
		}
		for _, key := range log {
			raw, err := bucket.ReadAll(t.Context(), c.bucket, key, 1<<20)
			must(t, err)
			must(t, c.bucket.Delete(t.Context(), key))
			// Without its last entry a log is whole, and shorter.
			if p, err := Read(t.Context(), Options{Bucket: c.bucket, Prefix: "p", Cluster: c.id}); key != log[len(log)-1] && (err == nil || !strings.Contains(err.Error(), "the metadata log in the bucket")) {
				t.Errorf("without %s: %+v", key, p)
			}
			damaged := slices.Clone(raw)
			damaged[len(damaged)/2] ^= 1
			must(t, c.bucket.Put(t.Context(), key, bucket.Bytes(damaged)))
			if p, err := Read(t.Context(), Options{Bucket: c.bucket, Prefix: "p", Cluster: c.id}); err == nil || !strings.Contains(err.Error(), key) {
				t.Errorf("with a flipped bit in %s: %+v, %v", key, p, err)
			}
			must(t, c.bucket.Put(t.Context(), key, bucket.Bytes(raw)))
		}
	})
}

// TestUploadsThatAreNotWholeAreLeftOut: nobody was told of them.
func TestUploadsThatAreNotWholeAreLeftOut(t *testing.T) {
	in(t, func(t *testing.T, c *cluster) {
		c.upload(0, 10)
		id, _, _ := c.put(10, 20, 0)
		c.shipped()
		raw, err := bucket.ReadAll(t.Context(), c.bucket, c.key(id), 1<<20)
		must(t, err)
		raw[len(raw)-70] ^= 1
		must(t, c.bucket.Put(t.Context(), c.key(id), bucket.Bytes(raw)))
		if p := c.read(); p.Partitions[0].End != 10 || len(p.Damaged) != 1 || !strings.Contains(p.Damaged[0], c.key(id)) {
			t.Errorf("%+v", p)
		}
		// One of another cluster, that has the same id there.
		raw, _ = c.object("another", id, 10, 20, 0)
		must(t, c.bucket.Put(t.Context(), c.key(id), bucket.Bytes(raw)))
		if p := c.read(); p.Partitions[0].End != 10 || len(p.Damaged) != 1 {
			t.Errorf("%+v", p)
		}
	})
}

// TestAnotherBucketIsNotRecovered: one whose log is a copy of another's.
func TestAnotherBucketIsNotRecovered(t *testing.T) {
	in(t, func(t *testing.T, c *cluster) {
		c.upload(0, 10)
		c.shipped()
		must(t, c.bucket.Put(t.Context(), controller.NonceKey("p", c.id), bucket.Bytes(strings.Repeat("ab", 16)+"\n")))
		_, err := Read(t.Context(), Options{Bucket: c.bucket, Prefix: "p", Cluster: c.id})
		if _, wrong := errors.AsType[*controller.WrongBucketError](err); !wrong {
			t.Error(err)
		}
		_, err = Read(t.Context(), Options{Bucket: c.bucket, Prefix: "p", Cluster: "another"})
		if err == nil || !strings.Contains(err.Error(), "no metadata log of cluster another") {
			t.Error(err)
		}
	})
}

// TestStoreWithoutConditionalWritesNeedsForce (RULES 7).
func TestStoreWithoutConditionalWritesNeedsForce(t *testing.T) {
	in(t, func(t *testing.T, c *cluster) {
		c.upload(0, 10)
		c.shipped()
		c.bucket = unconditional{c.bucket}
		plan := c.read()
		if _, err := plan.Begin(t.Context(), false); !errors.Is(err, bucket.ErrUnsupported) {
			t.Fatal(err)
		}
		_, err := plan.Begin(t.Context(), true)
		must(t, err)
		_, err = plan.Begin(t.Context(), true)
		if _, taken := errors.AsType[*TakenError](err); !taken {
			t.Error(err)
		}
	})
}

type unconditional struct{ bucket.Bucket }

func (unconditional) PutIfAbsent(context.Context, string, []byte) error {
	return &bucket.Error{Op: "putifabsent", Err: bucket.ErrUnsupported}
}

// TestClustersOfABucket are found without listing what they hold.
func TestClustersOfABucket(t *testing.T) {
	b := bucket.NewMemory()
	for _, key := range []string{"x", "p/one/nonce", "p/one/00000001/data/x", "p/two-2/nonce", "p/no cluster/x", "q/three/nonce"} {
		must(t, b.Put(t.Context(), key, bucket.Bytes("x")))
	}
	ids, err := Clusters(t.Context(), b, "p")
	if want := []string{"one", "two-2"}; err != nil || !slices.Equal(ids, want) {
		t.Errorf("%q, want %q: %v", ids, want, err)
	}
	if ids, err = Clusters(t.Context(), b, "other"); err != nil || len(ids) > 0 {
		t.Errorf("%q, %v", ids, err)
	}
}
