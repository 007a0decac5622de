package metadata

import (
	"slices"

	pb "rustmq.dev/rustmq/consensus/metadata/metadatapb"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/guard"
)

// topicEdit is a topic that a delta changes.
type topicEdit struct {
	t     *Topic // a copy
	isNew bool
	*partitionsEdit
	touched map[int32]struct{} // partitions whose place in the bucket may have changed
}

// find returns a topic to change.
func (e *viewEdit) find(id storage.TopicID) (*topicEdit, error) {
	if t, ok := e.topics[id]; ok {
		return t, nil
	}
	t, ok := e.m.topics.get(id)
	if !ok {
		return nil, e.d.corrupt("topic id %s is none", id)
	}
	return e.open(t, false), nil
}

func (e *viewEdit) open(t *Topic, isNew bool) *topicEdit {
	changed := *t
	edit := &topicEdit{t: &changed, isNew: isNew, partitionsEdit: t.Partitions.edit(), touched: map[int32]struct{}{}}
	e.topics[t.ID] = edit
	e.order = append(e.order, edit)
	return edit
}

// hosted returns a partition of the broker, whose place in the bucket is to change.
func (e *viewEdit) hosted(raw []byte, index int32) (storage.PartitionID, *Partition, error) {
	id, ok := topicID(raw)
	if !ok {
		return storage.PartitionID{}, nil, e.d.corrupt("topic id of %d bytes, or zero", len(raw))
	}
	return e.hostedOf(storage.PartitionID{Topic: id, Index: index})
}

func (e *viewEdit) hostedOf(of storage.PartitionID) (storage.PartitionID, *Partition, error) {
	t, err := e.find(of.Topic)
	if err != nil {
		return of, nil, err
	}
	if of.Index < 0 || int(of.Index) >= t.is.n {
		return of, nil, e.d.corrupt("partition %s is none", of)
	}
	p := t.at(int(of.Index))
	if !p.hostedBy(e.broker) {
		return of, nil, e.d.corrupt("broker %d is no replica of partition %s", e.broker, of)
	}
	t.touched[of.Index] = struct{}{}
	return of, p, nil
}

func (e *viewEdit) goneTopic(raw []byte) error {
	id, ok := topicID(raw)
	t, known := e.m.topics.get(id)
	if _, opened := e.topics[id]; !ok || !known || opened {
		return e.d.corrupt("topic id %s went, and is none, or changed", id)
	}
	for p := range t.Partitions.All() {
		e.lose(p.tiered)
	}
	m := e.m
	m.topics, m.names = m.topics.without(id), m.names.without(t.Name)
	if key, ok := collisionKey(t.Name); ok {
		m.collisions = m.collisions.without(key)
	}
	m.partitions -= t.Partitions.Len()
	return nil
}

func (e *viewEdit) topic(r *pb.DeltaTopic) error {
	id, ok := topicID(r.Id)
	configs, good := unflatten(r.Configs)
	if _, opened := e.topics[id]; !ok || !good || opened {
		return e.d.corrupt("topic %s: twice, or its id or configuration is out of bounds", quoted(r.Name))
	}
	t, known := e.m.topics.get(id)
	switch {
	case !known:
		e.open(&Topic{Name: r.Name, ID: id, Internal: r.Internal, ReplicasUnset: r.ReplicasUnset, Configs: configs, ConfigVersion: r.ConfigVersion}, true)
	case t.Name != r.Name || t.Internal != r.Internal:
		return e.d.corrupt("topic %q came to be %s", t.Name, quoted(r.Name))
	default:
		edit := e.open(t, false)
		edit.t.Configs, edit.t.ConfigVersion, edit.t.ReplicasUnset = configs, r.ConfigVersion, r.ReplicasUnset
	}
	return nil
}

func (e *viewEdit) partitions(c *pb.DeltaPartitions) error {
	id, list, err := decodePartitions(c)
	if err != nil {
		return e.d.corrupt("%v", err)
	}
	t, err := e.find(id)
	if err != nil {
		return err
	}
	for i := range list {
		p := &list[i]
		switch n := t.is.n; {
		case int(p.Index) > n:
			return e.d.corrupt("topic %q: partition %d behind %d", t.t.Name, p.Index, n)
		case int(p.Index) == n:
			t.append(p.Partition, len(list)-i)
		default:
			e.change(t, p)
		}
	}
	return nil
}

