// Package group is the coordinator of consumer groups, classic protocol: who is
// a member, which generation is current, who consumes what, and what offsets a
// group has committed.
//
// A [Core] holds the groups of one partition of __consumer_offsets and decides
// all of that by [Core.Step], without clock, goroutine or I/O. A [Coordinator]
// runs a core for each partition that this broker leads: Load replays the
// partition's log and starts it, Unload ends it. Answers that promise something
// (an offset commit, the assignments of a generation, a deletion) wait until
// their record is committed in the log, at acks=all; nobody is shown a committed
// offset before that. A restart therefore continues with the same offsets,
// generation, members and assignments, whose sessions begin anew.
//
// Offsets that a producer commits in a transaction are kept apart until its marker:
// then they are committed, or forgotten, in the order in which the log has them and
// what was committed beside. The marker goes into the log by this package too
// (EndTransaction), so that it knows what lies before it. Who asks for stable
// offsets is told to wait while a transaction may change them (KIP-447).
//
// A partition's log does not grow for ever: when it has by a budget, all groups
// are written once more at its end, and what lies before goes; see compaction.
//
// The package owns no file, topic or connection: it reads and appends through
// [Log] and asks [Topics] what exists.
//
// Concurrency: every method of Coordinator may be called from any goroutine and
// returns at once. One goroutine per loaded partition owns its core, so that
// groups of different partitions share nothing but the totals that bound
// memory. That goroutine blocks on its inbox and its timer only; it calls
// answer functions and Log.Append, which must not block. There is no lock order:
// an inbox lock is never held over a call.
//
// Bytes: Kafka's own records, one batch per append, one of its own for what a
// transaction commits, without sequence numbers; keys and values as package kmsg
// encodes them (big-endian; strings with a 2-byte length).
//
//	key: version i16
//	     1: group, topic, partition i32    an offset commit; value:
//	        version i16 = 3: offset i64, leader epoch i32, metadata, timestamp i64
//	        version i16 = 1: offset i64, metadata, timestamp i64, expiry i64
//	     2: group                          a group; value:
//	        version i16 = 3: protocol type, generation i32, protocol, leader,
//	        state timestamp i64, members: each id, instance id, client id, host,
//	        rebalance and session time-out i32 ms, subscription, assignment
//
// A null value takes back what the key said. Versions 0 of the commit key and
// 0 to 2 of the values are read too. Keys of other kinds are skipped, and
// counted; a key or value of these kinds that does not decode fails the load:
// damage is not read as absence.
//
// A group lives in partition |javaHash(id)| mod 50; see [Partition].
package group
