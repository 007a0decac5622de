package metadata

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	pb "rustmq.dev/rustmq/consensus/metadata/metadatapb"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/test/seeded"
)

// showSlice writes down all that an image shows a broker. Of one that is whole it picks,
// in the dumbest way, what the broker should be shown; of a view it takes everything.
func showSlice(m *Image, broker int32, whole bool) string {
	var b strings.Builder
	bucket, _ := m.Bucket()
	fmt.Fprintln(&b, m.Offset(), m.ClusterID(), m.FeatureLevel(), m.nextProducerID, m.ControllerID(), bucket, m.NextObjectID())
	fmt.Fprintln(&b, m.NumTopics(), m.NumPartitions(), m.NumRanges(), m.LiveBytes(), m.FiledRanges(), m.NumManifests(), m.NumClientQuotas())
	for state := Prepared; state <= Condemned; state++ {
		fmt.Fprintln(&b, state, m.NumObjects(state), m.ObjectBytes(state))
	}
	for is := range m.Brokers() {
		fmt.Fprintf(&b, "%+v\n", *is)
	}
	for is := range m.Controllers() {
		fmt.Fprintf(&b, "%+v\n", *is)
	}
	for r, c := range m.configs.all() {
		fmt.Fprintln(&b, r, c.Version, c.Values)
	}
	for q := range m.ClientQuotas() {
		fmt.Fprintln(&b, q.Entity, q.Rates)
	}
	for r := range m.ACLs() {
		fmt.Fprintln(&b, r)
	}
	fmt.Fprintln(&b, m.NumUsers(), m.FakeSecret())
	for u := range m.Users() {
		fmt.Fprintln(&b, *u)
	}
	for is := range m.APITokens() {
		fmt.Fprintln(&b, *is)
	}
	fmt.Fprintln(&b, m.tokens.names.len(), m.tokens.hashes.len())
	for is := range m.Transforms() {
		fmt.Fprintln(&b, *is)
	}
	for is := range m.ConfigRevisions() {
		fmt.Fprintln(&b, is.Index, is.Broker, is.By, is.At, shownKeys(is.Keys))
	}
	for key, name := range m.collisions.all() {
		fmt.Fprintln(&b, key, name)
	}
	named := map[storage.ObjectID]bool{}
	for t := range m.Topics() {
		fmt.Fprintln(&b, t.Name, t.ID, t.Internal, t.Configs, t.ConfigVersion)
		for p := range t.Partitions.All() {
			fmt.Fprintln(&b, p.Index, p.Leader, p.LeaderEpoch, p.PartitionEpoch, p.Replicas, p.ISR, p.ELR, p.Adding, p.Removing, p.LogStart)
			if whole && !slices.Contains(p.Replicas, broker) {
				continue
			}
			fmt.Fprint(&b, p.Cleaning(), p.Filed(), " ", p.Ranges().Len(), " ", p.Ranges().Bytes(), " [")
			for _, is := range p.Filed() {
				named[is.ID] = true
			}
			for r := range p.Ranges().All() {
				b.WriteString(shownRanges.of(r))
				named[r.Object] = true
			}
			b.WriteString("]\n")
		}
	}
	if !whole {
		for o := range m.Objects() {
			named[o.ID] = true
		}
	}
	for _, id := range slices.Sorted(maps.Keys(named)) {
		o, known := m.Object(id)
		if !known {
			o = &Object{}
		}
		b.WriteString(shownObjects.of(shownObject{*o, known}))
	}
	return strings.ReplaceAll(b.String(), "{0 0 0 0 0} [] 0 0 []\n", "") // a partition with nothing in the bucket
}

// shown remembers how values look: most of them are in one image after the other.
type shown[T comparable] map[T]string

func (s shown[T]) of(v T) string {
	text, known := s[v]
	if !known {
		if len(s) > 1<<16 {
			clear(s)
		}
		text = fmt.Sprintf("%+v\n", v)
		s[v] = text
	}
	return text
}

type shownObject struct {
	Object
	known bool
}

var (
	shownRanges  = shown[Range]{}
	shownObjects = shown[shownObject]{}
)

func mustApply(t rapid.TB, v *View, delta []byte) {
	t.Helper()
	if err := v.Apply(delta); err != nil {
		t.Fatalf("apply a delta of %d bytes: %v", len(delta), err)
	}
}

