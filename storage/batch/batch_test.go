package batch

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
	"pgregory.net/rapid"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/test/seeded"
	"rustmq.dev/rustmq/test/tally"
)

// build makes a batch of the given values, a second apart, or fails the test.
func build(t testing.TB, o BuilderOptions, values ...string) Batch {
	t.Helper()
	w := NewBuilder(o)
	for i, v := range values {
		w.Add(1_700_000_000_000+int64(i)*1000, []byte("k"), []byte(v))
	}
	b, err := w.Build()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// wantCode fails unless err is an *Error of that code.
func wantCode(t testing.TB, err error, code Code) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) || e.Code != code {
		t.Fatalf("got %v, want %v", err, code)
	}
}

// readHex reads annotated hex: everything after # is a remark.
func readHex(t testing.TB, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var digits strings.Builder
	for line := range strings.Lines(string(text)) {
		line, _, _ = strings.Cut(line, "#")
		digits.WriteString(strings.Join(strings.Fields(line), ""))
	}
	raw, err := hex.DecodeString(digits.String())
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func goldenBatch(t testing.TB) Batch {
	w := NewBuilder(BuilderOptions{
		BaseOffset: 4711, LeaderEpoch: 9, Transactional: true,
		Producer: &Producer{ID: 0x0102030405060708, Epoch: 3, BaseSequence: 42},
	})
	w.Add(1_700_000_000_000, []byte("key"), []byte("value"), Header{Key: []byte("h"), Value: []byte("v")}, Header{Key: []byte("n")})
	w.Add(1_700_000_000_200, nil, nil)
	b, err := w.Build()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestLayoutIsTheGoldenOne(t *testing.T) {
	want := readHex(t, "testdata/batch.hex")
	if got := goldenBatch(t); !bytes.Equal(got, want) {
		t.Fatalf("got\n%swant\n%s", hex.Dump(got), hex.Dump(want))
	}
	b, rest, err := Next(want)
	if err != nil || len(rest) != 0 {
		t.Fatalf("Next: %d bytes left, %v", len(rest), err)
	}
	if b.BaseOffset() != 4711 || b.LeaderEpoch() != 9 || b.Length() != len(want) || b.Magic() != 2 ||
		b.Codec() != None || b.TimestampType() != CreateTime || !b.IsTransactional() || b.IsControl() ||
		b.LastOffsetDelta() != 1 || b.LastOffset() != 4712 || b.NextOffset() != 4713 ||
		b.FirstTimestamp() != 1_700_000_000_000 || b.MaxTimestamp() != 1_700_000_000_200 ||
		b.ProducerID() != 0x0102030405060708 || b.ProducerEpoch() != 3 || b.BaseSequence() != 42 ||
		b.LastSequence() != 43 || b.NumRecords() != 2 || b.CRC() != b.ComputeCRC() {
		t.Fatalf("an accessor reads the wrong place in\n%s", hex.Dump(b))
	}
}

// TestAgreesWithKmsg reads with franz-go's encoder and decoder what is built
// here, and the other way round.
func TestAgreesWithKmsg(t *testing.T) {
	b := goldenBatch(t)
	var theirs kmsg.RecordBatch
	if err := theirs.ReadFrom(b); err != nil {
		t.Fatal(err)
	}
	if uint32(theirs.CRC) != b.CRC() || theirs.FirstOffset != int64(b.BaseOffset()) || int(theirs.Length) != len(b)-lengthPrefix ||
		theirs.PartitionLeaderEpoch != int32(b.LeaderEpoch()) || theirs.Attributes != b.Attributes() ||
		theirs.LastOffsetDelta != b.LastOffsetDelta() || theirs.FirstTimestamp != b.FirstTimestamp() ||
		theirs.MaxTimestamp != b.MaxTimestamp() || theirs.ProducerID != b.ProducerID() ||
		theirs.ProducerEpoch != b.ProducerEpoch() || theirs.FirstSequence != b.BaseSequence() || theirs.NumRecords != b.NumRecords() {
		t.Fatalf("kmsg reads %+v", theirs)
	}
	records := theirs.Records
	it := b.Records(0)
	for it.Next() {
		var r kmsg.Record
		if err := r.ReadFrom(records); err != nil {
			t.Fatal(err)
		}
		_, n := binary.Varint(records)
		records = records[n+int(r.Length):]
		ours := it.Record()
		if !bytes.Equal(r.Key, ours.Key) || !bytes.Equal(r.Value, ours.Value) || (r.Key == nil) != (ours.Key == nil) ||
			len(r.Headers) != ours.NumHeaders || b.FirstTimestamp()+r.TimestampDelta64 != ours.Timestamp ||
			b.BaseOffset()+storage.Offset(r.OffsetDelta) != ours.Offset {
			t.Fatalf("kmsg reads %+v, we read %+v", r, ours)
		}
		i := 0
		ours.Headers(func(h Header) bool {
			if string(h.Key) != r.Headers[i].Key || !bytes.Equal(h.Value, r.Headers[i].Value) {
				t.Errorf("header %d: kmsg reads %+v, we read %+v", i, r.Headers[i], h)
			}
			i++
			return true
		})
	}
	if it.Err() != nil || len(records) != 0 {
		t.Fatalf("%d bytes left, %v", len(records), it.Err())
	}
	if again := theirs.AppendTo(nil); !bytes.Equal(again, b) {
		t.Fatalf("kmsg writes\n%sfor\n%s", hex.Dump(again), hex.Dump(b))
	}
}

func TestNextRefusesWhatIsNotAWholeBatch(t *testing.T) {
	whole := build(t, BuilderOptions{}, "a", "b")
	for n := range len(whole) {
		_, _, err := Next(whole[:n:n])
		wantCode(t, err, CorruptMessage)
	}
	damage := func(f func(b Batch)) Batch {
		b := Batch(bytes.Clone(whole))
		f(b)
		return b
	}
	for _, tc := range []struct {
		name string
		in   Batch
		code Code
	}{
		{"old format", damage(func(b Batch) { b[atMagic] = 1 }), UnsupportedFormat},
		{"old format, short", damage(func(b Batch) { b[atMagic] = 0 })[:30], UnsupportedFormat},
		{"negative length", damage(func(b Batch) { binary.BigEndian.PutUint32(b[atLength:], 1<<31) }), CorruptMessage},
		{"length below the header's", damage(func(b Batch) { binary.BigEndian.PutUint32(b[atLength:], 48) }), CorruptMessage},
		{"largest length", damage(func(b Batch) { binary.BigEndian.PutUint32(b[atLength:], 1<<31-1) }), CorruptMessage},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, _, err := Next(tc.in)
			wantCode(t, err, tc.code)
		})
	}
}

