package metadata

import (
	"iter"
	"slices"

	"rustmq.dev/rustmq/storage"
)

// NoLeader is the leader of a partition that has none.
const NoLeader int32 = -1

// Partition is one partition as the controllers agreed on it. Slices are
// shared between images and must not be changed.
type Partition struct {
	Index          int32
	Leader         int32 // broker id or NoLeader
	LeaderEpoch    storage.Epoch
	PartitionEpoch int32   // +1 with every change of leader, ISR, ELR or replicas
	Replicas       []int32 // the first is the preferred leader
	ISR            []int32 // in sync: hold every record below the high watermark
	ELR            []int32 // left the ISR below min.insync.replicas, still hold every acked record (KIP-966)
	// Adding and Removing are those of Replicas that a reassignment brings and takes
	// away. Replicas without Removing is what it comes to.
	Adding, Removing []int32
	LogStart         storage.Offset
	tiered           *tier     // nil while none of it is in the bucket
	cleaning         *Cleaning // nil: never cleaned
	recovery         *Recovery // nil: the ISR says who may lead
	doubts           *doubts   // nil: nobody of the ELR is doubted
}

// Ranges returns where the partition lies in the bucket, but for what is filed in
// manifests. The first range may begin below the log start; none ends there. With
// manifests there is at least one.
func (p *Partition) Ranges() Ranges {
	if p.tiered == nil {
		return Ranges{}
	}
	return p.tiered.ranges
}

// CommittedEnd returns where the last range ends, or the log start when that
// lies beyond it: the first offset that the bucket is still to be given.
func (p *Partition) CommittedEnd() storage.Offset {
	if last, ok := p.Ranges().Last(); ok {
		return max(last.End, p.LogStart)
	}
	return p.LogStart
}

// setRanges replaces the ranges of p, a partition being changed.
func (p *Partition) setRanges(l Ranges) { p.setTier(p.Filed(), l) }

func (p *Partition) setTier(filed []Manifest, l Ranges) {
	p.tiered = nil
	if l.n > 0 {
		p.tiered = &tier{filed, l}
	}
}

// chunkPartitions is how many partitions a change of one of them copies: at
// 120 bytes each 7.5 KiB, about what the list of the chunks of a topic of
// 20,000 partitions takes.
const chunkPartitions = 64

// Partitions is an immutable list, in chunks, so that a change of one partition
// in 100,000 copies a chunk and not the list.
type Partitions struct {
	chunks [][]Partition // all full but the last
	n      int
}

// PartitionsOf returns a list of ps, which are in order of index.
func PartitionsOf(ps ...Partition) Partitions { return Partitions{}.with(ps) }

// Len returns how many partitions there are; their indexes are 0 to Len()-1.
func (l Partitions) Len() int { return l.n }

// At returns partition i, to read. It panics when there is none: see [Topic.Partition].
func (l Partitions) At(i int) *Partition {
	return &l.chunks[i/chunkPartitions][i%chunkPartitions]
}

// All walks the partitions in order of index.
func (l Partitions) All() iter.Seq[*Partition] {
	return func(yield func(*Partition) bool) {
		for _, chunk := range l.chunks {
			for i := range chunk {
				if !yield(&chunk[i]) {
					return
				}
			}
		}
	}
}

// with returns the list with ps behind it.
func (l Partitions) with(ps []Partition) Partitions {
	chunks := slices.Clip(slices.Clone(l.chunks))
	if free := l.n % chunkPartitions; free != 0 {
		last := len(chunks) - 1
		take := min(len(ps), chunkPartitions-free)
		chunks[last] = slices.Concat(chunks[last], ps[:take])
		l.n, ps = l.n+take, ps[take:]
	}
	for chunk := range slices.Chunk(ps, chunkPartitions) {
		chunks = append(chunks, slices.Clone(chunk))
		l.n += len(chunk)
	}
	return Partitions{chunks: chunks, n: l.n}
}

// partitionsEdit makes a changed copy of a list: each chunk is copied once,
// when the first of its partitions changes.
type partitionsEdit struct {
	was, is Partitions
}

func (l Partitions) edit() *partitionsEdit { return &partitionsEdit{was: l, is: l} }

// changed reports whether anything was.
func (e *partitionsEdit) changed() bool {
	return e.is.n > 0 && &e.is.chunks[0] != &e.was.chunks[0]
}

// at returns partition i to change. Its slices are replaced, never written to.
func (e *partitionsEdit) at(i int) *Partition {
	if !e.changed() {
		e.is.chunks = slices.Clone(e.was.chunks)
	}
	c := i / chunkPartitions
	if &e.is.chunks[c][0] == &e.was.chunks[c][0] {
		e.is.chunks[c] = slices.Clone(e.was.chunks[c])
	}
	return &e.is.chunks[c][i%chunkPartitions]
}

// without returns s without id; s itself when it does not hold it.
func without(s []int32, id int32) []int32 {
	i := slices.Index(s, id)
	if i < 0 {
		return s
	}
	return slices.Concat(s[:i:i], s[i+1:])
}
