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