func TestValidateTakesWhatAProducerMaySend(t *testing.T) {
	for c := None; c <= Zstd; c++ {
		b := build(t, BuilderOptions{Codec: c, Producer: &Producer{ID: 1}}, "one", "two", "three")
		if err := Validate(b, &Limits{MaxBytes: len(b), MaxRecords: 3, MaxDecompressed: 1 << 20}); err != nil {
			t.Errorf("%v: %v", c, err)
		}
	}
}

func TestValidateRefuses(t *testing.T) {
	now := time.UnixMilli(1_700_000_000_000)
	base := BuilderOptions{Producer: &Producer{ID: 7, Epoch: 1, BaseSequence: 5}}
	// Every case starts from a batch that passes, and renews the CRC unless it
	// says otherwise.
	for _, tc := range []struct {
		name   string
		code   Code
		limits Limits
		keep   bool // the CRC as it was
		damage func(b Batch) Batch
	}{
		{name: "a flipped bit", code: CorruptMessage, keep: true, damage: func(b Batch) Batch { b[70] ^= 1; return b }},
		{name: "too short", code: CorruptMessage, keep: true, damage: func(b Batch) Batch { return b[:60] }},
		{name: "a byte too many", code: CorruptMessage, damage: func(b Batch) Batch { return append(b, 0) }},
		{name: "a byte too few", code: CorruptMessage, damage: func(b Batch) Batch { return b[:len(b)-1] }},
		{name: "old format", code: UnsupportedFormat, damage: func(b Batch) Batch { b[atMagic] = 1; return b }},
		{name: "over the size", code: MessageTooLarge, limits: Limits{MaxBytes: 70}},
		{name: "over the count", code: InvalidRecord, limits: Limits{MaxRecords: 1}},
		{name: "codec 5", code: UnsupportedCompression, damage: func(b Batch) Batch { b[atAttributes+1] |= 5; return b }},
		{name: "no records", code: InvalidRecord, damage: func(b Batch) Batch {
			return put32(atNumRecords, 0)(put32(atLastOffsetDelta, -1)(b))
		}},
		{name: "no compressed records", code: InvalidRecord, damage: func(b Batch) Batch {
			b[atAttributes+1] |= byte(Zstd)
			return put32(atNumRecords, 0)(put32(atLastOffsetDelta, -1)(b))
		}},
		{name: "negative records", code: InvalidRecord, damage: put32(atNumRecords, -1)},
		{name: "delta above the count", code: InvalidRecord, damage: put32(atLastOffsetDelta, 2)},
		{name: "delta below the count", code: InvalidRecord, damage: put32(atLastOffsetDelta, 0)},
		{name: "more records than bytes", code: InvalidRecord, damage: func(b Batch) Batch {
			return put32(atNumRecords, 1000)(put32(atLastOffsetDelta, 999)(b))
		}},
		{name: "fewer records than bytes", code: InvalidRecord, damage: func(b Batch) Batch {
			return put32(atNumRecords, 1)(put32(atLastOffsetDelta, 0)(b))
		}},
		{name: "a record that leaves the batch", code: InvalidRecord, damage: func(b Batch) Batch { b[HeaderSize] = 0x7e; return b }},
		{name: "more records than may decompress", code: InvalidRecord, limits: Limits{MaxDecompressed: 6999}, damage: func(b Batch) Batch {
			b[atAttributes+1] |= byte(Zstd)
			return put32(atNumRecords, 1000)(put32(atLastOffsetDelta, 999)(b))
		}},
		{name: "more records than gzip expands to", code: InvalidRecord, damage: countedAs(Gzip, 1032)},
		{name: "more records than snappy expands to", code: InvalidRecord, damage: countedAs(Snappy, 22)},
		{name: "more records than LZ4 expands to", code: InvalidRecord, damage: countedAs(LZ4, 255)},
		{name: "more records than zstd expands to", code: InvalidRecord, damage: countedAs(Zstd, 32768)},
		{name: "control", code: InvalidRecord, damage: func(b Batch) Batch { b[atAttributes+1] |= controlBit; return b }},
		{name: "delete horizon", code: InvalidRecord, damage: func(b Batch) Batch { b[atAttributes+1] |= deleteHorizonBit; return b }},
		{name: "unknown attribute", code: InvalidRecord, damage: func(b Batch) Batch { b[atAttributes] |= 1; return b }},
		{name: "transaction of nobody", code: InvalidRecord, damage: func(b Batch) Batch {
			b[atAttributes+1] |= transactionalBit
			return put64(atProducerID, -1)(b)
		}},
		{name: "producer id -2", code: InvalidRecord, damage: put64(atProducerID, -2)},
		{name: "producer without epoch", code: InvalidRecord, damage: func(b Batch) Batch { b[atProducerEpoch] = 0xff; return b }},
		{name: "producer without sequence", code: InvalidRecord, damage: put32(atBaseSequence, -1)},
		{name: "log append time", code: InvalidTimestamp, damage: func(b Batch) Batch { b[atAttributes+1] |= logAppendTimeBit; return b }},
		{name: "timestamp -2", code: InvalidTimestamp, damage: put64(atBaseTimestamp, -2)},
		{name: "ahead", code: InvalidTimestamp, limits: Limits{Now: now, AfterMax: Within(999 * time.Millisecond)}},
		{name: "behind", code: InvalidTimestamp, limits: Limits{Now: now.Add(time.Hour), BeforeMax: Within(time.Hour - 1)}},
		{name: "ahead of the strictest", code: InvalidTimestamp, limits: Limits{Now: now, AfterMax: Within(0)}},
		{name: "behind the strictest", code: InvalidTimestamp, limits: Limits{Now: now.Add(time.Millisecond), BeforeMax: Within(0)}},
		{name: "ahead, though its header does not say so", code: InvalidTimestamp, limits: Limits{Now: now, AfterMax: Within(999 * time.Millisecond)}, damage: put64(atMaxTimestamp, -1)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := build(t, base, "one", "two")
			if err := Validate(b, &Limits{}); err != nil {
				t.Fatal(err)
			}
			if tc.damage != nil {
				b = tc.damage(b)
				if !tc.keep {
					b.stampCRC()
				}
			}
			wantCode(t, Validate(b, &tc.limits), tc.code)
		})
	}
}

