package upload

import (
	"context"
	"sync"
	"time"

	"rustmq.dev/rustmq/storage"
)

// idPool hands out object ids, which it asks for in blocks. One that is too old
// is not used: the controller may be about to condemn it.
type idPool struct {
	prepare func(ctx context.Context, count int) (storage.ObjectID, error)
	age     time.Duration
	now     func() time.Time

	mu     sync.Mutex // held while ids are asked for: others want them too
	next   storage.ObjectID
	left   int
	issued time.Time
}

// take returns an id that nobody else has. It waits for the controller.
func (p *idPool) take(ctx context.Context) (storage.ObjectID, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.left == 0 || p.now().Sub(p.issued) > p.age {
		asked := p.now()
		first, err := p.prepare(ctx, idsAtOnce)
		if err != nil {
			return 0, err
		}
		p.next, p.left, p.issued = first, idsAtOnce, asked
	}
	id := p.next
	p.next++
	p.left--
	return id, nil
}
