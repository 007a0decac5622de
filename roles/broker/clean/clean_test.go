package clean

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/broker/tiering"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/bucket"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func unpaced() *tiering.Bandwidth { return &tiering.Bandwidth{Now: time.Now} }

// show is what is read, as "offset:key=value".
func (w *world) show() (s string) {
	w.t.Helper()
	for _, r := range w.read() {
		switch {
		case r.control:
			s += fmt.Sprintf("%d:end(%d) ", r.offset, r.producer)
		case r.value == nil:
			s += fmt.Sprintf("%d:%s ", r.offset, r.key)
		default:
			s += fmt.Sprintf("%d:%s=%s ", r.offset, r.key, r.value)
		}
	}
	return s
}

func (w *world) shows(want string) {
	w.t.Helper()
	if got := w.show(); got != want {
		w.t.Fatalf("read %q, want %q", got, want)
	}
}

// TestTheLastRecordOfEachKeyStays is the whole of it in small.
func TestTheLastRecordOfEachKeyStays(t *testing.T) {
	w := newWorld(t)
	c := cleaning(t, w)
	w.keyed("a=1", "b=1", "a=2")
	w.keyed("c=1", "a=3")
	w.upload(1)
	w.upload(1)
	w.clean(c)
	w.shows("1:b=1 3:c=1 4:a=3 ")
	if is := w.partition().Cleaning(); is != (metadata.Cleaning{To: 5}) {
		t.Errorf("%+v", is)
	}
	w.keyed("b=2", "d=1")
	w.uploadAll()
	w.policy.DirtyRatio = 0.1
	w.clean(c)
	w.shows("3:c=1 4:a=3 5:b=2 6:d=1 ")
	w.check(true)
	if p := w.partition(); p.Ranges().At(0).Base != 0 || p.CommittedEnd() != 7 {
		t.Errorf("it begins at %d and ends at %d", p.Ranges().At(0).Base, p.CommittedEnd())
	}
	if s := c.Stats(); s.Removed != 3 || s.Rounds != 2 || s.Failures != 0 || s.Objects == 0 {
		t.Errorf("%+v", s)
	}
}

// TestTombstonesStayForTheirTime: a tombstone takes the place of what came before,
// stays for delete.retention.ms from then on, and goes by itself.
func TestTombstonesStayForTheirTime(t *testing.T) {
	w := newWorld(t)
	c := cleaning(t, w)
	w.keyed("a=1", "b=1", "a")
	w.uploadAll()
	w.clean(c)
	w.shows("1:b=1 2:a ")
	due := w.now.Add(w.policy.DeleteRetention).UnixMilli()
	if is := w.partition().Cleaning(); is != (metadata.Cleaning{To: 3, Due: due}) {
		t.Fatalf("%+v, due %d", is, due)
	}
	if at, has := w.read()[1].batch.DeleteHorizon(); !has || at != due {
		t.Fatalf("the batch says %d, %v", at, has)
	}
	w.now = w.now.Add(w.policy.DeleteRetention / 2)
	w.keyed("c=1", "d", "c=2", "c=3", "c=4", "c=5") // a round for other reasons, before the time
	w.uploadAll()
	w.clean(c)
	w.shows("1:b=1 2:a 4:d 8:c=5 ")
	w.now = w.now.Add(w.policy.DeleteRetention/2 + w.policy.DeleteRetention/dueAfter)
	w.clean(c)
	w.shows("1:b=1 4:d 8:c=5 ")
	w.now = w.now.Add(w.policy.DeleteRetention)
	w.clean(c)
	w.shows("1:b=1 8:c=5 ")
	w.check(true)
	if is := w.partition().Cleaning(); is != (metadata.Cleaning{To: 9}) {
		t.Errorf("%+v", is)
	}
	if s := c.Stats(); s.Tombstones != 2 {
		t.Errorf("%+v", s)
	}
}

