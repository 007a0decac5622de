// Command document prints docs/performance.md, made of the newest results of the benchmark. It
// is run in bench.
package main
