package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	kgosasl "github.com/twmb/franz-go/pkg/sasl"

	sdktransport "rustmq.dev/rustmq/sdk/go/transport"
)

const (
	// defaultBroker is where `rustmq serve` listens.
	defaultBroker = "127.0.0.1:9092"
	// defaultPort is added to an address without one.
	defaultPort = "9092"
	// defaultCA is what `rustmq serve` without flags makes.
	defaultCA = "rustmq-data/certs/ca.pem"
	// pingTimeout is how long a broker may take to answer at all.
	pingTimeout = 10 * time.Second
	// probeTimeout is how long is looked whether anything listens.
	probeTimeout = 2 * time.Second
)

// connection is the flags of a command that talks to a broker, and afterwards
// its way there.
type connection struct {
	env       Env
	brokers   string
	transport string
	tls       bool
	caFile    string
	login     Login

	refusals *refusals // what brokers say of records that they refuse; nil: nobody wants to know

	caFlag string               // what named caFile
	sasl   kgosasl.Mechanism    // nil: the client does not say who it is
	mode   sdktransport.Mode    // what transport says
	dialer *sdktransport.Dialer // shared by all clients of the command
}

func (c *connection) flags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVarP(&c.brokers, "brokers", "b", "", "`host:port,…` to start from (default: the context's, else "+defaultBroker+")")
	flags.StringVar(&c.transport, "transport", "auto", "auto, tcp or quic; auto is QUIC to brokers that are far, where packets are lost or TCP does not answer, else TCP")
	flags.BoolVar(&c.tls, "tls", false, "TLS on TCP")
	flags.StringVar(&c.caFile, "cafile", "", "PEM `FILE` of the CA to trust (default: the context's, else ./"+defaultCA+" if there, else the system's)")
	c.login.flags(cmd)
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
	c.caFlag = "--cafile"
	if c.caFile == "" {
		c.caFile, c.caFlag = named.CAFile, "the context's cafile"
	}
	if !cmd.Flags().Changed("tls") {
		c.tls = named.TLS
	}
	if !cmd.Flags().Changed("transport") && named.Transport != "" {
		c.transport = named.Transport
	}
	for addr := range strings.SplitSeq(c.brokers, ",") {
		if strings.TrimSpace(addr) == "" {
			return usage("--brokers %q: an address is empty; want host:port, or several with a comma between", c.brokers)
		}
	}
	if err := c.login.resolve(named.Login); err != nil {
		return err
	}
	c.mode, err = transportMode(c.transport)
	return err
}

func transportMode(transport string) (mode sdktransport.Mode, err error) {
	if mode.UnmarshalText([]byte(transport)) != nil {
		return mode, usage("--transport %q: want auto, tcp or quic", transport)
	}
	return mode, nil
}

// addresses are those to start from, each with a port.
func (c *connection) addresses() []string {
	var all []string
	for addr := range strings.SplitSeq(c.brokers, ",") {
		addr = strings.TrimSpace(addr)
		if _, _, err := net.SplitHostPort(addr); err != nil {
			addr = net.JoinHostPort(strings.Trim(addr, "[]"), defaultPort)
		}
		all = append(all, addr)
	}
	return all
}

