package admin

import (
	"context"
	"crypto/subtle"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/broker/login"
	"rustmq.dev/rustmq/security/acl"
	"rustmq.dev/rustmq/security/sasl"
	"rustmq.dev/rustmq/storage/guard"
	"rustmq.dev/rustmq/transport/kafka"
)

// Access is who may call the API.
type Access struct {
	// Logins judges passwords, and tokens of an identity provider if Bearer is set.
	Logins *login.Table
	Bearer bool
	// LocalToken is the hash of the token that lies in the data directory, whose bearer may
	// do everything; see [NewLocalToken].
	LocalToken [32]byte
	// LocalTokenFile is where it lies, in words.
	LocalTokenFile string
	// Certificate is who has shown a certificate, in Kafka's form; "" for nobody, and for one
	// that says nothing. An error refuses the call. nil: nobody is asked for one.
	Certificate func(tls.ConnectionState) (principal string, err error)
	// Metrics says that /metrics asks too.
	Metrics bool
	// SessionIdle and SessionLongest bound sessions.
	SessionIdle, SessionLongest time.Duration
}

const (
	anonymousPrincipal = "User:ANONYMOUS"
	localPrincipal     = "Local:admin" // no rule is for it
	apiTokenMechanism  = "API-TOKEN"   // in the counts of logins
)

// NewLocalToken makes the text of a token from 32 random bytes, and the hash by which it is
// known.
func NewLocalToken(random [apiTokenSecret]byte) (text string, hash [32]byte) {
	text = newSecret(apiTokenStart, random[:])
	hash, _ = secretHash(apiTokenStart, text)
	return text, hash
}

// subject is who a request comes from.
type subject struct {
	principal string
	operator  bool   // may do everything
	readOnly  bool   // may only look
	byToken   bool   // by an API token
	user      string // the name in principal
	session   string // the cookie, of who came by one
	host      netip.Addr
	matcher   *acl.Matcher // nil: whoever is known may do everything
	// stands reports whether what it came by is still good; nil: it is.
	stands func() bool
}

// may reports whether the subject may do op with a resource. Nobody in particular, where
// nobody is asked, may do everything.
func (s *subject) may(op acl.Operation, t acl.ResourceType, name string) bool {
	if s == nil || s.operator || s.matcher == nil {
		return true
	}
	return guard.Check("admin.authorised", s.matcher.Allowed(s.principal, s.host, op, t, name))
}

type subjectKey struct{}

// subjectOf is who a call comes from; nil: nobody is asked.
func subjectOf(ctx context.Context) *subject {
	s, _ := ctx.Value(subjectKey{}).(*subject)
	return s
}

// refusal is why a request is not served, as an answer.
type refusal struct {
	status int
	detail string
	why    error // for the log; nil: as detail
}

func (r *refusal) Error() string {
	if r.why != nil {
		return r.why.Error()
	}
	return r.detail
}

// door asks who calls, before anything of a request but its head is read.
type door struct {
	o        Options
	secure   bool // nobody in between sees what is said
	log      *slog.Logger
	now      func() time.Time
	matchers matchers

	mu       sync.Mutex
	sessions *sessions // guarded by mu
}

func newDoor(o Options, now func() time.Time) *door {
	d := &door{o: o, secure: o.TLS != nil || !o.Reachable, log: o.Log, now: now}
	if o.Access != nil {
		d.sessions = newSessions(o.Access.SessionIdle, o.Access.SessionLongest)
	}
	return d
}

// image is the metadata that callers are judged by.
func (d *door) image() *metadata.Image {
	if d.o.Image != nil {
		return d.o.Image()
	}
	return d.o.Cluster.Image()
}

// matchers keeps what was made of the rules of an image.
type matchers struct {
	mu   sync.Mutex
	of   *metadata.Image // guarded by mu, as is is
	made *acl.Matcher
}

func (m *matchers) matcher(image *metadata.Image, super []string) *acl.Matcher {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.of == nil || !m.of.SameACLs(image) {
		m.made = acl.Compile(slices.Collect(image.ACLs()), super)
	}
	m.of = image
	return m.made
}

// asks answers who has not said who it is, and has next serve all others as that.
func (d *door) asks(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store") // it is for who calls, and may hold records or secrets
		if d.o.Access == nil {
			next.ServeHTTP(w, r)
			return
		}
		who, refused := d.who(r)
		if refused == nil {
			refused = d.intends(r, who)
		}
		if refused != nil {
			d.refuse(w, r, who, refused)
			return
		}
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), subjectKey{}, who)))
	})
}

func (d *door) refuse(w http.ResponseWriter, r *http.Request, who *subject, refused *refusal) {
	switch refused.status {
	case http.StatusUnauthorized:
		w.Header().Set("WWW-Authenticate", `Bearer realm="rustmq"`) // no Basic: a browser would ask, and say it everywhere
	case http.StatusTooManyRequests:
		w.Header().Set("Retry-After", "1")
	}
	principal := ""
	if who != nil {
		principal = who.principal
	}
	if !asksWhoItIs(r, refused) {
		d.turnedAway(r.Context(), who, r.URL.Path, refused)
	}
	d.log.Info("a call of the admin API was refused", "remote", r.RemoteAddr, "method", r.Method, "path", visible(r.URL.Path), "principal", principal, "status", refused.status, "reason", visible(refused.Error()))
	writeProblem(w, refused.status, refused.detail)
}

