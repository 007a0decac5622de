package batch

import (
	"encoding/binary"
	"fmt"
	"time"

	"rustmq.dev/rustmq/storage/guard"
)

// Limits are what a topic allows a producer to send. The zero value checks the
// format alone.
type Limits struct {
	MaxBytes        int   // of the whole batch as sent; 0: no limit
	MaxRecords      int   // in one batch; 0: no limit
	MaxDecompressed int64 // bytes the records may expand to; 0: what the codec can. Bounds the count only: nothing is decompressed here

	// Now is what timestamps are compared with, when AfterMax or BeforeMax is
	// set. AfterMax bounds how far the newest record may lie ahead of it,
	// BeforeMax how far the first may lie behind.
	Now                 time.Time
	AfterMax, BeforeMax Bound

	// Internal admits what only the broker itself may append: control batches, and
	// batches of producers without a sequence number.
	Internal bool

	// Compared says that the CRC was compared before, and nobody has written to the batch since.
	Compared bool

	// Sifted admits what a transform has left of a producer's batch: records may be
	// missing, or all of them, and their offsets are holes.
	Sifted bool
}

// Bound is how far a timestamp may lie from a clock. The zero value is no bound;
// that of 0, as [Within] makes it, is the strictest.
type Bound struct {
	set  bool
	most time.Duration
}

// Within is the bound of d, which counts in whole milliseconds; below 0 it is none.
func Within(d time.Duration) Bound { return Bound{set: d >= 0, most: d} }

// Validate checks one batch as a producer sent it: that it is whole, of version
// 2, matches its CRC, and that its header agrees with itself and with l. Of a
// batch that it refuses for its times it looks for the records that are to blame, unless
// they are compressed. The errors are of type *[Error].
func Validate(b Batch, l *Limits) error {
	if len(b) < HeaderSize {
		return errorf(CorruptMessage, "%d bytes, a batch has at least %d", len(b), HeaderSize)
	}
	if b[atMagic] != magic {
		return errMagic(b.Magic())
	}
	if !guard.Check("batch.declared-length", b.Length() == len(b)) {
		return errorf(CorruptMessage, "declares %d bytes, has %d", b.Length(), len(b))
	}
	if !guard.Check("batch.max-bytes", l.MaxBytes <= 0 || len(b) <= l.MaxBytes) {
		return errorf(MessageTooLarge, "%d bytes, the topic allows %d", len(b), l.MaxBytes)
	}
	if !l.Compared {
		if got := b.ComputeCRC(); !guard.Check("batch.crc", got == b.CRC()) {
			return errorf(CorruptMessage, "crc32c is %08x, the batch says %08x", got, b.CRC())
		}
	}
	if err := b.validateCounts(l); err != nil {
		return err
	}
	if err := b.validateProducer(l); err != nil {
		return err
	}
	return b.validateTimestamps(l)
}

func (b Batch) validateCounts(l *Limits) error {
	if c := b.Codec(); !guard.Check("batch.codec", c <= Zstd) {
		return errorf(UnsupportedCompression, "codec %d", c)
	}
	n := b.NumRecords()
	if !guard.Check("batch.has-records", n > 0 || n == 0 && l.Sifted) {
		return errorf(InvalidRecord, "%d records", n)
	}
	if l.MaxRecords > 0 && int(n) > l.MaxRecords {
		return errorf(InvalidRecord, "%d records, at most %d are taken", n, l.MaxRecords)
	}
	// Offsets are given out by this delta: a wrong one would leave a gap, or
	// give two records one offset.
	if d := b.LastOffsetDelta(); !guard.Check("batch.last-offset-delta", d == n-1 || d >= max(n-1, 0) && l.Sifted) {
		return errorf(InvalidRecord, "last offset delta %d with %d records", d, n)
	}
	// A count that the bytes cannot hold would reserve offsets for nothing. Of
	// what is compressed it is known how far they can expand.
	room := int64(len(b.body())) * maxRatio[b.Codec()]
	if b.Codec() != None && l.MaxDecompressed > 0 {
		room = min(room, l.MaxDecompressed)
	}
	if !guard.Check("batch.plausible-count", int64(n)*minRecord <= room) {
		return errorf(InvalidRecord, "%d records do not fit in %d bytes of %s, which are at most %d", n, len(b.body()), b.Codec(), room)
	}
	if b.Codec() == None {
		if got := b.countRecords(); !guard.Check("batch.counted-records", got == int64(n)) {
			return errorf(InvalidRecord, "%d records are counted, the bytes are of %d (-1: of none)", n, got)
		}
	}
	return nil
}