// change gives a partition its new head. What lies in the bucket stays with it as long
// as the broker hosts it and a log start does not pass it.
func (e *viewEdit) change(t *topicEdit, p *deltaPartition) {
	is := t.at(int(p.Index))
	was := *is
	*is = p.Partition
	if p.reset || !is.hostedBy(e.broker) {
		e.lose(was.tiered)
		return
	}
	is.tiered, is.cleaning = was.tiered, was.cleaning
	if is.tiered != nil {
		e.trim(is)
		t.touched[p.Index] = struct{}{}
	}
}

// trim takes away what lies wholly below the log start, and ranges that are in
// manifests by now.
func (e *viewEdit) trim(p *Partition) {
	filed, l := p.Filed(), p.Ranges()
	below := 0
	for below < len(filed) && filed[below].End <= p.LogStart {
		below++
	}
	e.loseFiled(filed[:below])
	filed = filed[below:]
	from := p.LogStart
	if len(filed) > 0 {
		from = filed[len(filed)-1].End
	}
	gone := l.index(l.above(from))
	if below == 0 && gone == 0 {
		return
	}
	e.loseRanges(l, 0, gone)
	e.setTier(p, slices.Clone(filed), l.splice(0, gone))
}

// setTier also takes manifests without ranges, while the ranges are still to come.
func (e *viewEdit) setTier(p *Partition, filed []Manifest, l Ranges) {
	p.tiered = nil
	if l.n > 0 || len(filed) > 0 {
		p.tiered = &tier{filed, l}
	}
}

func (e *viewEdit) lose(t *tier) {
	if t != nil {
		e.loseFiled(t.filed)
		e.loseRanges(t.ranges, 0, t.ranges.Len())
	}
}

func (e *viewEdit) loseFiled(manifests []Manifest) {
	for i := range manifests {
		e.moved[manifests[i].ID]--
	}
}

func (e *viewEdit) loseRanges(l Ranges, from, n int) {
	c, at := l.locate(from)
	l.walk(c, at, func(r Range) bool {
		if n--; n < 0 {
			return false
		}
		e.moved[r.Object]--
		return true
	})
}

// known returns a committed object that the delta brought, or the view had.
func (e *viewEdit) known(id storage.ObjectID) (*Object, bool) {
	if o, ok := e.objects[id]; ok {
		return o, true
	}
	return e.m.objects[Committed].get(id)
}

// manifest puts one in the place of those that it overlaps.
func (e *viewEdit) manifest(r *pb.SnapshotManifest) error {
	of, is, wrong := decodeManifest(r)
	if wrong != "" || r.Dying {
		return e.d.corrupt("manifest %s of partition %s: %s, or dying", is.ID, of, wrong)
	}
	_, p, err := e.hostedOf(of)
	if err != nil {
		return err
	}
	if o, known := e.known(is.ID); !known || !o.Manifest || o.Size != is.Size() {
		return e.d.corrupt("manifest %s of partition %s: there is no such object", is.ID, of)
	}
	filed := p.Filed()
	from := 0
	for from < len(filed) && filed[from].End <= is.Base {
		from++
	}
	to := from
	for to < len(filed) && filed[to].Base < is.End {
		to++
	}
	e.loseFiled(filed[from:to])
	e.moved[is.ID]++
	e.setTier(p, slices.Concat(filed[:from], []Manifest{is}, filed[to:]), p.Ranges())
	e.trim(p)
	return nil
}

func (e *viewEdit) cleaning(r *pb.DeltaCleaning) error {
	of, p, err := e.hosted(r.TopicId, r.Partition)
	if err != nil {
		return err
	}
	cleaning, refused := decodeCleaning(r.Cleaning)
	if refused != nil || cleaning == nil {
		return e.d.corrupt("partition %s: state of compaction by key that cannot be: %v", of, r.Cleaning)
	}
	p.cleaning = cleaning
	return nil
}

