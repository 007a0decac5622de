// Package wal makes frames durable in append order. It owns the segment files
// of one directory; it knows no topic, network or clock but for the idle mark, and
// the pause before it tries once more to make a file.
//
// The memory a frame is assembled in is also what is written to disk and what
// readers see: a chunk mirrors a region of a segment byte for byte. Appends
// reserve room under one short mutex, then copy and checksum outside it. The
// committer takes everything that queued while the device was busy, writes it
// with one gather write, syncs, and calls the completions in log order; there
// is no timer but that of SyncInterval, which completes what is written and syncs later.
//
// Invariants. Durable never moves back. Completions come in order of sequence.
// After a failed write or sync every call that would write returns [ErrDead],
// nothing is tried again, and no file that may have failed is written again, also
// after a restart; what was synced can still be read. A file that fails as it is
// made is removed, and no part of the log: see Room. A block (4 KiB) with synced
// bytes is never written again until its segment is recycled. Segments are
// recycled oldest first, and only when the owner released every frame in them,
// what it appended until then is on disk, nobody reads there, and a group on disk
// says that the log begins behind it. What was admitted can be appended.
//
// Room. When a quarter of the capacity is left, the owner is asked to copy what
// is live in the oldest segment forward, if enough is to be won. What it said to
// be reclaimable, kept only for as long as there is room, it releases instead.
// Where no further file can be made, for the disk is full or ill, the log is as large
// as it has become: all of this goes by that, and [Stats].Short says so. It tries
// again, of a full disk only once that has room.
//
// Recovery. Every group carries the highest sequence known to be on disk when
// it was written; when idle, a mark follows within 10 ms. A bad frame above the
// highest mark is a torn tail, whatever follows it, and that there was one is noted
// ([WAL.CutTail]), for the last group that was synced may be among it; at or below it, it is
// corruption, and Open refuses with [*CorruptionError]; or, with [Options].Lost, goes on
// behind the frames that are missing, and tells which. Recovery trusts no
// page: what lies above the highest mark is rewritten into a fresh segment and
// synced before the owner sees it. The fresh segment's header, written last,
// supersedes every frame at or above its first sequence in older segments; those
// of which it supersedes all are removed. Nothing is taken for absent because it
// is missing: groups name the frame the log begins with, and segments that end
// before it were recycled; synced groups behind a header of zeros are a segment
// whose header was damaged; and a clean end notes its last frame. What stays
// unseen is the loss of a whole newest segment after an unclean end, and of the
// last commit before one if nothing is left of it.
//
// Concurrency. All methods are safe for concurrent use; the order of Append
// calls is the order of the log. The mutex guards reservation only; no I/O and
// no callback runs under it. Goroutines: the committer (blocks on the disk), the
// preparer (blocks on the disk, on commits, and on the owner's Relocate, which
// may call Admit with class Internal).
//
// Bytes, little-endian. A segment is a header block and groups, each on a block
// of its own; what is not used is zero or left from an earlier life.
//
//	segment header, one block
//	0      8    magic        "RMQWAL\x00\x01", the last byte is the version
//	8      8    log number   1.., grows
//	16     8    first        sequence of the first frame that counts here
//	24     8    mark         highest sequence known to be on disk
//	32     8    stamp        random: tells this life of the file from earlier ones
//	40     8    begin        sequence of the first frame of the log
//	48     4    crc32c       of bytes 0..48; a block of zeros: never in use
//
//	group header, at a multiple of 4096
//	0      4    magic        0x47514d52 "RMQG"
//	4      4    crc32c       of bytes 8..56
//	8      8    stamp        of this segment
//	16     8    first        sequence of the first frame
//	24     8    mark         highest sequence known to be on disk
//	32     4    length       of header and frames, without padding
//	36     4    count        of frames; 0: a mark alone
//	40     8    begin        sequence of the first frame of the log
//	48     8    flags        0; others stop the recovery
//
//	frame, at a multiple of 8
//	0      4    crc32c       of bytes 4..64 and the payload
//	4      4    length       of the payload, 0..MaxPayload
//	8      8    stamp        of this segment; an old life's frames differ
//	16     8    sequence     grows by one per frame, over all segments
//	24     1    kind         1 data, 2 state, 3 truncate, 4 trim, 5 drop
//	25     1    flags        1: a copy of an older frame; others stop the recovery
//	26     2    zero
//	28     4    partition
//	32     16   topic id
//	48     4    leader epoch
//	52     4    zero
//	56     8    offset       base offset; truncate and trim: the offset to go to
//	64     n    payload, zero-padded to a multiple of 8
//
//	file "clean", left by Close; gone before the next start writes a segment
//	0      8    magic        "RMQEND\x00\x01"
//	8      8    last         sequence of the last frame
//	16     4    crc32c       of bytes 0..16
//
//	file "retired", written after an unclean end
//	0      8    magic        "RMQRET\x00\x01"
//	8      8n   log numbers  of segments whose files may have failed a write
//	8+8n   4    crc32c       of all before; damaged: every segment is one
//
//	file "lost", of frames that are missing, at or below the mark, and settled
//	0      8    magic        "RMQLOS\x00\x01"
//	8      16n  runs         sequences of the first (8) and the last (8) of each
//	8+16n  4    crc32c       of all before; damaged: none is settled
//
//	file "cut", written by a start that gave up a torn tail, until ForgetCut
//	0      8    magic        "RMQCUT\x00\x01"
package wal
