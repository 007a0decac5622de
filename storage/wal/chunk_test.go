package wal_test

import (
	"bytes"
	"testing"

	"rustmq.dev/rustmq/storage/disk"
	"rustmq.dev/rustmq/storage/wal"
)

// TestPinFindsTheChunkOfAFrame appends frames of which some do not fit in what
// is left of a chunk: the region of that chunk then ends before its memory does.
func TestPinFindsTheChunkOfAFrame(t *testing.T) {
	w, _ := open(t, small(disk.NewMem(disk.MemOptions{})))
	defer w.Close()
	var refs []wal.Ref
	var want [][]byte
	for i := range 8 {
		payload := bytes.Repeat([]byte{byte(i)}, 9000+500*(i%3))
		d := newDone()
		ref, err := w.Append(header(0, int64(i)), payload, d)
		if err != nil {
			t.Fatal(err)
		}
		if err := d.wait(t); err != nil {
			t.Fatal(err)
		}
		refs, want = append(refs, ref), append(want, payload)
	}
	for i, ref := range refs {
		got, pin, ok := w.Pin(ref)
		if !ok {
			t.Fatalf("frame %d is not in memory", i)
		}
		if !bytes.Equal(got, want[i]) {
			t.Fatalf("frame %d: the memory of another one", i)
		}
		pin.Release()
	}
}
