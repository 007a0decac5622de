package metadata

import (
	"encoding/binary"
	"hash/crc32"
	"maps"
	"slices"

	"google.golang.org/protobuf/proto"

	pb "rustmq.dev/rustmq/consensus/metadata/metadatapb"
	"rustmq.dev/rustmq/storage"
)

const (
	deltaMagic      = "RMQDLTA\x01" // the last byte is the version
	deltaHeaderSize = 24

	// deltaColumn is how many partitions, ranges or objects one record holds at most.
	deltaColumn = 1000
)

// NoBroker is the slice of a process that hosts no partition.
const NoBroker int32 = -1

// EncodeDelta returns what [View.Apply] needs to come from one image to a later one of
// the same log, as a broker is shown them; a nil before is none at all, and the delta
// then has everything. The same content gives the same bytes on every controller. It
// costs what has changed between the two, whatever the images hold: what they share is
// stepped over. It is one piece, of any size: 1.0 MB for an image of 100,000 partitions
// with three replicas each, and 20 bytes for each range of those that the broker hosts.
func EncodeDelta(before, after *Image, broker int32) []byte {
	header := after.deltaHeader(broker)
	if header.Whole = before == nil; header.Whole {
		before = emptyImage()
	}
	header.Before = before.offset
	e := deltaEncoder{broker: broker, after: after, objects: map[storage.ObjectID]*Object{}}
	e.registered(before)
	var topics []byte
	for was, is := range diff(before.topics, after.topics) {
		if was != nil && (is == nil || !was.continuedBy(is)) {
			e.put(&pb.DeltaRecord{Body: &pb.DeltaRecord_GoneTopic{GoneTopic: was.ID[:]}})
			was = nil
		}
		if is != nil {
			topics = e.topic(topics, was, is)
		}
	}
	e.endRanges()
	for was, is := range diff(before.objects[Committed], after.objects[Committed]) {
		if was != nil && is != nil && *was != *is {
			e.objects[is.ID] = is // ranges of others may have gone: only the view knows if its own name it
		}
	}

	b := make([]byte, deltaHeaderSize, deltaHeaderSize+256+len(e.body)+20*len(e.objects)+len(topics)+len(e.manifests)+len(e.cleanings)+len(e.ranges))
	b = appendRecord(b, &pb.DeltaRecord{Body: &pb.DeltaRecord_Header{Header: header}})
	b = append(b, e.body...)
	b = appendObjects(b, e.objects)
	for _, section := range [][]byte{topics, e.manifests, e.cleanings, e.ranges} {
		b = append(b, section...)
	}
	sealDelta(b)
	return b
}

// sealDelta fills in the frame around a delta's body.
func sealDelta(b []byte) {
	copy(b, deltaMagic)
	binary.LittleEndian.PutUint64(b[16:], uint64(len(b)-deltaHeaderSize))
	binary.LittleEndian.PutUint32(b[8:], deltaCRC(b))
}

// deltaCRC is over all but where it stands itself.
func deltaCRC(b []byte) uint32 {
	return crc32.Update(crc32.Checksum(b[:8], castagnoli), castagnoli, b[12:])
}

func (m *Image) deltaHeader(broker int32) *pb.DeltaHeader {
	h := &pb.DeltaHeader{
		Offset: m.offset, Broker: broker,
		ClusterId: m.clusterID, FeatureLevel: m.featureLevel, NextProducerId: m.nextProducerID, ControllerId: m.controllerID,
		BucketNonce: m.bucket.encodeNonce(), BucketIncarnation: m.bucket.Incarnation, LastObjectId: uint64(m.lastObjectID),
		Brokers: uint64(m.brokers.len()), Controllers: uint64(m.controllers.len()), Topics: uint64(m.topics.len()), Partitions: uint64(m.partitions),
		Ranges: uint64(m.ranges), LiveBytes: m.liveBytes,
		Manifests: uint64(m.filed.manifests), FiledRanges: uint64(m.filed.ranges),
		FiledBytes: m.filed.bytes, FiledObjectBytes: m.filed.objectBytes,
	}
	for state := Prepared; state <= Condemned; state++ {
		h.Objects = append(h.Objects, uint64(m.objects[state].len()))
		h.ObjectBytes = append(h.ObjectBytes, m.objectBytes[state])
	}
	return h
}

// deltaEncoder gathers the sections of a delta: who looks through the topics finds
// what goes into several of them.
type deltaEncoder struct {
	broker int32
	after  *Image

	body      []byte // what stands before the objects
	manifests []byte
	cleanings []byte
	ranges    []byte
	columns   columnsWriter // of ranges that are not in ranges yet
	named     []int64       // the objects of those
	last      storage.ObjectID
	objects   map[storage.ObjectID]*Object
}