// who finds out who a request comes from. POST of a session comes from nobody yet.
func (d *door) who(r *http.Request) (*subject, *refusal) {
	given, err := parseAuthorization(r.Header.Values("Authorization"))
	if err != nil {
		return nil, &refusal{status: http.StatusBadRequest, detail: err.Error()}
	}
	who := &subject{host: hostOf(r), principal: anonymousPrincipal}
	client := d.client(who)
	var refused *refusal
	switch {
	case given.kind != noCredential && !guard.Check("admin.secrets-encrypted", d.secure):
		refused = &refusal{status: http.StatusForbidden, detail: "passwords and tokens are taken over TLS only (network.http_tls), or on the machine itself"}
	case given.kind == passwordGiven:
		refused = d.password(r.Context(), who, client, given)
	case given.kind == apiTokenGiven:
		refused = d.apiToken(who, client, given.token)
	case given.kind == signedTokenGiven:
		refused = d.signedToken(r.Context(), who, client, given.token)
	default:
		refused = d.shown(who, r)
	}
	if refused != nil {
		return nil, refused
	}
	if given.kind != noCredential {
		how := waysIn[given.kind]
		if who.principal == localPrincipal {
			how = "by the token of the data directory"
		}
		d.known(r.Context(), who, how)
	}
	d.judge(who)
	return who, nil
}

// judge has a subject have the rights of the moment.
func (d *door) judge(who *subject) {
	if who.principal != localPrincipal && d.o.Authorization.On {
		who.matcher = d.matchers.matcher(d.image(), d.o.Authorization.SuperUsers)
		who.operator = who.matcher.Super(who.principal)
	}
}

// again is a subject by now: with the rights of the moment, unless what it came by is not good any
// more.
func (d *door) again(who *subject) (*subject, *refusal) {
	if who.stands != nil && !guard.Check("admin.stream-stands", who.stands()) {
		return nil, &refusal{status: http.StatusUnauthorized, detail: "the session, the token or the password that this began with is not good any more: log in again"}
	}
	now := *who
	d.judge(&now)
	return &now, nil
}

// client is a subject as who counts failures knows it: by the same address as for Kafka.
func (d *door) client(who *subject) login.Client {
	return login.Client{Address: kafka.AddressOf(net.TCPAddrFromAddrPort(netip.AddrPortFrom(who.host, 0))), Encrypted: d.secure}
}

// waysIn are how somebody has proved who it is, in words.
var waysIn = map[credentialKind]string{passwordGiven: "by a password", apiTokenGiven: "by an API token", signedTokenGiven: "by a token of the identity provider"}

// hostOf is where a request comes from.
func hostOf(r *http.Request) netip.Addr {
	at, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return at.Addr().Unmap().WithZone("")
}

// unknown is what everybody is told whose credentials are not taken, whatever is wrong with
// them.
func unknown(why error) *refusal {
	if errors.Is(why, login.ErrSlowed) {
		return &refusal{http.StatusTooManyRequests, "too many failures lately from this address: try again in a while", why}
	}
	if errors.Is(why, context.Canceled) || errors.Is(why, context.DeadlineExceeded) {
		return &refusal{http.StatusServiceUnavailable, "the call ended before it was known who calls", why}
	}
	return &refusal{http.StatusUnauthorized, "not authenticated: the user is not known, the password is another, or the token is not known, has ended or was taken back", why}
}

func (s *subject) is(principal string) {
	s.principal = principal
	s.user = strings.TrimPrefix(principal, "User:")
}

func (d *door) password(ctx context.Context, who *subject, c login.Client, given credential) *refusal {
	before, _ := d.image().User(given.user) // before the password is judged, which may change
	result, err := d.o.Access.Logins.Once(ctx, c, sasl.Plain, []byte("\x00"+given.user+"\x00"+given.password))
	if err != nil {
		return unknown(err)
	}
	who.is(result.Principal)
	who.stands = func() bool {
		now, _ := d.image().User(given.user)
		return passwordMark(now) == passwordMark(before)
	}
	return nil
}

// signedToken is one of an identity provider.
func (d *door) signedToken(ctx context.Context, who *subject, c login.Client, token string) *refusal {
	if !d.o.Access.Bearer {
		return unknown(fmt.Errorf("a token that is none of the API's, and no identity provider is set: %w", sasl.ErrDenied))
	}
	result, err := d.o.Access.Logins.Once(ctx, c, sasl.OAuthBearer, []byte("n,,\x01auth=Bearer "+token+"\x01\x01"))
	if err != nil {
		return unknown(err)
	}
	who.is(result.Principal)
	who.stands = func() bool { return result.Ends.IsZero() || d.now().Before(result.Ends) }
	return nil
}

