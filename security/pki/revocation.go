package pki

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"rustmq.dev/rustmq/storage/guard"
)

// MaxRevocationFile is how large a file of revocation lists may be, in bytes: some million
// revoked certificates.
const MaxRevocationFile = 64 << 20

// revocationBlock is the PEM type of a revocation list (RFC 7468 §7).
const revocationBlock = "X509 CRL"

// Extensions of lists and their entries, RFC 5280 §5.2 and §5.3.
var (
	oidAuthorityKey = asn1.ObjectIdentifier{2, 5, 29, 35}
	oidListNumber   = asn1.ObjectIdentifier{2, 5, 29, 20}
	oidReason       = asn1.ObjectIdentifier{2, 5, 29, 21}
	oidInvalidity   = asn1.ObjectIdentifier{2, 5, 29, 24}
	oidDelta        = asn1.ObjectIdentifier{2, 5, 29, 27}
	oidPartial      = asn1.ObjectIdentifier{2, 5, 29, 28}
)

// RevokedError says that a certificate's issuer has taken it back.
type RevokedError struct {
	Subject string
	Serial  *big.Int
	At      time.Time
}

func (e *RevokedError) Error() string {
	return fmt.Sprintf("the certificate of %s, serial %x, was revoked on %s", e.Subject, e.Serial, e.At.UTC().Format(time.RFC3339))
}

// UnlistedError says that nobody can tell whether a certificate is revoked: lists are
// looked at, and none of them is its issuer's.
type UnlistedError struct{ Subject, Issuer string }

func (e *UnlistedError) Error() string {
	return fmt.Sprintf("the certificate of %s: there is no revocation list of its issuer, %s", e.Subject, e.Issuer)
}

// Revocations is the revocation lists (RFC 5280 §5) of one file. It is safe for concurrent use.
type Revocations struct {
	issuers map[string][]*revocationList // by the issuer's name in DER
}

// revocationList is the list of one issuer.
type revocationList struct {
	parsed  *x509.RevocationList
	revoked map[string]time.Time // when, by serial

	mu     sync.Mutex
	signed map[[sha256.Size]byte]bool // whether a certificate's key has signed the list; guarded by mu
}

// ReadRevocations reads a file of lists, one or several in PEM, or one in DER.
func ReadRevocations(file string) (*Revocations, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("read the revocation lists: %w", err)
	}
	raw, err := io.ReadAll(io.LimitReader(f, MaxRevocationFile+1))
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("read the revocation lists %s: %w", file, err)
	}
	if len(raw) > MaxRevocationFile {
		return nil, fmt.Errorf("read the revocation lists %s: it has more than %d MiB", file, MaxRevocationFile>>20)
	}
	r, err := ParseRevocations(raw)
	if err != nil {
		return nil, fmt.Errorf("read the revocation lists %s: %w", file, err)
	}
	return r, nil
}

// ParseRevocations reads lists, one or several in PEM, or one in DER. What holds none, is
// cut, or holds a list that says less than all of its issuer's revocations, is refused.
func ParseRevocations(raw []byte) (*Revocations, error) {
	r := &Revocations{issuers: map[string][]*revocationList{}}
	if !bytes.Contains(raw, []byte("-----BEGIN")) {
		return r, r.add(raw)
	}
	for count := 1; ; count++ {
		block, rest := pem.Decode(raw)
		if block == nil {
			if count == 1 || bytes.Contains(rest, []byte("-----BEGIN")) {
				return nil, fmt.Errorf("block %d is damaged or cut", count)
			}
			return r, nil
		}
		if block.Type != revocationBlock {
			return nil, fmt.Errorf("block %d is a %q, and not a %q", count, block.Type, revocationBlock)
		}
		if err := r.add(block.Bytes); err != nil {
			return nil, fmt.Errorf("block %d: %w", count, err)
		}
		raw = rest
	}
}

