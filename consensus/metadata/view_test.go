package metadata

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	pb "rustmq.dev/rustmq/consensus/metadata/metadatapb"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/test/allocs"
	"rustmq.dev/rustmq/test/seeded"
)

// deltaRecords takes a delta apart, to be put together in another way.
func deltaRecords(t testing.TB, delta []byte) (records []*pb.DeltaRecord) {
	t.Helper()
	d, err := openDelta(delta)
	if err != nil {
		t.Fatal(err)
	}
	for len(d.rest) > 0 {
		r, err := d.nextDelta()
		if err != nil {
			t.Fatal(err)
		}
		records = append(records, r)
	}
	return records
}

func deltaOf(records ...*pb.DeltaRecord) []byte {
	b := make([]byte, deltaHeaderSize)
	for _, r := range records {
		b = appendRecord(b, r)
	}
	sealDelta(b)
	return b
}

// kind returns the first record with that body; the test is void without one.
func kind[T any](t testing.TB, records []*pb.DeltaRecord) *T {
	t.Helper()
	for _, r := range records {
		if body, ok := any(r.Body).(*T); ok {
			return body
		}
	}
	t.Fatalf("no record of that kind: %v", records)
	return nil
}

// tieredLog is a cluster with two partitions, of which 0 has a manifest, ranges and a
// state of compaction by key, and 1 a range.
func tieredLog(t testing.TB) *testLog {
	l, s := newLog(t, 2), shelf{}
	l.fill(6)
	l.accepted(l.filing(s, 2, 0, false))
	l.accepted(NewCommitObject(1, 2, l.prepare(1), 1000, []PartitionRange{rangeAt(1, 0, 10)}))
	l.accepted(NewRecordCleaning(1, 2, storage.PartitionID{Topic: testID(7)}, 0, Cleaning{To: 10}))
	l.accepted(&pb.AlterConfigs{ResourceType: int32(BrokerResource), Name: "1", Set: []*pb.ConfigEntry{{Key: "a", Value: "b"}}})
	l.accepted(NewAlterClientQuotas(QuotaEntity{User: QuotaName{Scope: QuotaDefault}}, map[string]float64{ProducerByteRate: 5}, nil))
	l.accepted(NewAlterUsers([]UserChange{{User: "alice", Set: []ScramCredential{credential(ScramSHA256, 1), credential(ScramSHA512, 2)}}}, bytes.Repeat([]byte{7}, fakeSecretSize)))
	l.accepted(NewRegisterController(ControllerNode{ID: 1, Raft: "a:1", Controller: "a:2", MaxFeatureLevel: LatestFeatureLevel}))
	return l
}

