// Package doctor looks at a host as the place where a node is to run: its disk, clock,
// limits, network and memory, against what a configuration asks of them. It says of each
// what there is, whether that is well, what follows if it is not, and what to change.
//
// It changes nothing but for a file of its own in the data directory, or where that is to
// be made, by which it measures how long a sync takes, and takes away again. A port is
// bound for a moment. What it reads of the kernel lies under [Options].Root, so that a test
// can say what a host is like; what a kernel does not tell is skipped, and said so.
//
// Each check is measured first and judged then, by a function of what was measured alone.
// The limits by which they judge stand in limits.go, each with its reason. The bucket is
// not this package's to open: its caller probes it, and has [Bucket] judge that.
//
// Everything is safe for concurrent use.
package doctor
