package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/test/allocs"
)

// checked lists the APIs whose bodies Check walks.
func checked() (keys []int16) {
	for key := range int16(200) {
		if _, ok := shapeOf(key); ok {
			keys = append(keys, key)
		}
	}
	return keys
}

// What kmsg writes has the shape, to the last byte: the walk ends where the
// body does, and a body that lacks its last byte is refused.
func TestShapesAreWhatKmsgWrites(t *testing.T) {
	for _, key := range checked() {
		probe := kmsg.RequestForKey(key)
		for version := int16(0); version <= probe.MaxVersion(); version++ {
			t.Run(fmt.Sprintf("%s/v%d", kmsg.NameForKey(key), version), func(t *testing.T) {
				rng := rand.New(rand.NewPCG(uint64(key), uint64(version)))
				for range 100 {
					q := kmsg.RequestForKey(key)
					fill(rng, reflect.ValueOf(q).Elem())
					q.SetVersion(version)
					body := q.AppendTo(nil)
					if _, err := Check(key, version, body); err != nil {
						t.Fatalf("%v: %x of %+v", err, body, q)
					}
					if _, err := Check(key, version, body[:max(0, len(body)-1)]); len(body) > 0 && err == nil {
						t.Fatalf("%x is accepted without its last byte: %+v", body, q)
					}
					s, _ := shapeOf(key)
					w := walker{reader: reader{rest: body, flex: version >= s.flexFrom}, version: version}
					w.structure(s.fields)
					if len(w.rest) != 0 {
						t.Fatalf("%d bytes of %x are not walked: %+v", len(w.rest), body, q)
					}
				}
			})
		}
	}
}

// fill gives every exported field a random value.
func fill(rng *rand.Rand, v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if rng.IntN(2) == 0 {
			v.Set(reflect.New(v.Type().Elem()))
			fill(rng, v.Elem())
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Field(i).CanSet() && v.Type().Field(i).Type != reflect.TypeFor[kmsg.Tags]() {
				fill(rng, v.Field(i))
			}
		}
	case reflect.Slice:
		n := rng.IntN(4)
		v.Set(reflect.MakeSlice(v.Type(), n, n))
		for i := range n {
			fill(rng, v.Index(i))
		}
	case reflect.Array:
		for i := range v.Len() {
			fill(rng, v.Index(i))
		}
	case reflect.String:
		v.SetString("string"[:rng.IntN(7)])
	case reflect.Bool:
		v.SetBool(rng.IntN(2) == 0)
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(int64(int8(rng.Uint32())))
	case reflect.Float64:
		v.SetFloat(float64(rng.IntN(256)))
	case reflect.Uint8:
		v.SetUint(uint64(rng.IntN(256)))
	default:
		panic(v.Kind())
	}
}

// What passes Check is decoded by kmsg with memory in proportion to the body.
func FuzzCheckBoundsKmsg(f *testing.F) {
	for _, key := range checked() {
		probe := kmsg.RequestForKey(key)
		for version := int16(0); version <= probe.MaxVersion(); version++ {
			q := kmsg.RequestForKey(key)
			fill(rand.New(rand.NewPCG(uint64(key), uint64(version))), reflect.ValueOf(q).Elem())
			q.SetVersion(version)
			f.Add(key, version, q.AppendTo(nil))
		}
	}
	f.Fuzz(func(t *testing.T, key, version int16, body []byte) {
		q := kmsg.RequestForKey(key)
		if q == nil || version < 0 || version > q.MaxVersion() {
			return
		}
		if _, err := Check(key, version, body); err != nil {
			return
		}
		q.SetVersion(version)
		if err := q.ReadFrom(body); err != nil {
			t.Errorf("Check takes what kmsg refuses: %v", err)
		}
	})
}

func TestCheckRefusesBombs(t *testing.T) {
	bombs := map[string]struct {
		key, version int16
		body         []byte
	}{
		"a count of tags that never ends": {60, 0, []byte{0, 0xff, 0xff, 0xff, 0xff, 0x0f}},
		"more tags than anybody sends":    {60, 0, append([]byte{0, maxTags + 1}, make([]byte, 2*(maxTags+1))...)},
		"more topics than bytes":          {3, 1, []byte{0x7f, 0xff, 0xff, 0xff}},
		"a body of all zeroes":            {8, 2, make([]byte, maxGroupBody+1)},
		"topics of no bytes":              {3, 9, append([]byte{0xff, 0xff, 0x3f}, make([]byte, 1<<20-1)...)},
		"an unknown API":                  {999, 0, nil},
	}
	for name, bomb := range bombs {
		t.Run(name, func(t *testing.T) {
			if _, err := Check(bomb.key, bomb.version, bomb.body); err == nil {
				t.Error("accepted")
			}
		})
	}
}

// repeated is a body of head, an array of n elements, and tail.
func repeated(head string, n int, element, tail string) []byte {
	body := binary.AppendUvarint([]byte(head), uint64(n)+1)
	return append(append(body, bytes.Repeat([]byte(element), n)...), tail...)
}

// Elements of three bytes take seventy and more when they are decoded.
func TestElementsOfGroupRequestsAreBounded(t *testing.T) {
	const n = 1_000_000
	for name, body := range map[string]struct {
		key, version int16
		body         []byte
	}{
		"OffsetCommit":           {8, 8, repeated("\x02g\xff\xff\xff\xff\x01\x00", n, "\x01\x01\x00", "\x00")},
		"OffsetFetch, topics":    {9, 6, repeated("\x02g", n, "\x01\x01\x00", "\x00")},
		"OffsetFetch, groups":    {9, 8, repeated("", n, "\x01\x01\x00", "\x00\x00")},
		"SyncGroup":              {14, 5, repeated("\x02g\x00\x00\x00\x01\x02m\x00\x00\x00", n, "\x01\x01\x00", "\x00")},
		"ConsumerGroupHeartbeat": {68, 0, repeated("\x02g\x02m\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", n, "\x01", "\x00\x01\x00")},
		"tagged fields":          {8, 8, repeated("\x02g\xff\xff\xff\xff\x01\x00", n/60, "\x01\x01\x3c"+strings.Repeat("\x00\x00", 60), "\x00")},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Check(body.key, body.version, body.body); !errors.Is(err, ErrTooMany) {
				t.Errorf("%v, want %v", err, ErrTooMany)
			}
		})
	}
}

// What a request takes is known before it is decoded.
func TestCheckCountsWhatIsDecoded(t *testing.T) {
	const n = 10_000
	for name, element := range map[string]string{
		"topics": "\x01\x01\x00",
		"tags":   "\x01\x01\x01\x00\x00",
	} {
		t.Run(name, func(t *testing.T) {
			body := repeated("\x02g\xff\xff\xff\xff\x01\x00", n, element, "\x00")
			memory, err := Check(8, 8, body)
			if err != nil {
				t.Fatal(err)
			}
			taken := allocs.Within(memory+int64(len(body)), func() {
				q := kmsg.NewPtrOffsetCommitRequest()
				q.Version = 8
				err = q.ReadFrom(body)
			})
			if err != nil || taken > memory+int64(len(body)) {
				t.Errorf("%d bytes were taken, %d foreseen; %v", taken, memory, err)
			}
		})
	}
}

func TestCheckAllocatesNothing(t *testing.T) {
	q := kmsg.NewPtrMetadataRequest()
	q.Version = 12
	q.Topics = []kmsg.MetadataRequestTopic{{Topic: kmsg.StringPtr("t")}}
	body := q.AppendTo(nil)
	if n := testing.AllocsPerRun(100, func() { _, _ = Check(3, 12, body) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
