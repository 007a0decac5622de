// Package apache sends the same requests to Apache Kafka and to rustmq and
// compares the answers field by field (issue 5, P3).
//
// It owns the sequences (a file per subject), what is made equal before two answers
// are compared (normalise_test.go, each with its name and why), and the list of
// the differences that there are (differences.txt). It has no code of either
// server: it speaks the protocol through franz-go's kmsg, and starts both as
// processes.
//
// A sequence is run once a lap. In the first each request is of the newest version
// that both announce, in each further of one version less, down to the oldest of
// every key: whatever a sequence asks is asked in every version. Both servers are
// asked at the same time, each by a run of its own, so that a sequence may use what
// that server has answered before (ids, epochs).
//
// The test fails on a difference that the list does not have, and on a line of
// the list that does not occur any more; it prints the lines that lack. SEQUENCE=name
// runs the sequences of that name alone.
//
// Everything but this file has the build tag suites; scripts/suite.sh compat runs it.
package apache
