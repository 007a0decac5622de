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

// A change of one partition copies its chunk, the list of the chunks of its group and
// the list of groups: at 176 bytes a partition 2.8, at most 1.5, and of a topic of 100,000
// partitions 2.3 KiB.
const (
	chunkPartitions = 16
	groupChunks     = 64
	groupPartitions = chunkPartitions * groupChunks
)

// Partitions is an immutable list, in groups of chunks, so that a change of one
// partition in 100,000 copies a chunk and not the list.
type Partitions struct {
	groups [][][]Partition // of chunks; all groups and chunks are full but the last
	n      int
}

// PartitionsOf returns a list of ps, which are in order of index.
func PartitionsOf(ps ...Partition) Partitions { return Partitions{}.with(ps) }

// Len returns how many partitions there are; their indexes are 0 to Len()-1.
func (l Partitions) Len() int { return l.n }

// At returns partition i, to read. It panics when there is none: see [Topic.Partition].
func (l Partitions) At(i int) *Partition {
	return &l.groups[i/groupPartitions][i/chunkPartitions%groupChunks][i%chunkPartitions]
}

// All walks the partitions in order of index.
func (l Partitions) All() iter.Seq[*Partition] {
	return func(yield func(*Partition) bool) {
		for _, group := range l.groups {
			for _, chunk := range group {
				for i := range chunk {
					if !yield(&chunk[i]) {
						return
					}
				}
			}
		}
	}
}

// with returns the list with ps behind it.
func (l Partitions) with(ps []Partition) Partitions {
	e := l.edit()
	for len(ps) > 0 {
		more := min(len(ps), chunkPartitions-e.is.n%chunkPartitions)
		for i := range more {
			e.append(ps[i], more-i)
		}
		ps = ps[more:]
	}
	return e.is
}

// changedChunks walks the chunks of two versions of a list that they do not share, in
// order. One that a list does not have is nil.
func changedChunks(before, after Partitions) iter.Seq[[2][]Partition] {
	return func(yield func([2][]Partition) bool) {
		for g := range max(len(before.groups), len(after.groups)) {
			was, is := listAt(before.groups, g), listAt(after.groups, g)
			if same(was, is) {
				continue
			}
			for c := range max(len(was), len(is)) {
				old, now := listAt(was, c), listAt(is, c)
				if !same(old, now) && !yield([2][]Partition{old, now}) {
					return
				}
			}
		}
	}
}

// listAt returns list i of lists, nil when there is none.
func listAt[T any](lists [][]T, i int) []T {
	if i < len(lists) {
		return lists[i]
	}
	return nil
}

// same reports whether two lists are one, in memory too.
func same[T any](a, b []T) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

// partitionsEdit makes a changed copy of a list: each chunk, and each list of chunks,
// is copied once, when the first of its partitions changes.
type partitionsEdit struct {
	was, is Partitions
}

func (l Partitions) edit() *partitionsEdit { return &partitionsEdit{was: l, is: l} }

// changed reports whether anything was.
func (e *partitionsEdit) changed() bool { return !same(e.is.groups, e.was.groups) }

// at returns partition i to change. Its slices are replaced, never written to.
func (e *partitionsEdit) at(i int) *Partition {
	chunk := e.chunk(i)
	return &(*chunk)[i%chunkPartitions]
}

// chunk returns the chunk that holds partition i, or is about to, as a copy.
func (e *partitionsEdit) chunk(i int) *[]Partition {
	g, c := i/groupPartitions, i/chunkPartitions%groupChunks
	if len(e.is.groups) > 0 && !e.changed() {
		e.is.groups = slices.Clone(e.is.groups)
	}
	if g == len(e.is.groups) {
		e.is.groups = append(e.is.groups, nil)
	}
	old := listAt(e.was.groups, g)
	if group := &e.is.groups[g]; len(*group) > 0 && same(*group, old) {
		*group = slices.Clone(*group)
	}
	group := &e.is.groups[g]
	if c == len(*group) {
		*group = append(*group, nil)
	}
	if chunk := &(*group)[c]; len(*chunk) > 0 && same(*chunk, listAt(old, c)) {
		*chunk = slices.Clone(*chunk)
	}
	return &(*group)[c]
}

// append puts p behind the list; with it, more come in all.
func (e *partitionsEdit) append(p Partition, more int) {
	chunk := e.chunk(e.is.n)
	if *chunk == nil {
		*chunk = make([]Partition, 0, min(chunkPartitions, more))
	}
	*chunk = append(*chunk, p)
	e.is.n++
}

// without returns s without id; s itself when it does not hold it.
func without(s []int32, id int32) []int32 {
	i := slices.Index(s, id)
	if i < 0 {
		return s
	}
	return slices.Concat(s[:i:i], s[i+1:])
}