func (c *connection) tlsConfig() (*tls.Config, error) {
	file := c.caFile
	if file == "" {
		if _, err := os.Stat(defaultCA); err == nil {
			file = defaultCA
		}
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if err := c.login.certificate(config); err != nil {
		return nil, err
	}
	if file == "" {
		return config, nil
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read the CA to trust (%s): %w; `rustmq serve` prints the file as trust, and without --cafile it is the system's", c.caFlag, err)
	}
	config.RootCAs = x509.NewCertPool()
	if !config.RootCAs.AppendCertsFromPEM(raw) {
		return nil, fmt.Errorf("read the CA to trust (%s): no certificate in %s: want PEM", c.caFlag, file)
	}
	return config, nil
}

// TrustsByDefault reports whether commands in this directory trust the CA in
// file without being told to.
func TrustsByDefault(file string) bool {
	own, err := os.Stat(defaultCA)
	if err != nil {
		return false
	}
	named, err := os.Stat(file)
	return err == nil && os.SameFile(own, named)
}

// open makes a client and checks that somebody answers.
// The returned function closes the client and the way there; clients of connect
// end before it.
func (c *connection) open(ctx context.Context, cmd *cobra.Command, opts ...kgo.Opt) (*kgo.Client, func(), error) {
	if err := c.resolve(cmd); err != nil {
		return nil, nil, err
	}
	o := sdktransport.Options{Mode: c.mode, PlainTCP: !c.tls}
	if c.tls || c.mode != sdktransport.TCP {
		config, err := c.tlsConfig()
		if err != nil {
			return nil, nil, err
		}
		o.TLS = config
		// Where no authority is known, QUIC would be tried in vain, and noted by the broker.
		if c.mode == sdktransport.Auto && !c.tls && config.RootCAs == nil && c.listens(ctx) {
			o.Mode = sdktransport.TCP
		}
	}
	var err error
	if c.sasl, err = c.login.sasl(c.env, c.tls || c.mode == sdktransport.QUIC); err != nil {
		return nil, nil, err
	}
	c.dialer = sdktransport.New(o)
	closeDialer := func() { _ = c.dialer.Close() } // the clients are gone; nothing is on its way
	cl, err := c.connect(opts...)
	if err == nil {
		if err = ping(ctx, cl); err == nil {
			return cl, func() { cl.Close(); closeDialer() }, nil
		}
		cl.Close()
		err = c.unreachable(err)
	}
	closeDialer()
	return nil, nil, err
}

// connect makes another client of the same kind.
func (c *connection) connect(opts ...kgo.Opt) (*kgo.Client, error) {
	opts = append(opts, kgo.SeedBrokers(c.addresses()...), kgo.ClientID("rustmq"))
	if c.sasl != nil {
		opts = append(opts, kgo.SASL(c.sasl))
	}
	dial := c.dialer.Dial
	if c.refusals != nil {
		dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := c.dialer.Dial(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			return c.refusals.watch(conn), nil
		}
	}
	opts = append(opts, kgo.Dialer(dial))
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		return nil, &UsageError{err.Error()}
	}
	return cl, nil
}

func ping(ctx context.Context, cl *kgo.Client) error {
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	return cl.Ping(ctx)
}

// unreachable says what happened, and what to do.
func (c *connection) unreachable(err error) error {
	over := "TCP"
	if c.tls {
		over = "TLS"
	}
	switch c.mode {
	case sdktransport.QUIC:
		over = "QUIC"
	case sdktransport.Auto:
		over += " or QUIC"
	}
	if errors.Is(err, context.Canceled) {
		return fmt.Errorf("interrupted before a broker answered at %s over %s", c.brokers, over)
	}
	return fmt.Errorf("no broker answers at %s over %s: %w; %s", c.brokers, over, err, c.hint(err))
}

// hint says what to do about a broker that could not be reached.
func (c *connection) hint(err error) string {
	var unknown x509.UnknownAuthorityError
	var hostname x509.HostnameError
	if refused := c.refusedHint(err); refused != "" {
		return refused
	}
	switch {
	case errors.As(err, &unknown):
		return "its certificate is not trusted: name its CA with --cafile (serve prints the file)"
	case errors.As(err, &hostname):
		return "its certificate is for other names: dial one of those"
	case errors.Is(err, kerr.SaslAuthenticationFailed):
		return "the user is not known there, or the password or token is another"
	case errors.Is(err, kerr.UnsupportedSaslMechanism):
		return "it does not take " + c.login.Mechanism + ": name another with --mechanism"
	case errors.Is(err, kerr.IllegalSaslState):
		return "it does not ask who its clients are: leave --user and --token-file away"
	case c.mode == sdktransport.QUIC || !c.listens(context.Background()):
		return "start one with `rustmq serve`, or name another with -b host:port"
	case errors.Is(err, context.DeadlineExceeded):
		tls := "speak TLS: try --tls, or another port"
		if c.tls {
			tls = "speak no TLS: leave --tls out, or try another port"
		}
		host, _, _ := net.SplitHostPort(c.addresses()[0]) // addresses made it so
		return fmt.Sprintf("something accepts connections there and did not answer in %v: it may be starting or stuck (curl http://%s/readyz), or %s", pingTimeout, net.JoinHostPort(host, "9642"), tls)
	}
	login := ""
	if c.sasl == nil {
		login = "; or it asks who its clients are: give --user or --token-file"
	}
	if c.tls {
		return "something listens there, but may not speak TLS: leave --tls out, or try another port" + login
	}
	return "something listens there, but does not speak plain Kafka: try --tls, or another port" + login
}

// listens tells whether anything accepts connections at the first address.
func (c *connection) listens(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", c.addresses()[0])
	if err != nil {
		return false
	}
	_ = conn.Close()
	return true
}