// reassigned is m, one index on, with other replicas of a partition.
func reassigned(m *Image, of storage.PartitionID, replicas ...int32) *Image {
	changed := *m
	changed.offset++
	t, _ := m.TopicByID(of.Topic)
	topic := *t
	edit := t.Partitions.edit()
	p := edit.at(int(of.Index))
	p.Replicas = replicas
	p.PartitionEpoch++
	topic.Partitions = edit.is
	changed.topics = m.topics.put(t.ID, &topic)
	return &changed
}

// TestDeltasShowEachBrokerItsSlice applies random logs. To each of several brokers goes
// a chain of deltas, which skips images; its view shows what the image does of the
// partitions that it hosts, and all the rest; and a whole delta gives the same. Who made
// its images anew, from a snapshot, sends the same bytes.
func TestDeltasShowEachBrokerItsSlice(t *testing.T) {
	seeded.Check(t, func(t *rapid.T) {
		s, shelf := NewState(), shelf{}
		apply := func(index uint64, body proto.Message) {
			if _, err := s.Apply(index, rapidCommand(t, body)); err != nil {
				t.Fatalf("index %d: %v", index, err)
			}
		}
		topic := testID(1)
		index := uint64(0)
		for _, body := range []proto.Message{
			&pb.InitCluster{ClusterId: "c", FeatureLevel: LatestFeatureLevel},
			&pb.RegisterBroker{BrokerId: 1, Incarnation: make([]byte, 16), Directory: make([]byte, 16)},
			&pb.FenceBroker{BrokerId: 1, BrokerEpoch: 2},
			&pb.CreateTopic{TopicId: topic[:], Name: "a", Assignments: []*pb.Assignment{{Replicas: []int32{1}}, {Replicas: []int32{1}}}},
			&pb.PrepareObjects{BrokerId: 1, BrokerEpoch: 2, Count: 20},
		} {
			index++
			apply(index, body)
		}
		brokers := []int32{1, 2, 3, NoBroker}
		views, images := map[int32]*View{}, map[int32]*Image{}
		for _, id := range brokers {
			views[id] = NewView()
		}
		step := func() {
			now := s.Image()
			for _, id := range brokers {
				if rapid.IntRange(0, 3).Draw(t, "skip") == 0 {
					continue
				}
				delta := EncodeDelta(images[id], now, id)
				mustApply(t, views[id], delta)
				images[id] = now
				want := showSlice(now, id, true)
				if got := showSlice(views[id].Image(), id, false); got != want {
					t.Fatalf("broker %d by deltas:\n%s\nthe image:\n%s", id, got, want)
				}
				whole := NewView()
				mustApply(t, whole, EncodeDelta(nil, now, id))
				if got := showSlice(whole.Image(), id, false); got != want {
					t.Fatalf("broker %d by a whole delta:\n%s\nthe image:\n%s", id, got, want)
				}
				if !maps.Equal(views[id].named, whole.named) {
					t.Fatalf("broker %d: objects named %v by deltas, %v by a whole one", id, views[id].named, whole.named)
				}
			}
		}
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			index = s.Image().Offset() + uint64(rapid.IntRange(1, 2).Draw(t, "gap"))
			switch before := s.Image(); rapid.IntRange(0, 13).Draw(t, "what") {
			case 0:
				if t1, ok := before.TopicByID(topic); ok {
					p := t1.Partition(0)
					replicas := []int32{1, 2, 3, 4}[rapid.IntRange(0, 3).Draw(t, "from"):]
					if p.Leader != NoLeader && !slices.Contains(replicas, p.Leader) {
						replicas = append([]int32{p.Leader}, replicas...)
					}
					s.image.Store(reassigned(before, storage.PartitionID{Topic: topic}, replicas...))
				}
			case 1:
				restored := NewState()
				if err := restored.Restore(before.Snapshot()); err != nil {
					t.Fatal(err)
				}
				for _, id := range brokers {
					if was := images[id]; was != nil && !bytes.Equal(EncodeDelta(was, before, id), EncodeDelta(was, restored.Image(), id)) {
						t.Fatalf("broker %d: another delta from an image of the same content", id)
					}
				}
				s = restored
			case 2, 3:
				apply(index, drawCommandOfSlices(t, before))
			default:
				apply(index, drawCommand(t, before, shelf))
			}
			step()
		}
	})
}

