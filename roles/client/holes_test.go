package client

import (
	"encoding/binary"
	"testing"
)

// aBatch is the header of a batch with a body of 8 bytes.
func aBatch(base int64, delta, count int32) []byte {
	b := make([]byte, batchHeader+8)
	binary.BigEndian.PutUint64(b, uint64(base))
	binary.BigEndian.PutUint32(b[batchLengthAt:], uint32(len(b)-batchLengthAfter))
	binary.BigEndian.PutUint32(b[lastDeltaAt:], uint32(delta))
	binary.BigEndian.PutUint32(b[recordCountAt:], uint32(count))
	return b
}

// A read to the end knows batches that hold nothing, and takes no record for a hole.
func TestEmptyBatchesAreHoles(t *testing.T) {
	join := func(batches ...[]byte) (all []byte) {
		for _, b := range batches {
			all = append(all, b...)
		}
		return all
	}
	cut := aBatch(5, 4, 0)
	for name, c := range map[string]struct {
		batches []byte
		known   bool
		after   int64
		empty   bool
	}{
		"nothing":                         {nil, true, 5, true},
		"an empty one":                    {aBatch(5, 4, 0), true, 10, true},
		"two":                             {join(aBatch(5, 4, 0), aBatch(10, 0, 0)), false, 11, true},
		"one with records":                {join(aBatch(5, 4, 0), aBatch(10, 1, 1)), true, 10, false},
		"the one of the last record":      {join(aBatch(3, 6, 2), aBatch(10, 0, 0)), true, 11, true},
		"one that began before, unknown":  {aBatch(3, 6, 2), false, 5, false},
		"one that is cut":                 {cut[:len(cut)-1], true, 5, true},
		"one of a length that cannot be":  {append(aBatch(5, 4, 0)[:batchLengthAt], make([]byte, batchHeader)...), true, 5, true},
		"an empty one that began before":  {aBatch(3, 6, 0), false, 10, true},
		"records behind one with records": {join(aBatch(3, 6, 2), aBatch(10, 0, 1)), true, 10, false},
	} {
		if after, empty := afterEmpty(c.batches, 5, c.known); after != c.after || empty != c.empty {
			t.Errorf("%s: up to %d, empty %v; not %d, %v", name, after, empty, c.after, c.empty)
		}
	}
}
