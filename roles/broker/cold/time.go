package cold

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
)

// Span is which offsets to look at, [From, Until): the log start, and where the
// log has the rest itself. Until 0: no such end.
type Span struct{ From, Until storage.Offset }

func (p Span) beyond(o storage.Offset) bool { return p.Until > 0 && o >= p.Until }

// FindTime returns the first record of a span that is not older than millis, its
// offset and timestamp. It waits for the bucket: for one index and the piece that
// this names, and the manifest before them if there is one, unless batches claim a time that none of their records has. Errors
// are those of Read, and ctx's. ErrLookAgain that comes again by a newer image,
// which still names the object, says that the object is missing.
func (r *Reader) FindTime(ctx context.Context, p Partition, span Span, millis int64) (offset storage.Offset, timestamp int64, ok bool, err error) {
	f := r.search(ctx, p, span)
	defer r.Forget(f)
	for i := range p.Filed {
		m := &p.Filed[i]
		if m.End <= span.From || m.MaxTimestamp < millis || span.beyond(m.Base) {
			continue
		}
		ranges, err := f.filed(m)
		if err != nil {
			return offset, timestamp, false, err
		}
		if o, t, ok, err := f.findTime(ranges, millis); ok || err != nil {
			return o, t, ok, err
		}
	}
	return f.findTime(p.Ranges, millis)
}

// findTime looks at ranges that follow one another.
func (f *search) findTime(ranges metadata.Ranges, millis int64) (offset storage.Offset, timestamp int64, ok bool, err error) {
	offset, timestamp = storage.NoOffset, batch.NoTimestamp
	span := f.span
	first, there := ranges.FindTime(millis)
	if !there {
		return offset, timestamp, false, nil
	}
	for e := range ranges.From(max(first.Base, span.From)) {
		if span.beyond(e.Base) {
			break
		}
		if e.MaxTimestamp < millis {
			continue
		}
		l, err := f.index(&e)
		if err != nil {
			return offset, timestamp, false, err
		}
		for i := l.Find(span.From); i < len(l.Blocks) && !span.beyond(l.Blocks[i].First); i++ {
			if l.Blocks[i].MaxTimestamp < millis {
				continue
			}
			batches, err := f.block(&e, l, i)
			if err != nil {
				return offset, timestamp, false, err
			}
			for _, b := range batches {
				if b.MaxTimestamp() < millis {
					continue
				}
				if o, t, ok := f.record(b, millis); ok {
					return o, t, true, nil
				}
			}
		}
	}
	return offset, timestamp, false, nil
}

// MaxTimestamp returns the record of a span with the largest timestamp, the first
// of them (KIP-734). It waits and fails as FindTime does, and costs as much.
func (r *Reader) MaxTimestamp(ctx context.Context, p Partition, span Span) (offset storage.Offset, timestamp int64, ok bool, err error) {
	f := r.search(ctx, p, span)
	defer r.Forget(f)
	offset, timestamp = storage.NoOffset, batch.NoTimestamp
	// What claims most is looked at first, so that little else is.
	claim, looked := batch.NoTimestamp, false
	for e := range p.Ranges.From(span.From) {
		if !span.beyond(e.Base) {
			claim = max(claim, e.MaxTimestamp)
		}
	}
	for _, m := range f.filedByClaim() {
		if !looked && claim > m.MaxTimestamp {
			looked, err = true, f.newestOf(p.Ranges, &offset, &timestamp)
		}
		if m.MaxTimestamp <= timestamp || err != nil {
			break
		}
		var ranges metadata.Ranges
		if ranges, err = f.filed(m); err == nil {
			err = f.newestOf(ranges, &offset, &timestamp)
		}
	}
	if !looked && err == nil {
		err = f.newestOf(p.Ranges, &offset, &timestamp)
	}
	if err != nil {
		return storage.NoOffset, batch.NoTimestamp, false, err
	}
	return offset, timestamp, offset != storage.NoOffset, nil
}

// filedByClaim returns the manifests with ranges in the span, those that claim the largest
// timestamps first.
func (f *search) filedByClaim() (filed []*metadata.Manifest) {
	for i := range f.p.Filed {
		if m := &f.p.Filed[i]; m.End > f.span.From && !f.span.beyond(m.Base) {
			filed = append(filed, m)
		}
	}
	slices.SortStableFunc(filed, func(a, b *metadata.Manifest) int { return cmp.Compare(b.MaxTimestamp, a.MaxTimestamp) })
	return filed
}

// newestOf looks among ranges that follow one another for a record that is newer
// than the one that is known.
func (f *search) newestOf(ranges metadata.Ranges, known *storage.Offset, knownTimestamp *int64) error {
	span := f.span
	looked := map[storage.Offset]bool{} // at ranges with these bases
	offset, timestamp := *known, *knownTimestamp
	defer func() { *known, *knownTimestamp = offset, timestamp }()
	for {
		var newest metadata.Range
		claim := timestamp
		for e := range ranges.From(span.From) {
			if span.beyond(e.Base) {
				break
			}
			if e.MaxTimestamp > claim && !looked[e.Base] {
				newest, claim = e, e.MaxTimestamp
			}
		}
		if claim == timestamp {
			return nil
		}
		looked[newest.Base] = true
		l, err := f.index(&newest)
		if err != nil {
			return err
		}
		inSpan := func(i int) int64 {
			if k := &l.Blocks[i]; k.Next > span.From && !span.beyond(k.First) {
				return k.MaxTimestamp
			}
			return batch.NoTimestamp
		}
		err = byClaim(len(l.Blocks), &timestamp, inSpan, func(i int) error {
			batches, err := f.block(&newest, l, i)
			if err != nil {
				return err
			}
			return byClaim(len(batches), &timestamp, func(i int) int64 { return batches[i].MaxTimestamp() }, func(i int) error {
				if o, t := f.newest(batches[i]); t > timestamp {
					offset, timestamp = o, t
				}
				return nil
			})
		})
		if err != nil {
			return err
		}
	}
}

