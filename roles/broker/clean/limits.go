package clean

import "time"

// Limits say what is worth a round, and what it may take.
type Limits struct {
	// KeyMemory is the size of the table of keys in bytes: at 32 for each key it
	// holds, a round comes as far as that goes.
	KeyMemory int64
	// TargetObject is how large the objects become that rounds write, about.
	TargetObject int64
	// Patience is how long less than SmallBytes of new records wait: a partition
	// that gets a few now and then costs a request for each round.
	SmallBytes int64
	Patience   time.Duration
	// RetryMin and RetryMax bound how long a partition waits after a round that
	// failed; it doubles in between.
	RetryMin, RetryMax time.Duration
}

// DefaultLimits are what a broker uses where its configuration says nothing.
func DefaultLimits() Limits {
	const mib = 1 << 20
	return Limits{
		KeyMemory: 128 * mib, TargetObject: 64 * mib, SmallBytes: 1 * mib, Patience: 10 * time.Minute,
		RetryMin: 5 * time.Second, RetryMax: 10 * time.Minute,
	}
}

// Limits of a round that no option sets.
const (
	// mostHeld is what is held of an object before it is written. More, of one range
	// alone, is read a second time instead.
	mostHeld = 64 << 20

	// mostRanges and mostRead bound what one object takes the place of: the ranges
	// are named in one command, their indexes held, and all of it is to be done again
	// when the object is not committed.
	mostRanges = 4096
	mostRead   = 512 << 20

	// mostAborted transactions in the ranges of one object are held.
	mostAborted = 1 << 20

	// mostExpanded is what a batch may expand to: what a producer may send, and more.
	mostExpanded = 128 << 20

	// dueAfter of delete.retention.ms is how late tombstones may go when there is no
	// other reason for a round: as many rounds read all of a partition for them.
	dueAfter = 8

	// idsAtOnce is how many ids are asked for: objects are few, and an id that is
	// left over is condemned in time.
	idsAtOnce = 2
)