// drawCommandOfSlices draws a command about what drawCommand leaves alone.
func drawCommandOfSlices(t *rapid.T, m *Image) proto.Message {
	broker := rapid.Int32Range(1, 4).Draw(t, "broker")
	topic := testID(byte(rapid.IntRange(1, 2).Draw(t, "topic")))
	switch rapid.IntRange(0, 6).Draw(t, "cluster command") {
	case 0:
		return NewRegisterController(ControllerNode{
			ID: uint64(broker), Directory: [16]byte{byte(rapid.IntRange(0, 1).Draw(t, "directory"))}, Raft: "a:1", Controller: "a:2", MaxFeatureLevel: LatestFeatureLevel,
		})
	case 1:
		return &pb.UnregisterController{NodeId: uint64(broker)}
	case 2:
		return &pb.ChangeBroker{BrokerId: broker, Draining: rapid.Bool().Draw(t, "draining")}
	case 3:
		return &pb.UnregisterBroker{BrokerId: broker}
	case 4:
		r := Resource{Type: rapid.SampledFrom([]ResourceType{BrokerResource, GroupResource, ClientMetricsResource}).Draw(t, "resource"), Name: "1"}
		_, version := m.Config(r)
		c := &pb.AlterConfigs{ResourceType: int32(r.Type), Name: r.Name, Version: version, Remove: []string{"a"}}
		if rapid.Bool().Draw(t, "set") {
			c.Remove, c.Set = nil, []*pb.ConfigEntry{{Key: "a", Value: fmt.Sprint(rapid.IntRange(0, 1).Draw(t, "value"))}}
		}
		return c
	case 5:
		return &pb.SetBucket{Nonce: bytes.Repeat([]byte{1}, 16), Incarnation: 1}
	default:
		e := &pb.ReassignPartitions_Entry{TopicId: topic[:]}
		if n := rapid.IntRange(0, 3).Draw(t, "replicas"); n > 0 {
			e.Replicas = rapid.Permutation([]int32{1, 2, 3, 4}).Draw(t, "to")[:n]
		}
		return &pb.ReassignPartitions{Entries: []*pb.ReassignPartitions_Entry{e}}
	}
}

// TestReplicasComeAndGo: who becomes a replica is sent what the partition has in the
// bucket, with its objects; who is none any more forgets both.
func TestReplicasComeAndGo(t *testing.T) {
	l := newLog(t, 2)
	id := l.prepare(1)
	l.accepted(NewCommitObject(1, 2, id, 1000, []PartitionRange{rangeAt(0, 0, 10), rangeAt(1, 0, 10)}))
	of := storage.PartitionID{Topic: testID(7)}
	first := l.state.Image()
	v := NewView()
	mustApply(t, v, EncodeDelta(nil, first, 3))
	ranges := func() int {
		_, p := v.Image().Partition(of)
		return p.Ranges().Len()
	}
	if _, known := v.Image().Object(id); known || ranges() != 0 || v.Image().NumRanges() != 2 {
		t.Fatalf("broker 3, which hosts nothing, is shown %d ranges, object %v", ranges(), known)
	}
	hosts := reassigned(first, of, 1, 2, 3)
	mustApply(t, v, EncodeDelta(first, hosts, 3))
	if o, known := v.Image().Object(id); !known || o.Ranges != 2 || ranges() != 1 {
		t.Fatalf("a new replica is shown %d ranges, object %+v", ranges(), o)
	}
	mustApply(t, v, EncodeDelta(hosts, reassigned(hosts, of, 1, 2), 3))
	if _, known := v.Image().Object(id); known || ranges() != 0 || len(v.named) != 0 {
		t.Fatalf("a former replica keeps %d ranges, object %v, names %v", ranges(), known, v.named)
	}
}

// TestLongListsByDeltas: ranges and manifests in lists of several chunks, which grow,
// are compacted, filed and passed by the log start, and begin anew under the same id.
// Views that follow at their own pace show what the image does.
func TestLongListsByDeltas(t *testing.T) {
	for seed := range uint64(8) {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 0))
			l, s := newLog(t, 1), shelf{}
			l.fill(300)
			of := storage.PartitionID{Topic: testID(7)}
			var views [3]*View
			var images [3]*Image
			for i := range views {
				views[i] = NewView()
			}
			for range 120 {
				m := l.state.Image()
				_, p := m.Partition(of)
				n := p.Ranges().Len()
				switch kind := rng.IntN(40); {
				case kind < 14:
					l.fill(1 + rng.IntN(3))
				case kind < 22 && n > 8:
					at := rng.IntN(n - 4)
					first, run := p.Ranges().At(at), Replacement{}
					run.PartitionRange = rangeAt(0, first.Base, first.End)
					run.Range.Epoch = p.LeaderEpoch
					for i := range 1 + rng.IntN(3) {
						r := p.Ranges().At(at + i)
						run.Removed = append(run.Removed, RemovedRange{r.Object, r.Base, r.End})
						run.Range.End = r.End
					}
					l.accepted(NewReplaceRanges(1, 2, l.prepare(1), 1<<26, []Replacement{run}))
				case kind < 28 && n > 0:
					l.logStart(min(p.LogStart+storage.Offset(rng.IntN(60)), p.CommittedEnd()))
				case kind < 37 && n > 8:
					if command := s.random(rng, l, p, of); command != nil {
						l.apply(command)
					}
				case kind == 39:
					l.accepted(&pb.DeleteTopic{TopicId: of.Topic[:]})
					l.accepted(&pb.CreateTopic{TopicId: of.Topic[:], Name: "t", Assignments: []*pb.Assignment{{Replicas: []int32{1, 2}}}})
					l.fill(rng.IntN(200))
				}
				m = l.state.Image()
				for i := range views {
					if rng.IntN(i+1) > 0 {
						continue
					}
					mustApply(t, views[i], EncodeDelta(images[i], m, 2))
					images[i] = m
					if got, want := showSlice(views[i].Image(), 2, false), showSlice(m, 2, true); got != want {
						t.Fatalf("by deltas:\n%s\nthe image:\n%s", got, want)
					}
				}
			}
		})
	}
}

