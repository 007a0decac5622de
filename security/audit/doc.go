// Package audit keeps the account of who did what to what, from where, and whether it was
// allowed. It owns what an event is, how events are encoded, chained, folded and checked,
// and the queue between those who record and the topic that keeps. It knows no topic, no
// network and no disk: a [Sink] makes records durable.
//
// Invariants: Record never blocks, and holds no more than [Options.Memory]. What is recorded
// is of bounded size, and of printable characters alone: no event can pass for two. Nothing
// that proves who somebody is is in an event: no password, no proof, no token.
//
// A record is one line of JSON, which any consumer reads. It belongs to the chain of a
// life: what one process of one node writes, from its start to its end.
//
//	v        1; who meets another version can still check the chain
//	kind     begin | event | gap
//	node     whose chain this is
//	life     of the node: 32 hex digits, never used twice
//	seq      0 for begin, then +1 per record of the life
//	prev     hash of the record before it in the life; empty in begin
//	time     RFC 3339, UTC
//	…        of an event: principal, source, door, action, resource_type, resource,
//	         outcome, reason, detail, request; count and first where several are folded
//	after    of begin: the newest record that is known of the node's life before
//	lost     of gap: how many events were not recorded since the record before
//	hash     SHA-256 of the bytes before `,"hash":`, always last
//
// [Verifier] says where a chain is broken, from the records alone; what the writers that
// live say of their chains' ends shows that the end was cut, or that all was written anew.
//
// A [Log] is safe for concurrent use. One goroutine, started by Start, chains what is queued
// and hands it to the sink, in groups; Close waits for it.
package audit
