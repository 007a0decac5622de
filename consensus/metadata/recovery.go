package metadata

import (
	"cmp"
	"slices"

	pb "rustmq.dev/rustmq/consensus/metadata/metadatapb"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/guard"
)

// Recovery is the state of a partition whose ISR is not known, for the log that said it is
// lost: what its replicas have on disk says who leads. It is the one with the highest
// leader epoch, of those with the longest log. It begins with [Recover] and ends with the
// election. It is never changed.
type Recovery struct {
	// Awaited are the replicas without whose word nobody is elected, unless an unclean
	// election is asked for; in order of the replicas.
	Awaited []int32
	Ends    []ReplicaEnd // what replicas have said, in order of broker
}

// ReplicaEnd is where the log of a replica ends.
type ReplicaEnd struct {
	Broker int32
	Epoch  storage.Epoch  // of its last batch; NoEpoch: it has none
	End    storage.Offset // behind that
}

// compareEnds orders by how much a replica has: by epoch, then by end.
func compareEnds(a, b ReplicaEnd) int {
	return cmp.Or(cmp.Compare(a.Epoch, b.Epoch), cmp.Compare(a.End, b.End))
}

// Recovery returns what is known of a partition that waits for its replicas' word; nil: it
// does not.
func (p *Partition) Recovery() *Recovery { return p.recovery }

// AsksReplicas reports whether the partition may wait for the word of its replicas, as far
// as a broker can see: it has no leader, and either nobody is known to have been in sync, or
// who is eligible may be doubted.
func (p *Partition) AsksReplicas() bool {
	return p.Leader == NoLeader && len(p.ISR) == 0
}

// PartitionEnd is where a broker's log of a partition ends.
type PartitionEnd struct {
	Partition storage.PartitionID
	Epoch     storage.Epoch // of its last batch; NoEpoch: it has none
	End       storage.Offset
	// LeaderEpoch is the partition's by the image by which it has no leader.
	LeaderEpoch storage.Epoch
}

// NewReportEnds returns the command by which a broker says what it has of partitions.
func NewReportEnds(brokerID int32, brokerEpoch int64, ends []PartitionEnd) *pb.ReportEnds {
	c := &pb.ReportEnds{BrokerId: brokerID, BrokerEpoch: brokerEpoch}
	for _, e := range ends {
		c.Entries = append(c.Entries, &pb.ReportEnds_Entry{
			TopicId: e.Partition.Topic[:], Partition: e.Partition.Index,
			End: &pb.ReplicaEnd{Epoch: int32(e.Epoch), End: int64(e.End)}, LeaderEpoch: int32(e.LeaderEpoch),
		})
	}
	return c
}

// reportEnds notes what a broker has, each partition on its own, and elects where nobody
// else is waited for.
func (m *Image) reportEnds(c *pb.ReportEnds) (any, *Error) {
	if refused := m.checkBrokerEpoch(c.BrokerId, c.BrokerEpoch); refused != nil {
		return nil, refused
	}
	edit := m.editCatalogue(0)
	results := make(PartitionResults, len(c.Entries))
	for i, e := range c.Entries {
		if refused := m.reportEnd(edit, c.BrokerId, e); refused != nil {
			results[i] = refused
		}
	}
	edit.end()
	return results, nil
}

func (m *Image) reportEnd(edit *catalogueEdit, broker int32, e *pb.ReportEnds_Entry) *Error {
	t, p, refused := edit.findRaw(e.TopicId, e.Partition)
	if refused != nil {
		return refused
	}
	end, ok := decodeEnd(broker, e.End)
	switch {
	case !ok:
		return Errorf(InvalidRequest, "%s-%d: a log that ends at %v", t.Name, p.Index, e.End)
	case p.recovery == nil && p.Leader == NoLeader && p.doubts.has(broker):
		return m.reportDoubted(edit, t, p, end, storage.Epoch(e.LeaderEpoch))
	case p.recovery == nil:
		return Errorf(InvalidRequest, "%s-%d does not wait for the word of its replicas", t.Name, p.Index)
	case !guard.Check("metadata.end-of-replica", slices.Contains(p.Replicas, broker)):
		return Errorf(InvalidRequest, "%s-%d: broker %d is none of the replicas %v", t.Name, p.Index, broker, p.Replicas)
	}
	p = edit.change(p)
	p.recovery = p.recovery.with(end)
	// A batch of an epoch that the lost log gave is not one of the epoch that comes.
	p.LeaderEpoch = max(p.LeaderEpoch, end.Epoch)
	if m.mayLead(t, p) != NoLeader {
		m.elect(t, p)
	}
	p.PartitionEpoch++
	return nil
}

