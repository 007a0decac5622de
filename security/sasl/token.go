package sasl

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"rustmq.dev/rustmq/storage/guard"
)

// TokenRules say which tokens are taken.
type TokenRules struct {
	// Issuer and Audience are what a token must say in iss and, among others, in aud.
	Issuer, Audience string
	// Claim names the claim that is the name of the user.
	Claim string
	// Algorithms that tokens may be signed with.
	Algorithms []string
	// Skew is how far the clocks of who issues tokens and of this server may be apart.
	Skew time.Duration
}

// Algorithms lists the algorithms that can be allowed. None of them works with a key that
// its holders share (HS256), nor without one (none).
func Algorithms() []string {
	return []string{string(jose.RS256), string(jose.PS256), string(jose.ES256), string(jose.EdDSA)}
}

// Token is a token that is taken.
type Token struct {
	User    string
	Expires time.Time // with the skew
}

// Validate says what is missing in rules.
func (r *TokenRules) Validate() error {
	switch {
	case r.Issuer == "":
		return errors.New("no issuer of tokens")
	case r.Audience == "":
		return errors.New("no audience of tokens: those that are issued for other services would be taken")
	case r.Claim == "":
		return errors.New("no claim that names the user")
	case r.Skew < 0 || r.Skew > 5*time.Minute:
		return fmt.Errorf("a skew of %v: it is 5m at most", r.Skew)
	case len(r.Algorithms) == 0:
		return errors.New("no algorithms of signatures")
	}
	for _, a := range r.Algorithms {
		if !slices.Contains(Algorithms(), a) {
			return fmt.Errorf("%q is no algorithm of signatures that is taken; there are %s", a, strings.Join(Algorithms(), ", "))
		}
	}
	return nil
}

// Judge returns who a token is of, or a *Denial.
func (r *TokenRules) Judge(now time.Time, keys *KeySet, token string) (Token, error) {
	allowed := make([]jose.SignatureAlgorithm, len(r.Algorithms))
	for i, a := range r.Algorithms {
		allowed[i] = jose.SignatureAlgorithm(a)
	}
	parsed, err := jwt.ParseSigned(token, allowed)
	if err != nil {
		return Token{}, denied("", "the token is not signed as it must be: %s", shortened(err))
	}
	if len(parsed.Headers) != 1 { // it is compact, so that there is one
		return Token{}, denied("", "a token of %d signatures", len(parsed.Headers))
	}
	header := parsed.Headers[0]
	key, err := keys.find(header.KeyID, header.Algorithm)
	if err != nil {
		return Token{}, err
	}
	var claims jwt.Claims
	var all map[string]json.RawMessage
	if err := parsed.Claims(key, &claims, &all); err != nil {
		return Token{}, denied("", "the signature of the token does not hold: %s", shortened(err))
	}
	user, ok := claimed(all, r.Claim)
	if !ok {
		return Token{}, denied("", "the token has no claim %s that can be a name", r.Claim)
	}
	switch {
	case !guard.Check("sasl.token-issuer", claims.Issuer == r.Issuer):
		return Token{}, denied(user, "the token is of another issuer")
	case !guard.Check("sasl.token-audience", claims.Audience.Contains(r.Audience)):
		return Token{}, denied(user, "the token is for another audience")
	case claims.Expiry == nil:
		return Token{}, denied(user, "the token does not end")
	}
	ends := claims.Expiry.Time().Add(r.Skew)
	switch {
	case !guard.Check("sasl.token-expired", now.Before(ends)):
		return Token{}, denied(user, "the token ended at %s", claims.Expiry.Time().UTC().Format(time.RFC3339))
	case claims.NotBefore != nil && !guard.Check("sasl.token-not-before", !now.Add(r.Skew).Before(claims.NotBefore.Time())):
		return Token{}, denied(user, "the token is not valid yet")
	case claims.IssuedAt != nil && now.Add(r.Skew).Before(claims.IssuedAt.Time()):
		return Token{}, denied(user, "the token was issued in the future")
	}
	return Token{User: user, Expires: ends}, nil
}

// claimed reads the claim that names the user.
func claimed(all map[string]json.RawMessage, claim string) (user string, ok bool) {
	raw, there := all[claim]
	if !there || json.Unmarshal(raw, &user) != nil || CheckName(user) != nil {
		return "", false
	}
	return user, true
}

// shortened is what of an error may go to the log: messages of parsers repeat what they
// were given.
func shortened(err error) string {
	const most = 120
	text := err.Error()
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}
	return text
}
