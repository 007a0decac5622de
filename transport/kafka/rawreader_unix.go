//go:build unix

package kafka

import (
	"io"
	"net"
	"os"
	"syscall"
)

// rawReader reads from a socket and takes a buffer only once there is something
// to read: thousands of connections that wait hold none.
type rawReader struct {
	conn syscall.RawConn
	try  func(fd uintptr) bool // made once
	in   *reader
	n    int
	err  error
}

// newRawReader returns nil where conn is no plain socket.
func newRawReader(conn net.Conn) *rawReader {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return nil
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nil
	}
	r := &rawReader{conn: raw}
	r.try = r.readNow
	return r
}

// read waits for bytes and reads them into a buffer that it gives to in.
func (r *rawReader) read(in *reader) (int, error) {
	r.in = in
	if err := r.conn.Read(r.try); err != nil {
		return 0, err
	}
	return r.n, r.err
}

// readNow reports false when there is nothing yet.
func (r *rawReader) readNow(fd uintptr) bool {
	r.in.take()
	for {
		n, err := syscall.Read(int(fd), r.in.buf)
		switch {
		case err == syscall.EINTR:
			continue
		case err == syscall.EAGAIN:
			r.in.drop()
			return false
		case err != nil:
			r.n, r.err = 0, os.NewSyscallError("read", err)
		case n == 0:
			r.n, r.err = 0, io.EOF
		default:
			r.n, r.err = n, nil
		}
		return true
	}
}
