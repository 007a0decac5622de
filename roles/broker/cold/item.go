package cold

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/bucket"
	"rustmq.dev/rustmq/storage/guard"
	"rustmq.dev/rustmq/storage/object"
)

// item is an index or a piece that streams want or hold. There is one for a key,
// whoever wants it, so that it is read once. Reader.mu guards what changes.
type item struct {
	want
	position    int64
	size        int64          // bytes to read
	first, next storage.Offset // that it covers
	piece       *piece         // once it is loaded, and referred to until it is over; of an index, want.layout is
	state       state
	charge      int64 // of the budget
	holders     []*stream
	flight      *flight   // that brings it, once it is loading
	opened      opened    // what it brought, until it lands; of the flight's goroutine alone
	loaded      time.Time // when it was
	readAhead   bool      // it was begun before a request came to it
	used        bool      // one did
}

// opened is what was read and checked.
type opened struct {
	layout *layout
	piece  *piece
}

// want says what to read.
type want struct {
	key    key
	entry  object.Entry // of an index: where it is
	layout *layout      // of a piece: the index it is from

	manifest *metadata.Manifest // of a manifest: what the catalogue says of it
}

type state uint8

// States of an item.
const (
	wanted state = iota
	loading
	loaded
	over // nobody holds it any more, or it failed
)

func wantIndex(id storage.PartitionID, of *metadata.Range) want {
	return want{key: key{of.Object, id, of.IndexCRC, indexPiece}, entry: of.Entry(id)}
}

// piece wants a piece of the range whose index this is.
func (w want) piece(l *layout, n int) want {
	w.key.piece, w.layout = int32(n), l
	return w
}

// Pools of memory.
const (
	poolData = iota
	poolIndexes
)

func (it *item) pool() int {
	if it.key.isIndex() {
		return poolIndexes
	}
	return poolData
}

func newItem(w *want) *item {
	it := &item{want: *w}
	if m := w.manifest; m != nil {
		it.size, it.first, it.next = m.Size(), m.Base, m.End
	} else if w.key.isIndex() {
		it.position, it.size = w.entry.Index.Position, int64(w.entry.Index.Length)
		it.first, it.next = w.entry.Base, w.entry.End
	} else {
		it.position, it.size, it.first, it.next = w.layout.place(int(w.key.piece))
	}
	return it
}

// find returns an item that is wanted or held by anybody, or kept in a cache, or
// else a new one. A kept one costs nothing: its memory is the cache's. Who does not
// hold what it found here says so (pass).
func (r *Reader) find(w *want) (it *item, here bool) {
	if it = r.items[w.key]; it != nil {
		return it, it.state != wanted
	}
	it = newItem(w)
	if w.key.isIndex() {
		it.layout, here = r.indexes.Get(w.key)
	} else {
		if it.piece, here = r.blocks.Get(w.key); here {
			if here = it.piece.hold(); !here { // it was evicted just now
				it.piece = nil
			}
		}
	}
	if here {
		it.state = loaded
	}
	return it, here
}

// pass lets go of an item that was found and is of no use, if nobody holds it.
func (it *item) pass() {
	if len(it.holders) == 0 && it.state == loaded && it.piece != nil {
		it.piece.release()
	}
}

// need returns what a request came to. Unless it is loaded, it is being brought,
// and the stream waits for it. An error is told once.
func (r *Reader) need(s *stream, w *want) (*item, error) {
	if s.fails(w) {
		return nil, r.tell(s)
	}
	it, here := r.find(w)
	r.hold(s, it)
	it.used = true
	if !w.key.isIndex() {
		s.enter(it, here, &r.o)
	}
	if it.state == loaded {
		if s.waits == it {
			s.waits = nil
		}
		return it, nil
	}
	s.waits = it
	if it.state == wanted {
		r.demand(s)
	}
	return it, nil
}

// fails reports whether it is known that something could not be read.
func (s *stream) fails(w *want) bool { return s.failure != nil && s.failed == w.key }

// tell returns why it could not be. That something is not found is a reason to
// look at the catalogue first: what it names no longer may be gone.
func (r *Reader) tell(s *stream) error {
	err := s.failure
	s.failure = nil
	if !errors.Is(err, bucket.ErrNotFound) {
		return err
	}
	again := s.missing == s.failed.object
	s.missing = s.failed.object
	if !guard.Check("cold.look-again", again) {
		return fmt.Errorf("%w: %w", ErrLookAgain, err)
	}
	return &MissingError{Partition: s.id, Object: s.missing, Key: r.o.Key(s.missing), Err: err}
}

// hold gives a stream its part of an item.
func (r *Reader) hold(s *stream, it *item) {
	if slices.Contains(it.holders, s) {
		return
	}
	if len(it.holders) == 0 {
		r.items[it.key] = it
	} else if it.state == loading {
		r.stats.Shared++
	}
	it.holders = append(it.holders, s)
	s.items = append(s.items, it)
	s.consumer.held += it.charge
}

// drop takes it away. What nobody holds is let go of: a load is given up.
func (r *Reader) drop(s *stream, it *item) {
	i := slices.Index(it.holders, s)
	it.holders = slices.Delete(it.holders, i, i+1)
	s.items = slices.DeleteFunc(s.items, func(x *item) bool { return x == it })
	s.consumer.held -= it.charge
	if s.waits == it {
		s.waits = nil
	}
	if len(it.holders) > 0 {
		return
	}
	delete(r.items, it.key)
	if it.readAhead && !it.used {
		r.stats.Wasted++
	}
	if it.state == loading {
		it.flight.leave() // its memory is in use until it lands
	} else {
		r.recharge(it, 0)
		if it.state == loaded && it.piece != nil {
			it.piece.release()
		}
	}
	it.state = over
}

// recharge sets what an item costs.
func (r *Reader) recharge(it *item, charge int64) {
	r.used[it.pool()] += charge - it.charge
	for _, s := range it.holders {
		s.consumer.held += charge - it.charge
	}
	it.charge = charge
	r.stats.MostHeld = max(r.stats.MostHeld, r.used[0]+r.used[1])
}

// fail tells those who wait for an item why they will not get it. Who only read
// ahead comes to it later, and tries anew.
func (r *Reader) fail(it *item, err error) {
	for _, s := range slices.Clone(it.holders) {
		if s.waits == it {
			s.failed, s.failure = it.key, err
			r.wake(s)
		}
		s.retreat(it)
		it.state = over // so that drop does not cancel what has ended
		r.drop(s, it)
	}
}
