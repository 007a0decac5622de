// Package batteries has the transforms that come with rustmq: what a stream most often
// needs, by configuration alone. It owns their sources (Rust, on sdk/rust-etl) and the
// modules built of them, which are embedded; it runs nothing.
//
//	json          JSON that says where values lie; a library of the others
//	json-schema   valid by a schema, or rejected
//	mask          fields, headers and keys masked or hashed
//	project       filter, route and rewrite by expressions
//	headers       headers set and removed
//	built         the modules, and SHA256SUMS; strong.wasm is the example of sdk/rust-etl
//
// Invariants: building rustmq needs no Rust. What is built of the sources is what lies in
// built, byte for byte: `make suite-batteries` compares. No record, whatever it is, makes
// one of them trap; what it cannot read it rejects, with the reason.
//
// docs/etl-batteries.md is for those who use them.
package batteries
