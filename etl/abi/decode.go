package abi

import (
	"encoding/binary"
	"fmt"
	"math"
	"unicode/utf8"

	"rustmq.dev/rustmq/storage/guard"
)

// MaxHeaders is how many headers a decision may give a record. It is far above what
// records have, and keeps one decision from being a table of the whole memory.
const MaxHeaders = 1 << 12

// Decode reads the n decisions that a guest says lie in its memory: result is what
// rustmq_transform returned, address<<32 | length. Bytes that the decisions point to,
// with 16 for each header, may come to limit; they count as often as they are pointed to.
//
// nil decisions keep every record as it is. An error is a [*Failure] of kind Output
// that names the record and the field. memory is not written, and not kept.
func Decode(memory []byte, result uint64, n, limit int) ([]Decision, error) {
	if result == 0 {
		return nil, nil
	}
	address, size := uint32(result>>32), uint32(result)
	if !guard.Check("etl.decisions-length", uint64(size) == uint64(n)*decisionSize) {
		return nil, output("rustmq_transform returned %d bytes for %d records: it must be %d for each", size, n, decisionSize)
	}
	if address%Alignment != 0 {
		return nil, output("rustmq_transform returned decisions at %d, which is no multiple of %d", address, Alignment)
	}
	table, ok := within(memory, address, size)
	if !ok {
		return nil, output("rustmq_transform returned decisions at %d, %d bytes, outside of its memory of %d", address, size, len(memory))
	}
	d := decoder{memory: memory, left: limit}
	changed := false
	for i := range n {
		some, err := d.check(table[i*decisionSize:][:decisionSize])
		if err != nil {
			return nil, output("record %d: %s", i, err)
		}
		changed = changed || some
	}
	if !changed {
		return nil, nil
	}
	return d.copy(table, n), nil
}

// Output is the failure of a module that returned what it may not.
func output(format string, args ...any) *Failure {
	return &Failure{Kind: Output, Text: fmt.Sprintf(format, args...)}
}

// within returns the size bytes at address, if they all lie in memory.
func within(memory []byte, address, size uint32) ([]byte, bool) {
	end := uint64(address) + uint64(size) // no overflow: both have 32 bits
	if !guard.Check("etl.within-memory", end <= uint64(len(memory))) {
		return nil, false
	}
	return memory[address:end:end], true
}

// A decoder first checks all decisions and adds up what they point to, then copies it
// into two blocks, whatever the number of records. Nothing runs in the guest between.
type decoder struct {
	memory  []byte
	left    int // bytes that may still be pointed to
	bytes   int // keys and values, for the first block
	text    int // names and texts, for the second
	headers int
}

// check says whether e, a decision, changes anything.
func (d *decoder) check(e []byte) (bool, error) {
	le := binary.LittleEndian
	action, parts := Action(le.Uint32(e)), Parts(le.Uint32(e[4:]))
	switch action {
	case Keep, Route:
		if parts&^(Key|Value|Headers) != 0 {
			return false, fmt.Errorf("replaced parts are %#x: bits 1 (key), 2 (value) and 4 (headers) are known", uint32(parts))
		}
		if err := d.checkParts(e, parts); err != nil {
			return false, err
		}
		if action == Keep {
			return parts != 0, nil
		}
		return true, d.checkText(e, "the topic of its route", 1)
	case Drop:
		return true, nil
	case Reject:
		return true, d.checkText(e, "the reason of its rejection", 0)
	}
	return false, fmt.Errorf("action is %d: 0 (keep), 1 (drop), 2 (route) and 3 (reject) are known", uint32(action))
}

func (d *decoder) checkParts(e []byte, parts Parts) error {
	le := binary.LittleEndian
	if parts&Key != 0 {
		if err := d.checkBytes("its key", le.Uint32(e[8:]), le.Uint32(e[12:])); err != nil {
			return err
		}
	}
	if parts&Value != 0 {
		if err := d.checkBytes("its value", le.Uint32(e[16:]), le.Uint32(e[20:])); err != nil {
			return err
		}
	}
	if parts&Headers == 0 {
		return nil
	}
	number := le.Uint32(e[28:])
	if !guard.Check("etl.headers", number <= MaxHeaders) {
		return fmt.Errorf("it has %d headers: %d at most", number, MaxHeaders)
	}
	table, ok := within(d.memory, le.Uint32(e[24:]), number*headerSize)
	if !ok {
		return fmt.Errorf("its %d headers at %d are outside of the memory of %d bytes", number, le.Uint32(e[24:]), len(d.memory))
	}
	d.headers += int(number)
	if err := d.take(len(table)); err != nil {
		return err
	}
	for ; len(table) > 0; table = table[headerSize:] {
		name, ok := within(d.memory, le.Uint32(table), le.Uint32(table[4:]))
		if !ok {
			return fmt.Errorf("the name of a header at %d, %d bytes, is outside of the memory of %d", le.Uint32(table), le.Uint32(table[4:]), len(d.memory))
		}
		if err := d.take(len(name)); err != nil {
			return err
		}
		d.text += len(name)
		if err := d.checkBytes("the value of a header", le.Uint32(table[8:]), le.Uint32(table[12:])); err != nil {
			return err
		}
	}
	return nil
}

