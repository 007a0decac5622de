package etl

import "unicode/utf8"

// MaxText is how long the text of a decision may be, in bytes: the topic of a route, the
// reason of a reject. Longer reasons are cut.
const MaxText = 1024

// What decisions about a batch may come to, as the host counts: so many times the batch,
// within these.
const (
	times = 4
	least = 1 << 20
	most  = 64 << 20
)

// reserve is left for each record that is still to come, so that it can be rejected for
// tooLarge, which is shorter.
const (
	reserve  = 128
	tooLarge = "too large: what is made of a batch may come to 4 times its size, or 1 MiB"
)

// maxHeaders is how many headers the host lets a decision give a record; tooManyHeaders is
// within reserve too.
const (
	maxHeaders     = 4096
	tooManyHeaders = "too many headers: what is made of a record may have 4096"
)

// An Action is what is done with a record.
type Action uint32

// The actions.
const (
	Keep Action = iota
	Drop
	Route
	Reject
)

const (
	replacesKey = 1 << iota
	replacesValue
	replacesHeaders
)

// A Header is a header of a record. A nil Value is null.
type Header struct {
	Name  string
	Value []byte
}

// span is a piece of decisions.bytes; length -1: null.
type span struct {
	start  uint32
	length int32
}

type entry struct {
	action           Action
	replaced         uint32
	key, value, text span
	firstHeader      uint32
	headers          uint32
}

type headerEntry struct{ name, value span }

// decisions are those for a batch. Its memory is kept from batch to batch.
type decisions struct {
	entries []entry
	headers []headerEntry
	bytes   []byte
	limit   int      // bytes there may be, headers counted too, once this record is decided about
	table   []uint64 // as the host reads it: 5 words a decision, then 2 a header
}

// reset forgets what was, and keeps the count records of a batch of size bytes as they are.
func (d *decisions) reset(count, size int) {
	d.limit = max(0, min(max(size*times, least), most)-count*reserve)
	if cap(d.entries) < count {
		d.entries = make([]entry, count)
	}
	d.entries = d.entries[:count]
	clear(d.entries)
	d.headers, d.bytes, d.table = d.headers[:0], d.bytes[:0], d.table[:0]
}

// decide has transform decide about record i. If that comes to more than the host takes, or
// has more headers, the record is rejected in its place, so that it does not fail the batch.
func (d *decisions) decide(i int, r Record, transform Transform) {
	bytes, headers := len(d.bytes), len(d.headers)
	out := Output{decisions: d, entry: &d.entries[i]}
	transform.Record(r, &out)
	reason := ""
	switch {
	case out.entry.headers > maxHeaders:
		reason = tooManyHeaders
	case d.used() > d.limit:
		reason = tooLarge
	}
	if reason != "" {
		d.bytes, d.headers = d.bytes[:bytes], d.headers[:headers]
		out.Reject(reason)
	}
	d.limit += reserve
}

func (d *decisions) used() int { return len(d.bytes) + len(d.headers)*headerBytes }

func (d *decisions) allKept() bool {
	for i := range d.entries {
		if e := &d.entries[i]; e.action != Keep || e.replaced != 0 {
			return false
		}
	}
	return true
}

// grow makes room for the table, whose words lay fills.
func (d *decisions) grow() {
	words := len(d.entries)*5 + len(d.headers)*2
	if cap(d.table) < words {
		d.table = make([]uint64, words)
	}
	d.table = d.table[:words]
}

// lay fills the table, which lies at tableAt while bytes lie at bytesAt.
func (d *decisions) lay(tableAt, bytesAt uint32) {
	pair := func(first, second uint32) uint64 { return uint64(second)<<32 | uint64(first) }
	place := func(s span) uint64 { return pair(bytesAt+s.start, uint32(s.length)) }
	headersAt := tableAt + uint32(len(d.entries))*40
	for i := range d.entries {
		e, words := &d.entries[i], d.table[i*5:]
		words[0] = pair(uint32(e.action), e.replaced)
		words[1] = place(e.key)
		words[2] = place(e.value)
		words[3] = pair(headersAt+e.firstHeader*headerBytes, e.headers)
		words[4] = place(e.text)
	}
	for i, h := range d.headers {
		words := d.table[len(d.entries)*5+i*2:]
		words[0], words[1] = place(h.name), place(h.value)
	}
}

func (d *decisions) put(b []byte) span {
	start := uint32(len(d.bytes))
	if b == nil {
		return span{start, -1}
	}
	d.bytes = append(d.bytes, b...)
	return span{start, int32(len(b))}
}

func (d *decisions) putText(s string) span {
	start := uint32(len(d.bytes))
	d.bytes = append(d.bytes, s...)
	return span{start, int32(len(s))}
}

// Output is told what becomes of a record. The last call of Drop, Route and Reject holds.
type Output struct {
	decisions *decisions
	entry     *entry
}

// Room is how many bytes what becomes of this record may come to: the host takes decisions of
// four times the batch (at least 1 MiB, at most 64 MiB). A record that goes beyond is
// rejected; who writes much by AppendValue asks first, and need not write on.
func (o *Output) Room() int { return max(0, o.decisions.limit-o.decisions.used()) }

// Drop drops the record.
func (o *Output) Drop() { *o.entry = entry{action: Drop} }

// Reject rejects the record. The reason says what is wrong with it, for who reads it in a
// dead letter or in a producer's error; it is cut after MaxText bytes.
func (o *Output) Reject(reason string) {
	if len(reason) > MaxText {
		end := MaxText
		for end > 0 && !utf8.RuneStart(reason[end]) {
			end--
		}
		reason = reason[:end]
	}
	*o.entry = entry{action: Reject, text: o.decisions.putText(reason)}
}

// Route sends the record to another topic, in place of this one. The module's spec must
// name it among its routes.
func (o *Output) Route(topic string) {
	o.entry.action, o.entry.text = Route, o.decisions.putText(topic)
}

// Key replaces the key by a copy of key; nil: null.
func (o *Output) Key(key []byte) {
	o.entry.key = o.decisions.put(key)
	o.entry.replaced |= replacesKey
}

// Value replaces the value by a copy of value; nil: null.
func (o *Output) Value(value []byte) {
	o.entry.value = o.decisions.put(value)
	o.entry.replaced |= replacesValue
}

// AppendValue replaces the value by what write appends to the slice that it is given and
// returns; it must leave alone what the slice holds already.
func (o *Output) AppendValue(write func(b []byte) []byte) {
	start := len(o.decisions.bytes)
	o.decisions.bytes = write(o.decisions.bytes)
	o.entry.value = span{uint32(start), int32(len(o.decisions.bytes) - start)}
	o.entry.replaced |= replacesValue
}

// Headers replaces all headers: those of the record go where they are not among them. A
// record has 4,096 at most: one that is given more is rejected.
func (o *Output) Headers(headers ...Header) {
	o.entry.firstHeader = uint32(len(o.decisions.headers))
	o.entry.headers = uint32(len(headers))
	for _, h := range headers {
		o.decisions.headers = append(o.decisions.headers, headerEntry{o.decisions.putText(h.Name), o.decisions.put(h.Value)})
	}
	o.entry.replaced |= replacesHeaders
}
