package wasm

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/bytecodealliance/wasmtime-go/v39"
	"go.uber.org/goleak"

	"rustmq.dev/rustmq/etl/abi"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A guest is a module in the text format, by its parts; what is empty behaves. Its input
// buffer lies at 65536, which is behind its first page, and grows as it is asked.
type guest struct {
	head      string // imports, and what must stand first
	memory    string
	version   string
	buffer    string
	init      string
	transform string
	more      string
}

func (g guest) text() string {
	part := func(given, usual string) string {
		if given != "" {
			return given
		}
		return usual
	}
	return "(module " + g.head + part(g.memory, `(memory (export "memory") 4)`) +
		`(func (export "rustmq_abi") (result i32) ` + part(g.version, "(i32.const 1)") + ")\n" +
		`(func (export "rustmq_buffer") (param $size i32) (result i32) ` + part(g.buffer, `
			(local $pages i32)
			(local.set $pages (i32.sub
				(i32.add (i32.shr_u (i32.add (local.get $size) (i32.const 65535)) (i32.const 16)) (i32.const 1))
				(memory.size)))
			(if (i32.gt_s (local.get $pages) (i32.const 0)) (then
				(if (i32.eq (memory.grow (local.get $pages)) (i32.const -1)) (then (return (i32.const 0))))))
			(i32.const 65536)`) + ")\n" +
		`(func (export "rustmq_init") (param $length i32) (result i64) ` + part(g.init, "(i64.const 0)") + ")\n" +
		`(func (export "rustmq_transform") (param $length i32) (result i64) ` + part(g.transform, "(i64.const 0)") + ")\n" +
		g.more + ")"
}

func (g guest) wasm(t testing.TB) []byte {
	t.Helper()
	b, err := wasmtime.Wat2Wasm(g.text())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// decider obeys the first byte of a record's value: d drops it, x rejects it with its key
// as the reason, t routes it to the topic that its key names, v puts the key in place of
// the value, and l loops for ever.
func decider() guest {
	return guest{transform: `
		(local $n i32) (local $i i32) (local $r i32) (local $d i32) (local $c i32)
		(local.set $n (i32.load (i32.const 65536)))
		(loop $next (if (i32.lt_u (local.get $i) (local.get $n)) (then
			(local.set $r (i32.add (i32.const 65568) (i32.mul (local.get $i) (i32.const 48))))
			(local.set $d (i32.add (i32.const 8192) (i32.mul (local.get $i) (i32.const 40))))
			(memory.fill (local.get $d) (i32.const 0) (i32.const 40))
			(local.set $c (i32.load8_u (i32.load offset=24 (local.get $r))))
			(if (i32.eq (local.get $c) (i32.const 100)) (then (i32.store (local.get $d) (i32.const 1))))
			(if (i32.eq (local.get $c) (i32.const 116)) (then (i32.store (local.get $d) (i32.const 2))))
			(if (i32.eq (local.get $c) (i32.const 120)) (then (i32.store (local.get $d) (i32.const 3))))
			(if (i32.eq (local.get $c) (i32.const 108)) (then (loop $ever (br $ever))))
			(if (i32.eq (local.get $c) (i32.const 118)) (then
				(i32.store offset=4 (local.get $d) (i32.const 2))
				(i32.store offset=16 (local.get $d) (i32.load offset=16 (local.get $r)))
				(i32.store offset=20 (local.get $d) (i32.load offset=20 (local.get $r)))))
			(i32.store offset=32 (local.get $d) (i32.load offset=16 (local.get $r)))
			(i32.store offset=36 (local.get $d) (i32.load offset=20 (local.get $r)))
			(local.set $i (i32.add (local.get $i) (i32.const 1)))
			(br $next))))
		(i64.or (i64.const 0x200000000000) (i64.extend_i32_u (i32.mul (local.get $n) (i32.const 40))))`}
}

func newRuntime(t testing.TB, o Options) *Runtime {
	t.Helper()
	r, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func load(t testing.TB, r *Runtime, g guest, o ModuleOptions) *Module {
	t.Helper()
	orElse(&o.Deadline, time.Minute) // on a machine that is busy too
	m, err := r.Load(context.Background(), g.wasm(t), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	return m
}

// batch has a record for each key=value.
func batch(records ...string) *abi.Batch {
	b := &abi.Batch{Topic: "orders", Partition: 3, Timestamp: 1_700_000_000_123}
	for i, r := range records {
		key, value, _ := strings.Cut(r, "=")
		b.Records = append(b.Records, abi.Record{Timestamp: b.Timestamp, Offset: int64(i), Key: []byte(key), Value: []byte(value)})
	}
	return b
}

// summary writes decisions in a line.
func summary(decisions []abi.Decision) string {
	var words []string
	for _, d := range decisions {
		word := []string{"keep", "drop", "route ", "reject "}[d.Action] + d.Text
		if d.Replaces != 0 {
			word += fmt.Sprintf(" %d:%s:%s", d.Replaces, d.Key, d.Value)
		}
		words = append(words, word)
	}
	return strings.Join(words, ", ")
}

func wat(t testing.TB, text string) []byte {
	t.Helper()
	b, err := wasmtime.Wat2Wasm(text)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
