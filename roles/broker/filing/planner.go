package filing

import (
	"iter"
	"time"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/broker/tiering"
	"rustmq.dev/rustmq/storage"
)

// Partition is one that is led here, as the catalogue has it.
type Partition struct {
	ID    storage.PartitionID
	Topic string
	*metadata.Partition
	Stays bool // no more of it is filed; what the log start passes leaves its manifests
}

// View is what a plan is made of.
type View struct {
	Partitions iter.Seq[Partition] // led here
	Object     func(storage.ObjectID) (*metadata.Object, bool)
	NextObject storage.ObjectID // no object of this id or above was issued
}

// Job is one manifest to make.
type Job struct {
	Partition storage.PartitionID
	Topic     string
	Epoch     storage.Epoch
	LogStart  storage.Offset
	Replaced  *metadata.Manifest // that it takes the place of; nil: none
	Drop      bool               // Replaced is the first: what lies below LogStart is left out
	Move      []metadata.Range   // behind what Replaced has
}

// dropPart is the part of a manifest, as a divisor, that is worth making it anew for
// at once.
const dropPart = 8

// planner decides what is filed. It is a core: it has no clock and does nothing but
// decide.
type planner struct {
	limits  Limits
	backoff tiering.Backoff
	// settling are manifests that the controller has named: until an image shows what
	// became of them it is older than that.
	settling map[storage.PartitionID]storage.ObjectID
	// passed is what is known of first manifests that the log start lies in.
	passed map[storage.ObjectID]passed
}

type passed struct {
	since time.Time      // when that was first seen
	kept  storage.Offset // the log start below which none of its ranges lies, as far as it was read
}

func newPlanner(l Limits) *planner {
	return &planner{
		limits: l, backoff: tiering.Backoff{Min: l.RetryMin, Max: l.RetryMax},
		settling: map[storage.PartitionID]storage.ObjectID{}, passed: map[storage.ObjectID]passed{},
	}
}

// plan returns the manifests that are due, one of a partition.
func (p *planner) plan(now time.Time, v View) (jobs []Job) {
	seen := make(map[storage.ObjectID]passed, len(p.passed))
	for part := range v.Partitions {
		filed := part.Filed()
		if len(filed) == 0 && (part.Stays || part.Ranges().Len() <= p.limits.Ranges) {
			continue
		}
		p.pass(now, &part, seen)
		if p.backoff.Waits(now, part.ID) || p.settles(part.ID, v) {
			continue
		}
		if j, due := p.job(now, &part, v); due {
			jobs = append(jobs, j)
		}
	}
	p.passed = seen
	return jobs
}

// pass takes note of a first manifest that the log start lies in.
func (p *planner) pass(now time.Time, part *Partition, seen map[storage.ObjectID]passed) {
	filed := part.Filed()
	if len(filed) == 0 || part.LogStart <= filed[0].Base {
		return
	}
	was, known := p.passed[filed[0].ID]
	if !known {
		was = passed{since: now, kept: filed[0].Base}
	}
	seen[filed[0].ID], p.passed[filed[0].ID] = was, was
}

// settles reports whether a view is older than the partition's last manifest.
func (p *planner) settles(id storage.PartitionID, v View) bool {
	named, settling := p.settling[id]
	if !settling {
		return false
	}
	if o, known := v.Object(named); known && o.State == metadata.Prepared || named >= v.NextObject {
		return true
	}
	delete(p.settling, id)
	return false
}

// job is what is due for a partition.
func (p *planner) job(now time.Time, part *Partition, v View) (j Job, due bool) {
	filed := part.Filed()
	j = Job{Partition: part.ID, Topic: part.Topic, Epoch: part.LeaderEpoch, LogStart: part.LogStart}
	if !part.Stays {
		j.Move = p.settled(part, v)
	}
	least := max(1, p.limits.Ranges/4) // a few are not worth a manifest
	if n := len(filed); n > 0 {
		if room := p.limits.ManifestRanges - filed[n-1].Ranges; room > 0 && len(j.Move) >= min(room, least) {
			j.Move = j.Move[:min(room, len(j.Move))]
			j.Replaced = &filed[n-1]
			j.Drop = n == 1 && part.LogStart > filed[0].Base
			return j, true
		}
	}
	if len(j.Move) >= least && (len(filed) == 0 || filed[len(filed)-1].Ranges >= p.limits.ManifestRanges) {
		return j, true
	}
	if len(filed) > 0 && p.dropDue(now, &filed[0], part.LogStart) {
		j.Move, j.Replaced, j.Drop = nil, &filed[0], true
		return j, true
	}
	return j, false
}

// dropDue reports whether enough of a first manifest lies below the log start, or some
// of it has for long.
func (p *planner) dropDue(now time.Time, first *metadata.Manifest, logStart storage.Offset) bool {
	was, known := p.passed[first.ID]
	if !known || logStart <= was.kept {
		return false
	}
	below := float64(logStart-first.Base) / float64(first.End-first.Base)
	return below >= 1.0/dropPart || now.Sub(was.since) >= p.limits.DropAfter
}

// settled returns the first ranges of a partition that are to be filed: not more than
// leave half of Limits.Ranges, or fill a manifest, and none that compaction may still
// look at.
func (p *planner) settled(part *Partition, v View) (move []metadata.Range) {
	l := part.Ranges()
	if l.Len() <= p.limits.Ranges {
		return nil
	}
	most := min(l.Len()-p.limits.Ranges/2, p.limits.ManifestRanges)
	sure := 0 // of move, those that are settled for certain
	for r := range l.All() {
		o, ok := v.Object(r.Object)
		if len(move) == most || !ok || o.Mixed || o.Ranges != 1 {
			break
		}
		small := r.Bytes < p.limits.Large
		if small && sure < len(move) {
			break // two small ones that follow one another
		}
		if move = append(move, r); !small {
			sure = len(move)
		}
	}
	return move[:sure]
}

// done says how a job ended: manifest is the one that was named.
func (p *planner) done(now time.Time, j *Job, manifest storage.ObjectID, err error) {
	if err != nil {
		p.backoff.Failed(now, j.Partition)
		return
	}
	p.backoff.Succeeded(j.Partition)
	p.settling[j.Partition] = manifest
}

// nothing says that none of a job's manifest lies below its log start.
func (p *planner) nothing(j *Job) {
	if was, known := p.passed[j.Replaced.ID]; known {
		was.kept = j.LogStart
		p.passed[j.Replaced.ID] = was
	}
}

// forget drops what is known of partitions that are not led here any more.
func (p *planner) forget(leads func(storage.PartitionID) bool) {
	p.backoff.Forget(leads)
	for id := range p.settling {
		if !leads(id) {
			delete(p.settling, id)
		}
	}
}
