package group

import (
	"encoding/binary"
	"hash/fnv"
	"iter"
	"slices"

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

// subscription is a regular expression that members subscribe by, and the topics that
// match it.
type subscription struct {
	topics   []string // sorted
	resolved bool     // topics were looked for
	version  uint64   // of the catalogue that they were found in
	found    int64    // wall clock, ms
	round    uint64   // +1 when topics are others; never 0 once they were looked at

	looked bool // by this process: topics is what matches in the catalogue of version seen
	seen   uint64
}

// take notes what matches now, and reports whether it is others than before. What is of
// an older catalogue than that is not news.
func (p *subscription) take(m *Matched, now int64) bool {
	version := m.Catalogue.Version()
	if p.looked && version < p.seen {
		return false
	}
	p.looked, p.seen = true, version
	changed := !p.resolved || !slices.Equal(m.Topics, p.topics)
	if changed {
		p.topics, p.found, p.version, p.resolved = m.Topics, now, version, true
		p.round++
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
