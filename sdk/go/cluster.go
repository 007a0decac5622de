package rustmq

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Limits of the admin API.
const (
	adminTimeout  = time.Minute
	largestAnswer = 64 << 20 // bytes
)

// adminTarget is where the admin API is, and who calls.
type adminTarget struct {
	url   string
	token func(context.Context) (string, error)
	http  *http.Client
}

// WithAdmin names the admin API, http://host:9642, or https where the cluster asks who
// calls. token, which may be nil, is called for each call, for a token of `rustmq admin
// tokens` or of the identity provider; by http it is refused where the network would see it. client
// may be nil; it is for authorities of your own and client certificates.
func WithAdmin(address string, token func(context.Context) (string, error), client *http.Client) Option {
	return func(c *config) error {
		u, err := url.Parse(address)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return fmt.Errorf("WithAdmin(%q): want http://host:port or https://host:port", address)
		}
		if token != nil && u.Scheme == "http" && !isLoopback(u.Hostname()) {
			return fmt.Errorf("WithAdmin(%q): a token would be shown to the network: write https://%s", address, u.Host)
		}
		if client == nil {
			client = &http.Client{Timeout: adminTimeout}
		}
		c.admin = adminTarget{url: strings.TrimRight(address, "/"), token: token, http: client}
		return nil
	}
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// APIError is an answer of the admin API that says no.
type APIError struct {
	Status int    // of HTTP
	Detail string // for a person
}

func (e *APIError) Error() string {
	return fmt.Sprintf("rustmq: the admin API answers %d: %s", e.Status, e.Detail)
}

// Call calls the admin API: GET, POST, … of a path under /api/v1, with in as JSON unless it
// is nil, and reads the answer into out unless that is nil. What has no method here is
// reached by it; docs/admin-authorisation.md lists the calls. Refusals are *[APIError].
func (a *Admin) Call(ctx context.Context, method, path string, in, out any) error {
	if in == nil {
		return a.send(ctx, method, path, "", nil, out)
	}
	raw, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("rustmq: %w", err)
	}
	return a.send(ctx, method, path, "application/json", raw, out)
}

// send is Call with a body of any type; kind is empty where there is none.
func (a *Admin) send(ctx context.Context, method, path, kind string, body []byte, out any) error {
	if a.target.url == "" {
		return errors.New("rustmq: no admin API is named: add WithAdmin")
	}
	req, err := http.NewRequestWithContext(ctx, method, a.target.url+"/api/v1"+path, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("rustmq: %w", err)
	}
	if kind != "" {
		req.Header.Set("Content-Type", kind)
	}
	if a.target.token != nil {
		token, err := a.target.token(ctx)
		if err != nil {
			return fmt.Errorf("rustmq: a token for the admin API: %w", err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := a.target.http.Do(req)
	if err != nil {
		return fmt.Errorf("rustmq: %w", err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, largestAnswer+1))
	switch {
	case err != nil:
		return fmt.Errorf("rustmq: read the answer of the admin API: %w", err)
	case len(raw) > largestAnswer:
		return fmt.Errorf("rustmq: the answer of the admin API is larger than %d MiB", largestAnswer>>20)
	case resp.StatusCode >= http.StatusBadRequest:
		var problem struct {
			Detail string `json:"detail"`
		}
		if json.Unmarshal(raw, &problem) != nil || problem.Detail == "" {
			problem.Detail = http.StatusText(resp.StatusCode)
		}
		return &APIError{resp.StatusCode, problem.Detail}
	case out == nil || len(raw) == 0:
		return nil
	}
	if err := json.Unmarshal(raw, out); err != nil {
		return fmt.Errorf("rustmq: %s answers what is not JSON: %w; is that a rustmq admin address?", a.target.url, err)
	}
	return nil
}

// Cluster is a cluster as the admin API describes it.
type Cluster struct {
	ID         string `json:"cluster_id"`
	Controller int32  `json:"controller"` // the node that leads; -1: none is known
	Version    string `json:"version"`    // of the process that answers
	Nodes      []Node `json:"nodes"`
	Topics     int    `json:"topics"`
	Partitions int    `json:"partitions"`
}

// Node is a process of a cluster.
type Node struct {
	ID    int32    `json:"id"`
	Roles []string `json:"roles"`
	Rack  string   `json:"rack"`
	State string   `json:"state"` // of its broker: serving, fenced or draining
}

// Problem is one thing that is wrong with a cluster.
type Problem struct {
	Kind       string   `json:"kind"`
	What       string   `json:"what"` // what is wrong, and what follows
	Do         string   `json:"do"`   // what helps
	Partitions []string `json:"partitions"`
}

// Cluster describes the cluster.
func (a *Admin) Cluster(ctx context.Context) (c Cluster, err error) {
	err = a.Call(ctx, http.MethodGet, "/cluster", nil, &c)
	return c, err
}

// ClusterHealth tells what is wrong with the cluster; nothing: it is well.
func (a *Admin) ClusterHealth(ctx context.Context) ([]Problem, error) {
	var health struct {
		Problems []Problem `json:"problems"`
	}
	err := a.Call(ctx, http.MethodGet, "/cluster/health", nil, &health)
	return health.Problems, err
}

// DrainBroker takes leaderships away from a broker, and gives it none; false undoes it.
func (a *Admin) DrainBroker(ctx context.Context, id int32, draining bool) error {
	return a.Call(ctx, http.MethodPost, "/brokers/"+strconv.Itoa(int(id))+"/drain", map[string]bool{"draining": draining}, nil)
}
