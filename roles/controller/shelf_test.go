package controller

import (
	"context"
	"errors"
	"math/rand/v2"
	"reflect"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/bucket"
	"rustmq.dev/rustmq/storage/object"
)

// TestAuditTakesABitAFiledObject beside the id that was listed, whatever the manifests
// say of it.
func TestAuditTakesABitAFiledObject(t *testing.T) {
	const objects, each = 1 << 19, object.MaxManifestRanges / 2
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	ids := make([]storage.ObjectID, objects)
	for i := range ids {
		ids[i] = storage.ObjectID(3 * i)
	}
	f := newFiledIDs(ids)
	ranges := make([]object.Filed, each)
	for i := 0; i < objects; i += each {
		for j := range ranges {
			ranges[j].Object = storage.ObjectID(3 * (i + j))
		}
		f.strike(ranges[1:])
	}
	ranges = nil
	runtime.GC()
	runtime.ReadMemStats(&after)
	took := float64(after.HeapAlloc-before.HeapAlloc) / objects
	t.Logf("%.3f bytes an object", took)
	if took > 8.25 {
		t.Errorf("an audit holds %.1f bytes for each filed object", took)
	}
	for i, id := range ids {
		if f.has(id) != (i%each != 0) {
			t.Fatalf("object %s is filed: %v", id, f.has(id))
		}
	}
	if !f.has(3*each - 1) {
		t.Error("nobody asked for an id, and no manifest is said to list it")
	}
}

// TestShelfHasWhatManifestsList of a stretch, whatever the order in which they are read
// and how few objects are kept.
func TestShelfHasWhatManifestsList(t *testing.T) {
	keyOf := func(id storage.ObjectID) string { return object.Key("p", "c", 1, id) }
	for seed := range uint64(100) {
		rng := rand.New(rand.NewPCG(seed, 7))
		var all []storage.ObjectID
		seen := map[storage.ObjectID]bool{}
		for range 1 + rng.IntN(60) {
			if id := storage.ObjectID(rng.Int64N(1500)); !seen[id] {
				all, seen[id] = append(all, id), true
			}
		}
		after := ""
		if rng.IntN(3) > 0 {
			after = keyOf(storage.ObjectID(rng.Int64N(1500)))
		}
		s := newShelf(after, keyOf, 1+rng.IntN(20))
		for rest := all; len(rest) > 0; {
			n := 1 + rng.IntN(min(9, len(rest)))
			var ranges []object.Filed
			for _, id := range rest[:n] {
				ranges = append(ranges, object.Filed{Object: id})
			}
			s.add(source{manifest: &metadata.Manifest{ID: rest[0]}}, ranges)
			rest = rest[n:]
			// The check goes on meanwhile, and may not be sent back.
			if next := keyOf(storage.ObjectID(rng.Int64N(1500))); rng.IntN(2) == 0 && next > after && (s.end(keyOf) == "" || next < s.end(keyOf)) {
				after = next
				if !s.begin(after, keyOf) {
					t.Fatalf("seed %d: nothing is left behind %s", seed, after)
				}
			}
		}
		end := s.end(keyOf)
		if end != "" && end <= after {
			t.Fatalf("seed %d: the stretch behind %s ends with %s", seed, after, end)
		}
		part := stretch{after, end}
		if rng.IntN(2) == 0 {
			if upTo := keyOf(storage.ObjectID(rng.Int64N(1500))); upTo > after && (end == "" || upTo < end) {
				part.upTo = upTo
			}
		}
		var want []storage.ObjectID
		for _, id := range all {
			if part.has(keyOf(id)) {
				want = append(want, id)
			}
		}
		slices.SortFunc(want, func(a, b storage.ObjectID) int {
			if keyOf(a) < keyOf(b) {
				return -1
			}
			return 1
		})
		f := s.part(part, keyOf)
		var got []storage.ObjectID
		for _, o := range f.objects {
			got = append(got, o.Object)
		}
		if !slices.Equal(got, want) {
			t.Fatalf("seed %d: the stretch %q has %v, want %v", seed, part, got, want)
		}
		if len(s.objects) > s.most+s.most/2 || end != "" && len(f.objects) == 0 && part.upTo == end {
			t.Fatalf("seed %d: %d objects are kept, of %d", seed, len(s.objects), s.most)
		}
		for _, id := range want {
			if !f.has(id) {
				t.Fatalf("seed %d: %s is not found", seed, id)
			}
		}
		for id := range storage.ObjectID(1500) {
			if f.has(id) != (slices.Contains(want, id) || !part.has(keyOf(id))) {
				t.Fatalf("seed %d: %s is listed: %v", seed, id, f.has(id))
			}
		}
	}
}