// countRecords walks from record to record by their lengths, and says how many fill
// the bytes of an uncompressed batch; -1: they do not come out even. Consumers that
// find more or fewer than are counted stop there for good.
func (b Batch) countRecords() (n int64) {
	for rest := b.body(); len(rest) > 0; n++ {
		length, size := binary.Varint(rest)
		if size <= 0 || length < 0 || length > int64(len(rest)-size) {
			return -1
		}
		rest = rest[int64(size)+length:]
	}
	return n
}

func (b Batch) validateProducer(l *Limits) error {
	attributes := b.Attributes()
	if attributes&unknownBits != 0 || attributes&deleteHorizonBit != 0 {
		return errorf(InvalidRecord, "attributes %#04x have bits a producer may not set", uint16(attributes))
	}
	if !guard.Check("batch.no-control", !b.IsControl() || l.Internal) {
		return errorf(InvalidRecord, "a producer may not send control batches")
	}
	id := b.ProducerID()
	switch {
	case id < NoProducerID:
		return errorf(InvalidRecord, "producer id %d", id)
	case id == NoProducerID:
		if b.IsTransactional() {
			return errorf(InvalidRecord, "transactional without a producer id")
		}
	case b.ProducerEpoch() < 0:
		return errorf(InvalidRecord, "producer id %d with epoch %d", id, b.ProducerEpoch())
	case !guard.Check("batch.sequence", b.BaseSequence() >= 0 || b.IsControl() || l.Internal):
		// Markers carry no sequence, nor does what the group coordinator writes in a
		// producer's transaction; everything else of a producer does.
		return errorf(InvalidRecord, "producer id %d with base sequence %d", id, b.BaseSequence())
	}
	return nil
}

func (b Batch) validateTimestamps(l *Limits) error {
	if b.TimestampType() != CreateTime {
		return errorf(InvalidTimestamp, "a producer may not set the timestamp type LogAppendTime")
	}
	first, last := b.FirstTimestamp(), b.MaxTimestamp()
	if first < NoTimestamp || last < NoTimestamp {
		return errorf(InvalidTimestamp, "timestamps %d to %d", first, last)
	}
	last = b.latestTimestamp()
	if l.AfterMax.set && last != NoTimestamp {
		limit := l.Now.UnixMilli() + l.AfterMax.most.Milliseconds()
		if !guard.Check("batch.timestamp-ahead", last <= limit) {
			return b.blameTimes(fmt.Sprintf("more than %s ahead of %d", l.AfterMax.most, l.Now.UnixMilli()), last,
				func(at int64) bool { return at > limit })
		}
	}
	if l.BeforeMax.set && first != NoTimestamp {
		limit := l.Now.UnixMilli() - l.BeforeMax.most.Milliseconds()
		if !guard.Check("batch.timestamp-behind", first >= limit) {
			return b.blameTimes(fmt.Sprintf("more than %s behind %d", l.BeforeMax.most, l.Now.UnixMilli()), first,
				func(at int64) bool { return at != NoTimestamp && at < limit })
		}
	}
	return nil
}

// latestTimestamp is the largest timestamp in a producer's batch: what its header
// says, unless that lies before the first, as of clients that leave it out. Then it
// is what the records say; of compressed ones, the first.
func (b Batch) latestTimestamp() int64 {
	first, latest := b.FirstTimestamp(), b.MaxTimestamp()
	if latest >= first {
		return latest
	}
	if b.Codec() != None {
		return first
	}
	it := b.Records(0)
	for it.Next() {
		latest = max(latest, it.Record().Timestamp)
	}
	if it.Err() != nil {
		return max(latest, first)
	}
	return latest
}

// blameTimes refuses a batch for a time of its header, and the records that are as wrong.
func (b Batch) blameTimes(how string, at int64, wrong func(int64) bool) *Error {
	refused := errorf(InvalidTimestamp, "timestamp %d is %s", at, how)
	if b.Codec() != None {
		return refused
	}
	it := b.Records(0)
	for n := 0; it.Next(); n++ {
		if at := it.Record().Timestamp; wrong(at) {
			refused.Blame(n, fmt.Sprintf("timestamp %d is %s", at, how))
		}
	}
	return refused
}
