package metadata

import (
	"fmt"
	"iter"
	"slices"
	"strings"

	pb "rustmq.dev/rustmq/consensus/metadata/metadatapb"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/guard"
	"rustmq.dev/rustmq/storage/object"
)

// Manifest is a reference to an object that lists ranges of one partition: they,
// and the objects that hold them, are no part of the image.
type Manifest struct {
	ID storage.ObjectID
	object.ManifestRef
	RangeBytes  int64 // of the batches of its ranges
	ObjectBytes int64 // of the objects that these lie in
	// MaxTimestamp of its ranges, or of some that it was made without: at least that
	// of each. So with what follows.
	MaxTimestamp     int64
	HasAborts        bool
	OpenTransactions bool // some transaction is open at the end of one of its ranges
}

// Dying is a manifest that no partition names any more: a log start has passed all
// of it, or the topic is gone. The objects that it lists are yet to be condemned.
type Dying struct {
	Manifest
	Partition storage.PartitionID
}

// filed counts what manifests hold, the dying ones too.
type filed struct {
	manifests, ranges  int
	bytes, objectBytes int64
}

func (f *filed) add(m *Manifest, sign int) {
	f.manifests += sign
	f.ranges += sign * m.Ranges
	f.bytes += int64(sign) * m.RangeBytes
	f.objectBytes += int64(sign) * m.ObjectBytes
}

// tier is where a partition lies in the bucket. It is not changed.
type tier struct {
	filed  []Manifest // in order of offset, each ends where the next begins; the last where ranges begin
	ranges Ranges     // not empty
}

// Filed returns the manifests of a partition, in order of offset: what lies before
// its ranges. The first may begin below the log start.
func (p *Partition) Filed() []Manifest {
	if p.tiered == nil {
		return nil
	}
	return p.tiered.filed
}

// TieredBytes returns how many bytes the batches of the partition have in the
// bucket; those of ranges below the log start count until their manifest is made anew.
func (p *Partition) TieredBytes() int64 {
	sum := p.Ranges().Bytes()
	for i := range p.Filed() {
		sum += p.tiered.filed[i].RangeBytes
	}
	return sum
}

// FiledRanges returns how many ranges are in manifests.
func (m *Image) FiledRanges() int { return m.filed.ranges }

// NumManifests returns how many manifests there are.
func (m *Image) NumManifests() int { return m.filed.manifests }

// Dying walks the manifests that no partition names any more, in order of id.
func (m *Image) Dying() iter.Seq[*Dying] {
	return func(yield func(*Dying) bool) {
		for _, d := range m.dying.all() {
			if !yield(d) {
				return
			}
		}
	}
}

// Manifests walks all manifests with the partitions that they are of, the dying
// ones too. Whatever object the image does not know is listed in one of them, or
// nothing names it.
func (m *Image) Manifests() iter.Seq2[storage.PartitionID, *Manifest] {
	return func(yield func(storage.PartitionID, *Manifest) bool) {
		for t := range m.Topics() {
			for p := range t.Partitions.All() {
				for i := range p.Filed() {
					if !yield(storage.PartitionID{Topic: t.ID, Index: p.Index}, &p.tiered.filed[i]) {
						return
					}
				}
			}
		}
		for d := range m.Dying() {
			if !yield(d.Partition, &d.Manifest) {
				return
			}
		}
	}
}

// FiledRange is a range as a manifest names it; size is that of its object.
func FiledRange(r *Range, size int64) object.Filed {
	return object.Filed{
		Object: r.Object, Size: size, Base: r.Base, End: r.End, Bytes: r.Bytes, MaxTimestamp: r.MaxTimestamp,
		Index: object.Extent{Position: r.IndexPosition, Length: r.IndexLength, CRC: r.IndexCRC},
		Epoch: r.Epoch, HasAborts: r.HasAborts, OpenTransactions: r.OpenTransactions,
	}
}

// RangeOf is the range that a manifest names.
func RangeOf(f *object.Filed) Range {
	return Range{
		Base: f.Base, End: f.End, Object: f.Object, Bytes: f.Bytes, MaxTimestamp: f.MaxTimestamp,
		IndexPosition: f.Index.Position, IndexLength: f.Index.Length, IndexCRC: f.Index.CRC,
		Epoch: f.Epoch, HasAborts: f.HasAborts, OpenTransactions: f.OpenTransactions,
	}
}

