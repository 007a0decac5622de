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
	// AckInterval and AckBytes are Interval, and ObjectBytes but for the size of the
	// largest object, where acks wait for the bucket. Such partitions share objects of
	// their own.
	AckInterval time.Duration
	AckBytes    int64
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
	// Outrun is how many bytes wait when uploads have lost the race with a log that has
	// its disk busy: more than it keeps in memory, so that they would be read back from
	// that disk, and written to it once more where the bucket is a directory there. What
	// is due by its bytes alone then waits for its interval, or until the disk has time,
	// or half of Urgent is used. 0: nothing waits so.
	Outrun int64
}

// Pressure is how the WAL fares.
type Pressure struct {
	Fullness float64 // share of its budget that is used, 0 to 1
	Busy     bool    // it wrote and synced for most of the time since it was last looked
}

// Waiting is a partition with committed records that the bucket lacks.
type Waiting struct {
	Partition storage.PartitionID
	From      storage.Offset // the committed end
	Bytes     int64
	Since     time.Time // when the oldest of them was appended
	Awaited   bool      // acks wait for them
}

// Job is one object to make.
type Job struct {
	Parts   []Part
	Awaited bool // acks wait for it
}

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
	awaited int // of running
	// answered is when an object was done last that acks waited for: who got them sends on.
	answered time.Time
}

func newPlanner(l Limits) *planner {
	return &planner{limits: l, busy: map[storage.PartitionID]struct{}{}, backoff: tiering.Backoff{Min: l.RetryMin, Max: l.RetryMax}}
}

// plan returns the objects to begin now, those with the oldest records first: while the
// bucket is slower than what comes in, nobody else's may pass them. What acks wait for goes
// before all others, and always has room for one object.
func (p *planner) plan(now time.Time, waiting []Waiting, wal Pressure) []Job {
	free := p.limits.Parallel - p.running
	jobs := p.pack(now, waiting, wal, true)
	jobs = jobs[:min(len(jobs), max(free, 1-p.awaited))]
	p.awaited += len(jobs)
	others := p.pack(now, waiting, wal, false)
	jobs = append(jobs, others[:max(0, min(len(others), free-len(jobs)))]...)
	for _, j := range jobs {
		for _, part := range j.Parts {
			p.busy[part.Partition] = struct{}{}
		}
	}
	p.running += len(jobs)
	return jobs
}

// interval is how long a partition may wait, and bytes how much may come together.
func (p *planner) interval(awaited bool) (interval time.Duration, bytes int64) {
	if awaited {
		return p.limits.AckInterval, p.limits.AckBytes
	}
	return p.limits.Interval, p.limits.ObjectBytes
}

// waits reports whether a partition is to be looked at, but for its interval.
func (p *planner) waits(now time.Time, w *Waiting) bool {
	_, busy := p.busy[w.Partition]
	return !busy && w.Bytes > 0 && !p.backoff.Waits(now, w.Partition)
}

// outrun reports whether uploads gain nothing by beginning before they must: see Limits.
func (p *planner) outrun(waiting []Waiting, wal Pressure) bool {
	if p.limits.Outrun == 0 || !wal.Busy || wal.Fullness >= p.limits.Urgent/2 {
		return false
	}
	var total int64
	for i := range waiting {
		if !waiting[i].Awaited {
			total += waiting[i].Bytes
		}
	}
	return total >= p.limits.Outrun
}

// pack returns what objects there would be of one kind of partitions, those that acks wait
// for, or the others.
func (p *planner) pack(now time.Time, waiting []Waiting, wal Pressure, awaited bool) []Job {
	interval, bytes := p.interval(awaited)
	var ready []Waiting
	var total int64
	urgent, held := wal.Fullness >= p.limits.Urgent, !awaited && p.outrun(waiting, wal)
	late := func(w *Waiting) bool { return !now.Before(w.Since.Add(interval)) }
	due := urgent
	for _, w := range waiting {
		if w.Awaited != awaited || !p.waits(now, &w) {
			continue
		}
		if w.Since.After(now) { // the clock was set back: how long it has waited is not known
			w.Since = now.Add(-interval)
		}
		ready = append(ready, w)
		if w.Bytes < p.limits.OwnBytes {
			total += w.Bytes
		}
		due = due || late(&w)
	}
	due = due || total >= bytes && !held
	slices.SortFunc(ready, func(a, b Waiting) int {
		return cmp.Or(a.Since.Compare(b.Since), slices.Compare(a.Partition.Topic[:], b.Partition.Topic[:]), cmp.Compare(a.Partition.Index, b.Partition.Index))
	})
	var jobs []Job // each where its oldest part is in that order
	mixed, mixedBytes := -1, int64(0)
	for _, w := range ready {
		part := Part{w.Partition, w.From, min(w.Bytes, p.limits.ObjectBytes)}
		if w.Bytes >= p.limits.OwnBytes {
			if held && !late(&w) {
				continue
			}
			jobs = append(jobs, Job{Parts: []Part{part}, Awaited: awaited})
			continue
		}
		if !due {
			continue
		}
		if mixed < 0 {
			mixed, mixedBytes = len(jobs), 0
			jobs = append(jobs, Job{Awaited: awaited})
		}
		j := &jobs[mixed]
		j.Parts = append(j.Parts, part)
		mixedBytes += part.MaxBytes
		if mixedBytes >= p.limits.ObjectBytes || len(j.Parts) == p.limits.ObjectRanges {
			mixed = -1
		}
	}
	return jobs
}

// looks is how many times in an AckInterval it is looked whether AckBytes have come.
const looks = 25

// again returns in how long to look once more for what acks wait for; 0: for no such reason.
func (p *planner) again(now time.Time, waiting []Waiting) (in time.Duration) {
	if now.Sub(p.answered) < p.limits.AckInterval {
		in = max(p.limits.AckInterval/looks, time.Millisecond)
	}
	for i := range waiting {
		if w := &waiting[i]; w.Awaited && p.waits(now, w) {
			due := w.Since.Add(p.limits.AckInterval).Sub(now)
			if due = max(min(due, p.limits.AckInterval/looks), time.Millisecond); in == 0 || due < in {
				in = due
			}
		}
	}
	return in
}

// done says how a job ended: refused are the partitions whose part did not make
// it, with failed all of them.
func (p *planner) done(now time.Time, j Job, refused map[storage.PartitionID]bool, failed bool) {
	p.running--
	if j.Awaited {
		p.awaited--
		p.answered = now
	}
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
