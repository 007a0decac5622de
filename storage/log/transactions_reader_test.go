package log

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/disk"
)

// TestReaderBesideTransactions: while many begin and end, a reader gets what was
// committed, once and in order, and nothing that is open or was aborted.
func TestReaderBesideTransactions(t *testing.T) {
	rng := newRand(t)
	s := open(t, small(disk.NewMem(disk.MemOptions{})))
	l := lead(t, s, partition(topicA, 0), 1)
	const each, count = 40, 4
	committed := make(chan []string, count)
	for id := range int64(count) {
		rng := rand.New(rand.NewPCG(rng.Uint64(), uint64(id)))
		go func() {
			var mine []string
			defer func() { committed <- mine }()
			sequence := int32(0)
			for n := range each {
				commit := rng.IntN(2) == 0
				for i := range 1 + rng.IntN(3) {
					text := fmt.Sprintf("%d/%d/%d", id, n, i)
					b := inTransaction(t, id, 0, sequence, text)
					sequence++
					if r := sendVerified(t, l, b).wait(t); r.Err != nil {
						t.Error(r.Err)
						return
					}
					if commit {
						mine = append(mine, text)
					}
				}
				if r := sendMarker(l, Marker{ProducerID: id, Commit: commit}).wait(t); r.Err != nil {
					t.Error(r.Err)
					return
				}
			}
		}()
	}
	var want, got []string
	at := storage.Offset(0)
	for done := 0; done < count || at < l.LastStable(); {
		select {
		case mine := <-committed:
			want = append(want, mine...)
			done++
		default:
		}
		r, err := l.Read(ReadRequest{Offset: at, MaxBytes: 1000, MinOne: true, Isolation: LastStable})
		if err != nil {
			t.Fatal(err)
		}
		for _, raw := range r.Batches {
			b := batch.Batch(raw)
			at = b.NextOffset()
			if b.IsControl() || slices.ContainsFunc(r.Aborted, func(a Aborted) bool {
				return a.ProducerID == b.ProducerID() && a.First <= b.BaseOffset() && b.LastOffset() < a.Last
			}) {
				continue
			}
			it := b.Records(0)
			for it.Next() {
				got = append(got, string(it.Record().Value))
			}
		}
		r.Release()
	}
	if at != l.HighWatermark() {
		t.Fatalf("read to %d of %d", at, l.HighWatermark())
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Fatalf("a reader sees %d records, %d are committed", len(got), len(want))
	}
}
