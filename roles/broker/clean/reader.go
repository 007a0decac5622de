package clean

import (
	"context"
	"fmt"
	"math"
	"sync"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/broker/tiering"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/object"
)

const (
	// largestRead is that of one request, unless one block alone is larger.
	largestRead = 8 << 20
	// readMemory is what reads that are under way, or done ahead, may hold.
	readMemory = 16 << 20
	// readsAhead is how many there are at most.
	readsAhead = 8
)

// reader reads ranges of one partition. Reads run in goroutines of their own, which
// wait for their turn and block on the bucket; each method awaits those it began.
type reader struct {
	partition storage.PartitionID
	fill      func(ctx context.Context, id storage.ObjectID, p []byte, at int64) error
	pace      *tiering.Bandwidth
}

// read does one ranged read, when its turn has come. Who begins several at once takes
// their turns first, so that they have them in order: the one that is waited for is not
// behind those that are read ahead.
func (r *reader) read(ctx context.Context, turn tiering.Turn, id storage.ObjectID, at, length int64) ([]byte, error) {
	if err := turn.Wait(ctx); err != nil {
		return nil, err
	}
	p := make([]byte, length)
	return p, r.fill(ctx, id, p, at)
}

// index reads the index of a range.
func (r *reader) index(ctx context.Context, is metadata.Range) (*object.Index, error) {
	return r.indexIn(ctx, r.pace.Take(int64(is.IndexLength)), is)
}

func (r *reader) indexIn(ctx context.Context, turn tiering.Turn, is metadata.Range) (*object.Index, error) {
	b, err := r.read(ctx, turn, is.Object, is.IndexPosition, int64(is.IndexLength))
	if err != nil {
		return nil, fmt.Errorf("read the index of [%d, %d) in object %s: %w", is.Base, is.End, is.Object, err)
	}
	return object.DecodeIndex(b, is.Object, is.Entry(r.partition))
}

// indexes reads the indexes of ranges, some at once.
func (r *reader) indexes(ctx context.Context, ranges []metadata.Range) ([]*object.Index, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	all := make([]*object.Index, len(ranges))
	room := make(chan struct{}, readsAhead)
	var under sync.WaitGroup
	for i := range ranges {
		room <- struct{}{}
		turn := r.pace.Take(int64(ranges[i].IndexLength))
		under.Go(func() {
			defer func() { <-room }()
			if ctx.Err() != nil {
				return
			}
			x, err := r.indexIn(ctx, turn, ranges[i])
			if err != nil {
				cancel(err)
			}
			all[i] = x
		})
	}
	under.Wait()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return all, nil
}

// piece is consecutive blocks of a range, read at once.
type piece struct {
	index       *object.Index
	first, last int
	position    int64
	length      int64
	done        chan struct{} // closed when data or err are there
	data        []byte
	err         error
}

// batches calls yield with the batches of indexes that end above offset from, in
// order, out of blocks that fit their CRC, until it returns an error. A batch stays
// as it is until yield returns.
func (r *reader) batches(ctx context.Context, indexes []*object.Index, from storage.Offset, yield func(batch.Batch) error) error {
	ctx, cancel := context.WithCancel(ctx)
	var under sync.WaitGroup
	defer under.Wait()
	defer cancel()
	var todo, begun []*piece
	held := int64(0)
	var opened []batch.Batch
	for {
		for len(begun) < readsAhead {
			if len(todo) == 0 {
				if len(indexes) == 0 {
					break
				}
				todo, indexes = piecesOf(indexes[0], from), indexes[1:]
				continue
			}
			p := todo[0]
			if len(begun) > 0 && held+p.length > readMemory {
				break
			}
			todo, begun = todo[1:], append(begun, p)
			held += p.length
			turn := r.pace.Take(p.length)
			under.Go(func() {
				defer close(p.done)
				p.data, p.err = r.read(ctx, turn, p.index.Object, p.position, p.length)
			})
		}
		if len(begun) == 0 {
			return nil
		}
		p := begun[0]
		<-p.done
		if p.err != nil {
			return fmt.Errorf("read [%d, %d) in object %s: %w", p.index.Base, p.index.End, p.index.Object, p.err)
		}
		for i := p.first; i <= p.last; i++ {
			k := &p.index.Blocks[i]
			at := k.Position - p.position
			var err error
			if opened, err = p.index.OpenBlock(i, p.data[at:at+int64(k.Length)], opened[:0]); err != nil {
				return err
			}
			for _, one := range opened {
				if one.NextOffset() <= from {
					continue
				}
				if err := yield(one); err != nil {
					return err
				}
			}
		}
		begun, held = begun[1:], held-p.length
	}
}

// piecesOf plans the reads of an index's blocks.
func piecesOf(x *object.Index, from storage.Offset) (pieces []*piece) {
	for _, f := range x.Plan(max(x.Base, from), object.PlanOptions{MaxBytes: math.MaxInt64, MaxFetch: largestRead}) {
		pieces = append(pieces, &piece{index: x, first: f.First, last: f.Last, position: f.Position, length: f.Length, done: make(chan struct{})})
	}
	return pieces
}
