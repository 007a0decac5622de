package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"time"

	"rustmq.dev/rustmq/bench/report"
)

// Kinds of requests, as S3 prices them, and as the figures tell them apart.
const (
	putObject = iota // objects of records, also their parts
	putMeta          // entries of the metadata log, and what else is not an object
	getRequest
	headRequest
	listRequest
	deleteRequest
	requestKinds
)

// requests are counts of requests and of the bytes of their bodies.
type requests struct {
	n     [requestKinds]int64
	bytes [requestKinds]int64 // sent to the store, or by it
}

func (r requests) minus(before requests) requests {
	for i := range r.n {
		r.n[i] -= before.n[i]
		r.bytes[i] -= before.bytes[i]
	}
	return r
}

func (r requests) putBytes() int64 { return r.bytes[putObject] + r.bytes[putMeta] }

// per is per GiB of what was produced or read.
func (r requests) per(gib float64) string {
	each := func(kind int) string { return report.Number(float64(r.n[kind]) / gib) }
	return fmt.Sprintf("a GiB: %s PUT of objects and %s of metadata, %s GET, %s HEAD, %s LIST, %s DELETE",
		each(putObject), each(putMeta), each(getRequest), each(headRequest), each(listRequest), each(deleteRequest))
}

// counting stands before an S3 server and counts what it is asked. It can be taken
// away, as a store that is down.
type counting struct {
	addr   string
	server *http.Server
	proxy  *httputil.ReverseProxy

	mu    sync.Mutex // guards what follows
	is    requests
	last  time.Time // the last request
	downs bool
}

func startCounting(to string) (*counting, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	target := &url.URL{Scheme: "http", Host: to}
	c := &counting{addr: l.Addr().String(), proxy: &httputil.ReverseProxy{
		// The host stays that of the request, which is part of its signature.
		Rewrite:    func(p *httputil.ProxyRequest) { p.SetURL(target); p.Out.Host = p.In.Host },
		Transport:  &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true},
		BufferPool: &buffers{},
		// Who asked has gone, or the store has; both see it for themselves.
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	}}
	c.server = &http.Server{Handler: c}
	go c.server.Serve(l) // ends with stop
	return c, nil
}

func (c *counting) stop() { _ = c.server.Close() }

// down takes the store away, or gives it back: connections are cut.
func (c *counting) down(is bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.downs = is
}

// counts are up to now.
func (c *counting) counts() requests {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.is
}

// ServeHTTP implements http.Handler.
func (c *counting) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	down := c.downs
	c.mu.Unlock()
	if down {
		panic(http.ErrAbortHandler)
	}
	kind := kindOf(r)
	body := &counted{ReadCloser: r.Body}
	r.Body = body
	answer := &answer{ResponseWriter: w}
	c.proxy.ServeHTTP(answer, r)
	bytes := body.n
	if kind == getRequest {
		bytes = answer.n
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.is.n[kind]++
	c.is.bytes[kind] += bytes
	c.last = time.Now()
}

// quiet is for how long nothing was asked.
func (c *counting) quiet() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Since(c.last)
}

func kindOf(r *http.Request) int {
	switch r.Method {
	case http.MethodPut, http.MethodPost:
		// Uploads in parts begin and end with a POST, which costs as much as a PUT.
		if strings.Contains(r.URL.Path, "/data/") {
			return putObject
		}
		return putMeta
	case http.MethodHead:
		return headRequest
	case http.MethodDelete:
		return deleteRequest
	}
	if r.URL.Query().Has("list-type") {
		return listRequest
	}
	return getRequest
}

// counted counts what is read of a body.
type counted struct {
	io.ReadCloser
	n int64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.n += int64(n)
	return n, err
}

// answer counts what is written of one.
type answer struct {
	http.ResponseWriter
	n int64
}

func (a *answer) Write(p []byte) (int, error) {
	n, err := a.ResponseWriter.Write(p)
	a.n += int64(n)
	return n, err
}

// Unwrap is for http.ResponseController.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// buffers of the proxy are large: it is to cost little beside what it stands before.
type buffers struct{ pool sync.Pool }

func (b *buffers) Get() []byte {
	if p, ok := b.pool.Get().(*[]byte); ok {
		return *p
	}
	return make([]byte, 256<<10)
}

func (b *buffers) Put(p []byte) { b.pool.Put(&p) }
