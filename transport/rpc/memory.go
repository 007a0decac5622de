package rpc

import (
	"math/bits"
	"sync"

	"google.golang.org/grpc/mem"
)

// Flow of streams that carry records, in bytes.
const (
	// pushWindow is what a follower lets a leader send before it has taken it: some
	// messages, so that the leader never waits for the word that one was taken. gRPC's own
	// begins with 64 KiB and grows by what it measures, a wait for each doubling.
	pushWindow = 4 << 20
	// pushBuffer is what a connection writes and reads by one call.
	pushBuffer = 128 << 10
)

// memory is a pool of buffers that hold whatever they held before: gRPC's own clears each
// that it gives out, which for records is a pass more over every byte. Who gets one writes
// all of it before anybody reads. The sizes are powers of two.
type memory struct{ classes [mostClass + 1]sync.Pool }

const (
	leastClass = 10 // gRPC makes what is smaller itself
	mostClass  = 25 // MaxReplication
)

var _ mem.BufferPool = (*memory)(nil)

// Get implements mem.BufferPool.
func (m *memory) Get(n int) *[]byte {
	class := max(leastClass, bits.Len(uint(max(n, 1)-1)))
	if class > mostClass {
		b := make([]byte, n)
		return &b
	}
	if b, ok := m.classes[class].Get().(*[]byte); ok {
		*b = (*b)[:n]
		return b
	}
	b := make([]byte, n, 1<<class)
	return &b
}

// Put implements mem.BufferPool.
func (m *memory) Put(b *[]byte) {
	if n := cap(*b); n >= 1<<leastClass && n <= 1<<mostClass && n&(n-1) == 0 {
		m.classes[bits.Len(uint(n))-1].Put(b)
	}
}
