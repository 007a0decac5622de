//go:build !linux

package transport

import (
	"net"
	"time"
)

// tcpInfo says nothing where the kernel is not Linux.
func tcpInfo(*net.TCPConn) (segments, resent uint64, rtt time.Duration) { return 0, 0, 0 }
