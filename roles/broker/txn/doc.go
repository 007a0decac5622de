// Package txn is the coordinator of transactions: which producer has a
// transactional id, which partitions its transaction writes to, and how that ends.
//
// A [Core] holds the ids of one partition of __transaction_state and decides all
// of that by [Core.Step], without clock, goroutine or I/O. A [Coordinator] runs a
// core for each partition that this broker leads: Load replays the partition's
// log and starts it, Unload ends it. Answers wait until their record is committed
// in the log, at acks=all. A decision on record is carried out whatever happens:
// markers are written to every partition of the transaction, again until they are
// committed, after a restart too; only then does the next transaction begin.
//
//	Empty ─add─▶ Ongoing ─end─▶ PrepareCommit ─markers─▶ CompleteCommit ─add─▶ Ongoing
//	                     ─end, time-out, fence─▶ PrepareAbort ─markers─▶ CompleteAbort
//	Empty, Complete* ─end, of version 2, an abort of nothing─▶ PrepareAbort
//	Empty, Complete* ─InitProducerId─▶ Empty
//
// EndTxn is answered when the decision is on record, as Prepare*, before the markers:
// requests for the transaction that comes next wait for those.
//
// Producers of transaction version 2 (KIP-890) get an epoch for each transaction:
// EndTxn raises it, under the raised epoch the markers are written, and whatever
// comes late of the transaction before names the old one, and is refused. An id
// whose epochs run out goes on under another producer id. Aborts by time-out and
// fences raise the epoch for any producer. A producer that has not heard an answer
// asks again, and is told the same. Which epoch he had before is not on record: after a
// restart it is taken to be the one below, as far as the state allows.
//
// Where Kafka answers CONCURRENT_TRANSACTIONS at once, requests wait for the state
// that comes, up to a second: markers take a millisecond, and clients that come
// back take twenty or a hundred.
//
// A partition's log does not grow for ever: when it has by a budget, all ids are
// written once more at its end, and what lies before goes; see compaction.
//
// The package owns no file, topic or connection: it reads and appends through
// [Log], writes markers through [Markers] and asks [Topics] what exists.
//
// Concurrency: every method of Coordinator may be called from any goroutine and
// returns at once. One goroutine per loaded partition owns its core; package
// coordinator says how requests reach it. It blocks on its inbox and its timer only,
// and on the log while it loads; it calls answer functions, Log, Markers and
// NewProducerID, which must not block. Listings are held against a pattern on goroutines
// that take turns, which no shard waits for; they have the only lock here.
//
// Bytes: Kafka's own records, keys as package kmsg encodes them (big-endian):
//
//	key:   version i16 = 0: transactional id
//	value: version i16 = 1: producer id i64, epoch i16, time-out i32 ms, state i8,
//	       partitions by topic (null while Empty), time of last change i64 ms, of
//	       the transaction's begin i64 ms; tagged: 0 previous producer id i64,
//	       1 next producer id i64, 2 transaction version of the client i16
//
// A null value takes back the id. Version 0 of the value, without tags, is read
// too. Keys of other kinds are skipped, and counted; a key or value that does not
// decode fails the load: damage is not read as absence.
//
// A transactional id lives in partition |javaHash(id)| mod 50; see [PartitionOf].
package txn
