package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"rustmq.dev/rustmq/storage/guard"
)

// formatVersion is that of records as they are written.
const formatVersion = 1

// MaxRecord is the most bytes of a record: of an event whose every byte is escaped twice.
const MaxRecord = 32 << 10

// Kinds of records.
const (
	kindBegin = "begin"
	kindEvent = "event"
	kindGap   = "gap"
)

// Head is how far a life has come: its newest record, and where in the topic that is.
type Head struct {
	Node   int32  `json:"node"`
	Life   string `json:"life"`
	Seq    int64  `json:"seq"`
	Hash   string `json:"hash"`
	Offset int64  `json:"offset"`
}

// record is one as it is encoded, but for its hash.
type record struct {
	Version      int    `json:"v"`
	Kind         string `json:"kind"`
	Node         int32  `json:"node"`
	Life         string `json:"life"`
	Seq          int64  `json:"seq"`
	Prev         string `json:"prev"`
	Time         string `json:"time"`
	Principal    string `json:"principal,omitempty"`
	Source       string `json:"source,omitempty"`
	Door         string `json:"door,omitempty"`
	Action       string `json:"action,omitempty"`
	ResourceType string `json:"resource_type,omitempty"`
	Resource     string `json:"resource,omitempty"`
	Outcome      string `json:"outcome,omitempty"`
	Reason       string `json:"reason,omitempty"`
	Detail       string `json:"detail,omitempty"`
	Request      string `json:"request,omitempty"`
	Count        int64  `json:"count,omitempty"`
	First        string `json:"first,omitempty"`
	After        *Head  `json:"after,omitempty"`
	Lost         int64  `json:"lost,omitempty"`
}

const (
	hashField  = `,"hash":"`
	hashEnd    = `"}`
	hexLength  = 2 * sha256.Size
	hashLength = len(hashField) + hexLength + len(hashEnd)
)

// encode returns the bytes of r, and their hash.
func (r *record) encode() (value []byte, hash string) {
	body, err := json.Marshal(r)
	if err != nil {
		panic(fmt.Sprintf("audit: a record cannot be encoded: %v", err)) // of strings and numbers
	}
	value = sealed(body[:len(body)-1]) // without the closing brace
	return value, string(value[len(value)-len(hashEnd)-hexLength : len(value)-len(hashEnd)])
}

// sealed ends the body of a record with its hash.
func sealed(body []byte) []byte {
	sum := sha256.Sum256(body)
	body = append(body, hashField...)
	body = hex.AppendEncode(body, sum[:])
	return append(body, hashEnd...)
}

// Record is one as it was read.
type Record struct {
	Event
	Kind string // "begin", "event" or "gap"
	Life string
	Seq  int64
	Lost int64  // of a gap: events that were not recorded
	Hash string // as it says
	prev string

	after *Head
	whole bool // Hash is that of its bytes
}

// Whole reports whether the record is as it was written, as far as its own hash says.
func (r *Record) Whole() bool { return r.whole }

var errNoRecord = errors.New("it is not a record of an audit log")

// Parse reads a record. Its hash is not looked at: that is for a [Verifier].
func Parse(value []byte) (*Record, error) {
	if len(value) > MaxRecord || len(value) < hashLength {
		return nil, fmt.Errorf("%w: %d bytes", errNoRecord, len(value))
	}
	body, tail := value[:len(value)-hashLength], value[len(value)-hashLength:]
	if !bytes.HasPrefix(tail, []byte(hashField)) || !bytes.HasSuffix(tail, []byte(hashEnd)) {
		return nil, fmt.Errorf("%w: it does not end with a hash", errNoRecord)
	}
	var r record
	if err := json.Unmarshal(value, &r); err != nil {
		return nil, fmt.Errorf("%w: %w", errNoRecord, err)
	}
	switch {
	case r.Version < formatVersion:
		return nil, fmt.Errorf("%w: version %d", errNoRecord, r.Version)
	case r.Life == "" || len(r.Life) > maxWord || r.Seq < 0 || (r.Kind == kindBegin) != (r.Seq == 0):
		return nil, fmt.Errorf("%w: it names no place in a chain", errNoRecord)
	}
	sum := sha256.Sum256(body)
	said := string(tail[len(hashField) : len(hashField)+hexLength])
	out := &Record{
		Event: Event{
			Node: r.Node, Principal: r.Principal, Source: r.Source, Door: r.Door, Action: r.Action, ResourceType: r.ResourceType,
			Resource: r.Resource, Reason: r.Reason, Detail: r.Detail, Request: r.Request, Count: r.Count,
		},
		Kind: r.Kind, Life: r.Life, Seq: r.Seq, Lost: r.Lost, Hash: said, prev: r.Prev, after: r.After,
		whole: guard.Check("audit.record-hash", said == hex.EncodeToString(sum[:])),
	}
	out.Outcome, _ = ParseOutcome(r.Outcome)
	out.Time, _ = time.Parse(time.RFC3339Nano, r.Time)
	out.First, _ = time.Parse(time.RFC3339Nano, r.First)
	return out, nil
}

// chain makes the records of one life.
type chain struct {
	node int32
	life string
	seq  int64  // of the next
	prev string // hash of the last; empty: there is none
}

// head is how far the chain has come, if its newest record is at an offset.
func (c *chain) head(offset int64) Head {
	return Head{Node: c.node, Life: c.life, Seq: c.seq - 1, Hash: c.prev, Offset: offset}
}

func (c *chain) add(r record, now time.Time) []byte {
	r.Version, r.Node, r.Life, r.Seq, r.Prev, r.Time = formatVersion, c.node, c.life, c.seq, c.prev, stamp(now)
	value, hash := r.encode()
	c.seq++
	c.prev = hash
	return value
}

// begin makes the first record; of the life before is known how far it came, or nothing.
func (c *chain) begin(now time.Time, before *Head) []byte {
	return c.add(record{Kind: kindBegin, After: before}, now)
}

// event makes the record of an event.
func (c *chain) event(e *Event) []byte {
	r := record{
		Kind: kindEvent, Principal: e.Principal, Source: e.Source, Door: e.Door, Action: e.Action, ResourceType: e.ResourceType,
		Resource: e.Resource, Outcome: e.Outcome.String(), Reason: e.Reason, Detail: e.Detail, Request: e.Request,
	}
	if e.Count > 1 {
		r.Count, r.First = e.Count, stamp(e.First)
	}
	return c.add(r, e.Time)
}

// gap makes the record that says that some were not recorded.
func (c *chain) gap(now time.Time, lost int64) []byte {
	return c.add(record{Kind: kindGap, Lost: lost}, now)
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }
