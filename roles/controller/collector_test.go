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
	"rustmq.dev/rustmq/storage/object"
	"rustmq.dev/rustmq/test/seeded"
)

// States of an id in the model; forgotten ids have none in the catalogue.
const (
	prepared  = metadata.Prepared
	committed = metadata.Committed
	condemned = metadata.Condemned
	forgotten = metadata.ObjectState(0)
	// shelved: a manifest lists it, and the catalogue knows nothing of it.
	shelved = metadata.ObjectState(9)
)

// modelCatalogue is the dumb twin of the catalogue in the metadata image.
type modelCatalogue struct {
	next    storage.ObjectID
	states  map[storage.ObjectID]metadata.ObjectState
	since   map[storage.ObjectID]uint64
	changes uint64
	lists   map[storage.ObjectID][]storage.ObjectID // of the manifests that are committed
	dying   map[storage.ObjectID]bool               // of these
}

func newModelCatalogue() *modelCatalogue {
	return &modelCatalogue{next: 1, states: map[storage.ObjectID]metadata.ObjectState{}, since: map[storage.ObjectID]uint64{}, lists: map[storage.ObjectID][]storage.ObjectID{}, dying: map[storage.ObjectID]bool{}}
}

func (m *modelCatalogue) clone() *modelCatalogue {
	return &modelCatalogue{m.next, maps.Clone(m.states), maps.Clone(m.since), m.changes, maps.Clone(m.lists), maps.Clone(m.dying)}
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
	return &metadata.Object{ID: id, State: s, Since: m.since[id]}, issued && s != forgotten && s != shelved
}

func (m *modelCatalogue) NumObjects(s metadata.ObjectState) int { return len(m.in(s)) }

func (m *modelCatalogue) Dying() iter.Seq[*metadata.Dying] {
	return func(yield func(*metadata.Dying) bool) {
		for _, id := range slices.Sorted(maps.Keys(m.dying)) {
			d := &metadata.Dying{Manifest: metadata.Manifest{ID: id}}
			if d.Ranges = len(m.lists[id]); !yield(d) {
				return
			}
		}
	}
}

// named is what ranges name: committed, and no manifest.
func (m *modelCatalogue) named() []storage.ObjectID {
	return slices.DeleteFunc(m.in(committed), func(id storage.ObjectID) bool { return m.lists[id] != nil })
}

// manifests that a partition names.
func (m *modelCatalogue) manifests() (ids []storage.ObjectID) {
	for _, id := range slices.Sorted(maps.Keys(m.lists)) {
		if !m.dying[id] {
			ids = append(ids, id)
		}
	}
	return ids
}

// file makes a prepared object a manifest of what another one lists but for the
// first ranges, and of objects that ranges name.
func (m *modelCatalogue) file(id, replaced storage.ObjectID, drop int, moved []storage.ObjectID) {
	list := slices.Clone(m.lists[replaced])
	for _, gone := range list[:drop] {
		m.move(gone, shelved, condemned)
	}
	list = append(list[drop:], moved...)
	if len(list) == 0 || !m.move(id, prepared, committed) {
		panic("the model is wrong")
	}
	for _, one := range moved {
		m.move(one, committed, shelved)
	}
	if replaced != 0 {
		m.move(replaced, committed, condemned)
		delete(m.lists, replaced)
	}
	m.lists[id] = list
}

