package broker

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/broker/upload"
	"rustmq.dev/rustmq/roles/controller"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/bucket"
	"rustmq.dev/rustmq/storage/disk"
	"rustmq.dev/rustmq/storage/log"
	"rustmq.dev/rustmq/storage/wal"
)

// besideBucket is a node of one process: a controller that stores in one bucket,
// and brokers that may reach another.
type besideBucket struct {
	t     *testing.T
	fs    disk.FS
	c     *controller.Controller
	store *log.Store
	b     *Broker
	nonce [16]byte // what meta.json remembers
}

func newBesideBucket(t *testing.T, of bucket.Bucket) *besideBucket {
	n := &besideBucket{t: t, fs: disk.NewMem(disk.MemOptions{})}
	n.openController(of)
	return n
}

func (n *besideBucket) openController(of bucket.Bucket) {
	n.t.Helper()
	cluster := ""
	if n.c != nil {
		cluster = n.c.Image().ClusterID()
	}
	c, err := controller.Open(n.t.Context(), controller.Options{
		NodeID: 1, Directory: [16]byte{1}, FS: n.fs, Tick: time.Minute, ClusterID: cluster,
		Bucket: &controller.BucketOptions{
			Bucket: of, Deadline: time.Hour, Grace: time.Hour, Audit: time.Hour, Retention: time.Hour, MetadataLog: time.Hour,
			Keep: func(map[string]string) controller.Retention { return controller.Retention{Age: -1, Bytes: -1} },
		},
	})
	if err != nil {
		n.t.Fatal(err)
	}
	n.c = c
}

// open starts a broker that reaches a bucket.
func (n *besideBucket) open(b bucket.Bucket) error {
	n.t.Helper()
	store, err := log.Open(n.t.Context(), log.Options{FS: n.fs, Dir: "wal", Tiered: true, Hold: true, WAL: wal.Options{Capacity: 8 << 20, SegmentSize: 1 << 20, Memory: 2 << 20}})
	if err != nil {
		n.t.Fatal(err)
	}
	n.store = store
	n.b, err = Open(n.t.Context(), Options{
		NodeID: 1, Store: store, Controller: n.c, Listeners: []metadata.Listener{{Name: "kafka", Host: "127.0.0.1", Port: 9092, Protocol: "PLAINTEXT"}},
		Tier: &Tier{
			Bucket: b, IDAge: time.Hour, Shipped: n.c.Shipped, HurryLog: n.c.HurryLog, ShippedOnce: n.c.ShippedOnce, Nonce: n.nonce, Remember: func(nonce [16]byte) error { n.nonce = nonce; return nil },
			Upload: upload.Limits{
				Interval: time.Second, ObjectBytes: 1 << 20, OwnBytes: 1 << 19, ObjectRanges: 100, Parallel: 2,
				RetryMin: time.Second, RetryMax: time.Second, Urgent: 0.5,
			},
		},
	})
	return err
}

func (n *besideBucket) close() {
	n.t.Helper()
	if err := errors.Join(n.b.Close(), n.store.Close()); err != nil {
		n.t.Error(err)
	}
}

type appendAnswer chan log.AppendResult

func (a appendAnswer) Appended(r log.AppendResult) { a <- r }

// produce makes a topic with a record in it.
func (n *besideBucket) produce() storage.PartitionID {
	n.t.Helper()
	made := n.c.CreateTopics(n.t.Context(), []controller.NewTopic{{Name: "t", Partitions: 1, ReplicationFactor: 1}}, false)[0]
	if made.Err != nil {
		n.t.Fatal(made.Err)
	}
	synctest.Wait()
	id := storage.PartitionID{Topic: made.ID}
	n.append(id)
	return id
}

// evict takes from memory and from the WAL what the bucket has, once the bucket's
// metadata log names it.
func (n *besideBucket) evict() {
	n.t.Helper()
	n.c.HurryLog()
	time.Sleep(time.Second)
	if err := n.store.Evict(n.t.Context()); err != nil {
		n.t.Fatal(err)
	}
}

// append appends a record.
func (n *besideBucket) append(id storage.PartitionID) {
	n.t.Helper()
	l, ok := n.store.Log(id)
	if !ok {
		n.t.Fatal("no log")
	}
	w := batch.NewBuilder(batch.BuilderOptions{})
	w.Add(time.Now().UnixMilli(), nil, []byte("value"))
	raw, err := w.Build()
	if err == nil {
		err = n.store.Admit(n.t.Context(), len(raw))
	}
	if err != nil {
		n.t.Fatal(err)
	}
	answer := make(appendAnswer, 1)
	l.Append(time.Now(), raw, log.AppendOptions{Epoch: storage.NoEpoch}, answer)
	if r := <-answer; r.Err != nil {
		n.t.Fatal(r.Err)
	}
}

func (n *besideBucket) committedEnd(id storage.PartitionID) storage.Offset {
	t, _ := n.c.Image().TopicByID(id.Topic)
	return t.Partition(id.Index).CommittedEnd()
}

// TestBrokerOfAClusterMadeWithoutItsBucket uploads once the bucket is there, and
// starts again without it: it remembers which one it was, though it came after
// the registration.
func TestBrokerOfAClusterMadeWithoutItsBucket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		away := bucket.Rule{Err: errors.New("connection refused")}
		b := bucket.NewFaulty(bucket.NewMemory(), away)
		n := newBesideBucket(t, b)
		defer n.c.Close()
		if err := n.open(b); err != nil {
			t.Fatal(err)
		}
		id := n.produce()
		time.Sleep(time.Minute)
		if n.committedEnd(id) != 0 {
			t.Fatal("committed to a bucket that is away")
		}
		b.Set()
		time.Sleep(10 * time.Second)
		if is, set := n.c.Image().Bucket(); !set || n.committedEnd(id) != 1 || n.nonce != is.Nonce {
			t.Fatalf("committed up to %d, bucket %x, remembered %x", n.committedEnd(id), is.Nonce, n.nonce)
		}
		n.close()
		b.Set(away)
		if err := n.open(b); err != nil {
			t.Fatalf("it does not start without the bucket: %v", err)
		}
		n.close()
	})
}

