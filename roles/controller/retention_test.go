package controller

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"rustmq.dev/rustmq/consensus/metadata"
	pb "rustmq.dev/rustmq/consensus/metadata/metadatapb"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/test/seeded"
)

var retentionNow = time.UnixMilli(1_000_000)

// partitionOf has a range of ten offsets for each pair of bytes and age; age -1
// is a range without timestamps.
func partitionOf(t interface {
	Helper()
	Fatal(...any)
}, ranges ...[2]int64) *metadata.Partition {
	t.Helper()
	state, index := metadata.NewState(), uint64(0)
	apply := func(command []byte, err error) any {
		if err != nil {
			t.Fatal(err)
		}
		index++
		result, err := state.Apply(index, command)
		if err != nil || metadata.Refused(result) != nil {
			t.Fatal(err, metadata.Refused(result))
		}
		return result
	}
	topic := storage.TopicID{1}
	apply(metadata.Encode(state.Image(), &pb.InitCluster{ClusterId: "c", FeatureLevel: metadata.LatestFeatureLevel}))
	nothing := make([]byte, 16)
	nothing[0] = 1
	epoch := int64(apply(metadata.Encode(state.Image(), &pb.RegisterBroker{BrokerId: 1, Incarnation: nothing, Directory: nothing})).(metadata.BrokerEpoch))
	apply(metadata.Encode(state.Image(), &pb.FenceBroker{BrokerId: 1, BrokerEpoch: epoch}))
	apply(metadata.Encode(state.Image(), &pb.CreateTopic{TopicId: topic[:], Name: "t", Assignments: assignments([][]int32{{1}})}))
	for i, r := range ranges {
		first := apply(metadata.Encode(state.Image(), &pb.PrepareObjects{BrokerId: 1, BrokerEpoch: epoch, Count: 1})).(metadata.ObjectIDs).First
		is := metadata.PartitionRange{
			Partition: storage.PartitionID{Topic: topic},
			Range: metadata.Range{
				Base: storage.Offset(i * 10), End: storage.Offset(i*10 + 10), Bytes: r[0], MaxTimestamp: -1,
				IndexPosition: 1, IndexLength: 1, Epoch: partition(state, topic).LeaderEpoch,
			},
		}
		if r[1] >= 0 {
			is.Range.MaxTimestamp = retentionNow.UnixMilli() - r[1]
		}
		results := apply(metadata.Encode(state.Image(), metadata.NewCommitObject(1, epoch, first, 1<<30, []metadata.PartitionRange{is}))).(metadata.RangeResults)
		if results[0] != nil {
			t.Fatal(results[0])
		}
	}
	return partition(state, topic)
}

func partition(state *metadata.State, id storage.TopicID) *metadata.Partition {
	topic, _ := state.Image().TopicByID(id)
	return topic.Partition(0)
}

func TestWhatIsPastItsRetention(t *testing.T) {
	const ms = time.Millisecond
	for name, try := range map[string]struct {
		keep   Retention
		want   storage.Offset
		ranges [][2]int64 // bytes, age in ms
	}{
		"nothing there":                        {Retention{0, 0}, 0, nil},
		"kept for ever":                        {Retention{-1, -1}, 0, [][2]int64{{100, 900_000}}},
		"too old":                              {Retention{100 * ms, -1}, 20, [][2]int64{{1, 300}, {1, 101}, {1, 100}, {1, 50}}},
		"all too old":                          {Retention{0, -1}, 20, [][2]int64{{1, 2}, {1, 1}}},
		"an old one behind a young one stays":  {Retention{100 * ms, -1}, 10, [][2]int64{{1, 200}, {1, 50}, {1, 200}}},
		"without timestamps it is not old":     {Retention{0, -1}, 0, [][2]int64{{1, -1}, {1, 500}}},
		"enough lies behind":                   {Retention{-1, 50}, 20, [][2]int64{{30, 0}, {30, 0}, {30, 0}, {30, 0}}},
		"a range goes whole or not at all":     {Retention{-1, 61}, 10, [][2]int64{{30, 0}, {30, 0}, {30, 0}, {30, 0}}},
		"no bytes at all":                      {Retention{-1, 0}, 20, [][2]int64{{30, 0}, {30, 0}}},
		"fewer bytes than are kept":            {Retention{-1, 60}, 0, [][2]int64{{30, 0}, {30, 0}}},
		"emptied by compaction, with the next": {Retention{100 * ms, -1}, 20, [][2]int64{{0, -1}, {1, 200}, {0, -1}, {1, 50}}},
		"by either":                            {Retention{100 * ms, 60}, 20, [][2]int64{{30, 50}, {30, 200}, {30, 0}, {30, 0}}},
		"of empty ranges the last is kept too": {Retention{-1, 10}, 10, [][2]int64{{0, 0}, {10, 0}, {0, 0}}},
	} {
		if got, _ := newRetainer().expired(partitionOf(t, try.ranges...), try.keep, retentionNow, nil); got != try.want {
			t.Errorf("%s: up to %d, want %d", name, got, try.want)
		}
	}
}

