package clean

import (
	"iter"
	"time"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/broker/tiering"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/guard"
)

// Partition is one that is led here and compacted by key, as the catalogue has it.
type Partition struct {
	ID       storage.PartitionID
	Epoch    storage.Epoch // it is led under
	Policy   Policy
	Ranges   metadata.Ranges
	Cleaning metadata.Cleaning
	Older    bool // ranges before these are filed in manifests, and stay as they are
}

// View is what a plan is made of.
type View struct {
	Partitions iter.Seq[Partition]
	// Busy reports that something else rewrites ranges of a partition.
	Busy func(storage.PartitionID) bool
	// Believed is the time by which records are old.
	Believed time.Time
}

// Job is one round.
type Job struct {
	Partition
	Dirty storage.Offset // what lies below was compared in an earlier round
	// End is where the round ends at the latest: that of a range. Dirty: there is
	// nothing new, only tombstones are due.
	End storage.Offset
	// Believed is the time of the round: one moment for all of it.
	Believed time.Time
}

// planner decides which partition gets the next round. It is a core: it has no clock
// and does nothing but decide.
type planner struct {
	limits  Limits
	backoff tiering.Backoff
	running map[storage.PartitionID]struct{}
	// more are partitions whose last round ended because the table was full: what it
	// was begun for is not done.
	more map[storage.PartitionID]struct{}
	// settling is what the last round of a partition noted. While a view has less,
	// that view is older than the round.
	settling map[storage.PartitionID]settling
	dirtiest float64 // share of new bytes of the partition that has the largest, at the last look
}

func newPlanner(l Limits) *planner {
	return &planner{
		limits: l, running: map[storage.PartitionID]struct{}{}, more: map[storage.PartitionID]struct{}{}, settling: map[storage.PartitionID]settling{},
		backoff: tiering.Backoff{Min: l.RetryMin, Max: l.RetryMax},
	}
}

// plan returns the round to begin now, if one is due and none is under way. now is for
// the pauses after failures alone.
func (p *planner) plan(now time.Time, v View) (Job, bool) {
	p.dirtiest = 0
	if len(p.running) > 0 {
		return Job{}, false
	}
	var best Job
	most := 0.0
	for part := range v.Partitions {
		a := p.assess(v.Believed, &part)
		p.dirtiest = max(p.dirtiest, a.ratio)
		if a.urgency <= most || p.backoff.Waits(now, part.ID) || !p.settled(&part) || v.Busy(part.ID) {
			continue
		}
		best, most = a.job, a.urgency
	}
	if most == 0 {
		return Job{}, false
	}
	p.running[best.ID] = struct{}{}
	return best, true
}

// assessment is what a round of a partition would be worth.
type assessment struct {
	job     Job
	ratio   float64 // of new bytes
	urgency float64 // 0: it is not due
}

// assess says what a round of the partition would do, and whether it is due.
func (p *planner) assess(now time.Time, part *Partition) assessment {
	a := assessment{job: Job{Partition: *part, Dirty: part.Cleaning.To, Believed: now}}
	if part.Ranges.Len() == 0 {
		return a
	}
	if begin := part.Ranges.At(0).Base; begin > a.job.Dirty {
		a.job.Dirty = begin // the log start has passed what was done
	}
	a.job.End = a.job.Dirty
	var newer, dirty int64 // bytes behind what is done, and of those what a round may take
	youngest := now.Add(-part.Policy.MinLag).UnixMilli()
	oldest, tooYoung := int64(0), false
	for r := range part.Ranges.From(a.job.Dirty) {
		newer += r.Bytes
		if part.Policy.MinLag > 0 && !guard.Check("clean.min-lag", r.MaxTimestamp <= youngest) {
			tooYoung = true // and so is what follows, whatever it says
		}
		if tooYoung {
			continue
		}
		if dirty == 0 {
			oldest = r.MaxTimestamp
		}
		a.job.End = r.End
		dirty += r.Bytes
	}
	before := int64(0) // when the newest is of that is done with
	for r := range part.Ranges.From(a.job.Dirty - 1) {
		if r.End <= a.job.Dirty {
			before = r.MaxTimestamp
		}
		break
	}
	if clean := part.Ranges.Bytes() - newer; dirty > 0 {
		a.ratio = float64(dirty) / float64(clean+dirty)
	}
	passed := func(millis int64, wait time.Duration) bool { return now.Add(-wait).UnixMilli() >= millis }
	_, more := p.more[part.ID]
	isNew := a.job.End > a.job.Dirty
	switch {
	// A range says when its newest record is of, not its oldest: that is about when
	// the newest of the one before is.
	case isNew && part.Policy.MaxLag > 0 && passed(before, part.Policy.MaxLag):
		a.urgency = 4
	case isNew && more:
		a.urgency = 3
	case part.Cleaning.Round != 0:
		a.urgency = 2
	case isNew && a.ratio >= part.Policy.DirtyRatio && (dirty >= p.limits.SmallBytes || passed(oldest, p.limits.Patience)):
		a.urgency = 1 + a.ratio/2
	case part.Cleaning.Due != 0 && passed(part.Cleaning.Due, part.Policy.DeleteRetention/dueAfter):
		a.urgency = 1
	}
	return a
}

// settled reports whether what is known of a partition is as new as its last round.
func (p *planner) settled(part *Partition) bool {
	was, settling := p.settling[part.ID]
	if !settling {
		return true
	}
	if part.Cleaning != was.noted && part.Cleaning.To <= was.noted.To && part.Epoch == was.epoch {
		return false
	}
	delete(p.settling, part.ID)
	return true
}

// settling is what a round noted, under a leader epoch.
type settling struct {
	noted metadata.Cleaning
	epoch storage.Epoch
}

// outcome is how a round ended.
type outcome struct {
	noted metadata.Cleaning // the last that was; zero: nothing
	full  bool              // the table did not take all that is new
	held  bool              // there was nothing that it might do yet
	err   error
}

// done says how a round ended.
func (p *planner) done(now time.Time, j Job, o outcome) {
	delete(p.running, j.ID)
	delete(p.more, j.ID)
	if o.err != nil || o.held {
		p.backoff.Failed(now, j.ID)
		return
	}
	p.backoff.Succeeded(j.ID)
	if o.noted != (metadata.Cleaning{}) {
		p.settling[j.ID] = settling{o.noted, j.Epoch}
	}
	if o.full {
		p.more[j.ID] = struct{}{}
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
	for id := range p.more {
		if !leads(id) {
			delete(p.more, id)
		}
	}
}
