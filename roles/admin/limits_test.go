package admin

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// pipes is a listener of connections in memory, which hold no bytes between the two.
type pipes struct {
	accepted chan net.Conn
	closed   chan struct{}
}

func listenPipes() *pipes { return &pipes{make(chan net.Conn), make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.accepted:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { close(p.closed); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

func (p *pipes) dial() net.Conn {
	near, far := net.Pipe()
	p.accepted <- far
	return near
}

const aRequest = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"

// An answer that nobody takes is given up after writeTimeout, and the next of its
// connection with it.
func TestAnswerThatNobodyTakesEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		failed := make(chan error, 1)
		began := time.Now()
		server := &http.Server{Handler: boundWrites(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			time.Sleep(time.Minute) // an answer may take its time to be made
			_, err := w.Write(make([]byte, 4*writeChunk))
			failed <- err
		}))}
		l := listenPipes()
		go func() { _ = server.Serve(l) }() // ends with the listener
		c := l.dial()
		if _, err := io.WriteString(c, aRequest); err != nil {
			t.Fatal(err)
		}
		if err := <-failed; err == nil {
			t.Error("an answer was written to nobody")
		}
		if took := time.Since(began); took != time.Minute+writeTimeout {
			t.Errorf("it took %v", took)
		}
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
}

// Who takes an answer slowly, but as fast as is asked for, gets all of it, and the next
// one.
func TestSlowReaderGetsItsAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := &http.Server{Handler: boundWrites(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write(make([]byte, 8*writeChunk)) // an error is seen by the client
		}))}
		l := listenPipes()
		go func() { _ = server.Serve(l) }() // ends with the listener
		c := l.dial()
		r := bufio.NewReader(c)
		for range 2 {
			if _, err := io.WriteString(c, aRequest); err != nil {
				t.Fatal(err)
			}
			resp, err := http.ReadResponse(r, nil)
			if err != nil {
				t.Fatal(err)
			}
			n := 0
			for part := make([]byte, writeChunk/2); ; {
				time.Sleep(writeTimeout / 3)
				m, err := io.ReadFull(resp.Body, part)
				if n += m; err != nil {
					break
				}
			}
			if n != 8*writeChunk {
				t.Errorf("it got %d bytes of %d", n, 8*writeChunk)
			}
			time.Sleep(2 * writeTimeout)
		}
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
}

// Beyond the connections that there are places for a new one is closed, until another is.
func TestConnectionsAreLimited(t *testing.T) {
	l := listenPipes()
	of := newLimited(l, 2, each(2))
	accepted := make(chan net.Conn)
	go func() {
		for {
			c, err := of.Accept()
			if err != nil {
				close(accepted)
				return
			}
			accepted <- c
		}
	}()
	l.dial()
	first := <-accepted
	l.dial()
	<-accepted
	if _, err := l.dial().Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("one too many: %v", err)
	}
	for range 2 { // closed twice, one place is free
		if err := first.Close(); err != nil {
			t.Error(err)
		}
	}
	l.dial()
	<-accepted
	if _, err := l.dial().Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("one too many again: %v", err)
	}
	if err := of.Close(); err != nil {
		t.Error(err)
	}
	<-accepted
}

// Who opens all connections and says nothing, or half of a head, keeps nobody out; who is served
// is not cut off for others.
func TestSilentConnectionsGiveWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		goOn := make(chan struct{})
		server := &http.Server{ConnContext: withPlace, Handler: keepsPlaces(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/slow" {
				<-goOn
			}
		}))}
		q := listenPipes()
		go func() { _ = server.Serve(newLimited(q, 8, each(100))) }() // ends with the listener
		ask := func(path string) (net.Conn, chan error) {
			c, answered := q.dial(), make(chan error, 1)
			go func() {
				_, err := io.WriteString(c, "GET "+path+" HTTP/1.1\r\nHost: localhost\r\n\r\n")
				if err == nil {
					_, err = http.ReadResponse(bufio.NewReader(c), nil)
				}
				answered <- err
			}()
			return c, answered
		}
		slow, served := ask("/slow")
		synctest.Wait()
		var silent []net.Conn
		for i := range 30 {
			c := q.dial()
			silent = append(silent, c)
			if i%2 == 0 {
				go func() { _, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost:") }()
			}
			synctest.Wait()
		}
		for range 3 {
			c, answered := ask("/")
			silent = append(silent, c)
			if err := <-answered; err != nil {
				t.Errorf("beside silent ones: %v", err)
			}
		}
		close(goOn)
		if err := <-served; err != nil {
			t.Errorf("what was being served: %v", err)
		}
		for _, c := range append(silent, slow) {
			_ = c.Close()
		}
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
}

// Beyond the requests that may be under way one is told to come again.
func TestRequestsAreLimited(t *testing.T) {
	begun, goOn := make(chan bool), make(chan bool)
	h := limitRequests(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { begun <- true; <-goOn }), 1)
	ask := func() *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
		return w
	}
	ended := make(chan *httptest.ResponseRecorder)
	go func() { ended <- ask() }()
	<-begun
	if w := ask(); w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
		t.Errorf("one too many: %d", w.Code)
	}
	goOn <- true
	if w := <-ended; w.Code != http.StatusOK {
		t.Errorf("the first: %d", w.Code)
	}
	go func() { ended <- ask() }()
	<-begun
	goOn <- true
	if w := <-ended; w.Code != http.StatusOK {
		t.Errorf("the next: %d", w.Code)
	}
}

// each is how many connections an address may have.
func each(n int64) *atomic.Int64 {
	var is atomic.Int64
	is.Store(n)
	return &is
}