func (d *door) apiToken(who *subject, c login.Client, text string) *refusal {
	err := d.o.Access.Logins.Judge(c, apiTokenMechanism, func() bool {
		hash, ok := secretHash(apiTokenStart, text)
		if !ok {
			return false
		}
		if subtle.ConstantTimeCompare(hash[:], d.o.Access.LocalToken[:]) == 1 {
			who.principal, who.operator = localPrincipal, true
			return true
		}
		t, known := d.tokenOf(hash)
		if !known {
			return false
		}
		who.is(t.Principal)
		who.stands = func() bool { _, still := d.tokenOf(hash); return still }
		who.readOnly, who.byToken = t.ReadOnly, true
		return true
	})
	if err != nil {
		return unknown(err)
	}
	return nil
}

// tokenOf is the API token of a hash, unless it has ended.
func (d *door) tokenOf(hash [32]byte) (*metadata.APIToken, bool) {
	t, known := d.image().APITokenOf(string(hash[:]))
	return t, known && guard.Check("admin.token-expires", t.Expires.IsZero() || d.now().Before(t.Expires))
}

// shown knows who has sent no header: by a cookie, or a certificate.
func (d *door) shown(who *subject, r *http.Request) *refusal {
	if text := sessionOf(r, d.o.TLS != nil); text != "" && d.secure && !beginsSession(r) {
		d.mu.Lock()
		is, stands := d.sessions.use(d.now(), text, d.image().User)
		d.mu.Unlock()
		if stands {
			who.is("User:" + is.user)
			who.session = text
			who.stands = func() bool {
				d.mu.Lock()
				defer d.mu.Unlock()
				return d.sessions.stands(d.now(), text, d.image().User)
			}
			return nil
		}
		return &refusal{status: http.StatusUnauthorized, detail: "the session has ended: log in again"}
	}
	if d.o.Access.Certificate != nil && r.TLS != nil {
		principal, err := d.o.Access.Certificate(*r.TLS)
		if err != nil {
			return unknown(err)
		}
		if principal != "" {
			who.is(principal)
			who.stands = func() bool {
				is, err := d.o.Access.Certificate(*r.TLS)
				return err == nil && is == principal
			}
			return nil
		}
	}
	if beginsSession(r) {
		return nil
	}
	return &refusal{status: http.StatusUnauthorized, detail: "this server asks who calls: " + d.ways(), why: errUnsaid}
}

// errUnsaid is what is recorded of a call that does not say who it comes from.
var errUnsaid = errors.New("it does not say who calls")

// ways says how a call says who it comes from.
func (d *door) ways() string {
	return fmt.Sprintf("rustmq admin takes --token-file FILE with an API token, or --user NAME and --password-file FILE; other programs send Authorization: Bearer TOKEN, or Basic with user and password (curl --user). "+
		"On the machine of the server, %s is such a file, for whoever may read it", d.o.Access.LocalTokenFile)
}

// asksWhoItIs reports whether a request is that of the console which finds out that nobody has
// logged in yet: it is refused, and no attempt of anybody.
func asksWhoItIs(r *http.Request, refused *refusal) bool {
	return errors.Is(refused.why, errUnsaid) && r.Method == http.MethodGet && r.URL.Path == sessionPath
}

func beginsSession(r *http.Request) bool {
	return r.Method == http.MethodPost && r.URL.Path == sessionPath
}

// Methods that change nothing, whatever they are asked for.
func looksOnly(r *http.Request) bool {
	return r.Method == http.MethodGet || r.Method == http.MethodHead
}

// csrfHeader has the token of the session in it.
const csrfHeader = "X-CSRF-Token"

// intends refuses what changes something where nobody may have meant to: by a token that may
// only look, or by the cookie of a browser in which a page of another site runs.
func (d *door) intends(r *http.Request, who *subject) *refusal {
	switch {
	case looksOnly(r):
	case !guard.Check("admin.read-only", !who.readOnly):
		return &refusal{status: http.StatusForbidden, detail: "the token is read-only: it may only look; what changes something takes one that was made without --read-only"}
	case who.session == "":
	case !guard.Check("admin.csrf-origin", d.sameOrigin(r)):
		return &refusal{status: http.StatusForbidden, detail: "a call by the cookie of a session that changes something comes from a page of this server, and says so in Origin; programs need no session: they send a token or a password with each call"}
	case !sameCSRF(who.session, r.Header.Get(csrfHeader)):
		return &refusal{status: http.StatusForbidden, detail: "a call by the cookie of a session has its token in " + csrfHeader + ": GET " + sessionPath + " tells it"}
	}
	return nil
}

// asksForMetrics has next serve those who may describe the cluster, where it is asked.
func (d *door) asksForMetrics(next http.Handler) http.Handler {
	if d.o.Access == nil || !d.o.Access.Metrics {
		return next
	}
	return d.asks(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who := subjectOf(r.Context())
		if missing := describesCluster.missing(who, ""); missing != nil {
			d.refuse(w, r, who, &refusal{status: http.StatusForbidden, detail: missing.Error()})
			return
		}
		next.ServeHTTP(w, r)
	}))
}