// Filing is what a new manifest is made of.
type Filing struct {
	Partition   storage.PartitionID
	LeaderEpoch storage.Epoch
	Replaced    storage.ObjectID // the manifest that it takes the place of; 0: none
	Dropped     []object.Filed   // the first of that one, all below the log start
	Moved       []object.Filed   // the first ranges that the image has
}

// NewFileRanges returns the command that names a manifest, which stands in the
// bucket.
func NewFileRanges(brokerID int32, brokerEpoch int64, id storage.ObjectID, ref object.ManifestRef, f *Filing) *pb.FileRanges {
	c := &pb.FileRanges{
		BrokerId: brokerID, BrokerEpoch: brokerEpoch, LeaderEpoch: int32(f.LeaderEpoch),
		TopicId: f.Partition.Topic[:], Partition: f.Partition.Index,
		ObjectId: uint64(id), Size: uint64(ref.Size()), Crc: ref.CRC,
		Replaced: uint64(f.Replaced), DroppedRanges: uint32(len(f.Dropped)),
	}
	for i := range f.Dropped {
		c.Dropped = object.AppendFiled(c.Dropped, &f.Dropped[i])
	}
	var before storage.ObjectID
	for i := range f.Moved {
		c.MovedObjects = append(c.MovedObjects, int64(f.Moved[i].Object-before))
		before = f.Moved[i].Object
	}
	return c
}

// fileRanges puts a manifest in the place of ranges, or of a manifest, or of both.
// What the manifest must say follows from the image and the command: it is reckoned
// here, so that a broker that wrote another one is refused.
func (m *Image) fileRanges(index uint64, c *pb.FileRanges) (any, *Error) {
	o, refused := m.preparedFor(c.BrokerId, c.BrokerEpoch, c.ObjectId, c.Size)
	if refused != nil {
		return nil, refused
	}
	edit := m.editCatalogue(index)
	t, p, refused := edit.findRaw(c.TopicId, c.Partition)
	if refused != nil {
		return nil, refused
	}
	switch {
	case !guard.Check("metadata.filing-epoch", storage.Epoch(c.LeaderEpoch) == p.LeaderEpoch):
		return nil, Errorf(FencedLeaderEpoch, "%s-%d: leader epoch %d, now %d", t.Name, p.Index, c.LeaderEpoch, p.LeaderEpoch)
	case !guard.Check("metadata.filing-leader", p.Leader == c.BrokerId):
		return nil, Errorf(NotLeaderOrFollower, "%s-%d is led by broker %d", t.Name, p.Index, p.Leader)
	case len(c.MovedObjects) > 0 && !guard.Check("metadata.filing-not-compacted", !strings.Contains(t.Configs[cleanupPolicy], "compact")):
		return nil, Errorf(PolicyViolation, "%s-%d is compacted by key: its ranges stay where compaction sees them", t.Name, p.Index)
	case c.Replaced == 0 && len(c.MovedObjects) == 0:
		return nil, Errorf(InvalidRequest, "%s-%d: a manifest of nothing", t.Name, p.Index)
	}
	f := filingEdit{catalogueEdit: edit, t: t, p: p, next: Manifest{ID: o.ID, MaxTimestamp: -1}, filed: p.Filed(), at: len(p.Filed())}
	if refused := f.replace(storage.ObjectID(c.Replaced), int(c.DroppedRanges), c.Dropped); refused != nil {
		return nil, refused
	}
	if refused := f.move(c.MovedObjects); refused != nil {
		return nil, refused
	}
	next := &f.next
	switch {
	case next.Ranges < 1 || next.Ranges > object.MaxManifestRanges:
		return nil, Errorf(InvalidRequest, "%s-%d: a manifest of %d ranges", t.Name, p.Index, next.Ranges)
	case !guard.Check("metadata.manifest-as-reckoned", next.CRC == c.Crc && next.Size() == int64(c.Size)):
		return nil, Errorf(Conflict, "%s-%d: manifest %s has %d bytes with crc32c %08x, and should have %d with %08x", t.Name, p.Index, o.ID, c.Size, c.Crc, next.Size(), next.CRC)
	}
	edit.commit(o, int64(c.Size), false).Manifest = true
	edit.object(o.ID).Ranges = 1
	m.filed.add(next, 1)
	filed := slices.Concat(f.filed[:f.at], []Manifest{*next})
	if f.at < len(f.filed) {
		filed = append(filed, f.filed[f.at+1:]...)
	}
	l := p.Ranges()
	edit.change(p).setTier(filed, l.splice(0, len(c.MovedObjects)))
	edit.end()
	return nil, nil
}

