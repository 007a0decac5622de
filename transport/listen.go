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
