package broker

import (
	"cmp"
	"errors"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/broker/login"
	"rustmq.dev/rustmq/security/sasl"
	"rustmq.dev/rustmq/transport/kafka"
)

// authenticationFailed is what every client is told that fails, whatever was wrong.
const authenticationFailed = "Authentication failed: the user, the password or the token is not valid"

// ScramLookup finds what is kept of the passwords of users, for package sasl, in the
// image that image returns.
func ScramLookup(image func() *metadata.Image) func(mechanism, user string) (sasl.Credential, bool) {
	return func(mechanism, user string) (sasl.Credential, bool) {
		number, known := metadata.ParseScramMechanism(mechanism)
		if !known {
			return sasl.Credential{}, false
		}
		u, known := image().User(user)
		if !known {
			return sasl.Credential{}, false
		}
		c := u.Credential(number)
		if c == nil {
			return sasl.Credential{}, false
		}
		return sasl.Credential{Salt: c.Salt, Iterations: int(c.Iterations), StoredKey: c.StoredKey, ServerKey: c.ServerKey}, true
	}
}

// loginClient is a connection as package login knows it.
func loginClient(c *kafka.Conn) login.Client {
	return login.Client{Connection: c.ID(), Address: c.ClientAddress(), Encrypted: c.Transport() != "tcp"}
}

// saslHandshake says which mechanisms there are, and begins to authenticate by one.
func (b *Broker) saslHandshake(r *kafka.Request) {
	q, ok := decode[*kmsg.SASLHandshakeRequest](b, r)
	if !ok {
		return
	}
	p := q.ResponseKind().(*kmsg.SASLHandshakeResponse)
	p.SupportedMechanisms = []string{}
	if b.opt.Logins == nil {
		p.ErrorCode = kerr.IllegalSaslState.Code
		b.respond(r, p)
		return
	}
	client := loginClient(r.Conn)
	p.SupportedMechanisms = b.opt.Logins.Offered(client)
	err := b.opt.Logins.Handshake(client, q.Mechanism)
	switch p.ErrorCode = saslCode(err); {
	case err == nil || errors.Is(err, login.ErrUnsupported):
		b.respond(r, p) // a client may know another mechanism
	default:
		b.recordLogin(r, "", err)
		r.Deny(p, err)
	}
}

// saslAuthenticate takes a message of the mechanism that the handshake began.
func (b *Broker) saslAuthenticate(r *kafka.Request) {
	q, ok := decode[*kmsg.SASLAuthenticateRequest](b, r)
	if !ok {
		return
	}
	p := q.ResponseKind().(*kmsg.SASLAuthenticateResponse)
	p.SASLAuthBytes = []byte{}
	if b.opt.Logins == nil {
		p.ErrorCode, p.ErrorMessage = codeAndMessage(explained{kerr.IllegalSaslState, "this listener does not ask who its clients are"})
		b.respond(r, p)
		return
	}
	result, err := b.opt.Logins.Authenticate(r.Context(), loginClient(r.Conn), q.SASLAuthBytes)
	if err == nil && result.Done {
		err = b.audit.Admit()
	}
	if refused := cmp.Or(err, result.Refused); result.Done || refused != nil && !result.Told {
		b.recordLogin(r, result.Principal, refused)
	}
	switch {
	case errors.Is(err, login.ErrSlowed):
		r.Deny(nil, err)
	case err != nil:
		said := authenticationFailed
		if errors.Is(err, login.ErrState) {
			said = "SaslHandshake comes before SaslAuthenticate"
		}
		p.ErrorCode, p.ErrorMessage = saslCode(err), &said
		r.Deny(p, err)
	default:
		if result.Done {
			r.Conn.AuthenticateUntil(result.Principal, result.Ends)
		}
		p.SASLAuthBytes = append(p.SASLAuthBytes, result.Answer...)
		p.SessionLifetimeMillis = result.Lifetime.Milliseconds()
		b.respond(r, p)
	}
}

func saslCode(err error) int16 {
	switch {
	case err == nil:
		return 0
	case errors.Is(err, login.ErrUnsupported):
		return kerr.UnsupportedSaslMechanism.Code
	case errors.Is(err, login.ErrState):
		return kerr.IllegalSaslState.Code
	}
	return kerr.SaslAuthenticationFailed.Code
}
