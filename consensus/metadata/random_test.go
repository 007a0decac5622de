package metadata

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	pb "rustmq.dev/rustmq/consensus/metadata/metadatapb"
	"rustmq.dev/rustmq/security/acl"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/test/seeded"
)

// drawCommand draws a command that may well fit the image, and may not.
func drawCommand(t *rapid.T, m *Image, shelf shelf) proto.Message {
	broker := func() int32 { return rapid.Int32Range(1, 4).Draw(t, "broker") }
	epoch := func(id int32) int64 {
		if b, ok := m.Broker(id); ok && rapid.IntRange(0, 9).Draw(t, "stale") > 0 {
			return b.Epoch
		}
		return rapid.Int64Range(0, 5).Draw(t, "epoch")
	}
	id := func() []byte {
		id := testID(byte(rapid.IntRange(1, 6).Draw(t, "id")))
		return id[:]
	}
	assignments := func() []*pb.Assignment {
		var list []*pb.Assignment
		factor := rapid.IntRange(1, 3).Draw(t, "factor")
		for range rapid.IntRange(1, 80).Draw(t, "partitions") {
			list = append(list, &pb.Assignment{Replicas: rapid.Permutation([]int32{1, 2, 3, 4}).Draw(t, "replicas")[:factor]})
		}
		return list
	}
	names := []string{"a", "b.c", "b_c", "d", "..", "e f"}
	switch rapid.IntRange(0, 40).Draw(t, "command") {
	case 0, 1:
		unclean := m.FeatureLevel() >= ClusterFeatureLevel && rapid.Bool().Draw(t, "unclean")
		return &pb.RegisterBroker{
			BrokerId: broker(), UncleanEnd: unclean, AcksBeforeSync: unclean,
			Incarnation: bytes.Repeat([]byte{byte(rapid.IntRange(0, 3).Draw(t, "start"))}, 16),
			Directory:   bytes.Repeat([]byte{byte(rapid.IntRange(0, 1).Draw(t, "directory"))}, 16),
		}
	case 2, 3, 4:
		b := broker()
		return &pb.FenceBroker{BrokerId: b, BrokerEpoch: epoch(b), Fenced: rapid.IntRange(0, 2).Draw(t, "fence") == 0}
	case 5, 6:
		c := &pb.CreateTopic{TopicId: id(), Name: rapid.SampledFrom(names).Draw(t, "name"), Assignments: assignments()}
		if min := rapid.IntRange(0, 3).Draw(t, "min"); min > 0 {
			c.Configs = []*pb.ConfigEntry{{Key: minInsyncReplicas, Value: fmt.Sprint(min)}}
		}
		if m.FeatureLevel() >= ObjectTopicsFeatureLevel && rapid.IntRange(0, 2).Draw(t, "held") == 0 {
			c.Configs = append(c.Configs, &pb.ConfigEntry{Key: durability, Value: objectDurability})
			for _, a := range c.Assignments {
				a.Replicas = a.Replicas[:1]
			}
		}
		return c
	case 7:
		return &pb.DeleteTopic{TopicId: id()}
	case 8:
		topic := id()
		existing := 0
		if t, ok := m.TopicByID(storage.TopicID(topic)); ok {
			existing = t.Partitions.Len()
		}
		return &pb.CreatePartitions{TopicId: topic, Existing: int32(existing), Assignments: assignments()}
	case 9, 10:
		r := Resource{Type: TopicResource, Name: rapid.SampledFrom(names).Draw(t, "name")}
		_, version := m.Config(r)
		return &pb.AlterConfigs{ResourceType: int32(r.Type), Name: r.Name, Version: version, Set: []*pb.ConfigEntry{
			{Key: minInsyncReplicas, Value: fmt.Sprint(rapid.IntRange(1, 3).Draw(t, "min"))},
		}}
	case 11:
		b, topic := broker(), id()
		return &pb.AdvanceLogStart{BrokerId: b, BrokerEpoch: epoch(b), Entries: []*pb.AdvanceLogStart_Entry{{
			TopicId: topic, Partition: rapid.Int32Range(0, 80).Draw(t, "partition"),
			LeaderEpoch: rapid.Int32Range(0, 3).Draw(t, "leader epoch"), Offset: rapid.Int64Range(-1, 100).Draw(t, "offset"),
		}}}
	case 12:
		b := broker()
		return &pb.AllocateProducerIds{BrokerId: b, BrokerEpoch: epoch(b), Count: 10}
	case 13, 14:
		half := func(what string) QuotaName {
			return rapid.SampledFrom([]QuotaName{{}, {Scope: QuotaDefault}, {Scope: QuotaNamed, Name: "a"}, {Scope: QuotaNamed, Name: ""}}).Draw(t, what)
		}
		entity := QuotaEntity{User: half("user"), ClientID: half("client id")}
		if rapid.IntRange(0, 4).Draw(t, "of an address") == 0 {
			entity = QuotaEntity{User: half("user"), IP: rapid.SampledFrom([]QuotaName{{Scope: QuotaDefault}, {Scope: QuotaNamed, Name: "192.0.2.7"}, {Scope: QuotaNamed, Name: "a"}}).Draw(t, "ip")}
		}
		set, remove := map[string]float64{}, []string(nil)
		for range rapid.IntRange(0, 2).Draw(t, "rates") {
			set[rapid.SampledFrom(append(entity.Keys(), "other")).Draw(t, "set")] = rapid.Float64Range(-1, 100).Draw(t, "rate")
		}
		if rapid.Bool().Draw(t, "removes") {
			remove = entity.Keys()
		}
		return NewAlterClientQuotas(entity, set, remove)
	case 39, 40:
		return drawACLCommand(t)
	case 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38:
		return drawClusterCommand(t, m)
	default:
		return drawObjectCommand(t, m, shelf)
	}
}

