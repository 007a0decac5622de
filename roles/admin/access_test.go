package admin

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
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

const brokersPath = "/api/v1/brokers"

// Each way in, and next to it what looks like one.
func TestWhoGetsIn(t *testing.T) {
	a := newAsking(t)
	a.user("alice", "open sesame")
	a.allow("alice", acl.Describe, acl.Cluster, "")
	good := a.token("good", "alice", false, time.Time{})
	old := a.token("old", "alice", false, time.Now().Add(-time.Second))
	soon := a.token("soon", "alice", false, time.Now().Add(time.Hour))
	revoked := a.token("revoked", "alice", false, time.Time{})
	if err := a.c.DeleteAPIToken(t.Context(), "revoked"); err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]struct {
		headers []string
		status  int
	}{
		"nobody":                  {nil, http.StatusUnauthorized},
		"a password":              {[]string{"Authorization", basic("alice", "open sesame")}, http.StatusOK},
		"a wrong password":        {[]string{"Authorization", basic("alice", "open sesamE")}, http.StatusUnauthorized},
		"an unknown user":         {[]string{"Authorization", basic("bob", "open sesame")}, http.StatusUnauthorized},
		"a token":                 {[]string{"Authorization", "Bearer " + good}, http.StatusOK},
		"a token, in small":       {[]string{"Authorization", "bearer " + good}, http.StatusOK},
		"a token that will end":   {[]string{"Authorization", "Bearer " + soon}, http.StatusOK},
		"one that has ended":      {[]string{"Authorization", "Bearer " + old}, http.StatusUnauthorized},
		"one that is revoked":     {[]string{"Authorization", "Bearer " + revoked}, http.StatusUnauthorized},
		"one of nobody":           {[]string{"Authorization", "Bearer " + good[:9] + "zzz" + good[12:]}, http.StatusUnauthorized},
		"one with more":           {[]string{"Authorization", "Bearer " + good + "="}, http.StatusUnauthorized},
		"the hash in its place":   {[]string{"Authorization", "Bearer rmq_" + base64.RawURLEncoding.EncodeToString(make([]byte, 32))}, http.StatusUnauthorized},
		"the node's own":          {[]string{"Authorization", "Bearer " + a.local}, http.StatusOK},
		"of an identity provider": {[]string{"Authorization", "Bearer eyJhbGciOiJub25lIn0.e30."}, http.StatusUnauthorized},
		"two at once":             {[]string{"Authorization", "Bearer " + good, "Authorization", "Bearer " + good}, http.StatusBadRequest},
		"no scheme that is known": {[]string{"Authorization", "Digest x"}, http.StatusBadRequest},
		"a cookie of nobody":      {[]string{"Cookie", secureSessionCookie + "=x"}, http.StatusUnauthorized},
	} {
		a.want(what, c.status, a.do(http.MethodGet, brokersPath, "", c.headers...))
	}
	// All that is wrong with a credential is told alike.
	unlike := map[string]bool{}
	for _, header := range []string{basic("alice", "x"), basic("bob", "x"), "Bearer " + old, "Bearer " + revoked, "Bearer x"} {
		unlike[a.do(http.MethodGet, brokersPath, "", "Authorization", header).Body.String()] = true
	}
	if len(unlike) != 1 {
		t.Errorf("%d different answers: %v", len(unlike), unlike)
	}
	w := a.do(http.MethodGet, brokersPath, "")
	a.want("nobody", http.StatusUnauthorized, w, "--token-file", "DATA/admin.token")
	if got := w.Header().Get("WWW-Authenticate"); !strings.HasPrefix(got, "Bearer") {
		t.Errorf("WWW-Authenticate: %q", got)
	}
}

