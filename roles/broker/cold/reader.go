package cold

import (
	"container/list"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/cache"
	"rustmq.dev/rustmq/storage/guard"
	"rustmq.dev/rustmq/storage/object"
)

// Waiter is told when a read is worth trying again. Wake must not block; it is
// called without any lock of the reader, from any goroutine, and may be called
// once more than it was asked for.
type Waiter interface{ Wake() }

// Partition is where to read.
type Partition struct {
	ID     storage.PartitionID
	Ranges metadata.Ranges     // of the newest image
	Filed  []metadata.Manifest // of it too: what lies before Ranges
}

// Request says what to read.
type Request struct {
	// Reader is who reads, a connection say; it must be comparable. Memory is
	// divided between readers, and reading ahead follows each of them.
	Reader   any
	Offset   storage.Offset // the first batch is the one this lies in, or the next
	Until    storage.Offset // batches from here on are read elsewhere; 0: no such end
	MaxBytes int
	MinOne   bool // the first batch is read even if it is larger than MaxBytes
	// Markers asks for the aborted transactions too, of those whose marker lies
	// before it; who asks knows the others. 0: they are not wanted.
	Markers storage.Offset
}

// Result is whole batches of one partition, in order of offset. Their bytes are
// shared with other readers and must not be changed; they stay until Release.
type Result struct {
	Batches [][]byte
	Bytes   int
	// Next is where to read on: behind the batches, and behind a hole. With
	// nothing pending and no batches, a Next beyond the request's offset says that
	// nothing lies between.
	Next storage.Offset
	// Aborted are the transactions that were aborted and have records among the
	// batches, or before.
	Aborted []object.Aborted
	// Pending: there is more, it is being brought, and the waiter will be woken.
	Pending bool
	// Limited: there is more, and it comes with the next request only.
	Limited bool
	// Failing: of what comes next it is known that it cannot be read; the next request
	// is told why. It is Limited, too.
	Failing bool

	pieces []*piece // of the batches, referred to
}

// Release says that nobody looks at the batches any more: their memory is used again.
// It is called once at most, for a result and its copies together. Without it, the
// garbage collector has them.
func (r *Result) Release() {
	for _, p := range r.pieces {
		p.release()
	}
	r.pieces, r.Batches = nil, nil
}

// Reader reads records that only the bucket has. Its methods are safe for
// concurrent use.
type Reader struct {
	o       Options
	indexes *cache.Cache[key, *layout]
	blocks  *cache.Cache[key, *piece]
	buffers *buffers
	ctx     context.Context // of loads
	cancel  context.CancelFunc
	loads   sync.WaitGroup

	mu        sync.Mutex // guards what follows
	closed    bool
	consumers map[any]*consumer
	streams   *list.List // of *stream, the one read longest ago in front
	items     map[key]*item
	demanding []*consumer // that have demands, in the order of their turns
	hungry    []*consumer // that have hungry streams, in the order of their turns
	used      [2]int64    // charged for items, by pool: <= limit
	limit     [2]int64    // adds up to ReadAhead; set by New
	running   int         // flights
	woken     []Waiter    // to be woken once mu is given back
	timer     *time.Timer // of sweep
	armed     bool
	retry     *time.Timer // of schedule, while memory is wanted that may be given up later
	stats     Stats
}

// Stats counts what happened since New, and what is so now.
type Stats struct {
	Requests               uint64 // of the bucket
	IndexLoads, PieceLoads uint64 // what they are for: one, or several pieces
	Ahead                  uint64 // of them, pieces that no request had come to
	Shared                 uint64 // loads that a further stream joined
	Wasted                 uint64 // pieces read ahead that no request ever came to
	Reclaimed              uint64 // indexes and pieces given up for those who waited
	Sent                   uint64 // indexes and pieces that streams let go of once they were sent
	Errors                 uint64 // loads that failed
	Streams, Loading       int
	Held, MostHeld         int64 // bytes of streams and loads, out of Options.ReadAhead
	MostParallel           int
	Recycled               uint64 // pieces that were read into memory of earlier ones
	FreeBytes              int64  // of memory that waits for pieces
	Indexes, Blocks        cache.Stats
	IndexBytes, BlockBytes int64 // kept in the caches
}