// drawACLCommand draws a command that makes or deletes rules, some of which cannot be.
func drawACLCommand(t *rapid.T) proto.Message {
	var rules []acl.Rule
	for range rapid.IntRange(0, 3).Draw(t, "rules") {
		r := testACL(rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(t, "user"))
		r.Host = rapid.SampledFrom([]string{"*", "*", "10.0.0.0/8", "10.1.2.3/8"}).Draw(t, "host")
		rules = append(rules, r)
	}
	if rapid.Bool().Draw(t, "deletes") {
		return NewDeleteACLs(rules)
	}
	return NewCreateACLs(rules)
}

// drawClusterCommand draws a command of feature level 9.
func drawClusterCommand(t *rapid.T, m *Image) proto.Message {
	broker := rapid.Int32Range(1, 5).Draw(t, "broker")
	var topics []*Topic
	for topic := range m.Topics() {
		topics = append(topics, topic)
	}
	if len(topics) == 0 {
		topics = append(topics, &Topic{ID: testID(1), Partitions: PartitionsOf(Partition{Leader: 1})})
	}
	topic := rapid.SampledFrom(topics).Draw(t, "topic")
	p := topic.Partition(int32(rapid.IntRange(0, min(2, topic.Partitions.Len()-1)).Draw(t, "partition")))
	some := rapid.Permutation([]int32{1, 2, 3, 4, 5}).Draw(t, "brokers")[:rapid.IntRange(0, 4).Draw(t, "how many")]
	switch rapid.IntRange(0, 14).Draw(t, "cluster command") {
	case 0:
		return &pb.ChangeBroker{BrokerId: broker, Draining: rapid.Bool().Draw(t, "draining")}
	case 1:
		return &pb.UnregisterBroker{BrokerId: broker}
	case 2:
		return NewRegisterController(ControllerNode{ID: uint64(broker), Raft: "h:1", Controller: "h:2", MaxFeatureLevel: rapid.Uint32Range(8, LatestFeatureLevel).Draw(t, "knows")})
	case 3:
		return &pb.UnregisterController{NodeId: uint64(broker)}
	case 12:
		return drawUsers(t)
	case 13:
		return drawAPITokens(t)
	case 14:
		return drawTransforms(t, m)
	case 4, 5, 6:
		c := PartitionChange{
			Partition:   storage.PartitionID{Topic: topic.ID, Index: p.Index},
			LeaderEpoch: p.LeaderEpoch, PartitionEpoch: p.PartitionEpoch - int32(rapid.IntRange(0, 9).Draw(t, "old epoch")/9),
		}
		var epoch int64
		if b, ok := m.Broker(p.Leader); ok {
			epoch = b.Epoch
		}
		for _, id := range p.Replicas {
			if b, ok := m.Broker(id); ok && (id == p.Leader || slices.Contains(some, id)) {
				c.ISR = append(c.ISR, ReplicaEpoch{Broker: id, Epoch: b.Epoch})
			}
		}
		return NewAlterPartitions(p.Leader, epoch, []PartitionChange{c})
	case 7, 8, 9:
		return &pb.ReassignPartitions{Entries: []*pb.ReassignPartitions_Entry{{TopicId: topic.ID[:], Partition: p.Index, Replicas: some}}}
	default:
		to := NoLeader
		if len(some) > 0 {
			to = some[0]
		}
		return &pb.ElectLeaders{Entries: []*pb.ElectLeaders_Entry{{TopicId: topic.ID[:], Partition: p.Index, Leader: to, Unclean: rapid.Bool().Draw(t, "unclean")}}}
	}
}