// What watches a process needs nobody's leave, and is told no more than it needs.
func TestProbesAreOpenAndMetricsAsk(t *testing.T) {
	a := newAsking(t)
	monitor := a.token("m", "monitor", true, time.Time{})
	other := a.token("o", "other", true, time.Time{})
	a.allow("monitor", acl.Describe, acl.Cluster, "")
	for _, path := range []string{healthPath, readyPath} {
		w := a.do(http.MethodGet, path, "")
		a.want(path, http.StatusOK, w, "ok")
		if strings.Contains(w.Body.String(), "secret place") {
			t.Errorf("%s tells strangers %s", path, w.Body)
		}
	}
	a.want("metrics, nobody", http.StatusUnauthorized, a.do(http.MethodGet, metricsPath, ""))
	a.want("metrics, who may not", http.StatusForbidden, a.do(http.MethodGet, metricsPath, "", "Authorization", "Bearer "+other), "--resource cluster --permissions describe")
	a.want("metrics", http.StatusOK, a.do(http.MethodGet, metricsPath, "", "Authorization", "Bearer "+monitor))
	a.remote = "127.0.0.1:9"
	a.want("ready, on the machine", http.StatusOK, a.do(http.MethodGet, readyPath, ""), "secret place")
}

// A failing probe says so to strangers by its status.
func TestProbesTellStrangersThatAllIsNotWell(t *testing.T) {
	a := newAsking(t, func(o *Options) { o.Ready = func() error { return errors.New("a secret place burns") } })
	w := a.do(http.MethodGet, readyPath, "")
	a.want("ready", http.StatusServiceUnavailable, w)
	if strings.Contains(w.Body.String(), "secret") {
		t.Error(w.Body)
	}
}

// Secrets are not taken where others may listen.
func TestSecretsAreTakenOverTLSOnly(t *testing.T) {
	a := newAsking(t, func(o *Options) { o.TLS = nil })
	a.user("alice", "open sesame")
	good := a.token("good", "alice", false, time.Time{})
	for what, header := range map[string]string{"a password": basic("alice", "open sesame"), "a token": "Bearer " + good, "the node's own": "Bearer " + a.local} {
		a.want(what, http.StatusForbidden, a.do(http.MethodGet, brokersPath, "", "Authorization", header), "over TLS only")
	}
	a.want("a session", http.StatusForbidden, a.do(http.MethodPost, sessionPath, `{"user":"alice","password":"open sesame"}`), "over TLS only")
	// On the machine itself nobody listens.
	near := askingOf(t, a.c, func(o *Options) { o.TLS, o.Reachable = nil, false })
	near.want("a token on loopback", http.StatusOK, near.do(http.MethodGet, brokersPath, "", "Authorization", "Bearer "+near.local))
}

// A read-only token may look at what its user may see, and that is all.
func TestReadOnlyTokensOnlyLook(t *testing.T) {
	a := newAsking(t)
	look := a.token("look", "root", true, time.Time{})
	a.want("GET", http.StatusOK, a.do(http.MethodGet, brokersPath, "", "Authorization", "Bearer "+look))
	for _, row := range a.s.rows {
		if row.Method == http.MethodGet {
			continue
		}
		w := a.do(row.Method, strings.NewReplacer("{name}", "one", "{id}", "3", "{group}", "g").Replace(row.Path), `{}`, "Authorization", "Bearer "+look)
		a.want(row.Method+" "+row.Path, http.StatusForbidden, w, "read-only")
	}
	if _, there := a.c.Image().Topic("one"); !there {
		t.Error("the topic is gone")
	}
}

