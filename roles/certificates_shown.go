package roles

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"rustmq.dev/rustmq/roles/admin"
	"rustmq.dev/rustmq/security/pki"
)

// maxBundle bounds what is read of a file of authorities.
const maxBundle = 4 << 20

// Certificates implements admin.Node.
func (d nodeDoor) Certificates() (out []admin.NodeCertificate) {
	n := d.n
	if n.certificates != nil {
		if leaf := n.certificates.Current().Leaf; leaf != nil {
			out = append(out, shownCertificate("tls", n.config.Security.TLS.CertFile, leaf))
		}
	}
	if n.clients != nil {
		out = append(out, d.ofFile("client-ca", n.config.Security.TLS.ClientCAFile)...)
	}
	if n.peers != nil && n.peers.secure != nil {
		files := n.config.Security.Cluster
		own := d.ofFile("cluster", files.CertFile)
		out = append(append(out, own[:min(1, len(own))]...), d.ofFile("cluster-ca", files.CAFile)...) // behind its own are those that lead to the authority
	}
	return out
}

// ofFile are the certificates in a file; none: it is not there, or cannot be read now.
func (d nodeDoor) ofFile(use, file string) (out []admin.NodeCertificate) {
	if file == "" {
		return nil
	}
	all, err := readCertificates(file)
	if err != nil {
		d.n.log.Info("certificates cannot be shown", "file", file, "error", err)
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
	if all, err = pki.ParseCertificates(raw); err != nil {
		return nil, fmt.Errorf("parse %s: %w", file, err)
	}
	return all, nil
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