// longest returns who of those that have said what they have has the most, if that one is
// in service; NoLeader: it is not, or not all were heard. Who is to be emptied comes last.
func (m *Image) longest(p *Partition) int32 {
	if !guard.Check("metadata.recovered-heard-all", len(p.recovery.Silent()) == 0) {
		return NoLeader
	}
	return m.longestOf(p, p.recovery.Ends)
}

// longestOf is longest of those ends.
func (m *Image) longestOf(p *Partition, ends []ReplicaEnd) int32 {
	if len(ends) == 0 {
		return NoLeader
	}
	most := slices.MaxFunc(ends, compareEnds)
	drained := NoLeader
	for _, id := range p.Replicas {
		at := slices.IndexFunc(ends, func(e ReplicaEnd) bool { return e.Broker == id })
		switch {
		case at < 0 || !m.alive(id):
		case !guard.Check("metadata.recovered-longest-leads", compareEnds(ends[at], most) == 0):
		case m.draining(id):
			if drained == NoLeader {
				drained = id
			}
		default:
			return id
		}
	}
	return drained
}

// said reports whether a broker has said what it has.
func (r *Recovery) said(id int32) bool {
	return r != nil && slices.ContainsFunc(r.Ends, func(e ReplicaEnd) bool { return e.Broker == id })
}

// Silent returns those that are awaited and have not said what they have.
func (r *Recovery) Silent() (silent []int32) {
	for _, id := range r.Awaited {
		if !r.said(id) {
			silent = append(silent, id)
		}
	}
	return silent
}

// with returns r with what a broker has said last.
func (r *Recovery) with(end ReplicaEnd) *Recovery {
	next := r.without(end.Broker)
	at, _ := slices.BinarySearchFunc(next.Ends, end, func(a, b ReplicaEnd) int { return cmp.Compare(a.Broker, b.Broker) })
	next.Ends = slices.Insert(next.Ends, at, end)
	return next
}

// without returns a copy of r without what a broker has said.
func (r *Recovery) without(id int32) *Recovery {
	next := *r
	next.Ends = slices.DeleteFunc(slices.Clone(r.Ends), func(e ReplicaEnd) bool { return e.Broker == id })
	return &next
}

func (r *Recovery) encode() *pb.Recovery {
	if r == nil {
		return nil
	}
	e := &pb.Recovery{Awaited: r.Awaited}
	for _, end := range r.Ends {
		e.Ends = append(e.Ends, &pb.ReplicaEnd{Broker: end.Broker, Epoch: int32(end.Epoch), End: int64(end.End)})
	}
	return e
}

// decodeRecovery reads what a snapshot says; false: it cannot be.
func decodeRecovery(e *pb.Recovery, replicas []int32) (r *Recovery, ok bool) {
	if e == nil {
		return nil, true
	}
	r = &Recovery{Awaited: slices.Clip(e.Awaited)}
	for _, id := range r.Awaited {
		if !slices.Contains(replicas, id) {
			return nil, false
		}
	}
	for i, said := range e.Ends {
		end, ok := decodeEnd(said.Broker, said)
		if !ok || !slices.Contains(replicas, end.Broker) || i > 0 && r.Ends[i-1].Broker >= end.Broker {
			return nil, false
		}
		r.Ends = append(r.Ends, end)
	}
	return r, true
}

func decodeEnd(broker int32, e *pb.ReplicaEnd) (ReplicaEnd, bool) {
	end := ReplicaEnd{Broker: broker, Epoch: storage.Epoch(e.GetEpoch()), End: storage.Offset(e.GetEnd())}
	return end, e != nil && end.Epoch >= storage.NoEpoch && end.Epoch <= maxReportedEpoch && end.End >= 0
}

// maxReportedEpoch leaves room for the epochs that come.
const maxReportedEpoch = 1<<31 - 1 - 2*epochLeap
