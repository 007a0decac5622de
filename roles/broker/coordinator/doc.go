// Package coordinator is what the coordinators of groups and of transactions have
// in common: which partitions are coordinated here, and how what comes in reaches
// the one goroutine that owns a partition's state.
//
// [Shards] has at most one [Shard] for each partition of a coordinator's topic, for
// as long as this broker leads it under one epoch. A shard waits for the one before,
// reads the log until that succeeds, and runs until the leadership ends. What it is
// that is coordinated, decided and written is the [Runner]'s: this package knows no
// topic or record, and of a [Log] only how it is read and cut off, and by [CodeOf] what
// a client is told when it does not take an append. [Compaction] is how far
// that log is on its way to be short. [PartitionOf] says which partition an id belongs
// to; [Collect] makes one answer of those of several shards; [Alarms] tells a core, which
// has no clock, what is to be looked at next.
//
// Promises: a request is answered or refused, exactly once, if the runner answers
// what it was given: NOT_COORDINATOR where the partition is not led, or no longer,
// COORDINATOR_LOAD_IN_PROGRESS while its log is read, COORDINATOR_NOT_AVAILABLE when
// too many wait, or nobody waits for the answer any more. What was taken is served in
// the order in which it came, until the leadership ends: what is left then is refused. The log is not read before the shards before have ended
// and all they appended is over.
//
// Concurrency: Load, Unload, Submit, All, Loaded, Post, Appended and Wake may be
// called from any goroutine and return at once; AwaitLoad waits, and Close for the
// goroutines of all shards. There is one for each shard, and none for a request. It
// owns the Runner and the other methods of Shard, and blocks in Wait, on the shard
// before and in the runner's Load. done and refuse are called from any goroutine, and
// must not block. No lock is held over a call but that of New's open.
package coordinator
