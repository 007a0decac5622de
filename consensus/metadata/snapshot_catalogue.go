package metadata

import (
	"fmt"

	pb "rustmq.dev/rustmq/consensus/metadata/metadatapb"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/object"
)

// snapshotRanges is how many ranges one record of a snapshot holds at most.
const snapshotRanges = 1000

// appendRanges appends all ranges, whatever chunks they are in: those depend on
// how the list became what it is.
func (m *Image) appendRanges(b []byte) []byte {
	var w columnsWriter
	var objects []int64
	var before storage.ObjectID
	end := func() {
		if len(objects) > 0 {
			b = appendRecord(b, &pb.SnapshotRecord{Body: &pb.SnapshotRecord_Ranges{Ranges: &pb.SnapshotRanges{Ranges: &w.columns, Objects: objects}}})
			w, objects, before = columnsWriter{}, nil, 0
		}
	}
	for t := range m.Topics() {
		for p := range t.Partitions.All() {
			for r := range p.Ranges().All() {
				w.add(storage.PartitionID{Topic: t.ID, Index: p.Index}, &r)
				objects = append(objects, int64(r.Object-before))
				before = r.Object
				if len(objects) == snapshotRanges {
					end()
				}
			}
		}
	}
	end()
	return b
}

// catalogue reads the bucket, the objects and the ranges.
func (d *decoder) catalogue(m *Image, h *pb.SnapshotHeader) error {
	if (h.BucketIncarnation > 0) != (len(h.BucketNonce) == len(m.bucket.Nonce)) || h.BucketIncarnation == 0 && len(h.BucketNonce) > 0 {
		return d.corrupt("bucket nonce of %d bytes, incarnation %d", len(h.BucketNonce), h.BucketIncarnation)
	}
	if h.BucketIncarnation > 0 {
		m.bucket = Bucket{Nonce: [16]byte(h.BucketNonce), Incarnation: h.BucketIncarnation}
	}
	m.endedBy = h.EndedBy
	m.lastObjectID = storage.ObjectID(h.LastObjectId)
	if err := d.objects(m, h.Objects); err != nil {
		return err
	}
	edit := m.editCatalogue(0)
	if err := d.manifests(edit, h.Manifests); err != nil {
		return err
	}
	lists := rangesReader{d: d, edit: edit}
	for uint64(m.ranges) < h.Ranges {
		if err := lists.record(); err != nil {
			return err
		}
	}
	lists.end()
	if uint64(m.ranges) != h.Ranges {
		return d.corrupt("%d ranges, not %d", m.ranges, h.Ranges)
	}
	edit.putTopic()
	for of, is := range m.Manifests() {
		_, dying := m.dying.get(is.ID)
		if _, p := m.Partition(of); !dying && p.Ranges().Len() == 0 {
			return d.corrupt("manifest %s of partition %s, which has no ranges", is.ID, of)
		}
	}
	for o := range m.ObjectsIn(Committed) {
		if _, named := edit.objects[o.ID]; !named {
			return d.corrupt("no range names object %s, which is committed", o.ID)
		}
	}
	edit.end()
	return nil
}

// objects reads n of them, which stand in order of state and id.
func (d *decoder) objects(m *Image, n uint64) error {
	var read [Condemned + 1][]entry[storage.ObjectID, *Object]
	var before *Object
	for range n {
		o, err := d.object(m)
		if err != nil {
			return err
		}
		if before != nil && (o.State < before.State || o.State == before.State && o.ID <= before.ID) {
			return d.corrupt("object %s, %s, behind %s, %s: twice, or not in order", o.ID, o.State, before.ID, before.State)
		}
		before = o
		read[o.State] = append(read[o.State], entry[storage.ObjectID, *Object]{o.ID, o})
		m.objectBytes[o.State] += o.Size
	}
	for state, all := range read {
		m.objects[state] = m.objects[state].built(all)
	}
	for _, state := range []ObjectState{Prepared, Condemned} { // of which there are few
		for o := range m.ObjectsIn(state) {
			for other := Prepared; other <= Condemned; other++ {
				if _, twice := m.objects[other].get(o.ID); twice && other != state {
					return d.corrupt("object %s twice", o.ID)
				}
			}
		}
	}
	return nil
}