// countedAs makes a batch, of another codec than its bytes, count one record more than
// they can be if each byte is ratio bytes.
func countedAs(c Codec, ratio int) func(Batch) Batch {
	return func(b Batch) Batch {
		b[atAttributes+1] |= byte(c)
		n := int32(len(b.body())*ratio/minRecord + 1)
		return put32(atNumRecords, n)(put32(atLastOffsetDelta, n-1)(b))
	}
}

// TestNothingExpandsFurtherThanItsCodecCan is the other side of "more records than …
// expands to": what expands the most has room for all of it.
func TestNothingExpandsFurtherThanItsCodecCan(t *testing.T) {
	plain := make([]byte, 4<<20)
	for c := None; c <= Zstd; c++ {
		src, err := Compress(c, 0, plain)
		if err != nil {
			t.Fatal(err)
		}
		if most := int64(len(src)) * maxRatio[c]; most < int64(len(plain)) {
			t.Errorf("%v: %d bytes are of %d, at most %d are expected", c, len(src), len(plain), most)
		}
	}
}

// TestLatestTimestampIsFoundWhereItWasLeftOut sends batches as clients do that leave
// the header's largest timestamp at -1.
func TestLatestTimestampIsFoundWhereItWasLeftOut(t *testing.T) {
	const first = 1_700_000_000_000
	for _, tc := range []struct {
		name          string
		codec         Codec
		claimed, want int64
	}{
		{"left out", None, -1, first + 1000},
		{"before the first", None, first - 1, first + 1000},
		{"left out, compressed", Gzip, -1, first},
		{"too early", None, first, first}, // its producer's word
		{"too late", None, first + 5000, first + 5000},
	} {
		b := build(t, BuilderOptions{Codec: tc.codec}, "one", "two")
		put64(atMaxTimestamp, tc.claimed)(b).stampCRC()
		StampLatest(b)
		if err := Validate(b, &Limits{}); err != nil || b.MaxTimestamp() != tc.want {
			t.Errorf("%s: %d, want %d; %v", tc.name, b.MaxTimestamp(), tc.want, err)
		}
	}
	none := build(t, BuilderOptions{}, "one")
	put64(atBaseTimestamp, NoTimestamp)(put64(atMaxTimestamp, NoTimestamp)(none)).stampCRC()
	if StampLatest(none); none.MaxTimestamp() != NoTimestamp {
		t.Errorf("a batch without times has %d", none.MaxTimestamp())
	}
}

