package abi

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"rustmq.dev/rustmq/test/seeded"
)

func TestWhatIsEncodedIsReadByTheLayout(t *testing.T) {
	rnd := rand.New(rand.NewPCG(seeded.Seed(t), 0))
	for range 300 {
		b := randomBatch(rnd)
		size, err := Size(b)
		if err != nil {
			t.Fatal(err)
		}
		base := uint32(8 * (1 + rnd.IntN(50)))
		guest := make(memory, int(base)+size)
		for i := range guest {
			guest[i] = 0xaa // a buffer that was used before
		}
		Encode(guest[base:], base, b)
		if got := guest.batch(uint64(base)); !reflect.DeepEqual(got, b) {
			t.Fatalf("encoded at %d:\n%+v\nread:\n%+v", base, b, got)
		}
		for i := range base {
			if guest[i] != 0xaa {
				t.Fatalf("byte %d before the buffer was written", i)
			}
		}
	}
}

func TestWhatIsLaidOutIsDecoded(t *testing.T) {
	rnd := rand.New(rand.NewPCG(seeded.Seed(t), 1))
	for range 300 {
		want := randomDecisions(rnd)
		guest := make(memory, 8*(1+rnd.IntN(50)))
		result := guest.decisions(want)
		got, err := Decode(guest, result, len(want), 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		if got == nil {
			for _, d := range want {
				if d.Action != Keep || d.Replaces != 0 {
					t.Fatalf("%+v kept as it is", d)
				}
			}
			continue
		}
		kept := fmt.Sprintf("%+v", got)
		clear(guest) // the guest goes on, and its memory is written anew
		if !reflect.DeepEqual(got, want) || fmt.Sprintf("%+v", got) != kept {
			t.Fatalf("laid out:\n%+v\ndecoded:\n%+v", want, got)
		}
	}
}

// TestDamagedDecisionsAreDecodedAsByTheTwin writes over what a guest has laid out: the
// decoder and its twin agree on what to refuse, and on all that they accept.
func TestDamagedDecisionsAreDecodedAsByTheTwin(t *testing.T) {
	rnd := rand.New(rand.NewPCG(seeded.Seed(t), 2))
	refused := 0
	for range 20000 {
		want := randomDecisions(rnd)
		guest := make(memory, 8)
		result := guest.decisions(want)
		table := int(result >> 32)
		for range 1 + rnd.IntN(3) {
			at := table + 4*rnd.IntN(max(1, 10*len(want)))
			if at+4 <= len(guest) {
				values := []uint32{0, 1, 3, 4, 7, 8, 1 << 31, 1<<32 - 1, 1<<32 - 8, uint32(len(guest)), uint32(len(guest)) - 1, rnd.Uint32()}
				binary.LittleEndian.PutUint32(guest[at:], values[rnd.IntN(len(values))])
			}
		}
		if !agree(t, guest, result, len(want), 1<<10) {
			refused++
		}
	}
	if refused < 1000 || refused > 19000 {
		t.Errorf("%d of 20000 refused: the damage says little", refused)
	}
}

// agree compares the decoder with its twin, and says whether both accept.
func agree(t *testing.T, guest memory, result uint64, n, limit int) bool {
	t.Helper()
	got, err := Decode(guest, result, n, limit)
	twin, refusal := guest.read(result, n, limit)
	if (err == nil) != (refusal == nil) {
		t.Fatalf("decoder: %v, twin: %v\nresult %#x, %d records, memory %x", err, refusal, result, n, []byte(guest))
	}
	var failure *Failure
	if err != nil && (!errors.As(err, &failure) || failure.Kind != Output) {
		t.Fatalf("error %#v is no failure of the output", err)
	}
	if err == nil && !reflect.DeepEqual(got, twin) {
		t.Fatalf("decoder:\n%+v\ntwin:\n%+v", got, twin)
	}
	return err == nil
}

func TestOutputThatIsRefused(t *testing.T) {
	route := Decision{Action: Route, Text: "elsewhere"}
	value := Decision{Action: Keep, Replaces: Value, Value: []byte("12345678")}
	headers := Decision{Action: Keep, Replaces: Headers, Headers: []Header{{"name", []byte("value")}}}
	at := func(word int, w uint32) func(memory, uint64) uint64 {
		return func(guest memory, result uint64) uint64 {
			binary.LittleEndian.PutUint32(guest[int(result>>32)+4*word:], w)
			return result
		}
	}
	for _, c := range []struct {
		name     string
		decision Decision
		damage   func(memory, uint64) uint64
		want     string
	}{
		{"too short", route, func(_ memory, r uint64) uint64 { return r - 40 }, "returned 0 bytes for 1 records"},
		{"too long", route, func(_ memory, r uint64) uint64 { return r + 40 }, "returned 80 bytes for 1 records"},
		{"not aligned", route, func(_ memory, r uint64) uint64 { return r + 4<<32 }, "no multiple of 8"},
		{"behind the memory", route, func(m memory, r uint64) uint64 { return r&0xffffffff | uint64(len(m)+8-len(m)%8)<<32 }, "outside of its memory"},
		{"at the end of addresses", route, func(_ memory, r uint64) uint64 { return r | 0xfffffff8<<32 }, "outside of its memory"},
		{"action", route, at(0, 4), "action is 4"},
		{"parts", value, at(1, 8), "replaced parts are 0x8"},
		{"value behind the memory", value, at(4, 0xfffffffc), "its value at 4294967292, 8 bytes, is outside"},
		{"value of negative length", value, at(5, 0xfffffffe), "the length of its value is -2"},
		{"headers behind the memory", headers, at(6, 0xfffffff0), "its 1 headers at 4294967280 are outside"},
		{"too many headers", headers, at(7, MaxHeaders+1), "it has 4097 headers: 4096 at most"},
		{"headers that overflow", headers, at(7, 1<<28), "headers: 4096 at most"},
		{"no topic", route, at(9, 0), "the topic of its route has 0 bytes: 1 to 1024"},
		{"text too long", route, at(9, MaxText+1), "the topic of its route has 1025 bytes"},
		{"text behind the memory", route, at(8, 1<<31), "the topic of its route at 2147483648, 9 bytes, is outside"},
		{"no UTF-8", Decision{Action: Reject, Text: "bad \xff"}, nil, "the reason of its rejection is no UTF-8"},
		{"more than it may", Decision{Replaces: Value, Value: make([]byte, 1001)}, nil, "returns more than it may"},
		{"headers of more than it may", Decision{Replaces: Headers, Headers: make([]Header, 63)}, nil, "returns more than it may"},
	} {
		t.Run(c.name, func(t *testing.T) {
			guest := make(memory, 16)
			result := guest.decisions([]Decision{c.decision})
			if c.damage != nil {
				guest = append(guest, make([]byte, 2000)...) // so that only the damage is one
				result = c.damage(guest, result)
			}
			got, err := Decode(guest, result, 1, 1000)
			if err == nil {
				t.Fatalf("decoded as %+v", got)
			}
			if !strings.HasPrefix(err.Error(), "output: ") || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %q, want %q in it", err, c.want)
			}
		})
	}
}

