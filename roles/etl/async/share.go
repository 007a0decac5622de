package async

import (
	"context"
	"sync/atomic"
)

// shareBytes is what the records that were read at once may take, compressed, expanded, in
// the module, and in the output: four times what is read. A batch that is larger, which
// comes whole, takes more, and counts as one share.
const shareBytes = 4 * fetchBytes

// share is a part of the runner's memory; the zero one of is not taken.
type share struct {
	of      chan struct{}
	waiting *atomic.Int32 // how many wait for one
	taken   bool
}

// take waits for a share, unless it is taken.
func (s *share) take(ctx context.Context) error {
	if s.taken {
		return nil
	}
	select {
	case s.of <- struct{}{}:
		s.taken = true
		return nil
	default:
	}
	s.waiting.Add(1)
	defer s.waiting.Add(-1)
	select {
	case s.of <- struct{}{}:
		s.taken = true
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// wanted reports whether somebody waits for a share.
func (s *share) wanted() bool { return s.waiting.Load() > 0 }

// give gives it back, if it was taken.
func (s *share) give() {
	if s.taken {
		<-s.of
		s.taken = false
	}
}
