// Package etl is the room of transforms: WebAssembly modules that decide what becomes
// of records, on the produce path (inline) or from topic to topic (async).
//
//	abi        the layout of what host and module say to each other
//	wasm       engine: compiles modules, pools their instances, bounds what they may use
//	pipeline   which modules a topic's records pass, in which order, and what a failure means
//	batteries  modules that come with rustmq
//
// Only roles, roles/etl and main link the engine (etl/wasm): it is a C library of some
// megabytes. Everybody else calls it through the interface that pipeline declares.
// No module can harm the process: what it may use is bounded, what it returns is
// checked, and what it does wrong is a failure of its own batch.
package etl
