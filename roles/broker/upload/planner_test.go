package upload

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/wal"
	"rustmq.dev/rustmq/test/seeded"
)

func partition(i int) storage.PartitionID {
	return storage.PartitionID{Topic: storage.TopicID{1}, Index: int32(i)}
}

var testLimits = Limits{
	Interval: 10 * time.Second, ObjectBytes: 1000, OwnBytes: 300, ObjectRanges: 5, Parallel: 3,
	RetryMin: time.Second, RetryMax: 8 * time.Second, Urgent: 0.5,
}

func TestSmallPartitionsShareAnObjectOnceOneIsDue(t *testing.T) {
	now := time.Unix(1000, 0)
	p := newPlanner(testLimits)
	waiting := []Waiting{
		{partition(1), 5, 10, now.Add(-3 * time.Second), false},
		{partition(2), 7, 20, now.Add(-9 * time.Second), false},
	}
	if jobs := p.plan(now, waiting, Pressure{}); len(jobs) != 0 {
		t.Fatalf("uploaded before anything was due: %v", jobs)
	}
	jobs := p.plan(now.Add(time.Second), waiting, Pressure{})
	if len(jobs) != 1 || len(jobs[0].Parts) != 2 || jobs[0].Parts[0].Partition != partition(2) {
		t.Fatalf("want one object of both, the one that waits longest first: %v", jobs)
	}
	if again := p.plan(now.Add(time.Minute), waiting, Pressure{Fullness: 1}); len(again) != 0 {
		t.Fatalf("a part under way was planned again: %v", again)
	}
}

func TestEnoughOfOnePartitionGetsAnObjectOfItsOwn(t *testing.T) {
	now := time.Unix(1000, 0)
	p := newPlanner(testLimits)
	jobs := p.plan(now, []Waiting{{partition(1), 0, 299, now, false}, {partition(2), 0, 300, now, false}}, Pressure{})
	if len(jobs) != 1 || jobs[0].Parts[0].Partition != partition(2) {
		t.Fatalf("%v", jobs)
	}
}

func TestAFullLogDoesNotWaitForTheInterval(t *testing.T) {
	now := time.Unix(1000, 0)
	p := newPlanner(testLimits)
	waiting := []Waiting{{partition(1), 0, 1, now, false}}
	if jobs := p.plan(now, waiting, Pressure{Fullness: 0.49}); len(jobs) != 0 {
		t.Fatalf("%v", jobs)
	}
	if jobs := p.plan(now, waiting, Pressure{Fullness: 0.5}); len(jobs) != 1 {
		t.Fatalf("%v", jobs)
	}
}

// TestUploadsThatAreOutrunGiveWay: while the log has its disk busy, and more waits than it
// keeps in memory, bytes alone do not begin an upload. Its interval does, and so do a pause
// of the producers and a log that fills up.
func TestUploadsThatAreOutrunGiveWay(t *testing.T) {
	now := time.Unix(1000, 0)
	l := testLimits
	l.Outrun = 2000
	since := now.Add(-time.Second)
	outrun := []Waiting{{partition(1), 0, 1900, since, false}, {partition(2), 0, 100, since, false}}
	for _, c := range []struct {
		name    string
		waiting []Waiting
		wal     Pressure
		at      time.Time
		jobs    int
	}{
		{"outrun", outrun, Pressure{Fullness: 0.24, Busy: true}, now, 0},
		{"shared objects outrun", slices.Repeat([]Waiting{{partition(1), 0, 250, since, false}}, 8), Pressure{Busy: true}, now, 0},
		{"less waits than is in memory", []Waiting{{partition(1), 0, 1999, since, false}}, Pressure{Busy: true}, now, 1},
		{"the disk has time", outrun, Pressure{}, now, 1},
		{"the log fills up", outrun, Pressure{Fullness: 0.25, Busy: true}, now, 1},
		{"the interval is over", outrun, Pressure{Busy: true}, since.Add(l.Interval), 2},
		{"of one of two it is", []Waiting{{partition(1), 0, 1000, since, false}, {partition(2), 0, 1000, now, false}}, Pressure{Busy: true}, since.Add(l.Interval), 1},
	} {
		if jobs := newPlanner(l).plan(c.at, c.waiting, c.wal); len(jobs) != c.jobs {
			t.Errorf("%s: %d objects, want %d: %v", c.name, len(jobs), c.jobs, jobs)
		}
	}
	awaited := []Waiting{{partition(1), 0, 2000, since, true}}
	l.AckInterval, l.AckBytes = 10*time.Millisecond, 1000
	if jobs := newPlanner(l).plan(now, awaited, Pressure{Busy: true}); len(jobs) != 1 {
		t.Errorf("what acks wait for is held up: %v", jobs)
	}
}

