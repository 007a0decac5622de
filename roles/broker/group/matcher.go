package group

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"rustmq.dev/rustmq/roles/broker/pattern"
	"rustmq.dev/rustmq/storage/guard"
)

const (
	// maxMatches bounds the requests that wait for a match.
	maxMatches = 1000
	// maxKept bounds the bytes of patterns that were matched, and of what they matched.
	maxKept = 64 << 20
	// maxUnderWay bounds those of matches that are under way for requests. One that
	// takes more passes alone, and each shard may have one besides.
	maxUnderWay = 64 << 20
	// maxCatalogues bounds the catalogues that are kept with what was matched in them:
	// an old one holds metadata that nobody else wants.
	maxCatalogues = 8

	// maxTold is after how many names a shard is told what its patterns matched.
	maxTold = 1 << 20

	nameBytes    = 16  // of a name that matched; its bytes are the catalogue's
	matchedBytes = 200 // of what is kept of a pattern, besides
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

	expression *pattern.Pattern
}

// size is about what m takes in memory, its catalogue left out.
func (m *Matched) size() int64 {
	return m.expression.Memory + matchedBytes + nameBytes*int64(cap(m.Topics))
}

// flight is a match that is under way. Who wants the same waits for it.
type flight struct {
	landed chan struct{} // closed when found and err are set
	found  *Matched
	err    error

	may  bool  // take more than there is room for
	held int64 // bytes; guarded by the matcher's mu
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

	mu       sync.Mutex // guards what follows
	closed   bool
	waiting  int // requests
	flights  map[string]*flight
	underWay int64 // bytes of flights
	known    map[string]*Matched
	kept     int64          // bytes of known
	versions map[uint64]int // how many of known are of a catalogue, by its version
}

func newMatcher(catalogue func() Catalogue) *matcher {
	m := &matcher{catalogue: catalogue, flights: map[string]*flight{}}
	m.forgetAll()
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

// find returns what a pattern matches in the catalogue of now, or one that comes
// meanwhile. It is given up when ctx ends, and after such a time, if it is not zero.
func (m *matcher) find(ctx context.Context, source string, limit time.Duration) (*Matched, error) {
	c := m.catalogue()
	for {
		m.mu.Lock()
		was, f := m.known[source], m.flights[source]
		fresh := was != nil && was.Catalogue.Version() >= c.Version()
		mine := !fresh && f == nil
		if mine {
			f = &flight{landed: make(chan struct{}), may: limit == 0}
			m.flights[source] = f
		}
		m.mu.Unlock()
		if fresh {
			return was, nil
		}
		if mine {
			found, err := m.match(ctx, f, source, was, limit)
			m.land(source, f, found, err)
			return found, err
		}
		select {
		case <-f.landed:
		case <-ctx.Done():
			return nil, pattern.ErrNobody
		case <-m.ending.Done():
			return nil, pattern.ErrNobody
		}
		switch {
		case f.err == nil && f.found.Catalogue.Version() >= c.Version():
			return f.found, nil
		case f.err == errPattern, limit > 0 && (f.err == errMatching || f.err == pattern.ErrTooLong):
			return nil, f.err
		} // it is of older topics, or given up by who has less patience
	}
}

// match does what find is asked for. was is what the pattern matched before, nil: that
// is not known.
func (m *matcher) match(ctx context.Context, f *flight, source string, was *Matched, limit time.Duration) (*Matched, error) {
	c := m.catalogue()
	found := &Matched{Source: source, Catalogue: c}
	t := m.turns.Begin(limit, ctx, m.ending)
	var names []string
	var known bool
	var failed error
	if was != nil {
		found.expression = was.expression
		names, known = c.Changed(was.Catalogue)
	} else if t.Next() {
		found.expression, failed = compile(source)
	}
	switch {
	case failed != nil:
	case known:
		if failed = m.hold(f, was.size()); failed == nil {
			found.Topics = was.follow(c, names, t)
		}
	case t.Next():
		failed = m.matchAll(f, found, t)
	}
	if err := t.End(); err != nil {
		return nil, err
	}
	if failed != nil {
		return nil, failed
	}
	return found, nil
}

func compile(source string) (*pattern.Pattern, error) {
	p, err := pattern.Compile(source)
	if err != nil {
		return nil, errPattern
	}
	return p, nil
}

// matchAll looks at every name of found's catalogue.
func (m *matcher) matchAll(f *flight, found *Matched, t *pattern.Match) error {
	if err := m.hold(f, found.size()); err != nil {
		return err
	}
	for name := range found.Catalogue.Names() {
		if !t.Next() {
			return nil
		}
		if !found.expression.MatchString(name) {
			continue
		}
		before := found.size()
		found.Topics = append(found.Topics, name)
		if err := m.hold(f, found.size()-before); err != nil {
			return err
		}
	}
	slices.Sort(found.Topics)
	return nil
}

// hold counts bytes that a flight takes, until it has landed, unless there is no room
// for them beside others'.
func (m *matcher) hold(f *flight, bytes int64) error {
	if bytes == 0 {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	alone := m.underWay == f.held
	if !guard.Check("group.matches-under-way", f.may || alone || m.underWay+bytes <= maxUnderWay) {
		return errMatching
	}
	f.held += bytes
	m.underWay += bytes
	return nil
}

// land tells who waits for a flight what has become of it.
func (m *matcher) land(source string, f *flight, found *Matched, err error) {
	m.mu.Lock()
	delete(m.flights, source)
	m.underWay -= f.held
	f.found, f.err = found, err
	if err == nil {
		m.keep(found)
	}
	m.mu.Unlock()
	close(f.landed)
}

// keep makes found known, in place of others if there are too many. m.mu is held.
func (m *matcher) keep(found *Matched) {
	if was := m.known[found.Source]; was != nil {
		if was.Catalogue.Version() > found.Catalogue.Version() {
			return
		}
		m.forget(was)
	}
	m.known[found.Source] = found
	m.kept += found.size()
	m.versions[found.Catalogue.Version()]++
	if !guard.Check("group.matches-kept", m.kept <= maxKept) {
		m.forgetAll()
	}
	if !guard.Check("group.catalogues-kept", len(m.versions) <= maxCatalogues) {
		oldest := slices.Min(slices.Collect(maps.Keys(m.versions)))
		for _, is := range m.known {
			if is.Catalogue.Version() == oldest {
				m.forget(is)
			}
		}
	}
}

// forget makes what is known of a pattern unknown. m.mu is held.
func (m *matcher) forget(is *Matched) {
	delete(m.known, is.Source)
	m.kept -= is.size()
	version := is.Catalogue.Version()
	if m.versions[version]--; m.versions[version] == 0 {
		delete(m.versions, version)
	}
}

// forgetAll makes all that is known unknown. m.mu is held.
func (m *matcher) forgetAll() {
	m.known, m.kept, m.versions = map[string]*Matched{}, 0, map[uint64]int{}
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
		told, names := time.Now(), 0
		for _, source := range wanted {
			// What took its time before and was taken may take more now.
			if m, err := s.c.matcher.find(s.Context, source, 0); err == nil {
				found = append(found, m)
				names += len(m.Topics)
			}
			if time.Since(told) > time.Second || names > maxTold { // others need not wait for all
				tell(false)
				told, names = time.Now(), 0
			}
		}
		tell(true)
	})
}
