package log

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/disk"
)

// credits is an Appended that lets the next append go.
type credits chan struct{}

func (c credits) Appended(r AppendResult) {
	if r.Err != nil {
		panic(r.Err)
	}
	c <- struct{}{}
}

func newCredits(n int) credits {
	c := make(credits, n)
	for range n {
		c <- struct{}{}
	}
	return c
}

func (c credits) drain() {
	for range cap(c) {
		<-c
	}
}

// TestAppendAllocatesNothingPerRecord, and next to nothing per batch.
func TestAppendAllocatesNothingPerRecord(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	o := small(disk.NewMem(disk.MemOptions{}))
	o.WAL.Capacity, o.WAL.SegmentSize, o.WAL.ChunkSize, o.WAL.Memory = 256<<20, 16<<20, 4<<20, 64<<20
	s := open(t, o)
	l := lead(t, s, partition(topicA, 0), 1)
	now, ctx := time.Now(), context.Background()
	perBatch := func(records int) float64 {
		b := values(t, strings.Split(strings.Repeat("x,", records-1)+"x", ",")...)
		c := newCredits(64)
		const batches = 1000
		one := func() {
			<-c
			if err := s.Admit(ctx, len(b)); err != nil {
				t.Fatal(err)
			}
			l.Append(now, b, anyEpoch, c)
		}
		for range batches { // the pools fill
			one()
		}
		got := testing.AllocsPerRun(1, func() {
			for range batches {
				one()
			}
		}) / batches
		c.drain()
		return got
	}
	few, many := perBatch(1), perBatch(100)
	t.Logf("%.2f allocations for a batch of 1 record, %.2f for one of 100", few, many)
	// The disk in memory and the index's growth are in these.
	if few > 2 || many > few+1 {
		t.Fatalf("%.2f allocations for a batch of 1 record, %.2f for one of 100", few, many)
	}
}

// TestLargeReadsFromFilesReuseTheirMemory: a consumer that asks for 8 MiB of a partition at a
// time has the kernel touch that memory once, and not for each answer.
func TestLargeReadsFromFilesReuseTheirMemory(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector drops from pools")
	}
	o := small(disk.NewMem(disk.MemOptions{}))
	o.WAL.Capacity, o.WAL.SegmentSize, o.WAL.ChunkSize, o.WAL.Memory = 256<<20, 16<<20, 1<<20, 8<<20
	s := open(t, o)
	l := lead(t, s, partition(topicA, 0), 1)
	b := values(t, strings.Repeat("x", 64<<10))
	c := newCredits(8)
	const size, reads = 8 << 20, 20
	for range 3 * size / len(b) {
		<-c
		if err := s.Admit(t.Context(), len(b)); err != nil {
			t.Fatal(err)
		}
		l.Append(time.Now(), b, anyEpoch, c)
	}
	c.drain()
	// A pool forgets with the collector, and keeps one thing for each processor.
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range reads {
		r, err := l.Read(ReadRequest{MaxBytes: size, MinOne: true})
		if err != nil {
			t.Fatal(err)
		}
		if r.Bytes < size-2*len(b) {
			t.Fatalf("%d bytes were read, of %d", r.Bytes, size)
		}
		r.Release()
	}
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > reads*size/2 {
		t.Errorf("%d reads of %d bytes allocated %d", reads, size, got)
	}
}

// BenchmarkAppend appends to files, synced, with as many in flight as a busy
// broker has.
func BenchmarkAppend(b *testing.B) {
	for _, size := range []int{100, 1 << 10, 16 << 10} {
		for _, partitions := range []int32{1, 64} {
			for _, producer := range []bool{false, true} {
				b.Run(fmt.Sprintf("size=%d/partitions=%d/idempotent=%v", size, partitions, producer), func(b *testing.B) {
					benchmarkAppend(b, size, partitions, producer)
				})
			}
		}
	}
}

