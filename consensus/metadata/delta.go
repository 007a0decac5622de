package metadata

import (
	"encoding/binary"
	"hash/crc32"
	"maps"
	"slices"

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
//
// Who has deltas for several brokers encodes them from one [Difference].
func EncodeDelta(before, after *Image, broker int32) []byte {
	return Compare(before, after).Delta(broker)
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
		BucketNonce: m.bucket.encodeNonce(), BucketIncarnation: m.bucket.Incarnation, LastObjectId: uint64(m.lastObjectID), EndedBy: m.endedBy, Acls: uint64(m.acls.len()),
		FakeSecret: m.fakeSecret, ApiTokens: uint64(m.NumAPITokens()), Transforms: uint64(m.NumTransforms()), ConfigRevisions: uint64(m.revisions.len()),
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

// deltaEncoder gathers the sections of a delta that are one broker's.
type deltaEncoder struct {
	after *Image

	manifests []byte
	cleanings []byte
	ranges    []byte
	columns   columnsWriter // of ranges that are not in ranges yet
	named     []int64       // the objects of those
	last      storage.ObjectID
	objects   map[storage.ObjectID]*Object
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

// resetBy reports whether nothing of p in the bucket is continued by is, which a log never
// does: it is another topic of the same id.
func (p *Partition) resetBy(is *Partition) bool {
	fell := p.tiered != nil && (is.LogStart < p.LogStart || is.CommittedEnd() < p.CommittedEnd() ||
		len(p.Filed()) > 0 && is.filedEnd() < p.filedEnd())
	return fell || p.cleaning != nil && is.cleaning == nil
}

// tier notes what of a partition has changed in the bucket.
//
// It is enough to name what is new. Whatever of the old is gone has others in its place,
// which overlap it, or lies below the manifests or the log start.
func (e *deltaEncoder) tier(topic storage.TopicID, was, is *Partition) {
	if was.resetBy(is) {
		was = &Partition{}
	}
	of := storage.PartitionID{Topic: topic, Index: is.Index}
	if is.cleaning != was.cleaning && is.Cleaning() != was.Cleaning() {
		e.cleanings = appendRecord(e.cleanings, &pb.DeltaRecord{Body: &pb.DeltaRecord_Cleaning{Cleaning: &pb.DeltaCleaning{
			TopicId: topic[:], Partition: is.Index, Cleaning: is.Cleaning().encode(),
		}}})
	}
	if is.tiered == was.tiered {
		return
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
