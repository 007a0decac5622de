// Package async runs asynchronous transforms: for each partition of a source topic that
// this broker leads, it reads what is committed, has the module decide, and writes what
// comes of it to other topics, exactly once. It is a client of the cluster (docs/design/0024)
// and owns no record, no module and no metadata.
//
// Who runs what follows from the metadata alone: the broker that leads a partition runs it
// (runner.go). Nothing is agreed on, and no rebalance stops partitions that did not move.
// Two brokers that both believe to lead do no harm: each source partition of a task has a
// transactional id of its own, and who begins with it later is heard from then on.
//
// Invariants:
//   - What a transaction writes, and the offset it has read up to, are one: both count, or
//     none does. A worker begins by fencing whoever had the partition, waits for what that
//     left, and goes on at the committed offset (worker.go takeOver). It has no other memory.
//   - Whatever goes wrong ends in an abort and such a beginning. Nothing is mended in between.
//   - Only what is committed is read: transactions that are open or aborted are not.
//   - The records of a partition stay in order on their way to one partition.
//   - No record is tried for ever. A module that fails on several is given fewer, down to
//     one; one that fails alone goes where the policy says. So does one that its topic
//     refuses: those since the last commit are then written one by one (worker.go blame). Only
//     one that the policy's topic refuses as well stops its partition, is told of each time,
//     and so spends the module's budget.
//   - A transaction is open for its interval and one call of the module at most, however
//     often that fails, so that none times out by that.
//   - Memory is bounded: records are taken in shares (share.go), and who waits for
//     records holds none.
//
// Goroutines: one arranges who runs (it blocks on images and on workers that end), one for
// each partition of a task, and one for each connection. Close ends the workers, each with
// its transaction, within seconds, and waits for all.
//
// Requests have fixed versions, those of KIP-890: Produce and TxnOffsetCommit take part in the
// transaction by themselves, and each transaction has an epoch of its own. A transaction is
// a Produce for each target, a TxnOffsetCommit and an EndTxn (transaction.go).
package async
