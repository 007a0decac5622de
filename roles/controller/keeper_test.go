package controller

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/bucket"
	"rustmq.dev/rustmq/storage/disk"
	"rustmq.dev/rustmq/storage/object"
)

const (
	keptDeadline = 3 * time.Minute
	keptGrace    = 2 * time.Minute
	keptAudit    = 10 * time.Minute
)

var errAway = errors.New("connection refused")

// kept is a controller beside its bucket, under a clock of its own.
type kept struct {
	t      *testing.T
	fs     *disk.Mem
	memory *bucket.Memory
	bucket *bucket.Faulty
	said   *lines
	audit  time.Duration
	ahead  atomic.Int64 // of the clock that the controller sees
	alone  bool         // the bucket has the controller's clock, as a directory has
	c      *Controller
	epoch  int64 // of broker 1
}

// lines is what was logged.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), text)
}

func newKept(t *testing.T, faults ...bucket.Rule) *kept {
	k := &kept{t: t, fs: disk.NewMem(disk.MemOptions{}), memory: bucket.NewMemory(), said: &lines{}, audit: keptAudit}
	k.bucket = bucket.NewFaulty(k.memory, faults...)
	return k
}

// inBucket runs a test with a controller that is open, and knows its bucket.
func inBucket(t *testing.T, test func(t *testing.T, k *kept)) {
	inAuditedBucket(t, keptAudit, test)
}

func inAuditedBucket(t *testing.T, every time.Duration, test func(t *testing.T, k *kept)) {
	synctest.Test(t, func(t *testing.T) {
		k := newKept(t)
		k.audit = every
		k.open()
		defer k.close()
		k.register()
		test(t, k)
	})
}

func (k *kept) open() {
	k.t.Helper()
	var id string
	if k.c != nil {
		id = k.c.Image().ClusterID()
	}
	c, err := Open(context.Background(), Options{
		NodeID: 1, FS: k.fs, ClusterID: id, BrokerSession: 100_000 * time.Hour, Tick: time.Minute, LogCapacity: memoryLogCapacity,
		Log: slog.New(slog.NewTextHandler(k.said, nil)), Now: func() time.Time { return time.Now().Add(time.Duration(k.ahead.Load())) },
		Bucket: &BucketOptions{
			Bucket: oneClock{k.bucket, k}, Prefix: "p", Deadline: keptDeadline, Grace: keptGrace, Audit: k.audit,
			Retention: 30 * time.Second, MetadataLog: time.Minute,
			Keep: func(configs map[string]string) Retention {
				keep := Retention{Age: -1, Bytes: -1}
				if age, err := time.ParseDuration(configs["age"]); err == nil {
					keep.Age = age
				}
				if age, err := time.ParseDuration(configs["retention.ms"] + "ms"); err == nil {
					keep.Age = age
				}
				return keep
			},
		},
	})
	if err != nil {
		k.t.Fatal(err)
	}
	k.c = c
}

// oneClock is a bucket that has the clock of its controller, if that is alone.
type oneClock struct {
	bucket.Bucket
	k *kept
}

func (b oneClock) Stat(ctx context.Context, key string) (bucket.Info, error) {
	i, err := b.Bucket.Stat(ctx, key)
	if b.k.alone {
		i.Modified = i.Modified.Add(time.Duration(b.k.ahead.Load()))
	}
	return i, err
}

