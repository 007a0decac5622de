package client

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	kgosasl "github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/oauth"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
	"golang.org/x/term"

	"rustmq.dev/rustmq/security/pki"
	"rustmq.dev/rustmq/security/sasl"
)

// Login is how a command says who it is. Secrets stand in files, never in arguments, which
// every process of the machine can read.
type Login struct {
	User         string `toml:"user,omitempty"`
	PasswordFile string `toml:"password_file,omitempty"`
	TokenFile    string `toml:"token_file,omitempty"`
	Mechanism    string `toml:"mechanism,omitempty"`
	CertFile     string `toml:"cert,omitempty"`
	KeyFile      string `toml:"cert_key,omitempty"`
}

func (l *Login) flags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&l.User, "user", "", "`NAME` to authenticate as by SASL")
	flags.StringVar(&l.PasswordFile, "password-file", "", "`FILE` whose first line is the password (default: asked for on a terminal)")
	flags.StringVar(&l.TokenFile, "token-file", "", "`FILE` whose first line is a token to authenticate by (OAUTHBEARER); read again whenever one is needed")
	flags.StringVar(&l.Mechanism, "mechanism", "", "SCRAM-SHA-512 (default), SCRAM-SHA-256, PLAIN or OAUTHBEARER (default with --token-file)")
	flags.StringVar(&l.CertFile, "cert", "", "PEM `FILE` of a client certificate to show over TLS and QUIC")
	flags.StringVar(&l.KeyFile, "cert-key", "", "PEM `FILE` of its key")
}

// resolve fills what was not given from the context: who a command is, and its certificate,
// each as a whole.
func (l *Login) resolve(named Login) error {
	if l.User == "" && l.TokenFile == "" && l.PasswordFile == "" {
		l.User, l.PasswordFile, l.TokenFile = named.User, named.PasswordFile, named.TokenFile
		if l.Mechanism == "" {
			l.Mechanism = named.Mechanism
		}
	}
	if l.CertFile == "" && l.KeyFile == "" {
		l.CertFile, l.KeyFile = named.CertFile, named.KeyFile
	}
	return l.check()
}

func (l *Login) check() error {
	l.Mechanism = strings.ToUpper(l.Mechanism)
	if l.Mechanism == "" {
		switch {
		case l.TokenFile != "":
			l.Mechanism = sasl.OAuthBearer
		case l.User != "":
			l.Mechanism = sasl.ScramSHA512
		}
	}
	switch {
	case (l.CertFile == "") != (l.KeyFile == ""):
		return usage("--cert and --cert-key: give both, or neither")
	case l.PasswordFile != "" && l.User == "":
		return usage("--password-file: whose password is it? Give --user too")
	case l.TokenFile != "" && l.PasswordFile != "":
		return usage("--token-file and --password-file: give one of them")
	}
	switch l.Mechanism {
	case "":
	case sasl.OAuthBearer:
		if l.TokenFile == "" {
			return usage("--mechanism OAUTHBEARER needs --token-file")
		}
	case sasl.ScramSHA512, sasl.ScramSHA256, sasl.Plain:
		if l.User == "" {
			return usage("--mechanism %s needs --user", l.Mechanism)
		}
	default:
		return usage("--mechanism %q: want one of %s", l.Mechanism, strings.Join(sasl.Supported(), ", "))
	}
	return nil
}

// absolute makes the names of files hold in other directories too.
func (l *Login) absolute() error {
	for _, name := range []*string{&l.PasswordFile, &l.TokenFile, &l.CertFile, &l.KeyFile} {
		if *name == "" {
			continue
		}
		var err error
		if *name, err = filepath.Abs(*name); err != nil {
			return err
		}
	}
	return nil
}

// certificate adds the client's certificate to what is dialled with. Each connection shows
// what the files have then: one that was renewed meanwhile too.
func (l *Login) certificate(config *tls.Config) error {
	if l.CertFile == "" {
		return nil
	}
	load := func() (tls.Certificate, error) { return tls.LoadX509KeyPair(l.CertFile, l.KeyFile) }
	certificates, err := pki.Keep(load)
	if err != nil {
		return fmt.Errorf("read the client's certificate (--cert, --cert-key): %w", err)
	}
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		_ = certificates.Reload() // while the files are being replaced, the one before is shown
		return certificates.Current(), nil
	}
	return nil
}

// sasl is how franz-go authenticates; nil: it does not.
func (l *Login) sasl(e Env, encrypted bool) (kgosasl.Mechanism, error) {
	switch l.Mechanism {
	case "":
		return nil, nil
	case sasl.OAuthBearer:
		if !encrypted {
			return nil, usage("--token-file: a token is shown to the broker, and to whoever listens: add --tls, or --transport quic")
		}
		return oauth.Oauth(func(context.Context) (oauth.Auth, error) {
			token, err := readFile(l.TokenFile, sasl.ReadToken)
			return oauth.Auth{Token: token}, err
		}), nil
	}
	if l.Mechanism == sasl.Plain && !encrypted {
		return nil, usage("--mechanism PLAIN shows the password to whoever listens: add --tls, or --transport quic, or use SCRAM-SHA-512")
	}
	password, err := l.password(e)
	if err != nil {
		return nil, err
	}
	if l.Mechanism == sasl.Plain {
		return plain.Auth{User: l.User, Pass: password}.AsMechanism(), nil
	}
	auth := scram.Auth{User: l.User, Pass: password}
	if l.Mechanism == sasl.ScramSHA256 {
		return auth.AsSha256Mechanism(), nil
	}
	return auth.AsSha512Mechanism(), nil
}

func (l *Login) password(e Env) (string, error) {
	if l.PasswordFile != "" {
		return readFile(l.PasswordFile, sasl.ReadPassword)
	}
	in, isFile := e.Stdin.(*os.File)
	if !isFile || !term.IsTerminal(int(in.Fd())) {
		return "", usage("--user %s: there is no terminal to ask for the password: give --password-file", l.User)
	}
	fmt.Fprintf(e.Stderr, "Password of %s: ", l.User)
	raw, err := term.ReadPassword(int(in.Fd()))
	fmt.Fprintln(e.Stderr)
	if err != nil {
		return "", fmt.Errorf("read the password: %w", err)
	}
	return string(raw), nil
}

func readFile(name string, read func(io.Reader) (string, error)) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	secret, err := read(f)
	if err != nil {
		return "", fmt.Errorf("read %s: %w", name, err)
	}
	return secret, nil
}
