// Package wasm runs transform modules on wasmtime. It owns compiled code, instances
// and what they may use; it knows no topic, no policy and no file. The layout of what
// is said to a module is etl/abi's, and docs/etl-abi.md is for those who write modules.
//
// It is the only package that imports wasmtime-go, a C library of some megabytes: only
// roles, roles/etl and main import it.
//
//	Runtime ─ engine, linker, compiled code by hash, one ticker
//	  Module ─ a version of a module: its config, limits, and a pool
//	    instance ─ a store of wasmtime with a memory of its own, for one call at a time
//
// Invariants:
//
//   - Whatever a module does, a guest ends within its deadline and two ticks, plus what one
//     instruction of the module can last (one that fills all of its memory), and the call
//     ends with decisions or an *abi.Failure. Before that it waits for an instance no longer
//     than a deadline: that is no failure of the module, and takes nothing of the guest's
//     time. An instance that failed is thrown away.
//   - A module holds at most Instances × MemoryBytes, and what it logs, counts and returns
//     by one call is bounded before the host allocates for it.
//   - It reaches nothing but its memory, the batch, its config, its log and its counters:
//     clocks and random numbers are those of the batch, so that the same batch is answered
//     alike by every fresh instance.
//   - Compiled code is run only if its checksum, made over the key too, is right. Who can
//     write to the cache on purpose can write code: it lies in the data directory.
//
// Runtime and Module are safe for concurrent use. Locks are leaves: none is held while a
// guest runs, while code is compiled, or while a callback of the options is called. What
// wasmtime allocates is freed by Close of what owns it, not by finalisers; those of
// wasmtime-go's short-lived types of functions are the exception.
package wasm
