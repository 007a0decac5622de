package ca

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"rustmq.dev/rustmq/security/pki"
)

// Names of files in the directory.
const (
	ledgerFile   = "ca.json"
	lockFile     = "lock"
	bundleFile   = "bundle.pem"
	listFile     = "crl.pem"
	issuedDir    = "issued"
	root         = "root"
	intermediate = "intermediate"
)

// PEM types.
const (
	certificateBlock = "CERTIFICATE"
	listBlock        = "X509 CRL"
)

// Lifetimes of what is made here.
const (
	rootYears         = 10
	intermediateYears = 5
	listDays          = 365 // until another revocation list is due; each signature makes one
	backdate          = time.Hour
)

// Options of [Init] and [Open].
type Options struct {
	Dir    string
	KeyDir string // where keys are; "": Dir
	// Passphrase is asked for when a key is to be read or written that is sealed by
	// one, once at most; nil from it when one is written: it is not sealed.
	Passphrase func() ([]byte, error)
	Now        func() time.Time // time.Now
	// Cost is that of passphrases, scrypt's N; 0: 131072. Tests have less time.
	Cost int

	// Of Init alone.
	CommonName, Organization string
	KeyKind                  string // ECDSA
}

// CA is a certificate authority.
type CA struct {
	dir, keyDir string
	now         func() time.Time
	cost        int
	ask         func() ([]byte, error)
	ledger      *ledger
	unlock      func() error // nil: opened to read
}

func (o *Options) fill() {
	if o.KeyDir == "" {
		o.KeyDir = o.Dir
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Cost == 0 {
		o.Cost = defaultCost
	}
	if o.KeyKind == "" {
		o.KeyKind = ECDSA
	}
	if ask := o.Passphrase; ask != nil { // once
		var passphrase []byte
		var err error
		asked := false
		o.Passphrase = func() ([]byte, error) {
			if !asked {
				passphrase, err = ask()
				asked = true
			}
			return passphrase, err
		}
	} else {
		o.Passphrase = func() ([]byte, error) { return nil, ErrSealed }
	}
}

func newCA(o Options) *CA {
	return &CA{dir: o.Dir, keyDir: o.KeyDir, now: o.Now, cost: o.Cost, ask: o.Passphrase}
}

// ErrExists says that there is an authority in a directory.
var ErrExists = errors.New("there is an authority already; it is not replaced")

// Init makes an authority in a directory that has none.
func Init(o Options) (_ *CA, err error) {
	o.fill()
	if o.CommonName == "" {
		return nil, errors.New("an authority needs a name")
	}
	for _, dir := range []string{o.Dir, o.KeyDir, filepath.Join(o.Dir, issuedDir)} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("make the directory of the authority: %w", err)
		}
	}
	c := newCA(o)
	if c.unlock, err = lock(o.Dir); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.unlock())
		}
	}()
	if _, err := os.Stat(filepath.Join(o.Dir, ledgerFile)); !errors.Is(err, fs.ErrNotExist) {
		return nil, errors.Join(fmt.Errorf("%s: %w", o.Dir, ErrExists), err)
	}
	c.ledger = &ledger{Format: ledgerFormat, Organization: o.Organization, CommonName: o.CommonName, KeyKind: o.KeyKind}
	return c, c.generate(1)
}

