package roles

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"rustmq.dev/rustmq/configs"
	"rustmq.dev/rustmq/storage/bucket"
)

// A start that is told to stop while it waits for the bucket has not failed; one that
// fails by itself has.
func TestStopDuringTheStartIsNoFailure(t *testing.T) {
	for _, stopped := range []bool{true, false} {
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		cloud := func(ctx context.Context, _ configs.Storage) (bucket.Bucket, error) {
			if !stopped {
				return nil, errors.New("no credentials")
			}
			stop()
			<-ctx.Done()
			return nil, ctx.Err()
		}
		var stdout, stderr bytes.Buffer
		cmd := serveCommand("serve", "", "", &stdout, &stderr, cloud)
		cmd.SilenceErrors, cmd.SilenceUsage = true, true
		cmd.SetArgs([]string{"--ports", "free", "--ephemeral", "--bucket", "s3://b?region=r"})
		err := cmd.ExecuteContext(ctx)
		if (err == nil) != stopped || strings.Contains(stderr.String(), "stopped while it started") != stopped {
			t.Errorf("stopped %v: %v, %s", stopped, err, stderr.String())
		}
	}
}

// TestCertsAreWhatANodeNeeds: --certs is enough to bind another address than loopback, names
// the files of the node, those of servers where there are others, and yields to --set.
func TestCertsAreWhatANodeNeeds(t *testing.T) {
	for what, w := range map[string]struct {
		args          []string
		cert, cluster string
		http          string
	}{
		"a node alone": {[]string{"--certs", "d", "--node-id", "7", "--bind", "10.0.0.1"}, "d/node-7.pem", "", "10.0.0.1"},
		"one of three": {[]string{"--certs", "d", "--bind", "10.0.0.1", "--peers", "1@10.0.0.1,2@10.0.0.2", "--bucket", "s3://b"}, "d/node-1.pem", "d/bundle.pem", "10.0.0.1"},
		"with --set":   {[]string{"--certs", "d", "--set", "security.tls.cert_file=own.pem", "--set", "broker.id=9"}, "own.pem", "", "127.0.0.1"},
	} {
		f := serveFlags{}
		cmd := serveCommand("serve", "", "", nil, nil, nil)
		if err := cmd.ParseFlags(w.args); err != nil {
			t.Fatal(err)
		}
		var err error
		if f.certs, err = cmd.Flags().GetString("certs"); err != nil {
			t.Fatal(err)
		}
		if f.set, err = cmd.Flags().GetStringArray("set"); err != nil {
			t.Fatal(err)
		}
		c, err := f.load(cmd.Flags(), "")
		if err != nil || c.Security.TLS.CertFile != w.cert || c.Security.Cluster.CAFile != w.cluster || c.HTTPBind() != w.http || !c.Authenticates() {
			t.Errorf("%s: %+v, %v", what, c, err)
		}
	}
}