// ranges puts each run of ranges that follow one another in the place of those that it
// overlaps.
func (e *viewEdit) ranges(r *pb.SnapshotRanges) error {
	list, refused := decodeRanges(r.Ranges)
	if refused != nil || len(list) != len(r.Objects) {
		return e.d.corrupt("%d ranges of %d objects: %v", len(list), len(r.Objects), refused)
	}
	var object storage.ObjectID
	var run []Range
	for i := range list {
		of, is := list[i].Partition, &list[i].Range
		object += storage.ObjectID(r.Objects[i])
		is.Object = object
		o, known := e.known(object)
		if !known || o.Manifest || is.Base < 0 || is.End <= is.Base || is.Bytes < 0 || is.Bytes > o.Size || is.IndexPosition < 0 || is.IndexPosition > o.Size-int64(is.IndexLength) {
			return e.d.corrupt("partition %s: range [%d, %d) of %d bytes in object %s, which cannot have it", of, is.Base, is.End, is.Bytes, object)
		}
		run = append(run, *is)
		if i+1 < len(list) && list[i+1].Partition == of && list[i+1].Range.Base == is.End {
			continue
		}
		if err := e.splice(of, run); err != nil {
			return err
		}
		run = run[:0]
	}
	return nil
}

func (e *viewEdit) splice(of storage.PartitionID, run []Range) error {
	_, p, err := e.hostedOf(of)
	if err != nil {
		return err
	}
	l := p.Ranges()
	base, end := run[0].Base, run[len(run)-1].End
	from := l.index(l.above(base))
	to := l.index(l.above(end))
	if to < l.Len() && l.At(to).Base < end {
		to++
	}
	gap := from > 0 && l.At(from-1).End != base || to < l.Len() && l.At(to).Base != end
	if !guard.Check("metadata.delta-no-gap", !gap) {
		return e.d.corrupt("partition %s: ranges [%d, %d) that leave a gap", of, base, end)
	}
	e.loseRanges(l, from, to-from)
	for i := range run {
		e.moved[run[i].Object]++
	}
	e.setTier(p, p.Filed(), l.splice(from, to, run...))
	return nil
}

// endTopics puts what was changed into the image.
func (e *viewEdit) endTopics() error {
	for _, t := range e.order {
		for index := range t.touched {
			if wrong := t.at(int(index)).checkTier(); !guard.Check("metadata.delta-tier", wrong == "") {
				return e.d.corrupt("topic %q, partition %d: %s", t.t.Name, index, wrong)
			}
		}
		if t.is.n < 1 {
			return e.d.corrupt("topic %s has no partition", quoted(t.t.Name))
		}
		more := t.is.n - t.t.Partitions.n
		t.t.Partitions = t.is
		if !t.isNew {
			e.m.partitions += more
			e.m.topics = e.m.topics.put(t.t.ID, t.t)
			continue
		}
		if refused := e.m.CheckNewTopic(t.t.Name); refused != nil {
			return e.d.corrupt("%v", refused)
		}
		e.m.addTopic(t.t)
	}
	return nil
}

// checkTier returns what is wrong with where a partition lies in the bucket, or "".
// That ranges follow one another is seen as they come.
func (p *Partition) checkTier() string {
	if p.tiered == nil {
		return ""
	}
	filed, l := p.tiered.filed, p.tiered.ranges
	if l.Len() == 0 {
		return "a manifest, and no range behind it"
	}
	first := l.At(0)
	base, end := first.Base, first.End
	if n := len(filed); n > 0 {
		if filed[n-1].End != first.Base {
			return "the first range does not begin where the manifests end"
		}
		base, end = filed[0].Base, filed[0].End
		for i := 1; i < n; i++ {
			if filed[i].Base != filed[i-1].End {
				return "manifests that leave a gap"
			}
		}
	}
	if base > p.LogStart || end <= p.LogStart {
		return "the first range or manifest does not hold the log start"
	}
	return ""
}
