package ca_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"rustmq.dev/rustmq/security/ca"
	"rustmq.dev/rustmq/security/pki"
)

const passphrase = "correct horse"

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// options are those of an authority in a directory, at a time.
func options(dir string, now *time.Time) ca.Options {
	return ca.Options{
		Dir: dir, CommonName: "Test Root", Organization: "Tests", Cost: 1 << 4, Now: func() time.Time { return *now },
		Passphrase: func() ([]byte, error) { return []byte(passphrase), nil },
	}
}

// made makes an authority, whose clock the test sets.
func made(t *testing.T) (c *ca.CA, dir string, now *time.Time) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "ca")
	start := time.Now()
	now = &start
	c, err := ca.Init(options(dir, now))
	must(t, err)
	t.Cleanup(func() { must(t, c.Close()) })
	return c, dir, now
}

func issue(t *testing.T, c *ca.CA, q ca.Request) (*ca.Issued, string) {
	t.Helper()
	issued, err := c.Issue(q)
	must(t, err)
	cert, _, err := issued.Write(t.TempDir(), false)
	must(t, err)
	return issued, cert
}

func node(id int32) ca.Request {
	return ca.Request{Name: "node", Profile: "broker,controller", Cluster: "prod", Node: id, Hosts: []string{"127.0.0.1", "node.example"}}
}

// TestVerdictsNameTheirReason walks the reasons for which a certificate is refused.
func TestVerdictsNameTheirReason(t *testing.T) {
	c, _, now := made(t)
	other, _, _ := made(t)
	_, server := issue(t, c, node(1))
	_, client := issue(t, c, ca.Request{Name: "alice", Profile: ca.Client, Node: -1})
	_, gone := issue(t, c, ca.Request{Name: "mallory", Profile: ca.Client, Node: -1, Days: 30})
	_, foreign := issue(t, other, ca.Request{Name: "bob", Profile: ca.Client, Node: -1})
	_, err := c.Revoke("mallory", "key-compromise")
	must(t, err)
	cut := filepath.Join(t.TempDir(), "cut.pem")
	must(t, os.WriteFile(cut, []byte("-----BEGIN CERTIFICATE-----\nMIIB"), 0o600))
	alone := filepath.Join(t.TempDir(), "leaf.pem") // without the intermediate
	raw, err := os.ReadFile(client)
	must(t, err)
	leaf, _ := pem.Decode(raw)
	must(t, os.WriteFile(alone, pem.EncodeToMemory(leaf), 0o600))
	for _, w := range []struct {
		file, use, host string
		after           time.Duration
		reason          string
	}{
		{server, "node", "127.0.0.1", 0, ""},
		{server, "server", "node.example", 0, ""},
		{server, "client", "", 0, ""},
		{client, "client", "", 0, ""},
		{client, "", "", 0, ""},
		{client, "client", "", 398 * 24 * time.Hour, ca.ReasonExpired},
		{client, "client", "", -2 * time.Hour, ca.ReasonNotYet},
		{client, "server", "", 0, ca.ReasonUsage},
		{client, "node", "", 0, ca.ReasonUsage},
		{server, "server", "10.0.0.1", 0, ca.ReasonName},
		{server, "server", "evil.node.example", 0, ca.ReasonName},
		{gone, "client", "", 0, ca.ReasonRevoked},
		{foreign, "client", "", 0, ca.ReasonAuthority},
		{alone, "client", "", 0, ca.ReasonAuthority},
		{cut, "client", "", 0, ca.ReasonMalformed},
	} {
		v, err := ca.Verify(ca.VerifyOptions{File: w.file, CAFile: c.BundleFile(), ListFile: c.ListFile(), Use: w.use, Host: w.host, Now: now.Add(w.after)})
		must(t, err)
		if v.Reason != w.reason || v.OK != (w.reason == "") || v.OK != (len(v.Chain) == 3) {
			t.Errorf("%s for %q, host %q, after %v: %+v; want %q", filepath.Base(w.file), w.use, w.host, w.after, v, w.reason)
		}
	}
	v, err := ca.Verify(ca.VerifyOptions{File: client, CAFile: c.BundleFile(), ListFile: other.ListFile(), Now: *now})
	if must(t, err); v.Reason != ca.ReasonUnlisted && v.Reason != ca.ReasonRevoked {
		t.Errorf("with the lists of another: %+v", v)
	}
}

