package kafka

import (
	"encoding/binary"
	"strings"
	"testing"
)

// TestBufferClasses: a buffer holds what it is taken for, all of a class have
// one size, and a large one wastes a quarter at most.
func TestBufferClasses(t *testing.T) {
	sizes := map[int]int64{}
	was := -1
	for n := 1; n <= 1<<largestBits; n += 1 + n/999 {
		class, size := classOf(n)
		if known, ok := sizes[class]; ok && known != size || class < was || class > largestClass {
			t.Fatalf("%d bytes: class %d of %d, was %d of %d", n, class, size, was, known)
		}
		sizes[class], was = size, class
		if size < int64(n) || n > 16<<20 && size > int64(n)+int64(n)/4+1 {
			t.Fatalf("%d bytes get %d", n, size)
		}
		if edge, _ := classOf(int(size)); edge != class {
			t.Fatalf("%d bytes are of class %d, and not of %d", size, edge, class)
		}
	}
	if len(sizes) != largestClass-smallestClass+1 {
		t.Fatalf("%d classes", len(sizes))
	}
	if class, size := classOf(1<<largestBits + 1); class != -1 || size != 1<<largestBits+1 {
		t.Fatalf("beyond: class %d of %d", class, size)
	}
}

// TestConnectionsKeepNoLongClientID: a client says who it is with each request, and
// what stays with an idle connection is little.
func TestConnectionsKeepNoLongClientID(t *testing.T) {
	for _, n := range []int{0, 10, keptID, keptID + 1, 30_000} {
		id := strings.Repeat("i", n)
		in := &reader{c: &Conn{server: New(Options{Handler: nobody{}})}}
		frame := binary.BigEndian.AppendUint16([]byte{0, 12, 0, 0, 0, 0, 0, 1}, uint16(n))
		in.buf = append(frame, id...)
		in.w = len(in.buf)
		r, err := in.request(make([]byte, in.w))
		if err != nil || r.ClientID != id {
			t.Errorf("a client id of %d bytes has %d in the request; %v", n, len(r.ClientID), err)
		}
		if len(in.clientID) > 256 {
			t.Errorf("the connection keeps %d bytes", len(in.clientID))
		}
	}
}

type nobody struct{}

func (nobody) Versions() []ApiVersion { return nil }
func (nobody) ConnClosed(*Conn)       {}
func (nobody) Serve(*Request)         {}
