package compact

import (
	"math/bits"
	"slices"
	"time"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/storage"
)

// survey is what could be done, one run of each partition by each rule.
type survey struct {
	large  []Run // fill an object of TargetObject
	small  []Run // Fanout ranges of one size, or too many of any
	saves  int   // ranges that all of small would save
	own    []Run // lie between large ones, and hold up what is to be filed
	urgent bool  // some partition has too many ranges
	mixed  map[storage.ObjectID]*mixedObject
	ready  map[storage.PartitionID]struct{} // neither busy nor failing
}

// mixedObject is what partitions led here have in a mixed object.
type mixedObject struct {
	bytes       int64
	ranges      int
	taken       int   // of them by the plan that is looked at
	first, last int64 // their indexes lie between
}

// survey looks at every range once.
func (p *planner) survey(now time.Time, v View) *survey {
	s := &survey{mixed: map[storage.ObjectID]*mixedObject{}, ready: map[storage.PartitionID]struct{}{}}
	var segment []metadata.Range // follow one another, none of them large
	for part := range v.Partitions {
		ready := p.ready(now, &part) && (v.Busy == nil || !v.Busy(part.ID))
		if ready {
			s.ready[part.ID] = struct{}{}
		}
		segment = segment[:0]
		var large, small, own Run
		urgent := false
		ranges := 0
		end := func(closed bool) {
			if ready {
				urgent = p.segment(segment, &large, &small) || urgent
			}
			if ready && closed && own.Ranges == nil && (len(segment) > 1 || len(segment) == 1 && v.Mixed(segment[0].Object)) {
				own.Ranges = slices.Clone(segment[:min(len(segment), p.limits.JobInputs)])
			}
			segment = segment[:0]
		}
		for r := range part.Ranges {
			if v.Mixed(r.Object) {
				o := s.mixed[r.Object]
				if o == nil {
					o = &mixedObject{first: r.IndexPosition}
					s.mixed[r.Object] = o
				}
				o.first, o.last = min(o.first, r.IndexPosition), max(o.last, r.IndexPosition+int64(r.IndexLength))
				o.bytes += r.Bytes
				o.ranges++
			}
			ranges++
			if r.Bytes >= p.limits.TargetObject/2 {
				end(true)
				if ready && own.Ranges == nil && v.Mixed(r.Object) {
					own.Ranges = []metadata.Range{r}
				}
				continue
			}
			segment = append(segment, r)
		}
		end(false)
		if p.limits.FileRanges > 0 && ranges > p.limits.FileRanges && own.Ranges != nil {
			own.Partition, own.Epoch = part.ID, part.Epoch
			s.own = append(s.own, own)
		}
		if large.Ranges != nil {
			large.Partition, large.Epoch = part.ID, part.Epoch
			s.large = append(s.large, large)
		} else if small.Ranges != nil {
			small.Partition, small.Epoch = part.ID, part.Epoch
			s.small = append(s.small, small)
			s.saves += len(small.Ranges) - 1
			s.urgent = s.urgent || urgent
		}
	}
	return s
}

// ready reports whether a partition may be in a new job.
func (p *planner) ready(now time.Time, part *Partition) bool {
	if _, busy := p.busy[part.ID]; busy || p.backoff.Waits(now, part.ID) {
		return false
	}
	if was, settling := p.settling[part.ID]; settling {
		for r := range part.Ranges {
			if r.Base > was.Base {
				break
			}
			if r.Base == was.Base && r.Object == was.Object {
				return false
			}
		}
		delete(p.settling, part.ID)
	}
	return true
}

// segment looks at ranges that lie between two large ones, and reports whether
// there are too many.
func (p *planner) segment(ranges []metadata.Range, large, small *Run) (urgent bool) {
	if large.Ranges == nil {
		if run := p.filling(ranges); run != nil {
			large.Ranges = slices.Clone(run)
			return false
		}
	}
	for from := 0; from < len(ranges); from++ {
		to := from
		for to < len(ranges) && ranges[to].Bytes < p.limits.MinObject {
			to++
		}
		if run := p.levelled(ranges[from:to]); len(run) > len(small.Ranges) {
			small.Ranges = slices.Clone(run)
		}
		urgent = urgent || to-from >= p.limits.MaxRanges
		from = to
	}
	return urgent
}

