// Package promises holds what README.md and docs/ claim against what shows it: docs/promises.md
// is made of it.
//
// It owns test/promises/claims, a file for each page, in lines:
//
//	page README.md whole      the page; whole: every sentence of it needs a row, not only those
//	                          that promise; whole: HEADING is of that part of it
//	> a sentence              as it stands in the page, its marks and line ends aside; several in
//	                          turn have the same proofs, which follow:
//	test ./storage/wal TestA TestB       Go tests of a package
//	cases sdk/rust/tests/x.rs some words  a test of another language, by words of the file that is run
//	suite compat test/compat/x.py        a file that a suite runs; words of it may follow
//	figure F3 p50 of a lone …            a row of the newest results of bench
//	guard log.crc                        a check that a mutant turns off, and a test then fails
//	block docs/quickstart.md hello       commands of a page that the suite docs runs, and what they print
//	default wal.capacity 10GiB           a key and its default, as docs/configuration.md has them
//	source go.mod go 1.26.0              words of a file that is what the sentence speaks of
//	page docs/cluster.md                 a page that says it in full, with rows of its own
//	plain                                nothing is claimed: where to look, what a word means, what to do
//
// Invariants, held by its tests: each sentence of a claims file stands in its page; each proof is
// there; each sentence that promises ([Promises]), and each of a whole page, has a row, or names
// its tests itself. That a
// proof shows what the sentence says is for who reads both.
//
// It reads files of the checkout and writes none. Nothing but tests and its command imports it.
package promises
