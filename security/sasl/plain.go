package sasl

import (
	"bytes"
	"time"

	"rustmq.dev/rustmq/storage/guard"
)

// plain is the server's side of RFC 4616: one message.
type plain struct {
	m    *Mechanisms
	done bool
}

func (p *plain) Judges(message []byte) (user string, judges bool) {
	if len(message) <= MaxMessage {
		user, _, _ = parsePlain(message) // Step says what is wrong with it
	}
	return user, !p.done
}

func (p *plain) Step(_ time.Time, message []byte) (Outcome, error) {
	if p.done {
		return Outcome{}, denied("", "a message behind the last one")
	}
	p.done = true
	if !guard.Check("sasl.message-length", len(message) <= MaxMessage) {
		return Outcome{}, denied("", "a message of %d bytes", len(message))
	}
	user, password, err := parsePlain(message)
	if err != nil {
		return Outcome{}, err
	}
	// The keys of the stronger mechanism, unless there are only those of the other.
	mechanism, credential, known := p.m.credential(Plain, user, ScramSHA512, ScramSHA256)
	right, err := credential.verify(mechanism, password)
	if err != nil {
		return Outcome{}, denied(user, "%v", err)
	}
	if !guard.Check("sasl.plain-password", right && known) {
		return Outcome{}, denied(user, "unknown user or wrong password")
	}
	return Outcome{Done: true, User: user}, nil
}

// parsePlain reads [authzid] NUL authcid NUL password.
func parsePlain(message []byte) (user, password string, err error) {
	parts := bytes.Split(message, []byte{0})
	if len(parts) != 3 {
		return "", "", denied("", "a message of %d parts, not three", len(parts))
	}
	user = string(parts[1])
	if err := CheckName(user); err != nil {
		return "", "", denied("", "%v", err)
	}
	if as := parts[0]; len(as) > 0 && string(as) != user {
		return "", "", denied(user, "it asks to act as another user")
	}
	if len(parts[2]) == 0 || len(parts[2]) > MaxPassword {
		return "", "", denied(user, "a password of %d bytes", len(parts[2]))
	}
	return user, string(parts[2]), nil
}
