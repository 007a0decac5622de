package compact

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/object"
	"rustmq.dev/rustmq/test/seeded"
)

var testLimits = Limits{
	MinObject: 1000, TargetObject: 6400, Fanout: 4, MaxRanges: 12, SaveRanges: 40, MaxMixed: 8,
	JobRanges: 6, JobInputs: 40, Parallel: 3, RetryMin: time.Second, RetryMax: 8 * time.Second,
}

// alone uploads objects of one partition each.
func alone(f *fleet, partition int, sizes ...int64) {
	for _, bytes := range sizes {
		f.upload(map[int]int64{partition: bytes})
	}
}

func TestLargeRangesAreWrittenOnceMore(t *testing.T) {
	f := newFleet(testLimits, 1)
	alone(f, 0, 2000, 2000, 2000)
	if jobs := f.planner.plan(time.Time{}, f.view()); len(jobs) != 0 {
		t.Fatalf("rewritten before they fill an object: %v", jobs)
	}
	alone(f, 0, 2000, 2000)
	f.compact(t, time.Time{})
	if len(f.partitions[0]) != 2 || f.partitions[0][0].Bytes != 8000 || f.rewritten != 8000 {
		t.Fatalf("%v, %d bytes rewritten", f.partitions[0], f.rewritten)
	}
	alone(f, 0, 3200, 9000)
	f.compact(t, time.Time{})
	if f.rewritten != 8000 {
		t.Fatalf("what is large was rewritten: %v", f.partitions[0])
	}
}

func TestSmallRangesShareAnObject(t *testing.T) {
	f := newFleet(testLimits, 4)
	for range 12 {
		f.upload(map[int]int64{0: 10, 1: 10, 2: 90, 3: 1})
	}
	jobs := f.planner.plan(time.Time{}, f.view())
	if len(jobs) != 2 || len(jobs[0].Runs) != 1 || jobs[0].Runs[0].Partition != partitionID(2) || len(jobs[1].Runs) != 3 {
		t.Fatalf("want partition 2 alone, for it has enough, and the others together: %+v", jobs)
	}
	if jobs[1].Inputs() > testLimits.JobInputs {
		t.Fatalf("%d ranges at once", jobs[1].Inputs())
	}
}

