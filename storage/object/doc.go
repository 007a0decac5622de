// Package object is the format of the objects in the bucket: how one is packed,
// read and checked, and what its key is. It owns the layout; it knows no bucket,
// network, clock or goroutine, and reads through a function that the caller
// gives it.
//
// An object holds ranges: a range is the record batches of one partition in
// [base, end), verbatim, in order of offset. Offsets may be missing, at either
// end too: end is where the next range of the partition begins. Where base is a
// log start inside of a batch, that is the first one. Ranges stand in the order
// of [ComparePartitions], a partition once. The batches of a range are
// cut into blocks of whole batches, of about 256 KiB; a larger batch is a block
// of its own. The catalogue names the index block of each range, so that a
// reader of one partition needs neither footer nor directory; who has the object
// alone ([ReadDirectory], [Verify]) begins at its end.
//
// Promises. [Write] goes through the batches once, in bounded memory, compares
// each with its CRC before it is packed, and makes the same bytes of the same
// input. Every byte of an object is under a CRC, or a constant that is compared:
// [DecodeIndex] and [Index.OpenBlock] give out nothing that was not checked, and
// [Verify] sees any damage. An index answers only for the object, partition and
// range it is asked for. Bytes from the bucket are input: none of them makes a
// decoder panic, or allocate more than 16 times their number. What is damaged is
// a [*CorruptionError]; what is whole and newer than this code is an
// [*UnknownFormatError].
//
// Concurrency. An [Index] and a [Directory] are not changed once decoded, and
// may be shared. Slices that a decoder returns alias its input where it says so.
//
// A manifest is an object of another kind: it lists ranges of one partition that
// follow one another, each the only one of an object of its own, and is read as a
// whole ([DecodeManifest]). An entry depends on nothing but its range, so that who
// knows the CRC of the entries and of those that come or go knows that of the rest.
//
// Keys are <prefix>/<cluster id>/<incarnation>/data/<xx>/<id>: the incarnation
// in 8 hex digits, the id in 16, xx its last two, which spreads consecutive ids
// over the store's partitions.
//
// Bytes. Header, data of all ranges, index blocks of all ranges, directory,
// footer, without gaps. Little-endian; uvarint and varint (zigzag) as in
// encoding/binary. The last byte of each magic is the version. A CRC is a CRC32C
// of its whole structure but itself. It stands in front of what it covers: a CRC
// behind would make the checksum of the whole object blind for both.
//
//	header, 96 bytes
//	0      8    magic        "RMQOBJ\x00\x01"
//	8      4    crc32c
//	12     4    incarnation  of the cluster
//	16     8    object id
//	24     4    broker       that made it
//	28     4    length       of the cluster id, 1..64
//	32     64   cluster id, zero-padded
//
//	block
//	0      n    record batches, see storage/batch; its CRC is in the index
//
//	index block
//	0      8    magic        "RMQIDX\x00\x01"
//	8      4    crc32c
//	12     4    partition
//	16     16   topic id
//	32     8    object id
//	40     8    base         first offset of the range
//	48     8    end          offset after it; not below the last batch's
//	56     8    last stable offset, as of the upload
//	64     8    max timestamp of all, or -1
//	72     8    number of batches
//	80     8    number of records
//	88     8    position     of the first block; the others follow without gaps
//	96     8    bytes        of all blocks
//	104    …    topic        uvarint length, name
//	…           epochs       uvarint count; of each: uvarint epoch and start, the
//	                         first from 0 and base, others from the one before
//	…           aborted      uvarint count; of each: uvarint last offset from the
//	                         one before or base, uvarint last - first offset,
//	                         uvarint producer id
//	…           producers    uvarint length, bytes of storage/log; 0: not here
//	…           blocks       uvarint count; of each: uvarint first offset from the
//	                         next offset of the one before or base, uvarint next -
//	                         first offset, uvarint length, crc32c (4 bytes),
//	                         varint max timestamp from the one before or -1
//
//	directory
//	0      8    magic        "RMQDIR\x00\x01"
//	8      4    crc32c
//	12     4    number of ranges
//	16     8    object id
//	24     56×  ranges       topic id (16), partition (4), index length (4), base (8),
//	                         end (8), index position (8), index crc32c (4), zero (4)
//
//	footer, the last 64 bytes
//	0      8    magic        "RMQFTR\x00\x01"
//	8      4    crc32c
//	12     4    number of ranges
//	16     8    object id
//	24     8    size         of the object
//	32     8    directory position
//	40     4    directory length
//	44     4    directory crc32c
//	48     8    number of batches
//	56     8    number of records
//
//	manifest
//	0      8    magic        "RMQMAN\x00\x01"
//	8      4    crc32c       of the first 400 bytes, but itself
//	12     4    incarnation  of the cluster
//	16     8    object id
//	24     4    broker       that made it
//	28     4    partition
//	32     16   topic id
//	48     8    base         first offset of the first range
//	56     8    end          offset after the last
//	64     4    number of ranges, 1..8192
//	68     4    bytes of all entries
//	72     4    crc32c       of all entries
//	76     2    length       of the cluster id
//	78     2    length       of the topic's name
//	80     64   cluster id, zero-padded
//	144    256  topic's name, zero-padded
//	400    …    entries      of each: uvarint object id, object size, end - base,
//	                         bytes of batches; varint max timestamp; uvarint index
//	                         position, index length; index crc32c (4 bytes); uvarint
//	                         leader epoch; flags (1): 1 aborts, 2 open transactions
package object