// TestShelfIsBounded, by the bytes that maxShelved speaks of.
func TestShelfIsBounded(t *testing.T) {
	if size := reflect.TypeFor[filedObject]().Size(); size > 80 {
		t.Errorf("an object takes %d bytes", size)
	}
	s := newShelf("", func(id storage.ObjectID) string { return object.Key("p", "c", 1, id) }, 1000)
	ranges := make([]object.Filed, object.MaxManifestRanges)
	for i := range 4 {
		for j := range ranges {
			ranges[j].Object = storage.ObjectID(i*len(ranges) + j)
		}
		s.add(source{manifest: &metadata.Manifest{ID: storage.ObjectID(i)}}, ranges)
	}
	if len(s.objects) > 1500 || cap(s.objects) > 2*1500 {
		t.Errorf("%d objects are kept, in room for %d", len(s.objects), cap(s.objects))
	}
}

// TestCheckReadsManifestsWithinItsBudget, several at once, and each of them once for as
// many objects as it keeps.
func TestCheckReadsManifestsWithinItsBudget(t *testing.T) {
	inBucket(t, func(t *testing.T, k *kept) {
		const manifests, most = 40, 32
		p := k.topic("t", nil)
		for i := range storage.Offset(2*manifests + 1) {
			k.upload(p, i, i+1, time.Now())
		}
		is := map[string]bool{}
		for range manifests {
			is[k.key(k.file(p, 2, 0, false))] = true
		}
		var mu sync.Mutex
		reads := 0
		k.bucket.Set(bucket.Rule{Op: bucket.OpRead, Hook: func(_ context.Context, _ bucket.Op, key string) error {
			mu.Lock()
			defer mu.Unlock()
			if is[key] {
				reads++
				mu.Unlock()
				time.Sleep(time.Second)
				mu.Lock()
			}
			return nil
		}})
		k.c.keeper().shelves.most = most
		const budget = 2500 * time.Millisecond
		whole, calls, began := new(CheckReport), 0, time.Now()
		for r := (CheckRequest{Budget: budget}); ; calls++ {
			at := time.Now()
			report, err := k.c.CheckBucket(t.Context(), r)
			if err != nil {
				t.Fatal(err)
			}
			if took := time.Since(at); took > budget+time.Second {
				t.Fatalf("call %d of %v took %v", calls, budget, took)
			}
			whole.Add(report)
			if r.After = report.Next; r.After == "" {
				break
			}
		}
		if n := whole.Committed.Objects + whole.WrongSize.Objects; n != 3*manifests+1 || whole.Missing.Objects+whole.Orphans.Objects+whole.Unjudged.Objects > 0 {
			t.Errorf("%+v", whole)
		}
		if stretches := 2*manifests/most + 1; reads > manifests*stretches {
			t.Errorf("%d reads of %d manifests, for %d stretches", reads, manifests, stretches)
		}
		if took := time.Since(began); took > time.Minute || calls < 3 {
			t.Errorf("%d calls in %v", calls, took)
		}
	})
}

