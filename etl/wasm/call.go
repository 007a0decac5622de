package wasm

// #include <stddef.h>
// #include <stdint.h>
//
// // From wasmtime.h of the version that is pinned; what they take is only passed on.
// extern void *wasmtime_func_call_unchecked(void *context, const void *func, void *values, size_t n, void **trap);
// extern void wasmtime_context_set_epoch_deadline(void *context, uint64_t ticks);
// extern uint8_t *wasmtime_memory_data(const void *context, const void *memory);
// extern size_t wasmtime_memory_data_size(const void *context, const void *memory);
//
// typedef struct {
//   uint64_t values[2]; // a wasmtime_val_raw_t, of 16 bytes: the argument, then the result
//   void *trap, *error;
//   uint8_t *data; // the memory, as it is after the call
//   size_t size;
// } guest_call;
//
// static void call_guest(void *context, const void *func, const void *memory, uint64_t ticks, size_t n, guest_call *c) {
//   wasmtime_context_set_epoch_deadline(context, ticks);
//   c->trap = NULL;
//   c->error = wasmtime_func_call_unchecked(context, func, c->values, n, &c->trap);
//   c->data = wasmtime_memory_data(context, memory);
//   c->size = wasmtime_memory_data_size(context, memory);
// }
import "C"

import (
	"runtime"
	"unsafe"

	"github.com/bytecodealliance/wasmtime-go/v39"
)

// An entry calls a guest's functions without what wasmtime-go's own call does each time:
// it asks for the function's type, of which every part has a finaliser, and crosses into
// C ten times. This crosses once.
//
// It is bound to the C API of the pinned version: Func and Memory of wasmtime-go hold
// its structs and nothing else, Trap and Error a pointer to its; a test compares.
type entry struct {
	context unsafe.Pointer // the store's; for as long as that is open
	c       C.guest_call
}

// values is how many values a function takes or returns, whichever is more.
type values int

const (
	noValue  values = 0
	oneValue values = 1
)

// call calls f, which takes one i32 or nothing, and returns its result's bits, or the
// error that it ended with. The guest is interrupted after so many ticks. memory is the
// guest's afterwards, where the next call finds it.
func (e *entry) call(f *wasmtime.Func, m *wasmtime.Memory, ticks uint64, v values, argument uint32) (result uint64, memory []byte, err error) {
	e.c.values = [2]C.uint64_t{C.uint64_t(argument), 0}
	C.call_guest(e.context, unsafe.Pointer(f), unsafe.Pointer(m), C.uint64_t(ticks), C.size_t(v), &e.c)
	runtime.KeepAlive(f)
	runtime.KeepAlive(m)
	memory = unsafe.Slice((*byte)(e.c.data), e.c.size)
	switch {
	case e.c.trap != nil:
		t := new(wasmtime.Trap)
		*(*unsafe.Pointer)(unsafe.Pointer(t)) = e.c.trap
		return 0, memory, t
	case e.c.error != nil:
		w := new(wasmtime.Error)
		*(*unsafe.Pointer)(unsafe.Pointer(w)) = e.c.error
		return 0, memory, w
	}
	return uint64(e.c.values[0]), memory, nil
}