func benchmarkAppend(b *testing.B, size int, partitions int32, idempotent bool) {
	fs, err := disk.OpenOS(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	s, err := Open(context.Background(), Options{FS: fs, Dir: "wal"})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	logs := make([]*Log, partitions)
	for i := range logs {
		logs[i] = lead(b, s, partition(topicA, int32(i)), 1)
	}
	record := values(b, strings.Repeat("x", size))
	batches := make([]batch.Batch, partitions)
	next := make([]int32, partitions)
	ctx, now := context.Background(), time.Now()
	c := newCredits(512)
	b.SetBytes(int64(len(record)))
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		p := i % len(logs)
		if idempotent {
			batches[p] = sequenced(b, batches[p], size, next[p])
			next[p]++
		} else {
			batches[p] = record
		}
		<-c
		if err := s.Admit(ctx, len(batches[p])); err != nil {
			b.Fatal(err)
		}
		logs[p].Append(now, batches[p], anyEpoch, c)
		if i%4096 == 4095 { // as an upload would
			for _, l := range logs {
				if err := l.SetLogStart(l.HighWatermark()); err != nil {
					b.Fatal(err)
				}
			}
		}
		i++
	}
	c.drain()
}

// sequenced gives a batch the next sequence number, as its producer would.
func sequenced(b *testing.B, old batch.Batch, size int, sequence int32) batch.Batch {
	if old == nil {
		old = from(b, 1, 0, 0, strings.Repeat("x", size))
	}
	old[53], old[54], old[55], old[56] = byte(sequence>>24), byte(sequence>>16), byte(sequence>>8), byte(sequence)
	return crcOf(old)
}

// BenchmarkRead reads a partition of 1 KiB batches, 1 MiB at a time.
func BenchmarkRead(b *testing.B) {
	for _, from := range []string{"memory", "files"} {
		b.Run("from="+from, func(b *testing.B) {
			fs, err := disk.OpenOS(b.TempDir())
			if err != nil {
				b.Fatal(err)
			}
			o := Options{FS: fs, Dir: "wal"}
			if from == "files" {
				o.WAL.Memory = 16 << 20
			}
			s, err := Open(context.Background(), o)
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			l := lead(b, s, partition(topicA, 0), 1)
			record := values(b, strings.Repeat("x", 1<<10))
			c := newCredits(512)
			const total = 64 << 20
			for range total / (1 << 10) {
				<-c
				if err := s.Admit(context.Background(), len(record)); err != nil {
					b.Fatal(err)
				}
				l.Append(time.Now(), record, anyEpoch, c)
			}
			c.drain()
			b.SetBytes(1 << 20)
			b.ReportAllocs()
			at := storage.Offset(0)
			for b.Loop() {
				r, err := l.Read(ReadRequest{Offset: at, MaxBytes: 1 << 20, MinOne: true})
				if err != nil {
					b.Fatal(err)
				}
				at += storage.Offset(len(r.Batches))
				if at > 40<<10 { // of the first 40 MiB, which are not in 16 MiB of memory
					at = 0
				}
				r.Release()
			}
		})
	}
}

// BenchmarkIdlePartitions says what partitions cost that nobody writes to: bytes
// of memory each, and the time to open a store of them.
func BenchmarkIdlePartitions(b *testing.B) {
	for _, n := range []int32{10_000, 100_000} {
		b.Run(fmt.Sprintf("partitions=%d", n), func(b *testing.B) {
			fs, err := disk.OpenOS(b.TempDir())
			if err != nil {
				b.Fatal(err)
			}
			o := Options{FS: fs, Dir: "wal"}
			s, err := Open(context.Background(), o)
			if err != nil {
				b.Fatal(err)
			}
			began := time.Now()
			for i := range n {
				lead(b, s, partition(topicA, i), 1)
			}
			created := time.Since(began)
			if err := s.Close(); err != nil {
				b.Fatal(err)
			}
			s = nil
			before := heap()
			var perPartition float64
			var opened time.Duration
			for b.Loop() {
				began = time.Now()
				if s, err = Open(context.Background(), o); err != nil {
					b.Fatal(err)
				}
				opened = time.Since(began)
				memory := s.wal.Stats().MemoryBytes
				perPartition = float64(int64(heap()-before)-memory) / float64(n)
				if err := s.Close(); err != nil {
					b.Fatal(err)
				}
				s = nil
				before = heap()
			}
			b.ReportMetric(perPartition, "B/partition")
			b.ReportMetric(float64(opened.Milliseconds()), "ms/open")
			b.ReportMetric(float64(created.Microseconds())/float64(n), "µs/create")
		})
	}
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