// TestRetentionTakesNoMoreThanItMay: whatever the ranges, what stays is as
// young, or as much, as is to be kept, and nothing but whole ranges goes.
func TestRetentionTakesNoMoreThanItMay(t *testing.T) {
	seeded.Check(t, func(t *rapid.T) {
		ranges := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) [2]int64 {
			return [2]int64{rapid.Int64Range(0, 50).Draw(t, "bytes"), rapid.Int64Range(-1, 500).Draw(t, "age")}
		}), 0, 12).Draw(t, "ranges")
		keep := Retention{time.Duration(rapid.Int64Range(-1, 500).Draw(t, "age")) * time.Millisecond, rapid.Int64Range(-1, 300).Draw(t, "bytes")}
		p := partitionOf(t, ranges...)
		start, _ := newRetainer().expired(p, keep, retentionNow, nil)
		if start%10 != 0 || start > p.CommittedEnd() || start < p.LogStart {
			t.Fatalf("log start %d of ranges up to %d", start, p.CommittedEnd())
		}
		var behind int64 // bytes behind a range
		for _, r := range ranges {
			behind += r[0]
		}
		for i, r := range ranges {
			behind -= r[0]
			old := keep.Age >= 0 && r[1] >= 0 && r[1] > keep.Age.Milliseconds()
			much := keep.Bytes >= 0 && behind >= keep.Bytes
			gone := storage.Offset(i*10) < start
			if gone && !old && !much && r[0] > 0 {
				t.Fatalf("range %d is gone: %v", i, r)
			}
			if !gone && (old || much) {
				t.Fatalf("range %d stays: %v", i, r)
			}
			if !gone {
				break
			}
		}
	})
}

// TestCoordinatorsKeepTheirTopicsShort (RULES 4.4): whatever is set on one of the brokers' own topics, no
// retention takes from it what its coordinators have not written anew. The audit log has one.
func TestCoordinatorsKeepTheirTopicsShort(t *testing.T) {
	inBucket(t, func(t *testing.T, k *kept) {
		ends := map[string]storage.Offset{"__consumer_offsets": 0, "__transaction_state": 0, metadata.AuditTopic: 10, "u": 10}
		ids := map[string]storage.PartitionID{}
		for name := range ends {
			made := create(t, k.c, NewTopic{Name: name, Partitions: 1, ReplicationFactor: 1, Internal: name != "u", Configs: map[string]string{"cleanup.policy": "delete", "retention.ms": "1000"}})
			if made.Err != nil {
				t.Fatal(made.Err)
			}
			ids[name] = storage.PartitionID{Topic: made.ID}
			k.upload(ids[name], 0, 10, time.Now())
		}
		pass(time.Hour)
		for name, want := range ends {
			if got := k.logStart(ids[name]); got != want {
				t.Errorf("%s begins at %d, want %d", name, got, want)
			}
		}
	})
}

// TestCompactedTopicsAreNotRetained: without delete in cleanup.policy neither
// retention.ms nor retention.bytes says anything.
func TestCompactedTopicsAreNotRetained(t *testing.T) {
	for policy, want := range map[string]Retention{
		"delete":         {Age: time.Second, Bytes: 10},
		"compact":        {Age: -1, Bytes: -1},
		"compact,delete": {Age: time.Second, Bytes: 10},
		"nonsense":       {Age: -1, Bytes: -1},
	} {
		if got := retentionOf(map[string]string{"cleanup.policy": policy, "retention.ms": "1000", "retention.bytes": "10"}); got != want {
			t.Errorf("%s: %+v", policy, got)
		}
	}
	if got := retentionOf(nil); got != (Retention{Age: 7 * 24 * time.Hour, Bytes: -1}) {
		t.Errorf("by default: %+v", got)
	}
}
