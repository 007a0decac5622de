package group

import (
	"encoding/binary"
	"hash/fnv"
	"iter"
	"regexp"
	"slices"

	"rustmq.dev/rustmq/roles/broker/pattern"
	"rustmq.dev/rustmq/storage"
)

// Catalogue is which topics there are at one moment; it never changes.
type Catalogue interface {
	// Version grows when topics or partitions come or go. Two catalogues of one
	// version say the same.
	Version() uint64
	// Names yields the names of all topics.
	Names() iter.Seq[string]
	// Partitions, TopicID and TopicName are as in [Topics].
	Partitions(name string) int32
	TopicID(name string) storage.TopicID
	TopicName(id storage.TopicID) string
	// Changed returns the names of the topics that came or went since an earlier
	// catalogue, those made anew among them; known is false when it cannot say.
	Changed(earlier Catalogue) (names []string, known bool)
}

// nothing is the catalogue of a core that was not told of any.
type nothing struct{}

func (nothing) Version() uint64                    { return 0 }
func (nothing) Names() iter.Seq[string]            { return func(func(string) bool) {} }
func (nothing) Partitions(string) int32            { return 0 }
func (nothing) TopicID(string) storage.TopicID     { return storage.TopicID{} }
func (nothing) TopicName(storage.TopicID) string   { return "" }
func (nothing) Changed(Catalogue) ([]string, bool) { return nil, false }

// change is what came or went with the last catalogue.
type change struct {
	since uint64 // the version of the one before
	names []string
	known bool // else any topic may have
}

// subscription is a regular expression that members subscribe by, and the topics that
// match it.
type subscription struct {
	expression *regexp.Regexp
	topics     []string // sorted
	resolved   bool     // topics were looked for
	version    uint64   // of the catalogue that they were found in
	found      int64    // wall clock, ms

	looked bool // by this core: topics is what matches in the catalogue of version seen
	seen   uint64
}

// compiled returns what a member's pattern compiles to; nil: it is not taken.
func compiled(source string) *regexp.Regexp {
	expression, err := pattern.Compile(source)
	if err != nil {
		return nil
	}
	return expression
}

// resolve finds the topics that match, and reports whether they are others than
// before. Where the topics before are known, it looks only at those that by has of what
// changed since: there may be many topics, and patterns.
func (p *subscription) resolve(c Catalogue, by change, now int64) bool {
	var found []string
	if p.looked && by.known && p.seen == by.since {
		found = p.follow(c, by.names)
	} else {
		for name := range c.Names() {
			if p.expression.MatchString(name) {
				found = append(found, name)
			}
		}
		slices.Sort(found)
	}
	p.looked, p.seen = true, c.Version()
	changed := !p.resolved || !slices.Equal(found, p.topics)
	if changed {
		p.topics, p.found, p.version, p.resolved = found, now, c.Version(), true
	}
	return changed
}

// follow returns the topics that match when those of these names came or went.
func (p *subscription) follow(c Catalogue, names []string) []string {
	found := slices.Clone(p.topics)
	for _, name := range names {
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

// metadataHash tells apart what there is of subscribed topics: their ids, and
// how many partitions they have. names are sorted.
func metadataHash(c Catalogue, names []string) int64 {
	if len(names) == 0 {
		return 0
	}
	h := fnv.New64a()
	for _, name := range names {
		id, n := c.TopicID(name), c.Partitions(name)
		if n == 0 {
			continue
		}
		h.Write(id[:])
		h.Write(binary.BigEndian.AppendUint32(nil, uint32(n)))
	}
	return int64(h.Sum64())
}
