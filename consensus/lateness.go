package consensus

import (
	"time"

	"rustmq.dev/rustmq/storage/guard"
)

// By what the disk of a leader is late (RULES 3.3), and for how long before another leads:
// longer than what the state machine itself does about a slow disk takes, which that is
// asked to decide.
const (
	lateTimes = 10                    // times as long as the quickest of the others takes
	lateFloor = 10 * time.Millisecond // what is quicker is not late
	lateFor   = 10 * time.Second
	// lateGap is how long a leader may have nothing to write and be late still.
	lateGap = 2 * time.Second
)

// lateness compares how long a leader and the others take to have an entry on disk, for one
// entry after the other. It is a pure core: it reads no clock.
type lateness struct {
	index    uint64        // of the entry that is followed; 0: none is
	at       time.Time     // when that was appended
	own      time.Duration // until it was on disk here; 0: it is not yet
	quickest uint64        // who said first that it has it; 0: nobody yet
	took     time.Duration // how long that was

	since, last time.Time // late from when on, and when that was seen last; zero: it is not
}

// appended takes note that the leader's log has come to end at index.
func (l *lateness) appended(now time.Time, index uint64) {
	if l.index == 0 {
		l.index, l.at, l.own, l.quickest = index, now, 0, 0
	}
}

// stored takes note that the log is on disk here up to index.
func (l *lateness) stored(now time.Time, index uint64) {
	if l.index != 0 && index >= l.index && l.own == 0 {
		l.own = max(now.Sub(l.at), 1)
		l.compare(now)
	}
}

// confirmed takes note that another member, which has a vote, has the log on disk up to index.
func (l *lateness) confirmed(now time.Time, member, index uint64) {
	if l.index != 0 && index >= l.index && l.quickest == 0 {
		l.quickest, l.took = member, now.Sub(l.at)
		l.compare(now)
	}
}

// compare judges the entry that is followed, as far as that can be by now.
func (l *lateness) compare(now time.Time) {
	if l.index == 0 || l.quickest == 0 {
		return
	}
	own := l.own
	if own == 0 {
		own = now.Sub(l.at)
	}
	late := own >= lateFloor && own >= lateTimes*l.took
	switch {
	case late:
		if l.since.IsZero() {
			l.since = now
		}
		l.last = now
	case l.own != 0:
		l.since = time.Time{}
	}
	if l.own != 0 {
		l.index = 0 // the next
	}
}

// judge returns who is to lead in the place of a leader that has been late for long; 0: it
// leads on.
func (l *lateness) judge(now time.Time) (better uint64) {
	l.compare(now)
	if l.since.IsZero() {
		return 0
	}
	if now.Sub(l.last) > lateGap {
		l.since = time.Time{}
		return 0
	}
	if !guard.Check("consensus.late-for-long", now.Sub(l.since) >= lateFor) {
		return 0
	}
	l.since = now // once in so long
	return l.quickest
}
