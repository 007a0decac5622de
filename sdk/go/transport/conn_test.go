package transport

import (
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"testing"
)

// message is a Kafka frame of so many bytes after its length.
func message(n int) []byte {
	b := make([]byte, 4+n)
	b[0], b[1], b[2], b[3] = byte(n>>24), byte(n>>16), byte(n>>8), byte(n)
	return b
}

func TestFramesAreCountedHoweverTheyAreCut(t *testing.T) {
	dice := rand.New(rand.NewPCG(1, 2))
	for range 1000 {
		var all []byte
		n := dice.IntN(6)
		for range n {
			all = append(all, message(dice.IntN(300))...)
		}
		part := message(100)[:dice.IntN(104)]
		all = append(all, part...)
		var f frames
		for len(all) > 0 {
			cut := 1 + dice.IntN(len(all))
			f.pass(all[:cut])
			all = all[cut:]
		}
		if f.whole != int64(n) || f.between() != (len(part) == 0) {
			t.Fatalf("%d messages and %d bytes were counted as %+v", n, len(part), f)
		}
	}
}

// piped is a connection whose broker is the test.
func piped(t *testing.T) (c *conn, server net.Conn) {
	t.Helper()
	d := New(Options{})
	client, server := net.Pipe()
	t.Cleanup(func() { _ = d.Close(); _ = client.Close(); _ = server.Close() })
	b := &broker{dialer: d, conns: map[*conn]struct{}{}}
	return &conn{Conn: client, via: TCP, broker: b, of: &generation{}}, server
}

func write(t *testing.T, to io.Writer, b []byte) {
	t.Helper()
	if _, err := to.Write(b); err != nil {
		t.Error(err)
	}
}

func read(t *testing.T, from io.Reader, n int) {
	t.Helper()
	if _, err := io.ReadFull(from, make([]byte, n)); err != nil {
		t.Fatal(err)
	}
}

func TestARetiredConnectionEndsWhenItOwesNothing(t *testing.T) {
	c, server := piped(t)
	go write(t, c, append(message(10), message(20)...))
	read(t, server, 14+24)
	c.retire()
	go func() {
		write(t, server, message(5))
		write(t, server, message(3)[:6])
	}()
	read(t, c, 9)
	go write(t, c, message(1)) // it may still be asked
	read(t, server, 5)
	read(t, c, 6)
	go write(t, server, append(message(3)[6:], message(7)...))
	read(t, c, 1+11)
	if _, err := c.Write(message(1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a request was begun on a connection that has ended: %v", err)
	}
	if _, err := server.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the broker is not told: %v", err)
	}
}

func TestAQuietConnectionIsRetiredAtOnce(t *testing.T) {
	c, server := piped(t)
	go write(t, c, message(10))
	read(t, server, 14)
	go write(t, server, message(1))
	read(t, c, 5)
	c.retire()
	if _, err := server.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
}

// TestARequestThatHasBegunKeepsTheConnection has half of one written.
func TestARequestThatHasBegunKeepsTheConnection(t *testing.T) {
	c, server := piped(t)
	go write(t, c, message(10)[:7])
	read(t, server, 7)
	c.retire()
	go write(t, c, message(10)[7:])
	read(t, server, 7)
	go write(t, server, message(1))
	read(t, c, 5)
	if _, err := server.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
}