// drawObjectCommand draws a command about objects, most of them near enough to
// the image to be taken in part.
func drawObjectCommand(t *rapid.T, m *Image, shelf shelf) proto.Message {
	kind := rapid.IntRange(0, 17).Draw(t, "object command")
	if kind == 17 {
		return &pb.AnnounceEntry{
			Number: m.AnnouncedEntry() + rapid.Uint64Range(0, 2).Draw(t, "entry") - rapid.Uint64Range(0, min(1, m.AnnouncedEntry())).Draw(t, "behind"),
			Term:   rapid.Uint64Range(1, 3).Draw(t, "term"), Writer: rapid.Uint64Range(1, 3).Draw(t, "writer"),
		}
	}
	broker := rapid.Int32Range(1, 4).Draw(t, "broker")
	var epoch int64
	if b, ok := m.Broker(broker); ok {
		epoch = b.Epoch - int64(rapid.IntRange(0, 19).Draw(t, "stale")/19)
	}
	ids := func() (ids []uint64) {
		for range rapid.IntRange(1, 4).Draw(t, "ids") {
			ids = append(ids, rapid.Uint64Range(1, uint64(m.NextObjectID())).Draw(t, "object"))
		}
		return ids
	}
	prepared := storage.ObjectID(1)
	for o := range m.ObjectsIn(Prepared) {
		if prepared = o.ID; o.Broker == broker {
			break
		}
	}
	var topics []*Topic
	for topic := range m.Topics() {
		topics = append(topics, topic)
	}
	if kind < 2 || len(topics) == 0 {
		return &pb.PrepareObjects{BrokerId: broker, BrokerEpoch: epoch, Count: rapid.Uint32Range(0, 5).Draw(t, "count")}
	}
	// partition draws one, mostly of those that the broker leads.
	partition := func() (*Partition, PartitionRange) {
		topic := rapid.SampledFrom(topics).Draw(t, "topic")
		p := topic.Partition(int32(rapid.IntRange(0, min(3, topic.Partitions.Len()-1)).Draw(t, "partition")))
		if p.Leader != NoLeader && rapid.IntRange(0, 9).Draw(t, "leader") > 0 {
			broker = p.Leader
			b, _ := m.Broker(broker)
			epoch = b.Epoch
			for o := range m.ObjectsIn(Prepared) {
				if o.Broker == broker && o.BrokerEpoch == epoch {
					prepared = o.ID
				}
			}
		}
		return p, PartitionRange{
			Partition: storage.PartitionID{Topic: topic.ID, Index: p.Index},
			Range: Range{
				Epoch: p.LeaderEpoch - storage.Epoch(rapid.IntRange(0, 9).Draw(t, "old epoch")/9), Bytes: rapid.Int64Range(0, 300).Draw(t, "bytes"),
				MaxTimestamp: rapid.Int64().Draw(t, "time"), IndexPosition: 9, IndexLength: 3, IndexCRC: rapid.Uint32().Draw(t, "crc"), HasAborts: rapid.Bool().Draw(t, "aborts"),
			},
		}
	}
	switch kind {
	case 2, 3, 4, 5, 6:
		var ranges []PartitionRange
		ends := map[storage.PartitionID]storage.Offset{}
		for range rapid.IntRange(1, 6).Draw(t, "ranges") {
			p, r := partition()
			base := max(ends[r.Partition], p.CommittedEnd())
			r.Range.Base = base + storage.Offset(rapid.IntRange(-9, 9).Draw(t, "off")/9)
			r.Range.End = r.Range.Base + storage.Offset(rapid.IntRange(0, 30).Draw(t, "length"))
			if r.Range.Base == base {
				ends[r.Partition] = r.Range.End
			}
			ranges = append(ranges, r)
		}
		return NewCommitObject(broker, epoch, prepared, 1000, ranges)
	case 7, 8:
		var replacements []Replacement
		for range rapid.IntRange(1, 3).Draw(t, "replacements") {
			p, r := partition()
			one := Replacement{PartitionRange: r}
			is := slices.Collect(p.Ranges().All())
			from := rapid.IntRange(0, len(is)).Draw(t, "from")
			for _, gone := range is[from:min(len(is), from+rapid.IntRange(1, 3).Draw(t, "run"))] {
				one.Removed = append(one.Removed, RemovedRange{gone.Object, gone.Base, gone.End})
			}
			if len(one.Removed) == 0 {
				one.Removed = []RemovedRange{{1, 0, 1}}
			}
			one.Range.Base, one.Range.End = one.Removed[0].Base, one.Removed[len(one.Removed)-1].End
			replacements = append(replacements, one)
		}
		return NewReplaceRanges(broker, epoch, prepared, 1000, replacements)
	case 9:
		return &pb.CondemnObjects{ObjectIds: ids()}
	case 10:
		return &pb.ForgetObjects{ObjectIds: ids()}
	case 11, 12, 13:
		p, r := partition()
		return shelf.file(t, m, p, r.Partition, broker, epoch, prepared)
	case 14:
		return shelf.dissolve(t, m)
	case 15:
		p, r := partition()
		c := p.Cleaning()
		c.To += storage.Offset(rapid.IntRange(-1, 20).Draw(t, "to"))
		if rapid.Bool().Draw(t, "round") {
			c.Round, c.Next = c.To+storage.Offset(rapid.IntRange(0, 9).Draw(t, "more")), storage.Offset(rapid.IntRange(0, 50).Draw(t, "next"))
		}
		return NewRecordCleaning(broker, epoch, r.Partition, r.Range.Epoch, c)
	default:
		p, r := partition()
		return &pb.MoveLogStarts{Topics: []*pb.MoveLogStarts_Topic{{
			TopicId: r.Partition.Topic[:], Partitions: []int32{p.Index}, Offsets: []int64{int64(p.LogStart) + rapid.Int64Range(-5, 60).Draw(t, "offset")},
		}}}
	}
}

