//go:build !linux

package udp

import "net"

// Coalesce returns conn.
func Coalesce(conn *net.UDPConn) net.PacketConn { return conn }
