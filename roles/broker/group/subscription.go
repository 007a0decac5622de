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
}

// nothing is the catalogue of a core that was not told of any.
type nothing struct{}

func (nothing) Version() uint64                  { return 0 }
func (nothing) Names() iter.Seq[string]          { return func(func(string) bool) {} }
func (nothing) Partitions(string) int32          { return 0 }
func (nothing) TopicID(string) storage.TopicID   { return storage.TopicID{} }
func (nothing) TopicName(storage.TopicID) string { return "" }

// subscription is a regular expression that members subscribe by, and the topics that
// match it.
type subscription struct {
	expression *regexp.Regexp
	topics     []string // sorted
	resolved   bool     // topics were looked for
	version    uint64   // of the catalogue that they were found in
	found      int64    // wall clock, ms
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
// before.
func (p *subscription) resolve(c Catalogue, now int64) bool {
	var found []string
	for name := range c.Names() {
		if p.expression.MatchString(name) {
			found = append(found, name)
		}
	}
	slices.Sort(found)
	changed := !p.resolved || !slices.Equal(found, p.topics)
	if changed {
		p.topics, p.found, p.version, p.resolved = found, now, c.Version(), true
	}
	return changed
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
