package admin

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/security/acl"
	"rustmq.dev/rustmq/security/sasl"
)

// login begins a session, and has the calls that follow have its cookie.
func (a *asking) login(user, password string) (Session, *http.Cookie) {
	a.t.Helper()
	w := a.do(http.MethodPost, sessionPath, fmt.Sprintf(`{"user":%q,"password":%q}`, user, password))
	a.want("login", http.StatusCreated, w)
	var s Session
	if err := json.Unmarshal(w.Body.Bytes(), &s); err != nil {
		a.t.Fatal(err)
	}
	cookies := w.Result().Cookies()
	if len(cookies) != 1 {
		a.t.Fatalf("cookies %v", w.Header())
	}
	a.cookies = []*http.Cookie{{Name: cookies[0].Name, Value: cookies[0].Value}}
	return s, cookies[0]
}

func TestASessionOfTheConsole(t *testing.T) {
	a := newAsking(t)
	a.user("alice", "open sesame")
	a.allow("alice", acl.Describe, acl.Cluster, "")
	a.allow("alice", acl.Create, acl.Topic, "made")
	for what, body := range map[string]string{"a wrong password": `{"user":"alice","password":"open sesamE"}`, "an unknown user": `{"user":"bob","password":"open sesame"}`} {
		w := a.do(http.MethodPost, sessionPath, body)
		a.want(what, http.StatusUnauthorized, w)
		if len(w.Result().Cookies()) > 0 {
			t.Errorf("%s: %v", what, w.Header())
		}
	}
	w := a.do(http.MethodPost, sessionPath, `{"user":"alice","password":"open sesame","more":1}`)
	if a.want("more than that", http.StatusUnprocessableEntity, w); strings.Contains(w.Body.String(), "sesame") {
		t.Errorf("the answer has the password: %s", w.Body)
	}
	s, c := a.login("alice", "open sesame")
	if c.Name != "__Host-rustmq-session" || !c.Secure || !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Path != "/" || c.Domain != "" {
		t.Errorf("cookie %+v", c)
	}
	if s.Principal != "User:alice" || s.Super || s.CSRFToken == "" || s.Ends == nil {
		t.Errorf("%+v", s)
	}
	a.want("a look", http.StatusOK, a.do(http.MethodGet, brokersPath, ""))
	a.want("who it is", http.StatusOK, a.do(http.MethodGet, sessionPath, ""), s.CSRFToken, "User:alice")
	const make, ours = `{"name":"made"}`, "https://10.0.0.1:9642"
	for what, headers := range map[string][]string{
		"without a token and an Origin": nil,
		"without a token":               {"Origin", ours},
		"without an Origin":             {csrfHeader, s.CSRFToken},
		"with the token of another":     {"Origin", ours, csrfHeader, csrfToken("x")},
		"with the cookie as the token":  {"Origin", ours, csrfHeader, a.cookies[0].Value},
		"from another site":             {"Origin", "https://evil.example", csrfHeader, s.CSRFToken},
		"from another port":             {"Origin", "https://10.0.0.1:9643", csrfHeader, s.CSRFToken},
		"from the same host in clear":   {"Origin", "http://10.0.0.1:9642", csrfHeader, s.CSRFToken},
		"from a page without an origin": {"Origin", "null", csrfHeader, s.CSRFToken},
		"from two pages":                {"Origin", ours, "Origin", "https://evil.example", csrfHeader, s.CSRFToken},
	} {
		a.want(what, http.StatusForbidden, a.do(http.MethodPost, "/api/v1/topics", make, headers...))
	}
	a.want("a look from another site", http.StatusForbidden, a.do(http.MethodGet, brokersPath, "", "Origin", "https://evil.example"))
	a.want("a change", http.StatusCreated, a.do(http.MethodPost, "/api/v1/topics", make, "Origin", ours, csrfHeader, s.CSRFToken))
	a.want("a change that no rule allows", http.StatusForbidden, a.do(http.MethodDelete, "/api/v1/topics/made", "", "Origin", ours, csrfHeader, s.CSRFToken), "permissions delete")

	was := a.cookies
	a.cookies = []*http.Cookie{{Name: sessionCookie, Value: was[0].Value}}
	a.want("the name of a cookie without TLS", http.StatusUnauthorized, a.do(http.MethodGet, brokersPath, ""))
	a.cookies = []*http.Cookie{was[0], was[0]}
	a.want("the cookie twice", http.StatusUnauthorized, a.do(http.MethodGet, brokersPath, ""))
	a.cookies = was
	clear := askingOf(t, a.c, func(o *Options) { o.TLS = nil })
	clear.s.rows, clear.cookies = nil, []*http.Cookie{{Name: sessionCookie, Value: was[0].Value}}
	clear.want("a cookie without TLS", http.StatusUnauthorized, clear.do(http.MethodGet, brokersPath, ""))

	a.want("logout without a token", http.StatusForbidden, a.do(http.MethodDelete, sessionPath, "", "Origin", ours))
	w = a.do(http.MethodDelete, sessionPath, "", "Origin", ours, csrfHeader, s.CSRFToken)
	if a.want("logout", http.StatusNoContent, w); len(w.Result().Cookies()) != 1 || w.Result().Cookies()[0].MaxAge >= 0 {
		t.Errorf("the cookie is left: %v", w.Header())
	}
	a.want("after that", http.StatusUnauthorized, a.do(http.MethodGet, brokersPath, ""), "has ended")
}