// TestTheLastBatchStays: as Kafka leaves the newest segment alone. A client comes to the
// high watermark by the batches that it is given, and one that reads to the end, as
// Connect and Streams do at their start, waits until it is there.
func TestTheLastBatchStays(t *testing.T) {
	for name, last := range map[string]func(w *world){
		"a tombstone":       func(w *world) { w.keyed("a") },
		"no keys":           func(w *world) { w.produce(send{records: []record{{value: []byte("x")}, {value: []byte("y")}}}) },
		"an abort's marker": func(w *world) { w.transact(9, "b=1"); w.end(9, false) },
		"a commit's marker": func(w *world) { w.transact(9, "a=2"); w.keyed("a=3"); w.end(9, true) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			c := cleaning(t, w)
			w.keyed("a=1", "z=1")
			w.upload(1)
			last(w)
			w.uploadAll()
			for range 5 {
				w.clean(c)
				if all := w.read(); all[len(all)-1].batch.NextOffset() != w.partition().CommittedEnd() {
					t.Fatalf("clients end at %d, the partition at %d", all[len(all)-1].batch.NextOffset(), w.partition().CommittedEnd())
				}
				w.check(false)
				w.now = w.now.Add(2 * w.policy.DeleteRetention)
			}
			if rounds := c.Stats().Rounds; rounds > 3 {
				t.Errorf("%d rounds for what stays", rounds)
			}
			if aborts := slices.ContainsFunc(slices.Collect(w.partition().Ranges().All()), func(r metadata.Range) bool { return r.HasAborts }); aborts != strings.HasPrefix(name, "an abort") {
				t.Errorf("an index lists an aborted transaction: %v", aborts)
			}
			w.policy.DirtyRatio = 0
			w.keyed("d=1")
			w.uploadAll()
			for range 3 {
				w.clean(c)
				w.now = w.now.Add(2 * w.policy.DeleteRetention)
			}
			for _, r := range w.read() {
				if r.control || r.value == nil || r.key == nil {
					t.Errorf("it is no longer the last, and stays: %s", w.show())
				}
			}
			w.check(true)
		})
	}
}

// TestAClockThatIsWrongEndsNoTombstone: neither by a time that is years ahead, nor by a
// horizon that was given then.
func TestAClockThatIsWrongEndsNoTombstone(t *testing.T) {
	w := newWorld(t)
	var ahead time.Duration // of the wall clock
	believed := true
	c := cleaning(t, w, func(o *Options) {
		o.Now = func() time.Time { return w.now.Add(ahead) }
		o.Believed = func() (time.Time, bool) { return w.now, believed }
	})
	w.keyed("a=1", "b=1", "a")
	w.keyed("z=1")
	w.uploadAll()
	w.clean(c)
	w.shows("1:b=1 2:a 3:z=1 ")
	ahead = 10 * 365 * 24 * time.Hour
	w.policy.DirtyRatio = 0
	w.keyed("b", "z=2")
	w.uploadAll()
	w.clean(c)
	w.shows("2:a 4:b 5:z=2 ")
	w.policy.MinLag = time.Hour
	w.keyed("z=3")
	w.uploadAll()
	w.clean(c)
	w.shows("2:a 4:b 5:z=2 6:z=3 ")
	believed = false
	w.now = w.now.Add(max(time.Hour, 3*w.policy.DeleteRetention))
	w.clean(c)
	w.shows("2:a 4:b 5:z=2 6:z=3 ")
	believed = true
	w.clean(c)
	w.shows("6:z=3 ")
	w.check(true)
}

// TestNothingAboveTheLastStableOffset (RULES 5.7): records above it take the place of
// nothing, and stay, until it has passed them.
func TestNothingAboveTheLastStableOffset(t *testing.T) {
	w := newWorld(t)
	c := cleaning(t, w)
	w.keyed("a=1", "a=2")
	w.transact(9, "a=3")
	w.keyed("b=1", "b=2", "a=4")
	w.uploadAll()
	w.clean(c)
	w.shows("1:a=2 2:a=3 3:b=1 4:b=2 5:a=4 ")
	if is := w.partition().Cleaning(); is != (metadata.Cleaning{To: 2}) {
		t.Fatalf("%+v", is)
	}
	w.now = w.now.Add(time.Hour)
	if w.clean(c); c.Stats().Objects != 1 {
		t.Fatalf("%+v", c.Stats())
	}
	w.end(9, true)
	w.uploadAll()
	w.now = w.now.Add(time.Hour)
	w.clean(c)
	w.shows("4:b=2 5:a=4 6:end(9) ")
	w.check(true)
}

