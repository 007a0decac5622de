package wasm

import (
	"reflect"
	"testing"
	"unsafe"

	"github.com/bytecodealliance/wasmtime-go/v39"
)

// TestTypesOfTheBindingAreThoseOfC: what call takes for C's structs holds them alone.
func TestTypesOfTheBindingAreThoseOfC(t *testing.T) {
	for _, c := range []struct {
		kind reflect.Type
		size uintptr // of wasmtime_func_t and wasmtime_memory_t in extern.h; of a pointer
	}{
		{reflect.TypeFor[wasmtime.Func](), 16},
		{reflect.TypeFor[wasmtime.Memory](), 24},
		{reflect.TypeFor[wasmtime.Trap](), unsafe.Sizeof(uintptr(0))},
		{reflect.TypeFor[wasmtime.Error](), unsafe.Sizeof(uintptr(0))},
	} {
		if c.kind.NumField() != 1 || c.kind.Size() != c.size {
			t.Errorf("%v has %d fields in %d bytes: see whether the C API is another, and entry.call with it", c.kind, c.kind.NumField(), c.kind.Size())
		}
	}
}
