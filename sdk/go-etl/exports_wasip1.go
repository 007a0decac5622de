package etl

import "unsafe"

//go:wasmimport rustmq log
func hostLog(level int32, line string)

//go:wasmimport rustmq metric_add
func hostMetricAdd(name string, delta float64)

// buffer is what the host fills: words, for it is aligned to 8 bytes.
var buffer []uint64

// address is where p lies in the guest's memory.
func address(p unsafe.Pointer) uint32 { return uint32(uintptr(p)) }

func packed(p unsafe.Pointer, length int) uint64 { return uint64(address(p))<<32 | uint64(length) }

// input is what the host has laid into the buffer.
func input(length uint32) []byte {
	if length == 0 {
		return nil
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(buffer))), len(buffer)*8)[:length]
}

//go:wasmexport rustmq_abi
func exportABI() int32 { return Version }

//go:wasmexport rustmq_buffer
func exportBuffer(size uint32) uint32 {
	buffer = nil // what was there is not kept, and both need not fit
	buffer = make([]uint64, max(1, (uint64(size)+7)/8))
	return address(unsafe.Pointer(unsafe.SliceData(buffer)))
}

//go:wasmexport rustmq_init
func exportInit(length uint32) uint64 {
	if failed := module.init(input(length)); failed != nil {
		return packed(unsafe.Pointer(unsafe.SliceData(failed)), len(failed))
	}
	return 0
}

//go:wasmexport rustmq_transform
func exportTransform(length uint32) uint64 {
	batch := input(length)
	if !module.decide(batch, address(unsafe.Pointer(unsafe.SliceData(batch)))) {
		return 0
	}
	d := &module.decisions
	table := unsafe.Pointer(unsafe.SliceData(d.table))
	d.lay(address(table), address(unsafe.Pointer(unsafe.SliceData(d.bytes))))
	return packed(table, len(d.entries)*40)
}
