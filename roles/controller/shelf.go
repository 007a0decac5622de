package controller

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"math"
	"math/bits"
	"slices"
	"sync"
	"time"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/guard"
	"rustmq.dev/rustmq/storage/object"
)

const (
	// maxShelved objects of manifests are kept between two calls of a check, of 80
	// bytes each, and half as many more while manifests are read. A check reads each
	// manifest once for so many objects that manifests list.
	maxShelved = 1 << 18
	// maxShelves checks may be under way at once.
	maxShelves = 4
	// shelfIdle is how long the next call may take to come.
	shelfIdle = time.Minute
)

// ErrManyChecks says that as many checks are under way as may be.
var ErrManyChecks = errors.New("four checks of the bucket are under way: try again in a minute")

// filedObject is an object that a manifest lists.
type filedObject struct {
	*source
	object.Filed
}

// rank orders ids as their keys are ordered: by the last two digits, then by all.
func rank(id storage.ObjectID) uint64 { return bits.RotateLeft64(uint64(id), -8) }

func unrank(r uint64) storage.ObjectID { return storage.ObjectID(bits.RotateLeft64(r, 8)) }

// rankBehind is the first rank whose key lies behind another.
func rankBehind(key string, keyOf func(storage.ObjectID) string) (r uint64) {
	for hi := uint64(math.MaxUint64); r < hi; {
		if mid := r + (hi-r)/2; keyOf(unrank(mid)) > key {
			hi = mid
		} else {
			r = mid + 1
		}
	}
	return r
}

func byRank(a, b filedObject) int { return cmp.Compare(rank(a.Object), rank(b.Object)) }

func atRank(o filedObject, r uint64) int { return cmp.Compare(rank(o.Object), r) }

// filedPart is what manifests list of a stretch of keys.
type filedPart struct {
	from, to uint64        // ranks of the stretch; to is the first behind it
	objects  []filedObject // by rank
	damaged  damages
}

func (f *filedPart) find(id storage.ObjectID) (filedObject, bool) {
	i, listed := slices.BinarySearchFunc(f.objects, rank(id), atRank)
	if !listed {
		return filedObject{}, false
	}
	return f.objects[i], true
}

// has reports whether a manifest lists the object, or may do so.
func (f *filedPart) has(id storage.ObjectID) bool {
	_, listed := f.find(id)
	return listed || !f.knows(id)
}

// knows reports whether an object that is not found is in no manifest: all were read,
// for the stretch that it lies in.
func (f *filedPart) knows(id storage.ObjectID) bool {
	return guard.Check("controller.shelf-stretch", rank(id) >= f.from && rank(id) < f.to) && f.damaged.whole()
}

// shelf is what manifests list of a stretch of keys, kept between two calls of a check.
// A manifest never changes, so what was read of it is believed for as long as an image
// names it.
type shelf struct {
	next string    // with which call it is wanted again: its CheckRequest.After
	used time.Time // when it was put back

	from, to uint64 // ranks of the stretch, to is the first behind it; other objects are left out
	most     int    // maxShelved
	objects  []filedObject
	sorted   bool
	read     map[storage.ObjectID]struct{}
	damaged  damages // not read again
}

// newShelf begins with the first object whose key lies behind after.
func newShelf(after string, keyOf func(storage.ObjectID) string, most int) *shelf {
	return &shelf{from: rankBehind(after, keyOf), to: math.MaxUint64, most: most, read: map[storage.ObjectID]struct{}{}, damaged: damages{}}
}

// begin drops what a check has behind it, so that there is room for what comes. It
// reports whether anything of the stretch is left.
func (s *shelf) begin(after string, keyOf func(storage.ObjectID) string) bool {
	s.sort()
	s.from = max(s.from, rankBehind(after, keyOf))
	i, _ := slices.BinarySearchFunc(s.objects, s.from, atRank)
	s.objects = slices.Delete(s.objects, 0, i)
	return s.from < s.to
}

