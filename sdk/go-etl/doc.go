// Package etl is the guest kit of RustMQ's ETL in Go: a transform of records, compiled to
// WebAssembly and deployed with `rustmq admin etl deploy`. It owns what a guest keeps
// between calls (the buffer that the host fills, the decisions that it reads), and knows
// nothing of what a transform does. It depends on the standard library alone.
//
//	package main
//
//	import etl "rustmq.dev/rustmq/sdk/go-etl"
//
//	var _ = etl.Register(func(config []byte) (etl.Transform, error) { return orders{}, nil })
//
//	type orders struct{}
//
//	func (orders) Record(r etl.Record, out *etl.Output) {
//		if r.Key() == nil {
//			out.Reject("a record without a key")
//		}
//	}
//
//	func main() {}
//
// Built with GOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared, this is a module. Its
// main is never called: the broker calls what Register was given once per instance, with
// the module's configuration, and its Record for each record, in order. A record is kept as
// it is unless out is told otherwise.
//
// Views ([Batch], [Record]) read the batch where the host has put it: they, and slices that
// they return, end with the call, and must not be written to. A panic is written to the
// module's log and ends the instance: the batch fails, and the pipeline's failure policy
// decides what becomes of the records. So input must never panic: reject it.
//
// Nothing here is safe for concurrent use, and goroutines that outlive a call stand still
// until the next. On any other system the same code runs under go test, by way of [Test].
// The layout of what passes between host and guest stands in docs/etl-abi.md.
package etl