// TestSameLogSameBytes applies random logs to one state machine, to a second
// one, and to a third that is replaced from a snapshot now and then: images
// keep their invariants, and all three have the same snapshot (promise 10).
func TestSameLogSameBytes(t *testing.T) {
	seeded.Check(t, func(t *rapid.T) {
		a, b, c := NewState(), NewState(), NewState()
		shelf := shelf{}
		apply := func(index uint64, command []byte) {
			before := a.Image()
			want, err := a.Apply(index, command)
			for _, other := range []*State{b, c} {
				got, otherErr := other.Apply(index, bytes.Clone(command))
				if fmt.Sprint(got) != fmt.Sprint(want) || err != nil || otherErr != nil {
					t.Fatalf("index %d: %v, %v and %v, %v", index, want, err, got, otherErr)
				}
			}
			if Refused(want) != nil {
				after := *a.Image()
				after.offset = before.offset
				if !bytes.Equal(after.Snapshot(), before.Snapshot()) {
					t.Fatalf("index %d was refused (%v) and changed something", index, want)
				}
			}
			if err := checkImage(before, a.Image(), shelf, command); err != nil {
				t.Fatalf("index %d: %v\n%s", index, err, show(a.Image()))
			}
		}
		apply(1, rapidCommand(t, &pb.InitCluster{ClusterId: "c", FeatureLevel: rapid.Uint32Range(1, LatestFeatureLevel).Draw(t, "level")}))
		index := uint64(1)
		if rapid.Bool().Draw(t, "begun") {
			topic := testID(1)
			for i, body := range []proto.Message{
				&pb.RegisterBroker{BrokerId: 1, Incarnation: make([]byte, 16), Directory: make([]byte, 16)},
				&pb.FenceBroker{BrokerId: 1, BrokerEpoch: 2},
				&pb.CreateTopic{TopicId: topic[:], Name: "a", Assignments: []*pb.Assignment{{Replicas: []int32{1}}, {Replicas: []int32{1}}}},
				&pb.PrepareObjects{BrokerId: 1, BrokerEpoch: 2, Count: 20},
			} {
				index = uint64(i) + 2
				apply(index, rapidCommand(t, body))
			}
		}
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			index += uint64(rapid.IntRange(1, 2).Draw(t, "gap"))
			apply(index, rapidCommand(t, drawCommand(t, a.Image(), shelf)))
			if rapid.IntRange(0, 7).Draw(t, "snapshot") == 0 {
				restored := NewState()
				if err := restored.Restore(c.Snapshot()()); err != nil {
					t.Fatalf("index %d: restore: %v", index, err)
				}
				c = restored
			}
		}
		want := a.Snapshot()()
		for i, other := range []*State{b, c} {
			if !bytes.Equal(want, other.Snapshot()()) {
				t.Fatalf("state %d differs:\n%s\n%s", i, show(a.Image()), show(other.Image()))
			}
		}
	})
}

