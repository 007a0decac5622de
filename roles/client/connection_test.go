package client

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"rustmq.dev/rustmq/security/pki"
)

// tlsBroker speaks TLS only, and returns the file of its CA.
func tlsBroker(t *testing.T) (addr, ca string) {
	t.Helper()
	dir := t.TempDir()
	cert, err := pki.Development(dir, []string{"127.0.0.1"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	_, addr = broker(t, kfake.TLS(&tls.Config{Certificates: []tls.Certificate{cert}}))
	return addr, filepath.Join(dir, pki.CAFile)
}

func TestTLS(t *testing.T) {
	addr, ca := tlsBroker(t)
	if _, stderr := rustmq(t, "x\n", "produce", "t", "-b", addr, "--tls", "--cafile", ca); !strings.HasPrefix(stderr, "1 record acked") {
		t.Error(stderr)
	}
}

// TestUnreachableSaysWhatToDo has a line for each way in which nobody answers.
func TestUnreachableSaysWhatToDo(t *testing.T) {
	secure, ca := tlsBroker(t)
	_, plain := broker(t)
	web := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(web.Close)
	notPEM := writeFile(t, "ca.pem", "nothing")
	for _, c := range []struct{ flags, want string }{
		{"-b 127.0.0.1:1", "no broker answers at 127.0.0.1:1 over TCP or QUIC: "},
		{"-b 127.0.0.1:1", "start one with `rustmq serve`"},
		{"-b 127.0.0.1:1,127.0.0.1:2 --transport tcp", "no broker answers at 127.0.0.1:1,127.0.0.1:2 over TCP"},
		{"-b 127.0.0.1:1 --transport quic", "no broker answers at 127.0.0.1:1 over QUIC: "},
		{"-b 127.0.0.1:1 --tls", "over TLS or QUIC"},
		{"-b " + secure + " --tls", "--cafile"},
		{"-b " + secure, "try --tls"},
		{"-b " + plain + " --tls --cafile " + ca, "leave --tls out"},
		{"-b " + web.Listener.Addr().String(), "it may be starting or stuck (curl http://127.0.0.1:9642/readyz), or speak TLS: try --tls, or another port"},
		{"-b " + plain + " --tls --cafile " + notPEM, "no certificate in " + notPEM},
		{"-b " + plain + " --transport quic --cafile /nowhere/ca.pem", "(--cafile): open /nowhere/ca.pem: no such file or directory; `rustmq serve` prints"},
	} {
		t.Run(c.flags, func(t *testing.T) {
			t.Parallel() // some wait for an answer that never comes
			if err := fails(t, "x\n", append([]string{"produce", "t"}, strings.Fields(c.flags)...)...); !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want …%s", err, c.want)
			}
		})
	}
}

func TestAddressesHavePorts(t *testing.T) {
	c := connection{brokers: "a, b:1,[::1]:2,::1,[::1],127.0.0.1"}
	if got := strings.Join(c.addresses(), " "); got != "a:9092 b:1 [::1]:2 [::1]:9092 [::1]:9092 127.0.0.1:9092" {
		t.Error(got)
	}
}

// TestInterruptEndsADial holds that Ctrl-C need not wait for a host that drops
// packets: 192.0.2.1 is nobody's (RFC 5737).
func TestInterruptEndsADial(t *testing.T) {
	for _, transport := range []string{"tcp", "auto"} {
		ctx, interrupt := context.WithTimeout(t.Context(), 100*time.Millisecond)
		w := newWorld("x\n")
		began := time.Now()
		if err := w.run(ctx, "produce", "t", "-b", "192.0.2.1:9092", "--transport", transport); err == nil {
			t.Error("somebody answered")
		}
		if took := time.Since(began); took > 8*time.Second { // less than a dial may take
			t.Errorf("%s: took %v", transport, took)
		}
		interrupt()
	}
}

// TestInterruptBeforeABrokerAnswers has one that accepts connections only.
func TestInterruptBeforeABrokerAnswers(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	ended := make(chan error, 1)
	w := newWorld("")
	go func() { ended <- w.run(ctx, "consume", "t", "-b", l.Addr().String(), "--transport", "tcp") }()
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	interrupt()
	if err := <-ended; err == nil || err.Error() != "interrupted before a broker answered at "+l.Addr().String()+" over TCP" {
		t.Error(err)
	}
}