// dissolve is refused unless the manifest is dying.
func (m *modelCatalogue) dissolve(id storage.ObjectID) {
	if !m.dying[id] {
		return
	}
	for _, one := range m.lists[id] {
		m.move(one, shelved, condemned)
	}
	m.move(id, committed, condemned)
	delete(m.lists, id)
	delete(m.dying, id)
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

var testCollector = collectorLimits{Deadline: 30 * time.Second, Grace: 10 * time.Second, Batch: 3, Condemned: 4}

// TestCollectionNeverRemovesWhatIsNamedAndLeavesNoOrphan runs random schedules of
// uploads, commits, failures, controllers that restart or lag, listings that lag,
// and readers, against a bucket in which puts and deletes land late. Objects move
// into manifests, and come to their end there, at any moment: between a listing, the
// catalogue that it is judged by, and the reading of that one's manifests too.
func TestCollectionNeverRemovesWhatIsNamedAndLeavesNoOrphan(t *testing.T) {
	seeded.Check(t, func(t *rapid.T) {
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
	audit     *collectionAudit // under way
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
	switch rapid.IntRange(0, 15).Draw(w.t, "action") {
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
		if id, ok := w.pick(w.cat.named()); ok {
			w.hold(id)
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
		if id, ok := w.pick(append(w.cat.in(committed), w.cat.in(shelved)...)); ok {
			w.hold(id)
		}
	case 11:
		if rapid.Bool().Draw(w.t, "ship") {
			w.shipped = w.cat.changes
		} else {
			w.list(rapid.Bool().Draw(w.t, "lagging"))
		}
	case 12, 13:
		w.file()
	case 14: // a log start passes a manifest, or its topic is deleted
		if id, ok := w.pick(w.cat.manifests()); ok {
			w.hold(w.cat.lists[id][0])
			w.cat.changes++
			w.cat.dying[id] = true
		}
	case 15:
		w.judge(true)
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
	for _, d := range do.Dissolve {
		if w.bucket[d.ID] { // it was read
			w.cat.dissolve(d.ID)
		}
	}
	w.deletes = append(w.deletes, do.Delete...)
	for _, id := range do.Forget {
		w.cat.move(id, condemned, forgotten)
	}
}

// hold has a reader that has just looked an object up.
func (w *collectionWorld) hold(id storage.ObjectID) {
	w.readers = append(w.readers, collectionReader{id, w.now.Add(testCollector.Grace - 1)})
}

// file takes objects into a manifest, which is in the bucket already.
func (w *collectionWorld) file() {
	var ids []storage.ObjectID
	for _, id := range w.cat.in(prepared) {
		if w.bucket[id] {
			ids = append(ids, id)
		}
	}
	id, ok := w.pick(ids)
	if !ok {
		return
	}
	var moved []storage.ObjectID
	for _, one := range w.cat.named() {
		if len(moved) < 3 && rapid.Bool().Draw(w.t, "moves") {
			moved = append(moved, one)
		}
	}
	replaced, drop := storage.ObjectID(0), 0
	if rapid.Bool().Draw(w.t, "replace") {
		if replaced, ok = w.pick(w.cat.manifests()); ok {
			drop = rapid.IntRange(0, len(w.cat.lists[replaced])).Draw(w.t, "drop")
		}
	}
	if len(w.cat.lists[replaced])-drop+len(moved) > 0 {
		w.cat.file(id, replaced, drop, moved)
	}
}

func (w *collectionWorld) land(id storage.ObjectID) {
	w.deletes = slices.DeleteFunc(w.deletes, func(x storage.ObjectID) bool { return x == id })
	delete(w.bucket, id)
	w.collector.gone(id)
}

// collectionAudit is a listing that is being judged.
type collectionAudit struct {
	ids     []storage.ObjectID
	foreign storage.ObjectID
	image   *modelCatalogue // nil: not taken yet
}

// list begins an audit.
func (w *collectionWorld) list(lagging bool) {
	var ids []storage.ObjectID
	for _, id := range slices.Sorted(maps.Keys(w.bucket)) {
		if !lagging || rapid.Bool().Draw(w.t, "shown") {
			ids = append(ids, id)
		}
	}
	foreign := w.cat.next + 100_000 // somebody else's
	w.audit = &collectionAudit{ids: append(ids, foreign), foreign: foreign}
}

// judge takes an audit a step further: the catalogue, then its manifests and the
// judgement by both.
func (w *collectionWorld) judge(damage bool) {
	a := w.audit
	if a == nil {
		return
	}
	if a.image == nil {
		a.image = w.cat.clone()
		return
	}
	w.audit = nil
	f := newFiledIDs(a.ids)
	f.damaged = damages{}
	for id, list := range a.image.lists {
		if !w.bucket[id] || damage && rapid.IntRange(0, 19).Draw(w.t, "damaged") == 0 {
			f.damaged[id] = damagedManifest{}
			continue
		}
		for _, one := range list {
			f.strike([]object.Filed{{Object: one}})
		}
	}
	found := w.collector.listed(w.now, a.ids, a.image, f)
	if !slices.Equal(found.Foreign, []storage.ObjectID{a.foreign}) {
		w.t.Fatalf("foreign %v", found.Foreign)
	}
	if len(f.damaged) > 0 && len(found.Orphans) > 0 {
		w.t.Fatalf("%v are orphans, while manifests %v cannot be read", found.Orphans, slices.Collect(maps.Keys(f.damaged)))
	}
	for _, id := range found.Orphans {
		delete(w.bucket, id)
	}
}

func (w *collectionWorld) check() {
	for _, id := range append(w.cat.in(committed), w.cat.in(shelved)...) {
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
		w.judge(false)
		w.judge(false)
		w.check()
	}
	for id := range w.bucket {
		if s := w.cat.states[id]; s != committed && s != shelved {
			w.t.Fatalf("object %v is left in state %d", id, w.cat.states[id])
		}
	}
	if left := len(w.cat.in(prepared)) + len(w.cat.in(condemned)) + len(w.cat.dying); left > 0 {
		w.t.Fatalf("%d ids are neither committed nor forgotten", left)
	}
}
