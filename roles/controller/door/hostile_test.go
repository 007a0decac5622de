package door

import (
	"bytes"
	"runtime"
	"testing"

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
