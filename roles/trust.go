package roles

import (
	"context"
	"crypto/tls"
	"fmt"
	"time"

	"rustmq.dev/rustmq/security/pki"
	"rustmq.dev/rustmq/transport/kafka"
)

// revocationLook is the time between two looks at a file of revocation lists, which is read
// at the second that finds it the same: who is revoked is cut off within two of these.
const revocationLook = 500 * time.Millisecond

// clients is how the certificates of clients are judged.
type clients struct {
	*pki.Clients
	// optional is the same for HTTP, where nobody has to show a certificate.
	optional *pki.Clients
	trust    *pki.Trust
}

// mayBind reports whether other addresses than loopback may be bound: the operator insists,
// or who calls is asked who it is.
func (n *Node) mayBind() bool { return n.config.Security.AllowInsecure || n.config.Guarded() }

// openClients reads whose certificates are taken from clients, where they are asked.
func (n *Node) openClients() error {
	c := n.config.Security.TLS
	if c.ClientAuth == "none" {
		return nil
	}
	mapping, err := pki.ParseMapping(c.PrincipalMapping)
	if err != nil {
		return fmt.Errorf("security.tls.principal_mapping: %w", err)
	}
	trust, err := pki.OpenTrust(pki.TrustOptions{CAFile: c.ClientCAFile, RevocationFile: c.CRLFile, Now: time.Now})
	if err != nil {
		return fmt.Errorf("security.tls.client_ca_file and crl_file: %w", err)
	}
	known := pki.NewClients(pki.ClientsOptions{Trust: trust, Required: c.ClientAuth == "require", Mapping: mapping})
	n.clients = &clients{known, pki.NewClients(pki.ClientsOptions{Trust: trust, Mapping: mapping}), trust}
	return nil
}

// identifies is how the listeners know clients; nil where their certificates say nothing.
// Where clients are asked who they are by SASL, that counts, and a certificate is beside it.
func (n *Node) identifies() func(tls.ConnectionState) (kafka.Client, error) {
	if n.clients == nil {
		return nil
	}
	return func(state tls.ConnectionState) (kafka.Client, error) {
		client, err := n.clients.Identify(state)
		if n.logins != nil {
			client.Principal = ""
		}
		return kafka.Client(client), err
	}
}

// serverConfig is that of TLS and QUIC.
func (n *Node) serverConfig() *tls.Config {
	least := uint16(tls.VersionTLS13)
	if n.config.Security.TLS.MinVersion == "1.2" {
		least = tls.VersionTLS12
	}
	config := n.certificates.ServerConfig(least)
	if n.clients != nil {
		config = n.clients.ServerConfig(config)
	}
	return config
}

// watchRevocations has connections end whose certificates are revoked, or have ended, of
// clients and of other servers, while the node runs.
func (n *Node) watchRevocations() {
	watch := func(what string, trust *pki.Trust, judge func(changed bool)) {
		ctx, stop := context.WithCancel(context.Background())
		n.opened("certificates of "+what, func(context.Context) error { stop(); return nil })
		n.serving.Go(func() {
			trust.Watch(ctx, revocationLook, judge, func(err error) {
				n.log.Error("the revocation lists were not read; those before go on", "of", what, "error", err)
			})
		})
	}
	if n.clients != nil {
		watch("clients", n.clients.trust, n.judgeClients)
	}
	if n.peers != nil && n.peers.secure != nil {
		watch("servers", n.peers.secure.Trust(), n.judgeServers)
	}
}

func (n *Node) judgeClients(changed bool) {
	if n.clients != nil {
		n.judged("clients", changed, n.clients.Judge())
	}
}

func (n *Node) judgeServers(changed bool) {
	if n.peers == nil || n.peers.secure == nil {
		return
	}
	n.judged("servers", changed, n.peers.secure.Judge())
	if !changed {
		return
	}
	if err := n.peers.secure.Stands(); err != nil {
		n.log.Error("the other servers take this node's certificate no more: issue another, and put it into its place", "file", n.config.Security.Cluster.CertFile, "error", err)
	}
}

func (n *Node) judged(what string, changed bool, ended int) {
	if changed {
		n.recordLocal("crl.reload", "certificates", what, nil)
	}
	if changed || ended > 0 {
		n.log.Info("connections were judged by the certificates of their other sides", "of", what, "lists_read_again", changed, "ended", ended)
	}
}

// revocationWarnings says which revocation lists should have been replaced.
func (n *Node) revocationWarnings() (warnings []string) {
	say := func(file string, trust *pki.Trust) {
		if late := trust.Overdue(); late != "" {
			warnings = append(warnings, fmt.Sprintf("%s: another revocation list was due of %s; who is listed stays refused, who was revoked since is not known", file, late))
		}
	}
	if n.clients != nil {
		say(n.config.Security.TLS.CRLFile, n.clients.trust)
	}
	if n.peers != nil && n.peers.secure != nil {
		say(n.config.Security.Cluster.CRLFile, n.peers.secure.Trust())
	}
	return warnings
}
