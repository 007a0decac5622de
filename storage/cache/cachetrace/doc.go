// Package cachetrace measures how well the policies of storage/cache choose what
// to keep. It makes traces of block numbers from a seed ([Mixed]), counts the hits
// that nobody could exceed ([Optimum]), and those of a policy ([Replay]);
// [Measure] sets them side by side, for tests, benchmarks and bench/.
//
// A trace is single-threaded and its blocks weigh the same, so that the optimum
// can be computed: Belady's rule, with the right not to keep a block at all, which
// our caches have too.
//
// Nothing here is used by a running broker.
package cachetrace