func put32(at int, v int32) func(Batch) Batch {
	return func(b Batch) Batch { binary.BigEndian.PutUint32(b[at:], uint32(v)); return b }
}

func put64(at int, v int64) func(Batch) Batch {
	return func(b Batch) Batch { binary.BigEndian.PutUint64(b[at:], uint64(v)); return b }
}

// TestTimestampAtTheBoundPasses is the other side of "ahead" and "behind".
func TestTimestampAtTheBoundPasses(t *testing.T) {
	b := build(t, BuilderOptions{}, "one", "two")
	now := time.UnixMilli(1_700_000_000_000)
	for _, l := range []Limits{
		{Now: now, AfterMax: Within(time.Second)}, {Now: now.Add(time.Hour), BeforeMax: Within(time.Hour)},
		{Now: now.Add(time.Second), AfterMax: Within(0)}, {Now: now, BeforeMax: Within(0)},
		{Now: now, AfterMax: Within(-1), BeforeMax: Within(-1)},
	} {
		if err := Validate(b, &l); err != nil {
			t.Error(err)
		}
	}
}

func TestEveryFlippedBitUnderTheCRCIsSeen(t *testing.T) {
	b := build(t, BuilderOptions{Producer: &Producer{ID: 1}}, "one", "two")
	for i := atAttributes * 8; i < len(b)*8; i++ {
		b[i/8] ^= 1 << (i % 8)
		if Validate(b, &Limits{}) == nil {
			t.Errorf("bit %d of byte %d flipped: not seen", i%8, i/8)
		}
		b[i/8] ^= 1 << (i % 8)
	}
	tally.Log(t, tally.Counts{"bits_flipped": int64((len(b) - atAttributes) * 8)})
}

