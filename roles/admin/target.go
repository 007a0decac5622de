package admin

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"rustmq.dev/rustmq/security/sasl"
)

// defaultCA is what `rustmq serve` without flags makes.
const defaultCA = "rustmq-data/certs/ca.pem"

// Target is a server, and who its caller is. Secrets stand in files.
type Target struct {
	URL               string
	TLS               bool // a URL without a scheme is https
	TokenFile         string
	User              string
	PasswordFile      string
	CAFile            string
	CertFile, KeyFile string
}

// flags are those of every admin command. A command whose own flag has one of the names
// means that.
func (t *Target) flags(cmd *cobra.Command) {
	flags := cmd.PersistentFlags()
	flags.StringVar(&t.URL, "url", "", "address of a process with role admin or controller (default: the context's, else "+DefaultURL+")")
	flags.StringVar(&t.TokenFile, "token-file", "", "`FILE` whose first line is an API token (admin tokens create), or one of the identity provider")
	flags.StringVar(&t.User, "user", "", "`NAME` of the user that calls")
	flags.StringVar(&t.PasswordFile, "password-file", "", "`FILE` whose first line is its password (default: asked for on a terminal)")
	flags.StringVar(&t.CAFile, "cafile", "", "PEM `FILE` of the CA to trust for https (default: the context's, else that of the server on this machine, else ./"+defaultCA+" if there, else the system's)")
	flags.StringVar(&t.CertFile, "cert", "", "PEM `FILE` of a client certificate to show over https")
	flags.StringVar(&t.KeyFile, "cert-key", "", "PEM `FILE` of its key")
}

// within fills what was not given from a context: who the caller is, and the certificate, each
// as a whole.
func (t Target) within(named Target) Target {
	if t.URL == "" {
		t.URL = named.URL
	}
	if t.TokenFile == "" && t.User == "" && t.PasswordFile == "" {
		t.TokenFile, t.User, t.PasswordFile = named.TokenFile, named.User, named.PasswordFile
		if t.TokenFile != "" {
			t.User, t.PasswordFile = "", ""
		}
	}
	if t.CertFile == "" && t.KeyFile == "" {
		t.CertFile, t.KeyFile = named.CertFile, named.KeyFile
	}
	if t.CAFile == "" {
		t.CAFile = named.CAFile
	}
	if t.URL != "" && named.TLS && !strings.Contains(t.URL, "://") {
		t.URL = "https://" + t.URL
	}
	return t
}

// found fills in what the server on this machine has noted of itself, where nothing else was
// said. It sends nobody else anything: what is noted is this user's.
func (t Target) found() Target {
	anywhere := t.URL == ""
	if anywhere {
		t.URL = DefaultURL
	}
	l, known := localServer(t.URL)
	if !known {
		return t
	}
	if anywhere {
		t.URL = l.URL
	}
	if t.CAFile == "" {
		t.CAFile = l.CAFile
	}
	if t.TokenFile == "" && t.User == "" && t.CertFile == "" {
		if l.current() {
			t.TokenFile = l.TokenFile
		}
	}
	return t
}

func (t Target) check() error {
	u, err := url.Parse(t.URL)
	switch {
	case err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https"):
		return &UsageError{fmt.Sprintf("--url %q: want http://host:port, such as %s, or https://host:port", t.URL, DefaultURL)}
	case (t.CertFile == "") != (t.KeyFile == ""):
		return &UsageError{"--cert and --cert-key: give both, or neither"}
	case t.TokenFile != "" && (t.User != "" || t.PasswordFile != ""):
		return &UsageError{"--token-file and --user: give one of them"}
	case t.PasswordFile != "" && t.User == "":
		return &UsageError{"--password-file: whose password is it? Give --user too"}
	case (t.TokenFile != "" || t.User != "") && u.Scheme == "http" && !isLoopback(u.Hostname()):
		return &UsageError{fmt.Sprintf("--url %s: a token or a password would be shown to the network: write https://%s", t.URL, u.Host)}
	}
	return nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// authorization is the header that says who calls; "": none.
func (t Target) authorization(in io.Reader, errOut io.Writer) (string, error) {
	switch {
	case t.TokenFile != "":
		token, err := readSecret(t.TokenFile, sasl.ReadToken)
		return "Bearer " + token, err
	case t.User == "":
		return "", nil
	}
	password, err := t.password(in, errOut)
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(t.User+":"+password)), err
}

func (t Target) password(in io.Reader, errOut io.Writer) (string, error) {
	if t.PasswordFile != "" {
		return readSecret(t.PasswordFile, sasl.ReadPassword)
	}
	file, is := in.(*os.File)
	if !is || !term.IsTerminal(int(file.Fd())) {
		return "", &UsageError{fmt.Sprintf("--user %s: there is no terminal to ask for the password: give --password-file; a command whose --password-file is another's (users create) takes the caller's from a context, or --token-file", t.User)}
	}
	fmt.Fprintf(errOut, "Password of %s: ", visible(t.User))
	raw, err := term.ReadPassword(int(file.Fd()))
	fmt.Fprintln(errOut)
	if err != nil {
		return "", fmt.Errorf("read the password: %w", err)
	}
	return string(raw), nil
}

func readSecret(name string, read func(io.Reader) (string, error)) (string, error) {
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

// client is how the server is called.
func (t Target) client() (*http.Client, error) {
	c := &http.Client{
		Timeout:       time.Minute,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // the API has none
	}
	if !strings.HasPrefix(t.URL, "https:") {
		return c, nil
	}
	config := &tls.Config{MinVersion: tls.VersionTLS13}
	ca := t.CAFile
	if _, err := os.Stat(defaultCA); ca == "" && err == nil {
		ca = defaultCA
	}
	if ca != "" {
		raw, err := os.ReadFile(ca)
		if err != nil {
			return nil, fmt.Errorf("read the CA to trust (--cafile): %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(raw) {
			return nil, fmt.Errorf("read the CA to trust (--cafile): no certificate in %s: want PEM", ca)
		}
	}
	if t.CertFile != "" {
		cert, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("read the client's certificate (--cert, --cert-key): %w", err)
		}
		config.Certificates = []tls.Certificate{cert}
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig, transport.DisableKeepAlives = config, true
	c.Transport = transport
	return c, nil
}