func (d *decoder) object(m *Image) (*Object, error) {
	r, err := d.next()
	if err != nil {
		return nil, err
	}
	e := r.GetObject()
	if e == nil {
		return nil, d.corrupt("no object where one is due")
	}
	o := &Object{
		ID: storage.ObjectID(e.Id), State: ObjectState(e.State), Size: int64(e.Size),
		Broker: e.Broker, BrokerEpoch: e.BrokerEpoch, Mixed: e.Mixed, Since: e.Since, Manifest: e.Manifest,
	}
	if e.State < uint32(Prepared) || e.State > uint32(Condemned) || e.Size > maxObjectBytes || o.ID < 1 || o.ID > m.lastObjectID || o.Since > m.offset {
		return nil, d.corrupt("object %s of %d bytes in state %d since %d, with %s the last one issued", o.ID, e.Size, e.State, o.Since, m.lastObjectID)
	}
	return o, nil
}

// rangesReader collects the ranges of one partition after the other.
type rangesReader struct {
	d      *decoder
	edit   *catalogueEdit
	of     storage.PartitionID
	into   *Partition // nil at first
	ranges []Range    // of it, so far
}

func (l *rangesReader) record() error {
	r, err := l.d.next()
	if err != nil {
		return err
	}
	e := r.GetRanges()
	if e == nil {
		return l.d.corrupt("no ranges where some are due")
	}
	ranges, refused := decodeRanges(e.Ranges)
	if refused != nil || len(ranges) != len(e.Objects) {
		return l.d.corrupt("%d ranges of %d objects: %v", len(ranges), len(e.Objects), refused)
	}
	var object storage.ObjectID
	for i := range ranges {
		object += storage.ObjectID(e.Objects[i])
		ranges[i].Range.Object = object
		if err := l.add(&ranges[i]); err != nil {
			return err
		}
	}
	return nil
}

func (l *rangesReader) add(r *PartitionRange) error {
	is := r.Range
	if l.into == nil || l.of != r.Partition {
		l.end()
		_, p, refused := l.edit.find(r.Partition)
		if refused != nil || p.Ranges().Len() > 0 {
			return l.d.corrupt("ranges of partition %s: twice, or it is none", r.Partition)
		}
		if filed := p.Filed(); len(filed) > 0 {
			if end := filed[len(filed)-1].End; is.Base != end {
				return l.d.corrupt("partition %s: the first range [%d, %d) behind manifests up to %d", r.Partition, is.Base, is.End, end)
			}
		} else if is.Base > p.LogStart || is.End <= p.LogStart {
			return l.d.corrupt("partition %s: the first range [%d, %d) does not hold the log start %d", r.Partition, is.Base, is.End, p.LogStart)
		}
		l.into, l.of = p, r.Partition
	} else if last := l.ranges[len(l.ranges)-1]; is.Base != last.End {
		return l.d.corrupt("partition %s: range [%d, %d) behind %d", r.Partition, is.Base, is.End, last.End)
	}
	o, ok := l.edit.m.objects[Committed].get(is.Object)
	if ok {
		o = l.edit.object(o.ID)
	}
	if !ok || o.Manifest || is.Base < 0 || is.End <= is.Base || is.Bytes < 0 || is.Bytes > o.Size-o.LiveBytes {
		return l.d.corrupt("partition %s: range [%d, %d) of %d bytes in object %s, which cannot have it", r.Partition, is.Base, is.End, is.Bytes, is.Object)
	}
	l.edit.gain(is)
	l.ranges = append(l.ranges, is)
	return nil
}

// end gives the partition its ranges.
func (l *rangesReader) end() {
	if l.into != nil {
		l.edit.change(l.into).setRanges(Ranges{}.splice(0, 0, l.ranges...))
	}
	l.into, l.ranges = nil, l.ranges[:0]
}

