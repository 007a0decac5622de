// Package report keeps what the benchmark measured, a file of bench/results for each day, and
// makes docs/performance.md of the newest. It owns those files and that page; it measures
// nothing, and links none of what is measured, so that `make generate` can make the page anew
// within a second.
//
// A figure that missed what it must reach stands at the head of the page, with what a profile
// showed to bound it, or with the word that none was taken.
package report
