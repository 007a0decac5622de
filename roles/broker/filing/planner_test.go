package filing

import (
	"slices"
	"testing"
	"time"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/storage"
)

var testLimits = Limits{Ranges: 8, ManifestRanges: 10, Large: 100, DropAfter: time.Hour, RetryMin: time.Second, RetryMax: 8 * time.Second}

// catalogued is a partition with ranges in objects, as told: l is large, s small, m
// large and in a shared object, 2 one of two ranges of an object.
func catalogued(t *testing.T, kinds string) (View, *metadata.Partition) {
	w := newWorld(t, testLimits)
	for _, k := range kinds {
		w.upload(0, k)
	}
	return w.filer().view(w.image()), w.partition(0)
}

// TestWhatIsSettled has a line for each kind of run at the start of a partition.
func TestWhatIsSettled(t *testing.T) {
	for _, c := range []struct {
		kinds string
		want  int
	}{
		{"llllllll", 0},   // not more than the metadata is to hold
		{"lllllllll", 5},  // down to half
		{"llllllllll", 6}, //
		{"slllllllll", 6}, // alone before a large one
		{"lslslslsls", 5}, // alone between large ones, as far as one is seen
		{"llssllllll", 2}, // they may be merged still
		{"sslllllll", 0},  //
		{"lllmllllll", 3}, // until compaction has emptied it
		{"mlllllllll", 0}, //
		{"ll22llllll", 2}, // one object, two ranges
		{"ssssssssss", 0}, // they will come together
		{"lllllsssssssss", 5},
	} {
		v, p := catalogued(t, c.kinds)
		got := newPlanner(testLimits).settled(&Partition{Partition: p}, v)
		if len(got) != c.want {
			t.Errorf("%s: %d ranges, want %d", c.kinds, len(got), c.want)
		}
		if !slices.Equal(got, slices.Collect(p.Ranges().All())[:len(got)]) {
			t.Errorf("%s: %v are not the first", c.kinds, got)
		}
	}
	// Where nothing is compacted, whatever has an object of its own is settled.
	v, p := catalogued(t, "ssssmsssss")
	limits := testLimits
	limits.Large = 0
	if got := newPlanner(limits).settled(&Partition{Partition: p}, v); len(got) != 4 {
		t.Errorf("%d ranges without compaction", len(got))
	}
}

// TestManifestsAreFilledOneAfterTheOther, and each is made anew for enough ranges.
func TestManifestsAreFilledOneAfterTheOther(t *testing.T) {
	w := newWorld(t, testLimits)
	f := w.filer()
	for range 60 {
		w.upload(0, 'l')
		for f.look() > 0 {
		}
	}
	p := w.partition(0)
	if n := p.Ranges().Len(); n > testLimits.Ranges {
		t.Errorf("%d ranges are left in the metadata", n)
	}
	for i, m := range p.Filed() {
		if i < len(p.Filed())-1 && m.Ranges != testLimits.ManifestRanges {
			t.Errorf("manifest %d of %d has %d ranges", i, len(p.Filed()), m.Ranges)
		}
	}
	if s := f.Stats(); s.Ranges < 50 || s.Manifests > 15 || s.Failures > 0 {
		t.Errorf("%+v", s)
	}
	w.check()
}

// TestTheLogStartIsFollowed: once much of the first manifest lies below it, or some
// has for long; and a manifest that has nothing there is not read again and again.
func TestTheLogStartIsFollowed(t *testing.T) {
	w := newWorld(t, testLimits)
	f := w.filer()
	for range 29 {
		w.upload(0, 'l')
		for f.look() > 0 {
		}
	}
	first := w.partition(0).Filed()[0]
	step := (first.End - first.Base) / 10
	looks := func(what string, want int) {
		t.Helper()
		if n := f.look(); n != want {
			t.Fatalf("%s: %d manifests are looked into, want %d", what, n, want)
		}
	}
	w.logStart(0, first.Base+step/2)
	looks("within the first range", 0)
	w.now = w.now.Add(testLimits.DropAfter)
	looks("within the first range, for long", 1)
	looks("when that was seen", 0)
	if s := f.Stats(); s.Dropped != 0 || s.Failures != 0 {
		t.Fatalf("%+v", s)
	}
	w.logStart(0, first.Base+step)
	looks("one range", 1)
	if is := w.partition(0).Filed()[0]; is.Base != first.Base+step || is.Ranges != 9 {
		t.Fatalf("%+v", is)
	}
	w.logStart(0, first.Base+2*step-1)
	looks("less than one more", 0)
	w.logStart(0, first.Base+3*step)
	looks("an eighth", 1)
	if is := w.partition(0).Filed()[0]; is.Ranges != 7 {
		t.Fatalf("%+v", is)
	}
	w.check()
}

