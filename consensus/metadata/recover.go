package metadata

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/guard"
)

// Whatever the lost log has given out behind the last entry in the bucket is not known. A
// new life leaps over it: each is far more than one entry, or a million of them, could have.
const (
	offsetLeap     = 1 << 40 // log indexes, and with them registrations of brokers
	objectLeap     = 1 << 40 // object ids
	producerLeap   = 1 << 40 // producer ids
	epochLeap      = 1 << 20 // leader epochs of a partition
	maxIncarnation = 1 << 16 // that many leaps of each fit
)

// FoundObject is an object of the bucket whose id was issued, and whose commit the
// metadata log there does not have.
type FoundObject struct {
	ID     storage.ObjectID
	Size   int64
	Mixed  bool
	Ranges []FoundRange
}

// FoundRange is a range of it. Its Range.Epoch is the leader epoch of its last batch, First
// that of its first.
type FoundRange struct {
	Partition storage.PartitionID
	First     storage.Epoch
	Range     Range
}

// RecoverOptions say what there is besides the metadata log.
type RecoverOptions struct {
	// Brokers are those whose data directories are there: without their word no partition
	// that they have a replica of is led. Nil: all that are registered.
	Brokers []int32
	Objects []FoundObject
	Cuts    []Cut // of partitions, each at most once
}

// Recover begins another life of a cluster with the last image that its bucket has:
// under the next incarnation, with numbers that the lost log cannot have given out, with
// no controller, all brokers out of service, and partitions that ask their replicas what
// they have. Of found objects, each partition takes the run that begins at its committed
// end and reaches the highest leader epoch, and of these the furthest: what a log truncated
// by epoch would have. Of a partition that has an awaited replica which was in sync, uploads
// do not count that end under an epoch which another had followed: an unclean election may
// have come between, and that replica has what is in line. Other uploads that were under way are condemned.
//
// Then partitions are cut.
//
// It returns the objects that were taken. Errors: the image is of no cluster with a bucket,
// or has lived too often, or a cut that does not fit.
func Recover(last *Image, o RecoverOptions) (next *Image, taken []storage.ObjectID, err error) {
	is, set := last.Bucket()
	switch {
	case last.clusterID == "" || !set:
		return nil, nil, fmt.Errorf("metadata: the log is of no cluster that stores in a bucket")
	case is.Incarnation >= maxIncarnation || last.lastObjectID > maxObjectID-objectLeap:
		return nil, nil, fmt.Errorf("metadata: this is incarnation %d: there can be no other", is.Incarnation)
	}
	image := *last
	m := &image
	m.offset += offsetLeap
	m.nextProducerID += producerLeap
	m.bucket.Incarnation++
	m.featureLevel = max(m.featureLevel, RecoveryFeatureLevel)
	m.announced, m.endedBy = announced{}, 0 // its entries are others
	m.controllers = newControllers()
	taken = m.adopt(o)
	m.lastObjectID += objectLeap
	if err := m.cut(o.Cuts, last); err != nil {
		return nil, nil, err
	}
	for b := range last.Brokers() {
		fenced := *b
		fenced.Fenced = true
		m.brokers = m.brokers.put(b.ID, &fenced)
	}
	m.editPartitions(func(t *Topic, p *Partition, change func() *Partition) {
		if err == nil && p.LeaderEpoch > math.MaxInt32-4*epochLeap {
			err = fmt.Errorf("metadata: %s-%d is at leader epoch %d: there is no room for others", t.Name, p.Index, p.LeaderEpoch)
		}
		p = change()
		p.Leader, p.ISR, p.ELR = NoLeader, nil, nil
		p.LeaderEpoch = max(p.LeaderEpoch+epochLeap, m.LifeEpoch()) // the life before may have made it itself
		p.PartitionEpoch++
		p.recovery, p.doubts = &Recovery{Awaited: m.awaited(p, o.Brokers)}, nil
		if m.heldByBucket(t) { // nobody's disk has more
			p.ELR, p.recovery = p.Replicas, nil
		}
	})
	if err != nil {
		return nil, nil, err
	}
	return m, taken, nil
}

// LifeEpoch is the leader epoch under which, or a later one, this life of the cluster leads the
// partitions that it took over from the one before, and which leads none of those it had led
// then; 0: there was no life before. It leads what it has made itself under any.
func (m *Image) LifeEpoch() storage.Epoch {
	lives := m.bucket.Incarnation
	if lives <= 1 {
		return 0
	}
	return storage.Epoch(min(lives-1, math.MaxInt32/epochLeap)) * epochLeap
}

