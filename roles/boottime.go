package roles

import (
	"time"

	"golang.org/x/sys/unix"
)

// bootTime tells how long ago the machine was booted, with the time for which it
// slept: the monotonic clock of Go stands still meanwhile. It is nil where the
// system has no such clock.
func bootTime() func() time.Duration {
	now := func() (time.Duration, error) {
		var ts unix.Timespec
		err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts)
		return time.Duration(ts.Nano()), err
	}
	if _, err := now(); err != nil {
		return nil
	}
	return func() time.Duration {
		t, _ := now() // it can only fail for want of the clock
		return t
	}
}