// TestADeltaThatCannotBeIsRefused: each of these has a checksum that is right. None
// changes the view.
func TestADeltaThatCannotBeIsRefused(t *testing.T) {
	l := tieredLog(t)
	after := l.state.Image()
	good := EncodeDelta(nil, after, 1)
	mustApply(t, NewView(), good)
	type records = []*pb.DeltaRecord
	for what, change := range map[string]func(t *testing.T, r records) records{
		"nothing":         func(*testing.T, records) records { return nil },
		"no header":       func(_ *testing.T, r records) records { return r[1:] },
		"a second header": func(_ *testing.T, r records) records { return append(r, r[0]) },
		"an empty record": func(_ *testing.T, r records) records { return append(r, &pb.DeltaRecord{}) },
		"no nonce": func(_ *testing.T, r records) records {
			r[0].GetHeader().BucketIncarnation = 1
			return r
		},
		"objects in two states": func(_ *testing.T, r records) records {
			r[0].GetHeader().Objects = []uint64{1, 2}
			return r
		},
		"more objects than there are": func(_ *testing.T, r records) records {
			r[0].GetHeader().Objects[1] = 1
			return r
		},
		"an object that was not issued": func(_ *testing.T, r records) records {
			r[0].GetHeader().LastObjectId = 1
			return r
		},
		"a broker less": func(_ *testing.T, r records) records {
			r[0].GetHeader().Brokers++
			return r
		},
		"a broker without an incarnation": func(t *testing.T, r records) records {
			kind[pb.DeltaRecord_Broker](t, r).Broker.Incarnation = nil
			return r
		},
		"a controller without an address": func(t *testing.T, r records) records {
			kind[pb.DeltaRecord_Controller](t, r).Controller.RaftAddress = "a"
			return r
		},
		"a configuration of no kind": func(t *testing.T, r records) records {
			kind[pb.DeltaRecord_Config](t, r).Config.ResourceType = 3
			return r
		},
		"a key without a value": func(t *testing.T, r records) records {
			kind[pb.DeltaRecord_Config](t, r).Config.Entries = []string{"a"}
			return r
		},
		"a quota of nobody": func(t *testing.T, r records) records {
			kind[pb.DeltaRecord_ClientQuotas](t, r).ClientQuotas.Entity = nil
			return r
		},
		"a user without a name": func(t *testing.T, r records) records {
			kind[pb.DeltaRecord_User](t, r).User.Name = ""
			return r
		},
		"a user with a key cut off": func(t *testing.T, r records) records {
			kind[pb.DeltaRecord_User](t, r).User.Credentials[0].StoredKey = []byte{1}
			return r
		},
		"a user with a mechanism twice": func(t *testing.T, r records) records {
			u := kind[pb.DeltaRecord_User](t, r).User
			u.Credentials[1] = u.Credentials[0]
			return r
		},
		"a secret cut off": func(_ *testing.T, r records) records {
			r[0].GetHeader().FakeSecret = []byte{1}
			return r
		},
		"columns of objects": func(t *testing.T, r records) records {
			kind[pb.DeltaRecord_Objects](t, r).Objects.Flags = nil
			return r
		},
		"an object twice": func(t *testing.T, r records) records {
			kind[pb.DeltaRecord_Objects](t, r).Objects.Ids[1] = 0
			return r
		},
		"a topic went that is none": func(_ *testing.T, r records) records {
			return slices.Insert(r, 1, &pb.DeltaRecord{Body: &pb.DeltaRecord_GoneTopic{GoneTopic: bytes.Repeat([]byte{9}, 16)}})
		},
		"a topic's name": func(t *testing.T, r records) records {
			kind[pb.DeltaRecord_Topic](t, r).Topic.Name = ".."
			return r
		},
		"a topic twice": func(t *testing.T, r records) records {
			return append(r, &pb.DeltaRecord{Body: kind[pb.DeltaRecord_Topic](t, r)})
		},
		"a topic without partitions": func(t *testing.T, r records) records {
			empty := &pb.DeltaTopic{Id: bytes.Repeat([]byte{9}, 16), Name: "u"}
			r[0].GetHeader().Topics++
			return append(r, &pb.DeltaRecord{Body: &pb.DeltaRecord_Topic{Topic: empty}})
		},
		"partitions of no topic": func(t *testing.T, r records) records {
			kind[pb.DeltaRecord_Partitions](t, r).Partitions.TopicId = bytes.Repeat([]byte{9}, 16)
			return r
		},
		"columns of partitions": func(t *testing.T, r records) records {
			kind[pb.DeltaRecord_Partitions](t, r).Partitions.Leaders = []int32{1}
			return r
		},
		"a partition left out": func(t *testing.T, r records) records {
			kind[pb.DeltaRecord_Partitions](t, r).Partitions.Indexes[0] = 1
			return r
		},
		"a partition beyond all": func(t *testing.T, r records) records {
			kind[pb.DeltaRecord_Partitions](t, r).Partitions.Indexes[1] = MaxPartitionsPerTopic
			return r
		},
		"more replicas than there are": func(t *testing.T, r records) records {
			kind[pb.DeltaRecord_Partitions](t, r).Partitions.ReplicaCounts[0] = 40
			return r
		},
		"replicas of nobody": func(t *testing.T, r records) records {
			c := kind[pb.DeltaRecord_Partitions](t, r).Partitions
			c.Replicas = append(c.Replicas, 5)
			return r
		},
		"a log start below zero": func(t *testing.T, r records) records {
			kind[pb.DeltaRecord_Partitions](t, r).Partitions.LogStarts[0] = 1 << 63
			return r
		},
		"a log start that nothing holds": func(t *testing.T, r records) records {
			kind[pb.DeltaRecord_Manifest](t, r).Manifest.Base = 10
			return r
		},
		"a manifest that dies": func(t *testing.T, r records) records {
			kind[pb.DeltaRecord_Manifest](t, r).Manifest.Dying = true
			return r
		},
		"a manifest of no size": func(t *testing.T, r records) records {
			kind[pb.DeltaRecord_Manifest](t, r).Manifest.EntriesBytes = 1
			return r
		},
		"a manifest of no partition": func(t *testing.T, r records) records {
			kind[pb.DeltaRecord_Manifest](t, r).Manifest.Partition = 2
			return r
		},
		"a manifest that ends too early": func(t *testing.T, r records) records {
			kind[pb.DeltaRecord_Manifest](t, r).Manifest.End = 15
			return r
		},
		"a manifest, and no range": func(_ *testing.T, r records) records { return r[:len(r)-1] },
		"no state of compaction": func(t *testing.T, r records) records {
			kind[pb.DeltaRecord_Cleaning](t, r).Cleaning.Cleaning = nil
			return r
		},
		"an object that is not known": func(t *testing.T, r records) records {
			kind[pb.DeltaRecord_Ranges](t, r).Ranges.Objects[0] = 100
			return r
		},
		"a range in a manifest": func(t *testing.T, r records) records {
			kind[pb.DeltaRecord_Ranges](t, r).Ranges.Objects[0] = int64(kind[pb.DeltaRecord_Manifest](t, r).Manifest.ObjectId)
			return r
		},
		"a range without an object": func(t *testing.T, r records) records {
			kind[pb.DeltaRecord_Ranges](t, r).Ranges.Objects = nil
			return r
		},
		"more in a range than in its object": func(t *testing.T, r records) records {
			kind[pb.DeltaRecord_Ranges](t, r).Ranges.Ranges.Bytes[0] = 1 << 40
			return r
		},
		"a gap between ranges": func(t *testing.T, r records) records {
			kind[pb.DeltaRecord_Ranges](t, r).Ranges.Ranges.Bases[2] = 5
			return r
		},
		"an object that has fewer ranges": func(t *testing.T, r records) records {
			ids := kind[pb.DeltaRecord_Ranges](t, r).Ranges.Objects
			ids[1], ids[2] = 0, ids[1]+ids[2]
			return r
		},
		"a partition that the broker does not host": func(_ *testing.T, r records) records {
			r[0].GetHeader().Broker = 9
			return r
		},
	} {
		t.Run(what, func(t *testing.T) {
			v := NewView()
			was := v.Image()
			var corrupt *CorruptionError
			if err := v.Apply(deltaOf(change(t, deltaRecords(t, good))...)); !errors.As(err, &corrupt) || v.Image() != was || len(v.named) != 0 {
				t.Fatalf("%v, image at %d", err, v.Image().Offset())
			}
			mustApply(t, v, good)
		})
	}
}

