package ca

import (
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/mail"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"rustmq.dev/rustmq/security/pki"
	"rustmq.dev/rustmq/storage/guard"
)

// Profiles of certificates.
const (
	Broker     = "broker"     // a server with that role, for both sides of a connection
	Controller = "controller" // likewise; a node that is both has "broker,controller"
	Client     = "client"     // a client of Kafka
	Admin      = "admin"      // with Node a server with that role, else a person
)

// Lifetimes that may be asked for, in days.
const (
	DefaultDays = 397 // the longest that browsers accept
	MaxDays     = 825
)

// Request is what a certificate is to say.
type Request struct {
	Name    string // the common name, and by which the certificate is found again
	Profile string // one, or several of servers with commas between
	// Cluster and Node are those of a server, see [pki.Identity].
	Cluster string
	Node    int32 // -1: none
	Hosts   []string
	URIs    []string // of clients
	Emails  []string // of clients
	Org     string
	Units   []string
	KeyKind string // ECDSA
	Days    int    // DefaultDays
}

// Issued is a certificate with its key, in PEM.
type Issued struct {
	Record *Record
	Chain  []byte // the certificate and the intermediate
	Key    []byte // PKCS#8, not sealed
}

// nameForm is what names of certificates look like: they become names of files too.
var nameForm = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._@ -]{0,126}[A-Za-z0-9])?$`)

// Issue makes a certificate and its key.
func (c *CA) Issue(q Request) (*Issued, error) {
	template, err := q.template()
	if err != nil {
		return nil, err
	}
	if i := slices.IndexFunc(c.ledger.Certificates, func(r *Record) bool { return r.Name == q.Name && r.State(c.now()) == "valid" }); i >= 0 {
		return nil, fmt.Errorf("%q has a valid certificate, serial %s: renew it, revoke it, or take another name", q.Name, c.ledger.Certificates[i].Serial)
	}
	return c.issue(q, template)
}

// Renew makes another certificate for who has one, with a key of its own. The one before
// stays valid. name is its name or serial number.
func (c *CA) Renew(name string, days int) (*Issued, error) {
	r, err := c.Find(name)
	if err != nil {
		return nil, err
	}
	if r.Revoked != nil {
		return nil, fmt.Errorf("the certificate of %q, serial %s, is revoked: issue another", r.Name, r.Serial)
	}
	q := Request{
		Name: r.Name, Profile: r.Profile, Node: -1, Hosts: r.Hosts, Emails: r.Emails, URIs: r.URIs, Org: r.Org, Units: r.Units, KeyKind: r.KeyKind, Days: days,
	}
	if isServer(r.Profile) && len(r.URIs) == 1 && strings.HasPrefix(r.URIs[0], "rustmq:") {
		id, err := identityOf(r.URIs[0])
		if err != nil {
			return nil, fmt.Errorf("the ledger's record of %q: %w", r.Name, err)
		}
		q.Cluster, q.Node, q.URIs = id.Cluster, id.Node, nil
	}
	template, err := q.template()
	if err != nil {
		return nil, err
	}
	return c.issue(q, template)
}

// Due returns whose certificate ends within a time from now: of each name the one that ends
// last, if it is valid still. Who let it end is to be renewed by name.
func (c *CA) Due(within time.Duration) (due []*Record) {
	last := map[string]*Record{}
	for _, r := range c.ledger.Certificates {
		if r.State(c.now()) == "valid" && (last[r.Name] == nil || r.NotAfter.After(last[r.Name].NotAfter)) {
			last[r.Name] = r
		}
	}
	for _, r := range c.ledger.Certificates {
		if last[r.Name] == r && !r.NotAfter.After(c.now().Add(within)) {
			due = append(due, r)
		}
	}
	return due
}

// Days is how long a certificate was issued for.
func (r *Record) Days() int {
	return min(max(int(r.NotAfter.Sub(r.NotBefore).Round(24*time.Hour)/(24*time.Hour)), 1), MaxDays)
}

func identityOf(text string) (pki.Identity, error) {
	u, err := url.Parse(text)
	if err != nil {
		return pki.Identity{}, err
	}
	return pki.IdentityOf(&x509.Certificate{URIs: []*url.URL{u}})
}

// isServer reports whether a profile has no other role than those of servers.
func isServer(profile string) bool {
	for role := range strings.SplitSeq(profile, ",") {
		if !slices.Contains([]string{Broker, Controller, Admin}, role) {
			return false
		}
	}
	return true
}

// Validate says what is wrong with a request, before anybody is asked for a passphrase.
func (q Request) Validate() error {
	_, err := q.template()
	return err
}

// template checks the request, and returns what it asks for but for validity.
func (q *Request) template() (*x509.Certificate, error) {
	if !nameForm.MatchString(q.Name) {
		return nil, fmt.Errorf("the name %q: want letters and digits, with . _ @ - and spaces between, at most 128", q.Name)
	}
	if q.Days == 0 {
		q.Days = DefaultDays
	}
	if q.Days < 1 || q.Days > MaxDays {
		return nil, fmt.Errorf("%d days: want 1 to %d", q.Days, MaxDays)
	}
	if q.KeyKind == "" {
		q.KeyKind = ECDSA
	}
	t := &x509.Certificate{
		Subject: pkix.Name{CommonName: q.Name, OrganizationalUnit: q.Units}, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	if q.Org != "" {
		t.Subject.Organization = []string{q.Org}
	}
	if strings.HasPrefix(q.KeyKind, "rsa") { // TLS 1.2 may encrypt to it
		t.KeyUsage |= x509.KeyUsageKeyEncipherment
	}
	if err := q.kind(t); err != nil {
		return nil, err
	}
	for _, h := range q.Hosts {
		if ip := net.ParseIP(h); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else if h != "" && len(h) <= 253 && !strings.ContainsAny(h, ": /\x00") {
			t.DNSNames = append(t.DNSNames, h)
		} else {
			return nil, fmt.Errorf("the host %q: want a name or an address, without a port", h)
		}
	}
	for _, e := range q.Emails {
		if a, err := mail.ParseAddress(e); err != nil || a.Address != e {
			return nil, fmt.Errorf("the mail address %q: want one such as ann@example.org", e)
		}
	}
	t.EmailAddresses = q.Emails
	for _, text := range q.URIs {
		u, err := url.Parse(text)
		if err != nil || u.Scheme == "" {
			return nil, fmt.Errorf("the URI %q: want one with a scheme, such as spiffe://prod/billing", text)
		}
		t.URIs = append(t.URIs, u)
	}
	return t, nil
}

// kind is the part of template that depends on the profile.
func (q *Request) kind(t *x509.Certificate) error {
	server := isServer(q.Profile) && (q.Profile != Admin || q.Node >= 0)
	switch {
	case !server && q.Profile != Client && q.Profile != Admin:
		return fmt.Errorf("the profile %q: want broker, controller, client or admin, or several of servers with commas between", q.Profile)
	case !server && (q.Cluster != "" || q.Node >= 0):
		return fmt.Errorf("the profile %s is no server's: give no --cluster and no --node", q.Profile)
	case !server:
		if q.Profile == Admin && len(q.Units) == 0 {
			t.Subject.OrganizationalUnit = []string{Admin}
		}
		own := slices.ContainsFunc(q.URIs, func(u string) bool { return strings.HasPrefix(strings.ToLower(strings.TrimSpace(u)), "rustmq:") })
		if !guard.Check("ca.server-names", !own) {
			return errors.New("a URI of the scheme rustmq is for servers: give one of the profiles broker, controller and admin, with a cluster and a node")
		}
		return nil
	case q.Node < 0:
		return errors.New("which node of which cluster is it? A server's certificate says so: give --node and --cluster")
	case len(q.URIs)+len(q.Emails) > 0:
		return errors.New("a server's certificate has hosts, and no URIs and mail addresses")
	case len(q.Hosts) == 0:
		return errors.New("by which hosts is it dialled? A server's certificate names them: give --host")
	}
	uri := pki.Identity{Cluster: q.Cluster, Node: q.Node, Roles: strings.Split(q.Profile, ",")}.URI()
	if _, err := pki.IdentityOf(&x509.Certificate{URIs: []*url.URL{uri}}); err != nil {
		return fmt.Errorf("the cluster %q: want lower-case letters, digits and hyphens, at most 63: %w", q.Cluster, err)
	}
	t.URIs = []*url.URL{uri}
	t.ExtKeyUsage = append(t.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
	return nil
}

func (c *CA) issue(q Request, template *x509.Certificate) (*Issued, error) {
	generation := c.ledger.newest()
	issuer, by, err := c.issuer(generation.Number)
	if err != nil {
		return nil, err
	}
	now := c.now()
	template.NotBefore, template.NotAfter = now.Add(-backdate), now.AddDate(0, 0, q.Days)
	if template.NotAfter.After(issuer.NotAfter) {
		template.NotAfter = issuer.NotAfter
	}
	if now.After(issuer.NotAfter) {
		return nil, fmt.Errorf("the intermediate has ended on %s: rotate the authority", issuer.NotAfter.UTC().Format(time.RFC3339))
	}
	key, err := newKey(q.KeyKind)
	if err != nil {
		return nil, err
	}
	cert, err := sign(template, issuer, key.Public(), by)
	if err != nil {
		return nil, fmt.Errorf("issue a certificate to %q: %w", q.Name, err)
	}
	return c.enter(q, cert, issuer, key, by)
}

// enter has the ledger know a certificate before anybody has it.
func (c *CA) enter(q Request, cert, issuer *x509.Certificate, key, by crypto.Signer) (*Issued, error) {
	r := &Record{
		Serial: fmt.Sprintf("%x", cert.SerialNumber), Name: q.Name, Profile: q.Profile, Subject: pki.SubjectName(cert.Subject), Hosts: q.Hosts, Emails: q.Emails,
		KeyKind: q.KeyKind, Generation: c.ledger.newest().Number, Issued: c.now().UTC().Truncate(time.Second), NotBefore: cert.NotBefore, NotAfter: cert.NotAfter,
		Units: q.Units, Org: q.Org,
	}
	for _, u := range cert.URIs {
		r.URIs = append(r.URIs, u.String())
	}
	raw, err := encodeKey(key, nil, 0)
	if err != nil {
		return nil, err
	}
	if err := replace(filepath.Join(c.dir, issuedDir, r.Serial+".pem"), encodeCertificates(cert), 0o644); err != nil {
		return nil, err
	}
	generation := c.ledger.newest()
	c.ledger.Certificates = append(c.ledger.Certificates, r)
	generation.ListNumber++
	if err := c.writeLedger(); err != nil {
		return nil, err
	}
	if err := c.writeList(generation, by); err != nil {
		return nil, err
	}
	return &Issued{r, encodeCertificates(cert, issuer), raw}, nil
}

// Records are what was issued, in that order.
func (c *CA) Records() []*Record { return c.ledger.Certificates }

// Find returns the newest certificate of a name, or the one with a serial number.
func (c *CA) Find(name string) (*Record, error) {
	serial, hex := new(big.Int).SetString(strings.ReplaceAll(name, ":", ""), 16)
	for _, r := range slices.Backward(c.ledger.Certificates) {
		if r.Name == name || hex && r.Serial == fmt.Sprintf("%x", serial) {
			return r, nil
		}
	}
	return nil, fmt.Errorf("no certificate was issued to %q, nor has that serial number: see `rustmq admin certs list`", name)
}

// Certificate reads a certificate that was issued.
func (c *CA) Certificate(r *Record) (*x509.Certificate, error) {
	file := filepath.Join(c.dir, issuedDir, r.Serial+".pem")
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	chain, err := pki.ParseCertificates(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return chain[0], nil
}

// Files are where in a directory the certificate of a name, and its key, are written.
func Files(dir, name string) (certFile, keyFile string) {
	base := filepath.Join(dir, strings.ReplaceAll(name, " ", "-"))
	return base + ".pem", base + ".key"
}

// Write puts a certificate and its key into a directory, as [Files] says, the key
// first. Files that are there are replaced if replaces says so.
func (i *Issued) Write(dir string, replaces bool) (certFile, keyFile string, err error) {
	certFile, keyFile = Files(dir, i.Record.Name)
	if err := i.free(certFile, keyFile, replaces); err != nil {
		return "", "", err
	}
	if err := replace(keyFile, i.Key, 0o600); err != nil {
		return "", "", fmt.Errorf("write the key of serial %s: %w", i.Record.Serial, err)
	}
	if err := replace(certFile, i.Chain, 0o644); err != nil {
		return "", "", fmt.Errorf("write the certificate with the serial %s: %w", i.Record.Serial, err)
	}
	return certFile, keyFile, nil
}

func (i *Issued) free(certFile, keyFile string, replaces bool) error {
	for _, file := range []string{certFile, keyFile} {
		if _, err := os.Lstat(file); err == nil && !replaces {
			return fmt.Errorf("%s is there: name another directory, or have it replaced", strconv.Quote(file))
		}
	}
	return nil
}
