package upload

import (
	"cmp"
	"slices"
	"time"

	"rustmq.dev/rustmq/roles/broker/tiering"
	"rustmq.dev/rustmq/storage"
)

// Limits say when to upload, and how much at once.
type Limits struct {
	// Interval is how long committed bytes may wait: the price of an idle
	// partition is one request for all of them in each interval.
	Interval time.Duration
	// ObjectBytes waiting in partitions that share objects are uploaded without
	// waiting for the interval; it is also about the size of the largest object.
	ObjectBytes int64
	// OwnBytes of one partition get an object of their own.
	OwnBytes int64
	// ObjectRanges is the most partitions in one object: what names them must
	// fit in one command of the metadata log.
	ObjectRanges int
	// Parallel is how many objects are under way at once.
	Parallel int
	// RetryMin and RetryMax bound how long a partition waits after its upload
	// failed; it doubles in between.
	RetryMin, RetryMax time.Duration
	// Urgent is the share of the WAL's budget, 0 to 1, from which on nothing
	// waits for its interval.
	Urgent float64
}

// Waiting is a partition with committed records that the bucket lacks.
type Waiting struct {
	Partition storage.PartitionID
	From      storage.Offset // the committed end
	Bytes     int64
	Since     time.Time // when the oldest of them was appended
}

// Job is one object to make.
type Job struct{ Parts []Part }

// Part is what a job takes of one partition: from an offset on, as many whole
// batches as fit in MaxBytes, at least one.
type Part struct {
	Partition storage.PartitionID
	From      storage.Offset
	MaxBytes  int64
}

// planner decides what is uploaded when. It is a core: it has no clock and does
// nothing but decide. A partition has at most one part under way, for a range
// must begin where the one before ended.
type planner struct {
	limits  Limits
	busy    map[storage.PartitionID]struct{}
	backoff tiering.Backoff
	running int
}

func newPlanner(l Limits) *planner {
	return &planner{limits: l, busy: map[storage.PartitionID]struct{}{}, backoff: tiering.Backoff{Min: l.RetryMin, Max: l.RetryMax}}
}

// plan returns the objects to begin now, those with the oldest records first: while the
// bucket is slower than what comes in, nobody else's may pass them. fullness is the
// WAL's.
func (p *planner) plan(now time.Time, waiting []Waiting, fullness float64) []Job {
	free := p.limits.Parallel - p.running
	if free <= 0 {
		return nil
	}
	ready := make([]Waiting, 0, len(waiting))
	var total int64
	due := fullness >= p.limits.Urgent
	for _, w := range waiting {
		if _, busy := p.busy[w.Partition]; busy || w.Bytes <= 0 {
			continue
		}
		if p.backoff.Waits(now, w.Partition) {
			continue
		}
		if w.Since.After(now) { // the clock was set back: how long it has waited is not known
			w.Since = now.Add(-p.limits.Interval)
		}
		ready = append(ready, w)
		if w.Bytes < p.limits.OwnBytes {
			total += w.Bytes
		}
		due = due || !now.Before(w.Since.Add(p.limits.Interval))
	}
	due = due || total >= p.limits.ObjectBytes
	slices.SortFunc(ready, func(a, b Waiting) int {
		return cmp.Or(a.Since.Compare(b.Since), slices.Compare(a.Partition.Topic[:], b.Partition.Topic[:]), cmp.Compare(a.Partition.Index, b.Partition.Index))
	})
	var jobs []Job // each where its oldest part is in that order
	mixed, mixedBytes := -1, int64(0)
	for _, w := range ready {
		part := Part{w.Partition, w.From, min(w.Bytes, p.limits.ObjectBytes)}
		if w.Bytes >= p.limits.OwnBytes {
			jobs = append(jobs, Job{[]Part{part}})
			continue
		}
		if !due {
			continue
		}
		if mixed < 0 {
			mixed, mixedBytes = len(jobs), 0
			jobs = append(jobs, Job{})
		}
		j := &jobs[mixed]
		j.Parts = append(j.Parts, part)
		mixedBytes += part.MaxBytes
		if mixedBytes >= p.limits.ObjectBytes || len(j.Parts) == p.limits.ObjectRanges {
			mixed = -1
		}
	}
	jobs = jobs[:min(len(jobs), free)]
	for _, j := range jobs {
		for _, part := range j.Parts {
			p.busy[part.Partition] = struct{}{}
		}
	}
	p.running += len(jobs)
	return jobs
}

// done says how a job ended: refused are the partitions whose part did not make
// it, with failed all of them.
func (p *planner) done(now time.Time, j Job, refused map[storage.PartitionID]bool, failed bool) {
	p.running--
	for _, part := range j.Parts {
		delete(p.busy, part.Partition)
		if !failed && !refused[part.Partition] {
			p.backoff.Succeeded(part.Partition)
			continue
		}
		p.backoff.Failed(now, part.Partition)
	}
}

// forget drops what is known of partitions that are not led here any more.
func (p *planner) forget(leads func(storage.PartitionID) bool) { p.backoff.Forget(leads) }
