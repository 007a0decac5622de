package client

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"rustmq.dev/rustmq/security/pki"
)

// refusedHint says what to do where a broker ends a connection since it does not know whose
// it is; empty: it was for another reason.
func (c *connection) refusedHint(err error) string {
	var closed *kgo.ErrFirstReadEOF
	switch said := err.Error(); {
	// What the other side says in TLS has no type that is exported, but for QUIC.
	case strings.Contains(said, "tls: certificate required"):
		return "it wants to see a certificate of the client: give --cert and --cert-key (rustmq admin certs issue NAME --profile client)"
	case c.login.CertFile != "" && strings.Contains(said, "remote") && strings.Contains(said, "tls: ") && strings.Contains(said, "certificate"):
		return fmt.Sprintf("it does not take the certificate %s, which may be revoked, have ended, or be of an authority that it does not trust: "+
			"`rustmq admin certs verify %[1]s --use client` judges it, and the broker's log says why", c.login.CertFile)
	case c.sasl == nil && errors.As(err, &closed) && strings.Contains(said, "SASL is required"):
		return "it may ask who its clients are: give --user or --token-file"
	}
	return ""
}

// denied adds to what a command was not allowed to do which rule would allow it.
func (c *connection) denied(err error, topic, group, permission string) error {
	resource := ""
	switch {
	case errors.Is(err, kerr.GroupAuthorizationFailed):
		resource, permission = "group."+group, "read"
	case errors.Is(err, kerr.TopicAuthorizationFailed), errors.Is(err, kerr.ClusterAuthorizationFailed):
		resource = "topic." + topic // of the cluster nothing is asked by who may write to a topic
	default:
		return err
	}
	return fmt.Errorf("%w; a rule has to allow it: rustmq admin acl create --principal %s --resource %s --permissions %s", err, c.principal(), resource, permission)
}

// subject is the name of a certificate where the broker has no rules of its own.
func subject(cert *x509.Certificate) string {
	rules, err := pki.ParseMapping(pki.DefaultMapping)
	if err != nil {
		panic(err) // a constant
	}
	name, err := rules.Principal(cert)
	if err != nil {
		return "NAME"
	}
	return strings.TrimPrefix(name, "User:")
}

// principal is who the client is to a broker that maps no names, as an argument of a shell.
func (c *connection) principal() string {
	name := c.login.User
	if name == "" && c.login.TokenFile == "" {
		name = "ANONYMOUS"
		if c.login.CertFile != "" {
			if cert, err := tls.LoadX509KeyPair(c.login.CertFile, c.login.KeyFile); err == nil {
				name = subject(cert.Leaf)
			}
		}
	}
	switch {
	case name == "": // stands in the token
		return "NAME"
	case strings.ContainsAny(name, " \t'\"\\$`&|;<>()*?[]#~!{}"):
		return "'" + strings.ReplaceAll(name, "'", `'\''`) + "'"
	}
	return name
}
