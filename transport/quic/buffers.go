package quic

import (
	"log/slog"
	"net"
	"syscall"
)

// growBuffers asks the kernel for the buffers that QUIC wants, and says what to
// do when it gives less: a 104 KiB buffer costs a third of the rate.
func growBuffers(conn *net.UDPConn, log *slog.Logger) {
	// What the kernel gives is read back below.
	_ = conn.SetReadBuffer(askedBuffer)
	_ = conn.SetWriteBuffer(askedBuffer)
	raw, err := conn.SyscallConn()
	if err != nil {
		return
	}
	var receive, send int
	if err := raw.Control(func(fd uintptr) {
		receive, send = bufferSize(fd, syscall.SO_RCVBUF), bufferSize(fd, syscall.SO_SNDBUF)
	}); err != nil {
		return
	}
	if min(receive, send) < WantedBuffer {
		log.Warn("small UDP buffers make QUIC slow: set net.core.rmem_max and net.core.wmem_max to 7340032",
			"receive_bytes", receive, "send_bytes", send, "wanted_bytes", WantedBuffer)
	}
}

func bufferSize(fd uintptr, option int) int {
	n, err := syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, option)
	if err != nil {
		return WantedBuffer // not known: no reason to warn
	}
	return n / 2 // Linux counts its own overhead
}
