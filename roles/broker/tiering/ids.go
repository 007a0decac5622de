package tiering

import (
	"context"
	"time"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/guard"
)

// IDs hands out object ids, which it asks for in blocks. One that is too old is
// not used: the controller may be about to condemn it.
type IDs struct {
	o IDOptions
	// block goes from hand to hand: who has it may take from it, or wait for the
	// controller while the others wait for the block.
	block chan idBlock
}

// IDOptions of a pool.
type IDOptions struct {
	// Prepare issues ids, the first of which it returns.
	Prepare func(ctx context.Context, count int) (first storage.ObjectID, err error)
	Block   int           // ids that are asked for at once
	Age     time.Duration // how long one may be used after it was asked for
	Now     func() time.Time
}

// idBlock is what is left of a block of ids.
type idBlock struct {
	next  storage.ObjectID
	left  int
	asked time.Time // for it
}

// NewIDs returns an empty pool.
func NewIDs(o IDOptions) *IDs {
	p := &IDs{o: o, block: make(chan idBlock, 1)}
	p.block <- idBlock{}
	return p
}

// Take returns an id that nobody else has. It waits for the controller.
func (p *IDs) Take(ctx context.Context) (storage.ObjectID, error) {
	var b idBlock
	select {
	case b = <-p.block:
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
	defer func() { p.block <- b }()
	if now := p.o.Now(); b.left == 0 || !guard.Check("tiering.id-age", now.Sub(b.asked) <= p.o.Age) {
		first, err := p.o.Prepare(ctx, p.o.Block)
		if err != nil {
			return 0, err
		}
		b = idBlock{first, p.o.Block, now}
	}
	id := b.next
	b.next++
	b.left--
	return id, nil
}

// Discard has the next id be one of a new block.
func (p *IDs) Discard(ctx context.Context) {
	select {
	case <-p.block:
		p.block <- idBlock{}
	case <-ctx.Done():
	}
}