// filling returns the first ranges that fill an object, or nil.
func (p *planner) filling(ranges []metadata.Range) []metadata.Range {
	var bytes int64
	for i := range ranges {
		if bytes += ranges[i].Bytes; bytes >= p.limits.TargetObject {
			if i >= p.limits.JobInputs {
				return nil // they are merged as small ones first
			}
			return ranges[:i+1]
		}
	}
	return nil
}

// levelled returns ranges that are worth merging, or nil: a run without one of
// a higher class than c, with Fanout of class c, so that what comes of it is of a
// higher class than all in it; the highest such c, for it takes in what is lower.
// Whatever the classes are, MaxRanges are too many.
func (p *planner) levelled(ranges []metadata.Range) (run []metadata.Range) {
	if len(ranges) < p.limits.Fanout {
		return nil
	}
	defer func() { run = run[:min(len(run), p.limits.JobInputs)] }()
	for c := p.class(p.limits.MinObject); c >= 0; c-- {
		from, same := 0, 0
		for i := range ranges {
			switch is := p.class(ranges[i].Bytes); {
			case is > c:
				if same >= p.limits.Fanout {
					return ranges[from:i]
				}
				from, same = i+1, 0
			case is == c:
				same++
			}
		}
		if same >= p.limits.Fanout {
			return ranges[from:]
		}
	}
	if len(ranges) >= p.limits.MaxRanges {
		return ranges
	}
	return nil
}

// class grows by one where bytes grow by a factor of Fanout.
func (p *planner) class(bytes int64) int {
	return (bits.Len64(uint64(max(bytes, 1))) - 1) / (bits.Len(uint(p.limits.Fanout)) - 1)
}

// mixedRuns returns the ranges of mixed objects of one class, when there are too
// many of them and rewriting leaves half as many at most.
func (p *planner) mixedRuns(v View, s *survey) []Run {
	sizes := map[int]int{}
	for _, o := range s.mixed {
		if o.bytes < p.limits.TargetObject/2 {
			sizes[p.class(o.bytes)]++
		}
	}
	for c := range p.class(p.limits.TargetObject) + 1 {
		if sizes[c] < p.limits.MaxMixed {
			continue
		}
		runs := p.runsOf(v, s, func(id storage.ObjectID) bool {
			o := s.mixed[id]
			return o != nil && o.bytes < p.limits.TargetObject/2 && p.class(o.bytes) == c
		})
		emptied := 0
		for _, o := range s.mixed {
			if o.taken == o.ranges {
				emptied++
			}
		}
		if emptied-len(p.pack(runs)) >= sizes[c]/2 {
			return runs
		}
	}
	return nil
}

// runsOf returns, of each partition, the longest run of ranges in such objects,
// and counts how many of each object's ranges that takes.
func (p *planner) runsOf(v View, s *survey, in func(storage.ObjectID) bool) (runs []Run) {
	for _, o := range s.mixed {
		o.taken = 0
	}
	var run []metadata.Range
	for part := range v.Partitions {
		if _, ready := s.ready[part.ID]; !ready {
			continue
		}
		run = run[:0]
		var longest []metadata.Range
		for r := range part.Ranges {
			if in(r.Object) && len(run) < p.limits.JobInputs {
				run = append(run, r)
				continue
			}
			if len(run) > len(longest) {
				longest = slices.Clone(run)
			}
			run = run[:0]
		}
		if len(run) > len(longest) {
			longest = slices.Clone(run)
		}
		if longest == nil {
			continue
		}
		for i := range longest {
			s.mixed[longest[i].Object].taken++
		}
		runs = append(runs, Run{part.ID, part.Epoch, longest})
	}
	return runs
}
