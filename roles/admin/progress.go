package admin

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"rustmq.dev/rustmq/roles/client"
)

// waiting is what commands have that begin what goes on by itself.
type waiting struct {
	wait    bool
	timeout time.Duration
}

// flags adds those of waiting for what is done.
func (w *waiting) flags(cmd *cobra.Command, wait bool, until string) {
	cmd.Flags().BoolVar(&w.wait, "wait", wait, "wait until "+until)
	cmd.Flags().DurationVar(&w.timeout, "timeout", 0, "how long to wait; 0: as long as it takes")
}

// until looks, again and again, until nothing is left, and shows how far it is. What is left
// where the time is up, or somebody interrupts, goes on by itself: the error says so.
func (w *waiting) until(cmd *cobra.Command, what string, look func(context.Context) (left int, err error)) error {
	ctx := cmd.Context()
	if w.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, w.timeout)
		defer cancel()
	}
	show := client.Showing(cmd.ErrOrStderr())
	defer show("")
	for most, left := 0, 0; ; {
		now, err := look(ctx)
		if err != nil && ctx.Err() == nil {
			return err
		}
		if err == nil {
			if left = now; left == 0 {
				return nil
			}
			most = max(most, left)
			show(fmt.Sprintf("%s: %d of %d left", what, left, most))
		}
		pause := time.NewTimer(emptiedPause)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return fmt.Errorf("%s: %d left, which go on by themselves; give the command again to wait on", what, left)
		}
	}
}

// noServer is the value of a flag by which servers are found, of a command that asks none.
type noServer struct{}

// Set implements pflag.Value.
func (noServer) Set(string) error {
	return fmt.Errorf("the command asks no server: it works on files, or on a bucket")
}

// String implements pflag.Value.
func (noServer) String() string { return "" }

// Type implements pflag.Value: the error says what is wrong.
func (noServer) Type() string { return NoServerType }

// NoServerType is the type of the flags that [AsksNoServer] has put away.
const NoServerType = "none"

// AsksNoServer puts away the flags of admin commands by which a server is found, of a command
// that asks none, and all below it: they are not shown, and refused rather than ignored.
func AsksNoServer(cmd *cobra.Command) {
	for _, name := range []string{"url", "token-file", "user", "password-file", "cafile", "cert", "cert-key"} {
		cmd.PersistentFlags().Var(noServer{}, name, "of no use here")
		_ = cmd.PersistentFlags().MarkHidden(name) // it is there
	}
}
