package pki_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"

	"rustmq.dev/rustmq/security/pki"
)

// named is a certificate with a subject, the first attribute first, as DER has them.
func named(t testing.TB, subject ...pkix.AttributeTypeAndValue) *x509.Certificate {
	t.Helper()
	var sequence pkix.RDNSequence
	for _, a := range subject {
		sequence = append(sequence, pkix.RelativeDistinguishedNameSET{a})
	}
	raw, err := asn1.Marshal(sequence)
	if err != nil {
		t.Fatal(err)
	}
	return &x509.Certificate{RawSubject: raw}
}

func attribute(oid string, value any) pkix.AttributeTypeAndValue {
	types := map[string]asn1.ObjectIdentifier{
		"CN": {2, 5, 4, 3}, "O": {2, 5, 4, 10}, "OU": {2, 5, 4, 11}, "C": {2, 5, 4, 6}, "DC": {0, 9, 2342, 19200300, 100, 1, 25},
		"mail": {1, 2, 840, 113549, 1, 9, 1},
	}
	return pkix.AttributeTypeAndValue{Type: types[oid], Value: value}
}

// TestPrincipalsAreKafkas walks Kafka's own examples of mappings (KIP-371), and the names
// that RFC 2253 has to escape.
func TestPrincipalsAreKafkas(t *testing.T) {
	duke := named(t, attribute("C", "US"), attribute("O", "Org1"), attribute("OU", "ServiceUsers"), attribute("CN", "Duke"))
	duke.DNSNames = []string{"a.example", "svc.prod.example"}
	duke.EmailAddresses = []string{"duke@example.org"}
	duke.URIs = []*url.URL{{Scheme: "spiffe", Host: "prod", Path: "/billing"}}
	long := named(t, attribute("CN", strings.Repeat("x", 2000)))
	for _, w := range []struct {
		rules string
		cert  *x509.Certificate
		want  string // "": refused
	}{
		{"", duke, "CN=Duke,OU=ServiceUsers,O=Org1,C=US"},
		{"DEFAULT", duke, "CN=Duke,OU=ServiceUsers,O=Org1,C=US"},
		{`RULE:^CN=(.*?),OU=ServiceUsers.*$/$1/`, duke, "Duke"},
		{`RULE:^CN=(.*?),OU=ServiceUsers.*$/$1/L`, duke, "duke"},
		{`RULE:^CN=(.*?),OU=(.*?),O=(.*?),C=(.*?)$/$1@$2/U , DEFAULT`, duke, "DUKE@SERVICEUSERS"},
		{`RULE:^CN=nobody$/x/,RULE:^.*[Cc][Nn]=([a-zA-Z0-9.]*).*$/$1/L,DEFAULT`, duke, "duke"},
		{`RULE:^CN=(.*?),.*$/$1$2$10\$x/`, duke, "Duke$2Duke0$x"},
		{`RULE:CN=Duke/x/`, duke, ""}, // not all of the name
		{`RULE:^CN=nobody$/x/`, duke, ""},
		{`URI:spiffe:\/\/prod\/(.*)/$1/,DEFAULT`, duke, "billing"},
		{`URI:spiffe:\/\/prod/x/,DEFAULT`, duke, "CN=Duke,OU=ServiceUsers,O=Org1,C=US"}, // begins so, and goes on
		{`DNS:svc\.(.*)\.example/$1/`, duke, "prod"},
		{`DNS:svc/x/`, duke, ""},
		{`EMAIL:([^@]*)@example\.org/$1/U`, duke, "DUKE"},
		{`RULE:.*//`, duke, ""},
		{`RULE:.*/ANONYMOUS/`, duke, ""},
		{`RULE:^CN=([^,]*).*$/$1/`, named(t, attribute("CN", "*")), ""},
		{`RULE:.*/anonymous/U`, duke, ""},
		{"", named(t), ""},
		{"", long, ""},
		{"", named(t, attribute("CN", "a\nb")), ""},
		{"", named(t, attribute("CN", "a\x00b")), `CN=a\00b`},
		{"", named(t, attribute("CN", `alice,OU=admins`)), `CN=alice\,OU=admins`},
		{"", named(t, attribute("CN", ` #"+;<\> `)), `CN=\ #\"\+\;\<\\\>\ `},
		{"", named(t, attribute("CN", "#5")), `CN=\#5`},
		{"", named(t, attribute("DC", "org"), attribute("CN", "Zoë")), "CN=Zoë,DC=org"},
		{"", named(t, attribute("mail", "m")), "1.2.840.113549.1.9.1=#13016d"},
		{"", named(t, attribute("CN", asn1.RawValue{Tag: asn1.TagT61String, Bytes: []byte{'a', 0xff}})), "CN=aÿ"},
	} {
		m, err := pki.ParseMapping(w.rules)
		if err != nil {
			t.Errorf("%s: %v", w.rules, err)
			continue
		}
		got, err := m.Principal(w.cert)
		if (err == nil) != (w.want != "") || err == nil && got != pki.PrincipalType+w.want {
			t.Errorf("%s of %x: %q, %v; want %q", w.rules, w.cert.RawSubject, got, err, w.want)
		}
	}
	both := pkix.RDNSequence{{attribute("O", "o"), attribute("CN", "c")}}
	raw, err := asn1.Marshal(both)
	if err != nil {
		t.Fatal(err)
	}
	m, err := pki.ParseMapping("DEFAULT")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := m.Principal(&x509.Certificate{RawSubject: raw}); err != nil || got != "User:CN=c+O=o" && got != "User:O=o+CN=c" {
		t.Errorf("a part of two attributes: %q, %v", got, err)
	}
	if got, err := m.Principal(&x509.Certificate{RawSubject: []byte{0x30, 0x80}}); err == nil {
		t.Errorf("a malformed subject: %q", got)
	}
}

