package compact

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/object"
)

func partitionID(i int) storage.PartitionID {
	return storage.PartitionID{Topic: storage.TopicID{1}, Index: int32(i)}
}

// fleet is a catalogue without a bucket: how many bytes and requests a plan costs,
// and what it leaves.
type fleet struct {
	planner    *planner
	partitions [][]metadata.Range
	objects    map[storage.ObjectID]*fleetObject
	next       storage.ObjectID
	shelf      *shelf

	uploaded, rewritten int64
	puts, gets, jobs    int
	indexGets           int // of gets
	indexBytes          int64
}

type fleetObject struct {
	mixed  bool
	ranges int
	data   map[int]int64 // where that of each partition begins
}

// fleetBlock is the size of a block, as uploads make them.
const fleetBlock = 256 << 10

// place lays ranges out in an object, as package object does: the data of all in order
// of partition, and then their indexes.
func (f *fleet) place(id storage.ObjectID, ranges map[int]*metadata.Range) {
	o := &fleetObject{mixed: len(ranges) > 1, ranges: len(ranges), data: map[int]int64{}}
	f.objects[id] = o
	at := int64(object.HeaderSize)
	order := slices.Sorted(maps.Keys(ranges))
	for _, i := range order {
		o.data[i] = at
		at += ranges[i].Bytes
	}
	for _, i := range order {
		r := ranges[i]
		r.Object, r.IndexPosition, r.IndexLength = id, at, uint32(130+14*ceil(r.Bytes, fleetBlock))
		at += int64(r.IndexLength)
	}
}

// source is a range with its index, as a job reads it.
func (f *fleet) source(partition int, r metadata.Range) *source {
	s := &source{Range: r, partition: partitionID(partition), index: &object.Index{Object: r.Object, Base: r.Base, End: r.End}}
	at, first := f.objects[r.Object].data[partition], r.Base
	for left := r.Bytes; left > 0; left -= fleetBlock {
		k := object.Block{First: first, Next: first + 1, Position: at, Length: uint32(min(left, fleetBlock))}
		s.index.Blocks = append(s.index.Blocks, k)
		at, first = at+int64(k.Length), k.Next
	}
	return s
}

// request counts the reads of a job, as a compactor does them.
func (f *fleet) request(j Job, sources []*source) {
	missing := slices.DeleteFunc(slices.Clone(sources), func(s *source) bool { _, _, ok := f.shelf.find(s); return ok })
	reads := indexReads(missing)
	widen(reads, j.mixed, f.shelf.capacity)
	for i := range reads {
		if reads[i].wider {
			f.shelf.keep(&reads[i], nil)
		}
		f.indexBytes += reads[i].length
	}
	f.indexGets += len(reads)
	f.gets += len(reads) + len(layOut(sources, DefaultMemory))
}

func newFleet(l Limits, partitions int) *fleet {
	return &fleet{planner: newPlanner(l), shelf: newShelf(DefaultIndexes), partitions: make([][]metadata.Range, partitions), objects: map[storage.ObjectID]*fleetObject{}, next: 1}
}

func (f *fleet) view() View {
	return View{
		Partitions: func(yield func(Partition) bool) {
			for i, ranges := range f.partitions {
				if !yield(Partition{ID: partitionID(i), Ranges: slices.Values(ranges)}) {
					return
				}
			}
		},
		From: func(id storage.PartitionID, offset storage.Offset) Partition {
			ranges := f.partitions[id.Index]
			at, _ := slices.BinarySearchFunc(ranges, offset, func(r metadata.Range, offset storage.Offset) int { return cmp.Compare(r.End, offset+1) })
			return Partition{ID: id, Ranges: slices.Values(ranges[at:])}
		},
		Mixed: func(id storage.ObjectID) bool { o := f.objects[id]; return o != nil && o.mixed },
	}
}

// upload makes one object with bytes of each partition named.
func (f *fleet) upload(bytes map[int]int64) {
	id := f.next
	f.next++
	made := map[int]*metadata.Range{}
	for i, n := range bytes {
		var base storage.Offset
		if have := f.partitions[i]; len(have) > 0 {
			base = have[len(have)-1].End
		}
		made[i] = &metadata.Range{Base: base, End: base + 1000, Bytes: n}
		f.uploaded += n
	}
	f.place(id, made)
	for i, r := range made {
		f.partitions[i] = append(f.partitions[i], *r)
	}
	f.puts++
}

// lose takes ranges away from the start of a partition, as a log start does.
func (f *fleet) lose(partition, n int) {
	f.release(f.partitions[partition][:n])
	f.partitions[partition] = f.partitions[partition][n:]
}

func (f *fleet) release(ranges []metadata.Range) {
	for _, r := range ranges {
		if f.objects[r.Object].ranges--; f.objects[r.Object].ranges == 0 {
			delete(f.objects, r.Object)
		}
	}
}

