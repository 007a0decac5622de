package ca

import (
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"time"

	"rustmq.dev/rustmq/security/pki"
)

// Reasons for which a certificate is refused.
const (
	ReasonExpired     = "expired"
	ReasonNotYet      = "not yet valid"
	ReasonAuthority   = "unknown authority"
	ReasonRevoked     = "revoked"
	ReasonUnlisted    = "no revocation list"
	ReasonUsage       = "wrong usage"
	ReasonName        = "wrong name"
	ReasonMalformed   = "malformed"
	ReasonOtherwise   = "refused"
	useServer, useAny = "server", ""
	useClient         = "client"
	useNode           = "node"
)

// Uses are what [Verify] may be asked about; "": of any.
func Uses() []string { return []string{useServer, useClient, useNode} }

// VerifyOptions of [Verify].
type VerifyOptions struct {
	File     string // PEM: the certificate, then the ones between it and the authority
	CAFile   string
	ListFile string // "": revocation is not looked at
	Use      string // one of Uses
	Host     string // that it is to name; "": any
	Now      time.Time
}

// Verdict is what [Verify] has found.
type Verdict struct {
	OK     bool     `json:"ok"`
	Reason string   `json:"reason,omitempty"` // one of the Reasons; "": none
	Detail string   `json:"detail,omitempty"`
	Chain  []string `json:"chain,omitempty"` // subjects, from the certificate to the authority
}

// Verify judges a certificate as a server or a client of this version would. The error is of
// files that cannot be read; what is wrong with the certificate stands in the verdict.
func Verify(o VerifyOptions) (Verdict, error) {
	raw, err := os.ReadFile(o.File)
	if err != nil {
		return Verdict{}, err
	}
	trust, err := pki.OpenTrust(pki.TrustOptions{CAFile: o.CAFile, RevocationFile: o.ListFile, Now: func() time.Time { return o.Now }})
	if err != nil {
		return Verdict{}, err
	}
	chain, err := pki.ParseCertificates(raw)
	if err != nil {
		return Verdict{Reason: ReasonMalformed, Detail: err.Error()}, nil
	}
	verified, err := verify(o, trust, chain)
	if err != nil {
		return Verdict{Reason: reasonOf(err, o.Now), Detail: err.Error()}, nil
	}
	v := Verdict{OK: true}
	for _, cert := range verified {
		v.Chain = append(v.Chain, pki.SubjectName(cert.Subject))
	}
	return v, nil
}

func verify(o VerifyOptions, trust *pki.Trust, chain []*x509.Certificate) ([]*x509.Certificate, error) {
	var usages []x509.ExtKeyUsage
	switch o.Use {
	case useAny:
		usages = []x509.ExtKeyUsage{x509.ExtKeyUsageAny}
	case useServer:
		usages = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	case useClient:
		usages = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	case useNode:
		usages = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	default:
		return nil, fmt.Errorf("the use %q: want one of %v", o.Use, Uses())
	}
	var found []*x509.Certificate
	for _, usage := range usages {
		chains, err := trust.Verify(chain, usage)
		if err != nil {
			return nil, err
		}
		found = chains[0]
	}
	if o.Use == useNode {
		if _, err := pki.IdentityOf(chain[0]); err != nil {
			return nil, &nameError{err}
		}
	}
	if o.Host != "" {
		if err := chain[0].VerifyHostname(o.Host); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// nameError says that a certificate is not of who it should be.
type nameError struct{ error }

// reasonOf sorts what pki and crypto/x509 say.
func reasonOf(err error, now time.Time) string {
	var invalid x509.CertificateInvalidError
	var authority x509.UnknownAuthorityError
	var host x509.HostnameError
	var period *pki.PeriodError
	var revoked *pki.RevokedError
	var unlisted *pki.UnlistedError
	var name *nameError
	switch {
	case errors.As(err, &revoked):
		return ReasonRevoked
	case errors.As(err, &unlisted):
		return ReasonUnlisted
	case errors.As(err, &period):
		return periodReason(period.NotBefore, now)
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return periodReason(invalid.Cert.NotBefore, now)
	case errors.As(err, &invalid) && invalid.Reason == x509.IncompatibleUsage:
		return ReasonUsage
	case errors.As(err, &invalid) && invalid.Reason == x509.CANotAuthorizedForThisName, errors.As(err, &host), errors.As(err, &name):
		return ReasonName
	case errors.As(err, &authority):
		return ReasonAuthority
	}
	return ReasonOtherwise
}

func periodReason(notBefore, now time.Time) string {
	if now.Before(notBefore) {
		return ReasonNotYet
	}
	return ReasonExpired
}
