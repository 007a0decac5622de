// Package compact rewrites what lies in the bucket, so that the catalogue has few
// objects and few ranges: mixed objects become objects of one partition, small
// ranges become large ones. It owns the decision and the copying. It removes no
// record, moves no log start and deletes no object: the controller collects what
// no range names any more.
//
// A planner, pure, decides by four rules. Ranges of a partition that fill an
// object of TargetObject are written into one, and never again: a partition with
// enough data is written twice in all. Fanout small ranges of one size become one
// of the next size, once that saves enough ranges, or one partition has too many:
// with each rewriting a byte's range grows by a factor of Fanout. Mixed objects of
// one size are merged when there are MaxMixed of them, for an idle partition would
// keep one alive for ever. Small ranges that lie between large ones get an object of
// their own where the partition has more than FileRanges: a shared one would hold up
// what is to move into manifests.
//
// A [Compactor] runs what it decides. It reads indexes and then data in large
// ranged reads, some at once. Jobs of a plan take one partition after the other out of
// the same objects: the first that reads an index of one brings those of the others
// too, and they are kept for the jobs to come. It packs the batches verbatim
// (storage/object); the new range has the base, end, leader epochs, aborted
// transactions and the newest producers of those that it takes the place of. The
// controller commits it under the leader epoch of the image that the job was planned
// from.
//
// Promises. A batch reaches the new object only from a block that fits its CRC,
// and its own CRC is compared as it is packed; a range that does not come to the
// bytes, batches and records of its sources is not committed. Ranges are replaced
// by one of exactly their base and end, and only while all are there: what a log
// start or another leader changed meanwhile is refused, the old ranges stay, and
// nothing is lost. An object whose commit was refused, or whose fate is not known,
// is never named again. There is nothing to resume: who starts plans anew. What
// cannot be read holds back its own partition alone. An index that was kept is decoded
// against the catalogue as one that was just read, and read anew if it is damaged.
//
// Concurrency: one goroutine plans, one runs per object under way, and below it
// one per read; Close ends and awaits them. All methods are safe for concurrent
// use. Memory per object under way: Memory for data, or one read of each of its
// objects if that is more, and the indexes. Memory of all together: Indexes, for what
// is kept. The mutex is held for planning, never during a call of bucket or controller;
// that of what is kept is taken below it.
package compact