// adopt makes found ranges part of their partitions, and condemns what is prepared and
// has none.
func (m *Image) adopt(with RecoverOptions) (taken []storage.ObjectID) {
	found := with.Objects
	objects := map[storage.ObjectID]*FoundObject{}
	runs := map[storage.PartitionID][]FoundRange{}
	for i := range found {
		f := &found[i]
		if o, ok := m.Object(f.ID); !ok || !guard.Check("metadata.adopt-prepared", o.State == Prepared) || f.Size < 1 || f.Size > maxObjectBytes {
			continue
		}
		objects[f.ID] = f
		for _, r := range f.Ranges {
			r.Range.Object = f.ID
			runs[r.Partition] = append(runs[r.Partition], r)
		}
	}
	edit := m.editCatalogue(m.offset)
	for t := range m.Topics() {
		for i := range t.Partitions.Len() {
			id := storage.PartitionID{Topic: t.ID, Index: int32(i)}
			_, p, refused := edit.find(id)
			if refused != nil || len(runs[id]) == 0 {
				continue
			}
			run := slices.DeleteFunc(runs[id], func(r FoundRange) bool {
				return m.inLine(p, with.Brokers) && !guard.Check("metadata.adopt-current", p.current(r))
			})
			for _, r := range furthest(p, run) {
				f := objects[r.Object]
				o := edit.object(r.Object)
				if r.Bytes < 0 || r.Bytes > f.Size-o.LiveBytes || r.IndexPosition < 0 || r.IndexPosition > f.Size-int64(r.IndexLength) {
					break // what follows would not begin at the committed end
				}
				if o.State == Prepared {
					edit.commit(o, f.Size, f.Mixed)
					taken = append(taken, o.ID)
				}
				edit.append(p, r)
				p = edit.partitions.is.At(int(p.Index))
			}
		}
	}
	edit.end()
	for o := range m.ObjectsIn(Prepared) {
		condemned := *o
		condemned.State, condemned.Since = Condemned, m.offset
		m.putObject(&condemned)
	}
	slices.Sort(taken)
	return taken
}

// awaited are the replicas of p whose data directories are there.
func (m *Image) awaited(p *Partition, brokers []int32) (awaited []int32) {
	for _, id := range p.Replicas {
		if _, known := m.brokers.get(id); known && (brokers == nil || slices.Contains(brokers, id)) {
			awaited = append(awaited, id)
		}
	}
	return awaited
}

// inLine reports whether one of those is there that had all of p that was acknowledged.
func (m *Image) inLine(p *Partition, brokers []int32) bool {
	return slices.ContainsFunc(m.awaited(p, brokers), func(id int32) bool { return slices.Contains(p.ISR, id) || slices.Contains(p.ELR, id) })
}

// current reports whether a range comes to the last epoch that anybody led p under. Of
// another it is not known whether the next leader had what it has: it may have been elected
// out of sync.
func (p *Partition) current(r FoundRange) bool {
	last := p.LeaderEpoch
	if p.Leader == NoLeader {
		last-- // nobody leads under that
	}
	return r.Range.Epoch >= last
}

// furthest returns the run of ranges behind the committed end of p, each beginning where
// the one before ends and not under an older leader epoch, that comes to the highest epoch,
// and of these the furthest. Two that come as far are told apart by the ids of their objects.
func furthest(p *Partition, found []FoundRange) []Range {
	slices.SortFunc(found, func(a, b FoundRange) int {
		return cmp.Or(cmp.Compare(a.Range.Base, b.Range.Base), cmp.Compare(a.Range.Object, b.Range.Object))
	})
	found = slices.DeleteFunc(found, func(r FoundRange) bool {
		return r.Range.Base < 0 || r.Range.End <= r.Range.Base || r.First > r.Range.Epoch
	})
	// Each range knows the best place that a run beginning with it comes to, and the next
	// range on the way. Those behind are done first: a range ends behind its base.
	type way struct {
		epoch storage.Epoch
		end   storage.Offset
		next  int // -1: none
	}
	better := func(a, b way) bool { return a.epoch > b.epoch || a.epoch == b.epoch && a.end > b.end }
	ways := make([]way, len(found))
	for i := len(found) - 1; i >= 0; i-- {
		r := &found[i].Range
		ways[i] = way{r.Epoch, r.End, -1}
		at, _ := slices.BinarySearchFunc(found, r.End, func(f FoundRange, end storage.Offset) int { return cmp.Compare(f.Range.Base, end) })
		for ; at < len(found) && found[at].Range.Base == r.End; at++ {
			if !guard.Check("metadata.adopt-by-epoch", found[at].First >= r.Epoch) {
				continue
			}
			if through := (way{ways[at].epoch, ways[at].end, at}); better(through, ways[i]) {
				ways[i] = through
			}
		}
	}
	last, ranged := p.Ranges().Last()
	first := -1
	for i := range found {
		r := &found[i].Range
		begins := r.Base <= p.LogStart && p.LogStart < r.End
		if ranged {
			begins = r.Base == last.End
		}
		if guard.Check("metadata.adopt-at-committed-end", begins) && (first < 0 || better(ways[i], ways[first])) {
			first = i
		}
	}
	var run []Range
	for i := first; i >= 0; i = ways[i].next {
		run = append(run, found[i].Range)
	}
	return run
}