// A token has the rights of its user, of the moment, and goes with the user.
func TestTokensActAsTheirUser(t *testing.T) {
	a := newAsking(t)
	a.user("alice", "open sesame")
	text := a.token("t", "alice", false, time.Time{})
	a.want("without a rule", http.StatusForbidden, a.do(http.MethodGet, brokersPath, "", "Authorization", "Bearer "+text),
		"CLUSTER_AUTHORIZATION_FAILED: User:alice may not describe cluster", "rustmq admin acl create --principal alice --resource cluster --permissions describe")
	a.want("the narrowest rule is named", http.StatusForbidden, a.do(http.MethodPost, "/api/v1/topics", `{"name":"orders.eu"}`, "Authorization", "Bearer "+text),
		"rustmq admin acl create --principal alice --resource topic.orders.eu --permissions create")
	a.allow("alice", acl.Describe, acl.Cluster, "")
	a.want("with one", http.StatusOK, a.do(http.MethodGet, brokersPath, "", "Authorization", "Bearer "+text))
	if err := a.c.AlterUsers(t.Context(), []metadata.UserChange{{User: "alice", Remove: []metadata.ScramMechanism{metadata.ScramSHA256}}})[0]; err != nil {
		t.Fatal(err)
	}
	a.want("without the user", http.StatusUnauthorized, a.do(http.MethodGet, brokersPath, "", "Authorization", "Bearer "+text))
}

// Tokens are made, shown once, listed without what proves them, and revoked.
func TestAPITokensOfTheAPI(t *testing.T) {
	a := newAsking(t)
	a.user("alice", "open sesame")
	a.user("bob", "open sesame")
	alice, bob, root := basic("alice", "open sesame"), basic("bob", "open sesame"), "Bearer "+a.local
	create := func(as, body string) (CreatedToken, *httptest.ResponseRecorder) {
		w := a.do(http.MethodPost, tokensPath, body, "Authorization", as)
		var made CreatedToken
		_ = json.Unmarshal(w.Body.Bytes(), &made)
		return made, w
	}
	made, w := create(alice, `{"name":"ci","expires_in_seconds":60,"read_only":true}`)
	a.want("one's own", http.StatusCreated, w)
	if made.Principal != "User:alice" || !made.ReadOnly || made.Expires == nil || made.Expires.Sub(made.Created) != time.Minute || w.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("%+v, %v", made, w.Header())
	}
	_, w = create(alice, `{"name":"x","principal":"bob"}`)
	a.want("another's", http.StatusForbidden, w, "--resource user.User:bob --permissions create-tokens")
	_, w = create("Bearer "+made.Secret, `{"name":"x"}`)
	a.want("by a token", http.StatusForbidden, w)
	whole, w := create(alice, `{"name":"whole"}`)
	a.want("a whole one", http.StatusCreated, w)
	_, w = create("Bearer "+whole.Secret, `{"name":"x"}`)
	a.want("by a whole token", http.StatusForbidden, w, "makes no other")
	_, w = create(root, `{"name":"ci","principal":"bob"}`)
	a.want("the same name", http.StatusConflict, w, "rustmq admin tokens revoke ci")
	_, w = create(root, `{"name":"x"}`)
	a.want("of nobody", http.StatusBadRequest, w, "--principal NAME")
	_, w = create(root, `{"name":"of-bob","principal":"bob"}`)
	a.want("the operator's, for bob", http.StatusCreated, w)
	for _, body := range []string{`{"name":"x"}`, `{"name":"x","principal":"*"}`, `{"name":"x","principal":"ANONYMOUS"}`, `{"name":"..","principal":"bob"}`, `{"name":"a b","principal":"bob"}`, `{"name":"x","principal":"bob","expires_in_seconds":315360001}`} {
		_, w = create(root, body)
		a.want(body, http.StatusBadRequest, w)
	}
	list := func(as string) string {
		w := a.do(http.MethodGet, tokensPath, "", "Authorization", as)
		a.want("list", http.StatusOK, w)
		if strings.Contains(w.Body.String(), apiTokenStart) || strings.Contains(w.Body.String(), "hash") {
			t.Errorf("the list has secrets: %s", w.Body)
		}
		var all struct{ Tokens []Token }
		_ = json.Unmarshal(w.Body.Bytes(), &all)
		var names []string
		for _, one := range all.Tokens {
			names = append(names, one.Name)
		}
		return strings.Join(names, " ")
	}
	if l, b, r := list(alice), list(bob), list(root); l != "ci whole" || b != "of-bob" || r != "ci of-bob whole" {
		t.Errorf("alice sees %q, bob %q, root %q", l, b, r)
	}
	a.want("another's, revoked", http.StatusNotFound, a.do(http.MethodDelete, tokensPath+"/ci", "", "Authorization", bob))
	a.want("one's own, revoked", http.StatusNoContent, a.do(http.MethodDelete, tokensPath+"/ci", "", "Authorization", alice))
	a.want("it is good for nothing", http.StatusUnauthorized, a.do(http.MethodGet, tokensPath, "", "Authorization", "Bearer "+made.Secret))
	a.want("again", http.StatusNotFound, a.do(http.MethodDelete, tokensPath+"/ci", "", "Authorization", alice))
}

