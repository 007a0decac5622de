package compact

import (
	"container/list"
	"sync"

	"rustmq.dev/rustmq/storage"
)

// shelf keeps what was read of the indexes of shared objects for the jobs to come:
// each of them takes one partition, or a few, out of the same objects. It holds one
// piece of an object, and of all objects up to capacity bytes, those longest unused
// the first to go. Jobs that run at once may each read the same. What comes from it is
// no more trusted than what comes from the bucket: who takes an index decodes it
// against the catalogue.
//
// Its methods are safe for concurrent use.
type shelf struct {
	capacity int64

	mu   sync.Mutex
	held int64                              // guarded by mu; <= capacity
	kept map[storage.ObjectID]*list.Element // guarded by mu; of *kept
	used *list.List                         // guarded by mu; the last used in front
}

// kept is part of an object.
type kept struct {
	read
	data []byte // of read, or nil where only requests are counted
}

func newShelf(capacity int64) *shelf {
	return &shelf{capacity: capacity, kept: map[storage.ObjectID]*list.Element{}, used: list.New()}
}

// find returns what is kept of the object, if the index lies in it, and where there.
func (s *shelf) find(is *source) (data []byte, at int64, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.kept[is.Object]
	if e == nil {
		return nil, 0, false
	}
	k := e.Value.(*kept)
	if is.IndexPosition < k.position || is.IndexPosition+int64(is.IndexLength) > k.end() {
		return nil, 0, false
	}
	s.used.MoveToFront(e)
	return k.data, is.IndexPosition - k.position, true
}

// keep takes what r gave in the place of what there is of the object. Nobody changes
// data any more.
func (s *shelf) keep(r *read, data []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.remove(r.object)
	if r.length > s.capacity {
		return
	}
	s.kept[r.object] = s.used.PushFront(&kept{*r, data})
	for s.held += r.length; s.held > s.capacity; {
		s.remove(s.used.Back().Value.(*kept).object)
	}
}

// retain forgets the objects that are not among those given.
func (s *shelf) retain(mixed map[storage.ObjectID]*mixedObject) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id := range s.kept {
		if mixed[id] == nil {
			s.remove(id)
		}
	}
}

// remove is called with mu held.
func (s *shelf) remove(id storage.ObjectID) {
	if e := s.kept[id]; e != nil {
		s.held -= s.used.Remove(e).(*kept).length
		delete(s.kept, id)
	}
}
