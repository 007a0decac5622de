package admin

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// DefaultURL is where the admin commands look for a process.
const DefaultURL = "http://127.0.0.1:9642"

// patience is how long an answer may take that reads objects: one of a GiB, over
// a thin line.
const patience = 10 * time.Minute

// caller calls /api/v1 of one process.
type caller struct {
	base string
	http *http.Client
	err  error // why there is nobody to call
	// authorization is the header of that name; "": the server is not told who calls.
	authorization string
	// found says anew who calls, by what a server on this machine has noted: it makes another
	// token with each start. Nil: who calls was said.
	found func() (authorization string)
	// asksOnly says that the calls change nothing, whatever their method.
	asksOnly bool
}

// A call that came too often waits so many seconds at most, and is tried so many times.
const (
	longestWait = 2
	mostTries   = 10
)

// largestAnswer bounds what is read of one.
const largestAnswer = 64 << 20

func newCaller(base string) *caller {
	return &caller{base: strings.TrimRight(base, "/"), http: &http.Client{Timeout: time.Minute}}
}

// as has calls come from who a target says.
func (c *caller) as(t Target, in io.Reader, errOut io.Writer) (err error) {
	if c.http, err = t.client(); err != nil {
		return err
	}
	c.authorization, err = t.authorization(in, errOut)
	return err
}

// problemBody is the part of an RFC 9457 answer that is shown.
type problemBody struct {
	Detail string `json:"detail"`
	Errors []struct {
		Message  string `json:"message"`
		Location string `json:"location"`
	} `json:"errors"`
}

// tooOften is the refusal of a call that was not looked at, and may be soon.
type tooOften struct {
	wait time.Duration
	error
}

// notKnown is the refusal of a call of which the server does not know from whom it is.
type notKnown struct{ error }

// call sends in as JSON, when there is one, and reads the answer into out.
func (c *caller) call(ctx context.Context, method, path string, in, out any) error {
	if in == nil {
		return c.send(ctx, method, path, "", nil, out)
	}
	raw, err := json.Marshal(in)
	if err != nil {
		return err
	}
	return c.send(ctx, method, path, "application/json", raw, out)
}

// send sends a body of some kind, unless that is empty, and reads the answer into out.
func (c *caller) send(ctx context.Context, method, path, kind string, body []byte, out any) error {
	for tries := 1; ; tries++ {
		err := c.try(ctx, method, path, kind, body, out)
		if _, is := errors.AsType[*notKnown](err); is && c.foundAnother() {
			err = c.try(ctx, method, path, kind, body, out)
		}
		refused, again := errors.AsType[*tooOften](err)
		if !again || tries == mostTries {
			return err
		}
		select {
		case <-time.After(refused.wait):
		case <-ctx.Done():
			return err
		}
	}
}

// foundAnother reports whether the server has started anew, and who calls is known by its token
// of now.
func (c *caller) foundAnother() bool {
	if c.found == nil {
		return false
	}
	now := c.found()
	if now == "" || now == c.authorization {
		return false
	}
	c.authorization = now
	return true
}

// try calls once.
func (c *caller) try(ctx context.Context, method, path, kind string, body []byte, out any) error {
	if c.err != nil {
		return c.err
	}
	var content io.Reader
	if kind != "" {
		content = bytes.NewReader(body)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, content)
	if err != nil {
		return fmt.Errorf("--url %s: %w", c.base, err)
	}
	if kind != "" {
		req.Header.Set("Content-Type", kind)
	}
	if c.authorization != "" {
		req.Header.Set("Authorization", c.authorization)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return c.unanswered(ctx, method, err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, largestAnswer+1))
	if err != nil {
		return c.unanswered(ctx, method, err)
	}
	if len(raw) > largestAnswer {
		return fmt.Errorf("the answer of %s is larger than %d MiB: it is not shown", c.base+path, largestAnswer>>20)
	}
	if resp.StatusCode >= http.StatusBadRequest {
		return c.refused(resp, raw)
	}
	if out == nil || len(raw) == 0 {
		return nil
	}
	if err := json.Unmarshal(raw, out); err != nil {
		return fmt.Errorf("%s %s answered what is not JSON: %w; is that a rustmq admin address?", method, c.base+path, err)
	}
	return nil
}

// namedServers is how many servers of this machine are named to who calls where none is.
const namedServers = 5

