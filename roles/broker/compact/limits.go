package compact

import "time"

// Limits say what is worth rewriting, and how much at once.
type Limits struct {
	// MinObject bytes of one partition that are rewritten together get an object
	// of their own; less shares one with other partitions.
	MinObject int64
	// TargetObject is how large objects become. What has half of it is left alone,
	// so that a byte is written at most twice on its way into a large object.
	TargetObject int64
	// Fanout ranges of about one size become one of the next: a byte is rewritten
	// once for each factor of Fanout that its range grows by. A power of two.
	Fanout int
	// MaxRanges small ranges of one partition are merged whatever that saves: a
	// reader asks for each of them.
	MaxRanges int
	// SaveRanges is how many ranges fewer the catalogue must come to have for the
	// rewriting to be worth its requests, below MaxRanges.
	SaveRanges int
	// MaxMixed objects of several partitions and of about one size are merged,
	// whatever ranges that saves: an idle partition would keep one of them for ever.
	MaxMixed int
	// FileRanges is how many ranges of one partition lie in the metadata before its
	// oldest move into manifests (package filing). With more, small ranges between two
	// large ones get an object of their own, for nothing else would ever rewrite them,
	// and one that is shared holds up all behind it. 0: none.
	FileRanges int
	// JobRanges and JobInputs bound the ranges that one object has and takes the
	// place of: all of them are named in one command of the metadata log.
	JobRanges, JobInputs int
	// Parallel is how many objects are being made at once.
	Parallel int
	// RetryMin and RetryMax bound how long a partition waits after its ranges could
	// not be replaced; it doubles in between.
	RetryMin, RetryMax time.Duration
}

// DefaultLimits are what a broker uses where its configuration says nothing.
func DefaultLimits() Limits {
	const mib = 1 << 20
	return Limits{
		MinObject: 10 * mib, TargetObject: 64 * mib,
		Fanout: 16, MaxRanges: 64, SaveRanges: 10_000, MaxMixed: 64,
		// About 40 bytes for a range and 5 for one that it takes the place of: well
		// below metadata.MaxCommandBytes.
		JobRanges: 10_000, JobInputs: 50_000,
		Parallel: 1, RetryMin: 5 * time.Second, RetryMax: 10 * time.Minute,
	}
}
