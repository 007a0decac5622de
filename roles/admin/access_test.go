package admin

import (
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/broker/login"
	"rustmq.dev/rustmq/security/acl"
	"rustmq.dev/rustmq/security/sasl"
)

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
