package batch

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"rustmq.dev/rustmq/test/seeded"
)

// plainRecord is a record as a reader sees it.
type plainRecord struct {
	offset, timestamp int64
	key, value        []byte
	headers           string
}

// fataler is a test, or a rapid one.
type fataler interface {
	Helper()
	Fatal(...any)
}

func plainRecords(t fataler, b Batch) (all []plainRecord) {
	t.Helper()
	it := b.Records(0)
	for it.Next() {
		r := it.Record()
		is := plainRecord{offset: int64(r.Offset), timestamp: r.Timestamp, key: slices.Clone(r.Key), value: slices.Clone(r.Value)}
		r.Headers(func(h Header) bool { is.headers += fmt.Sprintf("%q=%q,", h.Key, h.Value); return true })
		all = append(all, is)
	}
	if it.Err() != nil {
		t.Fatal(it.Err())
	}
	return all
}

func (r plainRecord) equal(o plainRecord) bool {
	return r.offset == o.offset && r.timestamp == o.timestamp && r.headers == o.headers &&
		bytes.Equal(r.key, o.key) && (r.key == nil) == (o.key == nil) && bytes.Equal(r.value, o.value) && (r.value == nil) == (o.value == nil)
}

// TestFilteredRecordsStayAsTheyWere: whatever goes, in one step or in two, with a
// delete horizon or without, the others have the offsets, timestamps and bytes that
// they had, and the batch says of its sender what it said.
func TestFilteredRecordsStayAsTheyWere(t *testing.T) {
	seeded.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 30).Draw(t, "records")
		w := NewBuilder(BuilderOptions{
			Codec: Codec(rapid.IntRange(0, 4).Draw(t, "codec")), BaseOffset: 1000, LeaderEpoch: 7,
			Producer: &Producer{ID: 9, Epoch: 2, BaseSequence: 40}, Transactional: rapid.Bool().Draw(t, "transactional"),
		})
		bytesOrNull := rapid.OneOf(rapid.Just([]byte(nil)), rapid.SliceOfN(rapid.Byte(), 0, 200))
		for range n {
			w.Add(rapid.Int64Range(0, 1<<42).Draw(t, "timestamp"), bytesOrNull.Draw(t, "key"), bytesOrNull.Draw(t, "value"), Header{Key: []byte("h"), Value: bytesOrNull.Draw(t, "header")})
		}
		b, err := w.Build()
		if err != nil {
			t.Fatal(err)
		}
		if rapid.Bool().Draw(t, "log append time") {
			StampLogAppendTime(b, 5_000_000)
		}
		want, was := plainRecords(t, b), b
		var f Filter
		horizon := NoTimestamp
		for range 2 {
			stays := map[int64]bool{}
			for _, r := range want {
				stays[r.offset] = rapid.Bool().Draw(t, "stays")
			}
			if err := f.Sift(b, func(r *Record) bool { return stays[int64(r.Offset)] }); err != nil {
				t.Fatal(err)
			}
			want = slices.DeleteFunc(want, func(r plainRecord) bool { return !stays[r.offset] })
			if f.Kept() != len(want) {
				t.Fatalf("%d kept, %d of %d were to stay", f.Kept(), len(want), len(stays))
			}
			give := NoTimestamp
			if rapid.Bool().Draw(t, "horizon") {
				if give = rapid.Int64Range(0, 1<<43).Draw(t, "is"); horizon == NoTimestamp {
					horizon = give
				}
			}
			if b, err = f.Build(give); err != nil {
				t.Fatal(err)
			}
		}
		if got := plainRecords(t, b); !slices.EqualFunc(got, want, plainRecord.equal) {
			t.Fatalf("got %v, want %v", got, want)
		}
		if at, has := b.DeleteHorizon(); has != (horizon != NoTimestamp) || has && at != horizon {
			t.Fatalf("horizon %d, %v; want %d", at, has, horizon)
		}
		newest := was.MaxTimestamp()
		if was.TimestampType() == CreateTime {
			newest = NoTimestamp
			for _, r := range want {
				newest = max(newest, r.timestamp)
			}
		}
		if _, rest, err := Next(b); err != nil || len(rest) > 0 || b.ComputeCRC() != b.CRC() {
			t.Fatalf("not a batch: %v, %d bytes left, crc %08x for %08x", err, len(rest), b.CRC(), b.ComputeCRC())
		}
		if b.BaseOffset() != was.BaseOffset() || b.LastOffset() != was.LastOffset() || b.LeaderEpoch() != was.LeaderEpoch() || b.ProducerID() != was.ProducerID() ||
			b.ProducerEpoch() != was.ProducerEpoch() || b.BaseSequence() != was.BaseSequence() || b.LastSequence() != was.LastSequence() ||
			b.Attributes()&^deleteHorizonBit != was.Attributes() || b.MaxTimestamp() != newest || int(b.NumRecords()) != len(want) {
			t.Fatalf("the header is %x, was %x", b[:HeaderSize], was[:HeaderSize])
		}
	})
}

func TestNothingToFilterIsTheBatchItself(t *testing.T) {
	w := NewBuilder(BuilderOptions{Codec: Zstd})
	w.Add(1, []byte("k"), []byte("v"))
	b, err := w.Build()
	if err != nil {
		t.Fatal(err)
	}
	var f Filter
	if err := f.Sift(b, func(*Record) bool { return true }); err != nil {
		t.Fatal(err)
	}
	if got, err := f.Build(NoTimestamp); err != nil || &got[0] != &b[0] {
		t.Errorf("another batch, %v", err)
	}
}

// FuzzFilter: what a filter makes of any batch that it takes is one that it takes.
func FuzzFilter(f *testing.F) {
	for codec := None; codec <= Zstd; codec++ {
		w := NewBuilder(BuilderOptions{Codec: codec, Producer: &Producer{ID: 1}})
		w.Add(100, []byte("a"), nil)
		w.Add(90, []byte("b"), []byte("v"), Header{Key: []byte("h")})
		b, err := w.Build()
		if err != nil {
			f.Fatal(err)
		}
		f.Add([]byte(b), uint64(1), int64(1234))
	}
	f.Fuzz(func(t *testing.T, data []byte, stays uint64, horizon int64) {
		b, _, err := Next(data)
		if err != nil {
			return
		}
		filter := Filter{Limit: 1 << 20}
		keep := func(r *Record) bool { return stays&(1<<(uint(r.Offset)%64)) != 0 }
		if filter.Sift(b, keep) != nil {
			return
		}
		kept := filter.Kept()
		out, err := filter.Build(horizon)
		if err != nil {
			t.Fatal(err)
		}
		if err := filter.Sift(out, keep); err != nil || filter.Kept() != kept || kept != int(out.NumRecords()) {
			t.Fatalf("%v: %d kept, then %d of %d", err, kept, filter.Kept(), out.NumRecords())
		}
	})
}
