package batch

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Filter takes records out of batches, as compaction by key does. What is left of
// a batch keeps its base offset, last offset delta, producer, sequence, codec and
// leader epoch; records keep their bytes, but for the timestamp delta where the
// batch is given a delete horizon. It uses its memory again from batch to batch,
// and belongs to one goroutine at a time. The zero value is ready.
type Filter struct {
	Limit int64 // bytes that the records of a batch may expand to; 0: DefaultMaxDecompressed
	Level int   // as for Compress; 0: the codec's default

	batch Batch
	kept  []byte // records that stay, as they were
	count int32
	whole bool  // all stay
	max   int64 // timestamp of those that stay
}

// Sift goes through the records of b and keeps those that keep says. b is as for
// [Batch.Records], and stays as it is until Build has returned. Errors are of type
// *[Error].
func (f *Filter) Sift(b Batch, keep func(*Record) bool) error {
	f.batch, f.kept, f.count, f.whole, f.max = b, f.kept[:0], 0, true, NoTimestamp
	it := b.Records(f.Limit)
	for it.Next() {
		r := it.Record()
		if !keep(r) {
			f.whole = false
			continue
		}
		f.kept = append(f.kept, it.raw...)
		f.count++
		f.max = max(f.max, r.Timestamp)
	}
	return it.Err()
}

// Kept returns how many records stay of the last batch.
func (f *Filter) Kept() int { return int(f.count) }

// Build returns what is left of the last batch: the batch itself if nothing
// changes. A horizon other than NoTimestamp is when tombstones of the batch may go,
// in milliseconds since 1970 (KIP-534); a batch that has one keeps its own.
func (f *Filter) Build(horizon int64) (Batch, error) {
	b := f.batch
	if _, has := b.DeleteHorizon(); has {
		horizon = NoTimestamp
	}
	if f.whole && horizon == NoTimestamp {
		return b, nil
	}
	records := f.kept
	if horizon != NoTimestamp {
		var err error
		if records, err = rebase(f.kept, b.FirstTimestamp()-horizon); err != nil {
			return nil, err
		}
	}
	body, err := Compress(b.Codec(), f.Level, records)
	if err != nil {
		return nil, fmt.Errorf("compress %d records: %w", f.count, err)
	}
	if int64(HeaderSize)+int64(len(body)) > math.MaxInt32 {
		return nil, errorf(MessageTooLarge, "%d bytes of records", len(body))
	}
	out := make(Batch, HeaderSize+len(body))
	copy(out, b[:HeaderSize])
	copy(out[HeaderSize:], body)
	binary.BigEndian.PutUint32(out[atLength:], uint32(len(out)-lengthPrefix))
	binary.BigEndian.PutUint32(out[atNumRecords:], uint32(f.count))
	if b.TimestampType() == CreateTime {
		binary.BigEndian.PutUint64(out[atMaxTimestamp:], uint64(f.max))
	}
	if horizon != NoTimestamp {
		binary.BigEndian.PutUint16(out[atAttributes:], uint16(b.Attributes())|deleteHorizonBit)
		binary.BigEndian.PutUint64(out[atBaseTimestamp:], uint64(horizon))
	}
	out.stampCRC()
	return out, nil
}

// DeleteHorizon returns when the tombstones of the batch may go, in milliseconds
// since 1970, if compaction has said so (KIP-534). It stands where the base
// timestamp does, and the records' deltas count from it.
func (b Batch) DeleteHorizon() (millis int64, ok bool) {
	return b.FirstTimestamp(), b.Attributes()&deleteHorizonBit != 0
}

// rebase returns records whose timestamp deltas are larger by shift.
func rebase(records []byte, shift int64) ([]byte, error) {
	out := make([]byte, 0, len(records)+len(records)/8)
	for rest := records; len(rest) > 0; {
		size, at := varint(rest, 0)
		if at < 0 || size < 1 || size > int64(len(rest)-at) {
			return nil, errorf(InvalidRecord, "a record is cut off")
		}
		r := rest[at : at+int(size)]
		rest = rest[at+int(size):]
		delta, from := varint(r, 1)
		if from < 0 {
			return nil, errorf(InvalidRecord, "a record has no timestamp")
		}
		delta += shift
		out = binary.AppendVarint(out, int64(1+varintSize(delta)+len(r)-from))
		out = append(out, r[0])
		out = binary.AppendVarint(out, delta)
		out = append(out, r[from:]...)
	}
	return out, nil
}