// TestKeysAreSealed holds that a key is of use to nobody without its passphrase, in whatever
// way its file was changed, and that others may not read it.
func TestKeysAreSealed(t *testing.T) {
	c, dir, now := made(t)
	must(t, c.Close())
	file := filepath.Join(dir, "1", "intermediate.key")
	sealed, err := os.ReadFile(file)
	must(t, err)
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key's mode: %v, %v", info.Mode(), err)
	}
	try := func(o ca.Options) error {
		c, err := ca.Open(o, true)
		must(t, err)
		_, err = c.Issue(ca.Request{Name: "alice", Profile: ca.Client, Node: -1})
		must(t, c.Close())
		return err
	}
	wrong := options(dir, now)
	wrong.Passphrase = func() ([]byte, error) { return []byte("correct horse "), nil }
	if err := try(wrong); !errors.Is(err, ca.ErrPassphrase) {
		t.Errorf("another passphrase: %v", err)
	}
	nobody := options(dir, now)
	nobody.Passphrase = nil
	if err := try(nobody); !errors.Is(err, ca.ErrSealed) {
		t.Errorf("no passphrase: %v", err)
	}
	block, _ := pem.Decode(sealed)
	for what, change := range map[string]func(*pem.Block){
		"a bit of the body":   func(b *pem.Block) { b.Bytes[len(b.Bytes)/2] ^= 1 },
		"a cut body":          func(b *pem.Block) { b.Bytes = b.Bytes[:5] },
		"another salt":        func(b *pem.Block) { b.Headers["Salt"] = strings.Repeat("0", 32) },
		"a short salt":        func(b *pem.Block) { b.Headers["Salt"] = "00" },
		"another cost":        func(b *pem.Block) { b.Headers["Cost"] = "32" },
		"all memory for cost": func(b *pem.Block) { b.Headers["Cost"] = "1073741824" },
		"another kind":        func(b *pem.Block) { b.Type = "PRIVATE KEY" },
	} {
		changed := &pem.Block{Type: block.Type, Headers: map[string]string{"Cost": block.Headers["Cost"], "Salt": block.Headers["Salt"]}, Bytes: bytes.Clone(block.Bytes)}
		change(changed)
		must(t, os.WriteFile(file, pem.EncodeToMemory(changed), 0o600))
		if err := try(options(dir, now)); err == nil || strings.Contains(err.Error(), passphrase) {
			t.Errorf("%s: %v", what, err)
		}
	}
	must(t, os.WriteFile(file, sealed, 0o600))
	must(t, os.Chmod(file, 0o640))
	if err := try(options(dir, now)); err == nil || !strings.Contains(err.Error(), "can be read or written by others") {
		t.Errorf("a key that others read: %v", err)
	}
	must(t, os.Chmod(file, 0o600))
	rootKey, err := os.ReadFile(filepath.Join(dir, "1", "root.key"))
	must(t, err)
	must(t, os.WriteFile(file, rootKey, 0o600))
	if err := try(options(dir, now)); err == nil || !strings.Contains(err.Error(), "is not that of its certificate") {
		t.Errorf("the root's key for the intermediate's: %v", err)
	}
	must(t, os.WriteFile(file, sealed, 0o600))
	must(t, os.Remove(filepath.Join(dir, "1", "root.key"))) // taken away
	if err := try(options(dir, now)); err != nil {
		t.Errorf("as it was, without the root's key: %v", err)
	}
}

