package clean

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/test/allocs"
	"rustmq.dev/rustmq/test/seeded"
)

func numberedKey(i int) hashed { return hashOf(binary.BigEndian.AppendUint64(nil, uint64(i))) }

// TestTheTableTakesNoMoreThanItsMemory: for each 32 bytes it takes a key, from however
// small a size it grows to that, and all that is ever allocated for it, for one round
// and the next, is not more than it may take.
func TestTheTableTakesNoMoreThanItsMemory(t *testing.T) {
	for _, memory := range []int64{1 << 10, 100_000, 256 << 10, 1<<20 + 7} {
		n := int(memory / 32)
		keys := make([]hashed, n+1)
		for i := range keys {
			keys[i] = numberedKey(i)
		}
		for _, expected := range []int64{0, 3000, memory / 32, math.MaxInt64} {
			t.Run(fmt.Sprintf("memory=%d/expected=%d", memory, expected), func(t *testing.T) {
				var table *keyTable
				const rounding = 16 << 10 // by the allocator, of the last segment, and what tests allocate
				took := allocs.Within(memory+rounding, func() {
					table = newKeyTable(memory, 0)
					for _, room := range []int64{expected, memory / 64, expected} {
						table.empty(room)
						for i, key := range keys[:n] {
							if !table.put(key, storage.Offset(i)) {
								t.Fatalf("no room for key %d of %d", i, n)
							}
						}
						if table.put(keys[n], storage.Offset(n)) {
							t.Fatalf("more than %d keys: at how many is it full?", n)
						}
						if !table.put(keys[0], storage.Offset(n)) {
							t.Fatal("no room for a later record of a key that it has")
						}
					}
				})
				if table.bytes() > memory || took > memory+rounding {
					t.Errorf("%d bytes of table, %d were allocated, of %d", table.bytes(), took, memory)
				}
			})
		}
	}
}

// TestKeyTableIsAMap: against a map, with keys that fill it.
func TestKeyTableIsAMap(t *testing.T) {
	const memory = 500 * slotSize
	table, twin := newKeyTable(memory, 0), map[hashed]storage.Offset{}
	full := false
	for i := range 5000 {
		h := hashOf([]byte{byte(i * 7 % 251), byte(i % 3)})
		if _, known := twin[h]; table.put(h, storage.Offset(i)) {
			twin[h] = storage.Offset(i)
		} else if full = true; known {
			t.Fatalf("no room for key %d, which is there", i)
		}
		if table.bytes() > memory {
			t.Fatalf("it takes %d bytes", table.bytes())
		}
	}
	for i := range 256 {
		for j := range 4 {
			h := hashOf([]byte{byte(i), byte(j)})
			want, known := twin[h]
			if got, is := table.last(h); is != known || known && got != want {
				t.Fatalf("key %d %d: %d, %v; want %d, %v", i, j, got, is, want, known)
			}
		}
	}
	if !full || table.used != len(twin) || len(twin) < 150 {
		t.Errorf("%d keys of %d, full %v: the test shows less than it should", table.used, len(twin), full)
	}
}

// TestTheTableGrowsInPlace: however it grew, it knows of each key what a map knows,
// and no other.
func TestTheTableGrowsInPlace(t *testing.T) {
	seed := seeded.Seed(t)
	random := rand.New(rand.NewPCG(seed, 0))
	for i := range 4 {
		table := newKeyTable(1<<20, 0)
		twin := map[hashed]storage.Offset{}
		clustered := i%2 == 0 // keys whose places are all near one another, about the end of the table
		for offset := range storage.Offset(10_000 + random.IntN(10_000)) {
			h := numberedKey(random.IntN(15_000))
			if clustered && len(twin) < 500 {
				h.high |= 0xffffff << 40
			}
			if !table.put(h, offset) {
				t.Fatal("full")
			}
			twin[h] = offset
		}
		for h, want := range twin {
			if got, known := table.last(h); !known || got != want {
				t.Fatalf("a key is at %d, %v; want %d", got, known, want)
			}
		}
		for i := range 1000 {
			if got, known := table.last(numberedKey(20_000 + i)); known {
				t.Fatalf("a key that is not there is at %d", got)
			}
		}
		if table.used != len(twin) || len(table.segments) < 3 {
			t.Fatalf("%d keys, want %d, in %d segments", table.used, len(twin), len(table.segments))
		}
	}
}
