package metadata

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	pb "rustmq.dev/rustmq/consensus/metadata/metadatapb"
	"rustmq.dev/rustmq/security/acl"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/test/tally"
)

// sample is a state with some of everything.
func sample(t testing.TB) *State {
	t.Helper()
	s := NewState()
	for i, command := range [][]byte{
		mustCommand(t, &pb.InitCluster{ClusterId: "c", FeatureLevel: 1}),
		mustCommand(t, &pb.RegisterBroker{BrokerId: 1, Incarnation: make([]byte, 16), Directory: make([]byte, 16), Rack: "r",
			Listeners: []*pb.Listener{{Name: "kafka", Host: "localhost", Port: 9092, Protocol: "PLAINTEXT"}}}),
		mustCommand(t, &pb.FenceBroker{BrokerId: 1, BrokerEpoch: 2}),
		mustCommand(t, &pb.CreateTopic{TopicId: bytes.Repeat([]byte{7}, 16), Name: "t.1", Assignments: []*pb.Assignment{{Replicas: []int32{1}}, {Replicas: []int32{1}}},
			Configs: []*pb.ConfigEntry{{Key: "b", Value: "2"}, {Key: "a", Value: "1"}}}),
		mustCommand(t, &pb.AlterConfigs{ResourceType: int32(BrokerResource), Name: "1", Set: []*pb.ConfigEntry{{Key: "k", Value: "v"}}}),
	} {
		result, err := s.Apply(uint64(i+1), command)
		if err != nil || Refused(result) != nil {
			t.Fatalf("command %d: %v, %v", i+1, result, err)
		}
	}
	return s
}

// sampleWithObjects is a sample with objects in every state, and two ranges.
func sampleWithObjects(t testing.TB) *State { return sampleWithObjectsAt(t, LatestFeatureLevel) }

func sampleWithObjectsAt(t testing.TB, level uint32) *State {
	t.Helper()
	l := &testLog{t: t, state: sample(t), index: 5}
	l.accepted(&pb.SetFeatureLevel{Level: level})
	l.accepted(&pb.SetBucket{Nonce: bytes.Repeat([]byte{9}, 16), Incarnation: 3})
	l.accepted(&pb.PrepareObjects{BrokerId: 1, BrokerEpoch: 2, Count: 3})
	l.accepted(NewCommitObject(1, 2, 1, 1000, []PartitionRange{rangeAt(1, 0, 5), rangeAt(1, 5, 10)}))
	l.accepted(&pb.CondemnObjects{ObjectIds: []uint64{3}})
	if level >= QuotasFeatureLevel {
		l.accepted(NewAlterClientQuotas(QuotaEntity{User: QuotaName{Scope: QuotaNamed, Name: "u"}, ClientID: QuotaName{Scope: QuotaDefault}}, map[string]float64{ProducerByteRate: 5}, nil))
	}
	if level >= SecurityFeatureLevel {
		l.accepted(NewCreateACLs([]acl.Rule{testACL("a"), testACL("b")}))
		l.accepted(NewAlterUsers([]UserChange{{User: "u", Set: []ScramCredential{credential(ScramSHA256, 1)}}}, bytes.Repeat([]byte{7}, fakeSecretSize)))
	}
	if level >= OperationsFeatureLevel {
		l.accepted(NewCreateAPIToken(apiToken("a", "u", 1)))
	}
	if level >= TransformsFeatureLevel {
		l.accepted(NewDeployTransform("a", transformVersion(1, 1), true, l.state.Image().Offset()))
		l.accepted(NewDeployTransform("a", transformVersion(2, 2), false, l.state.Image().Offset()))
		l.accepted(NewDeployTransform("b", transformVersion(1, 2), false, l.state.Image().Offset()))
		l.accepted(NewDeployTransform("c", transformVersion(1, 3), false, l.state.Image().Offset()))
		l.accepted(NewDeleteTransform("c", transformChange(TransformVersionDeleted, 0), false))
	}
	if level >= ConfigHistoryFeatureLevel {
		l.accepted(brokerConfigs("", 0, map[string]string{"k": "v"}))
	}
	return l.state
}

