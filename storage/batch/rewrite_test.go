package batch

import (
	"errors"
	"testing"

	"pgregory.net/rapid"

	"rustmq.dev/rustmq/test/seeded"
)

// TestRewrittenRecordsStayAtTheirPlaces: whatever is taken out and changed, the others are
// as they were, and the batch says of its sender what it said.
func TestRewrittenRecordsStayAtTheirPlaces(t *testing.T) {
	seeded.Check(t, func(t *rapid.T) {
		bytesOrNull := rapid.OneOf(rapid.Just([]byte(nil)), rapid.SliceOfN(rapid.Byte(), 0, 200))
		w := NewBuilder(BuilderOptions{
			Codec: Codec(rapid.IntRange(0, 4).Draw(t, "codec")), Producer: &Producer{ID: 9, Epoch: 2, BaseSequence: 40}, Transactional: rapid.Bool().Draw(t, "transactional"),
		})
		n := rapid.IntRange(1, 30).Draw(t, "records")
		for range n {
			w.Add(rapid.Int64Range(0, 1<<42).Draw(t, "timestamp"), bytesOrNull.Draw(t, "key"), bytesOrNull.Draw(t, "value"), Header{Key: []byte("h"), Value: bytesOrNull.Draw(t, "header")})
		}
		b, err := w.Build()
		if err != nil {
			t.Fatal(err)
		}
		var want []plainRecord
		var r Rewriter
		r.Reset(b)
		latest := NoTimestamp
		it, again := b.Records(0), rapid.Bool().Draw(t, "rewound")
		if again && it.Next() {
			it.Rewind()
		}
		for _, was := range plainRecords(t, b) {
			if !it.Next() {
				t.Fatal(it.Err())
			}
			switch rapid.IntRange(0, 2).Draw(t, "fate") {
			case 0:
				continue
			case 1:
				r.Keep(it.Raw(), it.Record().Timestamp)
			case 2:
				was.key, was.value, was.headers = bytesOrNull.Draw(t, "new key"), bytesOrNull.Draw(t, "new value"), `"g"="x",`
				is := *it.Record()
				is.Key, is.Value = was.key, was.value
				r.Add(&is, []Header{{Key: []byte("g"), Value: []byte("x")}})
			}
			latest = max(latest, was.timestamp)
			want = append(want, was)
		}
		out, err := r.Build(Codec(rapid.IntRange(0, 4).Draw(t, "new codec")), 0)
		if err != nil {
			t.Fatal(err)
		}
		got := plainRecords(t, out)
		if len(got) != len(want) {
			t.Fatal("there are", len(got), "records, want", len(want))
		}
		for i := range want {
			if !got[i].equal(want[i]) {
				t.Fatalf("record %d is %+v, want %+v", i, got[i], want[i])
			}
		}
		if out.ProducerID() != 9 || out.ProducerEpoch() != 2 || out.BaseSequence() != 40 || out.LastOffsetDelta() != int32(n-1) ||
			out.IsTransactional() != b.IsTransactional() || out.FirstTimestamp() != b.FirstTimestamp() || out.MaxTimestamp() != latest {
			t.Fatalf("the batch says %x, the one that came %x", out[:HeaderSize], b[:HeaderSize])
		}
		if err := Validate(out, &Limits{Sifted: true}); err != nil {
			t.Fatal(err)
		}
		var refused *Error
		if err := Validate(out, &Limits{}); len(want) < n && (!errors.As(err, &refused) || refused.Code != InvalidRecord) {
			t.Fatal("a producer may send it:", err)
		}
	})
}
