package admin

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"rustmq.dev/rustmq/roles/broker/login"
	"rustmq.dev/rustmq/security/acl"
	"rustmq.dev/rustmq/security/sasl"
)

// What a page of another site can have a browser send: beside the cookie, or where nobody is
// asked, nothing of it is served.
func TestPagesOfOtherSitesAreRefused(t *testing.T) {
	guarded := newAsking(t)
	guarded.user("alice", "open sesame")
	guarded.allow("alice", acl.Delete, acl.Topic, "one")
	guarded.allow("alice", acl.Describe, acl.Cluster, "")
	s, _ := guarded.login("alice", "open sesame")
	open := askingOf(t, guarded.c, func(o *Options) { o.Access, o.TLS, o.Reachable = nil, nil, false })
	const json, form, multipart, plain = "application/json", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain"
	for where, a := range map[string]*asking{"with a session": guarded, "where nobody is asked": open} {
		own := a.scheme + "://10.0.0.1:9642"
		for what, c := range map[string]struct {
			method, path, body string
			headers            []string
		}{
			"fetch of another site":              {http.MethodDelete, "/api/v1/topics/one", "", []string{"Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "cors"}},
			"fetch of another port":              {http.MethodDelete, "/api/v1/topics/one", "", []string{"Origin", a.scheme + "://10.0.0.1:8080", "Sec-Fetch-Site", "same-site", "Sec-Fetch-Mode", "cors"}},
			"fetch in a frame without an origin": {http.MethodDelete, "/api/v1/topics/one", "", []string{"Origin", "null"}},
			"a preflight":                        {http.MethodOptions, "/api/v1/topics/one", "", []string{"Origin", "https://evil.example", "Access-Control-Request-Method", "DELETE"}},
			"a form":                             {http.MethodPost, "/api/v1/topics", `{"name":"made"}`, []string{"Origin", "https://evil.example", "Content-Type", form}},
			"a form that sends a file":           {http.MethodPost, "/api/v1/topics", `{"name":"made"}`, []string{"Origin", "https://evil.example", "Content-Type", multipart}},
			"a form in plain text":               {http.MethodPost, "/api/v1/topics", `{"name":"made"}`, []string{"Origin", "https://evil.example", "Content-Type", plain}},
			"a form of an old browser":           {http.MethodPost, "/api/v1/topics", `{"name":"made"}`, []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document"}},
			"a beacon":                           {http.MethodPost, "/api/v1/topics", `{"name":"made"}`, []string{"Origin", "https://evil.example", "Content-Type", json, "Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "no-cors"}},
			"a login of somebody else":           {http.MethodPost, sessionPath, `{"user":"alice","password":"open sesame"}`, []string{"Origin", "https://evil.example"}},
			"a look":                             {http.MethodGet, "/api/v1/topics", "", []string{"Origin", "https://evil.example"}},
			"a stream":                           {http.MethodGet, "/api/v1/audit/stream", "", []string{"Origin", "https://evil.example", "Accept", "text/event-stream"}},
			"a stream as an image":               {http.MethodGet, "/api/v1/audit/stream", "", []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "no-cors", "Sec-Fetch-Dest", "image"}},
			"an answer as a script":              {http.MethodGet, "/api/v1/topics", "", []string{"Sec-Fetch-Site", "same-site", "Sec-Fetch-Mode", "no-cors", "Sec-Fetch-Dest", "script"}},
			"an answer in a frame":               {http.MethodGet, "/api/v1/docs", "", []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "iframe"}},
			"a profile that takes time":          {http.MethodGet, "/debug/pprof/profile", "", []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "no-cors", "Sec-Fetch-Dest", "image"}},
		} {
			w := a.do(c.method, c.path, c.body, append(c.headers, csrfHeader, s.CSRFToken)...)
			a.want(where+": "+what, http.StatusForbidden, w)
			for header := range w.Header() {
				if strings.HasPrefix(header, "Access-Control-") {
					t.Errorf("%s: %s: %s", where, what, header)
				}
			}
		}
		if _, there := a.c.Image().Topic("made"); there {
			t.Errorf("%s: a topic was made", where)
		}
		a.want(where+": a module of its own pages", http.StatusOK, a.do(http.MethodGet, "/", "", "Origin", own, "Sec-Fetch-Site", "same-origin", "Sec-Fetch-Mode", "cors", "Sec-Fetch-Dest", "script"))
		a.want(where+": a profile for a page of its own", http.StatusForbidden, a.do(http.MethodGet, "/debug/pprof/heap", "", "Origin", own))
		a.want(where+": a link", http.StatusOK, a.do(http.MethodGet, docsPath, "", "Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document"))
		a.want(where+": a page of its own", http.StatusOK, a.do(http.MethodGet, "/api/v1/topics", "", "Sec-Fetch-Site", "same-origin"))
		a.want(where+": a change by a page of its own", http.StatusNoContent, a.do(http.MethodDelete, "/api/v1/topics/one", "", "Origin", own, "Sec-Fetch-Site", "same-origin", csrfHeader, s.CSRFToken))
		guarded.topic("one")
	}
}

// What is no JSON is not taken for a body, whoever sends it.
func TestABodyIsJSON(t *testing.T) {
	a := askingOf(t, newAsking(t).c, func(o *Options) { o.Access, o.TLS, o.Reachable = nil, nil, false })
	for _, kind := range []string{"application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain", "text/plain;charset=UTF-8", "text/xml"} {
		r := a.request(http.MethodPost, "/api/v1/topics", `{"name":"made"}`)
		r.Header.Set("Content-Type", kind)
		a.want(kind, http.StatusUnsupportedMediaType, a.serve(r))
	}
	if _, there := a.c.Image().Topic("made"); there {
		t.Error("a topic was made")
	}
}

// No answer is framed, is a part of another site's page, is taken for HTML that it is not, tells
// where one was, or is kept by the browser, but for pages that anybody may read.
func TestHeadersOfAnswers(t *testing.T) {
	guarded := newAsking(t)
	open := askingOf(t, guarded.c, func(o *Options) { o.Access, o.TLS, o.Reachable = nil, nil, false })
	for where, a := range map[string]*asking{"where callers are asked": guarded, "where nobody is": open} {
		calls := map[string]string{docsPath: http.MethodGet, "/api/v1/none": http.MethodGet, healthPath: http.MethodGet, "/": http.MethodGet, "/debug/logs": http.MethodGet}
		for _, row := range a.s.rows {
			calls[strings.NewReplacer("{name}", "one", "{id}", "3", "{group}", "g").Replace(row.Path)] = row.Method
		}
		for path, method := range calls {
			body := ""
			if method != http.MethodGet {
				body = "{"
			}
			w := a.do(method, path, body, "Authorization", "Bearer "+a.local)
			for name, want := range map[string]string{"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer", "Cross-Origin-Resource-Policy": "same-origin"} {
				if got := w.Header().Values(name); len(got) != 1 || got[0] != want {
					t.Errorf("%s: %s %s: %s is %q", where, method, path, name, got)
				}
			}
			policy := w.Header().Values("Content-Security-Policy")
			if len(policy) != 1 || !strings.Contains(policy[0], "default-src 'none'") || !strings.Contains(policy[0], "frame-ancestors 'none'") || strings.Contains(policy[0], "unsafe") {
				t.Errorf("%s: %s %s: %q", where, method, path, policy)
			}
			if strings.HasPrefix(path, "/api/v1/") && path != docsPath && w.Header().Get("Cache-Control") != "no-store" {
				t.Errorf("%s: %s %s is kept: %q", where, method, path, w.Header())
			}
		}
	}
}

// The cookie of a session on loopback, where there is no TLS, is for nobody's script, and sent
// from no other site.
func TestTheCookieOnLoopback(t *testing.T) {
	a := newAsking(t, func(o *Options) { o.TLS, o.Reachable = nil, false })
	a.user("alice", "open sesame")
	_, c := a.login("alice", "open sesame")
	if c.Name != sessionCookie || !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Path != "/" || c.Domain != "" || c.MaxAge != 0 || !c.Expires.IsZero() {
		t.Errorf("%+v", c)
	}
}

// Who guesses at a login is told to wait, and for how long, the same for a user that is not
// there.
func TestALoginThatIsSlowedSaysSo(t *testing.T) {
	brake := sasl.BrakeLimits{UserBurst: 3, UserEvery: time.Hour, AddressBurst: 9, AddressEvery: time.Hour}
	c, _ := alone(t)
	a := askingOf(t, c, func(o *Options) {
		o.Access.Logins = login.New(login.Options{Mechanisms: mechanismsOf(c), Brake: brake})
	})
	a.user("alice", "open sesame")
	said := map[string]bool{}
	for _, user := range []string{"alice", "nobody"} {
		body := `{"user":"` + user + `","password":"wrong"}`
		for range 3 {
			a.want("a guess", http.StatusUnauthorized, a.do(http.MethodPost, sessionPath, body))
		}
		w := a.do(http.MethodPost, sessionPath, body)
		a.want("one too many", http.StatusTooManyRequests, w, "try again in a while")
		if w.Header().Get("Retry-After") == "" || len(w.Result().Cookies()) > 0 {
			t.Errorf("%s: %v", user, w.Header())
		}
		said[w.Body.String()] = true
	}
	if len(said) != 1 {
		t.Errorf("it tells who is a user: %v", said)
	}
}

// topic makes one, unless it is there.
func (a *asking) topic(name string) {
	a.t.Helper()
	if _, there := a.c.Image().Topic(name); there {
		return
	}
	a.want("a topic", http.StatusCreated, a.do(http.MethodPost, "/api/v1/topics", `{"name":"`+name+`"}`, "Authorization", "Bearer "+a.local))
}

// A page that finds out that nobody has logged in yet is no failed login; any other call by nobody
// is one.
func TestWhoAsksWhoItIsHasNotFailed(t *testing.T) {
	r := &recorded{}
	a := newAsking(t, func(o *Options) { o.Audit = r })
	a.want("who am I", http.StatusUnauthorized, a.do(http.MethodGet, sessionPath, ""))
	if len(r.events) != 0 {
		t.Errorf("%+v", r.events)
	}
	a.want("with a cookie of nobody", http.StatusUnauthorized, a.do(http.MethodGet, sessionPath, "", "Cookie", secureSessionCookie+"=x"))
	a.want("another call", http.StatusUnauthorized, a.do(http.MethodGet, brokersPath, ""))
	a.want("a logout", http.StatusUnauthorized, a.do(http.MethodDelete, sessionPath, ""))
	if len(r.events) != 3 {
		t.Errorf("%+v", r.events)
	}
}
