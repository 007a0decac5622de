package abi

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"unicode/utf8"
)

// A memory is what a guest does by hand: it reads what was encoded, and lays out decisions.
// It is written from the layout in docs/etl-abi.md alone, and shares nothing with the codec.
type memory []byte

func (m memory) u32(at uint64) uint64 { return uint64(binary.LittleEndian.Uint32(m[at:])) }
func (m memory) i64(at uint64) int64  { return int64(binary.LittleEndian.Uint64(m[at:])) }

func (m memory) bytes(address, length uint64) []byte {
	if int32(uint32(length)) == -1 {
		return nil
	}
	return append([]byte{}, m[address:address+length]...)
}

func (m memory) headers(address, number uint64) []Header {
	var headers []Header
	for i := range number {
		at := address + i*16
		headers = append(headers, Header{
			Name:  string(m.bytes(m.u32(at), m.u32(at+4))),
			Value: m.bytes(m.u32(at+8), m.u32(at+12)),
		})
	}
	return headers
}

// batch reads the batch at address.
func (m memory) batch(address uint64) *Batch {
	b := &Batch{
		Flags:     uint32(m.u32(address + 4)),
		Timestamp: m.i64(address + 8),
		Partition: int32(uint32(m.u32(address + 16))),
		Topic:     string(m.bytes(m.u32(address+24), m.u32(address+20))),
	}
	for i := range m.u32(address) {
		at := address + 32 + i*48
		b.Records = append(b.Records, Record{
			Timestamp: m.i64(at),
			Offset:    m.i64(at + 8),
			Key:       m.bytes(m.u32(at+16), m.u32(at+20)),
			Value:     m.bytes(m.u32(at+24), m.u32(at+28)),
			Headers:   m.headers(m.u32(at+32), m.u32(at+36)),
		})
	}
	return b
}

// put appends b, and returns where it lies and how long it is, as the layout has it.
func (m *memory) put(b []byte) (address, length uint32) {
	if b == nil {
		return 0xdeadbeef, math.MaxUint32
	}
	address = uint32(len(*m))
	*m = append(*m, b...)
	return address, uint32(len(b))
}

// decisions lays them out behind what is there, and returns the packed address and length.
func (m *memory) decisions(decisions []Decision) uint64 {
	for len(*m)%8 != 0 {
		*m = append(*m, 0)
	}
	table := uint32(len(*m))
	*m = append(*m, make([]byte, 40*len(decisions))...)
	for i, d := range decisions {
		// What is not used is not looked at.
		words := [10]uint32{uint32(d.Action), uint32(d.Replaces), 1 << 31, 7, 1 << 31, 7, 1 << 31, 7, 1 << 31, 7}
		if d.Replaces&Key != 0 {
			words[2], words[3] = m.put(d.Key)
		}
		if d.Replaces&Value != 0 {
			words[4], words[5] = m.put(d.Value)
		}
		if d.Replaces&Headers != 0 {
			var entries []byte
			for _, h := range d.Headers {
				a, n := m.put([]byte(h.Name))
				va, vn := m.put(h.Value)
				for _, w := range []uint32{a, n, va, vn} {
					entries = binary.LittleEndian.AppendUint32(entries, w)
				}
			}
			words[6], _ = m.put(append([]byte{}, entries...))
			words[7] = uint32(len(d.Headers))
		}
		if d.Action == Route || d.Action == Reject {
			words[8], words[9] = m.put(append([]byte{}, d.Text...))
		}
		for j, w := range words {
			binary.LittleEndian.PutUint32((*m)[table+uint32(40*i+4*j):], w)
		}
	}
	return uint64(table)<<32 | uint64(40*len(decisions))
}

var errGuest = errors.New("refused")

// read is the decoder's dumb twin: it copies as it goes, each piece by itself.
func (m memory) read(result uint64, n, limit int) ([]Decision, error) {
	if result == 0 {
		return nil, nil
	}
	size := uint64(len(m))
	used := uint64(0)
	piece := func(address, length uint64, null bool) ([]byte, error) {
		if null && length == math.MaxUint32 {
			return nil, nil
		}
		if null && length > math.MaxInt32 || address+length > size {
			return nil, errGuest
		}
		if used += length; used > uint64(limit) {
			return nil, errGuest
		}
		return append([]byte{}, m[address:address+length]...), nil
	}
	table := result >> 32
	if result&math.MaxUint32 != uint64(40*n) || table%8 != 0 || table+uint64(40*n) > size {
		return nil, errGuest
	}
	var decisions []Decision
	changed := false
	for i := range n {
		at := table + uint64(40*i)
		d := Decision{Action: Action(m.u32(at))}
		if d.Action > Reject {
			return nil, errGuest
		}
		changed = changed || d.Action != Keep
		if d.Action == Keep || d.Action == Route {
			if d.Replaces = Parts(m.u32(at + 4)); d.Replaces > 7 {
				return nil, errGuest
			}
		}
		changed = changed || d.Replaces != 0
		var err, failed error
		if d.Replaces&Key != 0 {
			d.Key, err = piece(m.u32(at+8), m.u32(at+12), true)
			failed = errors.Join(failed, err)
		}
		if d.Replaces&Value != 0 {
			d.Value, err = piece(m.u32(at+16), m.u32(at+20), true)
			failed = errors.Join(failed, err)
		}
		if d.Replaces&Headers != 0 {
			entries, number := m.u32(at+24), m.u32(at+28)
			if number > MaxHeaders || entries+16*number > size {
				return nil, errGuest
			}
			for j := range number {
				h := entries + 16*j
				if used += 16; used > uint64(limit) {
					return nil, errGuest
				}
				name, err := piece(m.u32(h), m.u32(h+4), false)
				failed = errors.Join(failed, err)
				value, err := piece(m.u32(h+8), m.u32(h+12), true)
				if failed = errors.Join(failed, err); failed != nil {
					return nil, failed
				}
				d.Headers = append(d.Headers, Header{string(name), value})
			}
		}
		if d.Action == Route || d.Action == Reject {
			length := m.u32(at + 36)
			if length > MaxText || length == 0 && d.Action == Route {
				return nil, errGuest
			}
			if length > 0 {
				text, err := piece(m.u32(at+32), length, false)
				if failed = errors.Join(failed, err); err == nil && !utf8.Valid(text) {
					failed = errGuest
				}
				d.Text = string(text)
			}
		}
		if failed != nil {
			return nil, fmt.Errorf("record %d: %w", i, failed)
		}
		decisions = append(decisions, d)
	}
	if !changed {
		return nil, nil
	}
	return decisions, nil
}