func TestUnknownCommandStops(t *testing.T) {
	known := mustCommand(t, &pb.DeleteTopic{TopicId: make([]byte, 16)})
	field := protowire.AppendTag(nil, 1000, protowire.BytesType)
	field = protowire.AppendBytes(field, []byte("new"))
	inside := protowire.AppendTag(nil, 6, protowire.BytesType) // DeleteTopic with a field of a later version
	inside = protowire.AppendBytes(inside, field)
	for name, command := range map[string][]byte{
		"command":       field,
		"field beside":  append(bytes.Clone(known), field...),
		"field inside":  inside,
		"empty":         {},
		"undecodable":   {0xff},
		"beyond strict": protowire.AppendVarint(protowire.AppendTag(nil, 6, protowire.VarintType), 1),
	} {
		t.Run(name, func(t *testing.T) {
			s := sample(t)
			before := s.Image()
			_, err := s.Apply(6, command)
			if !isStop(err) {
				t.Fatalf("apply: %v", err)
			}
			if s.Image() != before {
				t.Fatal("the image changed")
			}
			if _, err := s.Apply(7, known); !isStop(err) {
				t.Fatalf("the next command was taken: %v", err)
			}
		})
	}
}

func TestApplyOutOfOrderStops(t *testing.T) {
	s := sample(t)
	if _, err := s.Apply(5, mustCommand(t, &pb.DeleteTopic{TopicId: make([]byte, 16)})); !isStop(err) {
		t.Fatalf("index 5 again: %v", err)
	}
}

func TestCommandNeedsItsFeatureLevel(t *testing.T) {
	s := NewState()
	if _, err := Encode(s.Image(), &pb.SetFeatureLevel{Level: 1}); CodeOf(err) != NotController {
		t.Fatalf("encode before the cluster is made: %v", err)
	}
	// A log at level 0 refuses what level 1 allows, whatever the binary knows.
	result, err := s.Apply(1, mustCommand(t, &pb.SetFeatureLevel{Level: 1}))
	if err != nil || CodeOf(Refused(result)) != NotController {
		t.Fatalf("apply: %v, %v", result, err)
	}
	s.image.Store(func() *Image { m := *emptyImage(); m.clusterID = "c"; return &m }())
	if refused := checkLevelOf(s.Image(), 2); CodeOf(refused) != UnsupportedVersion {
		t.Fatalf("level 2 at level 0: %v", refused)
	}
}

func TestSnapshotRestores(t *testing.T) {
	s := sampleWithObjects(t)
	snapshot := s.Snapshot()()
	other := NewState()
	if err := other.Restore(snapshot); err != nil {
		t.Fatal(err)
	}
	if show(s.Image()) != show(other.Image()) {
		t.Fatalf("restored\n%s\nfrom\n%s", show(other.Image()), show(s.Image()))
	}
	if refused := other.Image().CheckNewTopic("t_1"); CodeOf(refused) != InvalidTopic {
		t.Fatalf("colliding name after restore: %v", refused)
	}
}

// TestDamagedSnapshotIsRefused flips every bit and cuts everywhere: nothing is
// read, least of all as empty.
func TestDamagedSnapshotIsRefused(t *testing.T) {
	snapshot := sampleWithObjects(t).Snapshot()()
	for bit := range len(snapshot) * 8 {
		damaged := bytes.Clone(snapshot)
		damaged[bit/8] ^= 1 << (bit % 8)
		s := NewState()
		before := s.Image()
		err := s.Restore(damaged)
		if _, corrupt := errors.AsType[*CorruptionError](err); !corrupt && !isStop(err) || s.Image() != before {
			t.Fatalf("bit %d flipped: %v", bit, err)
		}
	}
	for cut := range snapshot {
		if err := NewState().Restore(snapshot[:cut]); err == nil {
			t.Fatalf("cut at %d: no error", cut)
		}
	}
	tally.Log(t, tally.Counts{"bits_flipped": int64(len(snapshot) * 8)})
}