func (r *Revocations) add(der []byte) error {
	parsed, err := x509.ParseRevocationList(der)
	if err != nil {
		return err
	}
	if err := wholeList(parsed); err != nil {
		return fmt.Errorf("the list of %s: %w", parsed.Issuer, err)
	}
	l := &revocationList{
		// Without its entries, which are in the map.
		parsed: &x509.RevocationList{
			RawTBSRevocationList: parsed.RawTBSRevocationList, Signature: parsed.Signature, SignatureAlgorithm: parsed.SignatureAlgorithm,
			Issuer: parsed.Issuer, NextUpdate: parsed.NextUpdate,
		},
		revoked: make(map[string]time.Time, len(parsed.RevokedCertificateEntries)), signed: map[[sha256.Size]byte]bool{},
	}
	for _, e := range parsed.RevokedCertificateEntries {
		if err := understood(e.Extensions, oidReason, oidInvalidity); err != nil {
			return fmt.Errorf("the list of %s, serial %x: %w", parsed.Issuer, e.SerialNumber, err)
		}
		l.revoked[serialKey(e.SerialNumber)] = e.RevocationTime
	}
	r.issuers[string(parsed.RawIssuer)] = append(r.issuers[string(parsed.RawIssuer)], l)
	return nil
}

// wholeList refuses a list that does not stand for itself.
func wholeList(l *x509.RevocationList) error {
	for _, e := range l.Extensions {
		switch {
		case e.Id.Equal(oidDelta):
			return errors.New("it has only what is new since another list (a delta): want the whole one")
		case e.Id.Equal(oidPartial):
			return errors.New("it is for a part of the issuer's certificates (issuingDistributionPoint): want the whole one")
		}
	}
	return understood(l.Extensions, oidAuthorityKey, oidListNumber)
}

// understood refuses critical extensions but for some.
func understood(all []pkix.Extension, known ...asn1.ObjectIdentifier) error {
	for _, e := range all {
		if e.Critical && !slices.ContainsFunc(known, e.Id.Equal) {
			return fmt.Errorf("it has the critical extension %v, which is not understood", e.Id)
		}
	}
	return nil
}

func serialKey(n *big.Int) string {
	if n.Sign() < 0 {
		return "-" + string(n.Bytes())
	}
	return "+" + string(n.Bytes())
}

// signedBy reports whether the list is that of an authority's key. The answer is kept: a
// signature is looked at once.
func (l *revocationList) signedBy(issuer *x509.Certificate) bool {
	key := sha256.Sum256(issuer.Raw)
	l.mu.Lock()
	defer l.mu.Unlock()
	signed, known := l.signed[key]
	if !known {
		signed = l.parsed.CheckSignatureFrom(issuer) == nil
		l.signed[key] = signed
	}
	return guard.Check("pki.list-signed", signed)
}

// Check refuses a verified chain, leaf first, of which a certificate is revoked by its
// issuer: a *RevokedError. The issuer of the leaf needs a list here, else it is an
// *UnlistedError; of those above it lists are looked at where there are any.
func (r *Revocations) Check(chain []*x509.Certificate) error {
	for i := range len(chain) - 1 {
		cert, issuer, listed := chain[i], chain[i+1], false
		for _, l := range r.issuers[string(issuer.RawSubject)] {
			if !l.signedBy(issuer) {
				continue
			}
			listed = true
			if at, revoked := l.revoked[serialKey(cert.SerialNumber)]; !guard.Check("pki.revoked", !revoked) {
				return &RevokedError{cert.Subject.String(), cert.SerialNumber, at}
			}
		}
		if i == 0 && !guard.Check("pki.leaf-listed", listed) {
			return &UnlistedError{cert.Subject.String(), issuer.Subject.String()}
		}
	}
	return nil
}

// Overdue names the issuers that should have made another list by then; "": none. What
// theirs say holds all the same.
func (r *Revocations) Overdue(now time.Time) string {
	var late []string
	for _, lists := range r.issuers {
		for _, l := range lists {
			if next := l.parsed.NextUpdate; !next.IsZero() && now.After(next) {
				late = append(late, fmt.Sprintf("%s (%s)", l.parsed.Issuer, next.UTC().Format(time.RFC3339)))
			}
		}
	}
	slices.Sort(late)
	return strings.Join(late, ", ")
}
