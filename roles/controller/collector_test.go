package controller

import (
	"iter"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/storage"
)

// States of an id in the model; forgotten ids have none in the catalogue.
const (
	prepared  = metadata.Prepared
	committed = metadata.Committed
	condemned = metadata.Condemned
	forgotten = metadata.ObjectState(0)
)

// modelCatalogue is the dumb twin of the catalogue in the metadata image.
type modelCatalogue struct {
	next    storage.ObjectID
	states  map[storage.ObjectID]metadata.ObjectState
	since   map[storage.ObjectID]uint64
	changes uint64
}

func newModelCatalogue() *modelCatalogue {
	return &modelCatalogue{next: 1, states: map[storage.ObjectID]metadata.ObjectState{}, since: map[storage.ObjectID]uint64{}}
}

func (m *modelCatalogue) clone() *modelCatalogue {
	return &modelCatalogue{m.next, maps.Clone(m.states), maps.Clone(m.since), m.changes}
}

func (m *modelCatalogue) move(id storage.ObjectID, from, to metadata.ObjectState) bool {
	if is, issued := m.states[id]; !issued || is != from {
		return false
	}
	m.changes++
	m.states[id], m.since[id] = to, m.changes
	return true
}

func (m *modelCatalogue) in(s metadata.ObjectState) []storage.ObjectID {
	var ids []storage.ObjectID
	for _, id := range slices.Sorted(maps.Keys(m.states)) {
		if m.states[id] == s {
			ids = append(ids, id)
		}
	}
	return ids
}

func (m *modelCatalogue) NextObjectID() storage.ObjectID { return m.next }

func (m *modelCatalogue) Object(id storage.ObjectID) (*metadata.Object, bool) {
	s, issued := m.states[id]
	return &metadata.Object{ID: id, State: s, Since: m.since[id]}, issued && s != forgotten
}

func (m *modelCatalogue) ObjectsIn(s metadata.ObjectState) iter.Seq[*metadata.Object] {
	return func(yield func(*metadata.Object) bool) {
		for _, id := range m.in(s) {
			if o, _ := m.Object(id); !yield(o) {
				return
			}
		}
	}
}

var testCollector = collectorLimits{Deadline: 30 * time.Second, Grace: 10 * time.Second, Batch: 3}

// TestCollectionNeverRemovesWhatIsNamedAndLeavesNoOrphan runs random schedules of
// uploads, commits, failures, controllers that restart or lag, listings that lag,
// and readers, against a bucket in which puts and deletes land late.
func TestCollectionNeverRemovesWhatIsNamedAndLeavesNoOrphan(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &collectionWorld{
			t: t, now: time.Unix(0, 0), cat: newModelCatalogue(), collector: newCollector(testCollector),
			bucket: map[storage.ObjectID]bool{},
		}
		w.images = []*modelCatalogue{w.cat.clone()}
		for range rapid.IntRange(1, 150).Draw(t, "actions") {
			w.act()
			w.check()
		}
		w.quiesce()
	})
}

// collectionWorld is a bucket, the catalogue, and everybody around them.
type collectionWorld struct {
	t         *rapid.T
	now       time.Time
	cat       *modelCatalogue
	images    []*modelCatalogue // the last few, for a controller that lags
	collector *collector
	bucket    map[storage.ObjectID]bool
	puts      []storage.ObjectID // under way, land later or never
	deletes   []storage.ObjectID // under way
	readers   []collectionReader
	shipped   uint64
}

type collectionReader struct {
	id    storage.ObjectID
	until time.Time
}

func (w *collectionWorld) pick(ids []storage.ObjectID) (storage.ObjectID, bool) {
	if len(ids) == 0 {
		return 0, false
	}
	return ids[rapid.IntRange(0, len(ids)-1).Draw(w.t, "pick")], true
}