// TestAnIDIsGivenToAnotherTopic: of the first one nothing stays, whatever the two have in
// common. Between the images of a delta the id may have been both.
func TestAnIDIsGivenToAnotherTopic(t *testing.T) {
	l := tieredLog(t)
	l.accepted(NewRecordCleaning(1, 2, storage.PartitionID{Topic: testID(7), Index: 1}, 0, Cleaning{To: 5}))
	before := l.state.Image()
	topic := testID(7)
	anew := func(name string, replicas ...[]int32) *Image {
		l := &testLog{t: t, state: NewState(), index: before.Offset()}
		l.state.image.Store(before)
		l.accepted(&pb.DeleteTopic{TopicId: topic[:]})
		c := &pb.CreateTopic{TopicId: topic[:], Name: name}
		for _, of := range replicas {
			c.Assignments = append(c.Assignments, &pb.Assignment{Replicas: of})
		}
		l.accepted(c)
		return l.state.Image()
	}
	both := []int32{1, 2}
	longer := &testLog{t: t, state: NewState()}
	longer.state.image.Store(anew("t", both, both))
	longer.index = longer.state.Image().Offset()
	longer.fill(8) // beyond what the first had; never compacted by key
	longer.accepted(NewCommitObject(1, 2, longer.prepare(1), 1000, []PartitionRange{rangeAt(1, 0, 20)}))
	swapped := reassigned(before, storage.PartitionID{Topic: topic}, 2, 1)
	for what, after := range map[string]*Image{
		"another name":      anew("u", both, both),
		"fewer partitions":  anew("t", both),
		"the same, empty":   anew("t", both, both),
		"the same, longer":  longer.state.Image(),
		"replicas in order": swapped,
	} {
		for _, broker := range []int32{1, 3} {
			v := NewView()
			mustApply(t, v, EncodeDelta(nil, before, broker))
			mustApply(t, v, EncodeDelta(before, after, broker))
			if got, want := showSlice(v.Image(), broker, false), showSlice(after, broker, true); got != want {
				t.Errorf("%s, broker %d, by deltas:\n%s\nthe image:\n%s", what, broker, got, want)
			}
		}
	}
}

// TestOneRangeMoreIsAllThatIsSent, however many the partition has.
func TestOneRangeMoreIsAllThatIsSent(t *testing.T) {
	l := newLog(t, 1)
	l.fill(3000)
	before := l.state.Image()
	l.fill(1)
	if delta := EncodeDelta(before, l.state.Image(), 1); len(delta) > 250 {
		t.Fatalf("%d bytes", len(delta))
	}
	l.logStart(20_000)
	if delta := EncodeDelta(before, l.state.Image(), 1); len(delta) > 250+chunkRanges*20 {
		t.Fatalf("%d bytes with a log start moved", len(delta)) // the chunk that it lies in was cut
	}
}