func TestTopicNames(t *testing.T) {
	for _, name := range []string{"a", "A.b_c-9", "...", strings.Repeat("x", 249), "__consumer_offsets"} {
		if err := ValidTopicName(name); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, name := range []string{"", ".", "..", "a/b", "a b", "ä", "a\x00", "a\n", "../x", strings.Repeat("x", 250)} {
		if err := ValidTopicName(name); CodeOf(err) != InvalidTopic {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func FuzzTopicName(f *testing.F) {
	for _, name := range []string{"a", "..", "a/b", strings.Repeat("x", 250), "\xff"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if err := ValidTopicName(name); err != nil {
			if len(err.Error()) > 1000 {
				t.Fatalf("a message of %d bytes", len(err.Error()))
			}
			return
		}
		if name == "" || len(name) > 249 || name == "." || name == ".." || strings.ContainsAny(name, "/\\\x00 \n") {
			t.Fatalf("%q is valid", name)
		}
	})
}

// FuzzApply: no bytes crash apply, and what is refused or stops changes nothing.
func FuzzApply(f *testing.F) {
	f.Add(mustCommand(f, &pb.DeleteTopic{TopicId: bytes.Repeat([]byte{7}, 16)}))
	f.Add(mustCommand(f, &pb.CreateTopic{TopicId: bytes.Repeat([]byte{8}, 16), Name: "u", Assignments: []*pb.Assignment{{Replicas: []int32{1}}}}))
	f.Add(mustCommand(f, &pb.CreatePartitions{TopicId: bytes.Repeat([]byte{7}, 16), Existing: 2, Assignments: []*pb.Assignment{{Replicas: []int32{1}}}}))
	f.Add(mustCommand(f, &pb.AdvanceLogStart{BrokerId: 1, BrokerEpoch: 2, Entries: []*pb.AdvanceLogStart_Entry{{TopicId: bytes.Repeat([]byte{7}, 16), Offset: 5}}}))
	f.Add(mustCommand(f, &pb.AllocateProducerIds{BrokerId: 1, BrokerEpoch: 2, Count: 1}))
	f.Add(mustCommand(f, &pb.AlterConfigs{ResourceType: 2, Name: "t.1", Version: 4, Remove: []string{"a"}}))
	f.Add(mustCommand(f, &pb.RegisterBroker{BrokerId: 1, Incarnation: bytes.Repeat([]byte{1}, 16), Directory: make([]byte, 16)}))
	f.Add(mustCommand(f, &pb.SetBucket{Nonce: bytes.Repeat([]byte{1}, 16), Incarnation: 1}))
	f.Add(mustCommand(f, &pb.PrepareObjects{BrokerId: 1, BrokerEpoch: 2, Count: 2}))
	f.Add(mustCommand(f, NewCommitObject(1, 2, 2, 1000, []PartitionRange{rangeAt(1, 10, 20), rangeAt(0, 0, 10)})))
	f.Add(mustCommand(f, NewReplaceRanges(1, 2, 2, 1000, []Replacement{{PartitionRange: rangeAt(1, 0, 10), Removed: []RemovedRange{{1, 0, 5}, {1, 5, 10}}}})))
	f.Add(mustCommand(f, &pb.FileRanges{BrokerId: 1, BrokerEpoch: 2, TopicId: bytes.Repeat([]byte{7}, 16), Partition: 1, ObjectId: 2, Size: 420, Replaced: 1, DroppedRanges: 1, Dropped: make([]byte, 14), MovedObjects: []int64{1}}))
	f.Add(mustCommand(f, &pb.DissolveManifest{ObjectId: 1, Entries: make([]byte, 20)}))
	f.Add(mustCommand(f, &pb.CondemnObjects{ObjectIds: []uint64{1, 2, 3}}))
	f.Add(mustCommand(f, &pb.ForgetObjects{ObjectIds: []uint64{3}}))
	f.Add(mustCommand(f, &pb.MoveLogStarts{Topics: []*pb.MoveLogStarts_Topic{{TopicId: bytes.Repeat([]byte{7}, 16), Partitions: []int32{1}, Offsets: []int64{5}}}}))
	topic := bytes.Repeat([]byte{7}, 16)
	f.Add(mustCommand(f, NewRegisterController(ControllerNode{ID: 1, Raft: "h:1", Controller: "h:2", MaxFeatureLevel: 9})))
	f.Add(mustCommand(f, NewAlterPartitions(1, 2, []PartitionChange{{Partition: storage.PartitionID{Topic: storage.TopicID(topic)}, ISR: []ReplicaEpoch{{1, 2}}}})))
	f.Add(mustCommand(f, &pb.ElectLeaders{Entries: []*pb.ElectLeaders_Entry{{TopicId: topic, Leader: 1, Unclean: true}}}))
	f.Add(mustCommand(f, &pb.ReassignPartitions{Entries: []*pb.ReassignPartitions_Entry{{TopicId: topic, Replicas: []int32{1}}}}))
	f.Add(mustCommand(f, &pb.ChangeBroker{BrokerId: 1, Draining: true}))
	f.Add(mustCommand(f, &pb.UnregisterBroker{BrokerId: 1}))
	f.Fuzz(func(t *testing.T, command []byte) {
		s := sampleWithObjects(t)
		before := s.Image()
		result, err := s.Apply(before.Offset()+1, command)
		if err == nil && Refused(result) == nil {
			if err := checkImage(before, s.Image(), nil, command); err != nil {
				t.Fatal(err)
			}
		} else if s.Image().topics.root != before.topics.root || s.Image().brokers.root != before.brokers.root || s.Image().objects[Prepared].root != before.objects[Prepared].root {
			t.Fatal("a refused command changed something")
		}
		restored := NewState()
		if err := restored.Restore(s.Snapshot()()); err != nil || !bytes.Equal(restored.Snapshot()(), s.Snapshot()()) {
			t.Fatalf("snapshot does not come back: %v", err)
		}
	})
}

// FuzzRestore: no bytes crash it, and what it takes it gives back. The body is
// framed with a right checksum, so that more than the checksum is tried.
func FuzzRestore(f *testing.F) {
	f.Add(sample(f).Snapshot()()[snapshotHeaderSize:])
	f.Add(sampleWithObjects(f).Snapshot()()[snapshotHeaderSize:])
	filed, s := newLog(f, 1), shelf{}
	filed.fill(6)
	filed.accepted(filed.filing(s, 2, 0, false))
	filed.accepted(filed.filing(s, 2, 0, false))
	filed.logStart(20)
	f.Add(filed.state.Snapshot()()[snapshotHeaderSize:])
	f.Add(NewState().Snapshot()()[snapshotHeaderSize:])
	f.Fuzz(func(t *testing.T, body []byte) {
		framed := append(make([]byte, snapshotHeaderSize), body...)
		sealSnapshot(framed)
		s := NewState()
		if s.Restore(body) == nil {
			t.Fatal("a body without its frame was read")
		}
		if s.Restore(framed) != nil {
			return
		}
		again := NewState()
		if err := checkCatalogue(s.Image(), s.Image(), nil); err != nil {
			t.Fatal(err)
		}
		if err := again.Restore(s.Snapshot()()); err != nil || show(again.Image()) != show(s.Image()) {
			t.Fatalf("second round: %v", err)
		}
	})
}

func TestCodesAreNamed(t *testing.T) {
	if got := Errorf(StaleBrokerEpoch, "x").Error(); got != "stale broker epoch: x" {
		t.Error(got)
	}
	if got := fmt.Sprint(Code(999)); got != "code 999" {
		t.Error(got)
	}
}

// BenchmarkApply measures one change in an image of 100,000 partitions.
func BenchmarkApply(b *testing.B) {
	for _, shape := range []struct{ topics, partitions int }{{1, 100_000}, {1000, 100}, {100_000, 1}} {
		s := large(b, shape.topics, shape.partitions)
		rng := rand.New(rand.NewPCG(1, 2))
		index := s.Image().Offset()
		var offset int64
		b.Run(fmt.Sprintf("change=logstart/topics=%d/partitions=%d", shape.topics, shape.partitions), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				offset++
				index++
				id := numberedID(rng.IntN(shape.topics))
				if _, err := s.Apply(index, mustCommand(b, &pb.AdvanceLogStart{BrokerId: 1, BrokerEpoch: 2, Entries: []*pb.AdvanceLogStart_Entry{
					{TopicId: id[:], Partition: int32(rng.IntN(shape.partitions)), Offset: offset},
				}})); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("change=restart-of-the-only-broker/topics=%d/partitions=%d", shape.topics, shape.partitions), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				index++
				incarnation := make([]byte, 16)
				incarnation[0], incarnation[1], incarnation[2] = byte(index), byte(index>>8), byte(index>>16)
				if _, err := s.Apply(index, mustCommand(b, &pb.RegisterBroker{BrokerId: 1, Incarnation: incarnation, Directory: make([]byte, 16)})); err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				epoch := int64(index)
				index++
				if _, err := s.Apply(index, mustCommand(b, &pb.FenceBroker{BrokerId: 1, BrokerEpoch: epoch})); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
		})
		b.Run(fmt.Sprintf("snapshot/topics=%d/partitions=%d", shape.topics, shape.partitions), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				b.SetBytes(int64(len(s.Image().Snapshot())))
			}
		})
	}
}

