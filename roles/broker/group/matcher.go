package group

import (
	"context"
	"errors"
	"maps"
	"regexp"
	"slices"
	"sync"
	"time"

	"rustmq.dev/rustmq/roles/broker/pattern"
)

const (
	// maxMatches bounds the requests that wait for a match.
	maxMatches = 1000
	// maxMatched bounds the names that are kept of patterns that matched; 16 bytes each.
	maxMatched = 1 << 20
)

// Why a pattern is not matched.
var (
	errPattern  = errors.New("not a pattern")
	errEnded    = errors.New("the coordinator ends")
	errMatching = errors.New("too many patterns are being matched")
)

// Matched is what a pattern matches in a catalogue. It never changes.
type Matched struct {
	Source    string
	Catalogue Catalogue
	Topics    []string // sorted

	expression *regexp.Regexp
}

// matcher matches patterns with the names of topics, for all groups, once for each
// pattern and catalogue. A match costs what the pattern wants it to: no shard waits for
// one, and they take turns, so that none waits long for another.
type matcher struct {
	catalogue func() Catalogue
	ending    context.Context
	end       context.CancelFunc
	run       sync.WaitGroup // of goroutines that match

	turns pattern.Turns

	mu      sync.Mutex // guards what follows
	closed  bool
	waiting int // requests
	known   map[string]*Matched
	names   int // in known
}

func newMatcher(catalogue func() Catalogue) *matcher {
	m := &matcher{catalogue: catalogue, known: map[string]*Matched{}}
	m.ending, m.end = context.WithCancel(context.Background())
	return m
}

// close ends what is being matched, and returns when it has.
func (m *matcher) close() {
	m.mu.Lock()
	m.closed = true
	m.mu.Unlock()
	m.end()
	m.run.Wait()
}

// goMatch runs what matches on a goroutine of its own, unless the end has come.
func (m *matcher) goMatch(run func()) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.closed {
		m.run.Go(run)
	}
	return !m.closed
}

// ask calls then with what a pattern of a request matches: at once when it is known,
// else from another goroutine. What is known may be of a catalogue before this one.
func (m *matcher) ask(ctx context.Context, source string, then func(*Matched, error)) {
	m.mu.Lock()
	known, full := m.known[source], m.waiting >= maxMatches
	if known == nil && !full {
		m.waiting++
	}
	m.mu.Unlock()
	switch {
	case known != nil:
		then(known, nil)
		return
	case full:
		then(nil, errMatching)
		return
	}
	begun := m.goMatch(func() {
		found, err := m.find(ctx, source, pattern.MatchTime)
		m.mu.Lock()
		m.waiting--
		m.mu.Unlock()
		then(found, err)
	})
	if !begun {
		then(nil, errEnded)
	}
}

// find returns what a pattern matches in the catalogue of now. It is given up when ctx
// ends, and after such a time, if it is not zero.
func (m *matcher) find(ctx context.Context, source string, limit time.Duration) (*Matched, error) {
	c := m.catalogue()
	m.mu.Lock()
	was := m.known[source]
	m.mu.Unlock()
	if was != nil && was.Catalogue.Version() >= c.Version() {
		return was, nil
	}
	found := &Matched{Source: source, Catalogue: c}
	names, known := []string(nil), false
	if was != nil {
		found.expression = was.expression
		names, known = c.Changed(was.Catalogue)
	} else {
		expression, err := pattern.Compile(source)
		if err != nil {
			return nil, errPattern
		}
		found.expression = expression
	}
	t := m.turns.Begin(limit, ctx, m.ending)
	if known {
		found.Topics = was.follow(c, names, t)
	} else {
		for name := range c.Names() {
			if !t.Next() {
				break
			}
			if found.expression.MatchString(name) {
				found.Topics = append(found.Topics, name)
			}
		}
		slices.Sort(found.Topics)
	}
	if err := t.End(); err != nil {
		return nil, err
	}
	m.keep(found)
	return found, nil
}

// keep makes found known, in place of others if there are too many.
func (m *matcher) keep(found *Matched) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if was := m.known[found.Source]; was != nil {
		if was.Catalogue.Version() > found.Catalogue.Version() {
			return
		}
		m.names -= len(was.Topics) + 1
	}
	m.known[found.Source] = found
	if m.names += len(found.Topics) + 1; m.names > maxMatched {
		m.known, m.names = map[string]*Matched{}, 0
	}
}

// follow returns the topics that match when those of these names came or went.
func (p *Matched) follow(c Catalogue, names []string, t *pattern.Match) []string {
	found := slices.Clone(p.Topics)
	for _, name := range names {
		if !t.Next() {
			return nil
		}
		at, had := slices.BinarySearch(found, name)
		switch has := c.Partitions(name) > 0 && p.expression.MatchString(name); {
		case has && !had:
			found = slices.Insert(found, at, name)
		case had && !has:
			found = slices.Delete(found, at, at+1)
		}
	}
	return found
}

// matching is what a shard wants to have matched. It belongs to the shard's goroutine.
type matching struct {
	wanted map[string]bool
	runs   bool // a goroutine matches
}

// match has patterns matched with the topics of now, off this goroutine; the core is
// told.
func (s *shard) match(sources []string) {
	for _, source := range sources {
		if s.matching.wanted == nil {
			s.matching.wanted = map[string]bool{}
		}
		s.matching.wanted[source] = true
	}
	if s.matching.runs || len(s.matching.wanted) == 0 {
		return
	}
	wanted := slices.Sorted(maps.Keys(s.matching.wanted))
	s.matching.wanted = nil
	s.matching.runs = s.c.matcher.goMatch(func() {
		var found []*Matched
		tell := func(last bool) {
			told := found
			found = nil
			s.Post(func() {
				s.matching.runs = !last
				s.perform(s.core.Step(time.Now(), PatternsMatched{Wall: s.c.opt.Now(), Matched: told}))
				if last {
					s.match(nil)
				}
			})
		}
		told := time.Now()
		for _, source := range wanted {
			// What took its time before and was taken may take more now.
			if m, err := s.c.matcher.find(s.Context, source, 0); err == nil {
				found = append(found, m)
			}
			if time.Since(told) > time.Second { // others need not wait for all
				tell(false)
				told = time.Now()
			}
		}
		tell(true)
	})
}
