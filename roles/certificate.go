package roles

import (
	"context"
	"crypto/x509"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

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
	if warning := certificateWarning(n.certificates.Current().Leaf, time.Now()); warning != "" {
		n.log.Warn(warning)
	}
	n.metrics.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: "rustmq", Name: "certificate_end_seconds", Help: "When the certificate of TLS and QUIC ends, in seconds since 1970.",
	}, func() float64 { return float64(n.certificates.Current().Leaf.NotAfter.Unix()) }))
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

// warnings is what is not as it should be but for the bucket.
func (n *Node) warnings() (warnings []string) {
	if n.certificates != nil {
		if warning := certificateWarning(n.certificates.Current().Leaf, time.Now()); warning != "" {
			warnings = append(warnings, warning)
		}
	}
	if n.peers != nil && n.controller != nil {
		warnings = append(warnings, groupWarnings(uint64(n.config.Broker.ID), n.controller.Status())...)
	}
	return warnings
}

// status is where the node stands, in words, beside that it is well.
func (n *Node) status() []string {
	if n.peers == nil || n.controller == nil {
		return nil
	}
	return []string{groupLine(n.controller.Status())}
}
