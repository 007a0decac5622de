package cold

import (
	"context"
	"errors"
	"fmt"
	"io"
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
	piece       *piece         // once it is loaded; of an index, want.layout is
	state       state
	charge      int64 // of the budget
	holders     []*stream
	cancel      context.CancelFunc // while it is loading
	loaded      time.Time          // when it was
	readAhead   bool               // it was begun before a request came to it
	used        bool               // one did
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
// else a new one. A kept one costs nothing: its memory is the cache's.
func (r *Reader) find(w *want) (it *item, here bool) {
	if it = r.items[w.key]; it != nil {
		return it, it.state != wanted
	}
	it = newItem(w)
	if w.key.isIndex() {
		it.layout, here = r.indexes.Get(w.key)
	} else {
		it.piece, here = r.blocks.Get(w.key)
	}
	if here {
		it.state = loaded
	}
	return it, here
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
		it.cancel() // its memory is in use until the load ends
	} else {
		r.recharge(it, 0)
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

// start begins to load an item. There is room for it.
func (r *Reader) start(it *item) {
	ctx, cancel := context.WithCancel(r.ctx)
	it.state, it.cancel = loading, cancel
	r.recharge(it, r.cost(it))
	r.running++
	r.stats.MostParallel = max(r.stats.MostParallel, r.running)
	if it.key.isIndex() {
		r.stats.IndexLoads++
	} else {
		r.stats.PieceLoads++
		if it.readAhead = !it.used; it.readAhead {
			r.stats.Ahead++
		}
	}
	r.loads.Add(1)
	// Blocks on the bucket.
	go func() {
		defer r.loads.Done()
		defer cancel()
		l, p, err := r.load(ctx, it)
		r.finish(it, l, p, err)
	}()
}

// load reads an item and checks it. What is damaged is read once more: it may have
// been damaged on its way. The item is not changed.
func (r *Reader) load(ctx context.Context, it *item) (*layout, *piece, error) {
	name := r.o.Key(it.key.object)
	buf := make([]byte, it.size)
	l, p, err := r.loadOnce(ctx, name, it, buf)
	if errors.As(err, new(*object.CorruptionError)) && ctx.Err() == nil {
		var again error
		if l, p, again = r.loadOnce(ctx, name, it, buf); again == nil {
			r.o.Log.Warn("what came from the bucket was damaged, and right when it was read again", "key", name, "error", err)
		}
		err = again
	}
	if err != nil {
		return nil, nil, fmt.Errorf("read [%d, %d) of %s from %s: %w", it.first, it.next, it.key.partition, name, err)
	}
	if it.key.isIndex() {
		r.indexes.Put(it.key, l)
	} else {
		r.blocks.Put(it.key, p)
	}
	return l, p, nil
}

func (r *Reader) loadOnce(ctx context.Context, name string, it *item, buf []byte) (*layout, *piece, error) {
	err := r.o.Bucket.ReadAt(ctx, name, buf, it.position)
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF) && !bucket.IsTemporary(err):
		return nil, nil, &object.CorruptionError{Object: it.key.object, Position: it.position, Reason: "it is cut off: " + err.Error()}
	case err != nil:
		return nil, nil, err
	}
	if it.manifest != nil {
		l, err := it.decodeManifest(buf)
		return l, nil, err
	}
	if !it.key.isIndex() {
		p, err := it.layout.open(int(it.key.piece), buf)
		return nil, p, err
	}
	x, err := object.DecodeIndex(buf, it.key.object, it.entry)
	if err != nil {
		return nil, nil, err
	}
	x.Producers = nil // nobody here reads them, and they hold all of buf
	return newLayout(x, r.o.PieceSize), nil, nil
}

// finish takes note of what a load brought, and wakes who waited for it.
func (r *Reader) finish(it *item, l *layout, p *piece, err error) {
	r.mu.Lock()
	defer r.unlock()
	r.running--
	switch {
	case it.state == over:
		r.recharge(it, 0)
	case err != nil:
		r.stats.Errors++
		r.fail(it, err)
	default:
		it.state, it.loaded = loaded, r.o.Now()
		if it.key.isIndex() {
			it.layout = l
			r.recharge(it, min(l.memory(), it.charge))
		} else {
			it.piece = p
			r.recharge(it, min(p.memory(), it.charge))
		}
		for _, s := range it.holders {
			if s.missing == it.key.object {
				s.missing = 0
			}
			if s.waits == it {
				r.wake(s)
			}
			r.hunger(s)
		}
	}
	r.schedule()
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
