package cold

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"

	"rustmq.dev/rustmq/storage/bucket"
	"rustmq.dev/rustmq/storage/object"
)

// flight is one request of the bucket: for an index, a manifest or a piece, or for
// several pieces of a range that lie one behind the other. Each is an item of its
// own, which arrives when its bytes are here, while those behind it are on their way.
type flight struct {
	items  []*item            // not changed once it has begun
	size   int64              // bytes of them
	wanted int                // of them, those that are loading and that somebody holds; guarded by Reader.mu
	cancel context.CancelFunc // when it is none
}

// board adds an item, which there is room for, to a flight that has not begun.
func (r *Reader) board(f *flight, it *item) {
	f.items = append(f.items, it)
	f.size += it.size
	f.wanted++
	it.state, it.flight = loading, f
	r.recharge(it, r.cost(it))
	if it.key.isIndex() {
		r.stats.IndexLoads++
		return
	}
	r.stats.PieceLoads++
	if it.readAhead = !it.used; it.readAhead {
		r.stats.Ahead++
	}
}

// leave says that an item of it has landed, or nobody wants it any more.
func (f *flight) leave() {
	if f.wanted--; f.wanted == 0 {
		f.cancel()
	}
}

// launch begins a flight. There is a slot for it.
func (r *Reader) launch(f *flight) {
	ctx, cancel := context.WithCancel(r.ctx)
	f.cancel = cancel
	r.running++
	r.stats.Requests++
	if r.o.Pace != nil {
		r.o.Pace.Take(f.size)
	}
	r.stats.MostParallel = max(r.stats.MostParallel, r.running)
	r.loads.Add(1)
	// Blocks on the bucket.
	go func() {
		defer r.loads.Done()
		defer cancel()
		r.fly(ctx, f)
		r.mu.Lock()
		defer r.unlock()
		r.running--
		r.schedule()
	}()
}

// fly reads the items of a flight and checks them, each as it arrives. What is damaged
// is read once more, alone: it may have been damaged on its way.
func (r *Reader) fly(ctx context.Context, f *flight) {
	buffers, failed := make([][]byte, len(f.items)), make([]error, len(f.items))
	for i, it := range f.items {
		if it.key.isIndex() {
			buffers[i] = make([]byte, it.size)
		} else {
			buffers[i] = r.buffers.get(it.size)
		}
	}
	first, arrived := f.items[0], 0
	name := r.o.Key(first.key.object)
	err := r.o.Bucket.ReadParts(ctx, name, buffers, first.position, func(i int) {
		arrived = i + 1
		if failed[i] = r.open(f.items[i], buffers[i]); failed[i] == nil {
			buffers[i] = nil // it is the piece's, which may be dropped before all are here
			r.land(f.items[i], nil)
		}
		// What came was read and checked, and more may be there: who produces, or reads the
		// tail, is not to wait until it is not.
		runtime.Gosched()
	})
	for i := arrived; i < len(f.items); i++ {
		failed[i] = f.items[i].cutOff(err)
	}
	for i, it := range f.items {
		if failed[i] != nil {
			r.land(it, r.openAgain(ctx, it, name, buffers[i], failed[i]))
		}
	}
}

// openAgain reads what is damaged. Other errors stay.
func (r *Reader) openAgain(ctx context.Context, it *item, name string, buf []byte, err error) error {
	if errors.As(err, new(*object.CorruptionError)) && ctx.Err() == nil {
		again := it.cutOff(r.o.Bucket.ReadAt(ctx, name, buf, it.position))
		if again == nil {
			again = r.open(it, buf)
		}
		if again == nil {
			r.o.Log.Warn("what came from the bucket was damaged, and right when it was read again", "key", name, "error", err)
			return nil
		}
		err = again
	}
	return fmt.Errorf("read [%d, %d) of %s from %s: %w", it.first, it.next, it.key.partition, name, err)
}

// cutOff makes a damage of an object that ends too soon.
func (it *item) cutOff(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) && !bucket.IsTemporary(err) {
		return &object.CorruptionError{Object: it.key.object, Position: it.position, Reason: "it is cut off: " + err.Error()}
	}
	return err
}

// open checks what was read of an item, and keeps it for others.
func (r *Reader) open(it *item, buf []byte) (err error) {
	switch {
	case it.manifest != nil:
		it.opened.layout, err = it.decodeManifest(buf)
	case it.key.isIndex():
		var x *object.Index
		if x, err = object.DecodeIndex(buf, it.key.object, it.entry); err == nil {
			x.Producers = nil // nobody here reads them, and they hold all of buf
			it.opened.layout = newLayout(x, r.o.PieceSize)
		}
	default:
		it.opened.piece, err = it.layout.open(int(it.key.piece), buf, r.buffers)
	}
	if err != nil {
		return err
	}
	if it.key.isIndex() {
		r.indexes.Put(it.key, it.opened.layout)
	} else {
		it.opened.piece.hold() // for the cache, which tells when it does without
		r.blocks.Put(it.key, it.opened.piece)
	}
	return nil
}

// land takes note of what became of an item, and wakes who waited for it.
func (r *Reader) land(it *item, err error) {
	r.mu.Lock()
	defer r.unlock()
	switch {
	case it.state == over:
		r.recharge(it, 0)
		if it.opened.piece != nil {
			it.opened.piece.release()
		}
	case err != nil:
		it.flight.leave()
		r.stats.Errors++
		r.fail(it, err)
	default:
		it.flight.leave()
		it.state, it.loaded = loaded, r.o.Now()
		if it.key.isIndex() {
			it.layout = it.opened.layout
			r.recharge(it, min(it.layout.memory(), it.charge))
		} else {
			it.piece = it.opened.piece
			r.recharge(it, min(it.piece.memory(), it.charge))
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
	it.opened = opened{}
	r.schedule()
}