// TestAbortedRecordsSupersedeNothing: they go, also those whose marker lies in a later
// range, and what they would have taken the place of stays. Marker and index entry
// stay, and go, together.
func TestAbortedRecordsSupersedeNothing(t *testing.T) {
	w := newWorld(t)
	c := cleaning(t, w)
	w.keyed("a=1")
	w.transact(9, "a=2", "c=1")
	w.upload(2)
	w.transact(9, "a=3")
	w.upload(1)
	w.end(9, false)
	w.transact(9, "b=1")
	w.upload(2)
	w.end(9, true)
	w.uploadAll()
	w.clean(c)
	w.shows("0:a=1 4:end(9) 5:b=1 6:end(9) ")
	aborts := func() bool {
		for r := range w.partition().Ranges().All() {
			if r.HasAborts {
				return true
			}
		}
		return false
	}
	if !aborts() {
		t.Fatal("the marker is there, and no index lists its transaction")
	}
	w.now = w.now.Add(w.policy.DeleteRetention - time.Millisecond)
	w.policy.DirtyRatio = 0.1
	w.keyed("d=1", "d=2", "d=3", "d=4", "d=5", "d=6")
	w.uploadAll()
	w.clean(c)
	w.shows("0:a=1 4:end(9) 5:b=1 6:end(9) 12:d=6 ")
	w.now = w.now.Add(w.policy.DeleteRetention)
	w.clean(c)
	w.shows("0:a=1 5:b=1 6:end(9) 12:d=6 ")
	if aborts() {
		t.Error("an index lists a transaction without a marker")
	}
	w.check(true)
}

// TestTheMarkerOfACommitStaysWithItsRecords: whoever learns from the log which
// transactions are open finds the end of each whose records are there, whatever round
// left them; when they have gone, it goes.
func TestTheMarkerOfACommitStaysWithItsRecords(t *testing.T) {
	w := newWorld(t)
	w.policy.DeleteRetention = 0
	w.policy.DirtyRatio = 0
	w.keyed("first=" + strings.Repeat("x", 5000)) // an object of its own
	w.transact(9, "a=1", "b=1")
	w.upload(2)
	w.keyed("big=" + strings.Repeat("y", 5000))
	w.upload(1)
	w.end(9, true)
	w.keyed("big=" + strings.Repeat("z", 5000))
	w.uploadAll()
	ended := func(want bool) {
		t.Helper()
		if is := strings.Contains(w.show(), "4:end(9)"); is != want {
			t.Fatalf("the marker is there: %v; want %v", is, want)
		}
		w.check(false)
	}
	c := cleaning(t, w)
	w.clean(c)
	w.clean(c)
	ended(true)

	for i := range 2 { // rounds that are taken up behind the records
		w.keyed(fmt.Sprintf("big=%d", i), fmt.Sprintf("a=%d", 2+i))
		w.uploadAll()
		notes := 0
		w.late = func(call string) error {
			if call == "record" {
				notes++
			}
			if notes == 2 {
				return errors.New("gone away")
			}
			return nil
		}
		w.step(cleaning(t, w))
		if is := w.partition().Cleaning(); is.Next == 0 || is.Next > 4 {
			t.Fatalf("the round was left at %+v", is)
		}
		w.late = nil
		w.step(cleaning(t, w))
		ended(true)
	}
	w.clean(cleaning(t, w))
	ended(true) // of b

	w.keyed("b=2")
	w.uploadAll()
	w.clean(cleaning(t, w))
	ended(false)
	w.check(true)
}

// TestYoungRecordsAreLeftAlone: min.compaction.lag.ms.
func TestYoungRecordsAreLeftAlone(t *testing.T) {
	w := newWorld(t)
	c := cleaning(t, w)
	w.policy.MinLag = time.Minute
	w.keyed("a=1", "a=2")
	w.uploadAll()
	w.now = w.now.Add(30 * time.Second)
	w.keyed("a=3")
	w.uploadAll()
	w.clean(c)
	w.shows("0:a=1 1:a=2 2:a=3 ")
	w.now = w.now.Add(30 * time.Second)
	w.clean(c)
	w.shows("1:a=2 2:a=3 ")
	w.now = w.now.Add(30 * time.Second)
	w.clean(c)
	w.shows("2:a=3 ")
}

