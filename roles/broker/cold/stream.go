package cold

import (
	"cmp"
	"container/list"
	"slices"
	"time"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/guard"
)

// consumer is who reads: memory is shared out between consumers. Reader.mu guards
// all of it.
type consumer struct {
	id      any
	streams map[storage.PartitionID][]*stream
	reading int   // streams
	held    int64 // charged for what its streams hold

	demands   []*stream // whose next read waits for an item to be begun
	demanding bool      // it is in Reader.demanding
	hungry    []*stream // that may read further ahead
	waiting   bool      // it is in Reader.hungry
}

// stream is one consumer's reading on in one partition. Reader.mu guards it.
type stream struct {
	consumer *consumer
	id       storage.PartitionID
	filed    []metadata.Manifest // of the last request
	image    metadata.Ranges     // of the last request
	ranges   metadata.Ranges     // that it reads by: the image's, or some of a manifest
	by       storage.ObjectID    // the manifest; 0: the image
	until    storage.Offset      // of the last request
	offset   storage.Offset      // of the last request
	end      storage.Offset      // up to where one was answered
	hole     Span                // From a request's offset on, nothing lies before Until
	read     time.Time           // the last request
	place    *list.Element       // in Reader.streams
	gone     bool
	aborts   aborts

	items   []*item
	waiters []Waiter
	waits   *item // what the last read wanted, until the next has got it
	queued  bool  // in consumer.demands

	failed  key              // what could not be read
	failure error            // why: to be told once
	missing storage.ObjectID // the bucket did not have it, and the caller was told to look again; 0: none

	// Reading ahead. The front is the last piece that a request came to; what lies
	// between its end and the cursor was read ahead, or is being.
	front    storage.Offset // the first of its offsets; NoOffset: none yet
	cursor   storage.Offset
	distance int64          // bytes from the front's end to the cursor
	window   int64          // bytes that distance may come to
	indexed  storage.Offset // indexes of ranges up to here were asked for
	hungry   bool           // in consumer.hungry
}

// begin finds the stream that a request goes on with, or makes one.
func (r *Reader) begin(p Partition, q *Request) *stream {
	c := r.consumers[q.Reader]
	if c == nil {
		c = &consumer{id: q.Reader, streams: map[storage.PartitionID][]*stream{}}
		r.consumers[q.Reader] = c
	}
	now := r.o.Now()
	of := c.streams[p.ID]
	i := slices.IndexFunc(of, func(s *stream) bool { return s.offset <= q.Offset && q.Offset <= s.end })
	var s *stream
	if i >= 0 {
		s = of[i]
		r.streams.MoveToBack(s.place)
	} else {
		if len(of) >= streamsEach {
			r.end(slices.MinFunc(of, leastMissed))
		}
		s = &stream{consumer: c, id: p.ID, end: q.Offset, front: storage.NoOffset}
		s.place = r.streams.PushBack(s)
		c.streams[p.ID] = append(c.streams[p.ID], s)
		c.reading++
		r.arm(now)
	}
	if !guard.Check("cold.aborts-filed", sameManifests(s.filed, p.Filed)) {
		s.aborts = aborts{from: q.Offset, next: q.Offset} // what was filed may have been rewritten before
	}
	s.filed, s.image, s.until, s.offset, s.read = p.Filed, p.Ranges, q.Until, q.Offset, now
	if len(p.Filed) == 0 {
		s.ranges, s.by = p.Ranges, 0
	}
	if q.Offset < s.hole.From || q.Offset >= s.hole.Until {
		s.hole = Span{q.Offset, q.Offset}
	}
	r.leave(s, s.hole.Until)
	return s
}

// leastMissed orders streams: first those that nobody waits for, and of them what
// was read longest ago.
func leastMissed(a, b *stream) int {
	return cmp.Or(cmp.Compare(min(len(a.waiters), 1), min(len(b.waiters), 1)), a.read.Compare(b.read))
}

// end gives up a stream and all it holds. Who waits for it has to ask again.
func (r *Reader) end(s *stream) {
	s.gone = true
	r.wake(s)
	for len(s.items) > 0 {
		r.drop(s, s.items[len(s.items)-1])
	}
	r.streams.Remove(s.place)
	c := s.consumer
	c.reading--
	of := c.streams[s.id]
	if of = slices.DeleteFunc(of, func(x *stream) bool { return x == s }); len(of) > 0 {
		c.streams[s.id] = of
		return
	}
	if delete(c.streams, s.id); len(c.streams) == 0 {
		delete(r.consumers, c.id)
	}
}

