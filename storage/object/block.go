package object

import (
	"hash/crc32"

	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/guard"
)

// OpenBlock checks the bytes b of block i, and appends its batches to into. They
// alias b. The CRC of the block covers those of its batches, which are not
// compared again.
func (x *Index) OpenBlock(i int, b []byte, into []batch.Batch) ([]batch.Batch, error) {
	k, from := &x.Blocks[i], len(into)
	bad := func(rest []byte, format string, args ...any) ([]batch.Batch, error) {
		return into[:from], corrupt(x.Object, k.Position+int64(len(b)-len(rest)), "block %d of %s: "+format, append([]any{i, x.Partition}, args...)...)
	}
	if len(b) != int(k.Length) {
		return bad(b, "%d bytes, want %d", len(b), k.Length)
	}
	if sum := crc32.Checksum(b, castagnoli); !guard.Check("object.block-crc", sum == k.CRC) {
		return bad(b, "crc32c is %08x, the index says %08x", sum, k.CRC)
	}
	next := k.First
	for rest := b; len(rest) > 0; {
		one, after, err := batch.Next(rest)
		if err != nil {
			return bad(rest, "%v", err)
		}
		first := one.BaseOffset()
		if i == 0 && len(into) == from && k.First == x.Base && one.NextOffset() > x.Base {
			first = max(first, x.Base) // the log start may lie inside of it
		}
		// Only the first batch of a block must stand at an exact place: behind
		// it there may be holes.
		if !guard.Check("object.block-order", first >= next && (first == k.First || len(into) > from) && one.NextOffset() > first) {
			return bad(rest, "batch [%d, %d), %d is due", first, one.NextOffset(), next)
		}
		next = one.NextOffset()
		into = append(into, one)
		rest = after
	}
	if !guard.Check("object.block-end", next == k.Next) {
		return bad(nil, "it ends at %d, want %d", next, k.Next)
	}
	return into, nil
}