func (e *deltaEncoder) put(r *pb.DeltaRecord) { e.body = appendRecord(e.body, r) }

// registered appends what is neither of topics nor of the bucket.
func (e *deltaEncoder) registered(before *Image) {
	for was, is := range diff(before.brokers, e.after.brokers) {
		if is == nil {
			e.put(&pb.DeltaRecord{Body: &pb.DeltaRecord_GoneBroker{GoneBroker: was.ID}})
			continue
		}
		if b := encodeBroker(is); was == nil || !proto.Equal(b, encodeBroker(was)) {
			e.put(&pb.DeltaRecord{Body: &pb.DeltaRecord_Broker{Broker: b}})
		}
	}
	for was, is := range diff(before.controllers, e.after.controllers) {
		switch {
		case is == nil:
			e.put(&pb.DeltaRecord{Body: &pb.DeltaRecord_GoneController{GoneController: was.ID}})
		case was == nil || *was != *is:
			e.put(&pb.DeltaRecord{Body: &pb.DeltaRecord_Controller{Controller: encodeController(is)}})
		}
	}
	for was, is := range diff(before.configs, e.after.configs) {
		if was != nil && is != nil && was.Version == is.Version && maps.Equal(was.Values, is.Values) {
			continue
		}
		c := &pb.DeltaConfig{Gone: is == nil}
		if is == nil {
			is = &ResourceConfig{Resource: was.Resource}
		}
		c.ResourceType, c.Name, c.Version, c.Entries = int32(is.Resource.Type), is.Resource.Name, is.Version, flatConfigs(is.Values)
		e.put(&pb.DeltaRecord{Body: &pb.DeltaRecord_Config{Config: c}})
	}
	for was, is := range diff(before.quotas, e.after.quotas) {
		if was != nil && is != nil && maps.Equal(was.Rates, is.Rates) {
			continue
		}
		if is == nil {
			is = &ClientQuotas{Entity: was.Entity}
		}
		e.put(&pb.DeltaRecord{Body: &pb.DeltaRecord_ClientQuotas{ClientQuotas: &pb.SnapshotClientQuotas{
			Entity: is.Entity.encode(), Values: encodeRates(is.Rates),
		}}})
	}
}

// flatConfigs returns keys and values in order of key.
func flatConfigs(values map[string]string) []string {
	flat := make([]string, 0, 2*len(values))
	for _, key := range slices.Sorted(maps.Keys(values)) {
		flat = append(flat, key, values[key])
	}
	return flat
}

// continuedBy reports whether t may have become is, rather than have been deleted for
// another topic of the same id.
func (t *Topic) continuedBy(is *Topic) bool {
	return t.Name == is.Name && t.Internal == is.Internal && t.Partitions.Len() <= is.Partitions.Len()
}

// topic appends to b how a topic has changed; a nil was is a new one.
func (e *deltaEncoder) topic(b []byte, was, is *Topic) []byte {
	if was == nil || was.ReplicasUnset != is.ReplicasUnset || was.ConfigVersion != is.ConfigVersion || !maps.Equal(was.Configs, is.Configs) {
		b = appendRecord(b, &pb.DeltaRecord{Body: &pb.DeltaRecord_Topic{Topic: &pb.DeltaTopic{
			Id: is.ID[:], Name: is.Name, Internal: is.Internal, ReplicasUnset: is.ReplicasUnset, ConfigVersion: is.ConfigVersion, Configs: flatConfigs(is.Configs),
		}}})
	}
	if was == nil {
		was = &Topic{}
	}
	w := partitionsWriter{topic: is.ID}
	var none Partition
	for of := range changedChunks(was.Partitions, is.Partitions) {
		old, chunk := of[0], of[1]
		for i := range chunk {
			p, before := &chunk[i], &none
			known := i < len(old)
			if known {
				before = &old[i]
			}
			reset := false
			if p.hostedBy(e.broker) {
				if !before.hostedBy(e.broker) {
					before = before.withoutBucket()
				}
				reset = e.tier(is.ID, before, p)
			}
			if reset || !known || !before.sameHead(p) {
				b = w.add(b, p, reset)
			}
		}
	}
	return w.end(b)
}

// hostedBy reports whether a broker is a replica of p.
func (p *Partition) hostedBy(broker int32) bool { return slices.Contains(p.Replicas, broker) }

// withoutBucket returns p as those see it who do not host it.
func (p *Partition) withoutBucket() *Partition {
	if p.tiered == nil && p.cleaning == nil {
		return p
	}
	head := *p
	head.tiered, head.cleaning = nil, nil
	return &head
}

