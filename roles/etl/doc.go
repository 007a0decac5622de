// Package etl runs the modules of the metadata on a node: those that are active are fetched,
// compiled, given to the broker and to the async runner, and swapped when the metadata says so.
// It owns the directory etl/ of the data directory, and knows of no client.
//
// A [Host] follows the image. Its goroutine loads what is active and not there yet: from the
// data directory, else from the bucket, where the bytes are checked against the SHA-256 of the
// metadata either way; a damaged file is as none, and what is there waits for no fetch. While a version is loaded, the one that was
// active before goes on for [handOver]; after that, and where there was none, the module
// answers with [pipeline.ErrUnready]: a producer tries again, and no record passes as if there
// were no module. What is not active any more is closed a while later, so that calls under
// way end as they began.
//
// Failures of a module are counted on each node. Where there are too many within the window
// of its spec, the node asks the controller to disable that version, and goes on asking until
// it is disabled, or another is active. The controller notes it in the module's history.
//
// A [Trial] is one module with a few records, without any effect: before a deployment, and for
// `rustmq admin etl test`.
//
// Concurrency. All methods may be called by any goroutine. Follow never blocks; Set is one
// atomic load. The lock of a Host is held for no I/O, and no callback runs under it.
//
//	etl/<64 hex digits>.wasm   the bytes of a module, by their SHA-256
//	etl/cache/<key>            what the engine compiled, in its own form
package etl