// TestIDsStandInTheBucketBeforeTheyAreUsed: a copy of the data directory would issue
// the same, and its objects take the place of ours.
func TestIDsStandInTheBucketBeforeTheyAreUsed(t *testing.T) {
	inBucket(t, func(t *testing.T, k *kept) {
		k.bucket.Set(bucket.Rule{Op: bucket.OpPutIfAbsent, Err: errAway, Temporary: true})
		if id, err := k.c.PrepareObjects(t.Context(), 1, k.epoch, 1); err == nil {
			t.Fatalf("object id %s was given out, and the bucket does not know of it", id)
		}
		left := k.c.Image().NumObjects(metadata.Prepared)
		for range 10 {
			if id, err := k.c.PrepareObjects(t.Context(), 1, k.epoch, 32); err == nil {
				t.Fatalf("object id %s was given out, and the bucket does not know of it", id)
			}
		}
		if now := k.c.Image().NumObjects(metadata.Prepared); now > left {
			t.Fatalf("an outage left %d ids, after one try %d", now, left)
		}
		k.bucket.Set()
		if _, err := k.c.PrepareObjects(t.Context(), 1, k.epoch, 1); err != nil {
			t.Fatal(err)
		}
		if is, has := k.c.Image().Offset(), k.c.keeper().shipper.Shipped(); has < is {
			t.Fatalf("the bucket has the log up to %d of %d", has, is)
		}
	})
}

func (k *kept) close() {
	k.t.Helper()
	if err := k.c.Close(); err != nil {
		k.t.Error(err)
	}
}

func (k *kept) reopen() {
	k.t.Helper()
	k.close()
	k.open()
}

func (k *kept) register() {
	k.t.Helper()
	is, _ := k.c.Image().Bucket()
	epoch, err := k.c.RegisterBroker(context.Background(), Registration{BrokerID: 1, Incarnation: [16]byte{1}, Directory: [16]byte{1}, BucketNonce: is.Nonce})
	if err == nil {
		err = k.c.Heartbeat(context.Background(), 1, epoch)
	}
	if err != nil {
		k.t.Fatal(err)
	}
	k.epoch = epoch
}

func (k *kept) topic(name string, configs map[string]string) storage.PartitionID {
	k.t.Helper()
	t := create(k.t, k.c, NewTopic{Name: name, Partitions: 1, ReplicationFactor: 1, Configs: configs})
	if t.Err != nil {
		k.t.Fatal(t.Err)
	}
	return storage.PartitionID{Topic: t.ID}
}

func (k *kept) key(id storage.ObjectID) string {
	return object.Key("p", k.c.Image().ClusterID(), FirstIncarnation, id)
}

// prepare issues an id.
func (k *kept) prepare() storage.ObjectID {
	k.t.Helper()
	id, err := k.c.PrepareObjects(context.Background(), 1, k.epoch, 1)
	if err != nil {
		k.t.Fatal(err)
	}
	return id
}

func (k *kept) put(key string) {
	k.t.Helper()
	if err := k.memory.Put(context.Background(), key, bucket.Bytes("object")); err != nil {
		k.t.Fatal(err)
	}
}

// upload makes an object of one range in a partition.
func (k *kept) upload(p storage.PartitionID, base, end storage.Offset, at time.Time) storage.ObjectID {
	k.t.Helper()
	id := k.prepare()
	k.put(k.key(id))
	r := rangeOf(p.Topic, p.Index, base, end)
	r.Range.MaxTimestamp = at.UnixMilli()
	results, err := k.c.CommitObject(context.Background(), 1, k.epoch, id, 1000, []metadata.PartitionRange{r})
	if err != nil || results[0] != nil {
		k.t.Fatalf("commit %s: %v, %v", id, results, err)
	}
	return id
}

func (k *kept) drop(p storage.PartitionID, to storage.Offset) {
	k.t.Helper()
	if err := k.c.MoveLogStarts(context.Background(), []LogStart{{Partition: p, Offset: to}})[0]; err != nil {
		k.t.Fatal(err)
	}
}

// keys lists the bucket below a prefix.
func (k *kept) keys(prefix string) (keys []string) {
	k.t.Helper()
	if err := k.memory.List(context.Background(), prefix, "", func(i bucket.Info) bool { keys = append(keys, i.Key); return true }); err != nil {
		k.t.Fatal(err)
	}
	return keys
}

func (k *kept) has(key string) bool { return slices.Contains(k.keys(""), key) }