// TestADeltaOfALaterVersionStops, and is not taken for damage.
func TestADeltaOfALaterVersionStops(t *testing.T) {
	good := EncodeDelta(nil, newLog(t, 1).state.Image(), 1)
	version := bytes.Clone(good)
	version[7]++
	binary.LittleEndian.PutUint32(version[8:], deltaCRC(version))
	field := bytes.Clone(good)
	record := protowire.AppendTag(nil, 1000, protowire.VarintType)
	record = protowire.AppendVarint(record, 1)
	field = append(binary.AppendUvarint(field, uint64(len(record))), record...)
	sealDelta(field)
	for what, delta := range map[string][]byte{"version": version, "field": field} {
		if err := NewView().Apply(delta); !isStop(err) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestADeltaTakesNoMoreThanItsLength: what is read grows with the bytes that came, not
// with the numbers in them.
func TestADeltaTakesNoMoreThanItsLength(t *testing.T) {
	l := newLog(t, 2)
	header := deltaRecords(t, EncodeDelta(nil, l.state.Image(), 1))[0]
	listeners := &pb.SnapshotBroker{Listeners: make([]*pb.Listener, 100_000)}
	for i := range listeners.Listeners {
		listeners.Listeners[i] = &pb.Listener{}
	}
	topic := &pb.DeltaTopic{Id: bytes.Repeat([]byte{9}, 16), Name: "u"}
	far := &pb.DeltaPartitions{
		TopicId: topic.Id, Indexes: []uint32{MaxPartitionsPerTopic - 1}, Leaders: []int32{1}, LeaderEpochs: []int32{0}, PartitionEpochs: []int32{0},
		LogStarts: []uint64{0}, ReplicaCounts: []uint32{1}, Replicas: []int32{1}, IsrCounts: []uint32{0},
	}
	for what, delta := range map[string][]byte{
		"listeners": deltaOf(header, &pb.DeltaRecord{Body: &pb.DeltaRecord_Broker{Broker: listeners}}),
		"a partition far off": deltaOf(header, &pb.DeltaRecord{Body: &pb.DeltaRecord_Topic{Topic: topic}},
			&pb.DeltaRecord{Body: &pb.DeltaRecord_Partitions{Partitions: far}}),
		"empty configurations": deltaOf(header, &pb.DeltaRecord{Body: &pb.DeltaRecord_Config{Config: &pb.DeltaConfig{Entries: make([]string, 100_000)}}}),
	} {
		var err error
		most := int64(64*len(delta) + 64<<10) // with what append leaves behind as it grows
		took := allocs.Within(most, func() { err = NewView().Apply(delta) })
		if err == nil || took > most {
			t.Errorf("%s: %d bytes for a delta of %d: %v", what, took, len(delta), err)
		}
	}
}

// checkView says what must hold in every image of a view.
func checkView(t testing.TB, v *View) {
	t.Helper()
	m := v.Image()
	named := map[storage.ObjectID]int{}
	for topic := range m.Topics() {
		for p := range topic.Partitions.All() {
			if wrong := p.checkTier(); wrong != "" {
				t.Fatalf("%s-%d: %s", topic.Name, p.Index, wrong)
			}
			for _, is := range p.Filed() {
				named[is.ID]++
			}
			end := storage.NoOffset
			for r := range p.Ranges().All() {
				if end != storage.NoOffset && r.Base != end {
					t.Fatalf("%s-%d: [%d, %d) behind %d", topic.Name, p.Index, r.Base, r.End, end)
				}
				end = r.End
				named[r.Object]++
			}
		}
	}
	if m.objects[Committed].len() != len(named) {
		t.Fatalf("%d objects are known, %d named", m.objects[Committed].len(), len(named))
	}
	for id, n := range named {
		if o, known := m.Object(id); !known || v.named[id] != n {
			t.Fatalf("object %s is named by %d, counted as %d: %+v", id, n, v.named[id], o)
		}
	}
}

// TestADamagedDeltaIsRefusedOrHolds: bytes of a body changed at random, under a checksum
// that is right, give an error and change nothing, or an image in which all holds.
func TestADamagedDeltaIsRefusedOrHolds(t *testing.T) {
	seed := seeded.Seed(t)
	rng := rand.New(rand.NewPCG(seed, 0))
	l := tieredLog(t)
	before := l.state.Image()
	l.fill(1)
	l.logStart(25)
	after := l.state.Image()
	begin := EncodeDelta(nil, before, 1)
	deltas := [][]byte{EncodeDelta(before, after, 1), EncodeDelta(nil, after, 1)}
	taken := 0
	for n := range 5_000 {
		damaged := bytes.Clone(deltas[n%2])
		for range 1 + rng.IntN(3) {
			damaged[deltaHeaderSize+rng.IntN(len(damaged)-deltaHeaderSize)] = byte(rng.Uint32())
		}
		sealDelta(damaged)
		v := NewView()
		mustApply(t, v, begin)
		was := v.Image()
		if err := v.Apply(damaged); err != nil && v.Image() != was {
			t.Fatalf("%v, and the image stands at %d", err, v.Image().Offset())
		} else if err == nil {
			taken++
		}
		checkView(t, v)
	}
	if taken == 0 {
		t.Error("none was taken: this shows nothing")
	}
	t.Logf("%d taken", taken)
}

// FuzzDelta: no bytes crash a view, and what it takes it can tell again. The body is
// fuzzed; the frame is put around it.
func FuzzDelta(f *testing.F) {
	l := tieredLog(f)
	before := l.state.Image()
	l.fill(1)
	l.logStart(25)
	after := l.state.Image()
	for _, delta := range [][]byte{EncodeDelta(before, after, 1), EncodeDelta(nil, after, 1), EncodeDelta(before, reassigned(after, storage.PartitionID{Topic: testID(7)}, 2), 1), EncodeDelta(nil, before, NoBroker)} {
		f.Add(delta[deltaHeaderSize:])
	}
	begin := EncodeDelta(nil, before, 1)
	f.Fuzz(func(t *testing.T, body []byte) {
		framed := append(make([]byte, deltaHeaderSize), body...)
		sealDelta(framed)
		v := NewView()
		mustApply(t, v, begin)
		was := v.Image()
		if v.Apply(body) == nil {
			t.Fatal("a body without its frame was read")
		}
		if v.Apply(framed) != nil {
			if v.Image() != was {
				t.Fatal("a refused delta changed something")
			}
			return
		}
		checkView(t, v)
		again, slice := NewView(), *v.Image()
		for state := range slice.unseen {
			slice.unseen[state] = 0 // what it shows is all that there is, now
		}
		mustApply(t, again, EncodeDelta(nil, &slice, v.broker))
		if got, want := showSlice(again.Image(), v.broker, false), showSlice(&slice, v.broker, false); got != want {
			t.Fatalf("second round:\n%s\n%s", got, want)
		}
	})
}
