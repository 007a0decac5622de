package transport

import "encoding/binary"

// frames follows one direction of a Kafka connection: messages of 4 bytes of length,
// big-endian, and as many bytes.
type frames struct {
	whole int64 // messages that have passed
	left  int64 // bytes of the message that is passing, after its length
	head  [4]byte
	have  int // bytes of head
}

// pass takes the bytes that come next.
func (f *frames) pass(b []byte) {
	for len(b) > 0 {
		if f.left > 0 {
			n := min(f.left, int64(len(b)))
			b = b[n:]
			if f.left -= n; f.left == 0 {
				f.whole++
			}
			continue
		}
		n := copy(f.head[f.have:], b)
		b = b[n:]
		if f.have += n; f.have < len(f.head) {
			return
		}
		f.have = 0
		if f.left = int64(binary.BigEndian.Uint32(f.head[:])); f.left == 0 {
			f.whole++
		}
	}
}

// between reports whether no message is passing.
func (f *frames) between() bool { return f.left == 0 && f.have == 0 }