// TestAuthorityIsMadeOnce and kept, with keys in a directory of their own, or open.
func TestAuthorityIsMadeOnce(t *testing.T) {
	_, dir, now := made(t)
	if _, err := ca.Init(options(dir, now)); err == nil {
		t.Error("an authority is made over one that is in use")
	}
	if _, err := ca.Open(options(dir, now), true); err == nil || !strings.Contains(err.Error(), "in use by another command") {
		t.Errorf("two at a time: %v", err)
	}
	second := options(t.TempDir(), now)
	second.KeyDir, second.KeyKind = t.TempDir(), ca.Ed25519
	second.Passphrase = func() ([]byte, error) { return nil, nil }
	c, err := ca.Init(second)
	must(t, err)
	must(t, c.Close())
	if _, err := ca.Init(second); !errors.Is(err, ca.ErrExists) {
		t.Errorf("once more: %v", err)
	}
	raw, err := os.ReadFile(filepath.Join(second.KeyDir, "1", "intermediate.key"))
	must(t, err)
	if block, _ := pem.Decode(raw); block == nil || block.Type != "PRIVATE KEY" {
		t.Errorf("an open key is a %v", block)
	}
	elsewhere := second
	elsewhere.KeyDir = ""
	for o, want := range map[*ca.Options]string{&second: "", &elsewhere: "--key-dir"} {
		c, err := ca.Open(*o, true)
		must(t, err)
		if _, err := c.Issue(ca.Request{Name: "x" + strings.Trim(want, "-"), Profile: ca.Client, Node: -1}); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("keys in %q: %v", o.KeyDir, err)
		}
		must(t, c.Close())
	}
	if _, err := ca.Open(options(t.TempDir(), now), false); err == nil || !strings.Contains(err.Error(), "rustmq admin ca init") {
		t.Errorf("nothing there: %v", err)
	}
}

// TestProfiles holds what each profile says, and that only servers have a server's names.
func TestProfiles(t *testing.T) {
	c, _, _ := made(t)
	for _, w := range []struct {
		q    ca.Request
		both bool
		is   string // the identity; "": none
	}{
		{ca.Request{Name: "b", Profile: ca.Broker, Cluster: "prod", Node: 7, Hosts: []string{"::1"}}, true, "node 7 (broker) of cluster prod"},
		{ca.Request{Name: "k", Profile: ca.Controller, Cluster: "prod", Node: 0, Hosts: []string{"k"}}, true, "node 0 (controller) of cluster prod"},
		{ca.Request{Name: "a", Profile: ca.Admin, Cluster: "prod", Node: 8, Hosts: []string{"a"}, KeyKind: ca.Ed25519}, true, "node 8 (admin) of cluster prod"},
		{ca.Request{Name: "ann@example.org", Profile: ca.Admin, Node: -1, Emails: []string{"ann@example.org"}}, false, ""},
		{ca.Request{Name: "app", Profile: ca.Client, Node: -1, Org: "Shop", Units: []string{"billing"}, URIs: []string{"spiffe://prod/billing"}}, false, ""},
	} {
		issued, _ := issue(t, c, w.q)
		cert, err := c.Certificate(issued.Record)
		must(t, err)
		if both := len(cert.ExtKeyUsage) == 2; both != w.both || cert.IsCA {
			t.Errorf("%s: usages %v, CA %v", w.q.Name, cert.ExtKeyUsage, cert.IsCA)
		}
		id, err := pki.IdentityOf(cert)
		if (err == nil) != (w.is != "") || err == nil && id.String() != w.is {
			t.Errorf("%s is %v, %v; want %q", w.q.Name, id, err, w.is)
		}
		if _, err := tls.X509KeyPair(issued.Chain, issued.Key); err != nil {
			t.Errorf("%s: %v", w.q.Name, err)
		}
		if cert.SerialNumber.BitLen() < 64 {
			t.Errorf("%s has the serial number %x", w.q.Name, cert.SerialNumber)
		}
	}
	if r, err := c.Find("app"); err != nil || r.Subject != "CN=app,OU=billing,O=Shop" {
		t.Errorf("the principal of app: %+v, %v", r, err)
	}
	for what, q := range map[string]ca.Request{
		"no profile":                {Name: "x", Profile: "root", Node: -1},
		"client and server":         {Name: "x", Profile: "client,broker", Node: 1, Cluster: "prod", Hosts: []string{"h"}},
		"client that is a node":     {Name: "x", Profile: ca.Client, Node: 1, Cluster: "prod"},
		"client with a node's name": {Name: "x", Profile: ca.Client, Node: -1, URIs: []string{"rustmq://prod/node/1?roles=broker"}},
		"the same in capitals":      {Name: "x", Profile: ca.Client, Node: -1, URIs: []string{" RUSTMQ://prod/node/1?roles=broker"}},
		"server without a node":     {Name: "x", Profile: ca.Broker, Node: -1, Cluster: "prod", Hosts: []string{"h"}},
		"server without a host":     {Name: "x", Profile: ca.Broker, Node: 1, Cluster: "prod"},
		"server of no cluster":      {Name: "x", Profile: ca.Broker, Node: 1, Hosts: []string{"h"}},
		"server with a URI":         {Name: "x", Profile: ca.Broker, Node: 1, Cluster: "prod", Hosts: []string{"h"}, URIs: []string{"spiffe://x"}},
		"a host with a port":        {Name: "x", Profile: ca.Broker, Node: 1, Cluster: "prod", Hosts: []string{"h:1"}},
		"a name that is a path":     {Name: "../x", Profile: ca.Client, Node: -1},
		"a name with a line":        {Name: "x\ny", Profile: ca.Client, Node: -1},
		"no address":                {Name: "x", Profile: ca.Client, Node: -1, Emails: []string{"Ann <ann@example.org>"}},
		"too long":                  {Name: "x", Profile: ca.Client, Node: -1, Days: 826},
		"another kind of key":       {Name: "x", Profile: ca.Client, Node: -1, KeyKind: "dsa"},
		"a name that is taken":      {Name: "app", Profile: ca.Client, Node: -1},
	} {
		if issued, err := c.Issue(q); err == nil {
			t.Errorf("%s: %+v", what, issued.Record)
		}
	}
	if n := len(c.Records()); n != 5 {
		t.Errorf("the ledger has %d certificates", n)
	}
}

