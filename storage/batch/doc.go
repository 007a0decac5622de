// Package batch reads, checks, stamps and builds Kafka's record batches,
// version 2: the one format in which records lie in requests, in memory, in the
// log and in objects.
//
// It owns the layout and nothing else: no file, clock, network or goroutine.
// A [Batch] is a slice of somebody else's bytes; its accessors do not check
// bounds beyond what [Next] or [Validate] have proved, so bytes from outside go
// through one of the two first. Nothing here panics on any input that does, and
// nothing allocates but iteration over compressed records, [Recompress], the
// [Builder], a [Filter], a [Rewriter] and the making of an error.
//
// Compaction and transforms take records out of batches: those that are left keep their
// offset deltas, and the batch its last one, though there be no record left.
//
// A broker may write base offset and leader epoch ([Stamp]) without touching
// the records, for the CRC begins behind them. All integers are big-endian.
//
//	offset size field
//	0      8    base offset           stamped by the leader
//	8      4    length                of all that follows this field, ≥ 49
//	12     4    partition leader epoch  stamped by the leader
//	16     1    magic                 2
//	17     4    crc32c                of all that follows this field
//	21     2    attributes            bits 0–2 codec, 3 timestamp type,
//	                                  4 transactional, 5 control, 6 delete horizon
//	23     4    last offset delta     records - 1 as produced; compaction keeps it
//	27     8    base timestamp        ms since 1970, or -1; with bit 6, when the
//	                                  tombstones of the batch may go
//	35     8    max timestamp
//	43     8    producer id           -1: none
//	51     2    producer epoch
//	53     4    base sequence
//	57     4    number of records
//	61     …    records, compressed as a whole by the codec
//
// A record, all lengths and deltas zigzag varints:
//
//	length, attributes (1 byte, 0), timestamp delta, offset delta,
//	key length (-1: null), key, value length (-1: null), value,
//	number of headers, of each: key length, key, value length (-1: null), value
//
// A control batch that ends a transaction ([Marker]) holds one record, without
// headers and never compressed; its batch has no sequence (-1):
//
//	key    version (2) 0, type (2): 0 abort, 1 commit
//	value  version (2) 0, coordinator epoch (4)
//
// Codecs: 0 none, 1 gzip, 2 snappy (bare block or xerial's framing), 3 LZ4
// frame, 4 zstd. What they may expand to is bounded by the caller; a batch that
// would go beyond ends in an *[Error] with code [DecompressedTooLarge], having
// cost no more memory than the bound. The checksum that an LZ4 frame may have of its
// content is not compared: the CRC is over the same bytes.
//
// Every function is safe for concurrent use on batches that nobody writes; an
// [Iterator] and a [Builder] belong to one goroutine at a time.
package batch