func TestABusyDiskIsToldFromAnIdleOne(t *testing.T) {
	const ms = time.Millisecond
	var b busyDisk
	for i, c := range []struct {
		age, synced, syncing time.Duration
		busy                 bool
	}{
		{200 * ms, 100 * ms, 0, false}, // half
		{400 * ms, 201 * ms, 0, true},
		{450 * ms, 201 * ms, 0, true}, // too soon to judge
		{650 * ms, 210 * ms, 200 * ms, true},
		{900 * ms, 420 * ms, 0, false},
	} {
		if busy := b.look(&wal.Stats{Age: c.age, SyncTime: c.synced, Syncing: c.syncing}); busy != c.busy {
			t.Errorf("look %d: busy %v, want %v", i, busy, c.busy)
		}
	}
}

func TestAFailedPartitionWaitsLongerEachTime(t *testing.T) {
	now := time.Unix(1000, 0)
	p := newPlanner(testLimits)
	waiting := []Waiting{{partition(1), 0, 1, now.Add(-time.Hour), false}}
	for _, wait := range []time.Duration{1, 2, 4, 8, 8} {
		jobs := p.plan(now, waiting, Pressure{Fullness: 1})
		if len(jobs) != 1 {
			t.Fatalf("not tried at %v", now)
		}
		p.done(now, jobs[0], nil, true)
		if jobs := p.plan(now.Add(wait*time.Second-1), waiting, Pressure{Fullness: 1}); len(jobs) != 0 {
			t.Fatalf("tried again before %d s", wait)
		}
		now = now.Add(wait * time.Second)
	}
	jobs := p.plan(now, waiting, Pressure{Fullness: 1})
	p.done(now, jobs[0], nil, false)
	if jobs := p.plan(now, waiting, Pressure{Fullness: 1}); len(jobs) != 1 {
		t.Fatal("still punished after a success")
	}
}

// TestTheOldestGoFirst: while large partitions take all that the bucket can do, and
// have more as soon as they are done, small ones have their turn all the same.
func TestTheOldestGoFirst(t *testing.T) {
	for parallel := 1; parallel <= 3; parallel++ {
		l := testLimits
		l.Parallel = parallel
		p := newPlanner(l)
		now := time.Unix(1000, 0)
		small := Waiting{partition(0), 0, 1, now, false}
		since := make([]time.Time, 5) // of the large ones
		for i := range since {
			since[i] = now
		}
		var running []Job
		for round := 0; ; round++ {
			if round == 50 {
				t.Fatalf("%d at once: the small partition is never uploaded", parallel)
			}
			now = now.Add(10 * time.Second) // what an object takes
			waiting := []Waiting{small}
			for i := range since {
				waiting = append(waiting, Waiting{partition(1 + i), 0, l.ObjectBytes, since[i], false})
			}
			running = append(running, p.plan(now, waiting, Pressure{Fullness: 1})...)
			if slices.ContainsFunc(running, func(j Job) bool { return j.Parts[0].Partition == small.Partition }) {
				break
			}
			done := running[0]
			running = running[1:]
			p.done(now, done, nil, false)
			since[done.Parts[0].Partition.Index-1] = now
		}
	}
}

// TestAClockThatIsSetBackDoesNotDelay: what was appended by it, an hour ahead, waits no
// longer than anything else, and behind nothing that is younger.
func TestAClockThatIsSetBackDoesNotDelay(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	p := newPlanner(testLimits)
	jobs := p.plan(now, []Waiting{{partition(1), 0, 1, now.Add(time.Hour), false}}, Pressure{})
	if len(jobs) != 1 {
		t.Fatalf("it waits for the clock: %v", jobs)
	}
	p.done(now, jobs[0], nil, false)
	waiting := []Waiting{{partition(1), 0, 300, now.Add(time.Hour), false}}
	for i := range testLimits.Parallel {
		waiting = append(waiting, Waiting{partition(2 + i), 0, 300, now.Add(-time.Second), false})
	}
	if jobs := p.plan(now, waiting, Pressure{}); len(jobs) != testLimits.Parallel || jobs[0].Parts[0].Partition != partition(1) {
		t.Fatalf("others go first: %v", jobs)
	}
}