func rapidCommand(t *rapid.T, body proto.Message) []byte {
	command, err := Encode(&Image{clusterID: "any", featureLevel: 1 << 30}, body)
	if err != nil {
		t.Fatalf("encode: %v", err)
	}
	return command
}

// checkImage says what must hold in every image, and from one to the next by a command.
func checkImage(before, m *Image, shelf shelf, command []byte) error {
	c, stop := decode(m.offset, command)
	if stop != nil {
		return stop
	}
	named := func(id int32) bool { // by the leader before, as in sync
		return slices.ContainsFunc(c.GetAlterPartitions().GetEntries(), func(e *pb.AlterPartitions_Entry) bool {
			return slices.ContainsFunc(e.Isr, func(r *pb.AlterPartitions_Replica) bool { return r.BrokerId == id })
		})
	}
	unclean := slices.ContainsFunc(c.GetElectLeaders().GetEntries(), func(e *pb.ElectLeaders_Entry) bool { return e.Unclean })
	partitions := 0
	for t := range m.Topics() {
		if id, _ := m.names.get(t.Name); id != t.ID {
			return fmt.Errorf("topic %q is found as %s", t.Name, id)
		}
		old, existed := before.TopicByID(t.ID)
		for p := range t.Partitions.All() {
			if err := checkPartition(m, t, p); err != nil {
				return fmt.Errorf("%s-%d: %w", t.Name, p.Index, err)
			}
			if !existed || old.Partition(p.Index) == nil {
				continue
			}
			was := old.Partition(p.Index)
			switch {
			case p.LeaderEpoch < was.LeaderEpoch, p.PartitionEpoch < was.PartitionEpoch, p.LogStart < was.LogStart:
				return fmt.Errorf("%s-%d: an epoch or the log start fell", t.Name, p.Index)
			case p.Cleaning().To < was.Cleaning().To, max(p.Cleaning().To, p.Cleaning().Round, p.Cleaning().Next) > p.CommittedEnd():
				return fmt.Errorf("%s-%d: compaction by key went back, or beyond the bucket: %+v", t.Name, p.Index, p.Cleaning())
			case p.Leader != was.Leader && p.LeaderEpoch == was.LeaderEpoch:
				return fmt.Errorf("%s-%d: another leader under the same epoch", t.Name, p.Index)
			case before.FeatureLevel() >= DepartureFeatureLevel && len(minus(was.Replicas, p.Replicas)) > 0 && p.LeaderEpoch == was.LeaderEpoch:
				return fmt.Errorf("%s-%d: of replicas %v are %v left, under the same epoch", t.Name, p.Index, was.Replicas, p.Replicas)
			case !(slices.Equal(p.ISR, was.ISR) && slices.Equal(p.ELR, was.ELR)) && p.PartitionEpoch == was.PartitionEpoch:
				return fmt.Errorf("%s-%d: another ISR or ELR under the same partition epoch", t.Name, p.Index)
			case p.LeaderEpoch > was.LeaderEpoch && p.Leader != NoLeader && !m.heldByBucket(t) && !(unclean && was.Leader == NoLeader) && !named(p.Leader) && !slices.Contains(was.ISR, p.Leader) && !slices.Contains(was.ELR, p.Leader):
				return fmt.Errorf("%s-%d: broker %d leads and was neither in sync nor eligible", t.Name, p.Index, p.Leader)
			}
		}
		partitions += t.Partitions.Len()
	}
	if partitions != m.NumPartitions() || m.topics.len() != m.names.len() {
		return fmt.Errorf("%d partitions counted as %d, %d topics with %d names", partitions, m.NumPartitions(), m.topics.len(), m.names.len())
	}
	if err := checkCatalogue(before, m, shelf); err != nil {
		return err
	}
	changed := map[storage.TopicID]bool{}
	for b, a := range m.ChangedTopics(before) {
		if a == nil {
			a = b
		}
		changed[a.ID] = true
	}
	for t := range m.Topics() {
		if old, _ := before.TopicByID(t.ID); (old != t) != changed[t.ID] {
			return fmt.Errorf("topic %q: changed %v, told %v", t.Name, old != t, changed[t.ID])
		}
	}
	return nil
}