const cleanupPolicy = "cleanup.policy"

// filingEdit is a manifest that is being made.
type filingEdit struct {
	*catalogueEdit
	t     *Topic
	p     *Partition
	next  Manifest
	filed []Manifest // as they are
	at    int        // the one that next takes the place of; len(filed): none
}

// replace takes over what a manifest has, but for the first of its ranges.
func (f *filingEdit) replace(id storage.ObjectID, dropped int, entries []byte) *Error {
	if id == 0 {
		if dropped != 0 || len(entries) > 0 {
			return Errorf(InvalidRequest, "%s-%d: %d ranges dropped of no manifest", f.t.Name, f.p.Index, dropped)
		}
		return nil
	}
	f.at = slices.IndexFunc(f.filed, func(m Manifest) bool { return m.ID == id })
	if !guard.Check("metadata.filed-manifest-current", f.at >= 0) {
		return Errorf(Conflict, "%s-%d has no manifest %s", f.t.Name, f.p.Index, id)
	}
	was := f.filed[f.at]
	f.m.filed.add(&was, -1)
	f.object(id).Ranges--
	next := f.next.ID
	f.next = was
	f.next.ID = next
	if dropped == 0 && len(entries) == 0 {
		return nil
	}
	gone, err := object.DecodeFiled(entries, was.Base, dropped)
	switch {
	case err != nil:
		return Errorf(InvalidRequest, "%s-%d: of manifest %s: %v", f.t.Name, f.p.Index, id, err)
	case f.at != 0 || dropped < 1 || dropped >= was.Ranges || len(entries) >= int(was.ManifestRef.Bytes):
		return Errorf(InvalidRequest, "%s-%d: %d ranges dropped of manifest %s, the number %d, with %d", f.t.Name, f.p.Index, dropped, id, f.at, was.Ranges)
	}
	last := &gone[len(gone)-1]
	if !guard.Check("metadata.dropped-below-log-start", last.End <= f.p.LogStart) {
		return Errorf(OffsetOutOfRange, "%s-%d: ranges up to %d are dropped, the log start is %d", f.t.Name, f.p.Index, last.End, f.p.LogStart)
	}
	for i := range gone {
		if refused := f.condemnFiled(&gone[i]); refused != nil {
			return refused
		}
		f.next.RangeBytes -= gone[i].Bytes
		f.next.ObjectBytes -= gone[i].Size
	}
	f.next.Base, f.next.Ranges = last.End, was.Ranges-dropped
	f.next.ManifestRef.Bytes = was.ManifestRef.Bytes - uint32(len(entries))
	f.next.CRC = object.CutFiledCRC(was.CRC, entries, int(f.next.ManifestRef.Bytes))
	return nil
}

