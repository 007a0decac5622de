package roles

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"rustmq.dev/rustmq/storage/wal"
)

// TestStartAgain promises no more of what was acked than was so.
func TestStartAgain(t *testing.T) {
	dead := fmt.Errorf("%w: %w", wal.ErrDead, errors.New("EIO"))
	for _, c := range []struct {
		cause  error
		before time.Duration
		want   string
	}{
		{errors.New("accept: too many open files"), 0, "start it again"},
		{dead, 0, "what was acked is on disk: start it again once the disk is well"},
		{dead, 50 * time.Millisecond, "what was acked in the last 50ms before may be lost (wal.sync = interval): start it again once the disk is well"},
	} {
		if got := startAgain(c.cause, c.before); got != c.want {
			t.Errorf("%v, %v: %q, want %q", c.cause, c.before, got, c.want)
		}
	}
}
