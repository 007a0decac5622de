package transport_test

import (
	"net"
	"strings"
	"testing"

	"rustmq.dev/rustmq/transport"
)

func TestOnlyLoopbackIsBoundUnlessInsisted(t *testing.T) {
	for _, bind := range []string{"127.0.0.1", "127.1.2.3", "::1", "localhost"} {
		if err := transport.GuardListen(bind, false); err != nil {
			t.Errorf("%s: %v", bind, err)
		}
	}
	for _, bind := range []string{"0.0.0.0", "::", "10.0.0.1", "192.168.1.1", "::ffff:10.0.0.1", ""} {
		err := transport.GuardListen(bind, false)
		if err == nil || !strings.Contains(err.Error(), "security.allow_insecure") {
			t.Errorf("%s: %v", bind, err)
		}
		if err := transport.GuardListen(bind, true); err != nil {
			t.Errorf("%s, insisted: %v", bind, err)
		}
	}
}

func TestWhatWasBoundIsJudgedToo(t *testing.T) {
	for _, test := range []struct {
		bind, bound string
		insist, ok  bool
	}{
		{"127.0.0.1", "127.0.0.1", false, true},
		{"::1", "::1", false, true},
		{"localhost", "127.0.0.1", false, true},
		{"localhost", "::1", true, true},
		{"localhost", "192.0.2.2", false, false},
		{"localhost", "192.0.2.2", true, false},
		{"localhost", "::", false, false},
		{"localhost", "0.0.0.0", true, false},
		{"0.0.0.0", "::", true, true},
		{"0.0.0.0", "::", false, false},
	} {
		ip := net.ParseIP(test.bound)
		for _, addr := range []net.Addr{&net.TCPAddr{IP: ip, Port: 9092}, &net.UDPAddr{IP: ip, Port: 9092}} {
			if err := transport.GuardBound(test.bind, addr, test.insist); (err == nil) != test.ok {
				t.Errorf("%s has become %s %v, insisted %v: %v", test.bind, addr.Network(), addr, test.insist, err)
			}
		}
	}
	if err := transport.GuardBound("localhost", &net.UnixAddr{Name: "/s"}, false); err == nil {
		t.Error("an address of no kind that is known is let through")
	}
}