// Who guesses is slowed down, by address, and others are not.
func TestGuessesAreSlowed(t *testing.T) {
	c, _ := alone(t)
	brake := sasl.BrakeLimits{UserBurst: 3, UserEvery: time.Hour, AddressBurst: 9, AddressEvery: time.Hour}
	a := askingOf(t, c, func(o *Options) {
		o.Access.Logins = login.New(login.Options{Mechanisms: mechanismsOf(c), Brake: brake})
	})
	a.user("alice", "open sesame")
	for range 3 {
		a.want("a guess", http.StatusUnauthorized, a.do(http.MethodGet, brokersPath, "", "Authorization", basic("alice", "x")))
	}
	w := a.do(http.MethodGet, brokersPath, "", "Authorization", basic("alice", "open sesame"))
	a.want("one too many", http.StatusTooManyRequests, w)
	if w.Header().Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	for range 6 { // tokens
		a.do(http.MethodGet, brokersPath, "", "Authorization", "Bearer rmq_x")
	}
	a.want("of tokens", http.StatusTooManyRequests, a.do(http.MethodGet, brokersPath, "", "Authorization", "Bearer rmq_x"))
	a.want("of tokens, one that might be", http.StatusTooManyRequests, a.do(http.MethodGet, brokersPath, "", "Authorization", "Bearer "+newSecret(apiTokenStart, make([]byte, apiTokenSecret))))
	a.want("a token that is good, which nobody guesses, and so nobody keeps out", http.StatusOK, a.do(http.MethodGet, brokersPath, "", "Authorization", "Bearer "+a.local))
	a.remote = "10.0.0.10:1"
	a.want("from elsewhere", http.StatusForbidden, a.do(http.MethodGet, brokersPath, "", "Authorization", basic("alice", "open sesame")))
}

// A body or a path that is none is refused before it is served.
func TestHostileRequests(t *testing.T) {
	a := newAsking(t)
	as := "Bearer " + a.local
	for what, c := range map[string]struct {
		method, path, body string
		status             int
		headers            []string
	}{
		"deep JSON":          {http.MethodPost, "/api/v1/topics", strings.Repeat("[", 100_000), http.StatusBadRequest, nil},
		"deep, in a string":  {http.MethodPost, "/api/v1/topics", `{"name":"` + strings.Repeat("[", 100) + `"}`, http.StatusBadRequest, nil},
		"gzip":               {http.MethodPost, "/api/v1/topics", "\x1f\x8b", http.StatusUnsupportedMediaType, []string{"Content-Encoding", "gzip"}},
		"two MiB":            {http.MethodPost, "/api/v1/topics", strings.Repeat(" ", 2<<20), http.StatusRequestEntityTooLarge, nil},
		"dots":               {http.MethodGet, "/api/v1/topics/../../etc/passwd", "", http.StatusBadRequest, nil},
		"dots, hidden":       {http.MethodGet, "/api/v1/topics/%2e%2e/%2E%2e/etc/passwd", "", http.StatusNotFound, nil},
		"dots, of the name":  {http.MethodGet, "/api/v1/topics/%2e%2e", "", http.StatusNotFound, nil},
		"a dot":              {http.MethodGet, "/api/v1/./topics", "", http.StatusBadRequest, nil},
		"dots, of a name":    {http.MethodGet, "/api/v1/topics/..%2f..%2fetc", "", http.StatusNotFound, nil},
		"NUL":                {http.MethodGet, "/api/v1/topics/one%00.txt", "", http.StatusBadRequest, nil},
		"beside the API":     {http.MethodGet, "/api/v1x/topics", "", http.StatusNotFound, nil},
		"a method of none":   {"BREW", "/api/v1/topics", "", http.StatusMethodNotAllowed, nil},
		"a file of a server": {http.MethodGet, "/etc/passwd", "", http.StatusNotFound, nil},
	} {
		a.want(what, c.status, a.do(c.method, c.path, c.body, append(c.headers, "Authorization", as)...))
	}
	// Of what nobody has sent, nothing is read.
	body := &unread{t: t}
	r := httptest.NewRequest(http.MethodPost, "https://10.0.0.1:9642/api/v1/topics", body)
	r.RemoteAddr = a.remote
	w := httptest.NewRecorder()
	a.s.http.Handler.ServeHTTP(w, r)
	a.want("a body of nobody", http.StatusUnauthorized, w)
	// A body without an end, in chunks.
	r = httptest.NewRequest(http.MethodPost, "https://10.0.0.1:9642/api/v1/topics", io.LimitReader(zeros{}, 1<<30))
	r.RemoteAddr, r.ContentLength = a.remote, -1
	r.Header.Set("Authorization", as)
	w = httptest.NewRecorder()
	a.s.http.Handler.ServeHTTP(w, r)
	a.want("a GiB in chunks", http.StatusRequestEntityTooLarge, w)
}