// TestTheLogStartIsFollowedWhereNothingMoreIsFiled: a topic that is compacted by key
// now keeps its manifests, and what retention has passed of them still goes.
func TestTheLogStartIsFollowedWhereNothingMoreIsFiled(t *testing.T) {
	w := newWorld(t, testLimits)
	f := w.filer()
	for range 16 {
		w.upload(0, 'l')
		f.look()
	}
	o := w.options()
	o.Files = func(*metadata.Topic) bool { return false }
	f = newFiler(o)
	for range 9 {
		w.upload(0, 'l')
	}
	if n := f.look(); n != 0 {
		t.Fatalf("%d manifests are made", n)
	}
	first, kept := w.partition(0).Filed()[0], w.partition(0).Ranges().Len()
	step := (first.End - first.Base) / storage.Offset(first.Ranges)
	w.logStart(0, first.Base+3*step)
	if n := f.look(); n != 1 {
		t.Fatalf("%d manifests are made anew", n)
	}
	p := w.partition(0)
	if is := p.Filed()[0]; is.Base != p.LogStart || is.Ranges != first.Ranges-3 || p.Ranges().Len() != kept {
		t.Errorf("%+v, %d ranges beside, there were %d", is, p.Ranges().Len(), kept)
	}
	w.check()
}

// TestAnImageThatIsBehindIsNotPlannedBy, for what it shows is done.
func TestAnImageThatIsBehindIsNotPlannedBy(t *testing.T) {
	w := newWorld(t, testLimits)
	f := w.filer()
	for range 9 {
		w.upload(0, 'l')
	}
	behind := w.image()
	if f.look() != 1 {
		t.Fatal("nothing was filed")
	}
	w.frozen = behind
	if n := f.look(); n != 0 {
		t.Fatalf("%d manifests by an image that is behind", n)
	}
	w.frozen = nil
	for range 5 {
		w.upload(0, 'l')
	}
	if f.look() != 1 {
		t.Fatal("held back by what is settled")
	}
	w.check()
}

// TestWhoIsNotFiled: partitions led elsewhere, topics that are left out, and any below
// feature level 3.
func TestWhoIsNotFiled(t *testing.T) {
	w := newWorld(t, testLimits)
	for range 9 {
		w.upload(0, 'l')
	}
	o := w.options()
	o.Broker = 2
	if newFiler(o).look() != 0 {
		t.Error("led by another broker")
	}
	o = w.options()
	o.Files = func(*metadata.Topic) bool { return false }
	if newFiler(o).look() != 0 {
		t.Error("a topic that is left out")
	}
	if newFiler(w.options()).look() != 1 {
		t.Error("the others")
	}
	low := newWorldAt(t, testLimits, metadata.ManifestsFeatureLevel-1)
	for range 9 {
		low.upload(0, 'l')
	}
	if low.filer().look() != 0 {
		t.Error("below its level")
	}
}

func TestAFailedPartitionWaits(t *testing.T) {
	w := newWorld(t, testLimits)
	for range 9 {
		w.upload(0, 'l')
	}
	f := w.filer()
	w.away(true)
	if f.look() != 1 || f.look() != 0 || f.Stats().Failures != 1 || f.Stats().FailingSince.IsZero() {
		t.Fatalf("%+v", f.Stats())
	}
	w.away(false)
	w.now = w.now.Add(testLimits.RetryMin)
	if f.look() != 1 || f.Stats().Manifests != 1 || !f.Stats().FailingSince.IsZero() {
		t.Fatalf("%+v", f.Stats())
	}
	w.check()
}