// TestCheckReadsWhatIsFiledWhileItLists before it judges anything, and within its
// budget: the catalogue has let go of what that lists.
func TestCheckReadsWhatIsFiledWhileItLists(t *testing.T) {
	inBucket(t, func(t *testing.T, k *kept) {
		p := k.topic("t", nil)
		for i := range storage.Offset(9) {
			k.upload(p, i, i+1, time.Now())
		}
		k.file(p, 2, 0, false)
		lists := 0
		k.bucket.Set(bucket.Rule{Op: bucket.OpList, Hook: func(context.Context, bucket.Op, string) error {
			if lists++; lists == 5 { // for the fifth object, which the second of them lists
				k.file(p, 2, 0, false)
				k.file(p, 2, 0, false)
			}
			return nil
		}})
		whole, stayed := new(CheckReport), 0
		for r := (CheckRequest{Budget: -1}); ; {
			report, err := k.c.CheckBucket(t.Context(), r)
			if err != nil {
				t.Fatal(err)
			}
			whole.Add(report)
			if report.Next == r.After {
				stayed++
			}
			if r.After = report.Next; r.After == "" {
				break
			}
			pass(time.Second)
		}
		if whole.Orphans.Objects+whole.Unjudged.Objects+whole.Missing.Objects > 0 || whole.Committed.Objects+whole.WrongSize.Objects != 9+3 {
			t.Errorf("%+v", whole)
		}
		if stayed != 1 {
			t.Errorf("%d calls of %d went on reading manifests where they had begun", stayed, lists)
		}
	})
}

// TestRepairObeysItsBudget: orphans are deleted some at once, until the time is up.
func TestRepairObeysItsBudget(t *testing.T) {
	inAuditedBucket(t, 1000*time.Hour, func(t *testing.T, k *kept) { // all is left to the repair
		const orphans, budget = 30, 2 * time.Second
		k.topic("t", nil)
		for range orphans {
			id := k.prepare()
			if _, err := k.c.CondemnObjects(t.Context(), []storage.ObjectID{id}); err != nil {
				t.Fatal(err)
			}
			pass(3 * keptGrace)
			k.put(k.key(id))
		}
		k.bucket.Set(bucket.Rule{Op: bucket.OpDelete, Hook: func(context.Context, bucket.Op, string) error {
			time.Sleep(time.Second)
			return nil
		}})
		whole := func() *CheckReport {
			is := new(CheckReport)
			for r := (CheckRequest{Repair: true, Budget: budget}); ; {
				at := time.Now()
				report, err := k.c.CheckBucket(t.Context(), r)
				if err != nil {
					t.Fatal(err)
				}
				if took := time.Since(at); took > budget+time.Second {
					t.Fatalf("a call of %v took %v", budget, took)
				}
				is.Add(report)
				if r.After = report.Next; r.After == "" {
					return is
				}
				pass(time.Second)
			}
		}
		if is := whole(); is.Orphans.Objects != orphans || is.Deleted.Objects > 0 {
			t.Fatalf("%+v", is)
		}
		pass(2 * keptGrace)
		began := time.Now()
		if is := whole(); is.Orphans.Objects != orphans || is.Deleted != is.Orphans {
			t.Errorf("%+v", is)
		}
		if took := time.Since(began); took > orphans*time.Second {
			t.Errorf("%d deletions took %v", orphans, took)
		}
		if is := whole(); is.Orphans.Objects > 0 {
			t.Errorf("%+v", is)
		}
	})
}