// TestSmallRangesBetweenLargeOnesComeToOneEach, of its own object, once a partition has
// more ranges than the metadata is to hold: until then they cost nothing.
func TestSmallRangesBetweenLargeOnesComeToOneEach(t *testing.T) {
	limits := testLimits
	limits.MaxMixed, limits.MaxRanges = 1000, 1000
	for _, least := range []int{0, 1000, 20} {
		limits.FileRanges = least
		f := newFleet(limits, 2)
		for i := range 12 {
			for range i % 3 {
				f.upload(map[int]int64{0: 10, 1: 10})
			}
			if i%4 == 0 {
				alone(f, 0, 100)
			}
			alone(f, 0, 6400)
			if i == 5 {
				f.upload(map[int]int64{0: 6400, 1: 10}) // a large one in a shared object
			}
		}
		alone(f, 0, 10, 10)
		before := f.rewritten
		f.compact(t, time.Time{})
		small, blocked := 0, 0
		ranges := f.partitions[0]
		for i, r := range ranges[:len(ranges)-2] {
			small += btoi(r.Bytes < limits.TargetObject/2)
			blocked += btoi(f.objects[r.Object].mixed || r.Bytes < limits.TargetObject/2 && i > 0 && ranges[i-1].Bytes < limits.TargetObject/2)
		}
		if least == 20 && (blocked > 0 || small == 0 || len(ranges) > 13+12+2) || least != 20 && (blocked == 0 || f.rewritten != before) {
			t.Errorf("from %d ranges on: %d small ones, %d hold up others, %d bytes rewritten: %v", least, small, blocked, f.rewritten-before, ranges)
		}
	}
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// TestIdlePartitionsKeepNoObjectEach: partitions that write once and never again
// leave a mixed object for each upload, until these are merged.
func TestIdlePartitionsKeepNoObjectEach(t *testing.T) {
	limits := testLimits
	limits.JobRanges = 100
	f := newFleet(limits, 400)
	for i := range 200 {
		f.upload(map[int]int64{2 * i: 10, 2*i + 1: 10})
		f.compact(t, time.Time{})
	}
	mixed, _, _ := f.figures()
	if mixed > 30 || f.rewritten > 3*f.uploaded {
		t.Fatalf("%d mixed objects of 400 ranges, %d bytes rewritten of %d", mixed, f.rewritten, f.uploaded)
	}
}

func TestAnOlderViewIsNotPlannedAgain(t *testing.T) {
	f := newFleet(testLimits, 1)
	alone(f, 0, 2000, 2000, 2500)
	before := slices.Clone(f.partitions[0])
	for _, j := range f.planner.plan(time.Time{}, f.view()) {
		f.planner.done(time.Time{}, j, f.replace(j), false)
	}
	after := f.partitions[0]
	f.partitions[0] = before
	if jobs := f.planner.plan(time.Time{}, f.view()); len(jobs) != 0 {
		t.Fatalf("planned what is replaced already: %v", jobs)
	}
	f.partitions[0] = after
	alone(f, 0, 2000, 2000, 2500)
	if jobs := f.planner.plan(time.Time{}, f.view()); len(jobs) != 1 {
		t.Fatalf("the newer view is held back: %v", jobs)
	}
}

func TestAFailedPartitionWaits(t *testing.T) {
	f := newFleet(testLimits, 1)
	alone(f, 0, 2000, 2000, 2500)
	now := time.Unix(1000, 0)
	jobs := f.planner.plan(now, f.view())
	if again := f.planner.plan(now, f.view()); len(jobs) != 1 || len(again) != 0 {
		t.Fatalf("%v, and again %v", jobs, again)
	}
	f.planner.done(now, jobs[0], nil, true)
	if jobs := f.planner.plan(now.Add(testLimits.RetryMin-1), f.view()); len(jobs) != 0 {
		t.Fatal("tried again at once")
	}
	if jobs := f.planner.plan(now.Add(testLimits.RetryMin), f.view()); len(jobs) != 1 {
		t.Fatal("not tried again")
	}
}

// TestAFailureGivesUpTheQueue: what is queued would fail too, and is planned anew.
func TestAFailureGivesUpTheQueue(t *testing.T) {
	f := newFleet(testLimits, 8)
	for i := range 8 {
		alone(f, i, 2000, 2000, 2500)
	}
	now := time.Unix(1000, 0)
	jobs := f.planner.plan(now, f.view())
	if len(jobs) != testLimits.Parallel || len(f.planner.queue) != 8-len(jobs) {
		t.Fatalf("%d jobs, %d queued", len(jobs), len(f.planner.queue))
	}
	f.planner.done(now, jobs[0], nil, true)
	if len(f.planner.queue) != 0 || len(f.planner.busy) != len(jobs)-1 {
		t.Fatalf("%+v", f.planner)
	}
	if again := f.planner.plan(now, f.view()); len(again) != 1 || again[0].Runs[0].Partition == jobs[0].Runs[0].Partition {
		t.Fatalf("%v", again)
	}
}

// TestForgottenPartitions: nothing is kept of partitions that others lead.
func TestForgottenPartitions(t *testing.T) {
	f := newFleet(testLimits, 2)
	alone(f, 0, 2000, 2000, 2500)
	alone(f, 1, 2000, 2000, 2500)
	jobs := f.planner.plan(time.Time{}, f.view())
	f.planner.done(time.Time{}, jobs[0], nil, false)
	f.planner.done(time.Time{}, jobs[1], nil, true)
	f.planner.forget(func(storage.PartitionID) bool { return false })
	if len(f.planner.settling) != 0 || f.planner.backoff.Waits(time.Time{}, partitionID(1)) {
		t.Fatalf("%+v", f.planner)
	}
}

// TestPlansKeepTheirPromises: whatever is uploaded, lost to the log start, refused
// or fails, in whatever order jobs end, each job names ranges that follow one
// another, no partition is in two, work is bounded, and when all is done no
// partition has many small ranges left.
func TestPlansKeepTheirPromises(t *testing.T) {
	seeded.Check(t, func(t *rapid.T) {
		const partitions = 12
		f := newFleet(testLimits, partitions)
		now := time.Unix(1000, 0)
		var running []Job
		end := func(i int) {
			j := running[i]
			running = slices.Delete(running, i, i+1)
			if rapid.IntRange(0, 5).Draw(t, "fails") == 0 {
				f.planner.done(now, j, nil, true)
				return
			}
			f.planner.done(now, j, f.replace(j), false)
		}
		plan := func() int {
			jobs := f.planner.plan(now, f.view())
			running = append(running, jobs...)
			checkJobs(t, f, running, jobs)
			return len(jobs)
		}
		for range rapid.IntRange(0, 80).Draw(t, "steps") {
			now = now.Add(time.Second)
			switch rapid.IntRange(0, 9).Draw(t, "step") {
			case 0:
				i := rapid.IntRange(0, partitions-1).Draw(t, "partition")
				f.lose(i, rapid.IntRange(0, len(f.partitions[i])).Draw(t, "lost"))
			case 1, 2:
				plan()
			case 3:
				if len(running) > 0 {
					end(rapid.IntRange(0, len(running)-1).Draw(t, "ends"))
				}
			default:
				f.upload(rapid.MapOfN(rapid.IntRange(0, partitions-1), rapid.OneOf(rapid.Int64Range(1, 40), rapid.Int64Range(0, 500), rapid.Int64Range(1000, 9000)), 1, 8).Draw(t, "upload"))
			}
		}
		for len(running) > 0 {
			f.planner.done(now, running[0], f.replace(running[0]), false)
			running = running[1:]
		}
		now = now.Add(testLimits.RetryMax)
		for round := 0; plan() > 0; round++ {
			if round > 1000 {
				t.Fatal("it never comes to an end")
			}
			for len(running) > 0 {
				f.planner.done(now, running[0], f.replace(running[0]), false)
				running = running[1:]
			}
		}
		for i, ranges := range f.partitions {
			checkQuiet(t, i, ranges)
		}
		// A range grows by a factor of four with each rewriting but the last two: nine
		// times up to MinObject from one byte, if the uploads are so unkind.
		if f.rewritten > 8*f.uploaded {
			t.Fatalf("%d bytes rewritten of %d", f.rewritten, f.uploaded)
		}
	})
}

func checkJobs(t *rapid.T, f *fleet, running, begun []Job) {
	if len(running) > testLimits.Parallel {
		t.Fatalf("%d jobs at once", len(running))
	}
	seen := map[storage.PartitionID]bool{}
	for _, j := range running {
		for i, run := range j.Runs {
			if seen[run.Partition] {
				t.Fatalf("%v is in two jobs", run.Partition)
			}
			seen[run.Partition] = true
			if i > 0 && object.ComparePartitions(j.Runs[i-1].Partition, run.Partition) >= 0 {
				t.Fatalf("runs are out of order: %v", j)
			}
		}
	}
	for _, j := range begun {
		var bytes int64
		for _, run := range j.Runs {
			have := f.partitions[run.Partition.Index]
			at := slices.Index(have, run.Ranges[0])
			if at < 0 || len(have)-at < len(run.Ranges) || !slices.Equal(have[at:at+len(run.Ranges)], run.Ranges) {
				t.Fatalf("%v are no neighbours of %v", run.Ranges, have)
			}
			if bytes += run.Bytes(); run.Bytes() >= testLimits.MinObject && len(j.Runs) > 1 {
				t.Fatalf("%v could have an object of its own", run)
			}
		}
		if bytes > testLimits.TargetObject*3/2 || len(j.Runs) == 0 || len(j.Runs) > testLimits.JobRanges || j.Inputs() > testLimits.JobInputs {
			t.Fatalf("%d runs, %d ranges, %d bytes", len(j.Runs), j.Inputs(), bytes)
		}
	}
}

// checkQuiet: between two ranges of half of TargetObject lies less than what fills
// an object, and less than MaxRanges small ranges follow one another.
func checkQuiet(t *rapid.T, partition int, ranges []metadata.Range) {
	var bytes int64
	small := 0
	for _, r := range ranges {
		bytes += r.Bytes
		if r.Bytes >= testLimits.TargetObject/2 {
			bytes = 0
		}
		small++
		if r.Bytes >= testLimits.MinObject {
			small = 0
		}
		if bytes >= testLimits.TargetObject || small >= testLimits.MaxRanges {
			t.Fatalf("partition %d is left with %v", partition, ranges)
		}
	}
}
