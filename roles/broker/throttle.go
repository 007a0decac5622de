package broker

import (
	"fmt"
	"sync/atomic"
	"time"

	"rustmq.dev/rustmq/storage/guard"
	"rustmq.dev/rustmq/storage/log"
)

// throttle tells producers to slow down before the WAL is full, so that they
// feel it as latency first and as retriable errors only at the end.
type throttle struct {
	store *log.Store
	now   func() time.Time
	next  atomic.Int64 // when to look again, in nanoseconds since 1970
	delay atomic.Int32 // milliseconds
}

// throttleEvery is how old the knowledge of how full the WAL is may be.
const throttleEvery = 100 * time.Millisecond

func newThrottle(store *log.Store, now func() time.Time) *throttle {
	return &throttle{store: store, now: now}
}

// millis returns the throttle time to answer a produce request with.
func (t *throttle) millis(now time.Time) int32 {
	due := t.next.Load()
	if at := now.UnixNano(); at >= due && t.next.CompareAndSwap(due, at+int64(throttleEvery)) {
		t.delay.Store(delayFor(t.store.Stats().Fullness))
	}
	return t.delay.Load()
}

// errFollowerFull says that the WAL of a follower in sync has no more room for what
// producers send: only a reserve is left there, for what is on its way.
var errFollowerFull = fmt.Errorf(FollowerFull+": %w", log.ErrFull)

// FollowerFull begins what is said of producers that are refused for want of room elsewhere.
const FollowerFull = "the log of a replica in sync is full"

// heldUp reports whether producers of a partition that is led here are to wait for
// the fullest of its followers in sync (RULES 1.5). Those who go on have it stall, and
// fall out of sync.
func (p *partition) heldUp(r *role) bool {
	return !guard.Check("broker.fullest-follower", p.fullestFollower(r) < followerFullFrom)
}

// fullestFollower is how full the fullest WAL is among the followers in sync, see
// replication.Partition; 0 where none are waited for.
func (p *partition) fullestFollower(r *role) uint32 {
	if r.log == nil || !r.replicated {
		return 0 // what was noted last is of another role
	}
	return p.fullest.Load()
}

// slowedBy is the throttle time for the fullest follower in sync of the partitions that
// a request was about.
func (p *produceRequest) slowedBy() int32 {
	fullest := uint32(0)
	for i := range p.parts {
		if of := p.parts[i].partition; of != nil {
			fullest = max(fullest, of.fullestFollower(of.role.Load()))
		}
	}
	return delayFor(float64(fullest) / 1000)
}

// delayFor rises from nothing at throttleFrom to maxThrottle at the end.
func delayFor(fullness float64) int32 {
	share := (fullness - throttleFrom) / (1 - throttleFrom)
	return int32(min(max(share, 0), 1) * float64(maxThrottle/time.Millisecond))
}