// move takes the first ranges out of the image.
func (f *filingEdit) move(objects []int64) *Error {
	if len(objects) == 0 {
		return nil
	}
	l := f.p.Ranges()
	if !guard.Check("metadata.filing-leaves-one", len(objects) < l.Len()) {
		return Errorf(InvalidRequest, "%s-%d: %d ranges of %d are to be filed: the last stays", f.t.Name, f.p.Index, len(objects), l.Len())
	}
	if f.at < len(f.filed)-1 {
		return Errorf(Conflict, "%s-%d: ranges go into the last manifest", f.t.Name, f.p.Index)
	}
	var id storage.ObjectID
	var entry []byte
	n := 0
	for r := range l.All() {
		if n == len(objects) {
			break
		}
		id += storage.ObjectID(objects[n])
		if !guard.Check("metadata.filed-still-there", r.Object == id) {
			return Errorf(Conflict, "%s-%d: range %d lies in object %s, not %s", f.t.Name, f.p.Index, n, r.Object, id)
		}
		o := f.object(id)
		if !guard.Check("metadata.filed-object-whole", !o.Mixed && o.Ranges == 1) {
			return Errorf(InvalidRequest, "%s-%d: object %s holds more than the range that is to be filed", f.t.Name, f.p.Index, id)
		}
		is := FiledRange(&r, o.Size)
		entry = object.AppendFiled(entry[:0], &is)
		next := &f.next
		if next.Ranges == 0 {
			next.Base = r.Base
		}
		next.End = r.End
		next.Ranges++
		next.ManifestRef.Bytes += uint32(len(entry))
		next.CRC = object.AddFiledCRC(next.CRC, entry)
		next.RangeBytes += r.Bytes
		next.ObjectBytes += o.Size
		next.MaxTimestamp = max(next.MaxTimestamp, r.MaxTimestamp)
		next.HasAborts = next.HasAborts || r.HasAborts
		next.OpenTransactions = next.OpenTransactions || r.OpenTransactions
		f.m.ranges--
		f.m.liveBytes -= r.Bytes
		f.m.dropObject(id, 0)
		delete(f.objects, id)
		n++
	}
	return nil
}

// condemnFiled condemns an object that a manifest listed, which has left its
// partition. Listed objects are in no state; it comes into one here.
func (e *catalogueEdit) condemnFiled(f *object.Filed) *Error {
	_, known := e.m.Object(f.Object)
	if !guard.Check("metadata.condemn-filed-only", !known && f.Object <= e.m.lastObjectID) {
		return Errorf(Conflict, "object %s, which a manifest is said to list, is in a state of its own", f.Object)
	}
	e.m.putObject(&Object{ID: f.Object, State: Condemned, Size: f.Size, Since: e.index})
	return nil
}

// die takes manifests off a partition. Their objects are condemned by the command
// that brings their content.
func (e *catalogueEdit) die(of storage.PartitionID, manifests []Manifest) {
	for i := range manifests {
		e.m.dying = e.m.dying.put(manifests[i].ID, &Dying{Manifest: manifests[i], Partition: of})
	}
}

// dissolveManifest condemns what a dying manifest lists, and the manifest.
func (m *Image) dissolveManifest(index uint64, c *pb.DissolveManifest) (any, *Error) {
	id := storage.ObjectID(c.ObjectId)
	d, ok := m.dying.get(id)
	if !ok {
		return nil, Errorf(ResourceNotFound, "no manifest %s is to be dissolved", id)
	}
	whole := len(c.Entries) == int(d.ManifestRef.Bytes) && object.AddFiledCRC(0, c.Entries) == d.CRC
	if !guard.Check("metadata.dissolved-whole", whole) {
		return nil, Errorf(InvalidRequest, "%d bytes with crc32c %08x are not the content of manifest %s", len(c.Entries), object.AddFiledCRC(0, c.Entries), id)
	}
	ranges, err := object.DecodeFiled(c.Entries, d.Base, d.Ranges)
	if err != nil {
		return nil, Errorf(InvalidRequest, "manifest %s: %v", id, err)
	}
	edit := m.editCatalogue(index)
	for i := range ranges {
		if refused := edit.condemnFiled(&ranges[i]); refused != nil {
			return nil, refused
		}
	}
	m.filed.add(&d.Manifest, -1)
	m.dying = m.dying.without(id)
	edit.object(id).Ranges--
	edit.end()
	return ObjectCount(len(ranges) + 1), nil
}

// check returns what is wrong with a manifest of a snapshot, or "".
func (m *Manifest) check() string {
	if m.Ranges < 1 || m.Ranges > object.MaxManifestRanges || m.Base < 0 || m.End <= m.Base || m.RangeBytes < 0 || m.ObjectBytes < m.RangeBytes || int64(m.ManifestRef.Bytes) > int64(m.Ranges)*object.MaxFiledSize {
		return fmt.Sprintf("%d ranges in [%d, %d) with %d bytes, in objects of %d, listed in %d bytes", m.Ranges, m.Base, m.End, m.RangeBytes, m.ObjectBytes, m.ManifestRef.Bytes)
	}
	return ""
}
