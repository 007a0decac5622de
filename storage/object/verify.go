package object

import (
	"errors"
	"fmt"
	"slices"

	"rustmq.dev/rustmq/storage/batch"
)

// Verify reads every byte of an object of size bytes and tells report of each
// damage, as a [*CorruptionError] or [*UnknownFormatError]; it steps over what
// it can. It returns the header, zero if that is damaged, for the caller to
// compare with the key. The error is the first damage, or what readAt returned,
// at which it stops. It holds one block, or one index, in memory.
func Verify(size int64, readAt ReadAt, report func(error)) (Header, error) {
	v := &verifier{readAt: readAt, report: report}
	h, err := v.walk(size)
	if err != nil {
		return h, fmt.Errorf("verify object %s: %w", h.ID, err)
	}
	return h, v.first
}

type verifier struct {
	readAt ReadAt
	report func(error)
	first  error
	buf    []byte

	data             int64 // where the next range's data must begin; -1: not known
	batches, records int64
}

// damaged reports err if it is a damage; any other error ends the walk.
func (v *verifier) damaged(err error) error {
	if !errors.As(err, new(*CorruptionError)) && !errors.As(err, new(*UnknownFormatError)) {
		return err
	}
	if v.first == nil {
		v.first = err
	}
	v.report(err)
	return nil
}

func (v *verifier) read(position int64, length int) ([]byte, error) {
	v.buf = slices.Grow(v.buf[:0], length)[:length]
	return v.buf, v.readAt(v.buf, position)
}

func (v *verifier) walk(size int64) (h Header, err error) {
	d, err := ReadDirectory(size, v.readAt)
	if err != nil {
		return h, v.damaged(err)
	}
	b, err := v.read(0, HeaderSize)
	if err != nil {
		return h, err
	}
	if h, err = DecodeHeader(b); err == nil && h.ID != d.Object {
		err = corrupt(d.Object, 16, "the header is of object %s", h.ID)
	}
	if err != nil {
		if err := v.damaged(err); err != nil {
			return h, err
		}
	}
	v.data = HeaderSize
	whole := true
	for _, e := range d.Entries {
		ok, err := v.entry(d, e)
		if err != nil {
			return h, err
		}
		whole = whole && ok
	}
	// Counts and gaps can be judged only when every index was read.
	end := size - FooterSize - directoryHead
	if len(d.Entries) > 0 {
		end = d.Entries[0].Index.Position
	}
	if whole && v.data != end {
		return h, v.damaged(corrupt(d.Object, v.data, "%d bytes that belong to no range", end-v.data))
	}
	if whole && (v.batches != d.Batches || v.records != d.Records) {
		return h, v.damaged(corrupt(d.Object, size-FooterSize, "footer: %d batches with %d records, there are %d with %d", d.Batches, d.Records, v.batches, v.records))
	}
	return h, nil
}

// entry walks one range. ok is false when its index cannot be read.
func (v *verifier) entry(d *Directory, e Entry) (ok bool, err error) {
	b, err := v.read(e.Index.Position, int(e.Index.Length))
	if err != nil {
		return false, err
	}
	x, err := DecodeIndex(b, d.Object, e)
	if err != nil {
		v.data = -1
		return false, v.damaged(err)
	}
	at := v.data
	if len(x.Blocks) > 0 {
		at = x.Blocks[0].Position
	}
	if v.data >= 0 && at != v.data {
		if err := v.damaged(corrupt(d.Object, v.data, "the data of %s begins at byte %d", e.Partition, at)); err != nil {
			return false, err
		}
	}
	if at >= 0 {
		v.data = at + x.Bytes
	}
	v.batches += x.Batches
	v.records += x.Records
	return true, v.blocks(x, e.Index.Position)
}

// blocks walks the data of a range; its index stands at position.
func (v *verifier) blocks(x *Index, position int64) error {
	var opened []batch.Batch
	var batches, records int64
	whole := true
	for i, k := range x.Blocks {
		b, err := v.read(k.Position, int(k.Length))
		if err != nil {
			return err
		}
		if opened, err = x.OpenBlock(i, b, opened[:0]); err != nil {
			whole = false
			if err := v.damaged(err); err != nil {
				return err
			}
			continue
		}
		at, newest := k.Position, batch.NoTimestamp
		for _, one := range opened {
			if one.ComputeCRC() != one.CRC() {
				if err := v.damaged(corrupt(x.Object, at, "batch at %d of %s: crc32c is %08x, it says %08x", one.BaseOffset(), x.Partition, one.ComputeCRC(), one.CRC())); err != nil {
					return err
				}
			}
			at += int64(len(one))
			newest = max(newest, one.MaxTimestamp())
			records += max(0, int64(one.NumRecords()))
		}
		batches += int64(len(opened))
		if newest != k.MaxTimestamp {
			if err := v.damaged(corrupt(x.Object, k.Position, "block %d of %s: max timestamp %d, the index says %d", i, x.Partition, newest, k.MaxTimestamp)); err != nil {
				return err
			}
		}
	}
	if whole && (batches != x.Batches || records != x.Records) {
		return v.damaged(corrupt(x.Object, position, "%s has %d batches with %d records, the index says %d with %d", x.Partition, batches, records, x.Batches, x.Records))
	}
	return nil
}
