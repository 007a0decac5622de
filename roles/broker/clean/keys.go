package clean

import (
	"crypto/sha256"
	"encoding/binary"
	"math/bits"

	"rustmq.dev/rustmq/storage"
)

const (
	slotSize = 24 // 16 of the hash, 8 of the offset
	// keySize is what a key takes of memory when the table is as large as it may be:
	// three quarters of the slots are then used. A key that is not there is found
	// missing after 8.5 looks, on average.
	keySize                        = 32
	fullNumerator, fullDenominator = 3, 4
	fewestSlots                    = 8

	segmentSlots = 1 << segmentBits // 96 KiB
	segmentBits  = 12
	sliceSize    = 24 // of the segment, in the list of them
)

// keyTable is the last offset of each key, by the key's hash, in open addressing. It
// lies in segments and grows by further ones, in place: never is there a second table
// beside it. An offset is stored plus one; 0 is a slot that is free.
type keyTable struct {
	segments [][]slot // all but the last have segmentSlots
	slots    int
	used     int
	// What memory allows.
	mostSlots, mostKeys int
}

type slot struct {
	high, low uint64
	offset    uint64
}

// unplaced marks, while a table grows, the offset of a slot whose key has not found its
// place. No offset reaches so far: the end of a round, above it, does not.
const unplaced = 1 << 63

// newKeyTable returns a table for about expected keys that never takes more than
// memory bytes, or those of a few slots.
func newKeyTable(memory int64, expected int64) *keyTable {
	segments := memory/(segmentSlots*slotSize+sliceSize) + 1
	most := max(int(memory-segments*sliceSize)/slotSize, fewestSlots)
	t := &keyTable{mostSlots: most, mostKeys: min(int(memory/keySize), most-1)}
	t.mostKeys = max(t.mostKeys, fewestSlots/fullDenominator*fullNumerator)
	t.segments = make([][]slot, 0, segments)
	t.empty(expected)
	return t
}

// empty forgets all keys, and makes room for about expected ones.
func (t *keyTable) empty(expected int64) {
	for _, s := range t.segments {
		clear(s)
	}
	t.used = 0
	t.extend(min(max(expected, 0), int64(t.mostKeys))/fullNumerator*fullDenominator + 1)
}

// extend makes the table at least slots large, if memory allows it.
func (t *keyTable) extend(slots int64) {
	for n := min(slots, int64(t.mostSlots)); int64(t.slots) < n; {
		next := min(segmentSlots, t.mostSlots-t.slots)
		t.segments = append(t.segments, make([]slot, next))
		t.slots += next
	}
}

// hashed is a key as the table knows it.
type hashed struct{ high, low uint64 }

func hashOf(key []byte) hashed {
	sum := sha256.Sum256(key)
	return hashed{binary.LittleEndian.Uint64(sum[:]), binary.LittleEndian.Uint64(sum[8:])}
}

// at returns slot i.
func (t *keyTable) at(i int) *slot { return &t.segments[i>>segmentBits][i&(segmentSlots-1)] }

// find returns the slot of a key, or the free one where it belongs.
func (t *keyTable) find(h hashed) *slot {
	for i := t.home(h); ; i = t.after(i) {
		if s := t.at(i); s.offset == 0 || s.high == h.high && s.low == h.low {
			return s
		}
	}
}

// home is where the search for a key begins.
func (t *keyTable) home(h hashed) int {
	// The high half of a product spreads over any number of slots.
	i, _ := bits.Mul64(h.high, uint64(t.slots))
	return int(i)
}

func (t *keyTable) after(i int) int {
	if i++; i < t.slots {
		return i
	}
	return 0
}

// put notes that a key has a record at offset, which is above all before. false:
// the table is full, and the key is not in it.
func (t *keyTable) put(h hashed, offset storage.Offset) bool {
	s := t.find(h)
	if s.offset == 0 {
		if t.used >= t.mostKeys {
			return false
		}
		if t.slots < t.mostSlots && t.used >= t.slots/fullDenominator*fullNumerator {
			t.grow()
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

// grow makes the table twice as large, or as large as it may be. A key that has its
// place in the larger table keeps it, and stands behind none that is free: where
// another one has not found its own yet the two change places.
func (t *keyTable) grow() {
	was := t.slots
	t.extend(2 * int64(was))
	for i := range was {
		if s := t.at(i); s.offset != 0 {
			s.offset |= unplaced
		}
	}
	for i := range was {
		for s := t.at(i); s.offset&unplaced != 0; {
			to := t.home(hashed{s.high, s.low})
			for t.at(to).offset != 0 && t.at(to).offset&unplaced == 0 {
				to = t.after(to)
			}
			s.offset &^= unplaced
			if to != i {
				other := t.at(to)
				*s, *other = *other, *s
			}
		}
	}
}

// bytes is what the table takes.
func (t *keyTable) bytes() int64 {
	return int64(t.slots)*slotSize + int64(cap(t.segments))*sliceSize
}