func (k *kept) wantGone(what string, id storage.ObjectID) {
	k.t.Helper()
	if k.has(k.key(id)) {
		k.t.Fatalf("%s: object %s is still in the bucket", what, id)
	}
	if o, known := k.c.Image().Object(id); known {
		k.t.Fatalf("%s: object %s is not forgotten: %+v", what, id, o)
	}
}

func (k *kept) wantThere(what string, id storage.ObjectID) {
	k.t.Helper()
	if !k.has(k.key(id)) {
		k.t.Fatalf("%s: object %s is gone", what, id)
	}
}

func (k *kept) logStart(p storage.PartitionID) storage.Offset {
	t, _ := k.c.Image().TopicByID(p.Topic)
	return t.Partition(p.Index).LogStart
}

// pass lets time go by, and what it brings be done.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// TestClusterMadeWhileTheBucketIsAway starts without it, serves, and claims it
// once it is there; who was registered before goes on.
func TestClusterMadeWhileTheBucketIsAway(t *testing.T) {
	hang := bucket.Rule{Hook: func(ctx context.Context, _ bucket.Op, _ string) error { <-ctx.Done(); return ctx.Err() }}
	for name, fault := range map[string]bucket.Rule{"refused": {Err: errAway, Temporary: true}, "silent": hang} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := newKept(t, fault)
				began := time.Now()
				k.open()
				defer k.close()
				if took := time.Since(began); took > identityWait {
					t.Errorf("the start took %v", took)
				}
				k.register()
				p := k.topic("t", nil)
				pass(15 * time.Minute)
				if _, set := k.c.Image().Bucket(); set || len(k.keys("")) > 0 {
					t.Fatalf("a bucket that was never reached: %v", k.keys(""))
				}
				if unmet, is := errors.AsType[*UnmetBucketError](k.c.BucketHealth()); name == "refused" && (!is || !errors.Is(unmet, errAway)) {
					t.Errorf("nobody is told: %v", k.c.BucketHealth())
				}
				k.bucket.Set()
				if name == "silent" { // the call that hangs ends with this controller's life
					k.reopen()
				}
				pass(3 * keepTick)
				is, set := k.c.Image().Bucket()
				nonce, err := ReadNonce(t.Context(), k.memory, "p", k.c.Image().ClusterID())
				if !set || err != nil || is.Nonce != nonce || is.Incarnation != FirstIncarnation {
					t.Fatalf("bucket %v, %v; nonce there %x, %v", is, set, nonce, err)
				}
				if err := k.c.Heartbeat(t.Context(), 1, k.epoch); err != nil {
					t.Errorf("the broker of before: %v", err)
				}
				if err := k.c.BucketHealth(); err != nil {
					t.Error(err)
				}
				k.upload(p, 0, 10, time.Now())
				_, err = k.c.RegisterBroker(t.Context(), Registration{BrokerID: 2, Incarnation: [16]byte{2}, Directory: [16]byte{2}})
				wantCode(t, "a broker that never saw the bucket", err, metadata.InvalidRegistration)
				pass(2 * time.Minute)
				if len(k.keys("p/"+k.c.Image().ClusterID()+"/00000001/meta/")) == 0 {
					t.Error("the metadata log is not shipped")
				}
			})
		})
	}
}

// TestClaimWhoseAnswerWasLost: the nonce that stands there is the bucket's,
// whoever wrote it.
func TestClaimWhoseAnswerWasLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKept(t, bucket.Rule{Op: bucket.OpPutIfAbsent, Err: errAway, Done: true, Limit: 1})
		k.open()
		defer k.close()
		pass(3 * keepTick)
		is, set := k.c.Image().Bucket()
		nonce, err := ReadNonce(t.Context(), k.memory, "p", k.c.Image().ClusterID())
		if !set || err != nil || is.Nonce != nonce {
			t.Fatalf("%v %v %x %v", is, set, nonce, err)
		}
	})
}

