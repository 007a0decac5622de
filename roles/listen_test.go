package roles

import (
	"errors"
	"net"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// An address that is not loopback stands for a localhost that a hosts file gives one.
func TestListenersOfOtherAddressesAreClosedAgain(t *testing.T) {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := free.Addr().(*net.TCPAddr).Port
	if err := free.Close(); err != nil {
		t.Fatal(err)
	}
	for _, udp := range []bool{false, true} {
		if _, _, err := new(Machine).listenKafka("0.0.0.0", "network.kafka_port", port, udp, false); err == nil || !strings.Contains(err.Error(), "network.bind") {
			t.Errorf("Kafka, udp %v: %v", udp, err)
		}
	}
	if _, err := new(Machine).listenTCP("0.0.0.0", port, "network.http_port", false); err == nil || !strings.Contains(err.Error(), "network.bind") {
		t.Errorf("HTTP: %v", err)
	}
	l, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("somebody still listens: %v, %v", l, err)
	}
}
