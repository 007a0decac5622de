package broker

import (
	"bytes"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"rustmq.dev/rustmq/consensus"
	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/controller"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/bucket"
	"rustmq.dev/rustmq/storage/object"
)

// commitAs has broker 1, as it was elected last, name an object of [0, end) of a partition,
// whose batches are of one epoch; damage hits its index.
func (n *besideBucket) commitAs(to bucket.Bucket, id storage.PartitionID, end storage.Offset, epoch storage.Epoch, damage bool) {
	n.t.Helper()
	ctx := n.t.Context()
	is, _ := n.c.Image().Bucket()
	registered, err := n.c.RegisterBroker(ctx, controller.Registration{BrokerID: 1, ClusterID: n.c.Image().ClusterID(), Incarnation: [16]byte{9}, BucketNonce: is.Nonce, MaxFeatureLevel: metadata.LatestFeatureLevel})
	if err == nil {
		err = n.c.Heartbeat(ctx, 1, registered)
	}
	if err != nil {
		n.t.Fatal(err)
	}
	ids, err := n.c.PrepareObjects(ctx, 1, registered, 1)
	if err != nil {
		n.t.Fatal(err)
	}
	var raw bytes.Buffer
	summary, err := object.Write(&raw, object.Header{Cluster: n.c.Image().ClusterID(), Incarnation: 1, ID: ids, Broker: 1},
		[]object.Range{{Partition: id, Topic: "t", End: end, LastStable: end, Holes: true, Epochs: []object.EpochStart{{Epoch: epoch}}}}, object.WriteOptions{})
	if err != nil {
		n.t.Fatal(err)
	}
	_, p := n.c.Image().Partition(id)
	r := metadata.PartitionRange{Partition: id, Range: metadata.NewRange(&summary.Placements[0], p.LeaderEpoch)}
	if damage {
		raw.Bytes()[r.Range.IndexPosition+30]++
	}
	if err := to.Put(ctx, object.Key("", n.c.Image().ClusterID(), 1, ids), bucket.Bytes(raw.Bytes())); err != nil {
		n.t.Fatal(err)
	}
	results, err := n.c.CommitObject(ctx, 1, registered, ids, int64(raw.Len()), []metadata.PartitionRange{r})
	if err = errors.Join(append(results, err)...); err != nil {
		n.t.Fatal(err)
	}
}

// recovered goes on with another life of the cluster, of a controller whose disk is lost.
func (n *besideBucket) recovered(of bucket.Bucket) {
	n.t.Helper()
	next, _, err := metadata.Recover(n.c.Image(), metadata.RecoverOptions{})
	if err == nil {
		err = n.c.Close()
	}
	for _, dir := range []string{"raft", "snapshots"} {
		names, e := n.fs.List(dir)
		for _, name := range names {
			e = errors.Join(e, n.fs.Remove(dir+"/"+name))
		}
		err = errors.Join(err, e)
	}
	if err == nil {
		err = consensus.Seed(n.t.Context(), consensus.SeedOptions{
			Member: consensus.Member{ID: 1, Directory: [16]byte{1}}, Index: next.Offset(), Term: 100, State: next.Snapshot(), FS: n.fs,
		})
	}
	if err != nil {
		n.t.Fatal(err)
	}
	n.openController(of)
}

// TestLogThatPartedFromTheBucketBeginsAnew: of a cluster that was brought back from its bucket
// one log is left, and it is the longest. Where it differs from what the bucket has, by the
// epochs, it is not what is led; where it does not, or that cannot be told, nothing is dropped.
func TestLogThatPartedFromTheBucketBeginsAnew(t *testing.T) {
	for name, is := range map[string]struct {
		later, damage bool
		end           storage.Offset
	}{
		"parted":         {later: true, end: 2},
		"in line":        {end: 3},
		"damaged bucket": {later: true, damage: true, end: 3},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				memory := bucket.NewMemory()
				n := newBesideBucket(t, memory)
				defer func() { n.c.Close() }()
				away := bucket.NewFaulty(memory)
				if err := n.open(away); err != nil {
					t.Fatal(err)
				}
				away.Set(bucket.Rule{Err: errors.New("connection refused")}) // nothing is uploaded
				id := n.produce()
				n.append(id)
				n.append(id)
				_, p := n.c.Image().Partition(id)
				wrote := p.LeaderEpoch
				n.close()
				epoch := wrote
				if is.later {
					epoch++
				}
				n.commitAs(memory, id, 2, epoch, is.damage)
				n.recovered(memory)
				if err := n.open(memory); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Second)
				_, p = n.c.Image().Partition(id)
				l, ok := n.store.Log(id)
				if p.Leader != 1 || !ok || l.End() != is.end {
					t.Errorf("led by %d, and the log ends at %d, want %d", p.Leader, l.End(), is.end)
				}
				n.close()
			})
		})
	}
}
