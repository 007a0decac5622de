package compact

import (
	"iter"
	"slices"
	"time"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/broker/tiering"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/object"
)

// Partition is one that is led here, as the catalogue has it.
type Partition struct {
	ID     storage.PartitionID
	Epoch  storage.Epoch // it is led under
	Ranges iter.Seq[metadata.Range]
}

// View is what a plan is made of. It may be walked more than once.
type View struct {
	Partitions iter.Seq[Partition]
	// From returns the partition's ranges from the first that ends above an offset on;
	// none when it is not led here.
	From  func(storage.PartitionID, storage.Offset) Partition
	Mixed func(storage.ObjectID) bool // the object was written with ranges of several partitions
	// Busy reports that something else rewrites ranges of a partition; nil: nothing
	// does.
	Busy func(storage.PartitionID) bool
}

// Job is one object to make.
type Job struct {
	Runs []Run // in order of partition, one of each

	// mixed are the shared objects with ranges of partitions led here, of any job, when
	// the plan was made. It is not changed any more.
	mixed map[storage.ObjectID]*mixedObject
}

// Run is ranges of one partition, each beginning where the one before ends, that
// one range is to take the place of.
type Run struct {
	Partition storage.PartitionID
	Epoch     storage.Epoch
	Ranges    []metadata.Range
}

// Bytes returns how many bytes the batches of the run have.
func (r *Run) Bytes() (sum int64) {
	for i := range r.Ranges {
		sum += r.Ranges[i].Bytes
	}
	return sum
}

// Inputs returns how many ranges the job takes the place of.
func (j *Job) Inputs() (n int) {
	for i := range j.Runs {
		n += len(j.Runs[i].Ranges)
	}
	return n
}

// planner decides what is rewritten. It is a core: it has no clock and does
// nothing but decide. A partition is in one job at most, and so is each range.
//
// Four rules, see survey: what fills a large object of one partition; small
// ranges of a partition, once there are many; mixed objects, once there are many;
// small ranges between large ones, where the oldest ranges are to be filed.
type planner struct {
	limits  Limits
	busy    map[storage.PartitionID]struct{} // running or queued
	backoff tiering.Backoff
	running int
	// queue is what is left of a plan for many partitions. It is done to its end
	// before another is made: a plan empties mixed objects only as a whole, and the
	// next one would begin with what the first half of this one made.
	queue []Job
	mixed map[storage.ObjectID]*mixedObject // see Job; as of the last plan
	// settling is the first range of each partition's last replacement. While a
	// view still has it, that view is older than the replacement.
	settling map[storage.PartitionID]metadata.Range
}

func newPlanner(l Limits) *planner {
	return &planner{
		limits: l, busy: map[storage.PartitionID]struct{}{}, settling: map[storage.PartitionID]metadata.Range{},
		backoff: tiering.Backoff{Min: l.RetryMin, Max: l.RetryMax},
	}
}

// plan returns the objects to begin now.
func (p *planner) plan(now time.Time, v View) (begun []Job) {
	if p.running < p.limits.Parallel && len(p.queue) == 0 {
		s := p.survey(now, v)
		p.enqueue(s, v)
		p.mixed = s.mixed
	}
	for p.running < p.limits.Parallel && len(p.queue) > 0 {
		j := p.stillThere(p.queue[0], v)
		p.queue = p.queue[1:]
		if len(j.Runs) > 0 {
			j.mixed = p.mixed
			begun = append(begun, j)
			p.running++
		}
	}
	return begun
}

// stillThere takes the runs out of a job that waited whose ranges are not all there
// any more.
func (p *planner) stillThere(j Job, v View) Job {
	kept := j.Runs[:0]
	for _, r := range j.Runs {
		now, same := v.From(r.Partition, r.Ranges[0].Base), 0
		for is := range now.Ranges {
			if same == len(r.Ranges) || is != r.Ranges[same] {
				break
			}
			same++
		}
		if same < len(r.Ranges) {
			delete(p.busy, r.Partition)
			continue
		}
		r.Epoch = now.Epoch // it may have moved, and come back
		kept = append(kept, r)
	}
	j.Runs = kept
	return j
}

// enqueue chooses from what could be done. Where a partition has runs by several
// rules the first is taken.
func (p *planner) enqueue(s *survey, v View) {
	jobs := p.pack(p.mixedRuns(v, s))
	if s.urgent || s.saves >= p.limits.SaveRanges {
		jobs = append(jobs, p.pack(s.small)...)
	}
	for _, r := range slices.Concat(s.large, s.own) {
		jobs = append(jobs, Job{Runs: []Run{r}})
	}
	for _, j := range jobs {
		j.Runs = slices.DeleteFunc(j.Runs, func(r Run) bool { _, busy := p.busy[r.Partition]; return busy })
		if len(j.Runs) == 0 {
			continue
		}
		for i := range j.Runs {
			p.busy[j.Runs[i].Partition] = struct{}{}
		}
		p.queue = append(p.queue, j)
	}
}

// pack cuts runs into jobs: those with enough bytes get one each, the others
// share.
func (p *planner) pack(runs []Run) (jobs []Job) {
	slices.SortFunc(runs, func(a, b Run) int { return object.ComparePartitions(a.Partition, b.Partition) })
	var total int64
	inputs, shared := 0, make([]Run, 0, len(runs))
	for _, r := range runs {
		if bytes := r.Bytes(); bytes >= p.limits.MinObject {
			jobs = append(jobs, Job{Runs: []Run{r}})
		} else {
			shared = append(shared, r)
			total += bytes
			inputs += len(r.Ranges)
		}
	}
	if len(shared) == 0 {
		return jobs
	}
	// As few objects as the limits allow, all of about one size.
	parts := max(ceil(total, p.limits.TargetObject), ceil(int64(inputs), int64(p.limits.JobInputs)), ceil(int64(len(shared)), int64(p.limits.JobRanges)))
	var j Job
	var bytes int64
	inputs = 0
	for i, r := range shared {
		full := bytes >= ceil(total, parts) || int64(len(j.Runs)) >= ceil(int64(len(shared)), parts)*2 || len(j.Runs) == p.limits.JobRanges || inputs+len(r.Ranges) > p.limits.JobInputs
		if full && len(j.Runs) > 0 {
			jobs = append(jobs, j)
			j, bytes, inputs = Job{}, 0, 0
		}
		j.Runs = append(j.Runs, shared[i])
		bytes += r.Bytes()
		inputs += len(r.Ranges)
	}
	return append(jobs, j)
}

func ceil(a, b int64) int64 { return (a + b - 1) / b }

// done says how a job ended: refused are the partitions whose range did not make
// it, with failed all of them.
func (p *planner) done(now time.Time, j Job, refused map[storage.PartitionID]bool, failed bool) {
	p.running--
	if failed { // most likely the bucket: what is queued would fail too
		for _, queued := range p.queue {
			for i := range queued.Runs {
				delete(p.busy, queued.Runs[i].Partition)
			}
		}
		p.queue = nil
	}
	for i := range j.Runs {
		r := &j.Runs[i]
		delete(p.busy, r.Partition)
		if failed || refused[r.Partition] {
			p.backoff.Failed(now, r.Partition)
			continue
		}
		p.backoff.Succeeded(r.Partition)
		p.settling[r.Partition] = r.Ranges[0]
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
