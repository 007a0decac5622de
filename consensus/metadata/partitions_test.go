package metadata

import (
	"math/rand/v2"
	"slices"
	"testing"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/test/seeded"
)

// TestPartitionsLikeASlice holds the list in groups of chunks against a plain one, over
// several groups: each version stays as it was, and what two differ in is found.
func TestPartitionsLikeASlice(t *testing.T) {
	seed := seeded.Seed(t)
	rng := rand.New(rand.NewPCG(seed, 0))
	var list Partitions
	var twin []Partition
	var versions []Partitions
	var twins [][]Partition
	for len(twin) < 3*groupPartitions {
		if rng.IntN(2) == 0 {
			more := make([]Partition, 1+rng.IntN(groupPartitions/8))
			for i := range more {
				more[i] = Partition{Index: int32(len(twin) + i), LogStart: storage.Offset(rng.IntN(100))}
			}
			list, twin = list.with(more), slices.Concat(twin, more)
		} else if len(twin) > 0 {
			edit, changed := list.edit(), slices.Clone(twin)
			for range 1 + rng.IntN(4) {
				at := rng.IntN(len(twin))
				edit.at(at).LogStart++
				changed[at].LogStart++
			}
			list, twin = edit.is, changed
		}
		versions, twins = append(versions, list), append(twins, twin)
	}
	logStarts := func(of []Partition) (starts []storage.Offset) {
		for i := range of {
			starts = append(starts, of[i].LogStart)
		}
		return starts
	}
	for v := range versions {
		var walked, got []Partition
		for p := range versions[v].All() {
			walked = append(walked, *p)
		}
		for i := range versions[v].Len() {
			got = append(got, *versions[v].At(i))
		}
		if want := logStarts(twins[v]); !slices.Equal(logStarts(got), want) || !slices.Equal(logStarts(walked), want) {
			t.Fatalf("version %d of %d is not what it was", v, len(versions))
		}
	}
	for range 200 {
		a := rng.IntN(len(versions))
		b := a + rng.IntN(len(versions)-a)
		var want, got []int32
		for i := range twins[b] {
			if i >= len(twins[a]) || twins[a][i].LogStart != twins[b][i].LogStart {
				want = append(want, int32(i))
			}
		}
		for _, is := range ChangedPartitions(&Topic{Partitions: versions[a]}, &Topic{Partitions: versions[b]}) {
			got = append(got, is.Index)
		}
		if !slices.Equal(got, want) {
			t.Fatalf("versions %d and %d differ in %v, want %v", a, b, got, want)
		}
	}
}

// TestAChangeCopiesAChunk: among 100,000 partitions the copy is of kilobytes.
func TestAChangeCopiesAChunk(t *testing.T) {
	list := Partitions{}.with(make([]Partition, MaxPartitionsPerTopic))
	edit := list.edit()
	edit.at(54_321).LogStart = 1
	groups, chunks := 0, 0
	for g := range list.groups {
		if !same(list.groups[g], edit.is.groups[g]) {
			groups++
		}
		for c := range list.groups[g] {
			if !same(list.groups[g][c], edit.is.groups[g][c]) {
				chunks++
			}
		}
	}
	if groups != 1 || chunks != 1 {
		t.Errorf("%d groups and %d chunks were copied, want one of each", groups, chunks)
	}
}