// checkCatalogue reckons anew, from the ranges alone, what the catalogue says of
// objects: none that a range names is anything but committed (promise 4).
func checkCatalogue(before, m *Image, shelf shelf) error {
	type held struct {
		ranges int
		bytes  int64
	}
	named := map[storage.ObjectID]held{}
	var all held
	for _, is := range m.Manifests() {
		named[is.ID] = held{ranges: 1}
	}
	for t := range m.Topics() {
		for p := range t.Partitions.All() {
			end := storage.NoOffset
			for _, is := range p.Filed() {
				switch {
				case is.Base >= is.End, is.End <= p.LogStart, end != storage.NoOffset && is.Base != end, end == storage.NoOffset && is.Base > p.LogStart:
					return fmt.Errorf("%s-%d: manifest %+v behind %d, log start %d", t.Name, p.Index, is, end, p.LogStart)
				case p.Ranges().Len() == 0:
					return fmt.Errorf("%s-%d: a manifest, and no range behind it", t.Name, p.Index)
				}
				end = is.End
			}
			for r := range p.Ranges().All() {
				o, ok := m.Object(r.Object)
				switch {
				case !ok || o.State != Committed:
					return fmt.Errorf("%s-%d: [%d, %d) lies in object %s: %+v", t.Name, p.Index, r.Base, r.End, r.Object, o)
				case r.Base >= r.End, r.End <= p.LogStart, end != storage.NoOffset && r.Base != end:
					return fmt.Errorf("%s-%d: [%d, %d) behind %d, log start %d", t.Name, p.Index, r.Base, r.End, end, p.LogStart)
				case end == storage.NoOffset && r.Base > p.LogStart:
					return fmt.Errorf("%s-%d: nothing holds %d to %d", t.Name, p.Index, p.LogStart, r.Base)
				}
				end = r.End
				h := named[r.Object]
				named[r.Object] = held{h.ranges + 1, h.bytes + r.Bytes}
				all = held{all.ranges + 1, all.bytes + r.Bytes}
			}
			if was, old := before.Partition(storage.PartitionID{Topic: t.ID, Index: p.Index}); was != nil && old.CommittedEnd() > p.CommittedEnd() {
				return fmt.Errorf("%s-%d: the committed end fell from %d to %d", t.Name, p.Index, old.CommittedEnd(), p.CommittedEnd())
			}
		}
	}
	if all != (held{m.ranges, m.liveBytes}) || m.NextObjectID() < before.NextObjectID() {
		return fmt.Errorf("%+v, counted as %d and %d; next object %s after %s", all, m.ranges, m.liveBytes, m.NextObjectID(), before.NextObjectID())
	}
	if err := shelf.check(before, m); err != nil {
		return err
	}
	var size [Condemned + 1]int64
	for o := range m.Objects() {
		size[o.State] += o.Size
		was, existed := before.Object(o.ID)
		switch {
		case named[o.ID] != held{o.Ranges, o.LiveBytes}, (o.Ranges > 0) != (o.State == Committed), o.ID >= m.NextObjectID():
			return fmt.Errorf("object %+v is named by %+v", *o, named[o.ID])
		case !existed && (o.State != Prepared || o.ID < before.NextObjectID()) && !(o.State == Condemned && shelf.has(before, o.ID)), existed && o.State < was.State:
			return fmt.Errorf("object %+v, before %v", *o, was)
		case (!existed || o.State != was.State) != (o.Since > before.offset):
			return fmt.Errorf("object %+v, before %+v: since", *o, was)
		}
	}
	for o := range before.Objects() {
		if _, is := m.Object(o.ID); !is && o.State != Condemned && !shelf.has(m, o.ID) {
			return fmt.Errorf("object %+v was forgotten", *o)
		}
	}
	if size != m.objectBytes {
		return fmt.Errorf("sizes %v, counted as %v", size, m.objectBytes)
	}
	return nil
}