// appendManifests appends those of partitions, then the dying ones.
func (m *Image) appendManifests(b []byte) []byte {
	for of, is := range m.Manifests() {
		e := encodeManifest(of, is)
		_, e.Dying = m.dying.get(is.ID)
		b = appendRecord(b, &pb.SnapshotRecord{Body: &pb.SnapshotRecord_Manifest{Manifest: e}})
	}
	return b
}

func encodeManifest(of storage.PartitionID, is *Manifest) *pb.SnapshotManifest {
	var flags uint32
	if is.HasAborts {
		flags |= flagAborts
	}
	if is.OpenTransactions {
		flags |= flagOpenTransactions
	}
	return &pb.SnapshotManifest{
		TopicId: of.Topic[:], Partition: of.Index, ObjectId: uint64(is.ID), Base: int64(is.Base), End: int64(is.End),
		Ranges: uint32(is.Ranges), EntriesBytes: is.ManifestRef.Bytes, Crc: is.CRC, Bytes: uint64(is.RangeBytes),
		ObjectBytes: uint64(is.ObjectBytes), MaxTimestamp: is.MaxTimestamp, Flags: flags,
	}
}

// decodeManifest reads what encodeManifest writes; wrong says what cannot be.
func decodeManifest(e *pb.SnapshotManifest) (of storage.PartitionID, is Manifest, wrong string) {
	topic, ok := topicID(e.TopicId)
	of = storage.PartitionID{Topic: topic, Index: e.Partition}
	is = Manifest{
		ID: storage.ObjectID(e.ObjectId),
		ManifestRef: object.ManifestRef{
			Base: storage.Offset(e.Base), End: storage.Offset(e.End), Ranges: int(e.Ranges), Bytes: e.EntriesBytes, CRC: e.Crc,
		},
		RangeBytes: int64(e.Bytes), ObjectBytes: int64(e.ObjectBytes), MaxTimestamp: e.MaxTimestamp,
		HasAborts: e.Flags&flagAborts != 0, OpenTransactions: e.Flags&flagOpenTransactions != 0,
	}
	wrong = is.check()
	if !ok || e.Flags&^knownFlags != 0 {
		wrong = fmt.Sprintf("topic id of %d bytes, flags %#x", len(e.TopicId), e.Flags)
	}
	return of, is, wrong
}

// manifests reads what appendManifests writes.
func (d *decoder) manifests(edit *catalogueEdit, n uint64) error {
	m := edit.m
	for range n {
		r, err := d.next()
		if err != nil {
			return err
		}
		e := r.GetManifest()
		if e == nil {
			return d.corrupt("no manifest where one is due")
		}
		of, is, wrong := decodeManifest(e)
		o, known := m.objects[Committed].get(is.ID)
		if wrong != "" || !known || !o.Manifest || o.Size != is.Size() {
			return d.corrupt("manifest %s of partition %s: %s, or no such object", is.ID, of, wrong)
		}
		if edit.object(is.ID).Ranges++; edit.object(is.ID).Ranges > 1 {
			return d.corrupt("manifest %s twice", is.ID)
		}
		m.filed.add(&is, 1)
		if e.Dying {
			m.dying = m.dying.put(is.ID, &Dying{Manifest: is, Partition: of})
			continue
		}
		_, p, refused := edit.find(of)
		if refused != nil {
			return d.corrupt("manifest %s is of partition %s, which is none", is.ID, of)
		}
		filed := p.Filed()
		if len(filed) > 0 && filed[len(filed)-1].End != is.Base || len(filed) == 0 && (is.Base > p.LogStart || is.End <= p.LogStart) {
			return d.corrupt("partition %s: manifest [%d, %d) with the log start at %d, or not behind the one before", of, is.Base, is.End, p.LogStart)
		}
		// It has no ranges yet: they follow, or the snapshot is refused.
		edit.change(p).tiered = &tier{filed: append(filed[:len(filed):len(filed)], is)}
	}
	return nil
}
