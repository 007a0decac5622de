package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kgo"

	sdkquic "rustmq.dev/rustmq/sdk/go/quic"
)

// Env is the world of a command.
type Env struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Environ        []string
}

// UsageError is a call that could not be understood; the process exits with 2.
type UsageError struct{ Message string }

func (e *UsageError) Error() string { return e.Message }

func usage(format string, args ...any) error { return &UsageError{fmt.Sprintf(format, args...)} }

func (e Env) getenv(name string) string {
	for _, pair := range e.Environ {
		if v, ok := strings.CutPrefix(pair, name+"="); ok {
			return v
		}
	}
	return ""
}

// defaultBroker is where `rustmq serve` listens.
const defaultBroker = "127.0.0.1:9092"

// defaultCA is what `rustmq serve` without flags makes.
const defaultCA = "rustmq-data/certs/ca.pem"

// connection is the flags of a command that talks to a broker.
type connection struct {
	env       Env
	brokers   string
	transport string
	tls       bool
	caFile    string
}

func (c *connection) flags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVarP(&c.brokers, "brokers", "b", "", "`host:port,…` to start from (default: the context's, else "+defaultBroker+")")
	flags.StringVar(&c.transport, "transport", "auto", "auto, tcp or quic; auto is TCP where it answers, else QUIC")
	flags.BoolVar(&c.tls, "tls", false, "TLS on TCP")
	flags.StringVar(&c.caFile, "cafile", "", "PEM `FILE` of the CA to trust (default: the context's, else ./"+defaultCA+" if there, else the system's)")
}

// resolve fills what was not given from the context.
func (c *connection) resolve(cmd *cobra.Command) error {
	named, err := c.env.context(cmd)
	if err != nil {
		return err
	}
	if c.brokers == "" {
		c.brokers = named.Brokers
	}
	if c.brokers == "" {
		c.brokers = defaultBroker
	}
	if c.caFile == "" {
		c.caFile = named.CAFile
	}
	if !cmd.Flags().Changed("tls") {
		c.tls = named.TLS
	}
	if !cmd.Flags().Changed("transport") && named.Transport != "" {
		c.transport = named.Transport
	}
	switch c.transport {
	case "auto", "tcp", "quic":
		return nil
	}
	return usage("--transport %q: want auto, tcp or quic", c.transport)
}

func (c *connection) tlsConfig() (*tls.Config, error) {
	file := c.caFile
	if file == "" {
		if _, err := os.Stat(defaultCA); err == nil {
			file = defaultCA
		}
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if file == "" {
		return config, nil
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read the CA to trust (--cafile): %w", err)
	}
	config.RootCAs = x509.NewCertPool()
	if !config.RootCAs.AppendCertsFromPEM(raw) {
		return nil, fmt.Errorf("read the CA to trust (--cafile): no certificate in %s", file)
	}
	return config, nil
}

// open makes a client, and checks that somebody answers.
func (c *connection) open(ctx context.Context, cmd *cobra.Command, opts ...kgo.Opt) (*kgo.Client, func(), error) {
	if err := c.resolve(cmd); err != nil {
		return nil, nil, err
	}
	if c.transport == "auto" {
		c.transport = "tcp"
		if !c.answersTCP(ctx) && c.answersQUIC(ctx) {
			c.transport = "quic"
		}
	}
	return c.connect(ctx, opts...)
}

// connect makes a client over the transport that was chosen.
func (c *connection) connect(ctx context.Context, opts ...kgo.Opt) (*kgo.Client, func(), error) {
	opts = append(opts, kgo.SeedBrokers(strings.Split(c.brokers, ",")...), kgo.ClientID("rustmq"))
	closeDialer := func() {}
	if c.transport == "quic" || c.tls {
		config, err := c.tlsConfig()
		if err != nil {
			return nil, nil, err
		}
		if c.transport == "quic" {
			dialer := &sdkquic.Dialer{TLS: config}
			closeDialer = func() { _ = dialer.Close() }
			opts = append(opts, kgo.Dialer(dialer.DialContext))
		} else {
			opts = append(opts, kgo.DialTLSConfig(config))
		}
	}
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		closeDialer()
		return nil, nil, &UsageError{err.Error()}
	}
	done := func() { cl.Close(); closeDialer() }
	if err := ping(ctx, cl); err != nil {
		done()
		return nil, nil, c.unreachable(err)
	}
	return cl, done, nil
}

// pingTimeout is how long a broker may take to answer at all.
const pingTimeout = 10 * time.Second

func ping(ctx context.Context, cl *kgo.Client) error {
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	return cl.Ping(ctx)
}

// unreachable says what happened, and what to do.
func (c *connection) unreachable(err error) error {
	var unknown x509.UnknownAuthorityError
	hint := "start one with `rustmq serve`, or name another with -b host:port"
	switch {
	case errors.As(err, &unknown):
		hint = "its certificate is not trusted: name its CA with --cafile (serve prints the file)"
	case errors.Is(err, context.Canceled):
		return err
	}
	over := "TCP"
	if c.tls {
		over = "TLS"
	}
	if c.transport == "quic" {
		over = "QUIC"
	}
	return fmt.Errorf("no broker answers at %s over %s: %w; %s", c.brokers, over, err, hint)
}

func (c *connection) answersTCP(ctx context.Context) bool {
	first, _, _ := strings.Cut(c.brokers, ",")
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", first)
	if err != nil {
		return false
	}
	_ = conn.Close()
	return true
}

func (c *connection) answersQUIC(ctx context.Context) bool {
	config, err := c.tlsConfig()
	if err != nil {
		return false
	}
	first, _, _ := strings.Cut(c.brokers, ",")
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	dialer := &sdkquic.Dialer{TLS: config}
	defer dialer.Close()
	conn, err := dialer.DialContext(ctx, "udp", first)
	if err != nil {
		return false
	}
	_ = conn.Close()
	return true
}

// contextsFile is where contexts are kept.
func (e Env) contextsFile() (string, error) {
	if dir := e.getenv("XDG_CONFIG_HOME"); dir != "" {
		return filepath.Join(dir, "rustmq", "contexts.toml"), nil
	}
	home := e.getenv("HOME")
	if home == "" {
		return "", errors.New("neither HOME nor XDG_CONFIG_HOME is set, so there is no place for contexts")
	}
	return filepath.Join(home, ".config", "rustmq", "contexts.toml"), nil
}
