package transport

import (
	"math"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// tcpInfo asks the kernel for segments with data that were sent, those that were sent again, and the
// shortest round trip.
func tcpInfo(c *net.TCPConn) (segments, resent uint64, rtt time.Duration) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, 0, 0
	}
	_ = raw.Control(func(fd uintptr) { // the connection may be closed: no figures then
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		if err == nil {
			segments, resent = uint64(info.Data_segs_out), uint64(info.Total_retrans)
			if info.Min_rtt != math.MaxUint32 { // no sample yet
				rtt = time.Duration(info.Min_rtt) * time.Microsecond
			}
		}
	})
	return segments, resent, rtt
}
