// Package clean is compaction by key, of what lies in the bucket: of the records of
// a partition that have one key it leaves the last, where the topic's
// cleanup.policy says compact. It owns the decision and the rewriting; it moves no
// log start and deletes no object, and it never looks at what is in the WAL alone.
//
// A planner, pure, decides which partition is worth it: enough of it is new, or has
// waited for long enough, or tombstones are due. A [Cleaner] runs one round at a
// time. The round first reads what is new, from the cleaned point on, into a table
// of the last offset of each key. The table has a fixed size: when it is full the
// round ends there, and another follows. Then it goes through the ranges from the
// log start on and writes those that change anew, some at once into one object,
// without the records that have a later one in the table. Each object is committed
// by itself, in the place of ranges of exactly its base and end (RULES 5.7), and
// what the round has done is noted in the catalogue ([metadata.Cleaning]): whoever
// leads the partition next goes on there.
//
// Promises. Only a record with a later one of the same key, below the end of the
// round, goes; or a tombstone, or marker of a transaction, whose delete horizon has
// passed (KIP-534); or one of an aborted transaction, or without a key. Of the batch
// before the committed end something always stays, so that clients come there: where
// nothing else would, it stays as it is until another follows. The end of a
// round is never above the last stable offset nor the committed end, and leaves out
// ranges with records younger than min.compaction.lag.ms. A tombstone gets its
// horizon when everything before it has been compared with it, not earlier; where
// older ranges are filed in manifests, that nobody sifts, it stays. The marker of
// a commit stays as long as one of its records does. Records
// of aborted transactions are in no table: they take the place of nothing. What
// stays keeps its bytes, offsets and timestamps, and its batch what it says of the
// producer. A round that ends in the middle, for whatever reason, leaves every
// committed object readable, with the same last record of every key; done again, it
// changes nothing.
//
// How old records are, and when a horizon has passed, is a matter of the time that is
// believed (Options.Believed), not of the wall clock, which may be wrong; while none is
// believed no round begins.
//
// Keys are compared by the first 16 bytes of their SHA-256: nobody can make a key
// that takes the place of another.
//
// Concurrency: one goroutine plans, one runs the round, and below it one for each
// read; Close ends and awaits them. All methods are safe for concurrent use. Memory:
// KeyMemory for the table, 32 bytes for each key: there is one, which grows in place, and
// which rounds that follow on one another hand on; up to 64 MiB of an object being made,
// and what the bucket needs to put it; up to 16 MiB, or one block, of data being read;
// the indexes of the ranges of one object; one batch as it expands; and who has a
// transaction open at any one offset. It does not depend on how many keys or records
// there are. The mutex is held for planning, never during a
// call of bucket or controller.
package clean
