package telemetry

import (
	"encoding/base64"
	"encoding/binary"
	"hash/crc32"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Client is what is known of one that asks or pushes.
type Client struct {
	Instance                      [16]byte
	ID                            string
	SoftwareName, SoftwareVersion string // empty: it has not said
	Address, Port                 string
}

// Assigned is what a client is to push.
type Assigned struct {
	Instance [16]byte
	ID       int32 // of the subscription
	// Prefixes are of names of metrics, in order, none of which begins with another; an
	// empty one: all metrics; none: nothing is to be pushed.
	Prefixes []string
	Interval time.Duration
}

// castagnoli is the table of CRC32C.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// assign unites the subscriptions that match a client.
func assign(all []*Subscription, c *Client) Assigned {
	a := Assigned{Instance: c.Instance, Interval: maxInterval}
	none := true
	for _, s := range all {
		if s.matches(c) {
			none = false
			a.Interval = min(a.Interval, s.interval)
			a.Prefixes = append(a.Prefixes, s.prefixes...)
		}
	}
	if none {
		a.Interval = defaultInterval
	}
	slices.Sort(a.Prefixes)
	a.Prefixes = shortest(a.Prefixes)
	var text []byte
	for _, prefix := range a.Prefixes {
		text = append(append(text, prefix...), '\n')
	}
	text = strconv.AppendInt(text, a.Interval.Milliseconds(), 10)
	id := crc32.Checksum(text, castagnoli)
	for word := range slices.Chunk(c.Instance[:], 4) {
		id ^= binary.BigEndian.Uint32(word)
	}
	a.ID = int32(id)
	return a
}

// shortest leaves out prefixes that begin with another; they are in order, and stay so.
func shortest(prefixes []string) []string {
	kept := prefixes[:0]
	for _, prefix := range prefixes {
		if len(kept) == 0 || !strings.HasPrefix(prefix, kept[len(kept)-1]) {
			kept = append(kept, prefix)
		}
	}
	return kept
}

// wants reports whether a metric is one of those that the client was asked for.
func (a *Assigned) wants(name []byte) bool {
	text := string(name[:min(len(name), maxListBytes)]) // no prefix is longer
	i, found := slices.BinarySearch(a.Prefixes, text)
	// What lies between a prefix and the name in order begins with the prefix too.
	return found || i > 0 && strings.HasPrefix(text, a.Prefixes[i-1])
}

// encodeInstance writes an instance id as Kafka does.
func encodeInstance(id [16]byte) string { return base64.RawURLEncoding.EncodeToString(id[:]) }

// newInstance takes ids from random until one may be a client's: none of those that
// Kafka keeps to itself, nor one that tools would take for an option.
func newInstance(random func() [16]byte) [16]byte {
	for {
		if id := random(); !reserved(id) && encodeInstance(id)[0] != '-' {
			return id
		}
	}
}

// reserved reports whether Kafka gives the id a meaning of its own: none, and one.
func reserved(id [16]byte) bool {
	return id == [16]byte{} || id == [16]byte{15: 1}
}