// TestRenewalKeepsTheNames and the validity of what was there before; a revocation takes both.
func TestRenewalKeepsTheNames(t *testing.T) {
	c, dir, now := made(t)
	first, cert := issue(t, c, node(1))
	*now = now.AddDate(0, 11, 0)
	again, err := c.Renew("node", 0)
	must(t, err)
	if again.Record.Serial == first.Record.Serial || bytes.Equal(again.Key, first.Key) || !slices.Equal(again.Record.URIs, first.Record.URIs) || !slices.Equal(again.Record.Hosts, first.Record.Hosts) {
		t.Errorf("%+v became %+v", first.Record, again.Record)
	}
	if _, _, err := again.Write(filepath.Dir(cert), false); err == nil {
		t.Error("files are replaced though nobody said so")
	}
	_, _, err = again.Write(filepath.Dir(cert), true)
	must(t, err)
	must(t, c.Close())
	c, err = ca.Open(options(dir, now), true)
	must(t, err)
	defer func() { must(t, c.Close()) }()
	if len(c.Records()) != 2 || c.Records()[0].State(*now) != "valid" {
		t.Errorf("after the renewal: %+v", c.Records())
	}
	if _, err := c.Revoke("node", "because"); err == nil {
		t.Error("a reason that nobody knows")
	}
	taken, err := c.Revoke("node", "superseded")
	if must(t, err); len(taken) != 2 {
		t.Errorf("revoked were %+v", taken)
	}
	if _, err := c.Revoke("node", "superseded"); err == nil {
		t.Error("revoked twice")
	}
	if _, err := c.Renew(again.Record.Serial, 0); err == nil || !strings.Contains(err.Error(), "is revoked") {
		t.Errorf("what is revoked is renewed: %v", err)
	}
	lists, err := pki.ReadRevocations(c.ListFile())
	must(t, err)
	if late := lists.Overdue(now.AddDate(1, 0, 1)); !strings.Contains(late, "Test Root Intermediate") || lists.Overdue(*now) != "" {
		t.Errorf("due are %q", late)
	}
	*now = now.AddDate(4, 2, 0) // past the intermediate's end
	if _, err := c.Issue(ca.Request{Name: "late", Profile: ca.Client, Node: -1}); err == nil || !strings.Contains(err.Error(), "rotate") {
		t.Errorf("issued by an intermediate that has ended: %v", err)
	}
}