func (w *collectionWorld) act() {
	defer func() {
		w.images = append(w.images, w.cat.clone())
		w.images = w.images[max(0, len(w.images)-5):]
	}()
	switch rapid.IntRange(0, 11).Draw(w.t, "action") {
	case 0, 1:
		w.cat.changes++
		w.cat.states[w.cat.next] = prepared
		w.puts = append(w.puts, w.cat.next)
		w.cat.next++
	case 2, 3: // a put lands, whatever became of its id meanwhile
		if id, ok := w.pick(w.puts); ok {
			w.puts = slices.DeleteFunc(w.puts, func(x storage.ObjectID) bool { return x == id })
			w.bucket[id] = true
		}
	case 4, 5: // commit, which the catalogue refuses unless the id is prepared
		if id, ok := w.pick(slices.Sorted(maps.Keys(w.bucket))); ok {
			w.cat.move(id, prepared, committed)
		}
	case 6: // retention, deletion of a topic, compaction
		if id, ok := w.pick(w.cat.in(committed)); ok {
			w.cat.move(id, committed, condemned)
		}
	case 7:
		w.now = w.now.Add(time.Duration(rapid.IntRange(1, 20).Draw(w.t, "seconds")) * time.Second)
	case 8:
		image := w.images[rapid.IntRange(0, len(w.images)-1).Draw(w.t, "image")]
		if rapid.IntRange(0, 4).Draw(w.t, "restart") == 0 {
			w.collector = newCollector(testCollector)
		}
		w.collect(image)
	case 9:
		if id, ok := w.pick(w.deletes); ok {
			w.land(id)
		}
	case 10:
		if id, ok := w.pick(w.cat.in(committed)); ok {
			w.readers = append(w.readers, collectionReader{id, w.now.Add(testCollector.Grace - 1)})
		}
	case 11:
		if rapid.Bool().Draw(w.t, "ship") {
			w.shipped = w.cat.changes
		} else {
			w.list(rapid.Bool().Draw(w.t, "lagging"))
		}
	}
}

func (w *collectionWorld) collect(image *modelCatalogue) {
	do := w.collector.step(w.now, image, w.shipped)
	for _, id := range do.Condemn {
		w.cat.move(id, prepared, condemned)
	}
	for _, id := range do.Delete {
		if since, ok := w.cat.since[id]; !ok || since > w.shipped {
			w.t.Fatalf("object %v is deleted before what condemned it stands in the bucket", id)
		}
	}
	w.deletes = append(w.deletes, do.Delete...)
	for _, id := range do.Forget {
		w.cat.move(id, condemned, forgotten)
	}
}

func (w *collectionWorld) land(id storage.ObjectID) {
	w.deletes = slices.DeleteFunc(w.deletes, func(x storage.ObjectID) bool { return x == id })
	delete(w.bucket, id)
	w.collector.gone(id)
}

func (w *collectionWorld) list(lagging bool) {
	var ids []storage.ObjectID
	for _, id := range slices.Sorted(maps.Keys(w.bucket)) {
		if !lagging || rapid.Bool().Draw(w.t, "shown") {
			ids = append(ids, id)
		}
	}
	ids = append(ids, w.cat.next+100) // somebody else's
	found := w.collector.listed(w.now, ids, w.cat)
	if !slices.Equal(found.Foreign, []storage.ObjectID{w.cat.next + 100}) {
		w.t.Fatalf("foreign %v", found.Foreign)
	}
	for _, id := range found.Orphans {
		delete(w.bucket, id)
	}
}

func (w *collectionWorld) check() {
	for _, id := range w.cat.in(committed) {
		if !w.bucket[id] {
			w.t.Fatalf("object %v is named by the catalogue and gone from the bucket", id)
		}
	}
	w.readers = slices.DeleteFunc(w.readers, func(r collectionReader) bool { return w.now.After(r.until) })
	for _, r := range w.readers {
		if !w.bucket[r.id] {
			w.t.Fatalf("object %v is gone while a reader may hold it", r.id)
		}
	}
}

// quiesce lets everything under way land, and expects nothing to be left but what
// the catalogue names.
func (w *collectionWorld) quiesce() {
	for _, id := range w.puts {
		w.bucket[id] = true
	}
	w.puts = nil
	for range 4 * (len(w.cat.states) + 2) {
		w.now = w.now.Add(testCollector.Grace)
		w.shipped = w.cat.changes
		w.collect(w.cat)
		for len(w.deletes) > 0 {
			w.land(w.deletes[0])
		}
		w.list(false)
		w.check()
	}
	for id := range w.bucket {
		if w.cat.states[id] != committed {
			w.t.Fatalf("object %v is left in state %d", id, w.cat.states[id])
		}
	}
	if left := len(w.cat.in(prepared)) + len(w.cat.in(condemned)); left > 0 {
		w.t.Fatalf("%d ids are neither committed nor forgotten", left)
	}
}
