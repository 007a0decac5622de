//go:build chaos

package chaos

import (
	"bytes"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
)

// s3 is an S3 server in this process, behind whatever may happen to its requests.
type s3 struct {
	inner   http.Handler
	backend *s3mem.Backend
	addr    string

	requests, hit atomic.Int64 // all of them, and those that met a fault

	mu     sync.Mutex
	server *http.Server
	fault  fault         // nil: none
	healed chan struct{} // closed when the fault is over
}

// fault does with a request what it likes; healed is closed when it is to end.
// Panicking with http.ErrAbortHandler cuts the connection.
type fault func(s *s3, w http.ResponseWriter, r *http.Request, healed <-chan struct{})

func newS3(t *testing.T) *s3 {
	t.Helper()
	backend := s3mem.New()
	must(t, backend.CreateBucket("bench"))
	s := &s3{inner: gofakes3.New(backend).Server(), backend: backend, addr: "127.0.0.1:0"}
	must(t, s.open())
	t.Cleanup(func() {
		s.heal()
		s.shut()
	})
	return s
}

// url is how a server reaches it.
func (s *s3) url() string {
	return "s3://bench?region=us-east-1&use_path_style=true&endpoint=" + url.QueryEscape("http://"+s.addr)
}

// open listens, again where it did before.
func (s *s3) open() error {
	l, err := net.Listen("tcp", s.addr)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.addr = l.Addr().String()
	s.server = &http.Server{Handler: s, ErrorLog: log.New(io.Discard, "", 0)}
	go s.server.Serve(l) // ends with shut
	return nil
}

// shut refuses connections, and cuts those that there are.
func (s *s3) shut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.server.Close() // it has nothing to lose
}

func (s *s3) suffer(f fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault, s.healed = f, make(chan struct{})
	s.hit.Store(0)
}

func (s *s3) heal() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fault != nil {
		close(s.healed)
	}
	s.fault = nil
}

// ServeHTTP implements http.Handler.
func (s *s3) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.requests.Add(1)
	s.mu.Lock()
	f, healed := s.fault, s.healed
	s.mu.Unlock()
	if f == nil {
		s.inner.ServeHTTP(w, r)
		return
	}
	f(s, w, r, healed)
}

// count waits, and returns how many requests came meanwhile.
func (s *s3) count(during time.Duration) int64 {
	before := s.requests.Load()
	<-time.After(during)
	return s.requests.Load() - before
}

// objects counts the keys of objects.
func (s *s3) objects() (count int64, err error) {
	err = s.each(func(key string) error {
		if strings.Contains(key, "/data/") {
			count++
		}
		return nil
	})
	return count, err
}

// each visits all keys.
func (s *s3) each(visit func(key string) error) error {
	page := gofakes3.ListBucketPage{}
	for {
		list, err := s.backend.ListBucket("bench", &gofakes3.Prefix{}, page)
		if err != nil {
			return err
		}
		for _, c := range list.Contents {
			if err := visit(c.Key); err != nil {
				return fmt.Errorf("%s: %w", c.Key, err)
			}
		}
		if !list.IsTruncated {
			return nil
		}
		page = gofakes3.ListBucketPage{Marker: list.NextMarker, HasMarker: true}
	}
}

// throttled answers all with 503.
func throttled(s *s3, w http.ResponseWriter, r *http.Request, _ <-chan struct{}) {
	s.hit.Add(1)
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(http.StatusServiceUnavailable)
	_, _ = io.WriteString(w, `<?xml version="1.0" encoding="UTF-8"?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>`)
}

// hanging takes requests and never answers.
func hanging(s *s3, _ http.ResponseWriter, r *http.Request, healed <-chan struct{}) {
	s.hit.Add(1)
	_, _ = io.Copy(io.Discard, r.Body) // else nobody notices that the client went
	select {
	case <-healed:
	case <-r.Context().Done():
	}
	panic(http.ErrAbortHandler)
}

// dripping moves a byte a second of every body, in either direction.
func dripping(s *s3, w http.ResponseWriter, r *http.Request, healed <-chan struct{}) {
	s.hit.Add(1)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	second := func() {
		select {
		case <-tick.C:
		case <-healed:
			panic(http.ErrAbortHandler)
		case <-r.Context().Done():
			panic(http.ErrAbortHandler)
		}
	}
	if r.Method == http.MethodPut {
		for b := make([]byte, 1); ; {
			if _, err := r.Body.Read(b); err != nil {
				panic(http.ErrAbortHandler)
			}
			second()
		}
	}
	done, body := s.pass(r)
	copyHeader(w, done)
	for i := range body {
		_, _ = w.Write(body[i : i+1])
		_ = http.NewResponseController(w).Flush()
		second()
	}
}

