package admin

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/security/acl"
	"rustmq.dev/rustmq/security/sasl"
	"rustmq.dev/rustmq/storage/guard"
)

const tokensPath = "/api/v1/tokens" // #nosec G101 -- a path

// maxTokenLife is the longest that a token with an end may last.
const maxTokenLife = 10 * 365 * 24 * time.Hour

// Token is an API token, but for what proves it.
type Token struct {
	Name      string     `json:"name"`
	Principal string     `json:"principal" doc:"who its bearer is taken for"`
	ReadOnly  bool       `json:"read_only,omitempty" doc:"it is for GET only"`
	Created   time.Time  `json:"created"`
	Expires   *time.Time `json:"expires,omitempty" doc:"left out: never"`
	State     string     `json:"state" enum:"valid,expired,lost" doc:"lost: the cluster was brought back from its bucket, where tokens are not kept: delete it and create another"`
}

// NewToken is the body of a creation.
type NewToken struct {
	Name      string `json:"name" minLength:"1" maxLength:"100"`
	Principal string `json:"principal,omitempty" maxLength:"1024" doc:"User:NAME; left out: the caller"`
	ReadOnly  bool   `json:"read_only,omitempty"`
	Seconds   int64  `json:"expires_in_seconds,omitempty" minimum:"0" doc:"0: it does not expire"`
}

// CreatedToken is a token with its text, which is never told again.
type CreatedToken struct {
	Token
	Secret string `json:"token"`
}

type (
	tokenName struct {
		Name string `path:"name" maxLength:"100"`
	}
	createTokenInput  struct{ Body NewToken }
	createTokenOutput struct {
		CacheControl string `header:"Cache-Control"`
		Body         CreatedToken
	}
	tokensOutput struct {
		Body struct {
			Tokens []Token `json:"tokens"`
			NextPage
		}
	}
)

type tokensAPI struct{ cluster Cluster }

// As Kafka has it of delegation tokens (KIP-48, KIP-373): whoever is known may have tokens of
// their own, and needs a rule for those of others.
var (
	createsTokens   = need{acl.CreateTokens, acl.User}
	describesTokens = need{acl.DescribeTokens, acl.User}
)

func registerTokens(h *routes, a tokensAPI) {
	route(h, http.MethodGet, tokensPath, whoever[PageQuery]("the caller's own; those of others with describe-tokens on the user, or describe on the cluster"), a.list)
	route(h, http.MethodPost, tokensPath, whoever[createTokenInput]("for another user: create-tokens on that user; not by an API token").act("token.create").about(func(in *createTokenInput) string { return in.Body.Name }).saying(toldToken), a.create, withStatus(http.StatusCreated))
	route(h, http.MethodDelete, tokensPath+"/{name}", whoever[tokenName]("one of another user: create-tokens on that user, or alter on the cluster").deciding(a.mayRevoke).act("token.revoke").about(func(in *tokenName) string { return in.Name }), a.delete)
}

// toldToken is what a token is to be, as the audit log has it.
func toldToken(in *createTokenInput) string {
	principal := in.Body.Principal
	if principal == "" {
		principal = "the caller"
	}
	may, expires := "", "never"
	if in.Body.ReadOnly {
		may = " read-only"
	}
	if in.Body.Seconds > 0 {
		expires = fmt.Sprintf("%d s after", in.Body.Seconds)
	}
	return "for " + principal + may + ", expires " + expires
}

// missingFor is the refusal of a subject that lacks n for the tokens of a principal.
func (n need) missingFor(who *subject, principal string) error {
	if who != nil && who.principal == principal {
		return nil
	}
	return n.missing(who, principal)
}

func shownToken(t *metadata.APIToken, now time.Time) Token {
	shown := Token{Name: t.Name, Principal: t.Principal, ReadOnly: t.ReadOnly, Created: t.Created, State: "valid"}
	if !t.Expires.IsZero() {
		shown.Expires = &t.Expires
		if !now.Before(t.Expires) {
			shown.State = "expired"
		}
	}
	if t.Lost() {
		shown.State = "lost"
	}
	return shown
}

func (a tokensAPI) list(ctx context.Context, in *PageQuery) (*tokensOutput, error) {
	who, out := subjectOf(ctx), &tokensOutput{}
	out.Body.Tokens = []Token{}
	for t := range a.cluster.Image().APITokens() {
		if describesTokens.missingFor(who, t.Principal) == nil || describesCluster.missing(who, "") == nil {
			out.Body.Tokens = append(out.Body.Tokens, shownToken(t, time.Now()))
		}
	}
	var err error
	out.Body.Tokens, out.Body.NextPage, err = partOf(*in, out.Body.Tokens, func(t Token) string { return t.Name })
	return out, err
}

