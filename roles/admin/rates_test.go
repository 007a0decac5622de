package admin

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

// calls serves calls of an address at the time of the bubble, as fast as it can.
func calls(t *testing.T, h http.Handler, remote, method, path string, n int) (served int, last *httptest.ResponseRecorder) {
	t.Helper()
	for range n {
		r := httptest.NewRequest(method, path, nil)
		r.RemoteAddr = remote
		last = httptest.NewRecorder()
		h.ServeHTTP(last, r)
		if last.Code == http.StatusNoContent {
			served++
		}
	}
	return served, last
}

func limitedBy(total, address int) http.Handler {
	return limitRates(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }), newRateLimits(total, address), time.Now)
}

// Calls are served up to a burst, and then at their rate: of an address, of a class, and of all.
func TestCallsAreServedAtTheirRate(t *testing.T) {
	const reads, writes, heavy = "/api/v1/topics", "/api/v1/topics", "/api/v1/storage/check"
	synctest.Test(t, func(t *testing.T) {
		h := limitedBy(1000, 10)
		served, last := calls(t, h, "10.0.0.1:1", http.MethodGet, reads, 60)
		if served != 40 || last.Code != http.StatusTooManyRequests || last.Header().Get("Retry-After") != "1" ||
			last.Header().Get("RateLimit-Limit") != "40" || last.Header().Get("RateLimit-Remaining") != "0" || last.Header().Get("RateLimit-Reset") != "4" {
			t.Errorf("%d served, then %d %v", served, last.Code, last.Header())
		}
		if served, last := calls(t, h, "10.0.0.2:1", http.MethodGet, reads, 1); served != 1 || last.Header().Get("RateLimit-Remaining") != "39" || last.Header().Get("RateLimit-Reset") != "1" {
			t.Errorf("from elsewhere: %d, %v", served, last.Header())
		}
		time.Sleep(time.Second)
		if served, _ := calls(t, h, "10.0.0.1:2", http.MethodGet, reads, 60); served != 10 {
			t.Errorf("%d served a second later", served)
		}
		// Of what is scarce there is less, and a bucket of its own.
		for _, c := range []struct {
			method, path string
			want         int
		}{{http.MethodPost, writes, 20}, {http.MethodPost, heavy, 20}, {http.MethodGet, auditPath + "/verify", 20}, {http.MethodPost, sessionPath, 20}, {http.MethodDelete, sessionPath, 20}} {
			if served, _ := calls(t, h, "10.1.0."+fmt.Sprint(len(c.path)+len(c.method))+":1", c.method, c.path, 30); served != c.want {
				t.Errorf("%s %s: %d served, want %d", c.method, c.path, served, c.want)
			}
		}
	})
}

func TestAllTogetherHaveARate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, served := limitedBy(10, 1000), 0
		for i := range 100 {
			n, _ := calls(t, h, fmt.Sprintf("10.0.0.%d:1", i), http.MethodGet, "/api/v1/topics", 1)
			served += n
		}
		if served != 40 {
			t.Errorf("%d served", served)
		}
	})
}

// Whoever has a whole /64 is one caller, and the most callers that are remembered are bounded.
func TestCallersAreCountedByWhatTheyCannotChoose(t *testing.T) {
	l, now := newRateLimits(1_000_000, 5), time.Unix(1000, 0)
	served := 0
	for i := range 100 {
		if l.call(now, netip.MustParseAddr(fmt.Sprintf("2001:db8::%x", i)), classRead).allowed {
			served++
		}
	}
	if served != 20 {
		t.Errorf("%d served to one /64", served)
	}
	for i := range maxRateCounts + 10 {
		l.call(now, netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), classRead)
	}
	if len(l.known) != maxRateCounts || l.order.Len() != maxRateCounts {
		t.Errorf("%d callers are remembered", len(l.known))
	}
	if !l.call(now, netip.Addr{}, classRead).allowed {
		t.Error("a caller without an address has none")
	}
}

// from is a connection of an address.
type from struct {
	net.Conn
	at string
}

func (c from) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(c.at)) }

// queue is a listener with connections of addresses.
type queue struct {
	net.Listener
	coming []string
}

func (q *queue) Accept() (net.Conn, error) {
	if len(q.coming) == 0 {
		return nil, net.ErrClosed
	}
	near, far := net.Pipe()
	_ = far.Close()
	at := q.coming[0]
	q.coming = q.coming[1:]
	return from{near, at}, nil
}

// One address cannot have all connections, unless it is this machine.
func TestConnectionsOfAnAddressAreBounded(t *testing.T) {
	q := &queue{coming: []string{"10.0.0.1:1", "10.0.0.1:2", "10.0.0.1:3", "10.0.0.2:1", "127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3", "10.0.0.3:1"}}
	l := newLimited(q, 20, each(2))
	var open []net.Conn
	for {
		c, err := l.Accept()
		if err != nil {
			break
		}
		open = append(open, c)
	}
	if len(open) != 7 { // but 10.0.0.1:3
		t.Errorf("%d are open", len(open))
	}
	for _, c := range open {
		_ = c.Close()
		_ = c.Close()
	}
	if len(l.from) != 0 || len(l.places) != 0 {
		t.Errorf("%v, %d are counted still", l.from, len(l.places))
	}
}
