package sasl

import (
	"errors"
	"strings"
	"time"

	"rustmq.dev/rustmq/storage/guard"
)

// oauth is the server's side of RFC 7628: a token, and where it is refused a second
// message, by which the client owns up to that.
type oauth struct {
	m       *Mechanisms
	user    string
	refused error
	done    bool
}

// refusal is what a client is told of a token that is refused (RFC 7628 §3.2.2).
const refusal = `{"status":"invalid_token"}`

func (o *oauth) Judges([]byte) (user string, judges bool) { return "", !o.done && o.refused == nil }

func (o *oauth) Step(now time.Time, message []byte) (Outcome, error) {
	switch {
	case o.done:
		return Outcome{}, denied(o.user, "a message behind the last one")
	case o.refused != nil:
		o.done = true
		return Outcome{}, o.refused
	case !guard.Check("sasl.token-length", len(message) <= MaxToken):
		o.done = true
		return Outcome{}, denied("", "a message of %d bytes", len(message))
	}
	as, token, err := parseBearer(string(message))
	if err != nil {
		o.done = true
		return Outcome{}, denied("", "%v", err)
	}
	t, err := o.m.Tokens.Judge(now, o.m.Keys(), token)
	if err == nil && as != "" && as != t.User {
		err = denied(t.User, "it asks to act as another user")
	}
	if err != nil {
		o.refused = err
		return Outcome{Answer: []byte(refusal)}, nil
	}
	o.done, o.user = true, t.User
	return Outcome{Done: true, User: t.User, Expires: t.Expires}, nil
}

// Refused is why the exchange will end without a user, as soon as it is known; nil: it is
// not, or it will not. A client is only told at the end.
func (o *oauth) Refused() error { return o.refused }

// Refused is why an exchange will end without a user, although it goes on for another
// message; nil: it will not, or that is not known yet.
func Refused(x Exchange) error {
	if r, ok := x.(interface{ Refused() error }); ok {
		return r.Refused()
	}
	return nil
}

// parseBearer reads a client's first message (RFC 7628 §3.1): a gs2 header, then pairs
// of key and value, each ended by 0x01.
func parseBearer(message string) (authzid, token string, err error) {
	const end = "\x01"
	header, pairs, ok := strings.Cut(message, end)
	if !ok || !strings.HasSuffix(pairs, end) {
		return "", "", errors.New("the message does not end as it must")
	}
	flag, rest, _ := strings.Cut(header, ",")
	if flag != "n" && flag != "y" || !strings.HasSuffix(rest, ",") {
		return "", "", errors.New("its header asks for channel binding, or is none")
	}
	if as := strings.TrimSuffix(rest, ","); as != "" {
		if !strings.HasPrefix(as, "a=") {
			return "", "", errors.New("its header is none")
		}
		if authzid, err = unescapeName(as[2:]); err != nil {
			return "", "", err
		}
	}
	for pair := range strings.SplitSeq(strings.TrimSuffix(pairs, end), end) {
		if pair == "" {
			continue
		}
		key, value, ok := strings.Cut(pair, "=")
		switch {
		case !ok || key == "":
			return "", "", errors.New("it has a pair without a key")
		case !strings.EqualFold(key, "auth"): // others are extensions (KIP-342)
		case token != "":
			return "", "", errors.New("it has two tokens")
		default:
			scheme, bearer, _ := strings.Cut(value, " ")
			if !strings.EqualFold(scheme, "bearer") || bearer == "" {
				return "", "", errors.New("its authorization is no bearer token")
			}
			token = bearer
		}
	}
	if token == "" {
		return "", "", errors.New("it has no token")
	}
	return authzid, token, nil
}