// TestAnotherBucketIsLeftAlone: after a start with another bucket, nothing is
// written there and nothing deleted, whatever waits for it.
func TestAnotherBucketIsLeftAlone(t *testing.T) {
	for name, nonce := range map[string]string{"empty": "", "of another nonce": strings.Repeat("ab", 16), "damaged": "xyz"} {
		t.Run(name, func(t *testing.T) {
			inBucket(t, func(t *testing.T, k *kept) {
				p := k.topic("t", map[string]string{"age": "10m"})
				condemned, abandoned := k.upload(p, 0, 10, time.Now()), k.prepare()
				k.upload(p, 10, 20, time.Now())
				k.drop(p, 10)
				k.close()
				own := k.bucket
				k.memory = bucket.NewMemory()
				k.bucket = bucket.NewFaulty(k.memory)
				if nonce != "" {
					if err := k.memory.Put(t.Context(), NonceKey("p", k.c.Image().ClusterID()), bucket.Bytes(nonce)); err != nil {
						t.Fatal(err)
					}
				}
				k.put(k.key(condemned))
				k.put(k.key(abandoned))
				before := k.keys("")
				k.open()
				pass(40 * time.Minute)
				if after := k.keys(""); !slices.Equal(before, after) {
					t.Fatalf("the bucket had %v, and has %v", before, after)
				}
				if k.logStart(p) != 10 {
					t.Errorf("retention went on, to %d", k.logStart(p))
				}
				if _, wrong := errors.AsType[*WrongBucketError](k.c.BucketHealth()); wrong != (name != "damaged") {
					t.Errorf("health: %v", k.c.BucketHealth())
				}
				k.bucket = own
				k.reopen()
				pass(15 * time.Minute)
				if err := k.c.BucketHealth(); err != nil {
					t.Error(err)
				}
				pass(30 * time.Minute)
				if left := k.c.Image().NumObjects(metadata.Condemned) + k.c.Image().NumObjects(metadata.Prepared); left > 0 || k.logStart(p) != 20 {
					t.Errorf("with its own bucket again: %d objects are left over, the log start is %d", left, k.logStart(p))
				}
			})
		})
	}
}

// TestObjectsAreDeletedAGraceAfterNothingNamesThem.
func TestObjectsAreDeletedAGraceAfterNothingNamesThem(t *testing.T) {
	inBucket(t, func(t *testing.T, k *kept) {
		p := k.topic("t", nil)
		first, second := k.upload(p, 0, 10, time.Now()), k.upload(p, 10, 20, time.Now())
		pass(15 * time.Minute)
		k.drop(p, 10)
		pass(keptGrace - time.Second)
		k.wantThere("within the grace", first)
		pass(time.Minute)
		k.wantGone("after it", first)
		k.wantThere("that is named", second)
		k.c.DeleteTopics(t.Context(), []TopicRef{{Name: "t"}})
		pass(keptGrace + time.Minute)
		k.wantGone("of a deleted topic", second)
	})
}

// TestNothingIsDeletedBeforeItsEndIsShipped: whoever recovers the cluster from
// the bucket must not find an object named that is gone.
func TestNothingIsDeletedBeforeItsEndIsShipped(t *testing.T) {
	inBucket(t, func(t *testing.T, k *kept) {
		p := k.topic("t", nil)
		id := k.upload(p, 0, 10, time.Now())
		pass(2 * time.Minute)
		k.bucket.Set(bucket.Rule{Op: bucket.OpPutIfAbsent, Err: errAway})
		k.drop(p, 10)
		pass(30 * time.Minute)
		k.wantThere("while its end is not in the bucket", id)
		k.bucket.Set()
		pass(2 * time.Minute)
		k.wantGone("after it", id)
	})
}