func TestInternalAppendsMayBeControl(t *testing.T) {
	b := build(t, BuilderOptions{Control: true, Transactional: true, Producer: &Producer{ID: 1, BaseSequence: -1}}, "marker")
	if err := Validate(b, &Limits{Internal: true}); err != nil {
		t.Fatal(err)
	}
	wantCode(t, Validate(b, &Limits{}), InvalidRecord)
}

func TestStampingLeavesTheCRCValid(t *testing.T) {
	b := build(t, BuilderOptions{}, "one", "two")
	Stamp(b, 1<<40, 77)
	if err := Validate(b, &Limits{}); err != nil {
		t.Fatal(err)
	}
	if b.BaseOffset() != 1<<40 || b.LeaderEpoch() != 77 {
		t.Fatalf("stamped %d, epoch %d", b.BaseOffset(), b.LeaderEpoch())
	}
	StampLogAppendTime(b, 1_800_000_000_000)
	if b.CRC() != b.ComputeCRC() {
		t.Fatal("the CRC was not renewed")
	}
	it := b.Records(0)
	for it.Next() {
		if it.Record().Timestamp != 1_800_000_000_000 {
			t.Fatalf("record at %d", it.Record().Timestamp)
		}
	}
	if b.MaxTimestamp() != 1_800_000_000_000 || b.TimestampType() != LogAppendTime {
		t.Fatal("the broker's time was not taken")
	}
}

func TestValidateAndStampAllocateNothing(t *testing.T) {
	b := build(t, BuilderOptions{Producer: &Producer{ID: 1}}, strings.Split(strings.Repeat("x,", 100), ",")...)
	limits := &Limits{MaxBytes: 1 << 20, Now: time.UnixMilli(1_700_000_000_000), AfterMax: Within(time.Hour)}
	n := testing.AllocsPerRun(100, func() {
		first, _, err := Next(b)
		if err != nil {
			t.Fatal(err)
		}
		if err := Validate(first, limits); err != nil {
			t.Fatal(err)
		}
		Stamp(first, 12, 3)
	})
	if n != 0 {
		t.Fatalf("%v allocations a batch", n)
	}
}

func TestFindByTime(t *testing.T) {
	b := build(t, BuilderOptions{BaseOffset: 100}, "a", "b", "c")
	for _, tc := range []struct {
		at     int64
		offset storage.Offset
		ok     bool
	}{{0, 100, true}, {1_700_000_000_000, 100, true}, {1_700_000_000_001, 101, true}, {1_700_000_002_000, 102, true}, {1_700_000_002_001, -1, false}} {
		offset, _, ok, err := b.OffsetForTime(tc.at, 0)
		if err != nil || ok != tc.ok || offset != tc.offset {
			t.Errorf("at %d: %d, %v, %v", tc.at, offset, ok, err)
		}
	}
}

func TestSequenceWrapsToZero(t *testing.T) {
	b := build(t, BuilderOptions{Producer: &Producer{ID: 1, BaseSequence: 1<<31 - 2}}, "a", "b", "c")
	if got := b.LastSequence(); got != 0 {
		t.Fatalf("last sequence %d, want 0", got)
	}
}

func TestRecordsThatDoNotFitAreErrors(t *testing.T) {
	for name, damage := range map[string]func(b Batch) Batch{
		"count too small": put32(atNumRecords, 1),
		"count too large": put32(atNumRecords, 3),
		"delta twice":     func(b Batch) Batch { b[len(b)-len("k")-len("two")-4] = 0; return b },
		"delta too large": put32(atLastOffsetDelta, 0),
		"record too long": func(b Batch) Batch { b[HeaderSize] += 100; return b },
		"key too long":    func(b Batch) Batch { b[HeaderSize+4] += 100; return b },
		"key length -2":   func(b Batch) Batch { b[HeaderSize+4] = 3; return b },
	} {
		t.Run(name, func(t *testing.T) {
			b := damage(build(t, BuilderOptions{}, "one", "two"))
			it := b.Records(0)
			for it.Next() {
			}
			wantCode(t, it.Err(), InvalidRecord)
		})
	}
}

