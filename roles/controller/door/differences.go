package door

import (
	"sync"

	"rustmq.dev/rustmq/consensus/metadata"
)

// keptDifferences is how many are kept for the streams that have yet to send them: most
// go from image to image together, and who is slow skips some.
const keptDifferences = 4

// differences finds what has changed between two images once for all streams.
type differences struct {
	mu   sync.Mutex // guards kept
	kept []*sharedDifference
}

type sharedDifference struct {
	before, after *metadata.Image
	once          sync.Once
	is            *metadata.Difference // set by once
}

// between returns what has changed between two images, neither of them nil. Who asks for
// what another stream is finding waits for it.
func (d *differences) between(before, after *metadata.Image) *metadata.Difference {
	shared := d.shared(before, after)
	shared.once.Do(func() { shared.is = metadata.Compare(before, after) })
	return shared.is
}

func (d *differences) shared(before, after *metadata.Image) *sharedDifference {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, shared := range d.kept {
		if shared.before == before && shared.after == after {
			return shared
		}
	}
	shared := &sharedDifference{before: before, after: after}
	if len(d.kept) == keptDifferences {
		copy(d.kept, d.kept[1:])
		d.kept[keptDifferences-1] = shared
	} else {
		d.kept = append(d.kept, shared)
	}
	return shared
}
