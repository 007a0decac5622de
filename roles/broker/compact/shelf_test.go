package compact

import (
	"bytes"
	"testing"
	"time"

	"pgregory.net/rapid"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/bucket"
	"rustmq.dev/rustmq/test/seeded"
)

// shared is a world in which each partition has seven ranges in objects that it shares
// with all others, and each fills an object of its own.
func shared(t testing.TB, partitions int) *world {
	w := newWorld(t, partitions)
	var all []int
	for i := range partitions {
		all = append(all, i)
	}
	for range 7 {
		for i := range partitions {
			w.produce(i, 2400, i%2 == 0)
		}
		w.upload(1, all...)
	}
	return w
}

// oneByOne has one job at a time.
func oneByOne(o *Options) { o.Parallel = 1 }

// TestIndexesOfAnObjectAreReadOnce: each job takes one partition out of the same
// objects. Its data is its own, and the first of them reads the indexes of all.
func TestIndexesOfAnObjectAreReadOnce(t *testing.T) {
	const partitions, objects = 6, 7
	w := shared(t, partitions)
	c := compacting(t, w, oneByOne)
	w.compact(c)
	w.check()
	if s := c.Stats(); s.Objects != partitions || s.RangesIn != partitions*objects || s.Reads > partitions*objects+objects {
		t.Fatalf("%d reads for %d ranges of %d objects: %+v", s.Reads, partitions*objects, objects, s)
	}
	c.begin() // looks at what the catalogue has left
	if c.shelf.held != 0 || len(c.shelf.kept) != 0 {
		t.Fatalf("%d bytes are kept of objects that nothing is in any more", c.shelf.held)
	}
}

// TestKeptIndexesStayWithinTheirBytes: with room for little, all is read, by more
// requests.
func TestKeptIndexesStayWithinTheirBytes(t *testing.T) {
	for _, room := range []int64{1, 2000, 8000} {
		w := shared(t, 6)
		c := compacting(t, w, oneByOne, func(o *Options) { o.Indexes = room })
		for range 6 {
			c.begin()
			c.done.Wait()
			if c.shelf.held > room {
				t.Fatalf("%d bytes are kept, there is room for %d", c.shelf.held, room)
			}
		}
		w.check()
		if s := c.Stats(); s.Objects != 6 || s.Failures+s.RefusedRanges != 0 {
			t.Fatalf("room for %d: %+v", room, s)
		}
	}
}

// recordsAt is where an index says how many records it is of: nothing else there
// depends on it, see package object.
const recordsAt = 80

// TestADamagedKeptIndexIsReadAnew: nothing is believed because it was kept. A bit that
// changed on its way, or since, costs requests and no more.
func TestADamagedKeptIndexIsReadAnew(t *testing.T) {
	w := shared(t, 3)
	c := compacting(t, w, oneByOne)
	c.begin()
	c.done.Wait()
	before := c.Stats().Reads
	for _, e := range c.shelf.kept {
		data := e.Value.(*kept).data
		for at := len(data) / 6; ; { // behind the one that was used
			next := bytes.Index(data[at:], []byte("RMQIDX"))
			if next < 0 {
				break
			}
			at += next
			data[at+recordsAt] ^= 1
			at++
		}
	}
	if len(c.shelf.kept) != 7 {
		t.Fatalf("%d objects are kept: the test shows nothing", len(c.shelf.kept))
	}
	w.compact(c)
	w.check()
	if s := c.Stats(); s.Objects != 3 || s.RefusedRanges+s.Failures != 0 || s.Reads != before+2*7+7 {
		t.Fatalf("%d reads, and then %+v", before, s)
	}
}

