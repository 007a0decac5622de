package ca

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/big"
	"os"
	"slices"
	"strings"
	"time"
)

// reasons of RFC 5280 §5.3.1 that an operator may give.
var reasons = map[string]int{
	"unspecified": 0, "key-compromise": 1, "affiliation-changed": 3, "superseded": 4, "cessation-of-operation": 5, "privilege-withdrawn": 9,
}

// Reasons are those that a revocation may have.
func Reasons() []string { return slices.Sorted(maps.Keys(reasons)) }

// Revoke takes a certificate back: it is on the list of its issuer from now on. name is as
// of [CA.Find]; by a name all that are valid are revoked, of which there may be two after
// a renewal.
func (c *CA) Revoke(name, reason string) ([]*Record, error) {
	if _, known := reasons[reason]; !known {
		return nil, fmt.Errorf("the reason %q: want one of %s", reason, strings.Join(Reasons(), ", "))
	}
	taken, err := c.Revocable(name)
	if err != nil {
		return nil, err
	}
	now := c.now().UTC().Truncate(time.Second)
	generations := map[int]bool{}
	for _, r := range taken {
		r.Revoked, r.Reason = &now, reason
		generations[r.Generation] = true
	}
	return taken, c.makeLists(func(g Generation) bool { return generations[g.Number] })
}

// Revocable returns what Revoke of a name or serial number would take back: certificates that
// are valid still, one at least, or an error.
func (c *CA) Revocable(name string) (valid []*Record, err error) {
	first, err := c.Find(name)
	if err != nil {
		return nil, err
	}
	now := c.now().UTC().Truncate(time.Second)
	for _, r := range c.ledger.Certificates {
		wanted := r == first || name == first.Name && r.Name == name
		if wanted && r.Revoked == nil && !now.After(r.NotAfter) {
			valid = append(valid, r)
		}
	}
	if len(valid) == 0 {
		return nil, fmt.Errorf("the certificate of %q, serial %s, is revoked or has ended already", first.Name, first.Serial)
	}
	return valid, nil
}

// makeLists makes the revocation lists of some generations anew, once the ledger says what
// is on them.
func (c *CA) makeLists(which func(Generation) bool) error {
	type list struct {
		of *Generation
		by crypto.Signer
	}
	var lists []list
	for i := range c.ledger.Generations {
		g := &c.ledger.Generations[i]
		if !which(*g) {
			continue
		}
		_, key, err := c.issuer(g.Number)
		if err != nil {
			return err
		}
		g.ListNumber++
		lists = append(lists, list{g, key})
	}
	if err := c.writeLedger(); err != nil {
		return err
	}
	for _, l := range lists {
		if err := c.writeList(l.of, l.by); err != nil {
			return err
		}
	}
	return nil
}

// writeList makes the revocation list of a generation anew, beside those of others.
func (c *CA) writeList(g *Generation, by crypto.Signer) error {
	issuer, err := c.certificate(g.Number, intermediate)
	if err != nil {
		return err
	}
	now := c.now()
	list := &x509.RevocationList{Number: big.NewInt(g.ListNumber), ThisUpdate: now.Add(-backdate), NextUpdate: now.AddDate(0, 0, listDays)}
	for _, r := range c.ledger.Certificates {
		if r.Generation != g.Number || r.Revoked == nil {
			continue
		}
		serial, ok := new(big.Int).SetString(r.Serial, 16)
		if !ok {
			return fmt.Errorf("the ledger's record of %q has the serial number %q", r.Name, r.Serial)
		}
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: serial, RevocationTime: *r.Revoked, ReasonCode: reasons[r.Reason]})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, issuer, by)
	if err != nil {
		return fmt.Errorf("make the revocation list: %w", err)
	}
	return c.replaceLists(func(l *x509.RevocationList) bool { return !bytes.Equal(l.RawIssuer, issuer.RawSubject) }, der)
}

// dropLists leaves out the lists of generations that are retired.
func (c *CA) dropLists() error {
	retired := map[string]bool{}
	for _, g := range c.ledger.Generations {
		if !g.Retired {
			continue
		}
		issuer, err := c.certificate(g.Number, intermediate)
		if err != nil {
			return err
		}
		retired[string(issuer.RawSubject)] = true
	}
	return c.replaceLists(func(l *x509.RevocationList) bool { return !retired[string(l.RawIssuer)] }, nil)
}

// replaceLists writes the lists that stay, and another.
func (c *CA) replaceLists(stays func(*x509.RevocationList) bool, another []byte) error {
	file := c.ListFile()
	raw, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var out bytes.Buffer
	for block, rest := pem.Decode(raw); block != nil; block, rest = pem.Decode(rest) {
		l, err := x509.ParseRevocationList(block.Bytes)
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		if stays(l) {
			_ = pem.Encode(&out, block) // to memory
		}
	}
	if another != nil {
		_ = pem.Encode(&out, &pem.Block{Type: listBlock, Bytes: another})
	}
	if err := replace(file, out.Bytes(), 0o644); err != nil {
		return fmt.Errorf("write the revocation lists: %w", err)
	}
	return nil
}

// Lists makes all revocation lists anew: another is due a year after the last, and each
// certificate that is issued makes one too.
func (c *CA) Lists() error {
	return c.makeLists(func(g Generation) bool { return !g.Retired })
}
