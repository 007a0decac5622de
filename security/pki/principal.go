package pki

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"rustmq.dev/rustmq/storage/guard"
)

// Limits of a mapping and of what it makes.
const (
	maxMappingText = 16 << 10 // bytes of all rules
	maxPrincipal   = 1 << 10  // bytes of a name
	maxNames       = 1 << 10  // names of a certificate that rules are tried on
)

// anonymousName is that of clients who have not said who they are: no certificate's.
const anonymousName = "ANONYMOUS"

// everyoneName is that of all clients: a rule for it is for each of them.
const everyoneName = "*"

// PrincipalType is what stands before the name in a principal of Kafka's.
const PrincipalType = "User:"

// Mapping says which principal a certificate is, by rules as of Kafka's
// ssl.principal.mapping.rules (KIP-371), the first of which that matches counts:
//
//	RULE:pattern/replacement/[LU]   on the subject in RFC 2253's form, CN=…,OU=…,O=…
//	URI:…  DNS:…  EMAIL:…           the same on each subject alternative name of the kind
//	DEFAULT                         the subject as it stands
//
// A pattern is a regular expression of package regexp, and has to match all of the name; the
// replacement has groups as $1; L and U make the result lower and upper case. A comma is
// between rules; a slash in a pattern or a replacement is written \/.
type Mapping struct{ rules []mappingRule }

type mappingRule struct {
	kind        string         // RULE, URI, DNS, EMAIL or DEFAULT
	pattern     *regexp.Regexp // nil: DEFAULT
	replacement string
	fold        string // "", "L" or "U"
}

// DefaultMapping is the subject as it stands.
const DefaultMapping = "DEFAULT"

// ParseMapping reads rules; "" is DEFAULT.
func ParseMapping(text string) (*Mapping, error) {
	if len(text) > maxMappingText {
		return nil, fmt.Errorf("the rules have %d bytes; at most %d", len(text), maxMappingText)
	}
	if !utf8.ValidString(text) {
		return nil, errors.New("the rules are not UTF-8")
	}
	m := &Mapping{}
	rest := strings.TrimSpace(text)
	if rest == "" {
		rest = DefaultMapping
	}
	for rest != "" {
		rule, after, err := parseRule(rest)
		if err != nil {
			return nil, fmt.Errorf("rule %d: %w", len(m.rules)+1, err)
		}
		m.rules = append(m.rules, rule)
		after = strings.TrimSpace(after)
		if after == "" {
			break
		}
		next, comma := strings.CutPrefix(after, ",")
		if rest = strings.TrimSpace(next); !comma || rest == "" {
			return nil, fmt.Errorf("after rule %d: want a comma and another rule, not %.40q", len(m.rules), after)
		}
	}
	return m, nil
}

// parseRule takes one rule from the front of text.
func parseRule(text string) (rule mappingRule, rest string, err error) {
	if rest, is := strings.CutPrefix(text, DefaultMapping); is {
		return mappingRule{kind: DefaultMapping}, rest, nil
	}
	kind, rest, _ := strings.Cut(text, ":")
	switch kind {
	case "RULE", "URI", "DNS", "EMAIL":
	default:
		return rule, "", fmt.Errorf("%.40q: want DEFAULT, or RULE, URI, DNS or EMAIL with a colon and a pattern", text)
	}
	pattern, rest, ok := untilSlash(rest)
	if !ok {
		return rule, "", fmt.Errorf("%.40q: want %s:pattern/replacement/, or one of these followed by L or U", text, kind)
	}
	replacement, rest, ok := untilSlash(rest)
	if !ok {
		return rule, "", fmt.Errorf("%.40q: there is no slash after the replacement", text)
	}
	rule = mappingRule{kind: kind, replacement: replacement}
	if rest != "" && (rest[0] == 'L' || rest[0] == 'U') {
		rule.fold, rest = rest[:1], rest[1:]
	}
	// A slash stands for itself in a regular expression; \/ is not known there.
	rule.pattern, err = regexp.Compile(`^(?:` + strings.ReplaceAll(pattern, `\/`, `/`) + `)$`)
	if err != nil {
		return rule, "", fmt.Errorf("the pattern %.80q: %w", pattern, err)
	}
	return rule, rest, nil
}

// untilSlash cuts at the first slash without a backslash before it.
func untilSlash(text string) (before, after string, found bool) {
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
		case '/':
			return text[:i], text[i+1:], true
		}
	}
	return "", "", false
}

// Principal returns "User:" and the name that the rules make of a certificate. An error
// says that no rule matches, or that what one makes is no name: empty, too long, with
// control characters, or that of everybody or of clients who have not said who they are.
func (m *Mapping) Principal(cert *x509.Certificate) (string, error) {
	subject, err := subjectName(cert)
	if err != nil {
		return "", err
	}
	for _, r := range m.rules {
		name, matches := r.apply(cert, subject)
		if !matches {
			continue
		}
		switch {
		case name == "":
			return "", fmt.Errorf("the certificate of %q, serial %x: the rule for its principal leaves nothing of it", subject, cert.SerialNumber)
		case !guard.Check("pki.principal-anonymous", name != anonymousName):
			return "", fmt.Errorf("the certificate of %q, serial %x: %s is the name of clients who have not said who they are", subject, cert.SerialNumber, anonymousName)
		case !guard.Check("pki.principal-everyone", name != everyoneName):
			return "", fmt.Errorf("the certificate of %q, serial %x: %s stands for everybody in rules", subject, cert.SerialNumber, everyoneName)
		case len(name) > maxPrincipal || !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl):
			return "", fmt.Errorf("the certificate of %.80q, serial %x: its name has control characters, or more than %d bytes", subject, cert.SerialNumber, maxPrincipal)
		}
		return PrincipalType + name, nil
	}
	return "", fmt.Errorf("the certificate of %q, serial %x: no rule of the principal mapping matches", subject, cert.SerialNumber)
}

