// Package udp lets quic-go read many datagrams with one system call.
//
// Owns the reading of a UDP socket. Never touches writing, addresses or what a
// datagram holds.
//
// Linux joins datagrams of one sender that arrive together (UDP_GRO, Linux 5.0),
// and a sender's large writes (UDP_SEGMENT) stay joined on the way through
// loopback. quic-go reads a datagram a message; a [Conn] takes them joined and
// hands them on one by one. Elsewhere, and where the kernel refuses, [Coalesce]
// returns the socket as it is.
//
// Concurrency: ReadBatch and ReadMsgUDP have one caller at a time, as quic-go
// has; the rest is that of net.UDPConn. Bytes: 256 KiB a socket.
package udp