// New makes a reader. It starts no goroutine.
func New(o Options) (*Reader, error) {
	if err := o.Validate(); err != nil {
		return nil, fmt.Errorf("make a reader of the bucket: %w", err)
	}
	r := &Reader{o: o.withDefaults(), consumers: map[any]*consumer{}, streams: list.New(), items: map[key]*item{}}
	var err error
	r.indexes, err = cache.New(cache.Options[key, *layout]{
		Policy: r.o.Policy, Capacity: r.o.IndexCache, TTL: r.o.TTL, Now: r.o.Now, Typical: 8 << 10,
		Weigh: func(_ key, l *layout) uint32 { return weigh(l.memory()) },
	})
	if err == nil {
		r.blocks, err = cache.New(cache.Options[key, *piece]{
			Policy: r.o.Policy, Capacity: r.o.BlockCache, TTL: r.o.TTL, Now: r.o.Now, Typical: int64(r.o.PieceSize),
			Weigh:   func(_ key, p *piece) uint32 { return weigh(p.memory()) },
			OnEvict: func(_ key, p *piece, _ cache.Reason) { p.release() },
		})
	}
	if err != nil {
		return nil, fmt.Errorf("make a reader of the bucket: %w", err)
	}
	r.limit[poolIndexes] = max(1, r.o.ReadAhead/indexPart)
	r.limit[poolData] = max(1, r.o.ReadAhead-r.limit[poolIndexes])
	r.buffers = &buffers{piece: int64(r.o.PieceSize), limit: r.o.ReadAhead / freeShare, poison: r.o.Poison}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	return r, nil
}

// Close ends all loads and waits for them. Who waits is woken and gets ErrClosed.
func (r *Reader) Close() error {
	r.mu.Lock()
	r.closed = true
	r.cancel()
	for r.streams.Len() > 0 {
		r.end(r.streams.Front().Value.(*stream))
	}
	r.demanding, r.hungry = nil, nil
	for _, timer := range []*time.Timer{r.timer, r.retry} {
		if timer != nil {
			timer.Stop()
		}
	}
	r.unlock()
	r.loads.Wait()
	return nil
}

// unlock gives back mu, and wakes who is to be woken.
func (r *Reader) unlock() {
	woken := r.woken
	r.woken = nil
	r.mu.Unlock()
	for _, w := range woken {
		w.Wake()
	}
}

// Read returns what memory has from an offset on, and has the rest brought. It
// does not block. An error is one of what the request came to first: of the
// bucket, wrapped; ErrLookAgain; *MissingError; *object.CorruptionError;
// *object.UnknownFormatError; ErrClosed. It is told once: who asks again has it
// tried again.
func (r *Reader) Read(p Partition, q Request, w Waiter) (Result, error) {
	r.mu.Lock()
	if r.closed {
		r.unlock()
		return Result{}, ErrClosed
	}
	s := r.begin(p, &q)
	k := walk{r: r, s: s, q: &q, out: Result{Next: q.Offset}}
	err := k.walk()
	if err == nil && q.Markers > 0 && k.out.Bytes > 0 {
		var whole bool
		if whole, err = k.aborted(); !whole {
			k.withhold()
		}
	}
	for _, it := range k.manifests {
		if slices.Contains(s.items, it) { // else it was reclaimed since
			r.drop(s, it)
		}
	}
	s.end = max(s.end, k.out.Next)
	if k.out.Bytes == 0 {
		// What was looked through once need not be held to do so again.
		s.hole.Until = max(s.hole.Until, k.out.Next)
	}
	if k.out.Pending {
		s.watch(w)
	}
	r.hunger(s)
	r.schedule()
	r.unlock()
	if err != nil {
		k.giveBack()
		return Result{}, err
	}
	k.gather()
	return k.out, nil
}

// Sent says that what was given out of a partition before an offset is on its way to
// the reader, who is not expected to ask for it again: its stream lets go of it, and
// reads ahead into the memory. What the caller still refers to stays.
func (r *Reader) Sent(reader any, id storage.PartitionID, before storage.Offset) {
	r.mu.Lock()
	defer r.unlock()
	c := r.consumers[reader]
	if c == nil {
		return
	}
	for _, s := range c.streams[id] {
		if s.offset <= before && before <= s.end {
			held := len(s.items)
			r.leave(s, before)
			r.stats.Sent += uint64(held - len(s.items))
			r.hunger(s)
		}
	}
	r.schedule()
}

// Unwatch forgets a waiter of a partition; it may still be woken by a call that
// is under way. What it waited for is still brought: its reader may ask again.
func (r *Reader) Unwatch(reader any, id storage.PartitionID, w Waiter) {
	r.mu.Lock()
	defer r.unlock()
	c := r.consumers[reader]
	if c == nil {
		return
	}
	for _, s := range c.streams[id] {
		s.waiters = slices.DeleteFunc(s.waiters, func(x Waiter) bool { return x == w })
	}
}

// Forget gives up all that is read for a reader, which is gone.
func (r *Reader) Forget(reader any) {
	r.mu.Lock()
	defer r.unlock()
	c := r.consumers[reader]
	if c == nil {
		return
	}
	for _, streams := range c.streams {
		for _, s := range slices.Clone(streams) {
			r.end(s)
		}
	}
	r.schedule()
}

// Maintain removes from the caches what is expired. The owner calls it every now
// and then.
func (r *Reader) Maintain(now time.Time) {
	r.indexes.Maintain(now)
	r.blocks.Maintain(now)
	if r.Stats().Streams == 0 {
		r.buffers.clear()
	}
}