// forgetful does what it is asked, and does not answer.
func forgetful(s *s3, _ http.ResponseWriter, r *http.Request, _ <-chan struct{}) {
	s.hit.Add(1)
	s.pass(r)
	panic(http.ErrAbortHandler)
}

// truncating answers with half of each body.
func truncating(s *s3, w http.ResponseWriter, r *http.Request, _ <-chan struct{}) {
	done, body := s.pass(r)
	copyHeader(w, done)
	_, _ = w.Write(body[:len(body)/2])
	if r.Method == http.MethodGet && len(body) > 0 {
		s.hit.Add(1)
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
}

// flipping changes a bit of the body of each object that is read, which no
// transport notices.
func flipping(s *s3, w http.ResponseWriter, r *http.Request, _ <-chan struct{}) {
	done, body := s.pass(r)
	if r.Method == http.MethodGet && len(body) > 0 && done.Code < 300 {
		s.hit.Add(1)
		at, bit := rand.IntN(len(body)), rand.IntN(8)
		if strings.HasSuffix(r.URL.Path, "/nonce") { // one digit becomes another
			at, bit = bytes.IndexAny(body, "0123456789"), 0
		}
		body[at] ^= 1 << bit
	}
	copyHeader(w, done)
	_, _ = w.Write(body)
}

// staleLists returns a fault that answers each list as it would have been when the
// fault was made: what came since is not listed, what is gone since is.
func (s *s3) staleLists(t *testing.T) fault {
	t.Helper()
	old := s3mem.New()
	must(t, old.CreateBucket("bench"))
	must(t, s.each(func(key string) error {
		o, err := s.backend.GetObject("bench", key, nil)
		if err != nil {
			return err
		}
		defer o.Contents.Close()
		_, err = old.PutObject("bench", key, o.Metadata, o.Contents, o.Size, nil)
		return err
	}))
	listed := gofakes3.New(old).Server()
	return func(s *s3, w http.ResponseWriter, r *http.Request, _ <-chan struct{}) {
		if r.Method == http.MethodGet && r.URL.Query().Has("list-type") {
			s.hit.Add(1)
			listed.ServeHTTP(w, r)
			return
		}
		s.inner.ServeHTTP(w, r)
	}
}

// wrongRanges answers each read of a range with something else than was asked for,
// in turn: other bytes under the right header, the whole object, less than was asked
// for and no more announced, and a range that is another by its own word.
func wrongRanges(s *s3, w http.ResponseWriter, r *http.Request, _ <-chan struct{}) {
	var first, last int
	if n, _ := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-%d", &first, &last); r.Method != http.MethodGet || n != 2 {
		s.inner.ServeHTTP(w, r)
		return
	}
	r.Header.Del("Range")
	done, whole := s.pass(r)
	last = min(last, len(whole)-1)
	if done.Code != http.StatusOK || first > last {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	from, to := max(0, first-1), max(0, first-1)+last+1-first // one byte off
	if first == 0 {
		from, to = min(1, last), min(last+2, len(whole))
	}
	body, header, code := whole[first:last+1], fmt.Sprintf("bytes %d-%d/%d", first, last, len(whole)), http.StatusPartialContent
	switch s.hit.Add(1) % 4 {
	case 0:
		body = whole[from:to]
	case 1:
		body, header, code = whole, "", http.StatusOK
	case 2:
		body = body[:len(body)/2]
	case 3:
		body, header = whole[from:to], fmt.Sprintf("bytes %d-%d/%d", from, to-1, len(whole))
	}
	for name, values := range done.Header() {
		w.Header()[name] = values
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	if header != "" {
		w.Header().Set("Content-Range", header)
	}
	w.WriteHeader(code)
	_, _ = w.Write(body)
}

// pass has a request done.
func (s *s3) pass(r *http.Request) (*httptest.ResponseRecorder, []byte) {
	done := httptest.NewRecorder()
	s.inner.ServeHTTP(done, r)
	return done, done.Body.Bytes()
}

func copyHeader(w http.ResponseWriter, from *httptest.ResponseRecorder) {
	for name, values := range from.Header() {
		w.Header()[name] = values
	}
	if w.Header().Get("Content-Length") == "" && from.Body.Len() > 0 {
		w.Header().Set("Content-Length", strconv.Itoa(from.Body.Len()))
	}
	w.WriteHeader(from.Code)
}
