package roles

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"

	"rustmq.dev/rustmq/security/pki"
)

const (
	// certificateRenewal is how often the development certificate is looked at.
	certificateRenewal = 24 * time.Hour
	// certificateWarned is how long before its end a certificate is warned of: less
	// than before it is made anew here, more than a person is away.
	certificateWarned = 21 * 24 * time.Hour
)

// keepCertificate loads the certificate of the listeners, and has the development one
// renewed while the node runs; an operator's is loaded again when he says so.
func (n *Node) keepCertificate() error {
	load, err := n.certificate()
	if err != nil {
		return err
	}
	if n.certificates, err = pki.Keep(load); err != nil {
		return err
	}
	if warning := n.listenerWarning(time.Now()); warning != "" {
		n.log.Warn(warning)
	}
	if n.caFile == "" {
		return nil
	}
	ctx, stop := context.WithCancel(context.Background())
	n.opened("certificates", func(context.Context) error { stop(); return nil })
	n.serving.Go(func() {
		n.certificates.Renew(ctx, certificateRenewal, func(err error) {
			n.log.Error("the development certificate was not renewed; the one before goes on", "error", err)
		})
	})
	return nil
}

// certificateWarning says what is wrong with a certificate at a time, or soon; "":
// nothing.
func certificateWarning(cert *x509.Certificate, now time.Time) string {
	switch end := cert.NotAfter.UTC().Format(time.RFC3339); {
	case now.Before(cert.NotBefore):
		return fmt.Sprintf("the certificate of TLS and QUIC is not valid before %s, and the clock says %s: is that right? If it is, the certificate was made while it was ahead, and no client takes it until then",
			cert.NotBefore.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	case now.After(cert.NotAfter):
		return "the certificate of TLS and QUIC has ended on " + end + ": clients do not take it"
	case cert.NotAfter.Sub(now) < certificateWarned:
		return "the certificate of TLS and QUIC ends on " + end
	}
	return ""
}

// listenerWarning is certificateWarning, of the certificate of the listeners; of the end of
// an operator's, [Node.certificateWarnings] warns.
func (n *Node) listenerWarning(now time.Time) string {
	if n.certificates == nil {
		return ""
	}
	cert := n.certificates.Current().Leaf
	if n.caFile == "" && !now.Before(cert.NotBefore) {
		return ""
	}
	return certificateWarning(cert, now)
}

// certificate says how to load that of the operator, or the development CA's.
func (n *Node) certificate() (load func() (tls.Certificate, error), err error) {
	if files := n.config.Security.TLS; files.CertFile != "" {
		return func() (tls.Certificate, error) {
			cert, err := pki.Load(files.CertFile, files.KeyFile, time.Now())
			if err != nil {
				return cert, fmt.Errorf("security.tls.cert_file and key_file: %w", err)
			}
			return cert, nil
		}, nil
	}
	dir := filepath.Join(n.root, certsDir)
	host := n.config.HTTPBind()
	if n.kafkaAddr != "" {
		if host, _, err = net.SplitHostPort(n.kafkaAddr); err != nil {
			return nil, err
		}
	}
	hosts := append(n.names(), host)
	n.caFile = filepath.Join(dir, pki.CAFile)
	return func() (tls.Certificate, error) { return pki.Development(dir, slices.Clone(hosts), time.Now()) }, nil
}

// names are what this node is called, as far as it knows.
func (n *Node) names() (names []string) {
	for _, h := range []string{n.config.Network.AdvertisedHost, n.config.Network.External.AdvertisedHost} {
		if h != "" {
			names = append(names, h)
		}
	}
	if h, err := os.Hostname(); err == nil && h != "" {
		names = append(names, h)
	}
	return names
}

// Reload loads the certificates again, that of TLS and QUIC and that by which servers
// know each other, with the authorities and revocation lists of either, which connections
// from now on see; those that are open stay as they are, but for who is revoked. The keys
// that sign tokens are read again too. It reports whether there is anything to load. On an
// error the one before goes on.
func (n *Node) Reload() (loaded bool, err error) {
	loaded, failed := n.reloadCertificates()
	keys, err := n.reloadTokenKeys()
	loaded, failed = loaded || keys, errors.Join(failed, err)
	n.recordLocal("certificates.reload", "certificates", "", failed)
	if failed != nil {
		return false, fmt.Errorf("%w; the one before goes on", failed)
	}
	return loaded, nil
}

func (n *Node) reloadCertificates() (loaded bool, failed error) {
	if n.certificates != nil {
		loaded, failed = true, n.certificates.Reload()
	}
	if n.peers != nil && n.peers.secure != nil {
		loaded, failed = true, errors.Join(failed, n.peers.secure.Reload())
	}
	if n.clients != nil {
		loaded, failed = true, errors.Join(failed, n.clients.trust.Reload())
	}
	n.judgeClients(false)
	n.judgeServers(false)
	return loaded, failed
}

// certificateFiles are those that are loaded anew once they have changed: an operator's.
// Revocation lists are looked at by who judges by them.
func (n *Node) certificateFiles() []string {
	c := n.config.Security
	var files []string
	if n.certificates != nil && n.caFile == "" {
		files = append(files, c.TLS.CertFile, c.TLS.KeyFile)
	}
	if n.clients != nil {
		files = append(files, c.TLS.ClientCAFile)
	}
	if n.peers != nil && n.peers.secure != nil {
		files = append(files, c.Cluster.CAFile, c.Cluster.CertFile, c.Cluster.KeyFile)
	}
	slices.Sort(files)
	return slices.Compact(files)
}

// watchCertificateFiles loads certificates and authorities anew whose files have changed, while
// the node runs.
func (n *Node) watchCertificateFiles() {
	files := n.certificateFiles()
	if len(files) == 0 {
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	n.opened("files of certificates", func(context.Context) error { stop(); return nil })
	n.serving.Go(func() {
		pki.WatchFiles(ctx, files, revocationLook, func() {
			_, err := n.reloadCertificates()
			n.recordLocal("certificates.reload", "certificates", "", err)
			if err != nil {
				n.log.Error("the files of certificates have changed and were not taken; what was loaded before goes on", "error", err)
				return
			}
			n.log.Info("certificates loaded anew, for their files have changed")
		})
	})
}
