package controller

import (
	"slices"
	"testing"

	"rustmq.dev/rustmq/consensus"
	"rustmq.dev/rustmq/consensus/metadata"
	pb "rustmq.dev/rustmq/consensus/metadata/metadatapb"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/disk"
)

// rangeOf is a range of a kilobyte in an object of one.
func rangeOf(topic storage.TopicID, partition int32, base, end storage.Offset) metadata.PartitionRange {
	return metadata.PartitionRange{
		Partition: storage.PartitionID{Topic: topic, Index: partition},
		Range:     metadata.Range{Base: base, End: end, Bytes: 100, MaxTimestamp: int64(end), IndexPosition: 900, IndexLength: 10},
	}
}

func TestObjectsFromIDToEnd(t *testing.T) {
	c := open(t, Options{})
	epoch := register(t, c, 1, 1)
	topic := create(t, c, NewTopic{Name: "t", Partitions: 2, ReplicationFactor: 1}).ID
	first, err := c.PrepareObjects(t.Context(), 1, epoch, 3)
	if err != nil || first != 1 || c.Image().NextObjectID() != 4 {
		t.Fatalf("prepare: %s, %v", first, err)
	}
	_, err = c.PrepareObjects(t.Context(), 1, epoch, metadata.MaxPreparedIDs+1)
	wantCode(t, "too many ids", err, metadata.InvalidRequest)

	results, err := c.CommitObject(t.Context(), 1, epoch, 1, 1000, []metadata.PartitionRange{
		rangeOf(topic, 0, 0, 10), rangeOf(topic, 1, 5, 10), rangeOf(topic, 0, 10, 20),
	})
	if err != nil || len(results) != 3 || results[0] != nil || results[2] != nil {
		t.Fatalf("commit: %v, %v", results, err)
	}
	wantCode(t, "a range with a gap before it", results[1], metadata.OffsetOutOfRange)

	merged := rangeOf(topic, 0, 0, 20)
	results, err = c.ReplaceRanges(t.Context(), 1, epoch, 2, 1000, []metadata.Replacement{{
		PartitionRange: merged, Removed: []metadata.RemovedRange{{Object: 1, Base: 0, End: 10}, {Object: 1, Base: 10, End: 20}},
	}})
	if err != nil || results[0] != nil {
		t.Fatalf("replace: %v, %v", results, err)
	}
	_, err = c.CommitObject(t.Context(), 1, epoch, 1, 1000, []metadata.PartitionRange{rangeOf(topic, 0, 20, 30)})
	wantCode(t, "commit of an object that lost its last range", err, metadata.ResourceNotFound)

	id := storage.PartitionID{Topic: topic}
	moved := c.MoveLogStarts(t.Context(), []LogStart{{Partition: id, Offset: 20}, {Partition: id, Offset: 21}, {Partition: storage.PartitionID{}, Offset: 1}})
	if moved[0] != nil {
		t.Fatalf("move to the committed end: %v", moved[0])
	}
	wantCode(t, "beyond the committed end", moved[1], metadata.OffsetOutOfRange)
	wantCode(t, "of no topic", moved[2], metadata.InvalidRequest)

	ids := []storage.ObjectID{1, 2, 3, 4}
	if n, err := c.CondemnObjects(t.Context(), ids); n != 1 || err != nil {
		t.Errorf("condemned %d, %v", n, err)
	}
	if n := c.Image().NumObjects(metadata.Condemned); n != 3 {
		t.Errorf("%d condemned", n)
	}
	if n, err := c.ForgetObjects(t.Context(), ids); n != 3 || err != nil {
		t.Errorf("forgot %d, %v", n, err)
	}
	if objects := slices.Collect(c.Image().Objects()); len(objects) > 0 {
		t.Errorf("left: %v", objects)
	}
}

// What one command cannot hold goes in several; results keep their order.
func TestManyLogStartsAndIDs(t *testing.T) {
	c := open(t, Options{})
	register(t, c, 1, 1)
	topic := create(t, c, defaults("t")).ID
	starts := make([]LogStart, 2*maxStartsPerCommand+1)
	for i := range starts {
		starts[i].Partition.Topic = topic
	}
	starts[maxStartsPerCommand].Offset = 7 // nothing is committed
	results := c.MoveLogStarts(t.Context(), starts)
	for i, err := range results {
		if (err != nil) != (i == maxStartsPerCommand) {
			t.Fatalf("start %d: %v", i, err)
		}
	}
	if n, err := c.CondemnObjects(t.Context(), make([]storage.ObjectID, 2*maxIDsPerCommand+1)); n != 0 || err != nil || len(results) != len(starts) {
		t.Errorf("condemned %d, %v; %d results", n, err, len(results))
	}
}

func TestOneBucket(t *testing.T) {
	c := open(t, Options{})
	bucket := metadata.Bucket{Nonce: [16]byte{7}, Incarnation: 1}
	register(t, c, 1, 1)
	for range 2 {
		if err := c.SetBucket(t.Context(), bucket); err != nil {
			t.Fatal(err)
		}
	}
	wantCode(t, "another bucket", c.SetBucket(t.Context(), metadata.Bucket{Nonce: [16]byte{8}, Incarnation: 1}), metadata.Conflict)
	if is, set := c.Image().Bucket(); !set || is != bucket {
		t.Errorf("bucket %v", is)
	}
	for nonce, want := range map[byte]bool{0: false, 7: true, 8: false} {
		_, err := c.RegisterBroker(t.Context(), Registration{BrokerID: 2, BucketNonce: [16]byte{nonce}})
		if want != (err == nil) {
			t.Errorf("nonce %d: %v", nonce, err)
		} else if !want {
			wantCode(t, "a private bucket", err, metadata.InvalidRegistration)
		}
	}
}

// TestOldClusterIsRaised opens a log that was begun at level 1.
func TestOldClusterIsRaised(t *testing.T) {
	fs := disk.NewMem(disk.MemOptions{})
	state := metadata.NewState()
	node, err := consensus.Open(t.Context(), consensus.Options{NodeID: 1, FS: fs, StateMachine: state})
	if err != nil {
		t.Fatal(err)
	}
	if err := node.Barrier(t.Context()); err != nil {
		t.Fatal(err)
	}
	command, err := metadata.Encode(state.Image(), &pb.InitCluster{ClusterId: "old", FeatureLevel: 1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := node.Propose(t.Context(), command); err != nil {
		t.Fatal(err)
	}
	if err := node.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		c, err := Open(t.Context(), Options{NodeID: 1, FS: fs, ClusterID: "old"})
		if err != nil {
			t.Fatal(err)
		}
		if level := c.Image().FeatureLevel(); level != metadata.LatestFeatureLevel {
			t.Errorf("level %d", level)
		}
		shut(t, c)
	}
}