// TestOnePieceForManyRecordsCountsForEach has every decision point to the same bytes.
func TestOnePieceForManyRecordsCountsForEach(t *testing.T) {
	guest := make(memory, 8)
	decisions := make([]Decision, 100)
	for i := range decisions {
		decisions[i] = Decision{Replaces: Value, Value: []byte{}}
	}
	result := guest.decisions(decisions)
	address, length := guest.put(make([]byte, 1000))
	for i := range decisions {
		e := guest[int(result>>32)+40*i:]
		binary.LittleEndian.PutUint32(e[16:], address)
		binary.LittleEndian.PutUint32(e[20:], length)
	}
	if _, err := Decode(guest, result, 100, 100*1000); err != nil {
		t.Error(err)
	}
	if _, err := Decode(guest, result, 100, 100*1000-1); err == nil {
		t.Error("100 times 1000 bytes are within 99,999")
	}
}

func TestBatchesAboveTwoGiBAreRefused(t *testing.T) {
	value := make([]byte, 1<<20)
	b := &Batch{Records: make([]Record, 2048)}
	for i := range b.Records {
		b.Records[i].Value = value
	}
	if n, err := Size(b); !errors.Is(err, ErrTooLarge) {
		t.Errorf("size %d, %v", n, err)
	}
}