// replace does a job, and returns the partitions whose ranges are not there any more.
func (f *fleet) replace(j Job) (refused map[storage.PartitionID]bool) {
	id := f.next
	f.next++
	refused = map[storage.PartitionID]bool{}
	made := map[int]*metadata.Range{}
	var sources []*source
	var replaced []Run
	for _, run := range j.Runs {
		have := f.partitions[run.Partition.Index]
		first, last := run.Ranges[0], run.Ranges[len(run.Ranges)-1]
		at := slices.IndexFunc(have, func(r metadata.Range) bool { return r.Base == first.Base && r.Object == first.Object })
		if at < 0 || len(have)-at < len(run.Ranges) || !slices.Equal(have[at:at+len(run.Ranges)], run.Ranges) {
			refused[run.Partition] = true
			continue
		}
		bytes := run.Bytes()
		partition := int(run.Partition.Index)
		for _, r := range run.Ranges {
			sources = append(sources, f.source(partition, r))
		}
		made[partition] = &metadata.Range{Base: first.Base, End: last.End, Bytes: bytes}
		replaced = append(replaced, run)
		f.rewritten += bytes
	}
	f.request(j, sources)
	if len(made) > 0 {
		f.place(id, made)
	}
	for _, run := range replaced {
		f.release(run.Ranges)
		have := f.partitions[run.Partition.Index]
		at := slices.Index(have, run.Ranges[0])
		f.partitions[run.Partition.Index] = slices.Replace(have, at, at+len(run.Ranges), *made[int(run.Partition.Index)])
	}
	f.puts++
	f.jobs++
	return refused
}

// compact does what is to be done until nothing is.
func (f *fleet) compact(t testing.TB, now time.Time) {
	for range 1_000_000 {
		jobs := f.planner.plan(now, f.view())
		if len(jobs) == 0 {
			return
		}
		f.shelf.retain(f.planner.mixed)
		for _, j := range jobs {
			refused := f.replace(j)
			if len(refused) > 0 {
				t.Fatalf("refused %v", refused)
			}
			f.planner.done(now, j, refused, false)
		}
	}
	t.Fatal("it never comes to an end")
}

// figures are the state after a run.
func (f *fleet) figures() (mixed, ranges, most int) {
	for _, o := range f.objects {
		if o.mixed {
			mixed++
		}
	}
	for _, p := range f.partitions {
		ranges += len(p)
		most = max(most, len(p))
	}
	return mixed, ranges, most
}

// steady uploads what so many partitions write at so many bytes a second each, as
// the uploader would: in intervals of ten seconds, objects of 32 MiB, 16 MiB of a
// partition in one of its own. A minute lies between two looks.
func (f *fleet) steady(t testing.TB, d time.Duration, rate int64) {
	const interval, objectBytes, ownBytes = 10, 32 << 20, 16 << 20
	now := time.Unix(0, 0)
	for second := int64(0); second < int64(d/time.Second); second += interval {
		mixed, bytes := map[int]int64{}, int64(0)
		for i := range f.partitions {
			// Partitions differ by up to a half.
			left := rate * interval * int64(1000+(i*7919+int(second)*31)%1000-500) / 1000
			for left >= ownBytes {
				one := min(left, objectBytes)
				f.upload(map[int]int64{i: one})
				left -= one
			}
			if left > 0 {
				mixed[i] = left
				bytes += left
			}
			if bytes >= objectBytes {
				f.upload(mixed)
				mixed, bytes = map[int]int64{}, 0
			}
		}
		if len(mixed) > 0 {
			f.upload(mixed)
		}
		if second%60 == 0 {
			f.compact(t, now.Add(time.Duration(second)*time.Second))
		}
	}
	f.compact(t, now.Add(d))
}

// BenchmarkDay is what a day of steady load costs and leaves.
func BenchmarkDay(b *testing.B) {
	for _, c := range []struct {
		partitions int
		rate       int64
	}{{1, 1 << 10}, {1, 100 << 10}, {1, 5 << 20}, {100, 1 << 10}, {100, 10 << 10}, {100, 100 << 10}, {10_000, 100}, {10_000, 1 << 10}} {
		b.Run(fmt.Sprintf("partitions=%d/rate=%d", c.partitions, c.rate), func(b *testing.B) {
			for b.Loop() {
				f := newFleet(DefaultLimits(), c.partitions)
				f.steady(b, 24*time.Hour, c.rate)
				mixed, ranges, most := f.figures()
				b.ReportMetric(float64(len(f.objects)), "objects")
				b.ReportMetric(float64(mixed), "mixed")
				b.ReportMetric(float64(ranges)/float64(c.partitions), "ranges/partition")
				b.ReportMetric(float64(most), "most-ranges")
				b.ReportMetric(float64(f.uploaded+f.rewritten)/float64(f.uploaded), "amplification")
				b.ReportMetric(float64(f.puts), "puts")
				b.ReportMetric(float64(f.jobs), "compactions")
				b.ReportMetric(float64(f.gets), "gets")
				b.ReportMetric(float64(f.indexGets), "index-gets")
				b.ReportMetric(float64(f.indexBytes)/float64(max(f.rewritten, 1)), "index-B/B")
				b.ReportMetric(float64(f.gets)*(1<<30)/float64(max(f.rewritten, 1)), "gets/GiB")
			}
		})
	}
}
