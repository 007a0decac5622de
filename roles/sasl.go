package roles

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"time"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/broker"
	"rustmq.dev/rustmq/roles/broker/login"
	"rustmq.dev/rustmq/security/sasl"
	"rustmq.dev/rustmq/security/sasl/jwks"
)

// openLogins prepares how clients say who they are, where they are asked.
func (n *Node) openLogins() error {
	enabled := n.config.Security.SASL.MechanismList()
	if len(enabled) == 0 {
		return nil
	}
	logins, err := n.newLogins(enabled)
	if err != nil {
		return err
	}
	n.logins = logins
	n.metrics.MustRegister(logins.Metrics())
	return nil
}

// newLogins makes the table of who says who they are; of those that are enabled, mechanisms are
// offered to clients of Kafka.
func (n *Node) newLogins(enabled []string) (*login.Table, error) {
	c := n.config.Security.SASL
	mechanisms := &sasl.Mechanisms{Enabled: enabled}
	image := func() *metadata.Image { return n.door.Image() }
	mechanisms.Lookup, mechanisms.Shapes = broker.ScramLookup(image), broker.ScramShapes(image)
	var own [32]byte         // while there is no user
	_, _ = rand.Read(own[:]) // never fails
	mechanisms.FakeSecret = func() []byte {
		if secret := image().FakeSecret(); secret != nil {
			return secret
		}
		return own[:]
	}
	o := login.Options{Mechanisms: mechanisms, MaxSession: time.Duration(c.MaxSession), Log: n.log.With("room", "login")}
	if slices.Contains(c.MechanismList(), sasl.OAuthBearer) {
		if err := n.openTokens(mechanisms); err != nil {
			return nil, err
		}
		o.Refresh = n.tokenKeys.Refresh
	}
	return login.New(o), nil
}

// openTokens begins to read the keys that sign tokens.
func (n *Node) openTokens(mechanisms *sasl.Mechanisms) error {
	c := n.config.Security.SASL.OAuth
	rules := &sasl.TokenRules{
		Issuer: c.Issuer, Audience: c.Audience, Claim: c.Claim, Algorithms: c.AlgorithmList(), Skew: time.Duration(c.Skew),
	}
	if err := rules.Validate(); err != nil {
		return fmt.Errorf("security.sasl.oauth: %w", err)
	}
	keys, err := jwks.Open(jwks.Options{Place: c.JWKS, CAFile: c.CAFile, Interval: time.Duration(c.RefreshInterval), Log: n.log.With("room", "jwks")})
	if err != nil {
		return fmt.Errorf("security.sasl.oauth.jwks: %w", err)
	}
	n.opened("keys of tokens", func(context.Context) error { return keys.Close() })
	n.tokenKeys, mechanisms.Tokens, mechanisms.Keys = keys, rules, keys.Keys
	return nil
}

// reloadTokenKeys reads the keys of tokens again.
func (n *Node) reloadTokenKeys() (loaded bool, err error) {
	if n.tokenKeys == nil {
		return false, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), reloadTime)
	defer cancel()
	if err := n.tokenKeys.Reload(ctx); err != nil {
		return false, fmt.Errorf("read the keys of tokens (security.sasl.oauth.jwks): %w", err)
	}
	return true, nil
}

// reloadTime bounds a reload.
const reloadTime = 15 * time.Second
