package sasl

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestPlain(t *testing.T) {
	t.Parallel()
	m := users(t, map[string]string{"alice": "open sesame"})
	all := m.Lookup
	for name, c := range map[string]struct {
		message string
		lookup  func(mechanism, user string) (Credential, bool)
		in      bool
	}{
		"right":             {"\x00alice\x00open sesame", all, true},
		"as herself":        {"alice\x00alice\x00open sesame", all, true},
		"SHA-256 alone":     {"\x00alice\x00open sesame", only(all, ScramSHA256), true},
		"wrong":             {"\x00alice\x00open sesamE", all, false},
		"SHA-256, wrong":    {"\x00alice\x00open", only(all, ScramSHA256), false},
		"as another":        {"bob\x00alice\x00open sesame", all, false},
		"unknown":           {"\x00bob\x00open sesame", all, false},
		"no password":       {"\x00alice\x00", all, false},
		"two parts":         {"alice\x00open sesame", all, false},
		"four parts":        {"\x00alice\x00open\x00sesame", all, false},
		"nobody":            {"\x00\x00open sesame", all, false},
		"a name too long":   {"\x00" + strings.Repeat("a", MaxName+1) + "\x00x", all, false},
		"password too long": {"\x00alice\x00" + strings.Repeat("a", MaxPassword+1), all, false},
		"too long":          {strings.Repeat("a", MaxMessage+1), all, false},
	} {
		m := *m
		m.Lookup = c.lookup
		x := begin(t, &m, Plain)
		out, err := x.Step(time.Now(), []byte(c.message))
		if c.in && (err != nil || !out.Done || out.User != "alice" || len(out.Answer) > 0) || !c.in && (!errors.Is(err, ErrDenied) || out.Done) {
			t.Errorf("%s: %+v, %v", name, out, err)
		}
		if _, err := x.Step(time.Now(), []byte("\x00alice\x00open sesame")); !errors.Is(err, ErrDenied) {
			t.Errorf("%s, and a second message: %v", name, err)
		}
	}
}

func only(lookup func(mechanism, user string) (Credential, bool), mechanism string) func(mechanism, user string) (Credential, bool) {
	return func(m, user string) (Credential, bool) {
		if m != mechanism {
			return Credential{}, false
		}
		return lookup(m, user)
	}
}
