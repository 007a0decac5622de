package metadata

import (
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
	before, known := m.brokers.get(b.ID)
	switch {
	case !known:
	case before.Incarnation == b.Incarnation && before.Directory == b.Directory:
		return BrokerEpoch(before.Epoch), nil
	case before.Directory != b.Directory && !before.Fenced:
		return nil, Errorf(DuplicateBrokerRegistration, "broker %d is in service from another data directory", b.ID)
	}
	m.brokers = m.brokers.put(b.ID, b)
	if known {
		m.loseBroker(b.ID, before.Directory != b.Directory)
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
		m.loseBroker(c.BrokerId, false)
	} else {
		m.electWhereLeaderless(c.BrokerId)
	}
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

// loseBroker takes a broker that just was fenced out of every ISR and
// leadership. With wiped its directory is another one: nothing it held counts.
func (m *Image) loseBroker(id int32, wiped bool) {
	m.editPartitions(func(t *Topic, p *Partition, change func() *Partition) {
		leads := !guard.Check("metadata.registration-takes-leadership", p.Leader != id)
		inSync := slices.Contains(p.ISR, id)
		if !leads && !inSync && !(wiped && slices.Contains(p.ELR, id)) {
			return
		}
		p = change()
		p.ISR = without(p.ISR, id)
		switch {
		case !guard.Check("metadata.wiped-leaves-elr", !wiped):
			p.ELR = without(p.ELR, id)
		case inSync && len(p.ISR) < t.MinISR(p):
			p.ELR = slices.Concat(p.ELR, []int32{id})
		}
		if leads {
			m.elect(t, p)
		}
		p.PartitionEpoch++
	})
}

// electWhereLeaderless gives a leader to partitions without one, now that
// broker id is back.
func (m *Image) electWhereLeaderless(id int32) {
	m.editPartitions(func(t *Topic, p *Partition, change func() *Partition) {
		if p.Leader != NoLeader || !slices.Contains(p.ISR, id) && !slices.Contains(p.ELR, id) {
			return
		}
		p = change()
		m.elect(t, p)
		p.PartitionEpoch++
	})
}

// elect gives p the first of its replicas that is alive and in the ISR, else
// one of the ELR, else none, under a new leader epoch. Nobody else holds every
// acked record (RULES 3.2).
func (m *Image) elect(t *Topic, p *Partition) {
	p.Leader = NoLeader
	p.LeaderEpoch++
	for _, from := range [][]int32{p.ISR, p.ELR} {
		for _, id := range p.Replicas {
			if !slices.Contains(from, id) || !m.alive(id) {
				continue
			}
			p.Leader = id
			if !slices.Contains(p.ISR, id) {
				p.ISR = []int32{id}
				p.ELR = without(p.ELR, id)
			}
			t.clearELR(p)
			return
		}
	}
}

// clearELR forgets who was eligible once the ISR has risen again: from now on
// records are acked without them.
func (t *Topic) clearELR(p *Partition) {
	if !guard.Check("metadata.elr-ends", len(p.ISR) < t.MinISR(p)) {
		p.ELR = nil
	}
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