// Stats returns the counts.
func (r *Reader) Stats() Stats {
	r.mu.Lock()
	s := r.stats
	s.Streams, s.Loading, s.Held = r.streams.Len(), r.running, r.used[0]+r.used[1]
	r.mu.Unlock()
	s.Indexes, s.Blocks = r.indexes.Stats(), r.blocks.Stats()
	s.Recycled, s.FreeBytes = r.buffers.counts()
	s.IndexBytes, s.BlockBytes = r.indexes.Weight(), r.blocks.Weight()
	return s
}

// walk is one Read on its way through the ranges.
type walk struct {
	r    *Reader
	s    *stream
	q    *Request
	out  Result
	runs []run
	n    int // batches of all runs
	left int // bytes that it may still take

	manifests []*item // that it came to, and has no more use for
}

// run is consecutive batches of a piece.
type run struct {
	piece    *piece
	from, to int
}

// walk goes on until the request is satisfied, or something is not here.
func (k *walk) walk() error {
	limit := max(k.r.o.ReadAhead/readShare, int64(k.r.o.PieceSize))
	k.left = int(min(int64(max(k.q.MaxBytes, 0)), limit))
	k.to(k.s.hole.Until)
	if len(k.s.filed) == 0 {
		_, err := k.through()
		return err
	}
	for {
		if here, err := k.enter(); !here {
			return err
		}
		if more, err := k.through(); err != nil || !more || k.s.by == 0 {
			return err
		}
		if k.out.Bytes > 0 {
			k.out.Limited = true
			return nil
		}
	}
}

// through walks the ranges that the stream reads by. more: to the end of them, and
// on from there.
func (k *walk) through() (more bool, err error) {
	for e := range k.s.ranges.From(k.out.Next) {
		if !k.to(e.Base) {
			return false, nil
		}
		w := wantIndex(k.s.id, &e)
		l := k.s.layoutOf(&w)
		if l == nil {
			x, err := k.get(&w)
			if x == nil {
				return false, err
			}
			l = x.layout
		}
		for i := l.Find(k.out.Next); i < len(l.Blocks); {
			if !k.to(l.Blocks[i].First) {
				return false, nil
			}
			if k.left <= 0 && (k.out.Bytes > 0 || !k.q.MinOne) {
				k.out.Limited = true
				return false, nil
			}
			n := l.pieceOf(i)
			of := w.piece(l, n)
			it, err := k.get(&of)
			if it == nil {
				return false, err
			}
			if whole := k.take(it.piece); !whole {
				return false, nil
			}
			_, i = l.blocks(n)
		}
		if !k.to(e.End) {
			return false, nil
		}
	}
	return true, nil
}

// to moves on to an offset: nothing lies before it. false: it is where to stop.
func (k *walk) to(o storage.Offset) bool {
	if !k.s.beyond(o) {
		k.out.Next = max(k.out.Next, o)
		return !k.s.beyond(k.out.Next)
	}
	k.out.Next = max(k.out.Next, k.s.until)
	return false
}

// get returns what the walk came to; nil ends the walk.
func (k *walk) get(w *want) (*item, error) {
	if k.out.Bytes > 0 && k.s.fails(w) {
		k.out.Limited, k.out.Failing = true, true
		return nil, nil
	}
	it, err := k.r.need(k.s, w)
	if err != nil {
		return nil, err
	}
	if it.state != loaded {
		k.out.Pending = true
		return nil, nil
	}
	return it, nil
}

// take takes batches of a piece. whole: all that it has from here on.
func (k *walk) take(p *piece) (whole bool) {
	from := p.find(k.out.Next)
	end := p.len()
	if k.s.until > 0 && !guard.Check("cold.until", false) {
		end = max(from, p.before(k.s.until))
	}
	to := p.within(from, end, k.left)
	if to == from && from < end && k.out.Bytes == 0 && k.q.MinOne {
		to++
	}
	if to > from {
		p.hold() // for the result
		k.runs = append(k.runs, run{p, from, to})
		bytes := int(p.starts[to] - p.starts[from])
		k.n += to - from
		k.out.Bytes += bytes
		k.left -= bytes
		k.out.Next = p.batch(to - 1).NextOffset()
	}
	switch {
	case to < end:
		k.out.Limited = true
		return false
	case end < p.len():
		k.to(k.s.until)
		return false
	}
	return true
}

// giveBack lets go of the batches that were found: they are not given out.
func (k *walk) giveBack() {
	for _, of := range k.runs {
		of.piece.release()
	}
}

// gather lists the batches. Nothing that it reads changes any more.
func (k *walk) gather() {
	if k.n == 0 {
		return
	}
	k.out.Batches, k.out.pieces = make([][]byte, 0, k.n), make([]*piece, 0, len(k.runs))
	for _, of := range k.runs {
		k.out.pieces = append(k.out.pieces, of.piece)
		for i := of.from; i < of.to; i++ {
			k.out.Batches = append(k.out.Batches, of.piece.batch(i))
		}
	}
}
