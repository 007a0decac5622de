package async

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/test/seeded"
)

// madeOf is a batch at an offset, as a broker has it.
func madeOf(t *testing.T, at int64, codec batch.Codec, n int, value []byte, headers ...batch.Header) batch.Batch {
	t.Helper()
	w := batch.NewBuilder(batch.BuilderOptions{Codec: codec})
	for range n {
		w.Add(1000, nil, value, headers...)
	}
	b, err := w.Build()
	if err != nil {
		t.Fatal(err)
	}
	batch.Stamp(b, storage.Offset(at), 0)
	return b
}

// garbled is the batch with a body that does not decompress, and a checksum that is right: what
// brokers take.
func garbled(b batch.Batch) batch.Batch {
	for i := batch.HeaderSize; i < len(b); i++ {
		b[i] = 0x5a
	}
	binary.BigEndian.PutUint32(b[17:], b.ComputeCRC())
	return b
}

// readAll reads what an answer has, over and over as a worker does, and returns what was found:
// runs of records, and what is not to be read.
func readAll(t *testing.T, r *reader, answer []byte) (found []string) {
	t.Helper()
	var c chunk
	for from := int64(0); ; {
		if !r.more() {
			got := &kmsg.FetchResponseTopicPartition{}
			for rest := answer; len(rest) > 0; {
				b, more, err := batch.Next(rest)
				if err != nil {
					t.Fatal(err)
				}
				if int64(b.LastOffset()) >= from {
					got.RecordBatches = rest
					break
				}
				rest = more
			}
			if got.RecordBatches == nil {
				return found
			}
			r.take(got)
		}
		if err := r.decode(t.Context(), from, &c); err != nil {
			t.Fatal(err)
		}
		if c.next <= from {
			t.Fatalf("it does not go on at %d", from)
		}
		if len(c.records) > maxPiece {
			t.Errorf("%d records at once", len(c.records))
		}
		for i := range c.records {
			if i == 0 || c.records[i].Offset != c.records[i-1].Offset+1 {
				found = append(found, fmt.Sprint(c.records[i].Offset))
			}
		}
		if n := len(c.records); n > 0 {
			found[len(found)-1] += fmt.Sprint("+", n)
		}
		if c.unreadable != nil {
			found = append(found, fmt.Sprintf("%d-%d unreadable", c.unreadable.from, c.next-1))
		}
		if from = c.next; r.more() {
			continue
		}
		r.done(&c)
		if r.holds || len(r.large) > 0 || r.memory != nil {
			t.Error("a large batch, or memory, is held by nobody")
		}
	}
}

// What is compressed is not looked at when it comes: a batch that nobody can read does not hold
// up those behind it, and one that expands to a thousand times its size is taken in parts.
func TestBatchesThatAreMadeToHarm(t *testing.T) {
	plain := func(at int64) batch.Batch { return madeOf(t, at, batch.None, 2, []byte("v")) }
	zeros := make([]byte, 1<<20)
	many := make([]batch.Header, maxHeaders+1)
	for name, c := range map[string]struct {
		bad  batch.Batch
		want []string
	}{
		"garbage":              {garbled(madeOf(t, 2, batch.Zstd, 3, []byte("v"))), []string{"0+2", "2-4 unreadable", "5+2"}},
		"more than is allowed": {madeOf(t, 2, batch.Zstd, 70, zeros), []string{"0+2", "2-71 unreadable", "72+2"}},
		"large":                {madeOf(t, 2, batch.Zstd, 20, zeros), []string{"0+22", "22+2"}},
		"many":                 {madeOf(t, 2, batch.Zstd, 5*maxPiece/2, nil), []string{"0+2", "2+854", "856+854", "1710+852", "2562+2"}},
		"headers":              {madeOf(t, 2, batch.Zstd, 1, nil, many...), []string{"0+2", "2-2 unreadable", "3+2"}},
	} {
		t.Run(name, func(t *testing.T) {
			answer := slices.Concat(plain(0), c.bad, plain(int64(c.bad.NextOffset())))
			r := &reader{large: make(chan struct{}, 1), pool: new(sync.Pool)}
			if got := readAll(t, r, answer); !slices.Equal(got, c.want) {
				t.Errorf("%q, not %q", got, c.want)
			}
		})
	}
}

// What batches expand to lies in memory that is used again for the next: what came out before is
// decided about by then, and nothing else is overwritten.
func TestMemoryIsUsedAgainBehindWhatWasDecided(t *testing.T) {
	noise := make([]byte, 1000)
	for i, random := 0, rand.New(rand.NewPCG(seeded.Seed(t), 9)); i < len(noise); i++ {
		noise[i] = 'a' + byte(random.IntN(26))
	}
	for _, n := range []int{300, 700, maxPiece + 1, 3 * maxPiece} {
		var answer []byte
		at := int64(0)
		for range 8 {
			w := batch.NewBuilder(batch.BuilderOptions{Codec: batch.LZ4})
			for i := range n {
				w.Add(1000, nil, append(strconv.AppendInt(nil, at+int64(i), 10), noise[i%800:][:100]...))
			}
			b, err := w.Build()
			if err != nil {
				t.Fatal(err)
			}
			batch.Stamp(b, storage.Offset(at), 0)
			answer = append(answer, b...)
			at += int64(n)
		}
		r := &reader{pool: new(sync.Pool)}
		r.take(&kmsg.FetchResponseTopicPartition{RecordBatches: answer})
		var c chunk
		seen := int64(0)
		for r.more() {
			if err := r.decode(t.Context(), seen, &c); err != nil {
				t.Fatal(err)
			}
			if len(c.records) > maxPiece {
				t.Errorf("%d records at once", len(c.records))
			}
			for i := range c.records {
				want := append(strconv.AppendInt(nil, seen, 10), noise[int(seen)%n%800:][:100]...)
				if got := &c.records[i]; got.Offset != seen || !bytes.Equal(got.Value, want) {
					t.Fatalf("batches of %d: %q with offset %d, not %q", n, got.Value, got.Offset, want)
				}
				seen++
			}
		}
		if seen != at {
			t.Errorf("batches of %d: %d records of %d", n, seen, at)
		}
	}
}
