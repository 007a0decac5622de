package client

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
)

// A record of verify begins with its number, which is unique: the load it
// belongs to, and its place in that load. The rest of the value follows from
// the number, so that bytes of another record, or none, show.
const numberSize = 8

func numberOf(run uint32, n int) uint64 { return uint64(run)<<32 | uint64(uint32(n)) }

func runOf(number uint64) uint32 { return uint32(number >> 32) }

// show writes a number for people.
func show(number uint64) string { return fmt.Sprintf("%d of load %08x", uint32(number), runOf(number)) }

// payload is the value of a record.
func payload(number uint64, size int) []byte {
	value := make([]byte, size)
	fill(value, number)
	return value
}

func fill(value []byte, number uint64) {
	binary.LittleEndian.PutUint64(value, number)
	state := number
	for at := numberSize; at < len(value); at += 8 {
		// splitmix64
		state += 0x9e3779b97f4a7c15
		z := state
		z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
		z = (z ^ z>>27) * 0x94d049bb133111eb
		var b [8]byte
		binary.LittleEndian.PutUint64(b[:], z^z>>31)
		copy(value[at:], b[:])
	}
}

// verdict is what a check found.
type verdict struct {
	Acked      int64    `json:"acked"`
	Read       int64    `json:"read"`
	Lost       int64    `json:"lost"`       // acked, and not there
	Diverged   int64    `json:"diverged"`   // another record at an acked offset, or other bytes
	Duplicated int64    `json:"duplicated"` // a record that is there twice
	Reordered  int64    `json:"reordered"`  // a load's later record before an earlier one
	Gaps       int64    `json:"gaps"`       // runs of offsets that nobody has
	Unacked    int64    `json:"unacked"`    // there without an ack: sent when the connection broke
	Foreign    int64    `json:"foreign"`    // of no load that the state knows
	Examples   []string `json:"examples,omitempty"`
}

func (v *verdict) broken() bool {
	return v.Lost+v.Diverged+v.Duplicated+v.Reordered+v.Gaps > 0
}

// example keeps the first few findings.
func (v *verdict) example(format string, args ...any) {
	if len(v.Examples) < 10 {
		v.Examples = append(v.Examples, fmt.Sprintf(format, args...))
	}
}

// judge compares what a topic holds with what was acked.
type judge struct {
	acks    map[int32]map[int64]uint64 // not found yet
	runs    map[uint32]bool            // the loads of the acks
	numbers map[uint64]place           // where each number was seen first
	parts   map[int32]*seen
	out     verdict
	scratch []byte
}

type place struct {
	partition int32
	offset    int64
}

// seen is what was read of one partition.
type seen struct {
	next    int64             // offset
	highest map[uint32]uint64 // number, by load
}

func newJudge(acks map[int32]map[int64]uint64) *judge {
	j := &judge{acks: acks, runs: map[uint32]bool{}, numbers: map[uint64]place{}, parts: map[int32]*seen{}}
	for _, of := range acks {
		j.out.Acked += int64(len(of))
		for _, number := range of {
			j.runs[runOf(number)] = true
		}
	}
	return j
}

func (j *judge) partition(p int32) *seen {
	s := j.parts[p]
	if s == nil {
		s = &seen{highest: map[uint32]uint64{}}
		j.parts[p] = s
	}
	return s
}

// take judges one record; those of a partition come in the order of reading.
func (j *judge) take(partition int32, offset int64, value []byte) {
	p := j.partition(partition)
	j.out.Read++
	if offset != p.next {
		j.out.Gaps++
		j.out.example("partition %d: offset %d was read where %d was due", partition, offset, p.next)
	}
	p.next = offset + 1

	want, acked := j.acks[partition][offset]
	delete(j.acks[partition], offset)
	if len(value) < numberSize {
		j.foreign(partition, offset, want, acked)
		return
	}
	number := binary.LittleEndian.Uint64(value)
	if !j.runs[runOf(number)] {
		j.foreign(partition, offset, want, acked)
		return
	}
	j.once(place{partition, offset}, number, p)
	j.scratch = append(j.scratch[:0], value...)
	fill(j.scratch, number)
	switch {
	case acked && want != number:
		j.out.Diverged++
		j.out.example("partition %d offset %d: record %s was acked there, record %s is", partition, offset, show(want), show(number))
	case !bytes.Equal(j.scratch, value):
		j.out.Diverged++
		j.out.example("partition %d offset %d: record %s does not have the bytes it was sent with", partition, offset, show(number))
	case !acked:
		j.out.Unacked++
	}
}

// foreign judges a record of no known load: fine, unless another one was acked
// in its place.
func (j *judge) foreign(partition int32, offset int64, want uint64, acked bool) {
	j.out.Foreign++
	if acked {
		j.out.Diverged++
		j.out.example("partition %d offset %d: record %s was acked there, something else is", partition, offset, show(want))
	}
}

// once finds records that are there again, and those behind a later one.
func (j *judge) once(at place, number uint64, p *seen) {
	if before, ok := j.numbers[number]; ok {
		j.out.Duplicated++
		j.out.example("record %s is at partition %d offset %d, and at partition %d offset %d again", show(number), before.partition, before.offset, at.partition, at.offset)
		return
	}
	j.numbers[number] = at
	highest, ok := p.highest[runOf(number)]
	if ok && number < highest {
		j.out.Reordered++
		j.out.example("record %s is at partition %d offset %d, behind record %s", show(number), at.partition, at.offset, show(highest))
	}
	p.highest[runOf(number)] = max(highest, number)
}

// verdict ends the reading: what was acked and not seen is lost, and what lies
// between the last record and the end is a gap.
func (j *judge) verdict(ends map[int32]int64) verdict {
	for _, p := range slices.Sorted(maps.Keys(ends)) {
		if next := j.partition(p).next; next < ends[p] {
			j.out.Gaps++
			j.out.example("partition %d: nothing at offsets %d to %d", p, next, ends[p]-1)
		}
	}
	for _, p := range slices.Sorted(maps.Keys(j.acks)) {
		for _, offset := range slices.Sorted(maps.Keys(j.acks[p])) {
			j.out.Lost++
			j.out.example("record %s, acked at partition %d offset %d, is not there", show(j.acks[p][offset]), p, offset)
		}
	}
	return j.out
}
