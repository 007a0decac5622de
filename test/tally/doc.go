// Package tally keeps what the suites that gain from time have done to rustmq, and makes
// docs/reliability.md of it. It owns results.json, which `make soak` adds a run of a suite to,
// and that page, which `make generate` makes of nothing else: it claims nothing that was not run.
//
// A test says what it has counted with [Log], at its end, once all is judged: what a test that
// failed has done is not counted, and the run names the test. Among the other lines of a suite
// that is one of JSON:
//
//	tally: {"power_cuts":31,"records":20412}
//
// [Read] adds up those of a suite; collect is the command that does so, document prints the page.
//
//	counts.go   what is counted, and the line
//	results.go  runs of suites, and their file
//	goals.go    what is to be reached, and what says how far it is
//	page.go     the page
package tally
