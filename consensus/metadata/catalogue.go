package metadata

import (
	"fmt"
	"maps"
	"slices"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/guard"
)

// catalogueEdit is what one command changes in partitions and the objects that
// their ranges name. Each topic, chunk of partitions and object is copied once,
// however many ranges of it change, as long as the ranges of a topic follow one
// another. Objects are judged in the end: a range that a step takes away may be
// replaced in the same one.
type catalogueEdit struct {
	m     *Image
	index uint64

	topic      *Topic // as it was, nil at first; its partitions are changed in
	partitions *partitionsEdit

	objects map[storage.ObjectID]*Object // changed copies
}

func (m *Image) editCatalogue(index uint64) *catalogueEdit {
	return &catalogueEdit{m: m, index: index, objects: map[storage.ObjectID]*Object{}}
}

// find returns a partition as the command has left it so far, to read.
func (e *catalogueEdit) find(id storage.PartitionID) (*Topic, *Partition, *Error) {
	if e.topic == nil || e.topic.ID != id.Topic {
		e.putTopic()
		t, ok := e.m.topics.get(id.Topic)
		if !ok {
			return nil, nil, Errorf(UnknownTopicID, "topic id %s", id.Topic)
		}
		e.topic, e.partitions = t, t.Partitions.edit()
	}
	if id.Index < 0 || int(id.Index) >= e.partitions.is.Len() {
		return nil, nil, Errorf(UnknownTopicOrPartition, "%s-%d", e.topic.Name, id.Index)
	}
	return e.topic, e.partitions.is.At(int(id.Index)), nil
}

// change returns that partition, which find has just returned, to change.
func (e *catalogueEdit) change(p *Partition) *Partition { return e.partitions.at(int(p.Index)) }

// append gives p one range more.
func (e *catalogueEdit) append(p *Partition, r Range) {
	p = e.change(p)
	l := p.Ranges()
	p.setRanges(l.splice(l.Len(), l.Len(), r))
	e.gain(r)
}

// replace puts r in the place of n ranges of p, from place from on.
func (e *catalogueEdit) replace(p *Partition, from, n int, r Range) {
	p = e.change(p)
	l := p.Ranges()
	e.lose(l, from, n)
	p.setRanges(l.splice(from, from+n, r))
	e.gain(r)
}

// moveLogStart moves the log start of p forward and takes away the ranges and
// manifests that then lie wholly below it.
func (e *catalogueEdit) moveLogStart(p *Partition, to storage.Offset) {
	p = e.change(p)
	p.LogStart = to
	if filed := p.Filed(); len(filed) > 0 && filed[0].End <= to {
		below := slices.IndexFunc(filed, func(m Manifest) bool { return m.End > to })
		if below < 0 {
			below = len(filed)
		}
		e.die(storage.PartitionID{Topic: e.topic.ID, Index: p.Index}, filed[:below])
		p.setTier(slices.Clone(filed[below:]), p.Ranges())
	}
	l := p.Ranges()
	if below := l.index(l.above(to)); below > 0 {
		e.lose(l, 0, below)
		p.setRanges(l.splice(0, below))
	}
}

func (e *catalogueEdit) gain(r Range) {
	o := e.object(r.Object)
	o.Ranges++
	o.LiveBytes += r.Bytes
	e.m.ranges++
	e.m.liveBytes += r.Bytes
}

// lose takes n ranges of l, from place from on, off what their objects hold.
func (e *catalogueEdit) lose(l Ranges, from, n int) {
	c, at := l.locate(from)
	l.walk(c, at, func(r Range) bool {
		if n == 0 {
			return false
		}
		n--
		o := e.object(r.Object)
		o.Ranges--
		o.LiveBytes -= r.Bytes
		e.m.ranges--
		e.m.liveBytes -= r.Bytes
		return true
	})
}

// object returns an object to change.
func (e *catalogueEdit) object(id storage.ObjectID) *Object {
	if o, ok := e.objects[id]; ok {
		return o
	}
	o, ok := e.m.Object(id)
	if !ok {
		panic(fmt.Sprintf("metadata: a range names object %s, which the catalogue does not have", id))
	}
	changed := *o
	e.objects[id] = &changed
	return &changed
}

// commit makes a prepared object one that ranges can name.
func (e *catalogueEdit) commit(o *Object, size int64, mixed bool) *Object {
	o = e.object(o.ID)
	o.State, o.Since, o.Size, o.Mixed = Committed, e.index, size, mixed
	return o
}

// end puts what was changed into the image. Objects that no range names any
// more are condemned in this very step, and none that one names ever is
// (promise 4).
func (e *catalogueEdit) end() {
	e.putTopic()
	var stay [Condemned + 1][]entry[storage.ObjectID, *Object] // those that have their place already
	for _, id := range slices.Sorted(maps.Keys(e.objects)) {
		o := e.objects[id]
		if guard.Check("metadata.named-object-stays", o.Ranges == 0) {
			o.State, o.Since = Condemned, e.index
		}
		was, there := e.m.objects[o.State].get(id)
		if !there {
			e.m.putObject(o)
			continue
		}
		e.m.objectBytes[o.State] += o.Size - was.Size
		stay[o.State] = append(stay[o.State], entry[storage.ObjectID, *Object]{id, o})
	}
	for state, all := range stay {
		if len(all) > 0 {
			e.m.objects[state] = e.m.objects[state].replace(all)
		}
	}
}

func (e *catalogueEdit) putTopic() {
	if e.topic != nil && e.partitions.changed() {
		changed := *e.topic
		changed.Partitions = e.partitions.is
		e.m.topics = e.m.topics.put(changed.ID, &changed)
	}
	e.topic = nil
}
