// Package cache keeps in memory what was read from the bucket: blocks, and the
// indexes that say where blocks lie. It does no I/O: who misses reads, and puts. It
// knows no object, topic, network or file.
//
// A [Cache] holds values by key up to a number of bytes. Which values stay is the
// policy's choice, and with neither does a scan over cold data push out what is
// used. [WTinyLFU] weighs how often a key was asked for against how lately; what is
// new has a hundredth of the cache to begin with. [LRU] keeps what was used last, of
// what was asked for again, and for longer what is asked for often; what is new is
// on trial in a twenty-fourth of the cache. Package cachetrace measures both against
// the optimum: they are close while the hot set stays, and LRU is ahead while it
// moves.
//
// Promises. A value is the one put last for its key, or there is none. A value
// older than the TTL is not returned, however long ago [Cache.Maintain] ran. When
// Put returns and no other call is under way, the weights of what is kept sum to
// Weight, and that is not above the capacity; while calls are under way it is
// above by no more than the values they are putting. A value heavier than an
// eighth of the capacity is not kept: one of them would push out what many
// readers use. A hit allocates nothing.
//
// A policy may turn a new value away at once (WTinyLFU) or soon (LRU), and does so
// during scans. Who reads ahead must therefore hold on to what it has loaded until
// it is used, and not expect to find it here.
//
// Memory. Values belong to the garbage collector, not to a pool: a []byte that
// readers are writing to sockets stays alive until the last lets go of it, also
// after it was evicted, and nothing is copied or counted for that. The capacity
// thus bounds what is kept, not what readers hold: that is bounded by the budget
// under which they fetch. Values are shared: nobody may change one. Besides what
// is kept, LRU remembers keys of values that it let go, no more of them than it had
// values when it last did so; WTinyLFU has 18 to 36 bytes of counts for each value of
// Options.Typical that fits, once the cache is half full. An empty cache takes a few
// KiB, whatever its capacity.
//
// Concurrency. Everything exported is safe for concurrent use. No goroutine is
// left running by any call, so there is no Close: the policy's work is done by who
// calls. Lock order: the policy's, then the ledger's. Options.OnEvict and Weigh are
// called without any lock.
package cache
