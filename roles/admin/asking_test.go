package admin

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/console"
	"rustmq.dev/rustmq/roles/broker"
	"rustmq.dev/rustmq/roles/broker/login"
	"rustmq.dev/rustmq/roles/controller"
	"rustmq.dev/rustmq/security/acl"
	"rustmq.dev/rustmq/security/sasl"
)

// asking is a server that asks who calls, on a controller that is alone.
type asking struct {
	t       *testing.T
	s       *Server
	c       *controller.Controller
	local   string // the text of the node's own token
	scheme  string
	remote  string
	cookies []*http.Cookie
	whole   map[string]string // tokens by name; see rightsOf
}

// newAsking opens one over TLS, beyond loopback. User:root is a super user.
func newAsking(t *testing.T, change ...func(*Options)) *asking {
	t.Helper()
	c, _ := alone(t)
	return askingOf(t, c, change...)
}

func mechanismsOf(c *controller.Controller) *sasl.Mechanisms {
	return &sasl.Mechanisms{
		Lookup: func(mechanism, user string) (sasl.Credential, bool) {
			u, known := c.Image().User(user)
			kind, _ := metadata.ParseScramMechanism(mechanism)
			if !known || u.Credential(kind) == nil {
				return sasl.Credential{}, false
			}
			k := u.Credential(kind)
			return sasl.Credential{Salt: k.Salt, Iterations: int(k.Iterations), StoredKey: k.StoredKey, ServerKey: k.ServerKey}, true
		},
		FakeSecret: func() []byte { return []byte("a secret of sixteen bytes") },
	}
}

func askingOf(t *testing.T, c *controller.Controller, change ...func(*Options)) *asking {
	t.Helper()
	local, hash := NewLocalToken([apiTokenSecret]byte{1, 2, 3})
	o := Options{
		Metrics: prometheus.NewRegistry(), Ready: func() error { return nil }, Healthy: func() error { return nil },
		Warnings: func() []string { return []string{"a secret place"} }, Cluster: c, Brokers: c, Controllers: noControllers{}, Groups: noGroups{}, Bucket: noBucket{}, AuditLog: &auditTopic{}, Transforms: newFakeTransforms(), Messages: noMessages{}, Holdings: noHoldings{}, Tellers: noTold{}, Node: noNode{}, Configuration: noConfiguration{}, Console: console.Handler(), Reachable: true,
		TakeSnapshot: func(context.Context) (uint64, error) { return 1, nil }, TLS: &tls.Config{},
		Authorization: Authorization{On: true, SuperUsers: []string{"User:root"}},
		Access: &Access{
			Logins: login.New(login.Options{Mechanisms: mechanismsOf(c)}), LocalToken: hash, LocalTokenFile: "DATA/admin.token", Metrics: true,
			SessionIdle: time.Minute, SessionLongest: time.Hour,
		},
	}
	for _, f := range change {
		f(&o)
	}
	scheme := "http"
	if o.TLS != nil {
		scheme = "https"
	}
	return &asking{t: t, s: New(o), c: c, local: local, scheme: scheme, remote: "10.0.0.9:1234"}
}

type noControllers struct{ Controllers }

func (noControllers) Members(context.Context) (*controller.Group, error) {
	return &controller.Group{}, nil
}
func (noControllers) AddController(context.Context, uint64) error    { return nil }
func (noControllers) RemoveController(context.Context, uint64) error { return nil }

// noGroups has two, of topics orders and one.
type noGroups struct{ Groups }

func (noGroups) ListGroups(context.Context) ([]broker.GroupSummary, error) {
	return []broker.GroupSummary{{Group: "ghost"}, {Group: "other"}}, nil
}

func (noGroups) DescribeGroup(context.Context, string) (*broker.GroupDescription, error) {
	return &broker.GroupDescription{
		PartitionList: []broker.GroupPartition{{Topic: "orders"}, {Topic: "one"}},
		MemberList:    []broker.GroupMember{{ID: "m", Assigned: []broker.PartitionsTaken{{Topic: "orders"}, {Topic: "one"}}}},
	}, nil
}

func (noGroups) DeleteGroup(context.Context, string) error { return nil }

func (noGroups) DeleteOffsets(context.Context, string, string) error { return nil }

func (noGroups) ResetOffsets(_ context.Context, _ string, r broker.OffsetReset) (*broker.OffsetPlan, error) {
	return &broker.OffsetPlan{Executed: r.Execute, Partitions: []broker.OffsetMove{{Topic: "orders"}, {Topic: "one"}}}, nil
}

type noMessages struct{}

func (noMessages) Peek(context.Context, broker.PeekRequest) (*broker.Peeked, error) {
	return &broker.Peeked{Next: 7}, nil
}

func (noMessages) SendRecord(_ context.Context, r broker.NewRecord) (*broker.SentRecord, error) {
	return &broker.SentRecord{Partition: r.Partition, Offset: 7, Timestamp: r.Timestamp}, nil
}

