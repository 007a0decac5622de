package metadata

import (
	"fmt"
	"slices"

	pb "rustmq.dev/rustmq/consensus/metadata/metadatapb"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/guard"
)

const maxListeners = 32

// registerBroker makes a new registration. The same incarnation asking again
// (its answer was lost) gets the epoch it has. Any other one is a restart: it
// begins fenced, out of every ISR, and every partition that the broker led gets
// a higher leader epoch before anything is served (RULES 3.1).
func (m *Image) registerBroker(index uint64, c *pb.RegisterBroker) (any, *Error) {
	b := &Broker{ID: c.BrokerId, Epoch: int64(index), Rack: c.Rack, Fenced: true}
	switch {
	case c.BrokerId < 0:
		return nil, Errorf(InvalidRequest, "broker id %d", c.BrokerId)
	case len(c.Incarnation) != len(b.Incarnation) || len(c.Directory) != len(b.Directory):
		return nil, Errorf(InvalidRequest, "incarnation of %d and directory id of %d bytes: both have 16", len(c.Incarnation), len(c.Directory))
	case len(c.Rack) > maxNameBytes || len(c.Listeners) > maxListeners:
		return nil, Errorf(InvalidRequest, "rack of %d bytes, %d listeners", len(c.Rack), len(c.Listeners))
	}
	copy(b.Incarnation[:], c.Incarnation)
	copy(b.Directory[:], c.Directory)
	for _, l := range c.Listeners {
		if len(l.Name) > maxNameBytes || len(l.Host) > maxNameBytes || len(l.Protocol) > maxNameBytes || l.Port < 0 || l.Port > 65535 {
			return nil, Errorf(InvalidRequest, "listener %s: name, host or port out of bounds", quoted(l.Name))
		}
		b.Listeners = append(b.Listeners, Listener{Name: l.Name, Host: l.Host, Port: l.Port, Protocol: l.Protocol})
	}
	if refused := m.checkBucket(c); refused != nil {
		return nil, refused
	}
	b.MaxFeatureLevel = c.MaxFeatureLevel
	if said := b.MaxFeatureLevel > 0; said && !guard.Check("metadata.broker-level", b.MaxFeatureLevel >= m.featureLevel) {
		return nil, Errorf(UnsupportedVersion, "broker %d knows feature level %d at most, the cluster is at %d; run a later version", b.ID, b.MaxFeatureLevel, m.featureLevel)
	}
	before, known := m.brokers.get(b.ID)
	switch {
	case !known:
	case before.Incarnation == b.Incarnation && before.Directory == b.Directory:
		return BrokerEpoch(before.Epoch), nil
	case before.Directory != b.Directory && !before.Fenced:
		return nil, Errorf(DuplicateBrokerRegistration, "broker %d is in service from another data directory", b.ID)
	}
	if known {
		b.Draining = before.Draining
	}
	m.brokers = m.brokers.put(b.ID, b)
	if known {
		m.loseBroker(b.ID, loss{
			restarted: true, wiped: before.Directory != b.Directory, unclean: c.UncleanEnd, ackedBeforeSync: c.AcksBeforeSync, cutTail: c.CutTail,
		})
	}
	return BrokerEpoch(b.Epoch), nil
}

func (m *Image) fenceBroker(c *pb.FenceBroker) *Error {
	if refused := m.checkBrokerEpoch(c.BrokerId, c.BrokerEpoch); refused != nil {
		return refused
	}
	before, _ := m.brokers.get(c.BrokerId)
	if before.Fenced == c.Fenced {
		return nil
	}
	changed := *before
	changed.Fenced = c.Fenced
	m.brokers = m.brokers.put(c.BrokerId, &changed)
	if c.Fenced {
		m.loseBroker(c.BrokerId, loss{})
	} else {
		m.electWhereLeaderless(c.BrokerId)
	}
	return nil
}

// changeBroker begins or ends the draining of a broker. What it leads goes to others
// in sync at once; its replicas are moved by reassignments. One that is to stay after all
// takes over what others lead only because nobody else could.
func (m *Image) changeBroker(c *pb.ChangeBroker) *Error {
	before, known := m.brokers.get(c.BrokerId)
	if !known {
		return Errorf(BrokerIDNotRegistered, "broker %d", c.BrokerId)
	}
	if before.Draining == c.Draining {
		return nil
	}
	changed := *before
	changed.Draining = c.Draining
	m.brokers = m.brokers.put(c.BrokerId, &changed)
	m.editPartitions(func(t *Topic, p *Partition, change func() *Partition) {
		if m.leadsInVain(t, p) {
			p = change()
			m.elect(t, p)
			p.PartitionEpoch++
		}
	})
	return nil
}

// unregisterBroker forgets a broker. One that a partition names may hold what nobody
// else does.
func (m *Image) unregisterBroker(c *pb.UnregisterBroker) *Error {
	if _, known := m.brokers.get(c.BrokerId); !known {
		return Errorf(BrokerIDNotRegistered, "broker %d", c.BrokerId)
	}
	named := 0
	var of string
	for t := range m.Topics() {
		for p := range t.Partitions.All() {
			if slices.Contains(p.Replicas, c.BrokerId) {
				if named++; named == 1 {
					of = fmt.Sprintf("%s-%d", t.Name, p.Index)
				}
			}
		}
	}
	if !guard.Check("metadata.unregistered-holds-nothing", named == 0) {
		return Errorf(InvalidRequest, "broker %d is a replica of %d partitions, %s the first: move them to others before", c.BrokerId, named, of)
	}
	m.brokers = m.brokers.without(c.BrokerId)
	return nil
}

// checkBrokerEpoch refuses what an earlier registration of the broker sends.
func (m *Image) checkBrokerEpoch(id int32, epoch int64) *Error {
	b, ok := m.brokers.get(id)
	if !ok {
		return Errorf(BrokerIDNotRegistered, "broker %d", id)
	}
	if !guard.Check("metadata.broker-epoch", b.Epoch == epoch) {
		return Errorf(StaleBrokerEpoch, "broker %d sends epoch %d, it is registered with %d", id, epoch, b.Epoch)
	}
	return nil
}

// editPartitions shows every partition to decide, which calls change for those
// it changes. It costs a scan, and copies of what changes.
func (m *Image) editPartitions(decide func(t *Topic, p *Partition, change func() *Partition)) {
	var changes []entry[storage.TopicID, *Topic]
	for id, t := range m.topics.all() {
		edit := t.Partitions.edit()
		for p := range t.Partitions.All() {
			decide(t, p, func() *Partition { return edit.at(int(p.Index)) })
		}
		if edit.changed() {
			changed := *t
			changed.Partitions = edit.is
			changes = append(changes, entry[storage.TopicID, *Topic]{id, &changed})
		}
	}
	m.topics = m.topics.replace(changes)
}
