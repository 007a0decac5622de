package login

import (
	"context"
	"errors"
	"fmt"

	"rustmq.dev/rustmq/security/sasl"
)

// Once authenticates a client by one message of PLAIN or OAUTHBEARER, be they offered to
// clients of Kafka or not: whoever calls HTTP has no exchange. Nothing is kept of it but what the
// brake keeps, which is the same. Errors: ErrUnsupported, ErrSlowed, sasl.ErrDenied, or that
// of ctx.
func (t *Table) Once(ctx context.Context, c Client, mechanism string, message []byte) (Result, error) {
	m := *t.o.Mechanisms
	m.Enabled = []string{sasl.Plain, sasl.OAuthBearer}
	x, offered := m.Begin(mechanism, c.Encrypted)
	if !offered {
		return Result{}, fmt.Errorf("%.64q: %w", mechanism, ErrUnsupported)
	}
	user, judges := x.Judges(message)
	if judges && !t.begin(c, user) {
		t.count(mechanism, slowed)
		return Result{}, fmt.Errorf("%s as %.64q: %w", mechanism, user, ErrSlowed)
	}
	out, x, err := t.step(ctx, &m, mechanism, c, x, message)
	if err == nil && !out.Done {
		if err = sasl.Refused(x); err == nil {
			err = fmt.Errorf("%s takes more than one message: %w", mechanism, ErrUnsupported)
		}
	}
	if err != nil {
		t.count(mechanism, failed)
		if d, is := errors.AsType[*sasl.Denial](err); is && d.User != "" {
			return Result{}, fmt.Errorf("%s as %q: %w", mechanism, d.User, err)
		}
		return Result{}, fmt.Errorf("%s: %w", mechanism, err)
	}
	t.count(mechanism, succeeded)
	if judges {
		t.succeeded(c, user)
	}
	return t.result(t.o.Now(), out), nil
}

// Judge has judge find out whether a client is who it says, by what is no mechanism of SASL
// and goes by a name in the counts. It has to be what nobody can guess, and cheap to judge: who
// has it is let in whatever came from its address, so that nobody there can keep it out. Others
// are slowed down as those that guess passwords, by their address. Errors: ErrSlowed, and
// sasl.ErrDenied if judge says no.
func (t *Table) Judge(c Client, name string, judge func() bool) error {
	if judge() {
		t.count(name, succeeded)
		return nil
	}
	if !t.begin(c, "") {
		t.count(name, slowed)
		return fmt.Errorf("%s: %w", name, ErrSlowed)
	}
	t.count(name, failed)
	return fmt.Errorf("%s: %w", name, sasl.ErrDenied)
}

func (t *Table) succeeded(c Client, user string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.brake.Succeeded(t.o.Now(), c.Address, user)
}
