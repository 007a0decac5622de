// Package guard names the checks that protect data, so that tests can prove
// that each one is needed.
//
// A check of a CRC, an epoch, an order, a budget or a sync is written
//
//	if !guard.Check("wal.frame-crc", got == want) { … refuse … }
//
// In an ordinary build Check is its second argument, inlined. A build with the
// tag "mutants" reads the environment variable RUSTMQ_MUTANT once: the guard of
// that name then always passes, and at least one test must fail. make suites
// walks every name and fails when one has no killer.
//
// Names are literals, "room.what", so that they can be listed by searching the
// source. The package stands below every other room and imports none.
package guard