// TestDeletionGoesOnAfterAnOutage: what failed is done again, and is forgotten
// only once it was.
func TestDeletionGoesOnAfterAnOutage(t *testing.T) {
	inBucket(t, func(t *testing.T, k *kept) {
		p := k.topic("t", nil)
		var ids []storage.ObjectID
		for i := range storage.Offset(5) {
			ids = append(ids, k.upload(p, i, i+1, time.Now()))
		}
		k.drop(p, 5)
		k.bucket.Set(bucket.Rule{Op: bucket.OpDelete, Err: errAway, Every: 2}, bucket.Rule{Op: bucket.OpDelete, Err: errAway, Done: true, Every: 3})
		pass(keptGrace + 10*time.Second)
		for _, id := range ids {
			if _, known := k.c.Image().Object(id); !known && k.has(k.key(id)) {
				t.Fatalf("object %s is forgotten and still there", id)
			}
		}
		pass(3 * time.Minute)
		for _, id := range ids {
			k.wantGone("in the end", id)
		}
	})
}

// TestLatePutAfterCondemn: an upload that was given up lands after its deletion.
// The audit finds it; what was never issued here, or is no object, is left.
func TestLatePutAfterCondemn(t *testing.T) {
	inBucket(t, func(t *testing.T, k *kept) {
		p := k.topic("t", nil)
		late, named := k.prepare(), k.upload(p, 0, 10, time.Now())
		pass(keptDeadline + time.Minute)
		_, err := k.c.CommitObject(t.Context(), 1, k.epoch, late, 1000, []metadata.PartitionRange{rangeOf(p.Topic, 0, 10, 20)})
		wantCode(t, "commit after the deadline", err, metadata.ResourceNotFound)
		pass(keptGrace + time.Minute)
		k.wantGone("given up", late)
		k.put(k.key(late))
		cluster := k.c.Image().ClusterID()
		left := []string{
			k.key(1 << 40),
			object.Key("p", cluster, FirstIncarnation+1, late),
			object.Key("p", "another", FirstIncarnation, late),
			object.Key("elsewhere", cluster, FirstIncarnation, late),
			"p/" + cluster + "/00000001/data/readme",
			"p/" + cluster + "/00000001/data/ff/" + late.String(),
		}
		for _, key := range left {
			k.put(key)
		}
		k.bucket.Set(bucket.Rule{Op: bucket.OpList, Err: errAway, Done: true, Nth: 1}) // half a listing is none
		pass(keptAudit)
		k.wantThere("seen once", late)
		pass(2 * keptAudit)
		k.wantGone("seen twice", late)
		k.wantThere("that is named", named)
		for _, key := range left {
			if !k.has(key) {
				t.Errorf("%s is gone", key)
			}
		}
		if n := k.said.count("never issued here"); n != 1 {
			t.Errorf("said %d times", n)
		}
	})
}

// TestTwoIncarnationsCollect: who finds its number in the metadata log taken
// neither commits nor deletes from then on.
func TestTwoIncarnationsCollect(t *testing.T) {
	inBucket(t, func(t *testing.T, k *kept) {
		p := k.topic("t", map[string]string{"age": "10m"})
		condemned, abandoned, inUse := k.upload(p, 0, 10, time.Now()), k.prepare(), k.prepare()
		k.drop(p, 10)
		k.upload(p, 10, 20, time.Now())
		pass(time.Second)
		other := &metadata.LogEntry{Incarnation: FirstIncarnation + 1, Number: k.c.keeper().shipper.next, Term: 1, Writer: 1, Snapshot: []byte("of the other")}
		if err := k.memory.Put(t.Context(), k.c.keeper().shipper.key(other.Number), bucket.Bytes(other.Encode())); err != nil {
			t.Fatal(err)
		}
		k.topic("another", nil)
		pass(time.Minute)
		if _, fenced := errors.AsType[*FencedError](k.c.BucketHealth()); !fenced {
			t.Fatalf("health: %v", k.c.BucketHealth())
		}
		k.wantThere("fenced within the grace", condemned)
		k.put(k.key(abandoned))
		before := k.keys("")
		_, err := k.c.PrepareObjects(t.Context(), 1, k.epoch, 1)
		wantCode(t, "prepare", err, metadata.KafkaStorageError)
		_, err = k.c.CommitObject(t.Context(), 1, k.epoch, inUse, 1000, []metadata.PartitionRange{rangeOf(p.Topic, 0, 20, 30)})
		wantCode(t, "commit", err, metadata.KafkaStorageError)
		_, err = k.c.ReplaceRanges(t.Context(), 1, k.epoch, inUse, 1000, nil)
		wantCode(t, "replace", err, metadata.KafkaStorageError)
		pass(40 * time.Minute)
		if after := k.keys(""); !slices.Equal(before, after) {
			t.Fatalf("the bucket had %v, and has %v", before, after)
		}
		if o, _ := k.c.Image().Object(inUse); o == nil || o.State != metadata.Prepared || k.logStart(p) != 10 {
			t.Errorf("a fenced keeper goes on: %+v, log start %d", o, k.logStart(p))
		}
		k.reopen() // it finds the same
		pass(15 * time.Minute)
		if _, fenced := errors.AsType[*FencedError](k.c.BucketHealth()); !fenced {
			t.Errorf("after a restart: %v", k.c.BucketHealth())
		}
		k.wantThere("after a restart", condemned)
	})
}