func TestDecodingAllocatesPerBatch(t *testing.T) {
	decisions := make([]Decision, 1000)
	guest := make(memory, 8)
	keep := guest.decisions(decisions)
	for i := range decisions {
		decisions[i] = Decision{Action: Route, Replaces: Value | Headers, Value: []byte("value"), Headers: []Header{{"name", []byte("v")}}, Text: "t"}
	}
	change := guest.decisions(decisions)
	for _, c := range []struct {
		result uint64
		want   float64
	}{{keep, 0}, {change, 6}} {
		if got := testing.AllocsPerRun(20, func() {
			if _, err := Decode(guest, c.result, 1000, 1<<20); err != nil {
				t.Fatal(err)
			}
		}); got > c.want {
			t.Errorf("%v allocations for 1,000 records, want %v at most", got, c.want)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for seed := range uint64(20) {
		rnd := rand.New(rand.NewPCG(seed, 3))
		decisions := randomDecisions(rnd)
		guest := make(memory, 8)
		f.Add([]byte(guest), guest.decisions(decisions), uint16(len(decisions)), uint16(1000))
		result := guest.decisions(decisions)
		f.Add([]byte(guest), result, uint16(len(decisions)), uint16(1000))
	}
	f.Add([]byte{}, uint64(1<<63), uint16(0), uint16(0))
	f.Fuzz(func(t *testing.T, b []byte, result uint64, n, limit uint16) {
		agree(t, memory(b), result, int(n), int(limit))
	})
}

func randomBytes(rnd *rand.Rand) []byte {
	switch rnd.IntN(4) {
	case 0:
		return nil
	case 1:
		return []byte{}
	}
	b := make([]byte, rnd.IntN(40))
	for i := range b {
		b[i] = byte(rnd.Uint32())
	}
	return b
}

func randomHeaders(rnd *rand.Rand) []Header {
	var headers []Header
	for range rnd.IntN(4) {
		headers = append(headers, Header{strings.Repeat("n", rnd.IntN(9)), randomBytes(rnd)})
	}
	return headers
}

func randomBatch(rnd *rand.Rand) *Batch {
	b := &Batch{Topic: strings.Repeat("t", rnd.IntN(20)), Partition: int32(rnd.Uint32()), Timestamp: rnd.Int64(), Flags: rnd.Uint32()}
	for range rnd.IntN(6) {
		b.Records = append(b.Records, Record{int64(rnd.Uint64()), rnd.Int64(), randomBytes(rnd), randomBytes(rnd), randomHeaders(rnd)})
	}
	return b
}

func randomDecisions(rnd *rand.Rand) []Decision {
	decisions := make([]Decision, rnd.IntN(6))
	for i := range decisions {
		d := Decision{Action: Action(rnd.IntN(4))}
		if d.Action == Keep || d.Action == Route {
			d.Replaces = Parts(rnd.IntN(8))
		}
		if d.Replaces&Key != 0 {
			d.Key = randomBytes(rnd)
		}
		if d.Replaces&Value != 0 {
			d.Value = randomBytes(rnd)
		}
		if d.Replaces&Headers != 0 {
			d.Headers = randomHeaders(rnd)
		}
		if d.Action == Route || d.Action == Reject {
			d.Text = "grüße"[:2*rnd.IntN(2)+2]
		}
		decisions[i] = d
	}
	return decisions
}

func BenchmarkEncode(b *testing.B) {
	batch := &Batch{Topic: "orders", Records: make([]Record, 100)}
	for i := range batch.Records {
		batch.Records[i] = Record{Offset: int64(i), Key: []byte("key"), Value: make([]byte, 1024), Headers: []Header{{"trace", []byte("0123456789abcdef")}}}
	}
	size, err := Size(batch)
	if err != nil {
		b.Fatal(err)
	}
	dst := make([]byte, size)
	b.ReportAllocs()
	b.SetBytes(int64(size))
	for b.Loop() {
		if _, err := Size(batch); err != nil {
			b.Fatal(err)
		}
		Encode(dst, 8, batch)
	}
}