func (noMessages) TrimRecords(_ context.Context, q broker.TrimRequest) (int64, error) {
	if q.Before > 1000 {
		return 0, errors.New("it has none of those")
	}
	return q.Before, nil
}

type noHoldings struct{}

func (noHoldings) Holdings(_ context.Context, wanted []broker.PartitionNamed) []broker.Holding {
	return make([]broker.Holding, len(wanted))
}

type noTold struct{}

func (noTold) Told(context.Context, string) []broker.Told { return nil }

type noConfiguration struct{}

func (noConfiguration) Settings() []Setting { return nil }

type noNode struct{}

func (noNode) ID() int32                       { return 1 }
func (noNode) Troubles() []controller.Trouble  { return nil }
func (noNode) Certificates() []NodeCertificate { return nil }

type noBucket struct{ Bucket }

func (noBucket) State() BucketState                        { return BucketState{} }
func (noBucket) Probe(context.Context) Probe               { return Probe{} }
func (noBucket) Cost() Cost                                { return Cost{} }
func (noBucket) ConfirmClock(context.Context) (_, _ error) { return nil, nil }

func (noBucket) Check(context.Context, controller.CheckRequest) (*controller.CheckReport, error) {
	return &controller.CheckReport{}, nil
}

// user gives a user a password, with few iterations.
func (a *asking) user(name, password string) {
	a.t.Helper()
	c, err := sasl.NewCredential(sasl.ScramSHA256, password, []byte("0123456789"), sasl.MinIterations)
	if err != nil {
		a.t.Fatal(err)
	}
	set := []metadata.ScramCredential{{Mechanism: metadata.ScramSHA256, Iterations: sasl.MinIterations, Salt: c.Salt, StoredKey: c.StoredKey, ServerKey: c.ServerKey}}
	if err := a.c.AlterUsers(a.t.Context(), []metadata.UserChange{{User: name, Set: set}})[0]; err != nil {
		a.t.Fatal(err)
	}
}

func (a *asking) allow(user string, op acl.Operation, t acl.ResourceType, name string) {
	a.t.Helper()
	if t == acl.Cluster {
		name = acl.ClusterName
	}
	rule := acl.Rule{Resource: t, Pattern: acl.Literal, Name: name, Principal: "User:" + user, Host: "*", Operation: op, Permission: acl.Allow}
	if err := a.c.AlterACLs(a.t.Context(), []controller.ACLChange{{Rule: rule}})[0]; err != nil {
		a.t.Fatal(err)
	}
}

// token makes an API token.
func (a *asking) token(name, user string, readOnly bool, expires time.Time) string {
	a.t.Helper()
	text, hash := NewLocalToken([apiTokenSecret]byte{9, byte(a.c.Image().Offset()), byte(a.c.Image().Offset() >> 8)})
	if err := a.c.CreateAPIToken(a.t.Context(), metadata.APIToken{Name: name, Principal: "User:" + user, Hash: string(hash[:]), ReadOnly: readOnly, Created: time.UnixMilli(1), Expires: expires}); err != nil {
		a.t.Fatal(err)
	}
	return text
}

func basic(user, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

// request is a call, as a server reads it. headers are pairs of name and value.
func (a *asking) request(method, path, body string, headers ...string) *http.Request {
	a.t.Helper()
	r := httptest.NewRequest(method, a.scheme+"://10.0.0.1:9642/", strings.NewReader(body))
	u, err := url.ParseRequestURI(path)
	if err != nil {
		a.t.Fatal(err)
	}
	r.URL = u
	r.RemoteAddr = a.remote
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	for _, c := range a.cookies {
		r.AddCookie(c)
	}
	return r
}

// do calls the server. headers are pairs of name and value.
func (a *asking) do(method, path, body string, headers ...string) *httptest.ResponseRecorder {
	a.t.Helper()
	return a.serve(a.request(method, path, body, headers...))
}

func (a *asking) serve(r *http.Request) *httptest.ResponseRecorder {
	a.t.Helper()
	w := httptest.NewRecorder()
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	a.s.http.Handler.ServeHTTP(untilFlushed{w, cancel}, r.WithContext(ctx))
	if header, _ := json.Marshal(w.Header()); strings.Contains(w.Body.String(), r.Host) || strings.Contains(string(header), r.Host) {
		a.t.Errorf("%s %s: the answer repeats the Host header that the client sent: %s %.300s", r.Method, r.URL.Path, header, w.Body)
	}
	return w
}

// untilFlushed has who calls go once something has been sent of an answer that goes on.
type untilFlushed struct {
	*httptest.ResponseRecorder
	gone func()
}

func (u untilFlushed) Flush() { u.gone() }

func (a *asking) want(what string, status int, w *httptest.ResponseRecorder, says ...string) {
	a.t.Helper()
	if w.Code != status {
		a.t.Errorf("%s: %d, want %d: %.300s", what, w.Code, status, w.Body)
	}
	for _, text := range says {
		if !strings.Contains(w.Body.String(), text) {
			a.t.Errorf("%s: it does not say %q: %.500s", what, text, w.Body)
		}
	}
}