// TestFencedWhileItDeletes: the next deletion is not done any more.
func TestFencedWhileItDeletes(t *testing.T) {
	inBucket(t, func(t *testing.T, k *kept) {
		p := k.topic("t", nil)
		first, second := k.upload(p, 0, 10, time.Now()), k.upload(p, 10, 20, time.Now())
		k.drop(p, 20)
		k.bucket.Set(bucket.Rule{Op: bucket.OpDelete, Limit: 1, Hook: func(context.Context, bucket.Op, string) error {
			_ = k.c.keeper().shipper.fence(&FencedError{Reason: "found meanwhile"})
			return nil
		}})
		pass(30 * time.Minute)
		if k.has(k.key(first)) {
			t.Fatal("nothing was deleted: the test shows nothing")
		}
		k.wantThere("after the fence", second)
	})
}

// TestStoreWithoutConditionalWrites serves a cluster all the same, with one
// warning that two of them would not be noticed.
func TestStoreWithoutConditionalWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKept(t, bucket.Rule{Op: bucket.OpPutIfAbsent, Err: bucket.ErrUnsupported})
		k.open()
		defer k.close()
		k.register()
		p := k.topic("t", nil)
		id := k.upload(p, 0, 10, time.Now())
		k.drop(p, 10)
		pass(keptGrace + 2*time.Minute)
		k.wantGone("in the end", id)
		if n := k.said.count("would not be noticed"); n != 1 {
			t.Errorf("said %d times", n)
		}
		nonce, err := ReadNonce(t.Context(), k.memory, "p", k.c.Image().ClusterID())
		k.reopen()
		pass(time.Minute)
		again, err2 := ReadNonce(t.Context(), k.memory, "p", k.c.Image().ClusterID())
		if err != nil || err2 != nil || nonce != again || k.c.BucketHealth() != nil {
			t.Errorf("after a restart: %x, %x, %v, %v, %v", nonce, again, err, err2, k.c.BucketHealth())
		}
	})
}

// TestRetentionInACluster: what is too old goes, range by range, and with it the
// objects; what is not in the bucket, and the broker's own topics, stay.
func TestRetentionInACluster(t *testing.T) {
	inBucket(t, func(t *testing.T, k *kept) {
		old, kept := k.topic("old", map[string]string{"age": "10m"}), k.topic("kept", nil)
		own := create(t, k.c, NewTopic{Name: "__own", Internal: true, Partitions: 1, ReplicationFactor: 1, Configs: map[string]string{"age": "10m"}})
		internal := storage.PartitionID{Topic: own.ID}
		ids := []storage.ObjectID{
			k.upload(old, 0, 10, time.Now().Add(-5*time.Minute)), k.upload(old, 10, 20, time.Now()),
			k.upload(kept, 0, 10, time.Now()), k.upload(internal, 0, 10, time.Now()),
		}
		for _, step := range []struct {
			wait time.Duration
			want storage.Offset
		}{{4 * time.Minute, 0}, {2 * time.Minute, 10}, {3 * time.Minute, 10}, {2 * time.Minute, 20}, {10 * time.Minute, 20}} {
			if pass(step.wait); k.logStart(old) != step.want {
				t.Fatalf("the log start is %d, want %d", k.logStart(old), step.want)
			}
		}
		if k.logStart(kept) != 0 || k.logStart(internal) != 0 {
			t.Errorf("log starts %d, %d", k.logStart(kept), k.logStart(internal))
		}
		k.wantGone("the first", ids[0])
		k.wantGone("the second", ids[1])
		k.wantThere("kept for ever", ids[2])
		k.wantThere("the broker's own", ids[3])
	})
}

