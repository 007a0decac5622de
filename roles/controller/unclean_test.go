package controller

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/bucket"
)

// unled has a partition of brokers 1 and 2 of which 2 alone is in sync, and out of service, with an upload under
// way under the id that is returned.
func (k *kept) unled() (storage.PartitionID, storage.ObjectID) {
	k.t.Helper()
	ctx := context.Background()
	is, _ := k.c.Image().Bucket()
	second, err := k.c.RegisterBroker(ctx, Registration{BrokerID: 2, Incarnation: [16]byte{2}, Directory: [16]byte{2}, BucketNonce: is.Nonce})
	if err == nil {
		err = k.c.Heartbeat(ctx, 2, second)
	}
	if err != nil {
		k.t.Fatal(err)
	}
	made := create(k.t, k.c, NewTopic{Name: "t", Partitions: -1, ReplicationFactor: -1, Assignments: []Assignment{{Replicas: []int32{2, 1}}}, Configs: map[string]string{"min.insync.replicas": "1"}})
	if made.Err != nil {
		k.t.Fatal(made.Err)
	}
	id := storage.PartitionID{Topic: made.ID}
	_, p := k.c.Image().Partition(id)
	alone := PartitionChange{Partition: id, LeaderEpoch: p.LeaderEpoch, PartitionEpoch: p.PartitionEpoch, ISR: []ReplicaEpoch{{Broker: 2, Epoch: second}}}
	if err := k.c.AlterPartitions(ctx, 2, second, []PartitionChange{alone})[0]; err != nil {
		k.t.Fatal(err)
	}
	object, err := k.c.PrepareObjects(ctx, 2, second, 1)
	if err == nil {
		_, err = k.c.PrepareObjects(ctx, 1, k.epoch, 1)
	}
	if err == nil {
		err = k.c.FenceBroker(ctx, 2, second)
	}
	if err != nil {
		k.t.Fatal(err)
	}
	if _, p := k.c.Image().Partition(id); p.Leader != metadata.NoLeader {
		k.t.Fatalf("it is led by %d", p.Leader)
	}
	return id, object
}

// An upload of who led before an unclean election is ended by it, and the bucket knows before anybody is
// elected: a recovery that misses the election does not take what it has given up. So it is where another, a moment before, has
// ended the upload.
func TestUncleanElectionEndsUploadsBeforeIt(t *testing.T) {
	for _, ended := range []bool{false, true} {
		inBucket(t, func(t *testing.T, k *kept) {
			id, object := k.unled()
			held, goes := make(chan struct{}, 100), make(chan struct{})
			k.bucket.Set(bucket.Rule{Op: bucket.OpPutIfAbsent, Hook: func(context.Context, bucket.Op, string) error {
				held <- struct{}{}
				<-goes
				return nil
			}})
			if ended {
				var all []storage.ObjectID
				for o := range k.c.Image().ObjectsIn(metadata.Prepared) {
					all = append(all, o.ID)
				}
				if n, err := k.c.CondemnObjects(t.Context(), all); err != nil || n != 2 {
					t.Fatal(n, err)
				}
			}
			elected := make(chan error, 1)
			go func() {
				elected <- k.c.ElectLeaders(t.Context(), []LeaderElection{{Partition: id, Leader: metadata.NoLeader, Unclean: true}})[0]
			}()
			<-held
			synctest.Wait()
			if _, p := k.c.Image().Partition(id); p.Leader != metadata.NoLeader {
				t.Errorf("ended before: %v; somebody leads, and the bucket does not know that the upload is ended", ended)
			}
			if o, ok := k.c.Image().Object(object); !ok || o.State != metadata.Condemned {
				t.Errorf("the upload of before is %+v", o)
			}
			close(goes)
			if err := <-elected; err != nil {
				t.Fatal(err)
			}
			if _, p := k.c.Image().Partition(id); p.Leader != 1 {
				t.Errorf("it is led by %d", p.Leader)
			}
		})
	}
}

// While the bucket is away an unclean election does not wait for ever, and says what that may cost.
func TestUncleanElectionDoesNotWaitForAnOutage(t *testing.T) {
	inBucket(t, func(t *testing.T, k *kept) {
		id, _ := k.unled()
		k.bucket.Set(bucket.Rule{Op: bucket.OpPutIfAbsent, Err: errAway, Temporary: true})
		began := time.Now()
		if err := k.c.ElectLeaders(t.Context(), []LeaderElection{{Partition: id, Leader: metadata.NoLeader, Unclean: true}})[0]; err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took < UncleanWait || took > 2*UncleanWait {
			t.Errorf("it took %v", took)
		}
		if k.said.count("an unclean election does not wait for the bucket any longer") != 1 {
			t.Error("nobody is told")
		}
	})
}

// A controller that has not looked for its bucket yet, as after its start, ends uploads all the same, and says that
// the bucket does not know.
func TestUncleanElectionOfAControllerThatStarts(t *testing.T) {
	inBucket(t, func(t *testing.T, k *kept) {
		id, object := k.unled()
		keeper := k.c.kept.Swap(nil)
		defer k.c.kept.Store(keeper)
		if err := k.c.ElectLeaders(t.Context(), []LeaderElection{{Partition: id, Leader: metadata.NoLeader, Unclean: true}})[0]; err != nil {
			t.Fatal(err)
		}
		if o, ok := k.c.Image().Object(object); !ok || o.State != metadata.Condemned {
			t.Errorf("the upload of before is %+v", o)
		}
		if k.said.count("an unclean election does not wait for the bucket any longer") != 1 {
			t.Error("nobody is told")
		}
	})
}
