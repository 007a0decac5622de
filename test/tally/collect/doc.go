// Command collect adds a run of a suite to test/tally/results.json: what the suite has printed
// is its standard input.
package main