// TestRestartInAnOutageLeavesRoom: what the bucket's metadata log was known to name
// makes room after a restart that does not reach the bucket, and what was committed
// since does not: who has nothing but the bucket may not know of it.
func TestRestartInAnOutageLeavesRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		away := bucket.Rule{Err: errors.New("connection refused")}
		b := bucket.NewFaulty(bucket.NewMemory())
		n := newBesideBucket(t, b)
		if err := n.open(b); err != nil {
			t.Fatal(err)
		}
		id := n.produce()
		time.Sleep(time.Minute)
		n.c.HurryLog()
		time.Sleep(time.Second)
		shipped := n.c.Shipped()
		// The last object comes into the bucket, and its commit does not.
		n.append(id)
		b.Set(bucket.Rule{Op: bucket.OpPutIfAbsent, Prefix: n.c.Image().ClusterID() + "/00000001/meta/", From: 2, Err: errors.New("connection refused")})
		time.Sleep(time.Minute)
		if n.committedEnd(id) != 2 || n.c.Shipped() < shipped {
			t.Fatalf("committed up to %d, shipped %d after %d", n.committedEnd(id), n.c.Shipped(), shipped)
		}
		b.Set(away)
		for range 2 {
			n.close()
			if err := n.c.Close(); err != nil {
				t.Fatal(err)
			}
			n.openController(b)
			if err := n.open(b); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
			if err := n.store.Evict(t.Context()); err != nil {
				t.Fatal(err)
			}
			l, _ := n.store.Log(id)
			if at := l.LocalStart(); at != 1 {
				t.Fatalf("the log begins at %d, the bucket's metadata log names 1 of %d", at, n.committedEnd(id))
			}
		}
		b.Set()
		time.Sleep(10 * time.Minute)
		n.c.HurryLog()
		time.Sleep(time.Minute)
		if err := n.store.Evict(t.Context()); err != nil {
			t.Fatal(err)
		}
		if l, _ := n.store.Log(id); l.LocalStart() != 2 {
			t.Errorf("after the outage the log begins at %d", l.LocalStart())
		}
		n.close()
		n.c.Close()
	})
}

// TestPrivateBucketGetsNothing: a broker that was registered before the cluster
// had a bucket, and reaches another one, uploads nothing there.
func TestPrivateBucketGetsNothing(t *testing.T) {
	for name, nonce := range map[string]string{"empty": "", "of another nonce": "abababababababababababababababab"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				shared := bucket.NewFaulty(bucket.NewMemory(), bucket.Rule{Err: errors.New("connection refused")})
				n := newBesideBucket(t, shared)
				defer n.c.Close()
				private := bucket.NewFaulty(bucket.NewMemory(), bucket.Rule{Op: bucket.OpRead | bucket.OpStat, Err: errors.New("not yet"), Limit: 1}, bucket.Rule{Op: bucket.OpPut})
				if nonce != "" {
					if err := private.PutIfAbsent(t.Context(), controller.NonceKey("", n.c.Image().ClusterID()), []byte(nonce)); err != nil {
						t.Fatal(err)
					}
				}
				if err := n.open(private); err != nil {
					t.Fatal(err)
				}
				defer n.close()
				id := n.produce()
				shared.Set()
				time.Sleep(10 * time.Minute)
				if _, set := n.c.Image().Bucket(); !set {
					t.Fatal("the cluster has no bucket: the test shows nothing")
				}
				if puts, _ := private.Calls(1); puts > 0 || n.committedEnd(id) != 0 {
					t.Fatalf("%d objects went there, committed up to %d", puts, n.committedEnd(id))
				}
				if s, _ := n.b.Uploads(); s.Failures == 0 || s.LastError == "" {
					t.Errorf("nobody is told: %+v", s)
				}
			})
		})
	}
}

// TestStartBesideAnEmptyBucket, where the one was that this broker has used: not
// mounted, or looked for under another prefix. It serves its log, and uploads nothing.
func TestStartBesideAnEmptyBucket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		own := bucket.NewFaulty(bucket.NewMemory())
		n := newBesideBucket(t, own)
		defer n.c.Close()
		if err := n.open(own); err != nil {
			t.Fatal(err)
		}
		id := n.produce()
		time.Sleep(10 * time.Second)
		if n.committedEnd(id) != 1 || n.nonce == [16]byte{} {
			t.Fatalf("committed up to %d, remembered %x: the test shows nothing", n.committedEnd(id), n.nonce)
		}
		n.close()
		empty := bucket.NewFaulty(bucket.NewMemory(), bucket.Rule{Op: bucket.OpPut})
		if err := n.open(empty); err != nil {
			t.Fatalf("it does not start beside an empty bucket: %v", err)
		}
		defer n.close()
		time.Sleep(10 * time.Minute)
		if puts, _ := empty.Calls(0); puts > 0 {
			t.Fatalf("%d objects went there", puts)
		}
		if _, ok := n.store.Log(id); !ok || n.b.bucketMet.Load() {
			t.Fatal("no log, or another bucket was met")
		}
	})
}
