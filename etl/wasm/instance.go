package wasm

import (
	"errors"
	"math/bits"
	"time"
	"unsafe"

	"github.com/bytecodealliance/wasmtime-go/v39"

	"rustmq.dev/rustmq/etl/abi"
	"rustmq.dev/rustmq/storage/guard"
)

// pageSize is that of WebAssembly's memories.
const pageSize = 64 << 10

// An instance is a module with a memory of its own. One goroutine uses it at a time.
type instance struct {
	module    *Module
	store     *wasmtime.Store
	entry     entry
	memory    *wasmtime.Memory // nil while the start function runs
	data      []byte           // memory's bytes as they were after the last call
	transform *wasmtime.Func
	buffer    *wasmtime.Func
	address   uint32 // of the input buffer
	capacity  int    // its size; 0: there is none yet
	host      hostState
	batch     *abi.Batch // under way; nil in init
	entered   bool       // the guest was called for it
	used      time.Time  // when it was last given back
}

// newInstance instantiates m's code and has it take its config, all before until. What
// it returns is closed by the caller, with a failure too.
func newInstance(m *Module, until time.Time) (*instance, *abi.Failure) {
	i := &instance{module: m}
	i.store = wasmtime.NewStoreWithData(m.engine.Engine, i)
	i.store.Limiter(m.options.MemoryBytes, tableElements, 1, maxTables, 1)
	i.host.begin(0)
	return i, i.init(until)
}

func (i *instance) init(until time.Time) *abi.Failure {
	m := i.module
	m.runtime.ticker.enter()
	defer m.runtime.ticker.leave()
	d, f := i.allow("the start function", until)
	if f != nil {
		return f
	}
	i.store.SetEpochDeadline(ticksFor(d))
	made, err := m.engine.linker.Instantiate(i.store, m.code.Module)
	if err != nil {
		var e *wasmtime.Error
		if errors.As(err, &e) && !i.host.exited { // no trap: a limit, most often
			return failure(abi.Memory, "it cannot be instantiated: %s", errorText(err))
		}
		return i.failed(err, "the start function", d)
	}
	i.memory = made.GetExport(i.store, "memory").Memory()
	i.data = i.memory.UnsafeData(i.store)
	i.entry.context = unsafe.Pointer(i.store.Context())
	i.transform, i.buffer = made.GetFunc(i.store, "rustmq_transform"), made.GetFunc(i.store, "rustmq_buffer")
	if initialize := made.GetFunc(i.store, "_initialize"); initialize != nil {
		if _, f := i.call("_initialize", initialize, until, noValue, 0); f != nil {
			return f
		}
	}
	version, f := i.call("rustmq_abi", made.GetFunc(i.store, "rustmq_abi"), until, oneValue, 0)
	if f != nil {
		return f
	}
	if uint32(version) != abi.Version {
		return failure(abi.Init, "it speaks version %d of the ABI, and this rustmq knows %d: build it with the kit that came with this rustmq", uint32(version), abi.Version)
	}
	config := m.options.Config
	if f := i.reserve(len(config), until); f != nil {
		return f
	}
	copy(i.data[i.address:], config)
	packed, f := i.call("rustmq_init", made.GetFunc(i.store, "rustmq_init"), until, oneValue, len(config))
	if f != nil || packed == 0 {
		return f
	}
	text := place(i.data, int32(packed>>32), uint64(uint32(packed)))
	if text == nil {
		return failure(abi.Output, "rustmq_init returned an error at %d, %d bytes, outside of its memory", uint32(packed>>32), uint32(packed))
	}
	given := ""
	if len(config) == 0 {
		given = " (it was given none)"
	}
	return failure(abi.Init, "it refuses its config: %s%s", clean(text, abi.MaxText), given)
}

