package clean

import (
	"errors"
	"slices"
	"testing"
	"time"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/storage"
)

var planNow = time.UnixMilli(1_000_000_000)

// ago is a range's newest timestamp.
func ago(d time.Duration) int64 { return planNow.Add(-d).UnixMilli() }

// planned is a partition of ranges of ten offsets each.
func planned(index int32, c metadata.Cleaning, p Policy, ranges ...metadata.Range) Partition {
	for i := range ranges {
		ranges[i].Base, ranges[i].End = storage.Offset(10*i), storage.Offset(10*i+10)
	}
	return Partition{ID: storage.PartitionID{Topic: worldPartition.Topic, Index: index}, Policy: p, Cleaning: c, Ranges: metadata.NewRanges(ranges...)}
}

func viewOf(partitions ...Partition) View {
	return View{Partitions: slices.Values(partitions), Busy: func(storage.PartitionID) bool { return false }, Believed: planNow}
}

// TestWhatIsWorthARound: each reason for one, and each for none.
func TestWhatIsWorthARound(t *testing.T) {
	const mib = 1 << 20
	half := Policy{DirtyRatio: 0.5, DeleteRetention: 8 * time.Hour}
	for name, c := range map[string]struct {
		cleaning metadata.Cleaning
		policy   Policy
		ranges   []metadata.Range
		more     bool
		dirty    storage.Offset
		end      storage.Offset // 0: none is due
	}{
		"nothing is there":                  {policy: half},
		"all is new":                        {policy: half, ranges: []metadata.Range{{Bytes: 2 * mib}}, end: 10},
		"nothing is":                        {policy: half, ranges: []metadata.Range{{Bytes: 2 * mib}}, cleaning: metadata.Cleaning{To: 10}},
		"half of it is":                     {policy: half, ranges: []metadata.Range{{Bytes: 2 * mib}, {Bytes: mib}, {Bytes: mib}}, cleaning: metadata.Cleaning{To: 10}, dirty: 10, end: 30},
		"less than half is":                 {policy: half, ranges: []metadata.Range{{Bytes: 2 * mib}, {Bytes: mib}}, cleaning: metadata.Cleaning{To: 10}},
		"less than half, but of it is more": {policy: half, ranges: []metadata.Range{{Bytes: 2 * mib}, {Bytes: mib}}, cleaning: metadata.Cleaning{To: 10}, more: true, dirty: 10, end: 20},
		"a little, young":                   {policy: half, ranges: []metadata.Range{{Bytes: 10, MaxTimestamp: ago(time.Minute)}}},
		"a little, old":                     {policy: half, ranges: []metadata.Range{{Bytes: 10, MaxTimestamp: ago(time.Hour)}}, end: 10},
		"too young":                         {policy: Policy{MinLag: time.Hour}, ranges: []metadata.Range{{Bytes: 2 * mib, MaxTimestamp: ago(time.Minute)}}},
		"too young from the second on": {policy: Policy{MinLag: time.Hour}, end: 10,
			ranges: []metadata.Range{{Bytes: 2 * mib, MaxTimestamp: ago(2 * time.Hour)}, {Bytes: mib, MaxTimestamp: ago(time.Minute)}, {Bytes: mib, MaxTimestamp: ago(2 * time.Hour)}}},
		"the bound of lag is passed": {policy: Policy{DirtyRatio: 0.9, MaxLag: time.Hour}, cleaning: metadata.Cleaning{To: 10}, dirty: 10, end: 20,
			ranges: []metadata.Range{{Bytes: 9 * mib, MaxTimestamp: ago(time.Hour)}, {Bytes: 10, MaxTimestamp: ago(time.Minute)}}},
		"it is not": {policy: Policy{DirtyRatio: 0.9, MaxLag: time.Hour}, cleaning: metadata.Cleaning{To: 10},
			ranges: []metadata.Range{{Bytes: 9 * mib, MaxTimestamp: ago(time.Hour - time.Second)}, {Bytes: 10, MaxTimestamp: ago(time.Minute)}}},
		"a round was left": {policy: half, cleaning: metadata.Cleaning{To: 10, Round: 20, Next: 10}, dirty: 10, end: 20,
			ranges: []metadata.Range{{Bytes: 2 * mib}, {Bytes: mib}}},
		"tombstones are due":                {policy: half, ranges: []metadata.Range{{Bytes: 2 * mib}}, cleaning: metadata.Cleaning{To: 10, Due: ago(time.Hour)}, dirty: 10, end: 10},
		"they are, since lately":            {policy: half, ranges: []metadata.Range{{Bytes: 2 * mib}}, cleaning: metadata.Cleaning{To: 10, Due: ago(time.Hour - time.Second)}},
		"the cleaned point lies in a range": {policy: half, ranges: []metadata.Range{{Bytes: 2 * mib}, {Bytes: 2 * mib}}, cleaning: metadata.Cleaning{To: 15}, dirty: 15, end: 20},
	} {
		p := newPlanner(DefaultLimits())
		part := planned(0, c.cleaning, c.policy, c.ranges...)
		if c.more {
			p.more[part.ID] = struct{}{}
		}
		j, due := p.plan(planNow, viewOf(part))
		if due != (c.end != 0) || due && (j.Dirty != c.dirty || j.End != c.end) {
			t.Errorf("%s: %v, from %d to %d; want %d to %d", name, due, j.Dirty, j.End, c.dirty, c.end)
		}
	}
}

// TestTheDirtiestPartitionComesFirst: one round at a time, and none of a partition
// that waits after a failure, is rewritten by something else, or whose image is older
// than its last round.
func TestTheDirtiestPartitionComesFirst(t *testing.T) {
	const mib = 1 << 20
	p := newPlanner(DefaultLimits())
	policy := Policy{DirtyRatio: 0.1}
	some := planned(0, metadata.Cleaning{To: 10}, policy, metadata.Range{Bytes: 2 * mib}, metadata.Range{Bytes: mib})
	most := planned(1, metadata.Cleaning{To: 10}, policy, metadata.Range{Bytes: 2 * mib}, metadata.Range{Bytes: 4 * mib})
	v := viewOf(some, most)
	j, due := p.plan(planNow, v)
	if !due || j.ID != most.ID {
		t.Fatalf("%v, %v", due, j.ID)
	}
	if j, due := p.plan(planNow, v); due {
		t.Fatalf("another beside it: %v", j.ID)
	}
	p.done(planNow, j, outcome{err: errors.New("gone away")})
	if j, due = p.plan(planNow, v); !due || j.ID != some.ID {
		t.Fatalf("after a failure: %v, %v", due, j.ID)
	}
	noted := metadata.Cleaning{To: 20}
	p.done(planNow, j, outcome{noted: noted})
	if j, due := p.plan(planNow, v); due {
		t.Fatalf("by an image that is older than the round: %v", j.ID)
	}
	later := planNow.Add(time.Minute)
	v.Busy = func(id storage.PartitionID) bool { return id == most.ID }
	if j, due := p.plan(later, v); due {
		t.Fatalf("of a partition that is rewritten by something else: %v", j.ID)
	}
	some.Cleaning = noted
	if j, due := p.plan(later, viewOf(some, most)); !due || j.ID != most.ID {
		t.Fatalf("in the end: %v, %v", due, j.ID)
	}
	if p.forget(func(id storage.PartitionID) bool { return id == most.ID }); len(p.settling) != 0 {
		t.Errorf("%v is remembered of partitions that are not led here", p.settling)
	}
}
