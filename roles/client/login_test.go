package client

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/pelletier/go-toml/v2"
)

func TestWhoACommandIs(t *testing.T) {
	ofContext := Login{User: "bob", PasswordFile: "b", Mechanism: "SCRAM-SHA-256", CertFile: "c", KeyFile: "k"}
	for name, c := range map[string]struct {
		flags, context, want Login
		wrong                string
	}{
		"nobody":                    {},
		"a user":                    {flags: Login{User: "a"}, want: Login{User: "a", Mechanism: "SCRAM-SHA-512"}},
		"in small letters":          {flags: Login{User: "a", Mechanism: "plain"}, want: Login{User: "a", Mechanism: "PLAIN"}},
		"a token":                   {flags: Login{TokenFile: "t"}, want: Login{TokenFile: "t", Mechanism: "OAUTHBEARER"}},
		"of the context":            {context: ofContext, want: ofContext},
		"another than its":          {flags: Login{User: "a"}, context: ofContext, want: Login{User: "a", Mechanism: "SCRAM-SHA-512", CertFile: "c", KeyFile: "k"}},
		"another mechanism":         {flags: Login{Mechanism: "PLAIN"}, context: ofContext, want: Login{User: "bob", PasswordFile: "b", Mechanism: "PLAIN", CertFile: "c", KeyFile: "k"}},
		"a certificate alone":       {flags: Login{CertFile: "c"}, wrong: "--cert-key"},
		"nobody's password":         {flags: Login{PasswordFile: "p"}, wrong: "--user"},
		"a password and a token":    {flags: Login{User: "a", PasswordFile: "p", TokenFile: "t"}, wrong: "one of them"},
		"a mechanism alone":         {flags: Login{Mechanism: "PLAIN"}, wrong: "needs --user"},
		"OAUTHBEARER without token": {flags: Login{User: "a", Mechanism: "OAUTHBEARER"}, wrong: "--token-file"},
		"an unknown mechanism":      {flags: Login{User: "a", Mechanism: "GSSAPI"}, wrong: "one of SCRAM-SHA-512"},
	} {
		err := c.flags.resolve(c.context)
		if c.wrong != "" {
			if _, is := err.(*UsageError); !is || !strings.Contains(err.Error(), c.wrong) {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err != nil || c.flags != c.want {
			t.Errorf("%s: %+v, %v", name, c.flags, err)
		}
	}
}

// Secrets are shown to the broker alone.
func TestSecretsAreNotSentInTheClear(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte("open sesame\r\nmore\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		login            Login
		clear, encrypted bool
	}{
		{Login{User: "a", PasswordFile: file, Mechanism: "SCRAM-SHA-512"}, true, true},
		{Login{User: "a", PasswordFile: file, Mechanism: "SCRAM-SHA-256"}, true, true},
		{Login{User: "a", PasswordFile: file, Mechanism: "PLAIN"}, false, true},
		{Login{TokenFile: file, Mechanism: "OAUTHBEARER"}, false, true},
		{Login{User: "a", PasswordFile: file + "x", Mechanism: "SCRAM-SHA-256"}, false, false},
		{Login{User: "a", Mechanism: "SCRAM-SHA-256"}, false, false}, // nobody can be asked
	} {
		for _, encrypted := range []bool{false, true} {
			want := c.clear
			if encrypted {
				want = c.encrypted
			}
			m, err := c.login.sasl(Env{Stdin: strings.NewReader("")}, encrypted)
			if (err == nil) != want || want && m.Name() != c.login.Mechanism {
				t.Errorf("%+v, encrypted %v: %v, %v", c.login, encrypted, m, err)
			}
		}
	}
	if got, err := (&Login{User: "a", PasswordFile: file}).password(Env{}); err != nil || got != "open sesame" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestContextsKeepWhoACommandIs(t *testing.T) {
	want := Context{Brokers: "b:1", TLS: true, Login: Login{User: "a", PasswordFile: "/p", Mechanism: "PLAIN", CertFile: "/c", KeyFile: "/k"}}
	raw, err := toml.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got Context
	if err := toml.NewDecoder(strings.NewReader(string(raw))).DisallowUnknownFields().Decode(&got); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v\n%s", got, err, raw)
	}
}
