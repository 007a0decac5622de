package tiering

import (
	"context"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/bucket"
	"rustmq.dev/rustmq/storage/guard"
	"rustmq.dev/rustmq/storage/object"
)

// Objects makes objects: each is put under an id of its own, and then named by the
// catalogue. Ids are asked for in blocks, and one that is too old is not used: the
// controller may be about to condemn it.
type Objects struct {
	o ObjectOptions
	// block goes from hand to hand: who has it may take from it, or wait for the
	// controller while the others wait for the block.
	block chan idBlock
}

// ObjectOptions of what makes objects.
type ObjectOptions struct {
	// Prepare issues ids, the first of which it returns.
	Prepare func(ctx context.Context, count int) (first storage.ObjectID, err error)
	Block   int           // ids that are asked for at once
	Age     time.Duration // how long one may be used after it was asked for
	Now     func() time.Time

	Bucket bucket.Bucket
	Key    func(storage.ObjectID) string
	Header object.Header // what objects say of their maker; the id is set for each
}

// idBlock is what is left of a block of ids.
type idBlock struct {
	next  storage.ObjectID
	left  int
	asked time.Time // for it
}

// NewObjects returns Objects that have no id yet.
func NewObjects(o ObjectOptions) *Objects {
	m := &Objects{o: o, block: make(chan idBlock, 1)}
	m.block <- idBlock{}
	return m
}

// Next returns the header of a new object, with an id that nobody else has. It waits
// for the controller.
func (m *Objects) Next(ctx context.Context) (object.Header, error) {
	var b idBlock
	select {
	case b = <-m.block:
	case <-ctx.Done():
		return object.Header{}, context.Cause(ctx)
	}
	defer func() { m.block <- b }()
	if now := m.o.Now(); b.left == 0 || !guard.Check("tiering.id-age", now.Sub(b.asked) <= m.o.Age) {
		first, err := m.o.Prepare(ctx, m.o.Block)
		if err != nil {
			return object.Header{}, fmt.Errorf("get an object id: %w", err)
		}
		b = idBlock{first, m.o.Block, now}
	}
	h := m.o.Header
	h.ID = b.next
	b.next++
	b.left--
	return h, nil
}

// Put puts an object that Next gave the id of.
func (m *Objects) Put(ctx context.Context, id storage.ObjectID, content io.WriterTo) error {
	if err := m.o.Bucket.Put(ctx, m.o.Key(id), content); err != nil {
		return fmt.Errorf("put object %s: %w", id, err)
	}
	return nil
}

// Write puts a new object, which write writes, the same bytes as often as it is asked.
func (m *Objects) Write(ctx context.Context, write func(io.Writer, object.Header) (*object.Summary, error)) (storage.ObjectID, *object.Summary, error) {
	h, err := m.Next(ctx)
	if err != nil {
		return 0, nil, err
	}
	c := &content{header: h, write: write}
	if err := m.Put(ctx, h.ID, c); err != nil {
		return 0, nil, err
	}
	return h.ID, c.summary.Load(), nil
}

// content is what write writes.
type content struct {
	header  object.Header
	write   func(io.Writer, object.Header) (*object.Summary, error)
	summary atomic.Pointer[object.Summary] // of the last time
}

// WriteTo implements io.WriterTo.
func (c *content) WriteTo(w io.Writer) (int64, error) {
	s, err := c.write(w, c.header)
	if err != nil {
		return 0, err
	}
	c.summary.Store(s)
	return s.Size, nil
}

// Commit has the catalogue name so many ranges of an object that was put, and returns
// what it says of each.
func (m *Objects) Commit(ctx context.Context, id storage.ObjectID, ranges int, commit func() ([]error, error)) ([]error, error) {
	results, err := commit()
	if metadata.CodeOf(err) == metadata.ResourceNotFound { // it was condemned; the others of its block soon are, or are too
		select {
		case <-m.block:
			m.block <- idBlock{}
		case <-ctx.Done():
		}
	}
	if err == nil && len(results) != ranges {
		err = fmt.Errorf("%d results for %d ranges", len(results), ranges)
	}
	if err != nil {
		return nil, fmt.Errorf("commit object %s: %w", id, err)
	}
	return results, nil
}