// TestCheckGoesOnWhilePartitionsFile: between two calls manifests come, are made anew
// and go. Nothing that is named is missed, or called an orphan; what came after its
// deletion is found.
func TestCheckGoesOnWhilePartitionsFile(t *testing.T) {
	for seed := range uint64(3) {
		inAuditedBucket(t, 1000*time.Hour, func(t *testing.T, k *kept) {
			rng := rand.New(rand.NewPCG(seed, 9))
			p := k.topic("t", nil)
			upload := func() {
				_, is := k.c.Image().Partition(p)
				k.upload(p, is.CommittedEnd(), is.CommittedEnd()+10, time.Now())
			}
			for range 6 {
				upload()
			}
			for range 4 {
				k.c.keeper().shelves.most = 1 + rng.IntN(8)
				for r := (CheckRequest{Budget: -1}); ; {
					report, err := k.c.CheckBucket(t.Context(), r)
					if err != nil {
						t.Fatal(err)
					}
					if report.Missing.Objects+report.Orphans.Objects+report.Unjudged.Objects > 0 {
						t.Fatalf("seed %d: %+v", seed, report)
					}
					if r.After = report.Next; r.After == "" {
						break
					}
					_, is := k.c.Image().Partition(p)
					switch n := is.Ranges().Len(); rng.IntN(5) {
					case 0:
						upload()
					case 1, 2:
						if n > 1 {
							k.file(p, 1+rng.IntN(min(n-1, 3)), 0, len(is.Filed()) > 0 && rng.IntN(2) > 0)
						}
					case 3:
						k.drop(p, min(is.CommittedEnd(), is.LogStart+storage.Offset(rng.IntN(15))))
					case 4:
						pass(30 * time.Second)
					}
				}
			}
			// A check that has read a manifest, which goes before the check comes to
			// what it lists.
			upload()
			_, is := k.c.Image().Partition(p)
			k.drop(p, is.CommittedEnd()-10)
			pass(2 * keptGrace)
			for range 4 {
				upload()
			}
			_, is = k.c.Image().Partition(p)
			last := k.file(p, is.Ranges().Len()-1, 0, false)
			k.c.keeper().shelves.most = 0
			r := CheckRequest{Budget: -1}
			report, err := k.c.CheckBucket(t.Context(), r)
			for err == nil && report.Next == notBegun {
				r.After = report.Next
				report, err = k.c.CheckBucket(t.Context(), r)
			}
			if err != nil || report.Next == "" {
				t.Fatal(report, err)
			}
			r.After = report.Next
			k.c.keeper().shelves.mu.Lock()
			listed := k.c.keeper().shelves.kept[0].part(stretch{}, k.key).objects
			k.c.keeper().shelves.mu.Unlock()
			late := listed[len(listed)-1].Object
			_, is = k.c.Image().Partition(p)
			k.drop(p, is.CommittedEnd()-10)
			for range 4 * keptGrace / (20 * time.Second) { // it goes on looking, so that what it has read is kept
				pass(20 * time.Second)
				k.c.keeper().shelves.mu.Lock()
				k.c.keeper().shelves.kept[0].used = time.Now()
				k.c.keeper().shelves.mu.Unlock()
			}
			k.wantGone("its objects are", last)
			k.put(k.key(late))
			orphans := int64(0)
			for r.After != "" {
				if report, err = k.c.CheckBucket(t.Context(), r); err != nil {
					t.Fatal(err)
				}
				orphans += report.Orphans.Objects
				r.After = report.Next
			}
			if orphans != 1 {
				t.Errorf("seed %d: %d orphans, want object %s", seed, orphans, late)
			}
		})
	}
}

// TestSomeChecksAtOnce go on with what each has read; what nobody goes on with is
// dropped.
func TestSomeChecksAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s shelves
		is := &shelf{read: map[storage.ObjectID]struct{}{1: {}}}
		for range maxShelves {
			if got, err := s.take(time.Now(), ""); got != nil || err != nil {
				t.Fatal(got, err)
			}
		}
		if _, err := s.take(time.Now(), ""); !errors.Is(err, ErrManyChecks) {
			t.Fatal(err)
		}
		s.put(time.Now(), "k", is)
		for _, next := range []string{"", "j"} {
			if _, err := s.take(time.Now(), next); !errors.Is(err, ErrManyChecks) {
				t.Fatal(err)
			}
		}
		if got, err := s.take(time.Now(), "k"); got != is || err != nil {
			t.Fatal(got, err)
		}
		s.put(time.Now(), "l", is)
		time.Sleep(shelfIdle + 1)
		if got, err := s.take(time.Now(), "l"); got != nil || err != nil || len(s.kept) > 0 {
			t.Fatal(got, err)
		}
		s.put(time.Now(), "", is) // it has come to its end
		if len(s.kept) > 0 || s.taken != maxShelves-1 {
			t.Errorf("%d are kept, %d taken", len(s.kept), s.taken)
		}
	})
}