// TestWhatIsDueLeavesWithTheLog: the log start passes all that was compacted, the
// tombstones that were due among it, and what is left is too young: there is nothing to
// do, once.
func TestWhatIsDueLeavesWithTheLog(t *testing.T) {
	w := newWorld(t)
	c := cleaning(t, w)
	w.policy.MinLag = time.Hour
	w.keyed("a=1", "a")
	w.uploadAll()
	w.now = w.now.Add(time.Hour)
	w.clean(c)
	if w.partition().Cleaning().Due == 0 {
		t.Fatal("no tombstone is due: the test shows nothing")
	}
	w.now = w.now.Add(2 * w.policy.DeleteRetention)
	w.keyed("b=1")
	w.uploadAll()
	w.moveLogStart(2)
	w.clean(c)
	if is := w.partition().Cleaning(); is != (metadata.Cleaning{To: 2}) {
		t.Errorf("%+v", is)
	}
	w.shows("2:b=1 ")
	w.now = w.now.Add(time.Hour)
	w.clean(c)
	if is := w.partition().Cleaning(); is != (metadata.Cleaning{To: 3}) {
		t.Errorf("%+v", is)
	}
}

// TestRecordsWithoutAKeyGo: as in Kafka; none can be produced while the topic is
// compacted.
func TestRecordsWithoutAKeyGo(t *testing.T) {
	w := newWorld(t)
	c := cleaning(t, w)
	w.produce(send{records: []record{{value: []byte("x")}, {key: []byte{}, value: []byte("y")}}})
	w.produce(send{records: []record{{value: []byte("x")}}})
	w.uploadAll()
	w.clean(c)
	w.shows("1:=y 2:=x ") // the last batch, whatever it has
	w.policy.DirtyRatio = 0
	w.keyed("a=1")
	w.uploadAll()
	w.now = w.now.Add(time.Hour)
	w.clean(c)
	w.shows("1:=y 3:a=1 ")
	w.check(true)
}

// TestARoundGoesOnWhereItWasLeft: an object that was committed and noted is not made
// again after a restart, and the round ends where it was to end.
func TestARoundGoesOnWhereItWasLeft(t *testing.T) {
	w := newWorld(t)
	for i := range 40 {
		w.keyed(fmt.Sprintf("a=%01000d", i), fmt.Sprintf("k%d=%01000d", i, i))
		w.upload(1)
	}
	c := cleaning(t, w)
	notes := 0
	w.late = func(call string) error {
		if call == "record" {
			notes++
		}
		if notes == 3 {
			return errors.New("gone away")
		}
		return nil
	}
	w.step(c)
	half := w.partition().Cleaning()
	if s := c.Stats(); s.Failures != 1 || half.Round != 80 || half.Next == 0 || half.Next >= 70 || half.To != 0 {
		t.Fatalf("%+v, %+v", s, half)
	}
	w.check(false)
	w.late = nil
	was := w.partition().Ranges()
	again := cleaning(t, w)
	w.clean(again)
	w.check(true)
	if is := w.partition().Cleaning(); is != (metadata.Cleaning{To: 80}) {
		t.Errorf("%+v", is)
	}
	is := w.partition().Ranges()
	for r := range was.All() {
		if now, _ := is.Find(r.Base); r.End <= half.Next && now != r {
			t.Errorf("[%d, %d) was made again", r.Base, r.End)
		}
	}
}

// TestARoundIsLeftWhileSomethingElseNeedsTheBucket: and taken up again.
func TestARoundIsLeftWhileSomethingElseNeedsTheBucket(t *testing.T) {
	w := newWorld(t)
	for i := range 40 {
		w.keyed(fmt.Sprintf("a=%01000d", i), fmt.Sprintf("k%d=%01000d", i, i))
		w.upload(1)
	}
	hold := false
	c := cleaning(t, w, func(o *Options) { o.Hold = func() bool { return hold } })
	w.late = func(call string) error { hold = hold || call == "record"; return nil }
	w.step(c)
	half := w.partition().Cleaning()
	if s := c.Stats(); s.Rounds != 0 || s.Failures != 0 || s.Objects != 1 || half.Round != 80 || half.Next == 0 {
		t.Fatalf("%+v, %+v", s, half)
	}
	w.step(c)
	if c.Stats().Objects != 1 {
		t.Fatal("another was begun")
	}
	hold, w.late = false, nil
	w.clean(c)
	if s := c.Stats(); s.Rounds != 1 || w.partition().Cleaning() != (metadata.Cleaning{To: 80}) {
		t.Errorf("%+v, %+v", s, w.partition().Cleaning())
	}
	w.check(true)
}