// unread is a body that must not be read.
type unread struct{ t *testing.T }

func (u *unread) Read([]byte) (int, error) {
	u.t.Error("the body of a stranger was read")
	return 0, io.EOF
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }

// routeBodies are of calls that are taken, by method and path of the route.
func routeBodies() map[string]string {
	return map[string]string{
		"POST /api/v1/topics": `{"name":"made"}`, "PATCH /api/v1/topics/{name}": `{}`, "POST /api/v1/topics/{name}/partitions": `{"total":2}`, "POST /api/v1/topics/{name}/records": `{"value":"x"}`, "POST /api/v1/topics/{name}/delete-records": `{"partitions":[{"partition":0,"before":1}]}`,
		"PATCH /api/v1/config": `{"set":{"operations.log_level":"info"}}`, "PATCH /api/v1/quotas": `{"set":{"request_percentage":1}}`, "POST /api/v1/acls": `{"acls":[]}`, "POST /api/v1/acls/check": `{"principal":"a","resource_type":"topic","name":"t","operation":"read"}`,
		"POST /api/v1/users": `{"name":"u","password":"xxxxxxxx"}`, "PUT /api/v1/users/{name}/password": `{"password":"xxxxxxxx"}`,
		"POST /api/v1/brokers/{id}/drain": `{"draining":true}`, "POST /api/v1/cluster/rebalance": `{"dry_run":true}`, "POST /api/v1/tokens": `{"name":"x","principal":"other"}`,
		"POST /api/v1/controllers": `{"id":9}`, "POST /api/v1/groups/{group}/reset-offsets": `{"to":"latest"}`, "POST /api/v1/storage/check": `{}`,
		"POST /api/v1/session/may": `{"calls":[]}`, "POST /api/v1/session": `{"user":"u","password":"x"}`, "POST " + modulesPath + "/{name}/versions": `{"battery":"upper","spec":{}}`, "POST " + modulesPath + "/{name}/enable": `{}`,
		"POST " + modulesPath + "/{name}/disable": `{}`, "POST " + modulesPath + "/{name}/rollback": `{}`, "POST " + modulesPath + "/{name}/test": `{"sample":[]}`, "POST " + uploadsPath: "x",
	}
}

