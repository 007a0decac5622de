package metadata

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"slices"

	"google.golang.org/protobuf/proto"

	pb "rustmq.dev/rustmq/consensus/metadata/metadatapb"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/guard"
)

const (
	snapshotMagic      = "RMQMETA\n"
	snapshotVersion    = 1
	snapshotHeaderSize = 24
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Snapshot captures the state; the function it returns encodes it, and may run
// beside Apply.
func (s *State) Snapshot() (encode func() []byte) { return s.Image().Snapshot }

// Snapshot returns the image as bytes that Restore reads: the same for the same
// commands at the same indexes.
func (m *Image) Snapshot() []byte {
	b := make([]byte, snapshotHeaderSize, snapshotHeaderSize+128*(1+m.partitions+m.topics.len())+40*m.ranges)
	b = appendRecord(b, &pb.SnapshotRecord{Body: &pb.SnapshotRecord_Header{Header: &pb.SnapshotHeader{
		Offset:         m.offset,
		ClusterId:      m.clusterID,
		FeatureLevel:   m.featureLevel,
		NextProducerId: m.nextProducerID,
		Brokers:        uint64(m.brokers.len()),
		Configs:        uint64(m.configs.len()),
		Topics:         uint64(m.topics.len()),

		LastObjectId:      uint64(m.lastObjectID),
		Objects:           uint64(m.objects[Prepared].len() + m.objects[Committed].len() + m.objects[Condemned].len()),
		Ranges:            uint64(m.ranges),
		Manifests:         uint64(m.filed.manifests),
		BucketNonce:       m.bucket.encodeNonce(),
		BucketIncarnation: m.bucket.Incarnation,

		ClientQuotas: uint64(m.quotas.len()),
		Controllers:  uint64(m.controllers.len()),

		EndedBy: m.endedBy,
		Acls:    uint64(m.acls.len()),

		Users: uint64(m.users.len()), FakeSecret: m.fakeSecret, ApiTokens: uint64(m.NumAPITokens()),
		Transforms: uint64(m.NumTransforms()), UnnamedModules: uint64(m.transforms.unnamed.len()), Collected: m.transforms.collected,
		ConfigRevisions: uint64(m.revisions.len()),

		Entry: m.announced.number, Writers: m.announced.encode(),
	}}})
	for broker := range m.Brokers() {
		b = appendRecord(b, &pb.SnapshotRecord{Body: &pb.SnapshotRecord_Broker{Broker: encodeBroker(broker)}})
	}
	for _, c := range m.configs.all() {
		b = appendRecord(b, &pb.SnapshotRecord{Body: &pb.SnapshotRecord_Config{Config: &pb.SnapshotConfig{
			ResourceType: int32(c.Resource.Type),
			Name:         c.Resource.Name,
			Version:      c.Version,
			Entries:      configEntries(c.Values),
		}}})
	}
	for q := range m.ClientQuotas() {
		b = appendRecord(b, &pb.SnapshotRecord{Body: &pb.SnapshotRecord_ClientQuotas{ClientQuotas: &pb.SnapshotClientQuotas{
			Entity: q.Entity.encode(), Values: encodeRates(q.Rates),
		}}})
	}
	for u := range m.Users() {
		b = appendRecord(b, &pb.SnapshotRecord{Body: &pb.SnapshotRecord_User{User: encodeUser(u)}})
	}
	for t := range m.APITokens() {
		b = appendRecord(b, &pb.SnapshotRecord{Body: &pb.SnapshotRecord_ApiToken{ApiToken: t.encode()}})
	}
	b = m.appendTransforms(b)
	for r := range m.ConfigRevisions() {
		b = appendRecord(b, &pb.SnapshotRecord{Body: &pb.SnapshotRecord_ConfigRevision{ConfigRevision: r.encode()}})
	}
	for c := range m.Controllers() {
		b = appendRecord(b, &pb.SnapshotRecord{Body: &pb.SnapshotRecord_Controller{Controller: encodeController(c)}})
	}
	for rule := range m.ACLs() {
		b = appendRecord(b, &pb.SnapshotRecord{Body: &pb.SnapshotRecord_Acl{Acl: encodeACL(rule)}})
	}
	for t := range m.Topics() {
		b = appendRecord(b, &pb.SnapshotRecord{Body: &pb.SnapshotRecord_Topic{Topic: encodeTopic(t)}})
	}
	for o := range m.Objects() {
		b = appendRecord(b, &pb.SnapshotRecord{Body: &pb.SnapshotRecord_Object{Object: &pb.SnapshotObject{
			Id: uint64(o.ID), State: uint32(o.State), Size: uint64(o.Size),
			Broker: o.Broker, BrokerEpoch: o.BrokerEpoch, Mixed: o.Mixed, Since: o.Since, Manifest: o.Manifest,
		}}})
	}
	b = m.appendManifests(b)
	b = m.appendRanges(b)
	sealSnapshot(b)
	return b
}

// sealSnapshot fills in the frame around a snapshot's body.
func sealSnapshot(b []byte) {
	body := b[snapshotHeaderSize:]
	copy(b, snapshotMagic)
	binary.LittleEndian.PutUint32(b[8:], snapshotVersion)
	binary.LittleEndian.PutUint32(b[12:], crc32.Checksum(body, castagnoli))
	binary.LittleEndian.PutUint64(b[16:], uint64(len(body)))
}

func appendRecord(b []byte, r proto.Message) []byte {
	options := proto.MarshalOptions{Deterministic: true}
	b = binary.AppendUvarint(b, uint64(options.Size(r)))
	b, err := options.MarshalAppend(b, r)
	if err != nil {
		panic(fmt.Sprintf("metadata: encode %v: %v", r, err)) // strings were UTF-8 when they were decoded
	}
	return b
}

func encodeBroker(b *Broker) *pb.SnapshotBroker {
	encoded := &pb.SnapshotBroker{
		Id: b.ID, Epoch: b.Epoch, Incarnation: b.Incarnation[:], Directory: b.Directory[:],
		Rack: b.Rack, Fenced: b.Fenced, Draining: b.Draining, MaxFeatureLevel: b.MaxFeatureLevel,
	}
	for _, l := range b.Listeners {
		encoded.Listeners = append(encoded.Listeners, &pb.Listener{Name: l.Name, Host: l.Host, Port: l.Port, Protocol: l.Protocol})
	}
	return encoded
}

func encodeController(c *ControllerNode) *pb.SnapshotController {
	return &pb.SnapshotController{
		NodeId: c.ID, Directory: c.Directory[:], RaftAddress: c.Raft, ControllerAddress: c.Controller, MaxFeatureLevel: c.MaxFeatureLevel,
	}
}

func encodeTopic(t *Topic) *pb.SnapshotTopic {
	encoded := &pb.SnapshotTopic{
		Id: t.ID[:], Name: t.Name, Internal: t.Internal, ReplicasUnset: t.ReplicasUnset,
		ConfigVersion: t.ConfigVersion, Configs: configEntries(t.Configs),
		Partitions: make([]*pb.SnapshotPartition, 0, t.Partitions.Len()),
	}
	for p := range t.Partitions.All() {
		encoded.Partitions = append(encoded.Partitions, &pb.SnapshotPartition{
			Leader: p.Leader, LeaderEpoch: int32(p.LeaderEpoch), PartitionEpoch: p.PartitionEpoch,
			Replicas: p.Replicas, Isr: p.ISR, Elr: p.ELR, LogStart: int64(p.LogStart), Cleaning: p.Cleaning().encode(),
			Adding: p.Adding, Removing: p.Removing, Recovery: p.recovery.encode(), Doubts: p.doubts.encode(),
		})
	}
	return encoded
}

// Restore replaces the state by that of a snapshot. An error leaves it as it
// was: [*CorruptionError] for bytes that are not what was written, [*StopError]
// for a snapshot of a later version.
func (s *State) Restore(snapshot []byte) error {
	image, err := decodeSnapshot(snapshot)
	if err != nil {
		return err
	}
	s.image.Store(image)
	return nil
}

// decoder reads the records of a snapshot's body in order.
type decoder struct {
	rest   []byte
	offset int64 // of rest in the snapshot
}

func (d *decoder) corrupt(format string, args ...any) error {
	return &CorruptionError{Offset: d.offset, Reason: fmt.Sprintf(format, args...)}
}

func (d *decoder) next() (*pb.SnapshotRecord, error) {
	record, err := d.frame()
	if err != nil {
		return nil, err
	}
	r := new(pb.SnapshotRecord)
	if err := proto.Unmarshal(record, r); err != nil {
		return nil, d.corrupt("undecodable record: %v", err)
	}
	if unknown := unknownField(r.ProtoReflect()); unknown != "" {
		return nil, &StopError{Reason: "this binary does not know " + unknown + " in a snapshot; run the version that wrote it, or a later one"}
	}
	return r, nil
}

// frame returns the bytes of the next record.
func (d *decoder) frame() ([]byte, error) {
	n, width := binary.Uvarint(d.rest)
	if width <= 0 || n > uint64(len(d.rest)-width) {
		return nil, d.corrupt("a record reaches past the end")
	}
	record := d.rest[width : width+int(n)]
	d.rest = d.rest[width+int(n):]
	d.offset += int64(width) + int64(n)
	return record, nil
}

func decodeSnapshot(b []byte) (*Image, error) {
	switch {
	case len(b) < snapshotHeaderSize:
		return nil, &CorruptionError{Reason: fmt.Sprintf("%d bytes are no snapshot", len(b))}
	case string(b[:8]) != snapshotMagic:
		return nil, &CorruptionError{Reason: "no metadata snapshot: wrong magic"}
	case binary.LittleEndian.Uint32(b[8:]) != snapshotVersion:
		return nil, &StopError{Reason: fmt.Sprintf("snapshot version %d: this binary reads %d", binary.LittleEndian.Uint32(b[8:]), snapshotVersion)}
	case binary.LittleEndian.Uint64(b[16:]) != uint64(len(b)-snapshotHeaderSize):
		return nil, &CorruptionError{Offset: 16, Reason: fmt.Sprintf("body of %d bytes, not %d", len(b)-snapshotHeaderSize, binary.LittleEndian.Uint64(b[16:]))}
	}
	crc := crc32.Checksum(b[snapshotHeaderSize:], castagnoli)
	if !guard.Check("metadata.snapshot-crc", crc == binary.LittleEndian.Uint32(b[12:])) {
		return nil, &CorruptionError{Offset: 12, Reason: "checksum differs"}
	}
	d := &decoder{rest: b[snapshotHeaderSize:], offset: snapshotHeaderSize}
	first, err := d.next()
	if err != nil {
		return nil, err
	}
	h := first.GetHeader()
	if h == nil {
		return nil, d.corrupt("the first record is no header")
	}
	if h.FeatureLevel > LatestFeatureLevel {
		return nil, &StopError{Index: h.Offset, Reason: fmt.Sprintf("snapshot of feature level %d: this binary knows %d at most", h.FeatureLevel, LatestFeatureLevel)}
	}
	m := emptyImage()
	m.offset, m.clusterID, m.featureLevel, m.nextProducerID = h.Offset, h.ClusterId, h.FeatureLevel, h.NextProducerId
	if !m.announced.decode(h) {
		return nil, d.corrupt("entry %d of the metadata log, announced by %d", h.Entry, len(h.Writers))
	}
	for range h.Brokers {
		if err := d.broker(m); err != nil {
			return nil, err
		}
	}
	for range h.Configs {
		if err := d.config(m); err != nil {
			return nil, err
		}
	}
	for range h.ClientQuotas {
		if err := d.clientQuotas(m); err != nil {
			return nil, err
		}
	}
	if err := d.users(m, h); err != nil {
		return nil, err
	}
	for range h.ApiTokens {
		if err := d.apiToken(m); err != nil {
			return nil, err
		}
	}
	if err := d.transforms(m, h); err != nil {
		return nil, err
	}
	if err := d.revisions(m, h); err != nil {
		return nil, err
	}
	for range h.Controllers {
		if err := d.controller(m); err != nil {
			return nil, err
		}
	}
	for range h.Acls {
		if err := d.acl(m); err != nil {
			return nil, err
		}
	}
	for range h.Topics {
		if err := d.topic(m); err != nil {
			return nil, err
		}
	}
	if err := d.catalogue(m, h); err != nil {
		return nil, err
	}
	if len(d.rest) > 0 {
		return nil, d.corrupt("%d bytes behind the last record", len(d.rest))
	}
	return m, nil
}

func (d *decoder) broker(m *Image) error {
	r, err := d.next()
	if err != nil {
		return err
	}
	b, ok := decodeBroker(r.GetBroker())
	if !ok {
		return d.corrupt("no broker where one is due")
	}
	if _, twice := m.brokers.get(b.ID); twice {
		return d.corrupt("broker %d twice", b.ID)
	}
	m.brokers = m.brokers.put(b.ID, b)
	return nil
}

func decodeBroker(e *pb.SnapshotBroker) (b *Broker, ok bool) {
	b = &Broker{}
	if e == nil || len(e.Incarnation) != len(b.Incarnation) || len(e.Directory) != len(b.Directory) {
		return nil, false
	}
	*b = Broker{ID: e.Id, Epoch: e.Epoch, Incarnation: [16]byte(e.Incarnation), Directory: [16]byte(e.Directory), Rack: e.Rack, Fenced: e.Fenced, Draining: e.Draining, MaxFeatureLevel: e.MaxFeatureLevel}
	for _, l := range e.Listeners {
		b.Listeners = append(b.Listeners, Listener{Name: l.Name, Host: l.Host, Port: l.Port, Protocol: l.Protocol})
	}
	return b, true
}

func (d *decoder) controller(m *Image) error {
	r, err := d.next()
	if err != nil {
		return err
	}
	e := r.GetController()
	if e == nil {
		return d.corrupt("no controller where one is due")
	}
	n, refused := decodeController(e.NodeId, e.Directory, e.RaftAddress, e.ControllerAddress, e.MaxFeatureLevel)
	if refused != nil {
		return d.corrupt("%v", refused)
	}
	if _, twice := m.controllers.get(n.ID); twice {
		return d.corrupt("controller %d twice", n.ID)
	}
	m.controllers = m.controllers.put(n.ID, n)
	return nil
}

func (d *decoder) config(m *Image) error {
	r, err := d.next()
	if err != nil {
		return err
	}
	e := r.GetConfig()
	if e == nil || !configured(e.ResourceType) {
		return d.corrupt("no configuration where one is due")
	}
	values, refused := setConfigs(nil, e.Entries, nil)
	resource := Resource{Type: ResourceType(e.ResourceType), Name: e.Name}
	if _, twice := m.configs.get(resource); twice || refused != nil {
		return d.corrupt("configuration of %s %s: twice, or out of bounds", resource.Type, quoted(e.Name))
	}
	m.configs = m.configs.put(resource, &ResourceConfig{Resource: resource, Version: e.Version, Values: values})
	return nil
}

func (d *decoder) topic(m *Image) error {
	r, err := d.next()
	if err != nil {
		return err
	}
	e := r.GetTopic()
	if e == nil {
		return d.corrupt("no topic where one is due")
	}
	id, ok := topicID(e.Id)
	if !ok || m.CheckNewTopic(e.Name) != nil {
		return d.corrupt("topic %s: its id or name is invalid or taken", quoted(e.Name))
	}
	if _, taken := m.topics.get(id); taken {
		return d.corrupt("topic id %s twice", id)
	}
	configs, refused := setConfigs(nil, e.Configs, nil)
	if refused != nil {
		return d.corrupt("topic %q: %v", e.Name, refused)
	}
	partitions := make([]Partition, 0, len(e.Partitions))
	for i, p := range e.Partitions {
		cleaning, refused := decodeCleaning(p.Cleaning)
		if refused != nil || p.Cleaning != nil && cleaning == nil {
			return d.corrupt("topic %q, partition %d: state of compaction by key that cannot be: %v", e.Name, i, p.Cleaning)
		}
		recovery, ok := decodeRecovery(p.Recovery, p.Replicas)
		if !ok || recovery != nil && p.Leader != NoLeader {
			return d.corrupt("topic %q, partition %d, led by %d with replicas %v: recovery that cannot be: %v", e.Name, i, p.Leader, p.Replicas, p.Recovery)
		}
		doubts, ok := decodeDoubts(p.Doubts, p.Replicas)
		if !ok {
			return d.corrupt("topic %q, partition %d, replicas %v: doubts that cannot be: %v", e.Name, i, p.Replicas, p.Doubts)
		}
		partitions = append(partitions, Partition{
			Index: int32(i), Leader: p.Leader, LeaderEpoch: storage.Epoch(p.LeaderEpoch), PartitionEpoch: p.PartitionEpoch,
			Replicas: slices.Clip(p.Replicas), ISR: slices.Clip(p.Isr), ELR: slices.Clip(p.Elr), LogStart: storage.Offset(p.LogStart),
			Adding: slices.Clip(p.Adding), Removing: slices.Clip(p.Removing),
			cleaning: cleaning, recovery: recovery, doubts: doubts,
		})
	}
	m.addTopic(&Topic{
		Name: e.Name, ID: id, Internal: e.Internal, ReplicasUnset: e.ReplicasUnset,
		Configs: configs, ConfigVersion: e.ConfigVersion,
		Partitions: PartitionsOf(partitions...),
	})
	return nil
}