func TestMappingsThatAreNone(t *testing.T) {
	for _, rules := range []string{
		"default", "RULE", "RULE:", "RULE:a", "RULE:a/b", "RULE:(/b/", "RULE:a/b/X", "RULE:a/b/L,", ",", "DEFAULT,", "DEFAULT DEFAULT", "DEFAULTX",
		"OTHER:a/b/", `RULE:a\/b/`, "RULE:a/b/\x00", "RULE:\xff/b/", "RULE:" + strings.Repeat("a", 20_000) + "/b/", `RULE:(?P<x>a)(?=b)/c/`,
	} {
		if m, err := pki.ParseMapping(rules); err == nil {
			t.Errorf("%.40q is read as %v", rules, m)
		}
	}
}

// FuzzPrincipal tries rules on subjects: what comes out is a name, or an error.
func FuzzPrincipal(f *testing.F) {
	f.Add(`RULE:^CN=(.*?),OU=.*$/$1/L,DEFAULT`, named(f, attribute("OU", "x"), attribute("CN", "y")).RawSubject, "d")
	f.Add(`DNS:(.)/$1$2\$/U`, named(f, attribute("CN", "y")).RawSubject, "d")
	f.Add(`URI:\/(.*)/$0/`, []byte{0x30, 0x00}, "d")
	f.Fuzz(func(t *testing.T, rules string, subject []byte, name string) {
		m, err := pki.ParseMapping(rules)
		if err != nil {
			return
		}
		got, err := m.Principal(&x509.Certificate{RawSubject: subject, DNSNames: []string{name}, EmailAddresses: []string{name}, URIs: []*url.URL{{Path: name}}})
		if err != nil {
			return
		}
		if !strings.HasPrefix(got, "User:") || len(got) == len("User:") || got == "User:ANONYMOUS" || len(got) > 2000 || !utf8.ValidString(got) {
			t.Errorf("%q makes %q of %x", rules, got, subject)
		}
	})
}