// byClaim visits those of n things that claim more than best, which grows
// meanwhile, the largest claim first.
func byClaim(n int, best *int64, claim func(int) int64, visit func(int) error) error {
	visited := map[int]bool{}
	for {
		at, most := -1, *best
		for i := range n {
			if c := claim(i); c > most && !visited[i] {
				at, most = i, c
			}
		}
		if at < 0 {
			return nil
		}
		visited[at] = true
		if err := visit(at); err != nil {
			return err
		}
	}
}

// search is a reader that waits.
type search struct {
	r     *Reader
	ctx   context.Context // of the call that this is
	p     Partition
	span  Span
	woken chan struct{}
	key   key // of piece
	piece *piece
}

func (r *Reader) search(ctx context.Context, p Partition, span Span) *search {
	return &search{r: r, ctx: ctx, p: p, span: span, woken: make(chan struct{}, 1)}
}

// Wake implements [Waiter].
func (f *search) Wake() {
	select {
	case f.woken <- struct{}{}:
	default:
	}
}

// get waits for an item. It holds nothing else: each has what it needs.
func (f *search) get(w *want) (*item, error) {
	r := f.r
	r.Forget(f)
	for {
		r.mu.Lock()
		if r.closed {
			r.unlock()
			return nil, ErrClosed
		}
		// It has no ranges: nothing is read ahead for it.
		s := r.begin(Partition{ID: f.p.ID}, &Request{Reader: f})
		it, err := r.need(s, w)
		if err != nil || it.state == loaded {
			if err == nil && it.piece != nil {
				it.piece.hold() // for good: the garbage collector sees when the search is over
			}
			r.unlock()
			return it, err
		}
		s.watch(f)
		r.schedule()
		r.unlock()
		select {
		case <-f.woken:
		case <-f.ctx.Done():
			return nil, fmt.Errorf("search %s by time: %w", f.p.ID, f.ctx.Err())
		}
	}
}

// filed returns the ranges of a manifest.
func (f *search) filed(m *metadata.Manifest) (metadata.Ranges, error) {
	w := wantManifest(f.p.ID, m)
	it, err := f.get(&w)
	if err != nil {
		return metadata.Ranges{}, err
	}
	return *it.layout.filed, nil
}

func (f *search) index(e *metadata.Range) (*layout, error) {
	w := wantIndex(f.p.ID, e)
	it, err := f.get(&w)
	if err != nil {
		return nil, err
	}
	return it.layout, nil
}

// block returns the batches of a block that are in the span.
func (f *search) block(e *metadata.Range, l *layout, i int) ([]batch.Batch, error) {
	w := wantIndex(f.p.ID, e).piece(l, l.pieceOf(i))
	if f.key != w.key {
		it, err := f.get(&w)
		if err != nil {
			return nil, err
		}
		f.key, f.piece = w.key, it.piece
	}
	p, k := f.piece, &l.Blocks[i]
	var batches []batch.Batch
	for j := p.find(max(k.First, f.span.From)); j < p.len(); j++ {
		b := p.batch(j)
		if b.NextOffset() > k.Next || f.span.beyond(b.BaseOffset()) {
			break
		}
		batches = append(batches, b)
	}
	return batches, nil
}

// record returns the first record of a batch in the span that is not older than
// millis.
func (f *search) record(b batch.Batch, millis int64) (storage.Offset, int64, bool) {
	it := b.Records(0)
	for it.Next() {
		if r := it.Record(); f.has(r.Offset) && r.Timestamp >= millis {
			return r.Offset, r.Timestamp, true
		}
	}
	if it.Err() != nil {
		offset, timestamp := f.unreadable(b)
		return offset, timestamp, true
	}
	return storage.NoOffset, batch.NoTimestamp, false
}

// newest returns the record of a batch in the span with the largest timestamp.
func (f *search) newest(b batch.Batch) (storage.Offset, int64) {
	offset, timestamp := storage.NoOffset, batch.NoTimestamp
	it := b.Records(0)
	for it.Next() {
		if r := it.Record(); f.has(r.Offset) && r.Timestamp > timestamp {
			offset, timestamp = r.Offset, r.Timestamp
		}
	}
	if it.Err() != nil {
		return f.unreadable(b)
	}
	return offset, timestamp
}

func (f *search) has(o storage.Offset) bool { return o >= f.span.From && !f.span.beyond(o) }

// unreadable is what a batch counts as whose records cannot be read. Its CRC is
// right: the producer made it so. That is no reason to find nothing in the rest of
// the log.
func (f *search) unreadable(b batch.Batch) (storage.Offset, int64) {
	return max(b.BaseOffset(), f.span.From), b.MaxTimestamp()
}
