package roles

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"rustmq.dev/rustmq/configs"
	"rustmq.dev/rustmq/security/pki"
)

// healthAnswer is how much of an answer is shown.
const healthAnswer = 4 << 10

// healthCommand is `rustmq health`: a probe for where there is no other program, as in a
// container. It takes what serve takes, so that it asks the process of that configuration.
func healthCommand(stdout io.Writer) *cobra.Command {
	var f serveFlags
	var ready bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use: "health", Short: "Ask the process of this configuration on this machine whether it is well", Args: cobra.NoArgs,
		Long: "Asks /healthz of the process that `rustmq serve` with the same flags, environment and file is, or with --ready /readyz: whether it takes clients too.\n" +
			"Prints what it answers. Exit 0 when it is well, 1 when it is not, does not answer, or is another process than the one with this certificate.",
		Example: "  rustmq health\n  rustmq health --ready --config /etc/rustmq/rustmq.toml",
		RunE: func(cmd *cobra.Command, _ []string) error {
			config, err := f.load(cmd.Flags(), "")
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			path := "/healthz"
			if ready {
				path = "/readyz"
			}
			answer, err := ask(ctx, config, path)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(stdout, answer)
			return err
		},
	}
	f.add(cmd.Flags())
	cmd.Flags().BoolVar(&ready, "ready", false, "ask whether it takes clients too")
	cmd.Flags().DurationVar(&timeout, "timeout", 5*time.Second, "how long it may take to answer")
	return cmd
}

// ask returns what the process of a configuration answers at a path when it is well.
func ask(ctx context.Context, config *configs.Config, path string) (string, error) {
	port := config.Network.HTTPPort
	if port == 0 {
		return "", &flagError{errors.New("network.http_port is any free one: which one, only the process knows; give it a number")}
	}
	host := config.HTTPBind()
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	scheme, transport := "http", &http.Transport{DisableKeepAlives: true}
	if config.HTTPTLS() {
		scheme = "https"
		own, err := trustOwn(config)
		if err != nil {
			return "", err
		}
		transport.TLSClientConfig = own
	}
	url := scheme + "://" + net.JoinHostPort(host, strconv.Itoa(port)) + path
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	response, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		return "", fmt.Errorf("nobody who is well answers: %w; it may be starting, have ended, or listen elsewhere: give the flags and the file that it was started with", err)
	}
	defer response.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(response.Body, healthAnswer))
	if err != nil {
		return "", fmt.Errorf("read the answer of %s: %w", url, err)
	}
	answer := strings.TrimSpace(string(raw))
	if response.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s: %s: %s", url, response.Status, answer)
	}
	return answer, nil
}

// trustOwn trusts the certificate that a node of this configuration shows, by any of its
// names, and no other: the address that is asked need not be among them.
func trustOwn(config *configs.Config) (*tls.Config, error) {
	file := config.Security.TLS.CertFile
	if file == "" {
		file = filepath.Join(config.Broker.DataDir, certsDir, pki.ServerFile)
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read the certificate that the node shows: %w", err)
	}
	all, err := pki.ParseCertificates(raw)
	if err != nil {
		return nil, fmt.Errorf("read the certificate that the node shows: %s: %w", file, err)
	}
	own := all[0]
	trusted := &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: x509.NewCertPool()}
	trusted.RootCAs.AddCert(own)
	switch {
	case len(own.DNSNames) > 0:
		trusted.ServerName = strings.Replace(own.DNSNames[0], "*", "node", 1)
	case len(own.IPAddresses) > 0:
		trusted.ServerName = own.IPAddresses[0].String()
	}
	return trusted, nil
}