// TestUnchangedRangesStayAsTheyAre: a round writes only what changes.
func TestUnchangedRangesStayAsTheyAre(t *testing.T) {
	w := newWorld(t)
	c := cleaning(t, w, func(o *Options) { o.TargetObject = 1 })
	for i := range 10 {
		w.keyed(fmt.Sprintf("k%d=1", i))
		w.upload(1)
	}
	w.clean(c)
	if s := c.Stats(); s.Objects != 0 || s.Rounds != 1 {
		t.Fatalf("%+v", s)
	}
	w.policy.DirtyRatio = 0
	w.keyed("k4=2")
	w.upload(1)
	w.clean(c)
	if s := c.Stats(); s.Objects != 1 {
		t.Fatalf("%+v", s)
	}
	w.check(true)
}

// TestABatchThatDoesNotFitItsCRCIsNotSifted: it would get another one.
func TestABatchThatDoesNotFitItsCRCIsNotSifted(t *testing.T) {
	w := newWorld(t)
	w.keyed("a=1", "a=2")
	bad := w.batches[0]
	bad[len(bad)-2] ^= 1 // a value
	s := sieve{keys: newKeyTable(0, 0), end: 2}
	if _, err := s.sift(bad); err == nil {
		t.Error("it was")
	}
}

// TestTombstonesAndMarkersStayBehindOlderRecords: ranges that are filed in manifests
// are not sifted, and what lies in them would come back.
func TestTombstonesAndMarkersStayBehindOlderRecords(t *testing.T) {
	w := newWorld(t)
	w.keyed("a")
	w.transact(7, "b=1")
	w.end(7, false)
	given := w.batches[0:3:3]
	sift := func(b batch.Batch, now int64, older bool) batch.Batch {
		t.Helper()
		s := sieve{keys: newKeyTable(0, 0), end: 3, now: now, retention: 10, older: older, filter: batch.Filter{Limit: mostExpanded}}
		left, err := s.sift(b)
		if err != nil {
			t.Fatal(err)
		}
		if older && s.due != 0 {
			t.Errorf("something is due at %d", s.due)
		}
		return slices.Clone(left)
	}
	for _, b := range []batch.Batch{given[0], given[2]} {
		marked := sift(b, 100, false)
		if _, has := marked.DeleteHorizon(); !has {
			t.Fatal("it got no horizon: the test shows nothing")
		}
		if left := sift(marked, 1000, true); len(left) == 0 {
			t.Errorf("the batch at %d went", b.BaseOffset())
		}
		if left := sift(marked, 1000, false); len(left) != 0 {
			t.Errorf("the batch at %d stayed though nothing lies before it", b.BaseOffset())
		}
		if left := sift(b, 100, true); len(left) == 0 {
			t.Errorf("the batch at %d went", b.BaseOffset())
		}
	}
}

// TestAControlRecordThatIsNoMarkerStays: what ends no transaction for those who read
// the log goes not as if it did.
func TestAControlRecordThatIsNoMarkerStays(t *testing.T) {
	for name, is := range map[string]struct {
		key, value    []byte
		transactional bool
	}{
		"key of no known version":   {[]byte{0xff, 0xff, 0, 0}, make([]byte, 6), true},
		"value of no known version": {make([]byte, 4), []byte{0xff, 0xff, 0, 0, 0, 0}, true},
		"value cut off":             {make([]byte, 4), make([]byte, 2), true},
		"of no transaction":         {make([]byte, 4), make([]byte, 6), false},
		"another kind":              {[]byte{0, 0, 0, 2}, make([]byte, 6), true},
	} {
		b := batch.NewBuilder(batch.BuilderOptions{Transactional: is.transactional, Control: true, Producer: &batch.Producer{ID: 7, BaseSequence: -1}})
		b.Add(1, is.key, is.value)
		given, err := b.Build()
		if err != nil {
			t.Fatal(err)
		}
		s := sieve{keys: newKeyTable(0, 0), end: 1, now: 100, retention: 10, kept: map[int64]struct{}{7: {}}, filter: batch.Filter{Limit: mostExpanded}}
		if left, err := s.sift(given); err != nil || !slices.Equal(left, given) || s.due != 0 || len(s.kept) != 1 {
			t.Errorf("%s: it changed, or is to go at %d, or ended a transaction: %v", name, s.due, err)
		}
	}
}