// Open opens an authority to look at it, or with change to have it sign, which keeps other
// processes from doing so until [CA.Close].
func Open(o Options, change bool) (_ *CA, err error) {
	o.fill()
	c := newCA(o)
	if _, err := os.Stat(filepath.Join(o.Dir, ledgerFile)); err != nil {
		return nil, fmt.Errorf("there is no authority in %s: make one with `rustmq admin ca init`, or name its directory with --ca-dir: %w", o.Dir, err)
	}
	if change {
		if c.unlock, err = lock(o.Dir); err != nil {
			return nil, err
		}
	}
	if c.ledger, err = readLedger(o.Dir); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// Close lets other processes change the authority.
func (c *CA) Close() error {
	if c.unlock == nil {
		return nil
	}
	defer func() { c.unlock = nil }()
	return c.unlock()
}

// generate makes a root and an intermediate, and has the ledger name them.
func (c *CA) generate(number int) error {
	dir := filepath.Join(c.dir, strconv.Itoa(number))
	keys := filepath.Join(c.keyDir, strconv.Itoa(number))
	for _, d := range []string{dir, keys} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return err
		}
	}
	var passphrase []byte
	if number == 1 || c.ledger.Sealed {
		var err error
		if passphrase, err = c.ask(); err != nil {
			return err
		}
		c.ledger.Sealed = passphrase != nil
	}
	name := func(of string) pkix.Name {
		n := pkix.Name{CommonName: c.ledger.CommonName + of}
		if number > 1 {
			n.CommonName += fmt.Sprintf(" G%d", number)
		}
		if c.ledger.Organization != "" {
			n.Organization = []string{c.ledger.Organization}
		}
		return n
	}
	now := c.now()
	template := func(subject pkix.Name, years, below int) *x509.Certificate {
		return &x509.Certificate{
			Subject: subject, NotBefore: now.Add(-backdate), NotAfter: now.AddDate(years, 0, 0), IsCA: true, BasicConstraintsValid: true,
			MaxPathLen: below, MaxPathLenZero: below == 0, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		}
	}
	write := func(what string, template, parent *x509.Certificate, by crypto.Signer) (*x509.Certificate, crypto.Signer, error) {
		key, err := newKey(c.ledger.KeyKind)
		if err != nil {
			return nil, nil, err
		}
		if by == nil {
			parent, by = template, key
		}
		cert, err := sign(template, parent, key.Public(), by)
		if err != nil {
			return nil, nil, err
		}
		raw, err := encodeKey(key, passphrase, c.cost)
		if err != nil {
			return nil, nil, err
		}
		if err := replace(filepath.Join(keys, what+".key"), raw, 0o600); err != nil {
			return nil, nil, err
		}
		return cert, key, replace(filepath.Join(dir, what+".pem"), encodeCertificates(cert), 0o644)
	}
	rootCert, rootKey, err := write(root, template(name(""), rootYears, 1), nil, nil)
	if err != nil {
		return fmt.Errorf("make the root: %w", err)
	}
	_, key, err := write(intermediate, template(name(" Intermediate"), intermediateYears, 0), rootCert, rootKey)
	if err != nil {
		return fmt.Errorf("make the intermediate: %w", err)
	}
	c.ledger.Generations = append(c.ledger.Generations, Generation{Number: number, Made: now.UTC().Truncate(time.Second), ListNumber: 1})
	if err := c.writeList(c.ledger.newest(), key); err != nil {
		return err
	}
	if err := c.writeBundle(); err != nil {
		return err
	}
	return c.writeLedger() // from here on there is such a generation
}