func numberedID(i int) (id storage.TopicID) {
	copy(id[:], fmt.Sprintf("topic %010d", i))
	return id
}

func large(b *testing.B, topics, partitions int) *State {
	b.Helper()
	s := NewState()
	index := uint64(0)
	apply := func(command []byte) {
		index++
		if result, err := s.Apply(index, command); err != nil || Refused(result) != nil {
			b.Fatalf("index %d: %v, %v", index, result, err)
		}
	}
	apply(mustCommand(b, &pb.InitCluster{ClusterId: "c", FeatureLevel: 1}))
	apply(mustCommand(b, &pb.RegisterBroker{BrokerId: 1, Incarnation: make([]byte, 16), Directory: make([]byte, 16)}))
	apply(mustCommand(b, &pb.FenceBroker{BrokerId: 1, BrokerEpoch: 2}))
	assignments := make([]*pb.Assignment, partitions)
	for i := range assignments {
		assignments[i] = &pb.Assignment{Replicas: []int32{1}}
	}
	for i := range topics {
		id := numberedID(i)
		apply(mustCommand(b, &pb.CreateTopic{TopicId: id[:], Name: fmt.Sprintf("topic-%d", i), Assignments: assignments}))
	}
	return s
}

// isStop reports whether err stops the node that applied.
func isStop(err error) bool {
	_, ok := errors.AsType[*StopError](err)
	return ok
}

