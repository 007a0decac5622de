package rustmq

import (
	"context"

	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/oauth"
)

// bearer is OAUTHBEARER (RFC 7628), by whose end the caller hears what the broker says of a token.
type bearer struct{ sasl.Mechanism }

func newBearer(token func(context.Context) (string, error)) bearer {
	return bearer{oauth.Oauth(func(ctx context.Context) (oauth.Auth, error) {
		t, err := token(ctx)
		return oauth.Auth{Token: t}, err
	})}
}

// Authenticate is called by franz-go.
func (b bearer) Authenticate(ctx context.Context, host string) (sasl.Session, []byte, error) {
	session, first, err := b.Mechanism.Authenticate(ctx, host)
	return bearerSession{session}, first, err
}

type bearerSession struct{ sasl.Session }

// Challenge is called by franz-go with an answer of the broker. One that is not empty refuses the token, and
// the client has to say that it has heard so (RFC 7628 §3.2.3) before the exchange fails.
func (s bearerSession) Challenge(answer []byte) (done bool, next []byte, err error) {
	if len(answer) > 0 {
		return false, []byte{1}, nil
	}
	return s.Session.Challenge(answer)
}
