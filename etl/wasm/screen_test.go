package wasm

import (
	"fmt"
	"strings"
	"testing"
)

// TestControlIsCounted among instructions whose operands look like others.
func TestControlIsCounted(t *testing.T) {
	body := `(local i32 i64 f32 f64 v128 funcref)
		(loop $a (block (if (i32.const 3) (then (br_if $a (local.get 0))) (else (br 1)))))
		(drop (i32.const 0x030303)) (drop (i64.const 0x0303030303030303)) (drop (f32.const 1e-30)) (drop (f64.const 1e-300))
		(drop (v128.const i32x4 0x03030303 0x03030303 0x03030303 0x03030303))
		(local.set 4 (i8x16.shuffle 3 3 3 3 3 3 3 3 3 3 3 3 3 3 3 3 (local.get 4) (local.get 4)))
		(drop (i8x16.extract_lane_u 3 (local.get 4)))
		(drop (v128.load32_zero offset=3 align=4 (i32.const 0))) (drop (v128.load8_lane offset=3 3 (i32.const 3) (local.get 4)))
		(drop (i32x4.relaxed_trunc_f32x4_s (local.get 4)))
		(drop (select (result i32) (i32.const 3) (i32.const 3) (i32.const 3)))
		(memory.copy (i32.const 3) (i32.const 3) (i32.const 3)) (memory.fill (i32.const 3) (i32.const 3) (i32.const 3))
		(drop (i32.trunc_sat_f32_s (local.get 2)))
		(i32.store offset=771 (i32.const 3) (i32.load offset=3 (i32.const 3))) (drop (memory.grow (memory.size)))
		(local.set 5 (ref.func $f)) (drop (ref.is_null (ref.null func))) (drop (table.get 3 (i32.const 3)))
		(table.copy 3 3 (i32.const 3) (i32.const 3) (i32.const 3)) (drop (table.grow 3 (ref.null func) (i32.const 3)))
		(call_indirect 3 (type $t) (i32.const 3))
		(drop (block (result i32) (i32.const 3)))
		(block $b (block $c (br_table $b $c $b (local.get 0))))
		(i32.const 3) (loop (param i32) (drop))
		(global.set 3 (global.get 3))
		(loop (call $f))
		(return_call $f)`
	wasm := wat(t, `(module (type $t (func)) (memory 1) (table 1 funcref) (table 1 funcref) (table 1 funcref) (table 1 funcref)
		(global i32 (i32.const 3)) (global i32 (i32.const 3)) (global i32 (i32.const 3)) (global (mut i32) (i32.const 3))
		(elem declare func $f) (func $f `+body+"))")
	r := reader{wasm[8:]}
	var got control
	for len(r.left) > 0 {
		id := r.byte()
		section := reader{r.bytes(r.uint())}
		if id != codeSection {
			continue
		}
		section.uint()
		code := reader{section.bytes(section.uint())}
		for range code.uint() {
			code.uint()
			code.byte()
		}
		got = code.control()
	}
	if want := (control{loops: 3, blocks: 13, typed: 1}); got != want {
		t.Errorf("counted %+v, want %+v", got, want)
	}
}

// bombs are small modules that would keep the compiler busy for minutes, or fill its memory.
func bombs() map[string]string {
	loops := strings.Repeat("(loop (br_if 0 (local.get 0)))", maxLoops)
	var blocks strings.Builder
	blocks.WriteString("(func (local " + strings.Repeat("i32 ", 1000) + ")")
	for i := range 2100 {
		fmt.Fprintf(&blocks, "(block (br_if 0 (local.get %d)) (local.set %d (local.get %d)))", i%1000, (7*i+1)%1000, i%1000)
	}
	values := strings.Repeat("i32 ", maxParams)
	typed := "(func (param i32) " + strings.Repeat("(block (type $v) (unreachable))", 1<<14+1) + "(return))"
	return map[string]string{
		"function 4 of its code has 2001 loops":                         "(func (local i32)" + loops + "(loop))",
		"its functions have more loops":                                 strings.Repeat("(func (local i32)"+loops+")", 13),
		"function 4 of its code has 1000 local variables and 4200 bloc": blocks.String() + ")",
		"local variables and 16385 blocks, which is too much":           "(type $v (func (result " + values + ")))" + typed,
		"a type of its functions has 129 parameters or results":         "(type (func (param " + values + "i32)))",
	}
}

func FuzzScreen(f *testing.F) {
	f.Add(guest{}.wasm(f))
	f.Add(decider().wasm(f))
	f.Add([]byte("\x00asm\x01\x00\x00\x00\x0a\xff\xff\xff\xff\x0f\xff\xff\xff\xff\x0f"))
	f.Fuzz(func(_ *testing.T, wasm []byte) { // it is given valid modules; nothing else makes it fall over
		_ = screen(wasm)
	})
}
