package clean

import (
	"crypto/sha256"
	"encoding/binary"
	"math/bits"

	"rustmq.dev/rustmq/storage"
)

const (
	slotSize = 24 // 16 of the hash, 8 of the offset
	// Three quarters of the slots are used at most: a key that is not there is then
	// found missing after 8.5 looks, on average.
	fullNumerator, fullDenominator = 3, 4
	fewestSlots                    = 8
)

// keyTable is the last offset of each key, by the key's hash, in open addressing:
// one piece of memory, however many keys. An offset is stored plus one; 0 is a slot
// that is free.
type keyTable struct {
	slots []slot
	most  int // slots that memory allows
	used  int
}

type slot struct {
	high, low uint64
	offset    uint64
}

// newKeyTable returns a table for about expected keys that never takes more than
// memory bytes.
func newKeyTable(memory int64, expected int64) *keyTable {
	most := max(int(memory/slotSize), fewestSlots)
	want := max(expected, 0)/fullNumerator*fullDenominator + 1024
	return &keyTable{slots: make([]slot, min(int64(most), want)), most: most}
}

// hashed is a key as the table knows it.
type hashed struct{ high, low uint64 }

func hashOf(key []byte) hashed {
	sum := sha256.Sum256(key)
	return hashed{binary.LittleEndian.Uint64(sum[:]), binary.LittleEndian.Uint64(sum[8:])}
}

// again returns the table, empty, if it has room for about expected keys, and else
// another one. A round that follows on another needs no second piece of memory.
func (t *keyTable) again(memory int64, expected int64) *keyTable {
	if t == nil {
		return newKeyTable(memory, expected)
	}
	if most := memory / slotSize; int64(len(t.slots)) > most || int64(len(t.slots)) < min(most, expected/fullNumerator*fullDenominator) {
		return newKeyTable(memory, expected)
	}
	clear(t.slots)
	t.used = 0
	return t
}

// find returns the slot of a key, or the free one where it belongs.
func (t *keyTable) find(h hashed) *slot {
	n := uint64(len(t.slots))
	// The high half of a product spreads over any number of slots.
	at, _ := bits.Mul64(h.high, n)
	for {
		s := &t.slots[at]
		if s.offset == 0 || s.high == h.high && s.low == h.low {
			return s
		}
		if at++; at == n {
			at = 0
		}
	}
}

// put notes that a key has a record at offset, which is above all before. false:
// the table is full, and the key is not in it.
func (t *keyTable) put(h hashed, offset storage.Offset) bool {
	s := t.find(h)
	if s.offset == 0 {
		if t.used >= len(t.slots)/fullDenominator*fullNumerator {
			if !t.grow() {
				return false
			}
			s = t.find(h)
		}
		t.used++
		s.high, s.low = h.high, h.low
	}
	s.offset = uint64(offset) + 1
	return true
}

// last returns the last offset of a key.
func (t *keyTable) last(h hashed) (storage.Offset, bool) {
	s := t.find(h)
	return storage.Offset(s.offset) - 1, s.offset != 0
}

// grow makes the table larger, if both fit into memory meanwhile.
func (t *keyTable) grow() bool {
	n := min(2*len(t.slots), t.most-len(t.slots))
	if n <= len(t.slots) {
		return false
	}
	old := t.slots
	t.slots = make([]slot, n)
	for i := range old {
		if s := &old[i]; s.offset != 0 {
			*t.find(hashed{s.high, s.low}) = *s
		}
	}
	return true
}

// bytes is what the table takes.
func (t *keyTable) bytes() int64 { return int64(len(t.slots)) * slotSize }
