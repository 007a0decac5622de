package metadata

import (
	"cmp"
	"iter"
	"maps"
	"slices"
	"time"

	pb "rustmq.dev/rustmq/consensus/metadata/metadatapb"
	"rustmq.dev/rustmq/storage/guard"
)

const (
	// maxConfigRevisions bounds the history: brokers have a few dozen keys, which people
	// and their programs change now and then.
	maxConfigRevisions = 256
	// maxRevisionKeys bounds one change: brokers have fewer keys that may be altered.
	maxRevisionKeys = 128
)

// ConfigRevision is one change of what was set on brokers. It is never changed.
type ConfigRevision struct {
	Index  uint64    // of the command in the log
	Broker string    // id in decimal; empty: all brokers
	By     string    // principal that asked: "User:alice"; empty: nobody was asked who it is
	At     time.Time // of the controller's clock, to the millisecond; zero: not said
	Keys   []ConfigKeyChange
}

// ConfigKeyChange is what became of one key; nil: it was not, or is not, set.
type ConfigKeyChange struct {
	Key      string
	Old, New *string
}

func newRevisions() tree[uint64, *ConfigRevision] {
	return newTree[uint64, *ConfigRevision](cmp.Compare[uint64])
}

// ConfigRevisions walks the last 256 changes of what was set on brokers, the oldest first.
func (m *Image) ConfigRevisions() iter.Seq[*ConfigRevision] {
	return func(yield func(*ConfigRevision) bool) {
		for _, r := range m.revisions.all() {
			if !yield(r) {
				return
			}
		}
	}
}

// revise adds a change of what was set on brokers to the history, where it is one.
func (m *Image) revise(index uint64, c *pb.AlterConfigs, was, is map[string]string) *Error {
	if m.featureLevel < ConfigHistoryFeatureLevel || c.ResourceType != int32(BrokerResource) {
		return nil
	}
	r := &ConfigRevision{Index: index, Broker: c.Name, By: c.By, Keys: changedKeys(was, is)}
	if c.At != 0 {
		r.At = time.UnixMilli(c.At).UTC()
	}
	if len(r.Keys) == 0 {
		return nil
	}
	if refused := r.check(); refused != nil {
		return refused
	}
	m.revisions = m.revisions.put(index, r)
	for oldest := range m.revisions.all() {
		if guard.Check("metadata.config-history", m.revisions.len() <= maxConfigRevisions) {
			break
		}
		m.revisions = m.revisions.without(oldest)
	}
	return nil
}

func changedKeys(was, is map[string]string) (changes []ConfigKeyChange) {
	all := maps.Clone(was)
	if all == nil {
		all = map[string]string{}
	}
	maps.Copy(all, is)
	for _, key := range slices.Sorted(maps.Keys(all)) {
		change := ConfigKeyChange{Key: key}
		if old, set := was[key]; set {
			change.Old = &old
		}
		if now, set := is[key]; set {
			change.New = &now
		}
		if change.Old == nil || change.New == nil || *change.Old != *change.New {
			changes = append(changes, change)
		}
	}
	return changes
}

func (r *ConfigRevision) check() *Error {
	if len(r.Broker) > maxNameBytes || len(r.By) > maxConfigBytes || !r.At.IsZero() && r.At.UnixMilli() < 0 {
		return Errorf(InvalidRequest, "a change of broker %s by %s at %d: out of bounds", quoted(r.Broker), quoted(r.By), r.At.UnixMilli())
	}
	if len(r.Keys) == 0 || len(r.Keys) > maxRevisionKeys {
		return Errorf(InvalidRequest, "a change of %d keys of a broker: at most %d are changed at once", len(r.Keys), maxRevisionKeys)
	}
	return nil
}

func (r *ConfigRevision) encode() *pb.ConfigRevision {
	e := &pb.ConfigRevision{Index: r.Index, Name: r.Broker, By: r.By}
	if !r.At.IsZero() {
		e.At = r.At.UnixMilli()
	}
	for _, k := range r.Keys {
		e.Keys = append(e.Keys, &pb.ConfigRevision_Key{Key: k.Key, Old: k.Old, New: k.New})
	}
	return e
}

func decodeRevision(e *pb.ConfigRevision) (*ConfigRevision, *Error) {
	r := &ConfigRevision{Index: e.GetIndex(), Broker: e.GetName(), By: e.GetBy()}
	if e.GetAt() != 0 {
		r.At = time.UnixMilli(e.At).UTC()
	}
	for _, k := range e.GetKeys() {
		r.Keys = append(r.Keys, ConfigKeyChange{Key: k.Key, Old: k.Old, New: k.New})
	}
	return r, r.check()
}

// revisions reads the history of a snapshot.
func (d *decoder) revisions(m *Image, h *pb.SnapshotHeader) error {
	for range h.ConfigRevisions {
		next, err := d.next()
		if err != nil {
			return err
		}
		r, refused := decodeRevision(next.GetConfigRevision())
		if refused != nil {
			return d.corrupt("no change of a configuration where one is due: %v", refused)
		}
		if _, twice := m.revisions.get(r.Index); twice || r.Index > h.Offset {
			return d.corrupt("the change of a configuration at %d: twice, or above %d", r.Index, h.Offset)
		}
		m.revisions = m.revisions.put(r.Index, r)
	}
	return nil
}

// configRevisions appends the changes that came into the history, and left it.
func (d *Difference) configRevisions(before *Image) {
	for was, is := range diff(before.revisions, d.after.revisions) {
		switch {
		case is == nil:
			d.put(&pb.DeltaRecord{Body: &pb.DeltaRecord_GoneConfigRevision{GoneConfigRevision: was.Index}})
		case was == nil: // one that is there stays as it is
			d.put(&pb.DeltaRecord{Body: &pb.DeltaRecord_ConfigRevision{ConfigRevision: is.encode()}})
		}
	}
}

// configRevision puts a change of a delta into the history.
func (e *viewEdit) configRevision(is *pb.ConfigRevision) error {
	r, refused := decodeRevision(is)
	if refused != nil {
		return e.d.corrupt("change of a configuration: %v", refused)
	}
	e.m.revisions = e.m.revisions.put(r.Index, r)
	return nil
}