func (d *decoder) checkBytes(what string, address, length uint32) error {
	if length == math.MaxUint32 { // null, and its address is not looked at
		return nil
	}
	if length > math.MaxInt32 {
		return fmt.Errorf("the length of %s is %d: it must be -1 (null), 0 or more", what, int32(length))
	}
	b, ok := within(d.memory, address, length)
	if !ok {
		return fmt.Errorf("%s at %d, %d bytes, is outside of the memory of %d", what, address, length, len(d.memory))
	}
	d.bytes += len(b)
	return d.take(len(b))
}

func (d *decoder) checkText(e []byte, what string, least uint32) error {
	le := binary.LittleEndian
	address, length := le.Uint32(e[32:]), le.Uint32(e[36:])
	if !guard.Check("etl.text-length", length >= least && length <= MaxText) {
		return fmt.Errorf("%s has %d bytes: %d to %d are possible", what, length, least, MaxText)
	}
	if length == 0 {
		return nil
	}
	b, ok := within(d.memory, address, length)
	if !ok {
		return fmt.Errorf("%s at %d, %d bytes, is outside of the memory of %d", what, address, length, len(d.memory))
	}
	if !guard.Check("etl.text-utf8", utf8.Valid(b)) {
		return fmt.Errorf("%s is no UTF-8", what)
	}
	d.text += len(b)
	return d.take(len(b))
}

func (d *decoder) take(n int) error {
	if d.left -= n; !guard.Check("etl.output", d.left >= 0) {
		return fmt.Errorf("with it the module returns more than it may; deploy it with less to return, or produce smaller batches")
	}
	return nil
}

// copy makes the decisions of table, which check has passed. The blocks are as large
// as check has counted, so that they are never moved and slices of them hold.
func (d *decoder) copy(table []byte, n int) []Decision {
	le := binary.LittleEndian
	decisions := make([]Decision, n)
	var headers []Header
	if d.headers > 0 {
		headers = make([]Header, 0, d.headers)
	}
	bytes := make([]byte, 0, d.bytes)
	texts := d.texts(table)
	text := func(length uint32) string {
		s := texts[:length]
		texts = texts[length:]
		return s
	}
	piece := func(address, length uint32) []byte {
		if length == math.MaxUint32 {
			return nil
		}
		from := len(bytes)
		bytes = append(bytes, d.memory[address:uint64(address)+uint64(length)]...)
		return bytes[from:len(bytes):len(bytes)]
	}
	for i := range decisions {
		e, x := table[i*decisionSize:][:decisionSize], &decisions[i]
		x.Action = Action(le.Uint32(e))
		if x.Action == Keep || x.Action == Route {
			x.Replaces = Parts(le.Uint32(e[4:]))
		}
		if x.Replaces&Key != 0 {
			x.Key = piece(le.Uint32(e[8:]), le.Uint32(e[12:]))
		}
		if x.Replaces&Value != 0 {
			x.Value = piece(le.Uint32(e[16:]), le.Uint32(e[20:]))
		}
		if x.Replaces&Headers != 0 {
			from := len(headers)
			for h := range entries(d.memory, e) {
				headers = append(headers, Header{Name: text(le.Uint32(h[4:])), Value: piece(le.Uint32(h[8:]), le.Uint32(h[12:]))})
			}
			if len(headers) > from {
				x.Headers = headers[from:len(headers):len(headers)]
			}
		}
		if x.Action == Route || x.Action == Reject {
			x.Text = text(le.Uint32(e[36:]))
		}
	}
	return decisions
}

// texts is all names and texts of the decisions in table, one behind the other in the
// order in which copy wants them: one string, so that each is a part of it.
func (d *decoder) texts(table []byte) string {
	if d.text == 0 {
		return ""
	}
	le := binary.LittleEndian
	all := make([]byte, 0, d.text)
	for ; len(table) > 0; table = table[decisionSize:] {
		e := table[:decisionSize]
		action, parts := Action(le.Uint32(e)), Parts(le.Uint32(e[4:]))
		if parts&Headers != 0 && (action == Keep || action == Route) {
			for h := range entries(d.memory, e) {
				all = append(all, d.memory[le.Uint32(h):][:le.Uint32(h[4:])]...)
			}
		}
		if length := le.Uint32(e[36:]); length > 0 && (action == Route || action == Reject) {
			all = append(all, d.memory[le.Uint32(e[32:]):][:length]...)
		}
	}
	return string(all)
}

// entries yields the headers of the decision e.
func entries(memory, e []byte) func(func([]byte) bool) {
	le := binary.LittleEndian
	return func(yield func([]byte) bool) {
		number := le.Uint32(e[28:])
		if number == 0 {
			return
		}
		for table := memory[le.Uint32(e[24:]):][:number*headerSize]; len(table) > 0; table = table[headerSize:] {
			if !yield(table[:headerSize]) {
				return
			}
		}
	}
}
