package door

import (
	"bytes"
	"reflect"
	"runtime"
	"testing"
	"time"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/controller"
	"rustmq.dev/rustmq/transport/rpc"
)

// allocated returns how many bytes f takes from the heap.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// A map of a million entries, of which not one is there: gob would make room for all,
// and of a larger number the process would die.
func TestBodyWithAMapThatIsSaidToBeLarge(t *testing.T) {
	type mapped struct{ Configs map[string]string }
	type request struct{ Topics []mapped }
	type changed struct{ Set map[string]float64 }
	type quotas struct{ Changes []changed }
	h := newHouse(t, 1)
	for method, q := range map[string]any{
		createTopics.name:      request{[]mapped{{map[string]string{"kkkk": "v"}}}},
		alterClientQuotas.name: quotas{[]changed{{map[string]float64{"kkkk": 1}}}},
	} {
		body, err := encode(q)
		if err != nil {
			t.Fatal(err)
		}
		said := bytes.Replace(body, []byte("\x01\x04kkkk"), []byte{0xfc, 0, 16, 0, 0, 0}, 1)
		if bytes.Equal(said, body) {
			t.Fatalf("%s: no map in %x", method, body)
		}
		took := allocated(func() { h.member(1).server.Call(t.Context(), rpc.Call{Method: method, Body: said}) })
		if took > 8<<20 {
			t.Errorf("%s: a body of %d bytes took %d", method, len(said), took)
		}
	}
}

// What is sent is made of structs, lists, strings and numbers; see bodies.go.
func TestNothingThatIsSentHasAMap(t *testing.T) {
	var walk func(name string, is reflect.Type)
	walk = func(name string, is reflect.Type) {
		switch is.Kind() {
		case reflect.Map, reflect.Interface, reflect.Chan, reflect.Func:
			t.Errorf("%s: a %s", name, is)
		case reflect.Slice, reflect.Array, reflect.Pointer:
			walk(name, is.Elem())
		case reflect.Struct:
			if is != reflect.TypeFor[time.Time]() {
				for i := range is.NumField() {
					walk(name+"."+is.Field(i).Name, is.Field(i).Type)
				}
			}
		}
	}
	for name, h := range handlers() {
		walk(name, h.body)
		walk(name+" answer", h.answer)
	}
}

// An empty entry of a list is one byte of a body, and some hundred in memory.
func TestBodyOfEmptyEntries(t *testing.T) {
	h := newHouse(t, 1)
	for method, q := range map[string]any{
		createTopics.name: createTopicsQ{Topics: make([]newTopic, 900_000)},
		deleteTopics.name: deleteTopicsQ{Topics: make([]controller.TopicRef, 150_000)},
	} {
		body, err := encode(q)
		if err != nil || len(body) > rpc.MaxCall {
			t.Fatalf("%d bytes: %v", len(body), err)
		}
		var a rpc.Answer
		took := allocated(func() { a = h.member(1).server.Call(t.Context(), rpc.Call{Method: method, Body: body}) })
		if took > 1<<20 || a.Refused == nil || metadata.Code(a.Refused.Code) != metadata.InvalidRequest {
			t.Errorf("%s: a body of %d bytes took %d; refused: %+v", method, len(body), took, a.Refused)
		}
	}
}

// As many entries as a command of the log can have are let in.
func TestBodyOfFullEntries(t *testing.T) {
	ranges := make([]metadata.PartitionRange, 10_000)
	for i := range ranges {
		r := &ranges[i]
		r.Partition.Topic = [16]byte(bytes.Repeat([]byte{byte(i) | 1}, 16))
		r.Partition.Index, r.Range.Base, r.Range.End, r.Range.Bytes = int32(i), 1_000_001, 1_000_101, 100_001
	}
	body, err := encode(commitObjectQ{Ranges: ranges})
	if err != nil {
		t.Fatal(err)
	}
	var q commitObjectQ
	if err := decode(body, &q); err != nil || len(q.Ranges) != len(ranges) {
		t.Errorf("%d bytes: %d ranges, %v", len(body), len(q.Ranges), err)
	}
}
