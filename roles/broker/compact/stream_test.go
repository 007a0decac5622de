package compact

import (
	"context"
	"slices"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/broker/tiering"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/object"
	"rustmq.dev/rustmq/test/seeded"
)

// ranged is a source of blocks of those lengths, which begin at position.
func ranged(id storage.ObjectID, position int64, lengths ...uint32) *source {
	x := &object.Index{Object: id, Base: 0, End: storage.Offset(len(lengths))}
	for i, n := range lengths {
		x.Blocks = append(x.Blocks, object.Block{First: storage.Offset(i), Next: storage.Offset(i) + 1, Position: position, Length: n})
		position += int64(n)
	}
	return &source{Range: metadata.Range{Object: id}, index: x}
}

// TestSmallRangesOfAnObjectAreReadTogether: a merge of eight objects of ten
// thousand partitions asks for megabytes, not for ten thousand ranges.
func TestSmallRangesOfAnObjectAreReadTogether(t *testing.T) {
	const objects, partitions, bytes = 8, 10_000, 1000
	var sources []*source
	for p := range int64(partitions) {
		for id := range storage.ObjectID(objects) {
			s := ranged(id, object.HeaderSize+p*bytes, bytes)
			s.IndexPosition, s.IndexLength = 20<<20+p*150, 150
			sources = append(sources, s)
		}
	}
	data := layOut(sources, 64<<20)
	if len(data) != objects*3 { // 10 MB by 4 MiB
		t.Fatalf("%d reads of data", len(data))
	}
	if indexes := indexReads(sources); len(indexes) != objects {
		t.Fatalf("%d reads of indexes", len(indexes))
	}
}

// TestReadsCoverWhatIsWanted: each block lies in the read that its piece names, no
// read is larger than the largest unless one block is, and little is read that
// nobody wants.
func TestReadsCoverWhatIsWanted(t *testing.T) {
	seeded.Check(t, func(t *rapid.T) {
		positions := map[storage.ObjectID]int64{}
		var sources []*source
		for range rapid.IntRange(1, 40).Draw(t, "sources") {
			id := storage.ObjectID(rapid.IntRange(1, 4).Draw(t, "object"))
			at := positions[id] + rapid.OneOf(rapid.Int64Range(0, 100), rapid.Int64Range(0, 3*readGap)).Draw(t, "gap")
			s := ranged(id, at, rapid.SliceOfN(rapid.Uint32Range(61, 5<<20), 0, 5).Draw(t, "blocks")...)
			for _, k := range s.index.Blocks {
				at += int64(k.Length)
			}
			positions[id] = at
			sources = append(sources, s)
		}
		reads := layOut(sources, rapid.Int64Range(1, 64<<20).Draw(t, "memory"))
		uses := make([]int, len(reads))
		wanted := make([]int64, len(reads))
		first := -1
		for _, s := range sources {
			next := 0
			for _, p := range s.pieces {
				r := reads[p.read]
				uses[p.read]++
				if p.read > first { // reads are in the order in which they are needed first
					if p.read != first+1 {
						t.Fatalf("read %d is needed after %d", p.read, first)
					}
					first = p.read
				}
				for i := p.first; i <= p.last; i++ {
					k := s.index.Blocks[i]
					if i != next || r.object != s.Object || k.Position < r.position || k.Position+int64(k.Length) > r.end() {
						t.Fatalf("block %d at %d is not in %+v", i, k.Position, r)
					}
					wanted[p.read] += int64(k.Length)
					next++
				}
			}
			if next != len(s.index.Blocks) {
				t.Fatalf("%d blocks of %d are read", next, len(s.index.Blocks))
			}
		}
		for i, r := range reads {
			if r.uses != uses[i] || r.length > largestRead || r.length-wanted[i] > readGap*int64(r.uses) {
				t.Fatalf("%+v is used %d times, for %d bytes", r, uses[i], wanted[i])
			}
		}
	})
}

// TestStreamKeepsToItsMemory: reads run ahead of what is needed as far as memory
// allows, come in order, and what is needed is read whatever is held.
func TestStreamKeepsToItsMemory(t *testing.T) {
	seeded.Check(t, func(t *rapid.T) {
		memory := rapid.Int64Range(1, 500).Draw(t, "memory")
		var reads []read
		for i := range rapid.IntRange(1, 50).Draw(t, "reads") {
			reads = append(reads, read{object: storage.ObjectID(i), position: int64(i), length: rapid.Int64Range(1, 200).Draw(t, "length"), uses: rapid.IntRange(1, 3).Draw(t, "uses")})
		}
		var mu sync.Mutex
		var begun []storage.ObjectID
		s := newStream(t.Context(), reads, memory, &tiering.Bandwidth{}, func(_ context.Context, id storage.ObjectID, p []byte, at int64) error {
			mu.Lock()
			defer mu.Unlock()
			begun = append(begun, id)
			for i := range p {
				p[i] = byte(at)
			}
			return nil
		})
		for i, r := range reads {
			for range r.uses {
				b, err := s.get(i)
				if err != nil || int64(len(b)) != r.length || b[0] != byte(i) {
					t.Fatalf("read %d: %d bytes, %v", i, len(b), err)
				}
				if s.held > max(memory, r.length) || s.next > i+readsAhead+1 {
					t.Fatalf("%d bytes are held of %d, %d reads begun for %d", s.held, memory, s.next, i)
				}
				s.release(i)
			}
		}
		s.end()
		slices.Sort(begun)
		if s.held != 0 || len(slices.Compact(begun)) != len(reads) {
			t.Fatalf("%d bytes are held in the end, %d reads of %d", s.held, len(begun), len(reads))
		}
	})
}
