package rpc

import (
	"testing"

	"google.golang.org/grpc/mem"
)

// A buffer is as long as was asked for, whatever was in the pool, and none that is shorter
// than its class, or was another's, is given out for one that needs all of it.
func TestABufferOfThePoolIsAsLongAsWasAskedFor(t *testing.T) {
	var m memory
	for _, put := range []int{1 << 9, 1 << 10, 1<<10 + 1, 1 << 14, 3 << 13, 1 << 20, 1<<20 + 7, 1 << 25, 1 << 26} {
		b := make([]byte, put)
		m.Put(&b)
		for _, n := range []int{0, 1, 1 << 10, 1<<10 + 1, 1 << 14, 1<<14 + 1, 1 << 20, MaxReplication, 1<<25 + 1} {
			b := m.Get(n)
			if len(*b) != n {
				t.Fatalf("%d bytes of %d", len(*b), n)
			}
			if n > 0 {
				(*b)[n-1] = 1
			}
			m.Put(b)
		}
	}
}

// What is copied out of a pool's buffer is what was put into it by the copy, though the
// buffer held something else before.
func TestAMessageIsReadOverWhatABufferHeld(t *testing.T) {
	var m memory
	old := m.Get(5000)
	for i := range *old {
		(*old)[i] = 0xdb
	}
	m.Put(old)
	want := make([]byte, 4500)
	for i := range want {
		want[i] = byte(i)
	}
	whole := mem.BufferSlice{mem.SliceBuffer(want[:2000]), mem.SliceBuffer(want[2000:])}.MaterializeToBuffer(&m)
	defer whole.Free()
	if string(whole.ReadOnlyData()) != string(want) {
		t.Error("it is another")
	}
}
