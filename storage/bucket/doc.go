// Package bucket is the only door to object stores.
//
// It owns what a store promises and how it is asked: keys, durability, retries
// within a budget, the circuit breaker, the count of requests. It knows no
// format of what it stores, no role, and no clock but that of the process. The
// drivers of the clouds are in the package cloud below it, so that what only
// needs a directory links none of them.
//
//	Dir       file://, through storage/disk: durable when Put returns, atomic
//	          between processes
//	Memory    of this process, for tests
//	Resilient retries, time-outs and a circuit breaker around another bucket
//	Counted   counts what passes
//	Faulty    faults as data, for tests
//	Probe     finds out what a store can do
//
// Promises:
//
//   - When Put or PutIfAbsent returns nil, the object is durable, whole, and as
//     it was written. Until then a reader finds the old object or none.
//   - Of concurrent PutIfAbsent of one key exactly one succeeds, whichever
//     process it is of.
//   - ErrNotFound is the store's own answer. A directory that is not mounted, a
//     bucket that does not exist, a body that is too short are other errors.
//   - A key never names anything outside of the bucket, or a file of the
//     bucket's own.
//
// Where a key is there, no other key may go on from it with a slash: a file is no
// directory.
//
// All methods may be called from any goroutine, except Close, which is the last
// call. No goroutines; two timers per attempt in Resilient. Each mutex is taken for
// the time of a look-up, never during a call to the store.
package bucket