// sign makes a certificate with a random serial number.
func sign(template, parent *x509.Certificate, public crypto.PublicKey, by crypto.Signer) (*x509.Certificate, error) {
	for {
		serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
		if err != nil {
			return nil, err
		}
		if template.SerialNumber = serial; serial.Sign() > 0 {
			break
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, by)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

func encodeCertificates(chain ...*x509.Certificate) []byte {
	var b bytes.Buffer
	for _, cert := range chain {
		_ = pem.Encode(&b, &pem.Block{Type: certificateBlock, Bytes: cert.Raw}) // to memory
	}
	return b.Bytes()
}

// certificate reads the root or the intermediate of a generation.
func (c *CA) certificate(number int, what string) (*x509.Certificate, error) {
	file := filepath.Join(c.dir, strconv.Itoa(number), what+".pem")
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

// issuer reads the intermediate of a generation, with its key.
func (c *CA) issuer(number int) (*x509.Certificate, crypto.Signer, error) {
	cert, err := c.certificate(number, intermediate)
	if err != nil {
		return nil, nil, err
	}
	key, err := readKey(filepath.Join(c.keyDir, strconv.Itoa(number), intermediate+".key"), cert, c.ask)
	if err != nil {
		return nil, nil, err
	}
	return cert, key, nil
}

// writeBundle has bundle.pem hold the roots of all generations that are not retired.
func (c *CA) writeBundle() error {
	var roots []*x509.Certificate
	for _, g := range c.ledger.Generations {
		if g.Retired {
			continue
		}
		cert, err := c.certificate(g.Number, root)
		if err != nil {
			return err
		}
		roots = append(roots, cert)
	}
	if err := replace(filepath.Join(c.dir, bundleFile), encodeCertificates(roots...), 0o644); err != nil {
		return fmt.Errorf("write the bundle: %w", err)
	}
	return nil
}

// CopyTrust writes copies of the bundle and of the revocation lists into a directory, for
// machines where the authority is not.
func (c *CA) CopyTrust(dir string) error {
	for _, file := range []string{c.BundleFile(), c.ListFile()} {
		raw, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if err := replace(filepath.Join(dir, filepath.Base(file)), raw, 0o644); err != nil {
			return fmt.Errorf("copy what is to be trusted: %w", err)
		}
	}
	return nil
}

// BundleFile is the roots to be trusted, in PEM.
func (c *CA) BundleFile() string { return filepath.Join(c.dir, bundleFile) }

// ListFile is the revocation lists, in PEM.
func (c *CA) ListFile() string { return filepath.Join(c.dir, listFile) }

// Authority is one certificate of the authority itself.
type Authority struct {
	Generation int       `json:"generation"`
	What       string    `json:"what"` // root, intermediate
	Subject    string    `json:"subject"`
	Serial     string    `json:"serial"`
	Key        string    `json:"key"`
	NotAfter   time.Time `json:"not_after"`
	Trusted    bool      `json:"trusted"` // its root is in the bundle
	Issues     bool      `json:"issues"`
}

// Authorities are the certificates of the authority itself, the oldest generation first.
func (c *CA) Authorities() (all []Authority, err error) {
	for _, g := range c.ledger.Generations {
		for _, what := range []string{root, intermediate} {
			cert, err := c.certificate(g.Number, what)
			if err != nil {
				return nil, err
			}
			all = append(all, Authority{
				Generation: g.Number, What: what, Subject: cert.Subject.String(), Serial: fmt.Sprintf("%x", cert.SerialNumber), Key: cert.PublicKeyAlgorithm.String(),
				NotAfter: cert.NotAfter, Trusted: !g.Retired, Issues: what == intermediate && g.Number == c.ledger.newest().Number,
			})
		}
	}
	return all, nil
}

// Rotate makes another generation, which issues from now on. The bundle has both roots:
// it has to be everywhere before the first certificate of the new one is.
func (c *CA) Rotate() error {
	last := c.ledger.newest()
	// It also shows that the passphrase is that of before.
	if _, _, err := c.issuer(last.Number); err != nil {
		return err
	}
	return c.generate(last.Number + 1)
}

// InUseError says that a generation cannot be taken away: these certificates of it are
// valid, and neither renewed nor revoked.
type InUseError struct{ Names []string }

func (e *InUseError) Error() string {
	return fmt.Sprintf("the old root has signed %d certificates that are valid and that nothing has replaced, such as %q: renew or revoke them first", len(e.Names), e.Names[0])
}

// NeedsOld are the names of certificates that are valid, that a generation before the newest
// has issued, and that nothing has replaced: who shows one is refused once Finish is done.
func (c *CA) NeedsOld() (names []string) {
	newest := c.ledger.newest().Number
	renewed := map[string]bool{}
	for _, r := range c.ledger.Certificates {
		renewed[r.Name] = renewed[r.Name] || r.Generation == newest
	}
	for _, r := range c.ledger.Certificates {
		if r.Generation != newest && r.State(c.now()) == "valid" && !renewed[r.Name] {
			names = append(names, r.Name)
		}
	}
	return names
}

// Finish takes all generations but the newest out of the bundle and the lists. *InUseError:
// they are needed; force does not ask.
func (c *CA) Finish(force bool) error {
	if left := c.NeedsOld(); len(left) > 0 && !force {
		return &InUseError{left}
	}
	newest := c.ledger.newest().Number
	for i := range c.ledger.Generations {
		if g := &c.ledger.Generations[i]; g.Number != newest {
			g.Retired = true
		}
	}
	if err := c.writeLedger(); err != nil {
		return err
	}
	if err := c.writeBundle(); err != nil {
		return err
	}
	return c.dropLists()
}
