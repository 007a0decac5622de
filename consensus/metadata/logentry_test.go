package metadata

import (
	"errors"
	"reflect"
	"testing"

	"pgregory.net/rapid"

	"rustmq.dev/rustmq/test/seeded"
	"rustmq.dev/rustmq/test/tally"
)

func TestLogEntryRoundTrip(t *testing.T) {
	seeded.Check(t, func(t *rapid.T) {
		e := &LogEntry{
			Incarnation: rapid.Uint32().Draw(t, "incarnation"), Number: rapid.Uint64().Draw(t, "number"),
			Term: rapid.Uint64().Draw(t, "term"), Writer: rapid.Uint64().Draw(t, "writer"), First: rapid.Uint64Range(1, 1000).Draw(t, "first"),
		}
		if rapid.Bool().Draw(t, "snapshot") {
			e.Snapshot = rapid.SliceOfN(rapid.Byte(), 1, 100).Draw(t, "state")
			e.Last = e.First
		} else {
			e.Last = e.First - 1
			for range rapid.IntRange(1, 20).Draw(t, "commands") {
				e.Last += rapid.Uint64Range(1, 300).Draw(t, "gap")
				e.Commands = append(e.Commands, LogCommand{e.Last, rapid.SliceOfN(rapid.Byte(), 0, 50).Draw(t, "command")})
			}
		}
		got, err := DecodeLogEntry(e.Encode())
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, e) {
			t.Fatalf("got %+v, want %+v", got, e)
		}
	})
}

func TestLogEntryDamageIsFound(t *testing.T) {
	entry := (&LogEntry{Incarnation: 1, Number: 7, First: 3, Last: 9, Commands: []LogCommand{{4, []byte("one")}, {9, []byte("two")}}}).Encode()
	for bit := range len(entry) * 8 {
		damaged := append([]byte(nil), entry...)
		damaged[bit/8] ^= 1 << (bit % 8)
		_, err := DecodeLogEntry(damaged)
		if _, corrupt := errors.AsType[*CorruptionError](err); !corrupt && !isStop(err) {
			t.Fatalf("bit %d flipped: %v", bit, err)
		}
	}
	for cut := range entry {
		if _, err := DecodeLogEntry(entry[:cut]); err == nil {
			t.Fatalf("cut to %d bytes: no error", cut)
		}
	}
	tally.Log(t, tally.Counts{"bits_flipped": int64(len(entry) * 8)})
}

func FuzzLogEntry(f *testing.F) {
	f.Add((&LogEntry{Number: 1, First: 1, Last: 2, Commands: []LogCommand{{2, []byte("x")}}}).Encode())
	f.Add((&LogEntry{Number: 2, First: 5, Last: 5, Snapshot: []byte("state")}).Encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := DecodeLogEntry(b)
		if err != nil {
			return
		}
		if again, err := DecodeLogEntry(e.Encode()); err != nil || !reflect.DeepEqual(again, e) {
			t.Fatalf("%+v became %+v: %v", e, again, err)
		}
	})
}
