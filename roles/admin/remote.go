package admin

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// Remote is a server that is called as the admin commands call theirs, for what is taken as
// it stands. Its methods are safe for concurrent use.
type Remote struct {
	caller  *caller
	target  Target // without what is noted on this machine
	secrets []string
}

// Flags adds the flags of a target to a command.
func (t *Target) Flags(cmd *cobra.Command) { t.flags(cmd) }

// Remote returns the server that flags, a context and this machine name, in that order. Where
// a password is needed and not in a file, a terminal is asked.
func (t Target) Remote(named Target, in io.Reader, errOut io.Writer) (*Remote, error) {
	t = t.within(named)
	found := t.found()
	if err := found.check(); err != nil {
		return nil, err
	}
	c := newCaller(found.URL)
	if err := c.as(found, in, errOut); err != nil {
		return nil, err
	}
	return newRemote(c, t), nil
}

// Beside returns another server of the cluster, which is shown what r was given to know who
// calls, or the token that it has noted itself on this machine. Nobody is asked for a password
// again.
func (r *Remote) Beside(url string) (*Remote, error) {
	t := r.target
	t.URL = url
	found := t.found()
	if err := found.check(); err != nil {
		return nil, err
	}
	c := newCaller(found.URL)
	var err error
	if found.User == "" {
		err = c.as(found, nil, io.Discard)
	} else {
		c.authorization = r.caller.authorization
		c.http, err = found.client()
	}
	if err != nil {
		return nil, err
	}
	return newRemote(c, t), nil
}

func newRemote(c *caller, t Target) *Remote {
	c.http.Timeout = 0 // the caller's context has one
	scheme, secret, _ := strings.Cut(c.authorization, " ")
	r := &Remote{caller: c, target: t, secrets: []string{secret}}
	if pair, err := base64.StdEncoding.DecodeString(secret); scheme == "Basic" && err == nil {
		_, password, _ := strings.Cut(string(pair), ":")
		r.secrets = append(r.secrets, password)
	}
	return r
}

// URL is where the server is.
func (r *Remote) URL() string { return r.caller.base }

// Secrets are what the server is shown to know who calls, as it is sent and as it was given.
// Nobody else is to see them.
func (r *Remote) Secrets() []string { return r.secrets }

// Get returns up to most bytes of what a path answers, and whether there are more. An answer
// that is a refusal is an error.
func (r *Remote) Get(ctx context.Context, path string, most int64) (body []byte, more bool, err error) {
	for tries := 1; ; tries++ {
		body, more, err = r.get(ctx, path, most)
		if refused, again := err.(*tooOften); again && tries < mostTries {
			select {
			case <-time.After(refused.wait):
				continue
			case <-ctx.Done():
			}
		}
		return body, more, err
	}
}

func (r *Remote) get(ctx context.Context, path string, most int64) ([]byte, bool, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.caller.base+path, nil)
	if err != nil {
		return nil, false, err
	}
	if r.caller.authorization != "" {
		req.Header.Set("Authorization", r.caller.authorization)
	}
	resp, err := r.caller.http.Do(req)
	if err != nil {
		return nil, false, r.caller.unanswered(ctx, http.MethodGet, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, most+1))
	if err != nil {
		return nil, false, fmt.Errorf("read the answer of %s: %w", r.caller.base+path, err)
	}
	// A process that is not well says so on its probes, by a status.
	if resp.StatusCode >= http.StatusBadRequest && path != healthPath && path != readyPath {
		return nil, false, r.caller.refused(resp, body)
	}
	more := int64(len(body)) > most
	return body[:min(int64(len(body)), most)], more, nil
}