// TestClockTenYearsAheadDeletesNothing: clock+10y-retention. A clock that jumps
// stops retention until somebody confirms it; one that was wrong from the start
// is held to the bucket's.
func TestClockTenYearsAheadDeletesNothing(t *testing.T) {
	const tenYears = 10 * 365 * 24 * time.Hour
	for name, away := range map[string]time.Duration{"ahead": tenYears, "back": -tenYears} {
		t.Run(name, func(t *testing.T) {
			inBucket(t, func(t *testing.T, k *kept) {
				p := k.topic("t", map[string]string{"age": "2h"})
				k.upload(p, 0, 10, time.Now())
				pass(15 * time.Minute)
				k.ahead.Store(int64(away))
				pass(30 * time.Minute)
				if k.logStart(p) != 0 {
					t.Fatalf("young records are gone up to %d", k.logStart(p))
				}
				if err := k.c.BucketHealth(); err == nil || !strings.Contains(err.Error(), "confirm-clock") {
					t.Errorf("health: %v", err)
				}
				k.ahead.Store(0) // it is right again, which nobody has confirmed
				pass(2 * time.Hour)
				if k.logStart(p) != 0 {
					t.Fatalf("it went on by itself, to %d", k.logStart(p))
				}
				k.c.ConfirmClock()
				pass(time.Minute)
				if k.logStart(p) != 10 || k.c.BucketHealth() != nil {
					t.Errorf("after it was confirmed: log start %d, %v", k.logStart(p), k.c.BucketHealth())
				}
			})
		})
	}
	t.Run("from the first start", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			k := newKept(t)
			k.ahead.Store(int64(tenYears))
			k.open()
			defer k.close()
			k.register()
			p := k.topic("t", map[string]string{"age": "2h"})
			k.upload(p, 0, 10, time.Now())
			pass(30 * time.Minute)
			if k.logStart(p) != 0 {
				t.Fatalf("young records are gone up to %d", k.logStart(p))
			}
			k.bucket.Set(bucket.Rule{Op: bucket.OpStat, Err: errAway})
			pass(2 * time.Hour)
			if k.logStart(p) != 0 {
				t.Fatal("deleted without a second clock")
			}
			k.bucket.Set()
			if pass(time.Minute); k.logStart(p) != 10 {
				t.Errorf("the log start is %d", k.logStart(p))
			}
		})
	})
}

// TestNonceIsReadWhole: bytes of the bucket are input.
func TestNonceIsReadWhole(t *testing.T) {
	want := [16]byte{0xab, 15: 0xcd}
	for text, ok := range map[string]bool{
		fmt.Sprintf("%x\n", want): true, fmt.Sprintf("%x", want): true,
		"": false, "ab": false, fmt.Sprintf("%x", want[:15]): false, fmt.Sprintf("%x\n\n", want): false, strings.Repeat("z", 32): false, strings.Repeat("0", 5000): false,
	} {
		m := bucket.NewMemory()
		if err := m.Put(t.Context(), NonceKey("p", "c"), bucket.Bytes(text)); err != nil {
			t.Fatal(err)
		}
		got, err := ReadNonce(t.Context(), m, "p", "c")
		if ok != (err == nil) || ok && got != want || errors.Is(err, bucket.ErrNotFound) {
			t.Errorf("%q: %x, %v", text, got, err)
		}
	}
}