func (r mappingRule) apply(cert *x509.Certificate, subject string) (string, bool) {
	switch r.kind {
	case DefaultMapping:
		return subject, true
	case "RULE":
		return r.first(subject)
	case "DNS":
		return r.first(cert.DNSNames...)
	case "EMAIL":
		return r.first(cert.EmailAddresses...)
	}
	var uris []string
	for _, u := range cert.URIs {
		uris = append(uris, u.String())
	}
	return r.first(uris...)
}

// first makes a name of the first that the pattern matches.
func (r mappingRule) first(names ...string) (string, bool) {
	for _, name := range names[:min(len(names), maxNames)] {
		groups := r.pattern.FindStringSubmatch(name)
		if groups == nil {
			continue
		}
		made := expand(r.replacement, groups)
		switch r.fold {
		case "L":
			made = strings.ToLower(made)
		case "U":
			made = strings.ToUpper(made)
		}
		return made, true
	}
	return "", false
}

// expand puts groups in for $0, $1 and so on, as Kafka does: the longest number that is a
// group's counts, one that is none's stands for itself, and a backslash for what follows it.
func expand(replacement string, groups []string) string {
	var b strings.Builder
	for i := 0; i < len(replacement); i++ {
		switch c := replacement[i]; {
		case c == '\\' && i+1 < len(replacement):
			i++
			b.WriteByte(replacement[i])
		case c == '$' && i+1 < len(replacement) && isDigit(replacement[i+1]) && int(replacement[i+1]-'0') < len(groups):
			i++
			n := int(replacement[i] - '0')
			for i+1 < len(replacement) && isDigit(replacement[i+1]) && n*10+int(replacement[i+1]-'0') < len(groups) {
				i++
				n = n*10 + int(replacement[i]-'0')
			}
			b.WriteString(groups[n])
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// keywords of attribute types that RFC 2253 §2.3 names; others are written as numbers.
var keywords = map[string]string{
	"2.5.4.3": "CN", "2.5.4.7": "L", "2.5.4.8": "ST", "2.5.4.10": "O", "2.5.4.11": "OU", "2.5.4.6": "C", "2.5.4.9": "STREET",
	"0.9.2342.19200300.100.1.25": "DC", "0.9.2342.19200300.100.1.1": "UID",
}

// subjectName is the subject as RFC 2253 writes it and Kafka takes it: the last part first.
func subjectName(cert *x509.Certificate) (string, error) {
	var parts []asn1.RawValue
	if rest, err := asn1.Unmarshal(cert.RawSubject, &parts); err != nil || len(rest) > 0 {
		return "", fmt.Errorf("the certificate with the serial %x: its subject is malformed", cert.SerialNumber)
	}
	var b strings.Builder
	for i := len(parts) - 1; i >= 0; i-- {
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		if err := writePart(&b, parts[i].FullBytes); err != nil {
			return "", fmt.Errorf("the certificate with the serial %x: its subject is malformed: %w", cert.SerialNumber, err)
		}
	}
	return b.String(), nil
}

// attribute is a type and value of a name, whose encoding is kept.
type attribute struct {
	Type  asn1.ObjectIdentifier
	Value asn1.RawValue
}

type attributeSET []attribute

func writePart(b *strings.Builder, der []byte) error {
	var set attributeSET
	if rest, err := asn1.Unmarshal(der, &set); err != nil || len(rest) > 0 || len(set) == 0 {
		return errors.New("a part of it is no set of attributes")
	}
	for i, a := range set {
		if i > 0 {
			b.WriteByte('+')
		}
		var text string
		_, err := asn1.Unmarshal(a.Value.FullBytes, &text)
		if keyword := keywords[a.Type.String()]; keyword != "" && err == nil && utf8.ValidString(text) {
			b.WriteString(keyword + "=" + escapeValue(text))
			continue
		}
		b.WriteString(a.Type.String() + "=#" + hex.EncodeToString(a.Value.FullBytes))
	}
	return nil
}

// escapeValue is RFC 2253 §2.4.
func escapeValue(text string) string {
	var b strings.Builder
	for i, r := range text {
		last := i+utf8.RuneLen(r) == len(text)
		switch {
		case strings.ContainsRune(`,+"\<>;`, r), r == '#' && i == 0, r == ' ' && (i == 0 || last):
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == 0:
			b.WriteString(`\00`)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// SubjectName is the subject of a certificate as the rule DEFAULT has it.
func SubjectName(subject pkix.Name) string {
	raw, err := asn1.Marshal(subject.ToRDNSequence())
	if err != nil {
		return strconv.Quote(subject.String())
	}
	name, err := subjectName(&x509.Certificate{RawSubject: raw})
	if err != nil {
		return strconv.Quote(subject.String())
	}
	return name
}