// BenchmarkApplyCluster measures what a cluster does all the time, and what it does when
// a broker falls, among 100,000 partitions of three replicas on six brokers.
func BenchmarkApplyCluster(b *testing.B) {
	for _, shape := range []struct{ topics, partitions int }{{1, 100_000}, {1000, 100}} {
		name := fmt.Sprintf("topics=%d/partitions=%d", shape.topics, shape.partitions)
		s := NewState()
		index := uint64(0)
		apply := func(body proto.Message) any {
			index++
			result, err := s.Apply(index, mustCommand(b, body))
			if err != nil || Refused(result) != nil {
				b.Fatalf("index %d: %v, %v", index, result, err)
			}
			return result
		}
		apply(&pb.InitCluster{ClusterId: "c", FeatureLevel: ClusterFeatureLevel})
		epochs := map[int32]int64{}
		for id := int32(0); id < 6; id++ {
			epochs[id] = int64(apply(&pb.RegisterBroker{BrokerId: id, Incarnation: make([]byte, 16), Directory: make([]byte, 16)}).(BrokerEpoch))
			apply(&pb.FenceBroker{BrokerId: id, BrokerEpoch: epochs[id]})
		}
		assignments := make([]*pb.Assignment, shape.partitions)
		for i := range assignments {
			assignments[i] = &pb.Assignment{Replicas: []int32{int32(i % 6), int32((i + 1) % 6), int32((i + 2) % 6)}}
		}
		for i := range shape.topics {
			id := numberedID(i)
			apply(&pb.CreateTopic{TopicId: id[:], Name: fmt.Sprintf("topic-%d", i), Assignments: assignments})
		}
		rng := rand.New(rand.NewPCG(1, 2))
		b.Run("change=isr/"+name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				id := numberedID(rng.IntN(shape.topics))
				_, p := s.Image().Partition(storage.PartitionID{Topic: id, Index: int32(rng.IntN(shape.partitions))})
				c := PartitionChange{Partition: storage.PartitionID{Topic: id, Index: p.Index}, LeaderEpoch: p.LeaderEpoch, PartitionEpoch: p.PartitionEpoch}
				for _, replica := range p.Replicas {
					if replica == p.Leader || len(p.ISR) < 3 || rng.IntN(2) == 0 {
						c.ISR = append(c.ISR, ReplicaEpoch{replica, epochs[replica]})
					}
				}
				if results := apply(NewAlterPartitions(p.Leader, epochs[p.Leader], []PartitionChange{c})).(PartitionResults); results[0] != nil {
					b.Fatal(results[0])
				}
			}
		})
		b.Run("change=fall-and-return/"+name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				apply(&pb.FenceBroker{BrokerId: 1, BrokerEpoch: epochs[1], Fenced: true})
				apply(&pb.FenceBroker{BrokerId: 1, BrokerEpoch: epochs[1]})
			}
		})
	}
}
