package wasm

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"rustmq.dev/rustmq/etl/abi"
)

// TestHostileModules: each ends in a failure that says what it was, and the runtime goes
// on with another module's work.
func TestHostileModules(t *testing.T) {
	const forever = "(loop $ever (br $ever))"
	logging := `(import "rustmq" "log" (func $log (param i32 i32 i32)))`
	exit := `(import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))`
	random := `(import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))`
	result := func(address, length uint64) string { return fmt.Sprintf("(i64.const %#x)", address<<32|length) }
	r := newRuntime(t, Options{})
	hasty := newRuntime(t, Options{longestInit: 30 * time.Millisecond})
	good := load(t, r, decider(), ModuleOptions{})
	for _, c := range []struct {
		name    string
		guest   guest
		options ModuleOptions
		kind    abi.Kind
		text    string
		loading bool // it fails as it is loaded
	}{
		{name: "infinite loop", guest: guest{transform: forever + "unreachable"}, kind: abi.Deadline, text: "rustmq_transform was still busy after"},
		{name: "infinite recursion without stack", guest: guest{transform: "(return_call $again)", more: "(func $again (result i64) (return_call $again))"}, kind: abi.Deadline, text: "still busy"},
		{name: "infinite loop in rustmq_buffer", guest: guest{buffer: "(if (i32.gt_u (local.get $size) (i32.const 4096)) (then " + forever + ")) (i32.const 65536)"}, kind: abi.Deadline, text: "rustmq_buffer was still busy"},
		{name: "memory bomb", guest: guest{transform: "(loop $more (br_if $more (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))) unreachable"}, kind: abi.Memory, text: "used up its memory of 1048576 bytes, and aborted"},
		{name: "memory bomb that goes on", guest: guest{transform: "(loop $more (drop (memory.grow (i32.const 100))) (br $more)) unreachable"}, kind: abi.Deadline, text: "still busy"},
		{name: "memory at once", guest: guest{memory: `(memory (export "memory") 17)`}, kind: abi.Memory, text: "memory minimum size of 17 pages exceeds memory limits", loading: true},
		{name: "table bomb", guest: guest{head: "(table $t 1 funcref)", transform: "(if (i32.ne (table.grow $t (ref.null func) (i32.const 100000)) (i32.const -1)) (then (return (i64.const 1)))) unreachable"}, kind: abi.Trap, text: "aborted (unreachable)"},
		{name: "table at once", guest: guest{head: "(table 4000000000 funcref)"}, kind: abi.Memory, text: "table minimum size", loading: true},
		{name: "many tables", guest: guest{head: strings.Repeat("(table 1 funcref)", 5)}, kind: abi.Memory, text: "resource limit exceeded: table count too high", loading: true},
		{name: "stack overflow", guest: guest{transform: "(call $deep)", more: "(func $deep (result i64) (i64.add (call $deep) (i64.const 1)))"}, kind: abi.Trap, text: "call stack exhausted"},
		{name: "unreachable", guest: guest{transform: "unreachable"}, kind: abi.Trap, text: "rustmq_transform: aborted (unreachable) in function"},
		{name: "named function", guest: guest{transform: "(call $parse)", more: "(func $parse (result i64) (i64.div_u (i64.const 1) (i64.const 0)))"}, kind: abi.Trap, text: "integer divide by zero in parse"},
		{name: "null call", guest: guest{head: "(table 1 funcref)", transform: "(call_indirect (result i64) (i32.const 0))"}, kind: abi.Trap, text: "call of an element that is not there"},
		{name: "out of bounds", guest: guest{transform: "(i64.load (i32.const -8))"}, kind: abi.Trap, text: "out of bounds memory access"},
		{name: "proc_exit", guest: guest{head: exit, transform: "(call $exit (i32.const 3)) (i64.const 0)"}, kind: abi.Exit, text: "rustmq_transform called proc_exit(3)"},
		{name: "proc_exit with 0", guest: guest{head: exit, transform: "(call $exit (i32.const 0)) (i64.const 0)"}, kind: abi.Exit, text: "proc_exit(0)"},
		{name: "no fuel left", guest: guest{transform: forever + "unreachable"}, options: ModuleOptions{Fuel: 10_000, Deadline: time.Minute}, kind: abi.Fuel, text: "used up its fuel of 10000"},
		{name: "results out of bounds", guest: guest{transform: result(1<<31, 40)}, kind: abi.Output, text: "outside of its memory"},
		{name: "results at the end of addresses", guest: guest{transform: result(0xfffffff8, 40)}, kind: abi.Output, text: "outside of its memory"},
		{name: "wrong length", guest: guest{transform: result(0, 41)}, kind: abi.Output, text: "returned 41 bytes for 1 records"},
		{name: "1 GiB", guest: guest{transform: result(0, 1<<30)}, kind: abi.Output, text: "returned 1073741824 bytes for 1 records"},
		{name: "large value", guest: guest{memory: `(memory (export "memory") 17)`, transform: `(i32.store (i32.const 1028) (i32.const 2)) (i32.store (i32.const 1044) (i32.const 0x100001)) ` + result(1024, 40)}, options: ModuleOptions{MemoryBytes: 2 << 20}, kind: abi.Output, text: "record 0: with it the module returns more than it may"},
		{name: "buffer out of bounds", guest: guest{buffer: "(if (result i32) (i32.gt_u (local.get $size) (i32.const 4096)) (then (i32.const 0x40000000)) (else (i32.const 65536)))"}, kind: abi.Output, text: "rustmq_buffer returned 1073741824 for 8192 bytes, outside of its memory"},
		{name: "buffer not aligned", guest: guest{buffer: "(i32.const 65537)"}, kind: abi.Output, text: "no multiple of 8", loading: true},
		{name: "no buffer", guest: guest{buffer: "(i32.const 0)"}, kind: abi.Memory, text: "rustmq_buffer refused 4096 bytes", loading: true},
		{name: "start function that hangs", guest: guest{more: "(func $start " + forever + ") (start $start)"}, kind: abi.Deadline, text: "the start function was still busy", loading: true},
		{name: "_initialize that hangs", guest: guest{more: `(func (export "_initialize") ` + forever + ")"}, kind: abi.Deadline, text: "_initialize was still busy", loading: true},
		{name: "rustmq_abi that hangs", guest: guest{version: forever + "unreachable"}, kind: abi.Deadline, text: "rustmq_abi was still busy", loading: true},
		{name: "rustmq_init that hangs", guest: guest{init: forever + "unreachable"}, kind: abi.Deadline, text: "rustmq_init was still busy", loading: true},
		{name: "rustmq_init's error out of bounds", guest: guest{init: result(1<<31, 1<<31)}, kind: abi.Output, text: "rustmq_init returned an error at 2147483648", loading: true},
		{name: "start function that exits", guest: guest{head: exit, more: "(func $start (call $exit (i32.const 3))) (start $start)"}, kind: abi.Exit, text: "the start function called proc_exit(3)", loading: true},
		{name: "start function that traps", guest: guest{more: "(func $start unreachable) (start $start)"}, kind: abi.Trap, text: "the start function: aborted", loading: true},
		{name: "another ABI", guest: guest{version: "(i32.const 2)"}, kind: abi.Init, text: "speaks version 2 of the ABI", loading: true},
		{name: "flood of the log", guest: guest{head: logging, transform: "(loop $ever (call $log (i32.const 1) (i32.const 0) (i32.const 65536)) (br $ever)) unreachable"}, kind: abi.Deadline, text: "still busy"},
		{name: "log out of bounds", guest: guest{head: logging, transform: "(call $log (i32.const -5) (i32.const -1) (i32.const -1)) unreachable"}, kind: abi.Trap, text: "aborted"},
		{name: "flood of random numbers", guest: guest{head: random, transform: "(loop $ever (drop (call $random (i32.const 0) (i32.const 0x7fffffff))) (drop (call $random (i32.const 0) (i32.const 65536))) (br $ever)) unreachable"}, kind: abi.Deadline, text: "still busy"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := c.options
			orElse(&o.Deadline, time.Minute)
			if c.kind == abi.Deadline {
				o.Deadline = 30 * time.Millisecond
			}
			orElse(&o.MemoryBytes, 1<<20)
			r := r
			if c.kind == abi.Deadline && c.loading {
				r = hasty
			}
			m, err := r.Load(context.Background(), c.guest.wasm(t), o)
			if c.loading {
				if err == nil {
					m.Close()
				}
				checkFailure(t, "loaded", err, c.kind, c.text)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			b := batch("key=value")
			b.Records[0].Value = make([]byte, 5000)
			for range 2 { // a module that always fails goes on failing, and no more
				got, err := transformSoon(m, b)
				checkFailure(t, summary(got), err, c.kind, c.text)
			}
			if got, err := good.Transform(context.Background(), batch("new=v")); err != nil || summary(got) != "keep 2::new" {
				t.Errorf("another module: %q, %v", summary(got), err)
			}
		})
	}
}