// fill makes the shelf one of that image: it forgets manifests that the image does not
// name, and reads those that it names besides, until enough says so. It reports whether
// all were read.
func (s *shelf) fill(ctx context.Context, k *keeper, image *metadata.Image, enough func() bool) (all bool, err error) {
	had := len(s.read)
	named := map[storage.ObjectID]struct{}{}
	var todo []source
	for of, m := range image.Manifests() {
		named[m.ID] = struct{}{}
		_, read := s.read[m.ID]
		if _, damaged := s.damaged[m.ID]; !read && !damaged {
			todo = append(todo, source{of, m})
		}
	}
	maps.DeleteFunc(s.read, func(id storage.ObjectID, _ struct{}) bool { _, is := named[id]; return !is })
	maps.DeleteFunc(s.damaged, func(id storage.ObjectID, _ damagedManifest) bool { _, is := named[id]; return !is })
	if len(s.read) < had {
		s.objects = slices.DeleteFunc(s.objects, func(o filedObject) bool { _, is := s.read[o.manifest.ID]; return !is })
	}
	all, err = k.readManifests(ctx, todo, enough, s.add, s.damaged)
	k.bury(ctx, image, s.damaged)
	return all, err
}

// add takes what a manifest lists of the stretch, which ends sooner when that is much.
func (s *shelf) add(from source, ranges []object.Filed) {
	s.read[from.manifest.ID] = struct{}{}
	for _, r := range ranges {
		if at := rank(r.Object); at < s.from || at >= s.to {
			continue
		}
		s.objects = append(s.objects, filedObject{&from, r})
		s.sorted = false
		if len(s.objects) > s.most+s.most/2 {
			s.cut()
		}
	}
}

func (s *shelf) sort() {
	if !s.sorted {
		slices.SortFunc(s.objects, byRank)
		s.sorted = true
	}
}

// cut ends the stretch with as many objects as are kept.
func (s *shelf) cut() {
	if s.sort(); len(s.objects) > s.most {
		clear(s.objects[s.most:]) // they hold on to what they are of
		s.objects = s.objects[:s.most]
		s.to = rank(s.objects[s.most-1].Object) + 1
	}
}

// end is the last key of the stretch; empty: it has all.
func (s *shelf) end(keyOf func(storage.ObjectID) string) string {
	if s.to == math.MaxUint64 {
		return ""
	}
	return keyOf(unrank(s.to - 1))
}

// part is what a part of the stretch has.
func (s *shelf) part(of stretch, keyOf func(storage.ObjectID) string) *filedPart {
	s.sort()
	from, to := max(s.from, rankBehind(of.after, keyOf)), s.to
	if of.upTo != "" {
		to = min(to, rankBehind(of.upTo, keyOf))
	}
	first, _ := slices.BinarySearchFunc(s.objects, from, atRank)
	behind, _ := slices.BinarySearchFunc(s.objects, to, atRank)
	return &filedPart{from, to, s.objects[first:max(first, behind)], s.damaged}
}

// shelves are those of all checks under way. Whoever takes one has it for itself.
type shelves struct {
	most int // objects of one; 0: maxShelved

	mu    sync.Mutex
	kept  []*shelf // guarded by mu
	taken int      // guarded by mu
}

// take returns the shelf of a check, or nil if there is none. It is to be put back.
func (s *shelves) take(now time.Time, next string) (*shelf, error) {
	s.expire(now)
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.kept, func(x *shelf) bool { return x.next == next })
	if i < 0 && s.taken+len(s.kept) >= maxShelves {
		return nil, ErrManyChecks
	}
	s.taken++
	if i < 0 {
		return nil, nil
	}
	found := s.kept[i]
	s.kept = slices.Delete(s.kept, i, i+1)
	return found, nil
}

// put gives a shelf back, for the call that is to go on at next; empty: for none.
func (s *shelves) put(now time.Time, next string, is *shelf) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taken--
	if is.next, is.used = next, now; next != "" && len(is.read)+len(is.damaged) > 0 {
		s.kept = append(s.kept, is)
	}
}

// expire drops those of checks that nobody goes on with.
func (s *shelves) expire(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kept = slices.DeleteFunc(s.kept, func(x *shelf) bool { return now.Sub(x.used) > shelfIdle })
}
