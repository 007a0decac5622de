package compact

import (
	"cmp"
	"math"
	"slices"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/object"
)

const (
	// largestRead is that of one request: a store gives it in a fraction of a
	// second, and its price is nothing beside that of the object's put.
	largestRead = 8 << 20

	// leastShare is what is read at once of each object of a job, however many
	// there are.
	leastShare = 64 << 10

	// readGap are bytes that are read for nothing to save a request.
	readGap = 64 << 10

	// widestIndexes is how far a read of indexes is widened at most: some thousand of
	// them.
	widestIndexes = 256 << 10
)

// read is one ranged read of an object.
type read struct {
	object   storage.ObjectID
	position int64
	length   int64
	uses     int  // pieces, or indexes, in it
	wider    bool // than those: there are indexes in it that other jobs may want
}

func (r *read) end() int64 { return r.position + r.length }

// reach lets r go on to what lies at position, if that is near enough and r stays
// within limit.
func (r *read) reach(position, length, limit int64) bool {
	if position < r.end() || position-r.end() > readGap || position+length-r.position > limit {
		return false
	}
	r.length = position + length - r.position
	r.uses++
	return true
}

// source is a range that is to be replaced.
type source struct {
	metadata.Range
	partition storage.PartitionID
	indexIn   int // place in the list of reads of indexes
	index     *object.Index
	pieces    []piece
}

// piece is consecutive blocks of a source, that are read at once.
type piece struct {
	read        int // place in the list of reads
	first, last int // blocks
}

// indexReads plans the reads of all indexes, and puts the sources in their order.
func indexReads(sources []*source) (reads []read) {
	slices.SortFunc(sources, func(a, b *source) int {
		return cmp.Or(cmp.Compare(a.Object, b.Object), cmp.Compare(a.IndexPosition, b.IndexPosition))
	})
	for _, s := range sources {
		n := len(reads) - 1
		if n < 0 || reads[n].object != s.Object || !reads[n].reach(s.IndexPosition, int64(s.IndexLength), largestRead) {
			reads = append(reads, read{object: s.Object, position: s.IndexPosition, length: int64(s.IndexLength), uses: 1})
			n++
		}
		s.indexIn = n
	}
	return reads
}

// widen lets the reads of indexes take in those that other jobs will want: all that
// partitions led here have in the object, where that is little, or what follows, for
// jobs come in the order in which partitions lie in it. All reads of a job together
// take half of what is kept, so that its own are still there when the next begins.
func widen(reads []read, mixed map[storage.ObjectID]*mixedObject, capacity int64) {
	share := min(capacity/2/int64(max(len(reads), 1)), widestIndexes)
	for i := range reads {
		r := &reads[i]
		o := mixed[r.object]
		if o == nil || r.length >= share {
			continue
		}
		from, to := min(o.first, r.position), max(o.last, r.end())
		if to-from > share {
			from, to = r.position, min(to, r.position+share)
		}
		r.wider = to-from > r.length
		r.position, r.length = from, to-from
	}
}

// layOut plans the reads of all data, in the order in which it is packed: the
// objects have their partitions in that order too, so that each is read from
// front to back. A read that several ranges share is held until the last of them:
// of each object one, all together half of memory.
func layOut(sources []*source, memory int64) (reads []read) {
	open := map[storage.ObjectID]int{} // the last read of each object
	for _, s := range sources {
		open[s.Object] = -1
	}
	share := min(max(memory/2/int64(max(len(open), 1)), leastShare), largestRead)
	for _, s := range sources {
		s.pieces = s.pieces[:0]
		for _, f := range s.index.Plan(s.index.Base, object.PlanOptions{MaxBytes: math.MaxInt64, MaxFetch: largestRead}) {
			n := open[s.Object]
			if n < 0 || !reads[n].reach(f.Position, f.Length, share) {
				reads = append(reads, read{object: s.Object, position: f.Position, length: f.Length, uses: 1})
				n = len(reads) - 1
				open[s.Object] = n
			}
			s.pieces = append(s.pieces, piece{n, f.First, f.Last})
		}
	}
	return reads
}
