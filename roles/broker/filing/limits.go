package filing

import (
	"errors"
	"fmt"
	"time"

	"rustmq.dev/rustmq/storage/object"
)

// Limits say what is filed, and when.
type Limits struct {
	// Ranges is how many ranges of a partition the metadata holds before the oldest
	// are filed, down to half as many. At least 2.
	Ranges int
	// ManifestRanges is how many a manifest holds: it is read as a whole, and made
	// anew for each filing until it is full. At most object.MaxManifestRanges.
	ManifestRanges int
	// Large is the bytes of a range that compaction leaves alone; 0: nothing is
	// compacted. A smaller one is settled when it lies alone between large ones.
	Large int64
	// DropAfter is how long a manifest may keep objects in the bucket that lie below
	// the log start, when they are few.
	DropAfter time.Duration
	// RetryMin and RetryMax bound how long a partition waits after its ranges could
	// not be filed; it doubles in between.
	RetryMin, RetryMax time.Duration
}

// DefaultLimits are what a broker uses where its configuration says nothing: about 25
// KiB of metadata for a partition, and a put of 70 KiB on average for 64 large objects.
func DefaultLimits() Limits {
	return Limits{
		Ranges: 128, ManifestRanges: 4096, Large: 32 << 20, DropAfter: time.Hour,
		RetryMin: 5 * time.Second, RetryMax: 10 * time.Minute,
	}
}

// Validate returns an error that names what cannot be.
func (l *Limits) Validate() error {
	var errs []error
	if l.Ranges < 2 {
		errs = append(errs, fmt.Errorf("%d ranges: at least 2", l.Ranges))
	}
	if l.ManifestRanges < 1 || l.ManifestRanges > object.MaxManifestRanges {
		errs = append(errs, fmt.Errorf("%d ranges of a manifest: 1 to %d", l.ManifestRanges, object.MaxManifestRanges))
	}
	if l.Large < 0 || l.DropAfter < 0 || l.RetryMin <= 0 || l.RetryMax < l.RetryMin {
		errs = append(errs, fmt.Errorf("large %d, drop after %v, retry after %v to %v", l.Large, l.DropAfter, l.RetryMin, l.RetryMax))
	}
	return errors.Join(errs...)
}
