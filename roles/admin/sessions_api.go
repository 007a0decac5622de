package admin

import (
	"context"
	"crypto/rand"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"rustmq.dev/rustmq/storage/guard"
)

const sessionPath = "/api/v1/session"

// Login is the body by which a session begins.
type Login struct {
	User     string `json:"user" minLength:"1" maxLength:"256"`
	Password string `json:"password" minLength:"1" maxLength:"1024"`
}

// Session is who a call comes from.
type Session struct {
	Principal string     `json:"principal"`
	Super     bool       `json:"super,omitempty" doc:"it may do everything"`
	ReadOnly  bool       `json:"read_only,omitempty"`
	Open      bool       `json:"open,omitempty" doc:"the server asks nobody who calls: there are no sessions"`
	CSRFToken string     `json:"csrf_token,omitempty" doc:"for the header X-CSRF-Token of calls that change something, by the cookie"`
	Ends      *time.Time `json:"ends,omitempty" doc:"of the session that has begun, at the latest"`
}

type (
	loginInput    struct{ Body Login }
	sessionOutput struct {
		SetCookie    []http.Cookie `header:"Set-Cookie"`
		CacheControl string        `header:"Cache-Control"`
		Body         Session
	}
	logoutOutput struct {
		SetCookie []http.Cookie `header:"Set-Cookie"`
	}
)

type sessionsAPI struct{ *door }

func registerSessions(h *routes, a sessionsAPI) {
	route(h, http.MethodPost, sessionPath, row[loginInput]{note: "for everybody: it is how a user logs in"}.act("session.begin").about(func(in *loginInput) string { return in.Body.User }), a.begin, withStatus(http.StatusCreated))
	route(h, http.MethodGet, sessionPath, whoever[struct{}](""), a.show)
	route(h, http.MethodDelete, sessionPath, whoever[struct{}]("it ends the session that calls").act("session.end"), a.end)
}

// registerNoSession answers who it is where nobody is asked.
func registerNoSession(h *routes) {
	route(h, http.MethodGet, sessionPath, whoever[struct{}](""), func(context.Context, *struct{}) (*sessionOutput, error) {
		return &sessionOutput{CacheControl: "no-store", Body: Session{Principal: anonymousPrincipal, Super: true, Open: true}}, nil
	})
}

// cookie is that of a session; without text it takes it away.
func (a sessionsAPI) cookie(text string) []http.Cookie {
	c := http.Cookie{Name: sessionCookie, Value: text, Path: "/", HttpOnly: true, SameSite: http.SameSiteStrictMode}
	if a.o.TLS != nil {
		c.Name, c.Secure = secureSessionCookie, true
	}
	if text == "" {
		c.MaxAge = -1
	}
	return []http.Cookie{c}
}

func (a sessionsAPI) begin(ctx context.Context, in *loginInput) (*sessionOutput, error) {
	if !guard.Check("admin.session-encrypted", a.secure) {
		return nil, huma.NewError(http.StatusForbidden, "sessions begin over TLS only (network.http_tls), or on the machine itself")
	}
	who := *subjectOf(ctx)
	u, known := a.o.Cluster.Image().User(in.Body.User) // before the password is judged, which may change
	if refused := a.password(ctx, &who, a.client(&who), credential{user: in.Body.User, password: in.Body.Password}); refused != nil {
		a.turnedAway(ctx, nil, sessionPath, refused)
		a.log.Info("a login was refused", "remote", who.host.String(), "user", visible(in.Body.User), "reason", visible(refused.Error()))
		err := error(huma.NewError(refused.status, refused.detail))
		if refused.status == http.StatusTooManyRequests {
			err = huma.ErrorWithHeaders(err, http.Header{"Retry-After": {"1"}})
		}
		return nil, err
	}
	if !known {
		return nil, huma.NewError(http.StatusUnauthorized, unknown(nil).detail)
	}
	var random [apiTokenSecret]byte
	_, _ = rand.Read(random[:]) // never fails
	text := newSecret("", random[:])
	a.mu.Lock()
	is := a.sessions.begin(a.now(), text, u)
	ends := is.begun.Add(a.sessions.longest).UTC()
	a.mu.Unlock()
	who.session = text
	*subjectOf(ctx) = who // from here on it is known who calls: the act is theirs
	a.known(ctx, &who, "by a password, for a session")
	return &sessionOutput{a.cookie(text), "no-store", Session{Principal: who.principal, Super: a.super(&who), CSRFToken: csrfToken(text), Ends: &ends}}, nil
}

// super reports whether a subject may do everything.
func (d *door) super(who *subject) bool {
	return who.operator || !d.o.Authorization.On || d.matchers.matcher(d.image(), d.o.Authorization.SuperUsers).Super(who.principal)
}

func (a sessionsAPI) show(ctx context.Context, _ *struct{}) (*sessionOutput, error) {
	who := subjectOf(ctx)
	out := &sessionOutput{CacheControl: "no-store", Body: Session{Principal: who.principal, Super: a.super(who), ReadOnly: who.readOnly}}
	if who.session != "" {
		out.Body.CSRFToken = csrfToken(who.session)
	}
	return out, nil
}

func (a sessionsAPI) end(ctx context.Context, _ *struct{}) (*logoutOutput, error) {
	if who := subjectOf(ctx); who.session != "" {
		a.mu.Lock()
		a.sessions.end(who.session)
		a.mu.Unlock()
	}
	return &logoutOutput{a.cookie("")}, nil
}