// A session ends with the password that it began with, and with the user.
func TestASessionEndsWithItsPassword(t *testing.T) {
	a := newAsking(t)
	a.allow("alice", acl.Describe, acl.Cluster, "")
	for what, end := range map[string]func(){
		"another password": func() { a.user("alice", "another one") },
		"no user": func() {
			if err := a.c.AlterUsers(t.Context(), []metadata.UserChange{{User: "alice", Remove: []metadata.ScramMechanism{metadata.ScramSHA256}}})[0]; err != nil {
				t.Fatal(err)
			}
		},
	} {
		a.cookies = nil
		a.user("alice", "open sesame")
		a.login("alice", "open sesame")
		a.want("before", http.StatusOK, a.do(http.MethodGet, brokersPath, ""))
		end()
		a.want(what, http.StatusUnauthorized, a.do(http.MethodGet, brokersPath, ""))
		a.user("alice", "open sesame")
		a.want(what+", and the same again", http.StatusUnauthorized, a.do(http.MethodGet, brokersPath, ""))
	}
}

func TestSessionsEndWithTime(t *testing.T) {
	now := time.Unix(1000, 0)
	alice := &metadata.User{Name: "alice", Credentials: []metadata.ScramCredential{{Mechanism: metadata.ScramSHA256, Salt: []byte("s")}}}
	user := func(string) (*metadata.User, bool) { return alice, true }
	s := newSessions(time.Minute, 5*time.Minute)
	s.begin(now, "text", alice)
	stands := func(after time.Duration) bool {
		now = now.Add(after)
		_, ok := s.use(now, "text", user)
		return ok
	}
	for i := range 6 { // 4:54 after it began
		if !stands(49 * time.Second) {
			t.Fatalf("gone at use %d", i)
		}
	}
	if stands(49 * time.Second) {
		t.Error("it lasts longer than the longest")
	}
	s.begin(now, "text", alice)
	if stands(time.Minute) {
		t.Error("it stands though nobody has used it")
	}
	if len(s.all) != 0 || s.order.Len() != 0 {
		t.Errorf("%d, %d left", len(s.all), s.order.Len())
	}
	if _, ok := s.use(now, "", user); ok {
		t.Error("no cookie is a session")
	}
}

func TestSessionsAreBounded(t *testing.T) {
	now := time.Unix(1000, 0)
	s := newSessions(time.Hour, time.Hour)
	users := map[string]*metadata.User{}
	user := func(name string) (*metadata.User, bool) { u, ok := users[name]; return u, ok }
	begin := func(name, text string) {
		if users[name] == nil {
			users[name] = &metadata.User{Name: name}
		}
		s.begin(now, text, users[name])
	}
	for i := range maxUserSessions + 1 {
		begin("alice", fmt.Sprint("a", i))
	}
	if _, ok := s.use(now, "a0", user); ok || len(s.all) != maxUserSessions {
		t.Errorf("%d sessions of one user", len(s.all))
	}
	for i := range maxSessions {
		begin(fmt.Sprint(i), fmt.Sprint("t", i))
	}
	if _, ok := s.use(now, "t999", user); !ok || len(s.all) != maxSessions {
		t.Errorf("%d sessions", len(s.all))
	}
}

// FuzzAuthorization: whatever stands in the header, it is read or refused, and what is read
// can be written again.
func FuzzAuthorization(f *testing.F) {
	for _, seed := range []string{"", "Basic", "Basic YWxpY2U6b3BlbiBzZXNhbWU=", "Bearer rmq_x", "bearer eyJ.e30.", "Basic OjE=", "Basic YTo=", "Bearer ", "Basic\x00", "Bearer a b", strings.Repeat("Bearer ", 9000)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, header string) {
		c, err := parseAuthorization([]string{header})
		if err != nil {
			if strings.Contains(header, "sesame") && strings.Contains(err.Error(), "sesame") {
				t.Error("the error has the secret in it")
			}
			return
		}
		switch c.kind {
		case passwordGiven:
			again, err := parseAuthorization([]string{basic(c.user, c.password)})
			if err != nil || again != c || strings.ContainsAny(c.user+c.password, "\x00\r\n") || strings.Contains(c.user, ":") || len(c.password) > sasl.MaxName+1+sasl.MaxPassword {
				t.Errorf("%q: %+v, %v", header, again, err)
			}
		case apiTokenGiven, signedTokenGiven:
			again, err := parseAuthorization([]string{"Bearer " + c.token})
			if err != nil || again != c || strings.ContainsAny(c.token, "\x00\x01 ,") {
				t.Errorf("%q: %+v, %v", header, again, err)
			}
		default:
			t.Errorf("%q says nothing", header)
		}
	})
}

// FuzzSessionCookie: whatever stands in the cookies, it is one session, or none.
func FuzzSessionCookie(f *testing.F) {
	for _, seed := range []string{"", "rustmq-session=x", "__Host-rustmq-session=x; __Host-rustmq-session=y", "a=b; rustmq-session=\"q\"", "=;;=", "rustmq-session"} {
		f.Add(seed)
	}
	s := newSessions(time.Hour, time.Hour)
	nobody := func(string) (*metadata.User, bool) { return nil, false }
	f.Fuzz(func(t *testing.T, header string) {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header["Cookie"] = []string{header}
		for _, secure := range []bool{false, true} {
			text := sessionOf(r, secure)
			if _, ok := s.use(time.Unix(1, 0), text, nobody); ok {
				t.Errorf("%q is a session", text)
			}
			if text != "" && !strings.Contains(header, text) {
				t.Errorf("%q of %q", text, header)
			}
		}
	})
}
