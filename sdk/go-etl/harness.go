//go:build !wasip1

package etl

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// base is where the memory of a test begins: an address that nothing has by chance.
const base = 0x10000

// A TestRecord is a record of a test. A nil Key or Value is null.
type TestRecord struct {
	Timestamp, Offset int64
	Key, Value        []byte
	Headers           []Header
}

// A TestBatch is a batch of a test.
type TestBatch struct {
	Topic                        string
	Partition                    int32
	Timestamp                    int64
	Transactional, DryRun, Async bool
	Records                      []TestRecord
}

// A Decision is what became of a record. Key, Value and Headers hold if they were replaced.
type Decision struct {
	Action                                     Action
	ReplacesKey, ReplacesValue, ReplacesHeader bool
	Key, Value                                 []byte
	Headers                                    []Header
	Text                                       string
}

// A Line is one of the log.
type Line struct {
	Level Level
	Text  string
}

// A Harness runs a transform outside of a broker, by the same layout. One is at work at a time.
type Harness struct {
	// Lines is what was logged, Metrics what was counted.
	Lines   []Line
	Metrics map[string]float64

	guest guest
}

// Test makes the transform of that configuration.
func Test(transform New, config string) (*Harness, error) {
	h := &Harness{guest: guest{make: transform}}
	h.listens()
	if failed := h.guest.init([]byte(config)); failed != nil {
		return nil, errors.New(string(failed))
	}
	return h, nil
}

func (h *Harness) listens() { listener = h }

// Batch returns what becomes of the records of a batch, one decision each.
func (h *Harness) Batch(b TestBatch) []Decision {
	h.listens()
	decided := make([]Decision, len(b.Records))
	if !h.guest.decide(b.encode(), base) {
		return decided
	}
	d := &h.guest.decisions
	bytesAt := base + uint32(len(d.table))*8
	d.lay(base, bytesAt)
	var image []byte
	for _, word := range d.table {
		image = binary.LittleEndian.AppendUint64(image, word)
	}
	image = append(image, d.bytes...)
	for i := range decided {
		decided[i] = decode(memory{image, base}, i)
	}
	return decided
}

// Record returns what becomes of a record that is alone in its batch, in partition 3 of
// topic "topic".
func (h *Harness) Record(r TestRecord) Decision {
	return h.Batch(TestBatch{Topic: "topic", Partition: 3, Timestamp: r.Timestamp, Records: []TestRecord{r}})[0]
}

// encode lays the batch as a host does.
func (b TestBatch) encode() []byte {
	le := binary.LittleEndian
	m := make([]byte, headBytes+len(b.Records)*entryBytes)
	put := func(b []byte) (address uint32, length uint32) {
		if b == nil {
			return 0, ^uint32(0)
		}
		m = append(m, b...)
		return base + uint32(len(m)-len(b)), uint32(len(b))
	}
	place := func(at int, b []byte) {
		address, length := put(b)
		le.PutUint32(m[at:], address)
		le.PutUint32(m[at+4:], length)
	}
	var flags uint32
	for bit, set := range map[uint32]bool{flagTransactional: b.Transactional, flagDryRun: b.DryRun, flagAsync: b.Async} {
		if set {
			flags |= bit
		}
	}
	le.PutUint32(m, uint32(len(b.Records)))
	le.PutUint32(m[4:], flags)
	le.PutUint64(m[8:], uint64(b.Timestamp))
	le.PutUint32(m[16:], uint32(b.Partition))
	address, length := put([]byte(b.Topic))
	le.PutUint32(m[20:], length)
	le.PutUint32(m[24:], address)
	for i, r := range b.Records {
		at := headBytes + i*entryBytes
		le.PutUint64(m[at:], uint64(r.Timestamp))
		le.PutUint64(m[at+8:], uint64(r.Offset))
		place(at+16, r.Key)
		place(at+24, r.Value)
		m = append(m, make([]byte, (8-len(m)%8)%8)...)
		table := len(m)
		m = append(m, make([]byte, len(r.Headers)*headerBytes)...)
		for j, h := range r.Headers {
			place(table+j*headerBytes, append([]byte{}, h.Name...))
			place(table+j*headerBytes+8, h.Value)
		}
		le.PutUint32(m[at+32:], base+uint32(table))
		le.PutUint32(m[at+36:], uint32(len(r.Headers)))
	}
	return m
}

// decode reads decision i of an image.
func decode(image memory, i int) Decision {
	le := binary.LittleEndian
	b := image.bytes[i*40:][:40]
	replaced := le.Uint32(b[4:])
	d := Decision{
		Action:         Action(le.Uint32(b)),
		ReplacesKey:    replaced&replacesKey != 0,
		ReplacesValue:  replaced&replacesValue != 0,
		ReplacesHeader: replaced&replacesHeaders != 0,
	}
	if d.Action > Reject || replaced != 0 && d.Action != Keep && d.Action != Route {
		panic(fmt.Sprintf("etl: decision %d: action %d replaces %d", i, d.Action, replaced))
	}
	if d.ReplacesKey {
		d.Key = image.part(b[8:])
	}
	if d.ReplacesValue {
		d.Value = image.part(b[16:])
	}
	if d.ReplacesHeader {
		table := image.slice(le.Uint32(b[24:]), le.Uint32(b[28:])*headerBytes)
		for ; len(table) > 0; table = table[headerBytes:] {
			d.Headers = append(d.Headers, Header{string(image.part(table)), image.part(table[8:])})
		}
	}
	if d.Action == Route || d.Action == Reject {
		d.Text = string(image.part(b[32:]))
	}
	return d
}