// sameHead reports whether two versions of a partition differ in nothing but what of
// them is in the bucket.
func (p *Partition) sameHead(o *Partition) bool {
	return p.Leader == o.Leader && p.LeaderEpoch == o.LeaderEpoch && p.PartitionEpoch == o.PartitionEpoch && p.LogStart == o.LogStart &&
		slices.Equal(p.Replicas, o.Replicas) && slices.Equal(p.ISR, o.ISR) && slices.Equal(p.ELR, o.ELR) &&
		slices.Equal(p.Adding, o.Adding) && slices.Equal(p.Removing, o.Removing)
}

// filedEnd returns where the manifests of p end, the log start when there is none.
func (p *Partition) filedEnd() storage.Offset {
	if filed := p.Filed(); len(filed) > 0 {
		return filed[len(filed)-1].End
	}
	return p.LogStart
}

// tier notes what of a partition has changed in the bucket. With reset nothing that was
// there is continued, which a log never does: it is another topic of the same id.
//
// It is enough to name what is new. Whatever of the old is gone has others in its place,
// which overlap it, or lies below the manifests or the log start.
func (e *deltaEncoder) tier(topic storage.TopicID, was, is *Partition) (reset bool) {
	fell := was.tiered != nil && (is.LogStart < was.LogStart || is.CommittedEnd() < was.CommittedEnd() ||
		len(was.Filed()) > 0 && is.filedEnd() < was.filedEnd())
	if fell || was.cleaning != nil && is.cleaning == nil {
		reset, was = true, &Partition{}
	}
	of := storage.PartitionID{Topic: topic, Index: is.Index}
	if is.cleaning != was.cleaning && is.Cleaning() != was.Cleaning() {
		e.cleanings = appendRecord(e.cleanings, &pb.DeltaRecord{Body: &pb.DeltaRecord_Cleaning{Cleaning: &pb.DeltaCleaning{
			TopicId: topic[:], Partition: is.Index, Cleaning: is.Cleaning().encode(),
		}}})
	}
	if is.tiered == was.tiered {
		return reset
	}
	filed, old := is.Filed(), was.Filed()
	for i := range filed {
		for len(old) > 0 && old[0].Base < filed[i].Base {
			old = old[1:]
		}
		if len(old) > 0 && old[0] == filed[i] {
			continue
		}
		e.name(filed[i].ID)
		e.manifests = appendRecord(e.manifests, &pb.DeltaRecord{Body: &pb.DeltaRecord_Manifest{Manifest: encodeManifest(of, &filed[i])}})
	}
	newRanges(was.Ranges(), is.Ranges(), func(r *Range) { e.addRange(of, r) })
	return reset
}

// newRanges calls yield with the ranges of is that was does not have, in order of
// offset. Chunks that both share are stepped over.
func newRanges(was, is Ranges, yield func(r *Range)) {
	old, at := was.chunks, 0 // at is the next range of old[0]
	for _, chunk := range is.chunks {
		for len(old) > 0 && old[0] != chunk && old[0].ranges[len(old[0].ranges)-1].End <= chunk.ranges[0].Base {
			old, at = old[1:], 0
		}
		if len(old) > 0 && old[0] == chunk {
			old, at = old[1:], 0
			continue
		}
		for i := range chunk.ranges {
			r := &chunk.ranges[i]
			for len(old) > 0 && old[0].ranges[at].Base < r.Base {
				if at++; at == len(old[0].ranges) {
					old, at = old[1:], 0
				}
			}
			if len(old) == 0 || old[0].ranges[at] != *r {
				yield(r)
			}
		}
	}
}

func (e *deltaEncoder) addRange(of storage.PartitionID, r *Range) {
	e.name(r.Object)
	e.columns.add(of, r)
	e.named = append(e.named, int64(r.Object-e.last))
	e.last = r.Object
	if len(e.named) == deltaColumn {
		e.endRanges()
	}
}

func (e *deltaEncoder) endRanges() {
	if len(e.named) > 0 {
		e.ranges = appendRecord(e.ranges, &pb.DeltaRecord{Body: &pb.DeltaRecord_Ranges{Ranges: &pb.SnapshotRanges{Ranges: &e.columns.columns, Objects: e.named}}})
	}
	e.columns, e.named, e.last = columnsWriter{}, nil, 0
}

// name notes an object that the broker has to know.
func (e *deltaEncoder) name(id storage.ObjectID) {
	if _, noted := e.objects[id]; !noted {
		e.objects[id], _ = e.after.objects[Committed].get(id)
	}
}
