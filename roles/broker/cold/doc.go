// Package cold reads the records that only the bucket has, for Fetch and
// ListOffsets. It owns the block cache and what is on its way from the bucket; it
// knows no request, log or image: it is told which ranges of objects hold a
// partition, and gives out their batches.
//
// A [Reader] is asked like a log, and never blocks: [Reader.Read] returns what
// memory has, has the rest brought, and wakes the waiter when it is worth asking
// again. [Reader.FindTime] and [Reader.MaxTimestamp] wait.
//
// What is kept and given up together is an index block, or a piece: consecutive
// blocks of a range, of about 1 MiB, always the same ones, so that whoever reads a
// partition comes to the same pieces. A piece is read once, however many want it.
// Indexes and pieces are kept in a cache each, so that data does not push out indexes.
//
// A request of the bucket is a flight: for one of these, or, of what is read ahead,
// for several pieces that lie one behind the other, up to 4 MiB. Each has memory of
// its own, is checked when it arrives, and then is given out, while those behind it
// are on their way.
//
// What the image has filed in a manifest is read by that: it is brought like an index,
// kept among them, and a stream holds the next few dozen of its ranges.
//
// A stream is one reader's reading on in one partition, known by its offsets: a
// request begins where an earlier one was answered up to. Each time it comes to a
// further piece, it reads twice as far ahead, up to a limit, across the borders of
// ranges and objects too, whose indexes it reads before it needs them. A seek is a
// stream of its own, which has to show itself first. The caches may turn down what
// a stream reads, and do so during a scan; so the stream holds on
// to what was brought until it has read past it, or is told that it was sent
// ([Reader.Sent]).
//
// Who reads what is committed by transactions is told which of those that have
// records in what it gets, or before, were aborted. The marker may lie in a later
// range: indexes are looked at, one after the other, until one was stable up to the
// end of what is read; ranges without an abort are not opened. Nothing is given out
// before that is known. What a stream has found there serves it further on.
//
// Memory. All that streams hold, and all loads under way, is charged to one
// budget, Options.ReadAhead, to each reader an equal share of it. What a request
// waits for comes first: it takes memory from what was read ahead, then from what
// was given out before; what is read ahead takes what is free. Only a single piece
// that is larger than the budget exceeds it: it is loaded alone. While memory is
// short, reading ahead waits until there is enough for a request of several pieces;
// who has many streams reads less ahead by each, so that all have some. Beside the budget
// are the caches, what they gave to a stream (a piece, and some indexes, for each)
// and what callers refer to: batches of a [Result] alias a piece; a caller that holds
// many results has to bound that itself. The memory of a piece that nobody refers to
// any more, no stream, cache or result ([Result.Release]), is used for another: what
// waits for one is a quarter of the budget at most, and nothing while nobody reads. A
// result that is not released is the garbage collector's. Of aborted transactions a stream remembers those
// that its last request was told of, and at most 10,000 that begin further on.
//
// Options.Pace may have all reading wait; what requests wait for then goes before what is
// read ahead.
//
// Promises. Every byte is checked before it is given out: index and manifest against
// the CRC that the catalogue has, each block against that of the index, each batch
// against its place (object.DecodeIndex, Index.OpenBlock). What is damaged is read
// once more, and then is an *object.CorruptionError that names object and byte.
// Batches are given out in order, none twice and none left out, from the one in
// which the offset lies; an offset in a hole goes on behind it. An object that is
// not there is no damage as long as the caller can have an old image
// ([ErrLookAgain]); if the newest one names it, it is ([MissingError]); it never
// says that an offset does not exist. By an image that does not reach to where the
// log's part begins, nothing is taken for committed ([ErrLookAgain]). An error is told to each stream that waits
// for what failed, once, and never for what was only read ahead.
//
// Concurrency. Everything exported is safe for concurrent use. A flight runs on
// a goroutine of its own, at most Options.Parallel of them, and blocks on the bucket
// alone; its context ends when no stream wants anything of it any more, and at Close,
// which waits for all. A stream ends when its reader is forgotten, or nobody has read or
// waited for 10 s; one timer sees to that. Waiters are woken without any lock.
// Reader.mu is taken for the time of a look-up; the locks of the caches come after
// it.
package cold
