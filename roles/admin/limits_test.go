package admin

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
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
	of := newLimited(l, 2, 2)
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
