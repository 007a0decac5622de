package tiering

import (
	"context"
	"time"
)

// Look calls look every so often, and when there is a token in wake, until ctx ends.
// wake may be nil.
func Look(ctx context.Context, every time.Duration, wake <-chan struct{}, look func()) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-wake:
		}
		look()
	}
}

// Leave puts a token into a channel that holds one.
func Leave(token chan<- struct{}) {
	select {
	case token <- struct{}{}:
	default:
	}
}