func (a tokensAPI) create(ctx context.Context, in *createTokenInput) (*createTokenOutput, error) {
	who, principal := subjectOf(ctx), in.Body.Principal
	if principal == "" && who != nil && strings.HasPrefix(who.principal, "User:") {
		principal = who.principal
	}
	if principal == "" {
		return nil, badRequest(errors.New("whose token is it? The caller is no user: give a principal (rustmq admin tokens create --principal NAME)"))
	}
	principal, err := acl.ParsePrincipal(principal)
	if err == nil {
		err = sasl.CheckName(strings.TrimPrefix(principal, "User:"))
	}
	if err != nil {
		return nil, badRequest(fmt.Errorf("whose token is it? The principal %.100q is no user's: %w", in.Body.Principal, err))
	}
	if who != nil && !guard.Check("admin.token-by-token", !who.byToken) {
		return nil, forbidden(fmt.Errorf("an API token makes no other, which could outlast it: log in by a password or a certificate"))
	}
	if refused := createsTokens.missingFor(who, principal); refused != nil {
		return nil, forbidden(refused)
	}
	if in.Body.Seconds > int64(maxTokenLife/time.Second) {
		return nil, badRequest(fmt.Errorf("expires_in_seconds %d: at most %d", in.Body.Seconds, int64(maxTokenLife/time.Second)))
	}
	if !visibleName(in.Body.Name) {
		return nil, badRequest(fmt.Errorf("the name of a token has letters, digits and . _ -"))
	}
	var random [apiTokenSecret]byte
	_, _ = rand.Read(random[:]) // never fails
	text, hash := NewLocalToken(random)
	t := metadata.APIToken{
		Name: in.Body.Name, Principal: principal, ReadOnly: in.Body.ReadOnly, Hash: string(hash[:]), Created: time.Now().UTC().Truncate(time.Millisecond),
	}
	if in.Body.Seconds > 0 {
		t.Expires = t.Created.Add(time.Duration(in.Body.Seconds) * time.Second)
	}
	if _, known := a.cluster.Image().APIToken(t.Name); known {
		return nil, huma.NewError(http.StatusConflict, fmt.Sprintf("there is an API token %q: choose another name, or take that one back first (rustmq admin tokens revoke %s)", t.Name, t.Name))
	}
	if err := a.cluster.CreateAPIToken(ctx, t); err != nil {
		return nil, problem(err)
	}
	return &createTokenOutput{"no-store", CreatedToken{shownToken(&t, t.Created), text}}, nil
}

// visibleName reports whether a name stands in tables, paths and shells as it is.
func visibleName(name string) bool {
	return name != "." && name != ".." && !strings.ContainsFunc(name, func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("._-", r))
	})
}

// mayRevoke refuses a subject that may not revoke the token of a name.
func (a tokensAPI) mayRevoke(who *subject, in *tokenName) error {
	t, _ := a.cluster.Image().APIToken(in.Name)
	return revocationOf(who, in.Name, t)
}

// revocationOf refuses a subject that may not revoke t, as one that is not there where it may
// not see it; nil is such a one.
func revocationOf(who *subject, name string, t *metadata.APIToken) (refused error) {
	if t != nil && altersCluster.missing(who, "") != nil {
		refused = createsTokens.missingFor(who, t.Principal)
	}
	if t == nil || refused != nil && describesTokens.missingFor(who, t.Principal) != nil && describesCluster.missing(who, "") != nil {
		return huma.NewError(http.StatusNotFound, fmt.Sprintf("there is no token %q that the caller may see", name))
	}
	if refused != nil {
		return forbidden(refused)
	}
	return nil
}

func (a tokensAPI) delete(ctx context.Context, in *tokenName) (*struct{}, error) {
	t, _ := a.cluster.Image().APIToken(in.Name)
	if refused := revocationOf(subjectOf(ctx), in.Name, t); refused != nil {
		return nil, refused
	}
	err := a.cluster.DeleteAPIToken(ctx, in.Name)
	if err != nil {
		err = problem(err)
	}
	tell(ctx, "token", in.Name, "of "+t.Principal, err)
	return nil, err
}