// unanswered says what is known when no answer came: what changes something may
// be done all the same.
func (c *caller) unanswered(ctx context.Context, method string, err error) error {
	known := ""
	if method != http.MethodGet && !c.asksOnly {
		known = ": what was asked may be done all the same; look before you ask again"
	}
	var late interface{ Timeout() bool }
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("interrupted before %s answered%s", c.base, known)
	case isDial(err):
		elsewhere := ""
		if urls := localURLs(); len(urls) > 0 {
			more := ""
			if n := len(urls) - namedServers; n > 0 {
				urls, more = urls[:namedServers], fmt.Sprintf(" and %d more", n)
			}
			elsewhere = "; servers of this user on this machine: " + visible(strings.Join(urls, " ")) + more
		}
		return fmt.Errorf("reach %s: %w; is `rustmq serve` running there? (--url names another address%s)", c.base, err, elsewhere)
	case errors.As(err, &late) && late.Timeout():
		return fmt.Errorf("%s did not answer in %v%s", c.base, c.http.Timeout, known)
	case errors.Is(err, http.ErrSchemeMismatch):
		return fmt.Errorf("what listens at %s speaks HTTP and no TLS, as the admin API does on loopback: --url %s", c.base, "http"+strings.TrimPrefix(c.base, "https"))
	case isUntrusted(err):
		return fmt.Errorf("%s shows a certificate that is not trusted: %w; name its CA with --cafile FILE, and call it by a name that is in it", c.base, err)
	case strings.Contains(err.Error(), "tls: ") && strings.Contains(err.Error(), "remote error"):
		return fmt.Errorf("%s does not take the certificate of --cert, which may be revoked, have ended, or be of an authority that it does not trust: %w; `rustmq admin certs verify FILE --use client` judges it", c.base, err)
	case isNoHTTP(err):
		return fmt.Errorf("%s closed the connection without an answer in HTTP (%w): it has ended meanwhile, or does not speak HTTP, as a port for Kafka (9092) or between servers (9093 to 9095); "+
			"the admin API is at network.http_port, which is 9642 unless it is set: --url http://HOST:9642%s", c.base, err, known)
	}
	return fmt.Errorf("read the answer of %s: %w%s", c.base, err, known)
}

// isNoHTTP tells whether the other side closed the connection at the first line, or answered
// with something else.
func isNoHTTP(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || strings.Contains(err.Error(), "malformed HTTP")
}

// isUntrusted tells whether the certificate of the other side was refused.
func isUntrusted(err error) bool {
	_, is := errors.AsType[*tls.CertificateVerificationError](err)
	return is
}

// isDial tells whether nothing was sent, as there was nobody to send it to.
func isDial(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "dial"
}

// refused is the refusal of a call, as [*tooOften] where it may be served soon, and as [*notKnown].
func (c *caller) refused(resp *http.Response, raw []byte) error {
	if wait, err := strconv.Atoi(resp.Header.Get("Retry-After")); resp.StatusCode == http.StatusTooManyRequests && err == nil && wait <= longestWait {
		return &tooOften{time.Duration(wait) * time.Second, c.refusal(resp, raw)}
	}
	if resp.StatusCode == http.StatusUnauthorized {
		return &notKnown{c.refusal(resp, raw)}
	}
	return c.refusal(resp, raw)
}

func (c *caller) refusal(resp *http.Response, raw []byte) error {
	var p problemBody
	if json.Unmarshal(raw, &p) != nil || p.Detail == "" {
		switch resp.StatusCode {
		case http.StatusBadRequest:
			if strings.Contains(string(raw), "HTTPS server") { // net/http's own words
				return fmt.Errorf("what listens at %s speaks TLS: --url %s", c.base, "https"+strings.TrimPrefix(c.base, "http"))
			}
		case http.StatusNotFound:
			return fmt.Errorf("there is no admin API for that at %s: processes with the role controller or admin serve it, and that of groups those that are brokers too", c.base)
		case http.StatusForbidden:
			return fmt.Errorf("%s calls the server by a name, which it refuses, for a page of another site could do so: write its address, such as http://10.0.0.5:9642", c.base)
		}
		return fmt.Errorf("the server answered %s: %s", resp.Status, visible(strings.TrimSpace(string(raw))))
	}
	var b strings.Builder
	b.WriteString(p.Detail)
	if resp.StatusCode == http.StatusUnauthorized && c.authorization != "" {
		b.WriteString("; give --token-file FILE with a token that is valid, or --user NAME and --password-file FILE")
	}
	for _, e := range p.Errors {
		fmt.Fprintf(&b, "; %s: %s", e.Location, e.Message)
	}
	return fmt.Errorf("%s", visible(b.String()))
}

func topicPath(name string) string { return "/api/v1/topics/" + url.PathEscape(name) }
