package batch

import (
	"encoding/hex"
	"testing"
)

// TestMarkerIsKafkas compares markers with the bytes that Kafka writes: a control
// record of EndTransactionMarker v0.
func TestMarkerIsKafkas(t *testing.T) {
	for _, c := range []struct {
		name   string
		marker Marker
		record string
	}{
		{"commit", Marker{Commit: true, CoordinatorEpoch: 7}, "20" + "00" + "00" + "00" + "08" + "00000001" + "0c" + "000000000007" + "00"},
		{"abort", Marker{CoordinatorEpoch: 0x01020304}, "20" + "00" + "00" + "00" + "08" + "00000000" + "0c" + "000001020304" + "00"},
	} {
		b := BuildMarker(1_700_000_000_000, 4001, 3, c.marker)
		if got := hex.EncodeToString(b[HeaderSize:]); got != c.record {
			t.Errorf("%s: the record is %s, want %s", c.name, got, c.record)
		}
		if err := Validate(b, &Limits{Internal: true}); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if !b.IsControl() || !b.IsTransactional() || b.ProducerID() != 4001 || b.ProducerEpoch() != 3 ||
			b.BaseSequence() != -1 || b.MaxTimestamp() != 1_700_000_000_000 || b.NumRecords() != 1 {
			t.Errorf("%s: the header is %x", c.name, b[:HeaderSize])
		}
		if m, ok := ReadMarker(b); !ok || m != c.marker {
			t.Errorf("%s: read back as %+v, %t", c.name, m, ok)
		}
	}
}

// TestReadMarkerOfAnythingElse finds no marker in what is none.
func TestReadMarkerOfAnythingElse(t *testing.T) {
	control := func(key, value []byte) Batch {
		w := NewBuilder(BuilderOptions{Producer: &Producer{ID: 1}, Transactional: true, Control: true})
		w.Add(0, key, value)
		b, err := w.Build()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	value := []byte{0, 0, 0, 0, 0, 1}
	data := NewBuilder(BuilderOptions{Producer: &Producer{ID: 1}, Transactional: true})
	data.Add(0, []byte{0, 0, 0, 1}, value)
	record, err := data.Build()
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string]Batch{
		"a record":        record,
		"a leader change": control([]byte{0, 0, 0, 2}, value),
		"no key":          control(nil, value),
		"no value":        control([]byte{0, 0, 0, 1}, nil),
		"a cut value":     control([]byte{0, 0, 0, 1}, value[:5]),
		"cut off":         BuildMarker(0, 1, 0, Marker{})[:HeaderSize],
	} {
		if m, ok := ReadMarker(b); ok {
			t.Errorf("%s was read as the marker %+v", name, m)
		}
	}
}
