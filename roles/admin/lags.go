package admin

import (
	"context"
	"slices"
	"sync"
	"time"

	"rustmq.dev/rustmq/roles/broker"
)

const (
	// lagEvery is the time between two looks at what groups have left to consume, and
	// lagPoints how many are remembered: an hour.
	lagEvery  = 15 * time.Second
	lagPoints = 240
	lagWait   = 10 * time.Second // that a look may take

	// lagShare is one of how many parts of the time looks may take: of groups there may be many,
	// and each process that has the API looks at all. lagPause is the most between two of them.
	lagShare = 20
	lagPause = time.Minute
	// lagWanted is for how long looks go on when nobody asks for groups or their lag here: all
	// groups are asked about, by each process that has the API.
	lagWanted = time.Hour

	// maxLagGroups are remembered, at 4 KB each. Who is there first has the place, until it
	// has been gone for an hour.
	maxLagGroups = 1000

	lagUnknown = -1
)

// lagHistory is how far groups were behind, as this process has seen since it began. It is safe
// for concurrent use.
type lagHistory struct {
	groups Groups
	asked  chan struct{} // holds a token once somebody has asked since the last look

	mu    sync.Mutex
	times [lagPoints]time.Time // of looks; guarded by mu, as are the others
	next  int                  // place of the next look
	of    map[string]*lagRing  // by group
}

// lagRing is what a group had left at each look; lagUnknown: it was not seen then, or the time
// was not known.
type lagRing struct {
	records [lagPoints]int64
	seconds [lagPoints]float64
}

func newLagRing() *lagRing {
	r := new(lagRing)
	for i := range lagPoints {
		r.forget(i)
	}
	return r
}

func (r *lagRing) forget(at int) { r.records[at], r.seconds[at] = lagUnknown, lagUnknown }

func (r *lagRing) empty() bool {
	return !slices.ContainsFunc(r.records[:], func(n int64) bool { return n != lagUnknown })
}

// LagPoint is how far a group was behind.
type LagPoint struct {
	Time    time.Time `json:"time"`
	Records int64     `json:"lag_records" doc:"of all partitions whose leaders could be asked"`
	Seconds *float64  `json:"lag_seconds,omitempty" doc:"of the partition that was furthest behind in time; left out: not known"`
}

// LagHistory is how far a group was behind in the last hour.
type LagHistory struct {
	Group  string     `json:"group"`
	Every  float64    `json:"every_seconds" doc:"between two looks"`
	Points []LagPoint `json:"points" doc:"in order of time, as the process that answers has seen since it began; where it could not look there is none, nor while nobody had asked it for groups for an hour"`
}

func newLagHistory(groups Groups) *lagHistory {
	return &lagHistory{groups: groups, asked: make(chan struct{}, 1), of: map[string]*lagRing{}}
}

// want says that somebody asks for groups. nil: nothing is remembered.
func (h *lagHistory) want() {
	if h == nil {
		return
	}
	select {
	case h.asked <- struct{}{}:
	default:
	}
}

// awaitWanted waits, lagWanted after somebody has asked last, until somebody asks again.
func (h *lagHistory) awaitWanted(ctx context.Context, last time.Time) time.Time {
	select {
	case <-h.asked:
		return time.Now()
	default:
	}
	if time.Since(last) < lagWanted {
		return last
	}
	select {
	case <-h.asked:
	case <-ctx.Done():
	}
	return time.Now()
}

// watch looks from time to time until ctx ends, while somebody asks. It blocks on the
// coordinators.
func (h *lagHistory) watch(ctx context.Context) {
	for wanted := time.Now(); ; {
		wanted = h.awaitWanted(ctx, wanted)
		began := time.Now()
		asked, cancel := context.WithTimeout(ctx, lagWait)
		groups, err := h.groups.ListGroups(asked)
		cancel()
		if err == nil { // who asks for the list is told why there is none
			h.note(time.Now(), groups)
		}
		took := time.Since(began)
		pause := time.NewTimer(max(lagEvery-took, min((lagShare-1)*took, lagPause)))
		select {
		case <-ctx.Done():
			pause.Stop()
			return
		case <-pause.C:
		}
	}
}

// note remembers a look.
func (h *lagHistory) note(now time.Time, groups []broker.GroupSummary) {
	h.mu.Lock()
	defer h.mu.Unlock()
	at := h.next % lagPoints
	h.next++
	h.times[at] = now
	for id, points := range h.of {
		points.forget(at)
		if points.empty() {
			delete(h.of, id)
		}
	}
	for _, g := range groups {
		points := h.of[g.Group]
		if points == nil {
			if len(h.of) >= maxLagGroups {
				continue
			}
			points = newLagRing()
			h.of[g.Group] = points
		}
		if points.records[at] = g.Lag; g.Behind != nil {
			points.seconds[at] = *g.Behind
		}
	}
}

// points are those of a group in the hour before now, the oldest first.
func (h *lagHistory) points(id string, now time.Time) []LagPoint {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := []LagPoint{}
	points := h.of[id]
	if points == nil {
		return out
	}
	for n := max(0, h.next-lagPoints); n < h.next; n++ {
		at := n % lagPoints
		if points.records[at] == lagUnknown || now.Sub(h.times[at]) > lagPoints*lagEvery {
			continue
		}
		point := LagPoint{Time: h.times[at].UTC(), Records: points.records[at]}
		if is := points.seconds[at]; is != lagUnknown {
			point.Seconds = &is
		}
		out = append(out, point)
	}
	return out
}
