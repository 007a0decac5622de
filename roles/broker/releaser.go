package broker

import (
	"context"
	"sync"
	"time"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/guard"
	"rustmq.dev/rustmq/storage/log"
)

const (
	// releaseLook is between two looks whether the bucket has the metadata log by now.
	releaseLook = 250 * time.Millisecond

	// While less than hurryFrom of the WAL is in use, what is held waits for the next
	// entry of the metadata log. Then an entry is asked for, hurryPause apart: all that
	// was committed meanwhile shares the put. From hurryAtOnce on room is worth
	// more, and the pause hurryLeast.
	hurryFrom   = 0.25
	hurryPause  = 10 * time.Second
	hurryAtOnce = 0.5
	hurryLeast  = time.Second // a try may encode all the metadata there is
)

// releaserOptions of a releaser.
type releaserOptions struct {
	Now      func() uint64 // the index that the metadata stands at
	Shipped  func() uint64 // up to which the bucket has it
	Hurry    func()
	Fullness func() float64 // of the WAL
}

// releaser lets logs give up what the catalogue names, once the bucket's metadata log
// has the commit. Until then another cluster of the same id, a copy of this directory,
// may find that the object's id was never used, and delete it; what this broker has in
// its log is all there is then.
type releaser struct {
	o releaserOptions

	mu   sync.Mutex
	next map[*log.Log]storage.Offset // named since; guarded by mu

	// Only run uses these.
	held    map[*log.Log]storage.Offset // by commands up to index
	index   uint64
	hurried time.Time
}

func newReleaser(o releaserOptions) *releaser {
	return &releaser{o: o, next: map[*log.Log]storage.Offset{}}
}

// named says that the metadata, as of now, name what a log has below end.
func (r *releaser) named(l *log.Log, end storage.Offset) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.next[l] = max(end, r.next[l])
}

// releaseShipped lets a log that is led anew give up what the bucket's metadata log is
// known to name: after a start in an outage that is all that makes room.
func (b *Broker) releaseShipped(l *log.Log, is *metadata.Partition) {
	if b.releaser == nil || b.opt.Tier.ShippedOnce == nil {
		return
	}
	if end, ok := namedBy(b.opt.Controller.Image(), is, b.opt.Tier.ShippedOnce()); ok {
		l.Release(end)
	}
}

// namedBy returns an offset below which the catalogue named all of a partition, as of
// an index of the metadata log: ranges are committed in their order, so it is the end of
// the last one whose object was there by then. One that was rewritten since does not
// tell; ok is false where none does.
func namedBy(image *metadata.Image, is *metadata.Partition, index uint64) (end storage.Offset, ok bool) {
	ranges := is.Ranges()
	for i := ranges.Len() - 1; i >= 0; i-- {
		r := ranges.At(i)
		o, known := image.Object(r.Object)
		if known && guard.Check("broker.released-as-shipped", o.State == metadata.Committed && o.Since <= index) {
			return r.End, true
		}
	}
	return 0, false
}

// run releases until ctx ends.
func (r *releaser) run(ctx context.Context) {
	ticker := time.NewTicker(releaseLook)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			r.look(now)
		}
	}
}

// hold takes what was named since; false: nothing was.
func (r *releaser) hold() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.next) == 0 {
		return false
	}
	r.held, r.next = r.next, map[*log.Log]storage.Offset{}
	return true
}

// look releases what may be, and asks for an entry of the metadata log if the WAL wants
// room.
func (r *releaser) look(now time.Time) {
	for range 2 { // what came since may have been shipped along
		if len(r.held) == 0 {
			if !r.hold() {
				return
			}
			r.index = r.o.Now()
		}
		if !guard.Check("broker.released-when-shipped", r.o.Shipped() >= r.index) {
			break
		}
		for l, end := range r.held {
			l.Release(end)
		}
		r.held = nil
	}
	if len(r.held) == 0 {
		return
	}
	used := r.o.Fullness()
	since := now.Sub(r.hurried)
	if used >= hurryAtOnce && since >= hurryLeast || used >= hurryFrom && since >= hurryPause {
		r.hurried = now
		r.o.Hurry()
	}
}
