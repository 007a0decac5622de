package metadata

import (
	"fmt"
	"testing"

	"rustmq.dev/rustmq/storage"
)

// manyObjects is a log of one partition whose ranges are an object each.
func manyObjects(tb testing.TB, n int) *testLog {
	l := newLog(tb, 1)
	for done := 0; done < n; {
		count := min(MaxPreparedIDs, n-done)
		first := l.prepare(count)
		for i := range count {
			at := storage.Offset(done + i)
			l.accepted(NewCommitObject(1, 2, first+storage.ObjectID(i), 1000, []PartitionRange{rangeAt(0, at, at+1)}))
		}
		done += count
	}
	return l
}

// BenchmarkRestore is a start from a snapshot with many objects.
func BenchmarkRestore(b *testing.B) {
	for _, n := range []int{1000, 100_000} {
		b.Run(fmt.Sprintf("objects=%d", n), func(b *testing.B) {
			snapshot := manyObjects(b, n).state.Image().Snapshot()
			b.SetBytes(int64(len(snapshot)))
			b.ReportAllocs()
			for b.Loop() {
				if err := NewState().Restore(snapshot); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
