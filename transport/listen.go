package transport

import (
	"fmt"
	"net"

	"rustmq.dev/rustmq/storage/guard"
)

// GuardListen refuses to bind anything but loopback while nothing
// authenticates clients, unless the operator insists.
func GuardListen(bind string, allowInsecure bool) error {
	ip := net.ParseIP(bind)
	loopback := bind == "localhost" || (ip != nil && ip.IsLoopback())
	if guard.Check("transport.loopback", loopback || allowInsecure) {
		return nil
	}
	return fmt.Errorf("network.bind = %q would serve anyone who reaches it, for clients are not authenticated: "+
		"bind 127.0.0.1, or set security.allow_insecure = true if the network is yours alone", bind)
}

// GuardBound refuses the address that a listener has got where [GuardListen] would
// have, had it been written as one: a name is whatever the hosts file or a name server
// says. Who writes localhost wants loopback, insisting or not.
func GuardBound(bind string, bound net.Addr, allowInsecure bool) error {
	var ip net.IP
	switch a := bound.(type) {
	case *net.TCPAddr:
		ip = a.IP
	case *net.UDPAddr:
		ip = a.IP
	}
	if guard.Check("transport.bound-loopback", ip.IsLoopback() || (allowInsecure && bind != "localhost")) {
		return nil
	}
	return fmt.Errorf("network.bind = %q has become %v on this machine, which others may reach: write 127.0.0.1 or ::1", bind, bound)
}
