package tiering

import (
	"context"
	"sync"
	"time"

	"rustmq.dev/rustmq/storage"
)

// IDs hands out object ids, which it asks for in blocks. One that is too old is
// not used: the controller may be about to condemn it.
type IDs struct {
	Prepare func(ctx context.Context, count int) (first storage.ObjectID, err error)
	Block   int           // ids that are asked for at once
	Age     time.Duration // how long one may be used after it was asked for
	Now     func() time.Time

	mu     sync.Mutex // held while ids are asked for: others want them too
	next   storage.ObjectID
	left   int
	issued time.Time
}

// Take returns an id that nobody else has. It waits for the controller.
func (p *IDs) Take(ctx context.Context) (storage.ObjectID, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.left == 0 || p.Now().Sub(p.issued) > p.Age {
		asked := p.Now()
		first, err := p.Prepare(ctx, p.Block)
		if err != nil {
			return 0, err
		}
		p.next, p.left, p.issued = first, p.Block, asked
	}
	id := p.next
	p.next++
	p.left--
	return id, nil
}
