package kafka_test

import (
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"rustmq.dev/rustmq/transport/kafka"
)

// pace lets the connections of an address come every so often, and all of them.
type pace struct {
	mu    sync.Mutex
	every time.Duration
	all   time.Duration
	next  map[string]time.Time
}

func (p *pace) Arrive(remote net.Addr, mayWait bool) (time.Duration, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if early := time.Until(p.next[kafka.AddressOf(remote)]); early > 0 {
		return early, false
	}
	p.next[kafka.AddressOf(remote)] = time.Now().Add(p.every)
	return p.all, mayWait || p.all == 0
}

func (p *pace) Suspects(net.Addr) bool { return false }

// doorway is a listener whose connections come by a channel.
type doorway struct {
	come chan net.Conn
	gone chan struct{}
	once sync.Once
}

func newDoorway() *doorway { return &doorway{come: make(chan net.Conn), gone: make(chan struct{})} }

func (d *doorway) Accept() (net.Conn, error) {
	select {
	case conn := <-d.come:
		return conn, nil
	case <-d.gone:
		return nil, net.ErrClosed
	}
}

func (d *doorway) Close() error {
	d.once.Do(func() { close(d.gone) })
	return nil
}

func (d *doorway) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }

// dial comes in from an address; ended tells when the server has closed it.
func (d *doorway) dial(ip string) (client net.Conn, ended <-chan time.Time) {
	client, server := net.Pipe()
	d.come <- addressed{server, &net.TCPAddr{IP: net.ParseIP(ip)}}
	at := make(chan time.Time, 1)
	go func() {
		_, _ = client.Read(make([]byte, 1)) // its error is the end
		at <- time.Now()
	}()
	return client, at
}

func serveDoorway(t *testing.T, o kafka.Options) (*kafka.Server, *doorway) {
	s, d := kafka.New(o), newDoorway()
	ended := make(chan error, 1)
	go func() { ended <- s.ServeListener(d, "kafka") }()
	t.Cleanup(func() {
		if err := <-ended; err != kafka.ErrServerClosed {
			t.Errorf("the listener ended with %v", err)
		}
	})
	return s, d
}

// A connection that its address opens too early gets nothing, is held for as long as it
// should have waited, and then closed; others come in meanwhile.
func TestEarlyConnectionsAreHeldAndClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		seen := newCounts()
		s, d := serveDoorway(t, kafka.Options{Handler: newBroker(), Metrics: seen, Arrivals: &pace{every: 700 * time.Millisecond, next: map[string]time.Time{}}})
		began := time.Now()
		_, first := d.dial("10.0.0.1")
		_, early := d.dial("10.0.0.1")
		other, _ := d.dial("10.0.0.2")
		if _, err := other.Write(frame(18, 0, 1, nil)); err != nil {
			t.Error("another address is not served:", err)
		}
		if at := <-early; at.Sub(began) != 700*time.Millisecond {
			t.Errorf("the early one ended after %v", at.Sub(began))
		}
		if n := seen.get(seen.refused, "connection_creation_rate"); n != 1 || len(first) != 0 {
			t.Errorf("refused: %v; the first has ended: %v", seen.refused, len(first) != 0)
		}
		closeServer(t, s)
	})
}

// Only so many are held, however many come; the end of the server is theirs.
func TestFewEarlyConnectionsAreHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, d := serveDoorway(t, kafka.Options{Handler: newBroker(), Arrivals: &pace{every: time.Hour, next: map[string]time.Time{}}})
		began := time.Now()
		_, first := d.dial("10.0.0.1")
		const held = 1000
		var ends []<-chan time.Time
		for range held + 1 {
			_, ended := d.dial("10.0.0.1")
			ends = append(ends, ended)
		}
		synctest.Wait()
		for i, ended := range ends {
			if over := i == held; (len(ended) == 1) != over {
				t.Fatalf("early connection %d: ended %v", i, !over)
			}
		}
		time.Sleep(time.Second) // of the bubble
		closeServer(t, s)
		for i, ended := range append(ends[:held:held], first) {
			if at := <-ended; at.Sub(began) != time.Second {
				t.Fatalf("connection %d ended after %v", i, at.Sub(began))
			}
		}
	})
}

// A listener that must not take more waits, and what comes then is served all the same.
func TestListenersSlowDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker()
		s, d := serveDoorway(t, kafka.Options{Handler: b, Arrivals: &pace{all: 200 * time.Millisecond, next: map[string]time.Time{}}})
		began := time.Now()
		for range 5 {
			d.dial("10.0.0.1")
		}
		d.dial("10.0.0.2")
		if took := time.Since(began); took != time.Second {
			t.Errorf("six connections came within %v", took)
		}
		// The end of the server ends its pause.
		s2, d2 := serveDoorway(t, kafka.Options{Handler: b, Arrivals: &pace{all: time.Hour, next: map[string]time.Time{}}})
		d2.dial("10.0.0.1")
		synctest.Wait()
		closeServer(t, s2)
		closeServer(t, s)
	})
}