// TestWhatOthersLackHoldsBackNobody: the end of an object is gone, and with it the index
// of the last partition: the read of the first one's index takes it in.
func TestWhatOthersLackHoldsBackNobody(t *testing.T) {
	w := shared(t, 2)
	r := w.catalogued(0).Ranges().At(3)
	all, err := bucket.ReadAll(t.Context(), w.memory, w.key(r.Object), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.memory.Put(t.Context(), w.key(r.Object), bucket.Bytes(all[:r.IndexPosition+int64(r.IndexLength)])); err != nil {
		t.Fatal(err)
	}
	c := compacting(t, w, oneByOne)
	for range 2 {
		c.begin()
		c.done.Wait()
	}
	if a, b := w.catalogued(0).Ranges().Len(), w.catalogued(1).Ranges().Len(); a != 1 || b != 7 || c.Stats().RefusedRanges != 1 {
		t.Fatalf("%d and %d ranges, %+v", a, b, c.Stats())
	}
}

// TestRequestsForAGiB: compaction of a steady load asks for hardly more than the data of
// each range (docs/cost.md has the figure of a day).
func TestRequestsForAGiB(t *testing.T) {
	f := newFleet(DefaultLimits(), 100)
	f.steady(t, 15*time.Minute, 100<<10)
	perGiB := float64(f.gets) * (1 << 30) / float64(f.rewritten)
	if f.rewritten < 5<<30 || perGiB > 1100 || float64(f.indexBytes) > 0.001*float64(f.rewritten) || f.shelf.held > DefaultIndexes {
		t.Fatalf("%.0f GETs for each of %d GiB, %d of %d for indexes, which had %d bytes; %d are kept",
			perGiB, f.rewritten>>30, f.indexGets, f.gets, f.indexBytes, f.shelf.held)
	}
}

// TestWidenedReadsHaveTheirBounds: a read still covers what it was planned for, stays
// among the indexes of its object, and all of a job fit in half of what is kept.
func TestWidenedReadsHaveTheirBounds(t *testing.T) {
	seeded.Check(t, func(t *rapid.T) {
		mixed := map[storage.ObjectID]*mixedObject{}
		var sources []*source
		for id := range storage.ObjectID(rapid.IntRange(1, 20).Draw(t, "objects")) {
			first := rapid.Int64Range(96, 1<<20).Draw(t, "first")
			o := &mixedObject{first: first, last: first + rapid.Int64Range(500, 1<<20).Draw(t, "span")}
			if rapid.IntRange(0, 3).Draw(t, "alone") > 0 {
				mixed[id] = o
			}
			for range rapid.IntRange(1, 3).Draw(t, "sources") {
				sources = append(sources, &source{Range: metadata.Range{
					Object: id, IndexPosition: rapid.Int64Range(o.first, o.last-200).Draw(t, "position"), IndexLength: 200,
				}})
			}
		}
		capacity := rapid.Int64Range(1, 4<<20).Draw(t, "capacity")
		reads := indexReads(sources)
		var held int64
		for i, was := range indexReads(sources) {
			if i == 0 {
				widen(reads, mixed, capacity)
			}
			r, o := reads[i], mixed[was.object]
			if r.position > was.position || r.end() < was.end() || r.uses != was.uses || r.wider != (r.length > was.length) {
				t.Fatalf("%+v became %+v", was, r)
			}
			if !r.wider {
				continue
			}
			if held += r.length; o == nil || r.position < o.first || r.end() > o.last || r.length > widestIndexes {
				t.Fatalf("%+v became %+v of %+v", was, r, o)
			}
		}
		if held > capacity/2 {
			t.Fatalf("%d bytes to be kept, there is room for %d", held, capacity)
		}
	})
}

// TestShelfGivesWhatItWasGiven: of the piece that it was given last of an object, or
// nothing; those unused for longest make room.
func TestShelfGivesWhatItWasGiven(t *testing.T) {
	seeded.Check(t, func(t *rapid.T) {
		s := newShelf(1000)
		last := map[storage.ObjectID]read{}
		var order []storage.ObjectID // the last used at the end
		use := func(id storage.ObjectID, is bool) {
			for i, x := range order {
				if x == id {
					order = append(order[:i], order[i+1:]...)
					break
				}
			}
			if is {
				order = append(order, id)
			}
		}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			id := storage.ObjectID(rapid.IntRange(0, 9).Draw(t, "object"))
			switch rapid.IntRange(0, 4).Draw(t, "step") {
			case 0:
				mixed := map[storage.ObjectID]*mixedObject{id: {}}
				s.retain(mixed)
				for x := range last {
					if x != id {
						delete(last, x)
						use(x, false)
					}
				}
			case 1, 2:
				r := read{object: id, position: rapid.Int64Range(0, 500).Draw(t, "position"), length: rapid.Int64Range(1, 1200).Draw(t, "length")}
				data := make([]byte, r.length)
				for i := range data {
					data[i] = byte(r.position + int64(i) + int64(id))
				}
				s.keep(&r, data)
				delete(last, id)
				use(id, false)
				if r.length <= 1000 {
					last[id] = r
					use(id, true)
				}
				for held(last) > 1000 {
					delete(last, order[0])
					use(order[0], false)
				}
			default:
				is := &source{Range: metadata.Range{Object: id, IndexPosition: rapid.Int64Range(0, 1500).Draw(t, "at"), IndexLength: uint32(rapid.IntRange(1, 300).Draw(t, "bytes"))}}
				r, there := last[id]
				there = there && r.position <= is.IndexPosition && is.IndexPosition+int64(is.IndexLength) <= r.end()
				data, at, ok := s.find(is)
				if ok != there || ok && (at+int64(is.IndexLength) > int64(len(data)) || data[at] != byte(is.IndexPosition+int64(id))) {
					t.Fatalf("found %v of %+v, which is there: %v", ok, is.Range, there)
				}
				if ok {
					use(id, true)
				}
			}
			if s.held != held(last) || len(s.kept) != len(last) || s.used.Len() != len(last) {
				t.Fatalf("%d bytes of %d objects are kept, %d of %d are due", s.held, len(s.kept), held(last), len(last))
			}
		}
	})
}

func held(pieces map[storage.ObjectID]read) (n int64) {
	for _, r := range pieces {
		n += r.length
	}
	return n
}