// enter says that a request came to a piece. here: it was read ahead, or kept, or
// shared; what lies behind it then is likely to be, too.
func (s *stream) enter(it *item, here bool, o *Options) {
	if it.first <= s.front {
		return
	}
	if s.front != storage.NoOffset {
		s.window = min(max(2*s.window, int64(o.PieceSize)), o.MaxReadAhead)
	}
	s.front = it.first
	if here && it.next <= s.cursor {
		s.distance = max(0, s.distance-it.size)
		return
	}
	s.cursor, s.distance = it.next, 0
}

// request is how many bytes the stream reads ahead by one request, or one piece if that
// is more: a part of its window and of what its consumer has for each of its streams,
// so that there are several under way, and some for every stream.
func (r *Reader) request(s *stream) int64 {
	each := r.share() / int64(max(1, s.consumer.reading))
	return min(int64(r.o.RequestSize), s.window/requestShare, each/requestsEach)
}

// sated reports whether the stream is far enough ahead: what is left of its window is
// not worth a request.
func (r *Reader) sated(s *stream) bool {
	return s.window == 0 || s.distance > s.window-max(1, r.request(s))
}

// leave lets go of what a stream holds of before an offset.
func (r *Reader) leave(s *stream, before storage.Offset) {
	for i := len(s.items) - 1; i >= 0; i-- {
		if it := s.items[i]; it.next <= before {
			r.drop(s, it)
		}
	}
}

// retreat narrows the window: an item went wrong, or its memory was needed. If it
// was read ahead, that ends before it.
func (s *stream) retreat(it *item) {
	switch {
	case it.key.isIndex():
		s.indexed = min(s.indexed, it.first)
		s.window = 0
		return
	case !s.ahead(it):
		s.window = 0
		return
	case it.first >= s.cursor:
		return
	}
	s.cursor, s.distance = it.first, 0
	for _, held := range s.items {
		if s.ahead(held) && held.first < it.first {
			s.distance += held.size
		}
	}
	s.window = s.distance
}

// layoutOf returns the index that the stream wants or holds a piece by; nil: it has
// none. The index itself may have been given up for others since.
func (s *stream) layoutOf(index *want) *layout {
	for _, it := range s.items {
		of := it.key
		of.piece = indexPiece
		if of == index.key && !it.key.isIndex() {
			return it.layout
		}
	}
	return nil
}

// ahead reports whether an item is data that no request came to yet.
func (s *stream) ahead(it *item) bool { return !it.key.isIndex() && it.first > s.front }

// watch registers a waiter for the next news of the stream.
func (s *stream) watch(w Waiter) {
	if w != nil && !slices.Contains(s.waiters, w) {
		s.waiters = append(s.waiters, w)
	}
}

// wake has the waiters of a stream woken, once Reader.mu is given back.
func (r *Reader) wake(s *stream) {
	r.woken = append(r.woken, s.waiters...)
	s.waiters = nil
}

// arm sets the timer for the stream that was read longest ago.
func (r *Reader) arm(now time.Time) {
	oldest := r.streams.Front()
	if oldest == nil || r.armed || r.closed {
		return
	}
	r.armed = true
	left := max(oldest.Value.(*stream).read.Add(idle).Sub(now), time.Millisecond)
	if r.timer == nil {
		r.timer = time.AfterFunc(left, r.sweep)
	} else {
		r.timer.Reset(left)
	}
}

// sweep ends the streams that nobody reads or waits for.
func (r *Reader) sweep() {
	r.mu.Lock()
	defer r.unlock()
	r.armed = false
	now := r.o.Now()
	for {
		oldest := r.streams.Front()
		if oldest == nil {
			break
		}
		s := oldest.Value.(*stream)
		if now.Sub(s.read) < idle {
			break
		}
		if len(s.waiters) > 0 {
			s.read = now
			r.streams.MoveToBack(oldest)
			continue
		}
		r.end(s)
	}
	r.arm(now)
	r.schedule()
}
