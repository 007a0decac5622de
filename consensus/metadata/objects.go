package metadata

import (
	"cmp"
	"fmt"
	"iter"

	pb "rustmq.dev/rustmq/consensus/metadata/metadatapb"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/guard"
)

// ObjectState is where an object stands between its id and its end. The numbers
// stand in snapshots.
type ObjectState uint8

const (
	// Prepared: its id was issued to a broker, which may be writing it.
	Prepared ObjectState = 1
	// Committed: at least one range names it.
	Committed ObjectState = 2
	// Condemned: no range names it, and none ever will. Its key may be deleted.
	Condemned ObjectState = 3
)

func (s ObjectState) String() string {
	switch s {
	case Prepared:
		return "prepared"
	case Committed:
		return "committed"
	case Condemned:
		return "condemned"
	}
	return fmt.Sprintf("object state %d", uint8(s))
}

// Object is one object of the bucket, or an id that may become one. It is never
// changed.
type Object struct {
	ID          storage.ObjectID
	State       ObjectState
	Size        int64  // in bytes; 0 until a commit has said it
	Broker      int32  // that the id was issued to
	BrokerEpoch int64  // the registration of it
	Ranges      int    // that name it
	LiveBytes   int64  // of those
	Mixed       bool   // it was written with ranges of several partitions
	Manifest    bool   // it is one; Ranges is 1 then, until it is made anew or dissolved
	Since       uint64 // log index at which it came into this state
}

// Limits of commands about objects. An object of an upload has a range for each
// partition with new data, one of a compaction few; maxObjectBytes is above what
// any store takes, and keeps sums from overflowing.
const (
	MaxPreparedIDs  = 1000
	MaxObjectRanges = 20_000
	maxObjectBytes  = 1 << 43
	maxObjectID     = 1 << 62
)

// objectTrees holds the objects of each state by id, so that whoever looks for
// prepared or condemned ones walks no others.
type objectTrees [Condemned + 1]tree[storage.ObjectID, *Object]

func newObjectTrees() (trees objectTrees) {
	for state := Prepared; state <= Condemned; state++ {
		trees[state] = newTree[storage.ObjectID, *Object](cmp.Compare[storage.ObjectID])
	}
	return trees
}

// Object returns the object of that id, unless it was never issued, is forgotten,
// or is listed in a manifest: see Manifests.
func (m *Image) Object(id storage.ObjectID) (*Object, bool) {
	for state := Prepared; state <= Condemned; state++ {
		if o, ok := m.objects[state].get(id); ok {
			return o, true
		}
	}
	return nil, false
}

// Objects walks all objects: by state, then in order of id.
func (m *Image) Objects() iter.Seq[*Object] {
	return func(yield func(*Object) bool) {
		for state := Prepared; state <= Condemned; state++ {
			for _, o := range m.objects[state].all() {
				if !yield(o) {
					return
				}
			}
		}
	}
}

// ObjectsIn walks the objects of one state in order of id.
func (m *Image) ObjectsIn(state ObjectState) iter.Seq[*Object] {
	return func(yield func(*Object) bool) {
		for _, o := range m.objects[state].all() {
			if !yield(o) {
				return
			}
		}
	}
}

// NumObjects returns how many objects are in that state. Those that manifests list
// count as committed.
func (m *Image) NumObjects(state ObjectState) int {
	n := m.objects[state].len() + m.unseen[state]
	if state == Committed {
		n += m.filed.ranges
	}
	return n
}

// ObjectBytes returns the size of all objects in that state, as far as known.
func (m *Image) ObjectBytes(state ObjectState) int64 {
	n := m.objectBytes[state]
	if state == Committed {
		n += m.filed.objectBytes
	}
	return n
}

// NumRanges returns how many ranges all partitions have that are not in manifests.
func (m *Image) NumRanges() int { return m.ranges }

// LiveBytes returns how many bytes the batches of all ranges have, in manifests too.
func (m *Image) LiveBytes() int64 { return m.liveBytes + m.filed.bytes }

// NextObjectID returns the id that will be issued next. An id below it that is
// no object, and in no manifest, was one: whatever its key holds is never named
// again.
func (m *Image) NextObjectID() storage.ObjectID { return m.lastObjectID + 1 }

// putObject makes o what the image knows of its id.
func (m *Image) putObject(o *Object) {
	m.dropObject(o.ID, o.State)
	m.objects[o.State] = m.objects[o.State].put(o.ID, o)
	m.objectBytes[o.State] += o.Size
}

// dropObject takes an object away, unless it is in that state already, where it
// is only about to be replaced.
func (m *Image) dropObject(id storage.ObjectID, stays ObjectState) {
	o, ok := m.Object(id)
	if !ok {
		return
	}
	m.objectBytes[o.State] -= o.Size
	if o.State != stays {
		m.objects[o.State] = m.objects[o.State].without(id)
	}
}

func (m *Image) prepareObjects(index uint64, c *pb.PrepareObjects) (any, *Error) {
	if refused := m.checkBrokerEpoch(c.BrokerId, c.BrokerEpoch); refused != nil {
		return nil, refused
	}
	if c.Count < 1 || c.Count > MaxPreparedIDs || m.lastObjectID > maxObjectID {
		return nil, Errorf(InvalidRequest, "%d object ids asked for: 1 to %d", c.Count, MaxPreparedIDs)
	}
	block := ObjectIDs{First: m.NextObjectID(), Count: int(c.Count)}
	for range c.Count {
		m.lastObjectID++
		m.putObject(&Object{ID: m.lastObjectID, State: Prepared, Broker: c.BrokerId, BrokerEpoch: c.BrokerEpoch, Since: index})
	}
	return block, nil
}

func (m *Image) condemnObjects(index uint64, c *pb.CondemnObjects) (any, *Error) {
	var condemned ObjectCount
	for _, id := range c.ObjectIds {
		o, ok := m.Object(storage.ObjectID(id))
		if !ok || !guard.Check("metadata.condemn-prepared-only", o.State == Prepared) {
			continue
		}
		changed := *o
		changed.State, changed.Since = Condemned, index
		m.putObject(&changed)
		condemned++
	}
	return condemned, nil
}

func (m *Image) forgetObjects(c *pb.ForgetObjects) (any, *Error) {
	var forgotten ObjectCount
	for _, id := range c.ObjectIds {
		o, ok := m.Object(storage.ObjectID(id))
		if !ok || !guard.Check("metadata.forget-condemned-only", o.State == Condemned) {
			continue
		}
		m.dropObject(o.ID, 0)
		forgotten++
	}
	return forgotten, nil
}