// run has the guest decide about b, before until. After a failure the instance is of no
// use if the guest was entered.
func (i *instance) run(b *abi.Batch, until time.Time) ([]abi.Decision, *abi.Failure) {
	size, err := abi.Size(b)
	if err != nil {
		return nil, failure(abi.Memory, "%v", err)
	}
	i.host.begin(b.Timestamp)
	i.batch, i.entered = b, false
	defer func() { i.batch = nil }()
	i.module.runtime.ticker.enter()
	defer i.module.runtime.ticker.leave()
	if size > i.capacity {
		if f := i.reserve(size, until); f != nil {
			return nil, f
		}
	}
	abi.Encode(i.data[i.address:][:size], i.address, b)
	packed, f := i.call("rustmq_transform", i.transform, until, oneValue, size)
	if f != nil || packed == 0 {
		return nil, f
	}
	decisions, err := abi.Decode(i.data, packed, len(b.Records), maxOutput(size))
	if err != nil {
		return nil, outputFailure(err)
	}
	return decisions, nil
}

// outputFailure is the failure that abi.Decode returned.
func outputFailure(err error) *abi.Failure {
	var f *abi.Failure
	if !errors.As(err, &f) {
		f = failure(abi.Output, "%v", err)
	}
	return f
}

// reserve gets an input buffer of at least size bytes: somewhat more, so that batches
// that grow do not ask each time, if the memory is not small beside it.
func (i *instance) reserve(size int, until time.Time) *abi.Failure {
	want := max(size, leastBuffer)
	if rounded := 1 << bits.Len(uint(want-1)); int64(rounded) <= i.module.options.MemoryBytes/4 {
		want = rounded
	} else {
		want = size
	}
	i.capacity = 0
	result, f := i.call("rustmq_buffer", i.buffer, until, oneValue, want)
	if f != nil {
		return f
	}
	address := uint32(result)
	switch end := uint64(address) + uint64(want); {
	case address == 0 && want > 0:
		return failure(abi.Memory, "rustmq_buffer refused %d bytes for a batch or the config; its memory is bounded by %d", want, i.module.options.MemoryBytes)
	case address%abi.Alignment != 0:
		return failure(abi.Output, "rustmq_buffer returned %d, which is no multiple of %d", address, abi.Alignment)
	case !guard.Check("etl.buffer-in-memory", end <= uint64(len(i.data))):
		return failure(abi.Output, "rustmq_buffer returned %d for %d bytes, outside of its memory of %d", address, want, len(i.data))
	}
	i.address, i.capacity = address, want
	return nil
}

// call calls a function of the guest, which is interrupted soon after until, and has the
// module's fuel. argument fits into 32 bits.
func (i *instance) call(name string, f *wasmtime.Func, until time.Time, v values, argument int) (uint64, *abi.Failure) {
	d, failed := i.allow(name, until)
	if failed != nil {
		return 0, failed
	}
	i.entered = true
	result, memory, err := i.entry.call(f, i.memory, ticksFor(d), v, uint32(argument))
	i.data = memory
	if err != nil {
		return 0, i.failed(err, name, d)
	}
	return result, nil
}

// allow is how long the guest may run now, and gives it its fuel.
func (i *instance) allow(name string, until time.Time) (time.Duration, *abi.Failure) {
	d := time.Until(until)
	if d <= 0 {
		return 0, failure(abi.Deadline, "no time was left for %s", name)
	}
	if fuel := i.module.options.Fuel; fuel > 0 {
		if err := i.store.SetFuel(fuel); err != nil {
			return 0, failure(abi.Fuel, "%s", errorText(err))
		}
	}
	return d, nil
}

// seen is the guest's memory as a function of the host sees it, which the guest has
// called; nil: it has none.
func (i *instance) seen(c *wasmtime.Caller) []byte {
	memory := i.memory
	if memory == nil {
		if e := c.GetExport("memory"); e != nil {
			memory = e.Memory()
		}
	}
	if memory == nil {
		return nil
	}
	return memory.UnsafeData(c)
}

// close frees what the guest has.
func (i *instance) close() {
	if i.store != nil { // there is none in tests of the pool
		i.store.Close()
		i.data = nil
	}
}
