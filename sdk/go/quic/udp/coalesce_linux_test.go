package udp_test

import (
	"encoding/binary"
	"errors"
	"net"
	"os"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"

	"rustmq.dev/rustmq/sdk/go/quic/udp"
)

func listen(t *testing.T) *net.UDPConn {
	t.Helper()
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func coalesce(t *testing.T, conn *net.UDPConn) *udp.Conn {
	t.Helper()
	c, ok := udp.Coalesce(conn).(*udp.Conn)
	if !ok {
		t.Skip("this kernel does not join datagrams")
	}
	return c
}

// sendJoined writes data as datagrams of size bytes in one system call.
func sendJoined(t *testing.T, from *net.UDPConn, to net.Addr, data []byte, size uint16) {
	t.Helper()
	control := make([]byte, unix.CmsgSpace(2))
	header := (*unix.Cmsghdr)(unsafe.Pointer(&control[0]))
	header.Level, header.Type = unix.IPPROTO_UDP, unix.UDP_SEGMENT
	header.SetLen(unix.CmsgLen(2))
	binary.NativeEndian.PutUint16(control[unix.CmsgSpace(0):], size)
	if _, _, err := from.WriteMsgUDP(data, control, to.(*net.UDPAddr)); err != nil {
		t.Fatal(err)
	}
}

type datagram struct {
	data string
	from string
	oob  []byte
}

// receive reads n datagrams as quic-go does: some at a time, into its buffers.
func receive(t *testing.T, c *udp.Conn, n int) []datagram {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	var got []datagram
	for len(got) < n {
		messages := make([]ipv4.Message, 3)
		for i := range messages {
			messages[i].Buffers = [][]byte{make([]byte, 1452)}
			messages[i].OOB = make([]byte, 128)
		}
		read, err := c.ReadBatch(messages, 0)
		if err != nil {
			t.Fatalf("after %d datagrams: %v", len(got), err)
		}
		for _, m := range messages[:read] {
			got = append(got, datagram{string(m.Buffers[0][:m.N]), m.Addr.String(), m.OOB[:m.NN]})
		}
	}
	return got
}

func TestJoinedDatagramsAreDivided(t *testing.T) {
	c := coalesce(t, listen(t))
	sender := listen(t)
	data := make([]byte, 7*1200+300)
	for i := range data {
		data[i] = byte(i / 100)
	}
	sendJoined(t, sender, c.LocalAddr(), data, 1200)
	got := receive(t, c, 8)
	var all string
	for i, d := range got {
		if want := min(1200, len(data)-i*1200); len(d.data) != want {
			t.Errorf("datagram %d has %d bytes, not %d", i, len(d.data), want)
		}
		if d.from != sender.LocalAddr().String() {
			t.Errorf("datagram %d is from %s", i, d.from)
		}
		all += d.data
	}
	if all != string(data) {
		t.Error("the bytes are not those that were sent")
	}
}

func TestDatagramsOfManySendersStayApart(t *testing.T) {
	c := coalesce(t, listen(t))
	for i := range 10 {
		sender := listen(t)
		long := make([]byte, 2000) // longer than the reader's buffer
		long[0] = byte(i)
		for _, b := range [][]byte{{byte(i)}, {}, long, {byte(i), 1}} {
			if _, err := sender.WriteTo(b, c.LocalAddr()); err != nil {
				t.Fatal(err)
			}
		}
		var sizes []int
		for _, d := range receive(t, c, 4) {
			sizes = append(sizes, len(d.data))
			if d.from != sender.LocalAddr().String() || len(d.data) > 0 && d.data[0] != byte(i) {
				t.Errorf("%q of %s is not of sender %d", d.data[:1], d.from, i)
			}
		}
		if len(sizes) != 4 || sizes[0] != 1 || sizes[1] != 0 || sizes[2] != 1452 || sizes[3] != 2 {
			t.Errorf("datagrams of 1, 0, 2000 and 2 bytes arrived with %v", sizes)
		}
	}
}

// Each datagram keeps the control messages of those it was joined with: quic-go
// reads congestion marks there.
func TestControlMessagesGoToEachDatagram(t *testing.T) {
	conn := listen(t)
	raw, err := conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_RECVTOS, 1) }); err != nil {
		t.Fatal(err)
	}
	c := coalesce(t, conn)
	sender := listen(t)
	if err := ipv4.NewConn(sender).SetTOS(2); err != nil {
		t.Fatal(err)
	}
	sendJoined(t, sender, c.LocalAddr(), make([]byte, 3000), 1000)
	for i, d := range receive(t, c, 3) {
		messages, err := unix.ParseSocketControlMessage(d.oob)
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for _, m := range messages {
			found = found || m.Header.Level == unix.IPPROTO_IP && m.Header.Type == unix.IP_TOS && m.Data[0] == 2
		}
		if !found {
			t.Errorf("datagram %d lost its traffic class: %v", i, messages)
		}
	}
}

func TestDeadlineEndsTheWait(t *testing.T) {
	c := coalesce(t, listen(t))
	if err := c.SetReadDeadline(time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	messages := []ipv4.Message{{Buffers: [][]byte{make([]byte, 10)}}}
	if n, err := c.ReadBatch(messages, 0); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("%d, %v", n, err)
	}
	sender := listen(t)
	if _, err := sender.WriteTo([]byte("x"), c.LocalAddr()); err != nil {
		t.Fatal(err)
	}
	if got := receive(t, c, 1); got[0].data != "x" {
		t.Errorf("%q", got[0].data)
	}
}
