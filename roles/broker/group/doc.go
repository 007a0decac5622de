// Package group is the coordinator of consumer groups: who is a member, which
// generation is current, who consumes what, and what offsets a group has
// committed. A group uses the classic protocol, where one of its members assigns,
// or the consumer protocol (KIP-848), where the coordinator does; members of the
// former have a place in groups of the latter, so that a group can move from one
// to the other and back while it works.
//
// A [Core] holds the groups of one partition of __consumer_offsets and decides
// all of that by [Core.Step], without clock, goroutine or I/O. A [Coordinator]
// runs a core for each partition that this broker leads: Load replays the
// partition's log and starts it, Unload ends it. Answers that promise something
// (an offset commit, the assignments of a generation, a deletion) wait until
// their record is committed in the log, at acks=all; nobody is shown a committed
// offset before that. A restart therefore continues with the same offsets,
// generation, members and assignments, whose sessions begin anew, as Kafka's do: heartbeats
// are not on record, so that a member which died by a kill is there until the coordinator
// lives for as long as its session.
//
// A group of the consumer protocol changes at once and waits with its answers: what
// changed is queued as records, one write of a group is under way at a time, and
// whoever heard nothing of an epoch yet is told when its records are committed. When
// a write fails, the group goes back to what the log says. A partition has one owner:
// who has it lets go before anybody else is given it, and is removed when it does not
// in time.
//
// Of the topics that a pattern matches, a member subscribes those that it may know of by
// its own [Rights], which come with each heartbeat (rights.go). They are not on record:
// until a member is heard by the next coordinator it keeps what it was meant to have, and
// gets no other topic by its pattern. What nobody may know of makes no epoch.
//
// Offsets that a producer commits in a transaction are kept apart until its marker:
// then they are committed, or forgotten, in the order in which the log has them and
// what was committed beside. The marker goes into the log by this package too
// (EndTransaction), so that it knows what lies before it. Who asks for stable
// offsets is told to wait while a transaction may change them (KIP-447).
//
// Offsets go with their topic: when it is deleted, when a partition was loaded and each
// OffsetCheck, for what was deleted unheard. A record says of which topic of the name it
// is: what was committed for one is never told of one made anew, nor taken when it comes
// after the deletion (docs/design/0006). Only a record of before that was noted is that
// of the topic which has the name.
//
// A partition's log does not grow for ever: when it has by a budget, all groups
// are written once more at its end, and what lies before goes; see compaction.
//
// The package owns no file, topic or connection: it reads and appends through
// [Log], asks [Topics] what exists, and is told by a [Catalogue] what it can assign.
//
// Concurrency: every method of Coordinator may be called from any goroutine and
// returns at once. One goroutine per loaded partition owns its core, so that
// groups of different partitions share nothing but the totals that bound
// memory; package coordinator says how requests reach it. That goroutine blocks on
// its inbox and its timer only, and on the log while it loads; it calls answer
// functions and Log.Append, which must not block. What patterns match is found by a
// matcher for all groups, on goroutines that take turns: of the request that brings a
// pattern before a core sees it, and of a shard when the topics have changed, which
// members that subscribe by pattern hear of a little later than others. Of one pattern one
// match is under way, whoever wants it, and what matches and what they found take is
// bounded: a request that finds no room is told to come again. The matcher has
// a lock, under which nothing is called; a core has none.
//
// Bytes: Kafka's own records, one batch per append, one of its own for what a
// transaction commits, without sequence numbers; keys and values as package kmsg
// encodes them (big-endian; strings with a 2-byte length).
//
//	key: version i16
//	     1: group, topic, partition i32    an offset commit; value:
//	        version i16 = 3: offset i64, leader epoch i32, metadata, timestamp i64
//	        version i16 = 1: offset i64, metadata, timestamp i64, expiry i64
//	        header topic-id: the topic's id, 16 bytes
//	        header before-leader-epoch, i32: of one that an earlier life of the cluster
//	        committed, and a later one wrote anew; it did not reach that epoch
//	     2: group                          a group; value:
//	        version i16 = 3: protocol type, generation i32, protocol, leader,
//	        state timestamp i64, members: each id, instance id, client id, host,
//	        rebalance and session time-out i32 ms, subscription, assignment
//
// Those of the consumer protocol are flexible (lengths are uvarints of one more,
// tagged fields end each structure); their values have version i16 = 0:
//
//	3: group                          its epoch i32; tag 0: a hash i64 of the
//	                                  metadata of the topics it consumes
//	5: group, member                  instance id, rack, client id, host, topics,
//	                                  pattern, rebalance time-out i32 ms,
//	                                  assignor; tag 0: of a classic member,
//	                                  session time-out i32 ms and protocols
//	6: group                          the epoch i32 of the target assignment
//	7: group, member                  its target: topic ids with partitions
//	8: group, member                  epoch i32, the one before i32, state i8,
//	                                  what it has (tag 0 of a topic: the epochs i32
//	                                  that it was given the partitions in), what it
//	                                  has to let go of
//	16: group, pattern                the topics that match, version i64 of the
//	                                  metadata, timestamp i64
//
// A null value takes back what the key said. Versions 0 of the commit key and
// 0 to 2 of the values are read too, version 4 of an offset commit's, which has the
// topic's id in tag 0, and kind 4, which Kafka 4.0 wrote, is read
// over. Keys of other kinds are skipped, and counted; a key or value of these kinds
// that does not decode fails the load: damage is not read as absence.
//
// A group lives in partition |javaHash(id)| mod 50; see [Partition].
package group