// TestBuiltRecordsReadBack builds any batch, recompresses it with any codec,
// and reads the same records.
func TestBuiltRecordsReadBack(t *testing.T) {
	type record struct {
		timestamp  int64
		key, value []byte
		headers    []Header
	}
	bytesOrNil := rapid.OneOf(rapid.Just[[]byte](nil), rapid.SliceOfN(rapid.Byte(), 0, 300))
	header := rapid.Custom(func(t *rapid.T) Header {
		return Header{Key: rapid.SliceOfN(rapid.Byte(), 0, 10).Draw(t, "key"), Value: bytesOrNil.Draw(t, "value")}
	})
	seeded.Check(t, func(t *rapid.T) {
		o := BuilderOptions{
			Codec:       Codec(rapid.IntRange(0, 4).Draw(t, "codec")),
			Level:       rapid.IntRange(0, 9).Draw(t, "level"),
			BaseOffset:  storage.Offset(rapid.Int64Range(0, 1<<50).Draw(t, "base")),
			LeaderEpoch: 3,
		}
		w := NewBuilder(o)
		var want []record
		for range rapid.IntRange(1, 20).Draw(t, "records") {
			r := record{rapid.Int64Range(0, 1<<45).Draw(t, "timestamp"), bytesOrNil.Draw(t, "key"), bytesOrNil.Draw(t, "value"),
				rapid.SliceOfN(header, 0, 3).Draw(t, "headers")}
			w.Add(r.timestamp, r.key, r.value, r.headers...)
			want = append(want, r)
		}
		b, err := w.Build()
		if err != nil {
			t.Fatal(err)
		}
		if err := Validate(b, &Limits{}); err != nil {
			t.Fatal(err)
		}
		other, err := Recompress(b, Codec(rapid.IntRange(0, 4).Draw(t, "other codec")), 0, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := Validate(other, &Limits{}); err != nil {
			t.Fatal(err)
		}
		for _, b := range []Batch{b, other} {
			it, i := b.Records(0), 0
			for ; it.Next(); i++ {
				r := it.Record()
				if r.Offset != o.BaseOffset+storage.Offset(i) || r.Timestamp != want[i].timestamp ||
					!bytes.Equal(r.Key, want[i].key) || (r.Key == nil) != (want[i].key == nil) ||
					!bytes.Equal(r.Value, want[i].value) || (r.Value == nil) != (want[i].value == nil) ||
					r.NumHeaders != len(want[i].headers) {
					t.Fatalf("record %d is %+v, want %+v", i, r, want[i])
				}
				n := 0
				r.Headers(func(h Header) bool {
					if !bytes.Equal(h.Key, want[i].headers[n].Key) || !bytes.Equal(h.Value, want[i].headers[n].Value) {
						t.Fatalf("record %d header %d is %+v", i, n, h)
					}
					n++
					return true
				})
			}
			if it.Err() != nil || i != len(want) {
				t.Fatalf("%d records of %d: %v", i, len(want), it.Err())
			}
		}
	})
}

func BenchmarkValidate(b *testing.B) {
	for _, size := range []int{1 << 10, 64 << 10, 1 << 20} {
		b.Run("size="+sizeName(size), func(b *testing.B) {
			batch := build(b, BuilderOptions{}, strings.Repeat("x", size))
			b.SetBytes(int64(len(batch)))
			b.ReportAllocs()
			for b.Loop() {
				if err := Validate(batch, &Limits{MaxBytes: 2 << 20}); err != nil {
					b.Fatal(err)
				}
				Stamp(batch, 1, 1)
			}
		})
	}
}

func sizeName(n int) string {
	return map[int]string{1 << 10: "1KiB", 64 << 10: "64KiB", 1 << 20: "1MiB"}[n]
}
