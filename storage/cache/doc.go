// Package cache keeps in memory what was read from the bucket: blocks, and the
// indexes that say where blocks lie. It does no I/O: who misses reads, and puts. It
// knows no object, topic, network or file.
//
// A [Cache] holds values by key up to a number of bytes. Which values stay is the
// policy's choice: [WTinyLFU] weighs how often a key was asked for against how
// lately, so that a scan over cold data passes through a hundredth of the cache
// and leaves the rest; [LRU] keeps what was used last, whatever passes.
//
// Promises. A value is the one put last for its key, or there is none. A value
// older than the TTL is not returned, however long ago [Cache.Maintain] ran. When
// Put returns and no other call is under way, the weights of what is kept sum to
// Weight, and that is not above the capacity; while calls are under way it is
// above by no more than the values they are putting. A value heavier than an
// eighth of the capacity is not kept: one of them would push out what many
// readers use. A hit allocates nothing.
//
// A policy may turn a new value away at once (WTinyLFU does, during scans). Who
// reads ahead must therefore hold on to what it has loaded until it is used, and
// not expect to find it here.
//
// Memory. Values belong to the garbage collector, not to a pool: a []byte that
// readers are writing to sockets stays alive until the last lets go of it, also
// after it was evicted, and nothing is copied or counted for that. The capacity
// thus bounds what is kept, not what readers hold: that is bounded by the budget
// under which they fetch. Values are shared: nobody may change one.
//
// Concurrency. Everything exported is safe for concurrent use. No goroutine is
// left running by any call, so there is no Close: the policy's work is done by who
// calls. Lock order: the policy's, then the ledger's. Options.OnEvict and Weigh are
// called without any lock.
package cache
