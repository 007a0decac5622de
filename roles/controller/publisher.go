package controller

import (
	"context"
	"slices"
	"sync"

	"rustmq.dev/rustmq/consensus/metadata"
)

// publisher delivers the latest image to subscribers, on one goroutine.
type publisher struct {
	image func() *metadata.Image
	wake  chan struct{} // holds one token while something is to be delivered

	mu          sync.Mutex
	subscribers []*subscriber // in order of subscription; replaced, never written to
}

type subscriber struct {
	call func(*metadata.Image)
	last *metadata.Image // delivered; nil before the first. Of the delivering goroutine
	gone bool            // guarded by publisher.mu
}

func newPublisher(image func() *metadata.Image) *publisher {
	return &publisher{image: image, wake: make(chan struct{}, 1)}
}

// changed says that there is a newer image. It does not block.
func (p *publisher) changed() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

func (p *publisher) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.wake:
			p.deliver()
		}
	}
}

func (p *publisher) deliver() {
	p.mu.Lock()
	subscribers := p.subscribers
	p.mu.Unlock()
	for _, s := range subscribers {
		image := p.image()
		old := s.last != nil && image.Offset() <= s.last.Offset() && image.ControllerID() == s.last.ControllerID()
		if old || !p.wanted(s) {
			continue
		}
		s.call(image)
		s.last = image
	}
}

func (p *publisher) wanted(s *subscriber) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !s.gone
}

func (p *publisher) subscribe(f func(*metadata.Image)) (cancel func()) {
	s := &subscriber{call: f}
	p.mu.Lock()
	p.subscribers = append(slices.Clip(p.subscribers), s)
	p.mu.Unlock()
	p.changed()
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		s.gone = true
		p.subscribers = slices.DeleteFunc(slices.Clone(p.subscribers), func(other *subscriber) bool { return other == s })
	}
}