// transformSoon calls m until it has an instance in time: on a machine that is busy, the
// next one may take longer to make than a short deadline.
func transformSoon(m *Module, b *abi.Batch) ([]abi.Decision, error) {
	for {
		got, err := m.Transform(context.Background(), b)
		var f *abi.Failure
		if !errors.As(err, &f) || f.Kind != abi.Busy {
			return got, err
		}
	}
}

func TestModulesThatAreRefused(t *testing.T) {
	r := newRuntime(t, Options{MaxModuleBytes: 2 << 20})
	usual := guest{}
	memory := func(s string) guest { return guest{memory: s} }
	type refusal struct {
		name string
		wasm []byte
		text string
	}
	cases := []refusal{
		{"nothing", nil, "no valid WebAssembly"},
		{"text", []byte(usual.text()), "no valid WebAssembly"},
		{"cut", usual.wasm(t)[:100], "no valid WebAssembly"},
		{"huge", make([]byte, 2<<20+1), "it has 2097153 bytes: 2097152 at most"},
		{"huge function", guest{more: "(func " + strings.Repeat("nop ", maxBody) + ")"}.wasm(t), "function 4 of its code has 1048578 bytes"},
		{"many functions", guest{more: strings.Repeat("(func)", maxFunctions)}.wasm(t), "it has 100004 functions: 100000 at most"},
		{"many locals", guest{more: "(func (local " + strings.Repeat("i32 ", maxLocals) + " i64))"}.wasm(t), "function 4 of its code has 10001 local variables"},
		{"a file of WASI's predecessor", guest{head: `(import "wasi_unstable" "fd_write" (func (param i32 i32 i32 i32) (result i32)))`}.wasm(t), "it imports wasi_unstable.fd_write, which is no function of WASI preview 1 or of rustmq"},
		{"a function of the environment", guest{head: `(import "env" "getenv\0a" (func))`}.wasm(t), "it imports env.getenv, which is no function"},
		{"a memory", memory(`(import "rustmq" "log" (memory 1)) (export "memory" (memory 0))`).wasm(t), "it imports rustmq.log as (), but it is (i32 i32 i32)"},
		{"another type", guest{head: `(import "wasi_snapshot_preview1" "proc_exit" (func (param i64)))`}.wasm(t), "it imports wasi_snapshot_preview1.proc_exit as (i64), but it is (i32)"},
		{"a program", guest{more: `(func (export "_start"))`}.wasm(t), "it exports _start: it is a program"},
		{"_initialize with a result", guest{more: `(func (export "_initialize") (result i32) (i32.const 0))`}.wasm(t), "its export _initialize is () -> i32"},
		{"no memory", memory("(memory 4)").wasm(t), "does not export its memory"},
		{"a function for a memory", memory(`(memory 4) (func (export "memory"))`).wasm(t), "does not export its memory"},
		{"two memories", guest{more: "(memory 1)"}.wasm(t), "no valid WebAssembly"},
		{"a memory of 64 bits", wat(t, `(module (memory (export "memory") i64 4))`), "no valid WebAssembly"},
		{"threads", memory(`(memory (export "memory") 4 4 shared)`).wasm(t), "no valid WebAssembly"},
		{"not a transform", wat(t, `(module (memory (export "memory") 1))`), "it does not export rustmq_abi () -> i32, which version 1 of the ABI asks for"},
		{"another signature", wat(t, `(module (memory (export "memory") 1) (func (export "rustmq_transform") (param i32 i32) (result i64) (i64.const 0)))`), "its export rustmq_transform is (i32 i32) -> i64, and must be a function (i32) -> i64"},
	}
	for text, more := range bombs() {
		cases = append(cases, refusal{"bomb: " + text, guest{more: more}.wasm(t), text})
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			m, err := r.Load(context.Background(), c.wasm, ModuleOptions{})
			if err == nil {
				m.Close()
			}
			var e *RefusedError
			if !errors.As(err, &e) || !strings.Contains(e.Reason, c.text) {
				t.Errorf("error %v, want %q in it", err, c.text)
			}
		})
	}
}

func checkFailure(t *testing.T, got string, err error, kind abi.Kind, text string) {
	t.Helper()
	var f *abi.Failure
	if !errors.As(err, &f) {
		t.Errorf("result %q, error %v: want a failure", got, err)
		return
	}
	if f.Kind != kind || !strings.Contains(f.Text, text) {
		t.Errorf("failure %v, want %s with %q", f, kind, text)
	}
	if len(f.Text) > maxFailureText+3 || strings.ContainsAny(f.Text, "\n\x00") {
		t.Errorf("failure's text is no line: %q", f.Text)
	}
}