// TestRotationOverlaps holds that both roots are trusted until the old one is let go, and
// that this waits for who needs it.
func TestRotationOverlaps(t *testing.T) {
	c, _, now := made(t)
	_, old := issue(t, c, node(1))
	issue(t, c, ca.Request{Name: "alice", Profile: ca.Client, Node: -1})
	verdict := func(file string) string {
		t.Helper()
		v, err := ca.Verify(ca.VerifyOptions{File: file, CAFile: c.BundleFile(), ListFile: c.ListFile(), Use: "client", Now: *now})
		must(t, err)
		return v.Reason
	}
	must(t, c.Rotate())
	renewed, err := c.Renew("node", 0)
	must(t, err)
	next, _, err := renewed.Write(t.TempDir(), false)
	must(t, err)
	if a, b := verdict(old), verdict(next); a != "" || b != "" {
		t.Errorf("in between: the old one %q, the new one %q", a, b)
	}
	_, err = c.Revoke(renewed.Record.Serial, "unspecified")
	if must(t, err); verdict(old) != "" || verdict(next) != ca.ReasonRevoked {
		t.Errorf("a serial number takes one: the old one %q, the new one %q", verdict(old), verdict(next))
	}
	var used *ca.InUseError
	if err := c.Finish(false); !errors.As(err, &used) || !slices.Contains(used.Names, "alice") {
		t.Errorf("let go while it is needed: %v", err)
	}
	must(t, c.Finish(true))
	if a, b := verdict(old), verdict(next); a != ca.ReasonAuthority || b != ca.ReasonRevoked {
		t.Errorf("in the end: the old one %q, the new one %q", a, b)
	}
	all, err := c.Authorities()
	must(t, err)
	if len(all) != 4 || all[0].Trusted || !all[3].Issues || !strings.Contains(all[2].Subject, "CN=Test Root G2") {
		t.Errorf("the authority: %+v", all)
	}
	roots, err := os.ReadFile(c.BundleFile())
	must(t, err)
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(roots) || bytes.Count(roots, []byte("BEGIN")) != 1 {
		t.Errorf("the bundle is %s", roots)
	}
}

// TestLedgerKnowsWhatWasIssued also where the files could not be handed out, and a ledger
// that is damaged is not taken for an empty one.
func TestLedgerKnowsWhatWasIssued(t *testing.T) {
	c, dir, now := made(t)
	issued, err := c.Issue(ca.Request{Name: "alice", Profile: ca.Client, Node: -1})
	must(t, err)
	if _, _, err := issued.Write(filepath.Join(dir, "nowhere"), false); err == nil {
		t.Error("written to nowhere")
	}
	must(t, c.Close())
	c, err = ca.Open(options(dir, now), false)
	must(t, err)
	if r, err := c.Find(issued.Record.Serial); err != nil || r.Name != "alice" {
		t.Errorf("the ledger: %+v, %v", r, err)
	}
	file := filepath.Join(dir, "ca.json")
	whole, err := os.ReadFile(file)
	must(t, err)
	for what, content := range map[string][]byte{
		"empty": nil, "cut": whole[:len(whole)/2], "of later": bytes.Replace(whole, []byte(`"format": 1`), []byte(`"format": 2`), 1), "without anything": []byte(`{"format":1}`),
	} {
		must(t, os.WriteFile(file, content, 0o600))
		if _, err := ca.Open(options(dir, now), true); err == nil {
			t.Errorf("a ledger that is %s is opened", what)
		}
	}
}
