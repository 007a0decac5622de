package upload

import (
	"context"
	"time"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/guard"
)

// idPool hands out object ids, which it asks for in blocks. One that is too old
// is not used: the controller may be about to condemn it.
type idPool struct {
	prepare func(ctx context.Context, count int) (storage.ObjectID, error)
	age     time.Duration
	now     func() time.Time
	// block goes from hand to hand: who has it may take from it, or wait for the
	// controller while the others wait for the block.
	block chan idBlock
}

// idBlock is what is left of a block of ids.
type idBlock struct {
	next  storage.ObjectID
	left  int
	asked time.Time // for it
}

func newIDPool(prepare func(context.Context, int) (storage.ObjectID, error), age time.Duration, now func() time.Time) *idPool {
	p := &idPool{prepare: prepare, age: age, now: now, block: make(chan idBlock, 1)}
	p.block <- idBlock{}
	return p
}

// take returns an id that nobody else has. It waits for the controller.
func (p *idPool) take(ctx context.Context) (storage.ObjectID, error) {
	var b idBlock
	select {
	case b = <-p.block:
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
	defer func() { p.block <- b }()
	if now := p.now(); b.left == 0 || !guard.Check("upload.id-age", now.Sub(b.asked) <= p.age) {
		first, err := p.prepare(ctx, idsAtOnce)
		if err != nil {
			return 0, err
		}
		b = idBlock{first, idsAtOnce, now}
	}
	id := b.next
	b.next++
	b.left--
	return id, nil
}

// discard has the next id be one of a new block.
func (p *idPool) discard(ctx context.Context) {
	select {
	case <-p.block:
		p.block <- idBlock{}
	case <-ctx.Done():
	}
}
