package admin

import (
	"context"
	"sync"
	"time"
)

const (
	// sightEvery is the time between two looks at the health of the cluster, by which it is
	// known since when a problem is there.
	sightEvery = 5 * time.Second
	// sightForgotten is how long a problem may be gone until another is called a new one.
	sightForgotten = 3 * sightEvery
)

// sightings is since when the problems of a cluster are there, as this process has seen. It
// is safe for concurrent use.
type sightings struct {
	judge func(context.Context) ClusterHealth // set before any use

	mu    sync.Mutex
	looks int                 // guarded by mu
	seen  *ClusterHealth      // at the last look of watch; guarded by mu
	of    map[string]sighting // by id of the problem; guarded by mu
}

type sighting struct {
	first, last time.Time
	earlier     bool // it was there at the first look
}

func newSightings() *sightings { return &sightings{of: map[string]sighting{}} }

// watch looks from time to time until ctx ends. It blocks on the controllers.
func (s *sightings) watch(ctx context.Context) {
	if s.judge == nil {
		return
	}
	ticker := time.NewTicker(sightEvery)
	defer ticker.Stop()
	for {
		if h := s.judge(ctx); ctx.Err() == nil {
			s.date(h.Problems, time.Now())
			s.mu.Lock()
			s.seen = &h
			s.mu.Unlock()
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// last is the health of the cluster as of the last look, which is not to be changed; judged: there
// was one.
func (s *sightings) last() (health ClusterHealth, judged bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.seen == nil {
		return health, false
	}
	return *s.seen, true
}

// date notes which problems there are, and says of each since when.
func (s *sightings) date(problems []Problem, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range problems {
		p := &problems[i]
		is, known := s.of[p.ID]
		if !known {
			is = sighting{first: now, earlier: s.looks == 0}
		}
		is.last = now
		s.of[p.ID] = is
		if p.Since.IsZero() {
			p.Since, p.Earlier = is.first, is.earlier
		}
		p.Since = p.Since.UTC().Truncate(time.Second)
	}
	s.looks++
	for id, is := range s.of {
		if now.Sub(is.last) > sightForgotten {
			delete(s.of, id)
		}
	}
}