// Each route is refused to who may do nothing, unless its row says that it is for whoever is
// known, and served to who has what the row says.
func TestEveryRouteAsksForWhatItsRowSays(t *testing.T) {
	a := newAsking(t, func(o *Options) { o.RequestsPerIP, o.Requests = 100_000, 100_000 })
	nobody := a.token("nobody", "nobody", false, time.Time{})
	fills := strings.NewReplacer("{name}", "ghost", "{id}", "9", "{group}", "ghost")
	for _, row := range a.s.rows {
		name := row.Method + " " + row.Path
		body := routeBodies()[name]
		call := func(token string) *httptest.ResponseRecorder {
			return a.do(row.Method, fills.Replace(row.Path), body, "Authorization", "Bearer "+token)
		}
		w := call(nobody)
		if row.Needs == "" {
			if row.Path != tokensPath && (w.Code == http.StatusForbidden || w.Code == http.StatusUnauthorized && row.Path != sessionPath) {
				t.Errorf("%s asks for nothing, and answers %d %s", name, w.Code, w.Body)
			}
			continue
		}
		a.want(name+", nobody", http.StatusForbidden, w, "AUTHORIZATION_FAILED", "rustmq admin acl create --principal nobody")
		full := "full" + strings.NewReplacer("/", "-", "{", "", "}", "", " ", "").Replace(name)
		text := a.token(full, full, false, time.Time{})
		for _, words := range strings.Split(strings.ReplaceAll(row.Needs, ", or ", ", and "), ", and ") {
			op, on, _ := strings.Cut(words, " on the ")
			operation, err1 := acl.ParseOperation(op)
			resource, err2 := acl.ParseResourceType(on)
			if err := errors.Join(err1, err2); err != nil {
				t.Fatal(err)
			}
			name := "ghost"
			switch {
			case row.Path == "/api/v1/topics":
				name = "made"
			case strings.HasPrefix(row.Path, auditPath):
				name = broker.AuditTopic
			}
			a.allow(full, operation, resource, name)
		}
		if w := call(text); w.Code == http.StatusForbidden || w.Code == http.StatusUnauthorized {
			t.Errorf("%s, with its rules: %d %s", name, w.Code, w.Body)
		}
	}
}

// Of lists, only what the caller may see is shown.
func TestListsHideWhatTheCallerMayNotSee(t *testing.T) {
	a := newAsking(t)
	text := a.token("t", "alice", false, time.Time{})
	topics := func() string {
		var all struct{ Topics []Topic }
		if err := json.Unmarshal(a.do(http.MethodGet, "/api/v1/topics", "", "Authorization", "Bearer "+text).Body.Bytes(), &all); err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, one := range all.Topics {
			names = append(names, one.Name)
			if len(one.Configs) > 0 {
				names = append(names, one.Configs["min.insync.replicas"])
			}
		}
		return strings.Join(names, " ")
	}
	if got := topics(); got != "" {
		t.Errorf("without a rule: %s", got)
	}
	a.allow("alice", acl.Describe, acl.Topic, "orders")
	if got := topics(); got != "orders" {
		t.Errorf("with describe: %s", got)
	}
	a.allow("alice", acl.DescribeConfigs, acl.Topic, "orders")
	if got := topics(); got != "orders 2" {
		t.Errorf("with describe-configs: %s", got)
	}
}

