// Package filing moves what a partition has long had in the bucket out of the
// metadata and into manifests there, so that the metadata's memory depends on
// partitions and not on retained bytes (docs/design/0004-manifests.md). It owns the
// decision and the writing of manifests. It moves no record, rewrites no object and
// deletes none.
//
// A planner, pure, looks at the partitions led here. One with more than Limits.Ranges
// ranges in the metadata files its oldest, down to half of that, as far as they are
// settled: each in an object of its own that compaction leaves alone. The last
// manifest takes them in, by being made anew, until it is full; then another begins.
// The first manifest is made anew without what lies below the log start, once that is
// an eighth of it, or has been some of it for DropAfter: until then the objects of
// those ranges stay. Of topics whose cleanup.policy has compact no more is filed:
// compaction by key goes on to look at ranges, however old.
//
// A [Filer] runs what it decides, one manifest after another: it reads the old one,
// writes the new one under an id of its own, and has the controller name it under the
// leader epoch of the image that it was planned from.
//
// Promises. A manifest is read back from its own bytes before it is written, and the
// controller reckons what it must say: what a compaction, a log start or another
// leader changed meanwhile is refused whole, and everything stays where it was. There
// is nothing to resume. What cannot be read holds back its own partition alone.
//
// Concurrency: one goroutine, which blocks on the controller and the bucket; Close
// ends and awaits it. All methods are safe for concurrent use. Memory: two manifests.
package filing