// TestPlansKeepToTheirLimits: whatever waits, objects are bounded, a partition is
// in one at most, and with enough drains everything is uploaded in the end.
func TestPlansKeepToTheirLimits(t *testing.T) {
	seeded.Check(t, func(t *rapid.T) {
		now := time.Unix(1000, 0)
		p := newPlanner(testLimits)
		left := map[storage.PartitionID]int64{}
		for i := range rapid.IntRange(0, 40).Draw(t, "partitions") {
			left[partition(i)] = rapid.Int64Range(1, 5000).Draw(t, "bytes")
		}
		for round := 0; len(left) > 0; round++ {
			if round > 1000 {
				t.Fatalf("%d partitions are never uploaded", len(left))
			}
			now = now.Add(testLimits.RetryMax)
			var waiting []Waiting
			for id, bytes := range left {
				waiting = append(waiting, Waiting{id, 0, bytes, now.Add(-time.Duration(id.Index) * time.Second), false})
			}
			jobs := p.plan(now, waiting, Pressure{Fullness: 1})
			if len(jobs) > testLimits.Parallel {
				t.Fatalf("%d jobs", len(jobs))
			}
			seen := map[storage.PartitionID]bool{}
			for _, j := range jobs {
				var bytes int64
				if len(j.Parts) == 0 || len(j.Parts) > testLimits.ObjectRanges {
					t.Fatalf("%d parts", len(j.Parts))
				}
				for _, part := range j.Parts {
					if seen[part.Partition] {
						t.Fatalf("%v is in two objects", part.Partition)
					}
					seen[part.Partition] = true
					bytes += part.MaxBytes
				}
				if bytes >= testLimits.ObjectBytes+testLimits.OwnBytes {
					t.Fatalf("an object of %d bytes", bytes)
				}
				failed := rapid.IntRange(0, 9).Draw(t, "failed") == 0
				p.done(now, j, nil, failed)
				for _, part := range j.Parts {
					if failed {
						continue
					}
					if left[part.Partition] -= part.MaxBytes; left[part.Partition] <= 0 {
						delete(left, part.Partition)
					}
				}
			}
		}
	})
}

// TestWhatAcksWaitForGoesFirst: within its own interval, or once there is enough of it, in an
// object of all such partitions, though every slot is taken by others.
func TestWhatAcksWaitForGoesFirst(t *testing.T) {
	l := testLimits
	l.AckInterval, l.AckBytes = 250*time.Millisecond, 100
	now := time.Unix(1000, 0)
	p := newPlanner(l)
	var waiting []Waiting
	for i := range l.Parallel + 1 {
		waiting = append(waiting, Waiting{partition(i), 0, l.OwnBytes, now.Add(-time.Hour), false})
	}
	if jobs := p.plan(now, waiting, Pressure{}); len(jobs) != l.Parallel {
		t.Fatalf("%d jobs", len(jobs))
	}
	one, two := Waiting{partition(11), 0, 10, now, true}, Waiting{partition(12), 0, 20, now.Add(-100 * time.Millisecond), true}
	if jobs, in := p.plan(now, []Waiting{one, two, {partition(13), 0, 1, now, false}}, Pressure{}), p.again(now, []Waiting{one, two}); len(jobs) > 0 || in != 10*time.Millisecond {
		t.Fatalf("%v is due at once; the next look is in %v", jobs, in)
	}
	at := two.Since.Add(l.AckInterval)
	if in := p.again(at.Add(-7*time.Millisecond), []Waiting{one, two}); in != 7*time.Millisecond {
		t.Fatalf("the next look is in %v", in)
	}
	jobs := p.plan(at, []Waiting{one, two}, Pressure{})
	if len(jobs) != 1 || len(jobs[0].Parts) != 2 || !jobs[0].Awaited {
		t.Fatalf("%+v", jobs)
	}
	three := Waiting{partition(14), 0, 100, at, true}
	if more := p.plan(at, []Waiting{one, two, three}, Pressure{}); len(more) > 0 || p.again(at, []Waiting{one, two}) != 0 {
		t.Fatalf("beside those, and another of its kind: %+v", more)
	}
	p.done(at, jobs[0], nil, false)
	for after, want := range map[time.Duration]time.Duration{l.AckInterval - 1: 10 * time.Millisecond, l.AckInterval: 0} {
		if in := p.again(at.Add(after), nil); in != want { // who was answered sends on
			t.Fatalf("%v after the acks the next look is in %v, want %v", after, in, want)
		}
	}
	if more := p.plan(at, []Waiting{three}, Pressure{}); len(more) != 1 {
		t.Fatal("there is enough for an object, and it waits")
	}
}

// What is waiting is judged by the pace that was set last.
func TestPaceChanges(t *testing.T) {
	now := time.Unix(1000, 0)
	u := &Uploader{planner: newPlanner(testLimits)}
	waiting := []Waiting{{partition(1), 5, 10, now.Add(-3 * time.Second), false}}
	if jobs := u.planner.plan(now, waiting, Pressure{}); len(jobs) != 0 {
		t.Fatalf("uploaded before it was due: %v", jobs)
	}
	u.SetPace(2*time.Second, 100)
	if jobs := u.planner.plan(now, waiting, Pressure{}); len(jobs) != 1 {
		t.Errorf("after three seconds of two: %v", jobs)
	}
	if jobs := u.planner.plan(now, []Waiting{{partition(2), 0, 50, now, false}}, Pressure{}); len(jobs) != 1 || jobs[0].Parts[0].MaxBytes > 100 {
		t.Errorf("half of what an object holds: %v", jobs)
	}
}