// Of a group, and of its offsets, a caller sees and sets those of topics that it may.
func TestGroupsHideTopicsThatTheCallerMayNotSee(t *testing.T) {
	a := newAsking(t)
	as := []string{"Authorization", "Bearer " + a.token("t", "alice", false, time.Time{})}
	a.allow("alice", acl.Read, acl.Group, "ghost")
	list := a.do(http.MethodGet, groupsPath, "", as...)
	if a.want("list", http.StatusOK, list, "ghost"); strings.Contains(list.Body.String(), "other") {
		t.Error(list.Body)
	}
	reset := func(body string) *httptest.ResponseRecorder {
		return a.do(http.MethodPost, groupsPath+"/ghost/reset-offsets", body, as...)
	}
	a.allow("alice", acl.Read, acl.Topic, "one")
	is := a.do(http.MethodGet, groupsPath+"/ghost", "", as...)
	if a.want("describe", http.StatusOK, is, "one"); strings.Contains(is.Body.String(), "orders") {
		t.Error(is.Body)
	}
	if is = reset(`{"all_topics":true,"to":"latest","execute":true}`); is.Code != http.StatusForbidden || strings.Contains(is.Body.String(), "orders") {
		t.Error(is.Body)
	}
	a.want("another's", http.StatusForbidden, reset(`{"topics":[{"topic":"one"},{"topic":"orders"}],"to":"latest","execute":true}`), "topic.orders")
	a.want("one's own", http.StatusOK, reset(`{"topics":[{"topic":"one"}],"to":"latest","execute":true}`), `"executed":true`)
	a.allow("alice", acl.Read, acl.Topic, "orders")
	a.want("all of one's own", http.StatusOK, reset(`{"all_topics":true,"to":"latest","execute":true}`), `"executed":true`)
}

// Super users do everything; where authorisation is off so does whoever is known.
func TestWhoMayDoEverything(t *testing.T) {
	a := newAsking(t)
	root := a.token("r", "root", false, time.Time{})
	a.want("a super user", http.StatusCreated, a.do(http.MethodPost, "/api/v1/topics", `{"name":"made"}`, "Authorization", "Bearer "+root))
	off := askingOf(t, a.c, func(o *Options) { o.Authorization.On = false })
	some := off.token("s", "somebody", false, time.Time{})
	off.want("without authorisation", http.StatusNoContent, off.do(http.MethodDelete, "/api/v1/topics/made", "", "Authorization", "Bearer "+some))
	off.want("without authorisation, nobody", http.StatusUnauthorized, off.do(http.MethodGet, "/api/v1/topics", ""))
}

// A certificate is who it says, unless another credential is shown; one that is refused is.
func TestCertificatesAreWhoTheySay(t *testing.T) {
	principal, refused := "User:CN=alice", error(nil)
	a := newAsking(t, func(o *Options) {
		o.Access.Certificate = func(tls.ConnectionState) (string, error) { return principal, refused }
	})
	a.allow("CN=alice", acl.Describe, acl.Cluster, "")
	a.want("a certificate", http.StatusOK, a.do(http.MethodGet, brokersPath, ""))
	a.want("a wrong password beside it", http.StatusUnauthorized, a.do(http.MethodGet, brokersPath, "", "Authorization", basic("bob", "x")))
	principal = "User:CN=bob"
	a.want("another", http.StatusForbidden, a.do(http.MethodGet, brokersPath, ""), "User:CN=bob may not describe")
	principal = ""
	a.want("one that says nothing", http.StatusUnauthorized, a.do(http.MethodGet, brokersPath, ""))
	refused = errors.New("it is revoked")
	a.want("one that is revoked", http.StatusUnauthorized, a.do(http.MethodGet, brokersPath, ""))
}

// rows of the routes say in words what they ask for; every route has one.
func TestARouteWithoutARowDoesNotStart(t *testing.T) {
	a := newAsking(t)
	if len(a.s.rows) < 20 || !slices.ContainsFunc(a.s.rows, func(r Row) bool { return r.Path == "/api/v1/topics/{name}" && r.Needs == "delete on the topic" }) {
		t.Errorf("%+v", a.s.rows)
	}
	defer func() {
		if said := recover(); said == nil {
			t.Error("it starts")
		}
	}()
	h := &routes{API: humago.New(http.NewServeMux(), huma.DefaultConfig("rustmq", "v"))}
	huma.Get(h.API, "/api/v1/forgotten", func(context.Context, *struct{}) (*struct{}, error) { return nil, nil })
	h.checkRows()
}

// docs/admin-authorisation.md says what the code asks for.
func TestDocumentIsFresh(t *testing.T) {
	got, err := os.ReadFile("../../docs/admin-authorisation.md")
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != Document(Rows()) {
		t.Error("docs/admin-authorisation.md is stale: run make generate")
	}
}
