package controller

import (
	"slices"
	"time"

	"rustmq.dev/rustmq/storage/guard"
)

// By what a broker's disk is slow (RULES 3.3): as replication has it of followers.
const (
	slowFor   = 3 * time.Second
	slowTimes = 10                    // times as slow as the median
	slowFloor = 10 * time.Millisecond // what is quicker is not slow
	// quickFor is for how long a disk that was slow must not be before its broker is given
	// leaderships again.
	quickFor = time.Minute
	// syncMemory is for how long a report of a disk counts: one is due every 3 s.
	syncMemory = 10 * time.Second
)

// disks knows whose disk is slow. It is a pure core: it reads no clock, and is not safe for
// concurrent use.
type disks map[int32]*diskOf

// diskOf is what is known of one broker's disk.
type diskOf struct {
	epoch int64         // of the registration that said so
	took  time.Duration // that a sync took of late; 0: there was none
	at    time.Time     // when that was said

	slow  time.Time // since when it is slow; zero: it is not
	quick time.Time // since when it is not, after it was for slowFor; zero: it was not, or is
	left  bool      // leaderships leave it
}

// report takes how long a broker's syncs took of late, 0 if it made none, and says whether
// its disk has come to be slow, or quick again, by that.
func (d disks) report(now time.Time, broker int32, epoch int64, took time.Duration) (changed bool) {
	is := d[broker]
	if is == nil || is.epoch != epoch {
		is = &diskOf{epoch: epoch}
		d[broker] = is
	}
	is.took, is.at = max(took, 0), now
	median := d.median(now)
	was := is.left
	switch times := is.took / slowTimes; {
	case median == 0 || is.took < slowFloor || 2*times < median:
		is.slow = time.Time{}
		if is.left && is.quick.IsZero() {
			is.quick = now
		}
		if is.left && now.Sub(is.quick) >= quickFor {
			is.left, is.quick = false, time.Time{}
		}
	case times >= median:
		if is.slow.IsZero() {
			is.slow = now
		}
		is.quick = time.Time{}
		is.left = is.left || guard.Check("controller.slow-for-a-while", now.Sub(is.slow) >= slowFor)
	default: // between the two nothing changes
		is.quick = time.Time{}
	}
	return is.left != was
}

// median is the middle one of what syncs take on brokers that have told of some lately, of
// two the shorter; 0: none has. So one alone, or most of them, are never slow.
func (d disks) median(now time.Time) time.Duration {
	var all []time.Duration
	for _, is := range d {
		if is.took > 0 && now.Sub(is.at) < syncMemory {
			all = append(all, is.took)
		}
	}
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	return all[(len(all)-1)/2]
}

// slow reports whether leaderships are to leave a broker, and none to go there.
func (d disks) slow(broker int32) bool {
	is := d[broker]
	return is != nil && is.left
}

// keep forgets the brokers that are not registered any more.
func (d disks) keep(registered func(int32) bool) {
	for id := range d {
		if !registered(id) {
			delete(d, id)
		}
	}
}