func checkPartition(m *Image, t *Topic, p *Partition) error {
	for _, id := range p.ISR {
		if slices.Contains(p.ELR, id) || !slices.Contains(p.Replicas, id) || !m.alive(id) {
			return fmt.Errorf("broker %d in the ISR %v: eligible too, no replica, or fenced", id, p.ISR)
		}
	}
	for _, id := range p.ELR {
		if !slices.Contains(p.Replicas, id) {
			return fmt.Errorf("broker %d in the ELR is no replica", id)
		}
	}
	if len(p.ELR) > 0 && len(p.ISR) >= t.MinISR(p) {
		return fmt.Errorf("ELR %v beside ISR %v with min.insync.replicas %d", p.ELR, p.ISR, t.MinISR(p))
	}
	for _, id := range slices.Concat(p.Adding, p.Removing) {
		if !slices.Contains(p.Replicas, id) || slices.Contains(p.Adding, id) && slices.Contains(p.Removing, id) {
			return fmt.Errorf("broker %d, of replicas %v, is being added or removed: %v, %v", id, p.Replicas, p.Adding, p.Removing)
		}
	}
	if len(p.Replicas) == 0 || len(minus(p.Replicas, p.Removing)) == 0 {
		return fmt.Errorf("replicas %v, of which %v go", p.Replicas, p.Removing)
	}
	if m.heldByBucket(t) && (len(p.Replicas) != 1 || p.recovery != nil || p.Leader == NoLeader && m.anyLeader(t, p) != NoLeader) {
		return fmt.Errorf("the bucket holds it, replicas are %v, leader %d, recovery %v", p.Replicas, p.Leader, p.recovery)
	}
	if p.Leader != NoLeader && !slices.Contains(p.ISR, p.Leader) {
		return fmt.Errorf("leader %d is not in the ISR %v", p.Leader, p.ISR)
	}
	if p.Leader == NoLeader && len(p.ISR) > 0 {
		return errors.New("no leader, though some are in sync")
	}
	return nil
}