// TestAnUnfitDeltaIsRefused: each leaves the view where it was.
func TestAnUnfitDeltaIsRefused(t *testing.T) {
	l := newLog(t, 2)
	first := l.state.Image()
	l.prepare(1)
	second := l.state.Image()
	l.prepare(1)
	third := l.state.Image()
	other := *third
	other.clusterID = "d"
	older := *first
	older.bucket, older.offset = Bucket{Incarnation: 1, Nonce: [16]byte{1}}, 100
	newer := older
	newer.bucket.Incarnation, newer.offset = 2, 1 // recovered from the bucket, under a new log
	if err := NewView().Apply(EncodeDelta(first, second, 1)); !errors.Is(err, ErrUnfit) {
		t.Fatalf("a view without an image: %v", err)
	}
	for what, c := range map[string]struct {
		at    *Image
		delta []byte
		fits  bool
	}{
		"from the image before":      {second, EncodeDelta(first, third, 1), false},
		"from the image after":       {first, EncodeDelta(second, third, 1), false},
		"again":                      {third, EncodeDelta(second, third, 1), false},
		"of another broker":          {second, EncodeDelta(second, third, 2), false},
		"whole, of an earlier image": {second, EncodeDelta(nil, first, 1), false},
		"of another cluster":         {third, EncodeDelta(nil, &other, 1), false},
		"of an earlier incarnation":  {&newer, EncodeDelta(nil, &older, 1), false},
		"of a later incarnation":     {&older, EncodeDelta(nil, &newer, 1), true},
		"the next":                   {second, EncodeDelta(second, third, 1), true},
		"to the same image":          {second, EncodeDelta(second, second.WithController(3), 1), true},
		"whole":                      {second, EncodeDelta(nil, third, 1), true},
		"whole, of another broker":   {second, EncodeDelta(nil, third, 2), true},
	} {
		t.Run(what, func(t *testing.T) {
			v := NewView()
			mustApply(t, v, EncodeDelta(nil, c.at, 1))
			was := v.Image()
			err := v.Apply(c.delta)
			if (err == nil) != c.fits || err != nil && (!errors.Is(err, ErrUnfit) || v.Image() != was) {
				t.Fatalf("%v, image at %d", err, v.Image().Offset())
			}
		})
	}
}

// TestEveryFlippedBitOfADeltaIsSeen, and every cut.
func TestEveryFlippedBitOfADeltaIsSeen(t *testing.T) {
	l := newLog(t, 2)
	before := l.state.Image()
	l.accepted(NewCommitObject(1, 2, l.prepare(1), 1000, []PartitionRange{rangeAt(0, 0, 10), rangeAt(1, 0, 10)}))
	delta := EncodeDelta(before, l.state.Image(), 1)
	v := NewView()
	mustApply(t, v, EncodeDelta(nil, before, 1))
	was := v.Image()
	for n := range delta {
		flipped := bytes.Clone(delta)
		flipped[n] ^= 1 << (n % 8)
		for _, torn := range [][]byte{flipped, delta[:n]} {
			var corrupt *CorruptionError
			if err := v.Apply(torn); !errors.As(err, &corrupt) || v.Image() != was {
				t.Fatalf("byte %d: %v", n, err)
			}
		}
	}
	mustApply(t, v, delta)
}

// TestDeltaOfOneBrokersShare: of an object with 1000 ranges a broker that hosts three of
// the partitions is sent those, and one that hosts none of it next to nothing.
func TestDeltaOfOneBrokersShare(t *testing.T) {
	before, after := thousandRanges(t)
	three, none, all := EncodeDelta(before, after, 3), EncodeDelta(before, after, NoBroker), EncodeDelta(before, after, 1)
	if len(none) > 160 || len(three) > len(none)+180 || len(all) < 10_000 || len(all) > 40_000 {
		t.Fatalf("a replica of all: %d bytes, of three: %d, of none: %d", len(all), len(three), len(none))
	}
	v := NewView()
	mustApply(t, v, EncodeDelta(nil, before, 3))
	was := v.Image()
	mustApply(t, v, three)
	changed := 0
	for a, b := range v.Image().ChangedTopics(was) {
		for range ChangedPartitions(a, b) {
			changed++
		}
	}
	if changed != 3 {
		t.Fatalf("%d partitions changed", changed)
	}
}

// thousandRanges are images before and after the commit of an object with a range of
// each of 1000 partitions, which broker 1 hosts, and broker 3 three of them.
func thousandRanges(t testing.TB) (before, after *Image) {
	l := newLog(t, 1000)
	m := l.state.Image()
	for _, index := range []int32{5, 500, 900} {
		m = reassigned(m, storage.PartitionID{Topic: testID(7), Index: index}, 1, 2, 3)
	}
	l.state.image.Store(m)
	l.index = m.Offset()
	id := l.prepare(1)
	before = l.state.Image()
	ranges := make([]PartitionRange, 1000)
	for i := range ranges {
		ranges[i] = rangeAt(int32(i), 0, 10)
	}
	l.accepted(NewCommitObject(1, 2, id, 1<<20, ranges))
	return before, l.state.Image()
}
