package roles

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"rustmq.dev/rustmq/security/pki"
)

const (
	// certificateSoon is how long before its end a certificate is warned of that a person
	// has to make anew: as long as it takes where several have a say in it.
	certificateSoon = 30 * 24 * time.Hour
	// certificateDaily is how long before its end it is warned of every day.
	certificateDaily = 7 * 24 * time.Hour
	// certificateLook is the time between two looks.
	certificateLook = time.Hour
)

// certificateEnd is when a certificate ends that a person has to make anew.
type certificateEnd struct {
	role     string // what it is for: tls, cluster or cluster-ca
	file     string
	notAfter time.Time
}

// follows is what comes of the end, by role.
var follows = map[string]string{
	"tls":        "clients of TLS and QUIC do not take it then",
	"cluster":    "no other server of the cluster takes it then, and this node is out of it",
	"cluster-ca": "no server of the cluster takes what it has signed then: all of them are cut off from each other",
}

// warning says that the certificate ends soon, or has; "": it does not.
func (e certificateEnd) warning(now time.Time) string {
	left, end := e.notAfter.Sub(now), e.notAfter.UTC().Format(time.RFC3339)
	switch {
	case left >= certificateSoon:
		return ""
	case left < 0:
		return fmt.Sprintf("the certificate %s of this node has ended on %s: %s", e.file, end, follows[e.role])
	}
	return fmt.Sprintf("the certificate %s of this node ends on %s, in %d days: %s", e.file, end, int(left/(24*time.Hour)), follows[e.role])
}

// due reports whether a warning is to be logged at a time, after the last one, if any.
func (e certificateEnd) due(now, told time.Time) bool {
	left := e.notAfter.Sub(now)
	return left < certificateSoon && (told.IsZero() || left < certificateDaily && now.Sub(told) >= 24*time.Hour)
}

// certificateEnds is when what a person has to make anew ends.
func (n *Node) certificateEnds() (ends []certificateEnd) {
	if files := n.config.Security.TLS; n.certificates != nil && files.CertFile != "" {
		ends = append(ends, certificateEnd{"tls", files.CertFile, n.certificates.Current().Leaf.NotAfter})
	}
	if n.peers != nil && n.peers.secure != nil {
		files, end := n.config.Security.Cluster, n.peers.secure.Ends()
		ends = append(ends, certificateEnd{"cluster", files.CertFile, end.Own}, certificateEnd{"cluster-ca", files.CAFile, end.Authority})
	}
	return ends
}

// exportedEnds are those, and that of the development certificate, which renews itself.
func (n *Node) exportedEnds() []certificateEnd {
	ends := n.certificateEnds()
	if n.certificates != nil && n.config.Security.TLS.CertFile == "" {
		ends = append(ends, certificateEnd{"tls", filepath.Join(n.root, certsDir, pki.ServerFile), n.certificates.Current().Leaf.NotAfter})
	}
	return ends
}

// certificateWarnings says which of them end soon.
func (n *Node) certificateWarnings() (warnings []string) {
	now := time.Now()
	for _, e := range n.certificateEnds() {
		if w := e.warning(now); w != "" {
			warnings = append(warnings, w)
		}
	}
	return warnings
}

// keepCertificateEnds has the log and the metrics say when certificates end, while the node
// runs.
func (n *Node) keepCertificateEnds() {
	if n.certificates != nil || len(n.certificateEnds()) > 0 {
		n.metrics.MustRegister(endsCollector(n.exportedEnds))
	}
	if len(n.certificateEnds()) == 0 {
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	n.opened("ends of certificates", func(context.Context) error { stop(); return nil })
	n.serving.Go(func() { watchCertificates(ctx, n.log, n.certificateEnds) })
}

// watchCertificates warns of certificates until ctx ends: once [certificateSoon] before
// their end, and every day in the last [certificateDaily].
func watchCertificates(ctx context.Context, log *slog.Logger, ends func() []certificateEnd) {
	told := map[certificateEnd]time.Time{}
	ticker := time.NewTicker(certificateLook)
	defer ticker.Stop()
	for {
		before := told
		told = map[certificateEnd]time.Time{} // of those that there are
		for _, e := range ends() {
			now, last := time.Now(), before[e]
			if e.due(now, last) {
				log.Warn(e.warning(now)+"; issue another, and put it into its place", "file", e.file, "role", e.role)
				last = now
			}
			told[e] = last
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// endsCollector exports when certificates end.
type endsCollector func() []certificateEnd

var certificateNotAfter = prometheus.NewDesc("rustmq_certificate_not_after_seconds",
	"When a certificate ends, in seconds since 1970, by its file and role: tls, for clients; cluster, for other servers; cluster-ca, the authority of those.", []string{"file", "role"}, nil)

// Describe implements prometheus.Collector.
func (c endsCollector) Describe(out chan<- *prometheus.Desc) { out <- certificateNotAfter }

// Collect implements prometheus.Collector.
func (c endsCollector) Collect(out chan<- prometheus.Metric) {
	for _, e := range c() {
		out <- prometheus.MustNewConstMetric(certificateNotAfter, prometheus.GaugeValue, float64(e.notAfter.Unix()), e.file, e.role)
	}
}