// TestAnObjectThatLacksABatchIsNotCommitted: what was to stay is compared with what
// was packed.
func TestAnObjectThatLacksABatchIsNotCommitted(t *testing.T) {
	w := newWorld(t)
	c := cleaning(t, w)
	w.keyed("a=1", "a=2")
	w.keyed("b=1")
	w.uploadAll()
	r := roundOf(w, c)
	if err := r.learn(); err != nil {
		t.Fatal(err)
	}
	o := &output{r: r, ranges: r.ranges}
	var err error
	if o.indexes, o.aborted, err = r.open(0, 1); err != nil {
		t.Fatal(err)
	}
	if err := o.sift(r.ctx); err != nil {
		t.Fatal(err)
	}
	whole := o.held
	o.held = pile{}
	err = whole.each(func(b batch.Batch) error {
		if b.BaseOffset() == 0 {
			o.held.add(b)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := o.write(); err == nil {
		t.Error("it was committed")
	}
	w.shows("0:a=1 1:a=2 2:b=1 ")
	o.held = whole
	if err := o.write(); err != nil {
		t.Error(err)
	}
}

// roundOf is a round of all that there is.
func roundOf(w *world, c *Cleaner) *round {
	p := w.partition()
	j := Job{Partition: Partition{worldPartition, p.LeaderEpoch, w.policy, p.Ranges(), p.Cleaning(), false}, Dirty: p.Cleaning().To, End: p.CommittedEnd()}
	r := &round{c: c, ctx: w.t.Context(), job: j, state: j.Cleaning, now: w.now.UnixMilli(), share: 1, reader: reader{partition: j.ID, fill: c.fill, pace: unpaced()}}
	for is := range j.Ranges.All() {
		r.ranges = append(r.ranges, is)
	}
	return r
}

// drawBatch produces a batch of any kind.
func (w *world) drawBatch(t *rapid.T) {
	var s send
	s.options.Codec = batch.Codec(rapid.IntRange(0, 4).Draw(t, "codec"))
	switch rapid.IntRange(0, 5).Draw(t, "kind") {
	case 0:
		s.options.Producer = &batch.Producer{ID: 3, Epoch: 1, BaseSequence: int32(w.next)}
	case 1, 2:
		id := rapid.Int64Range(10, 12).Draw(t, "producer")
		if _, open := w.open[id]; open && rapid.Bool().Draw(t, "end") {
			w.end(id, rapid.Bool().Draw(t, "commit"))
			return
		}
		s.options.Transactional, s.options.Producer = true, &batch.Producer{ID: id, BaseSequence: int32(w.next)}
	}
	for range rapid.IntRange(1, 6).Draw(t, "records") {
		r := record{timestamp: w.now.UnixMilli() - int64(rapid.IntRange(0, 5000).Draw(t, "age"))}
		if rapid.IntRange(0, 20).Draw(t, "keyless") > 0 {
			r.key = fmt.Appendf(nil, "k%d", rapid.IntRange(0, 8).Draw(t, "key"))
		}
		if rapid.IntRange(0, 4).Draw(t, "tombstone") > 0 || r.key == nil {
			r.value = fmt.Appendf(nil, "v%d", w.next)
		}
		if rapid.IntRange(0, 3).Draw(t, "header") == 0 {
			r.header = "x"
		}
		s.records = append(s.records, r)
	}
	w.produce(s)
}

// mishap has the next round meet one.
func (w *world) mishap(t *rapid.T) {
	gone := errors.New("gone away")
	nth := rapid.IntRange(1, 12).Draw(t, "nth")
	switch rapid.IntRange(0, 7).Draw(t, "mishap") {
	case 0:
		w.bucket.Set(bucket.Rule{Op: bucket.OpRead, Nth: nth, Err: gone, Temporary: true})
	case 1:
		w.bucket.Set(bucket.Rule{Op: bucket.OpRead, Nth: nth, Short: true})
	case 2:
		w.bucket.Set(bucket.Rule{Op: bucket.OpRead, Nth: nth, Flip: true, Seed: rapid.Uint64().Draw(t, "seed")})
	case 3:
		w.bucket.Set(bucket.Rule{Op: bucket.OpRead, Nth: nth, Shift: 1})
	case 4:
		w.bucket.Set(bucket.Rule{Op: bucket.OpPut, Err: gone, Done: rapid.Bool().Draw(t, "done")})
	case 5:
		w.lag = rapid.IntRange(1, 20).Draw(t, "lag")
	default:
		left, err := rapid.IntRange(0, 4).Draw(t, "calls"), rapid.SampledFrom([]error{errLost, gone}).Draw(t, "lost")
		move := rapid.IntRange(0, 3).Draw(t, "move") == 0
		w.late = func(string) error {
			if left--; left >= 0 {
				return nil
			}
			if move {
				move = false
				w.moveLeadership()
			}
			return err
		}
	}
}
