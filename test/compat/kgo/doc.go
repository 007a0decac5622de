// Package kgo runs the integration tests of franz-go's client, package kgo of the
// version that go.mod names, against bin/rustmq: over TCP, and over QUIC through a
// relay whose address the broker advertises, for those tests know TCP only.
//
// What they do is a test of ours: chains of groups and of transactions that read,
// write and rebalance in every protocol, and count that nothing is lost, doubled or
// out of order. What a test of theirs comes to is compared with skip.txt, which names
// those that do not pass and why; it only ever gets shorter. What is not on the list
// must pass, and what is on it must not.
//
//	skip.txt      outcome (skip or fail), test, reason; by name
//	outcomes.go   what the tests said
//	list.go       the list, and what differs from it
//	suite_test.go the suite, with the tag suites (make suite-compat); server_test.go
//	              and relay_test.go, TCP to QUIC, are what it runs against
//
// SOAK=minutes writes ten times the records, over and over, every other time on
// connections that live for a second (make soak).
//
// A line of the server's log at ERROR, and a chain that franz-go did not check because
// an offset was refused, fail the suite too.
//
// With a binary of -tags mutants and RUSTMQ_MUTANT=log.last-stable the chains fail.
//
// The package owns no file but its logs, build/kgo/*.log, of which the last run's stay.
package kgo
