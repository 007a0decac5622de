package roles

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"strings"

	"rustmq.dev/rustmq/configs"
	"rustmq.dev/rustmq/roles/admin"
)

// maxBundle bounds what is read of a file of authorities.
const maxBundle = 4 << 20

// nodeFacts is what the admin API is told of this process.
type nodeFacts struct{ n *Node }

// Config implements admin.NodeFacts.
func (f nodeFacts) Config() admin.NodeConfig {
	c := f.n.config
	out := admin.NodeConfig{Node: c.Broker.ID, Roles: c.RoleList()}
	for _, k := range configs.Keys() {
		out.Keys = append(out.Keys, admin.ConfigKey{Key: k.Name, Value: withoutSecrets(c.Value(k)), Origin: string(c.Origin(k.Name)), Type: k.Type, Doc: k.Doc})
	}
	return out
}

// withoutSecrets takes out of the value of a key what a URL may say that is nobody's business:
// who logs in, and its parameters. No other key has a secret: those name files.
func withoutSecrets(value string) string {
	if !strings.Contains(value, "://") {
		return value
	}
	u, err := url.Parse(value)
	if err != nil {
		return "(a URL that cannot be read)"
	}
	if u.User != nil {
		u.User = url.User("hidden")
	}
	if u.RawQuery != "" {
		u.RawQuery = "hidden"
	}
	u.Fragment, u.RawFragment = "", ""
	return u.String()
}

// Certificates implements admin.NodeFacts.
func (f nodeFacts) Certificates() (out []admin.NodeCertificate) {
	n := f.n
	if n.certificates != nil {
		if leaf := n.certificates.Current().Leaf; leaf != nil {
			out = append(out, shownCertificate("tls", n.config.Security.TLS.CertFile, leaf))
		}
	}
	if n.clients != nil {
		out = append(out, f.ofFile("client-ca", n.config.Security.TLS.ClientCAFile)...)
	}
	if n.peers != nil && n.peers.secure != nil {
		files := n.config.Security.Cluster
		own := f.ofFile("cluster", files.CertFile)
		out = append(append(out, own[:min(1, len(own))]...), f.ofFile("cluster-ca", files.CAFile)...) // behind its own are those that lead to the authority
	}
	return out
}

// ofFile are the certificates in a file; none: it is not there, or cannot be read now.
func (f nodeFacts) ofFile(use, file string) (out []admin.NodeCertificate) {
	if file == "" {
		return nil
	}
	all, err := readCertificates(file)
	if err != nil {
		f.n.log.Info("certificates cannot be shown", "file", file, "error", err)
	}
	for _, c := range all {
		out = append(out, shownCertificate(use, file, c))
	}
	return out
}

func readCertificates(file string) (all []*x509.Certificate, err error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxBundle || !info.Mode().IsRegular() {
		return nil, &fs.PathError{Op: "read", Path: file, Err: errors.New("no file of certificates")}
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	for {
		block, rest := pem.Decode(raw)
		if block == nil {
			return all, nil
		}
		raw = rest
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return all, fmt.Errorf("parse %s: %w", file, err)
		}
		all = append(all, c)
	}
}

func shownCertificate(use, file string, c *x509.Certificate) admin.NodeCertificate {
	sum := sha256.Sum256(c.Raw)
	out := admin.NodeCertificate{
		Use: use, File: file, Subject: c.Subject.String(), Issuer: c.Issuer.String(), Serial: fmt.Sprintf("%x", c.SerialNumber), SHA256: hex.EncodeToString(sum[:]),
		Names: append([]string{}, c.DNSNames...), NotBefore: c.NotBefore.UTC(), NotAfter: c.NotAfter.UTC(),
	}
	for _, ip := range c.IPAddresses {
		out.Names = append(out.Names, ip.String())
	}
	for _, u := range c.URIs {
		out.Names = append(out.Names, u.String())
	}
	return out
}
