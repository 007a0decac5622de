package client

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// broker starts franz-go's fake of Kafka with a topic t of two partitions.
func broker(t *testing.T, opts ...kfake.Opt) (*kfake.Cluster, string) {
	t.Helper()
	c, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1), kfake.SeedTopics(2, "t"), kfake.AllowAutoTopicCreation(), kfake.DefaultNumPartitions(1)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c, c.ListenAddrs()[0]
}

// buffer is bytes.Buffer for one writer and another reader.
type buffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
	// written is told of every write.
	written chan struct{}
}

func newBuffer() *buffer { return &buffer{written: make(chan struct{}, 1)} }

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case b.written <- struct{}{}:
	default:
	}
	return b.buf.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// await waits until want was written.
func (b *buffer) await(t *testing.T, want string) {
	t.Helper()
	late := time.After(20 * time.Second)
	for !strings.Contains(b.String(), want) {
		select {
		case <-b.written:
		case <-late:
			t.Fatalf("%q was not written in time, but %q", want, b.String())
		}
	}
}

// world is what a test gives a command.
type world struct {
	stdin          io.Reader
	stdout, stderr *buffer
	environ        []string
}

func newWorld(stdin string) *world {
	return &world{stdin: strings.NewReader(stdin), stdout: newBuffer(), stderr: newBuffer()}
}

// run runs a command line, `produce t …`, as the program does.
func (w *world) run(ctx context.Context, args ...string) error {
	e := Env{Stdin: w.stdin, Stdout: w.stdout, Stderr: w.stderr, Environ: w.environ}
	root := &cobra.Command{Use: "rustmq", SilenceErrors: true, SilenceUsage: true}
	root.AddCommand(ProduceCommand(e), ConsumeCommand(e), BenchCommand(e), VerifyCommand(e), ConfigCommand(e), ContextCommand(e))
	AddGlobalFlags(root)
	root.SetArgs(args)
	return root.ExecuteContext(ctx)
}

// rustmq runs a command line that must succeed, and returns what it printed.
func rustmq(t *testing.T, stdin string, args ...string) (stdout, stderr string) {
	t.Helper()
	w := newWorld(stdin)
	if err := w.run(t.Context(), args...); err != nil {
		t.Fatalf("rustmq %s: %v\n%s", strings.Join(args, " "), err, w.stderr)
	}
	return w.stdout.String(), w.stderr.String()
}

// fails runs a command line that must fail, and returns the error.
func fails(t *testing.T, stdin string, args ...string) error {
	t.Helper()
	w := newWorld(stdin)
	err := w.run(t.Context(), args...)
	if err == nil {
		t.Fatalf("rustmq %s succeeded: %s", strings.Join(args, " "), w.stdout)
	}
	return err
}

// records reads a whole topic with a client of its own.
func records(t *testing.T, addr, topic string, n int) []*kgo.Record {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.ConsumeTopics(topic))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var all []*kgo.Record
	for len(all) < n {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("%d of %d records: %v", len(all), n, err)
		}
		all = append(all, fetches.Records()...)
	}
	return all
}

// TestWrongUsage holds that what cannot be meant is said before a broker is
// asked: there is none at the address.
func TestWrongUsage(t *testing.T) {
	for _, c := range []struct{ line, want string }{
		{"produce t --acks 2", "--acks"},
		{"produce t -z rar", "--compression"},
		{"produce t -f %q", "unknown verb %q"},
		{"produce t -H x", "--header"},
		{"produce t -k a --key-field b", "give one of them"},
		{"produce t -k a -f %k=%v", "give one of them"},
		{"produce t -p 1 -f %p=%v", "give one of them"},
		{"produce t -p -2", "--partition"},
		{"produce t --max-message-bytes 10", "--max-message-bytes"},
		{"produce t --timeout 1ms", "--timeout"},
		{"produce t --transport udp", "--transport"},
		{"consume t -o soon", "--offset"},
		{"consume t -f %v{x}", "{hex}"},
		{"consume t -n -1", "--count -1: want 0"},
		{"consume t --timeout 0s", "--timeout 0s: want more"},
		{"bench nothing", "produce, consume, e2e or all"},
		{"bench --size 1", "--size 1: want 8 to"},
		{"bench --size 20000000", "--size 20000000: want 8 to 16777216"},
		{"bench --clients 0", "--clients 0: want 1"},
		{"bench --duration -1s", "--duration -1s"},
		{"bench e2e --acks 0", "acks"},
		{"bench -o xml", "--output"},
		{"produce t --transport tcp -b a,", "an address is empty"},
		{"verify --phase half", "--phase"},
		{"verify --phase check", "--state"},
		{"verify --size 7", "--size 7: want 8 to 16777216"},
		{"verify -n 0", "--records 0"},
		{"verify --partitions 0", "--partitions 0"},
		{"verify -o xml", "--output"},
		{"config show -o xml", "--output"},
		{"context use nowhere", "context list"},
		{"consume t --context nowhere", "context list"},
	} {
		w := newWorld("")
		w.environ = []string{"XDG_CONFIG_HOME=" + t.TempDir()}
		args := strings.Fields(c.line)
		if args[0] != "config" && args[0] != "context" && !strings.Contains(c.line, " -b ") {
			args = append(args, "-b", "127.0.0.1:1")
		}
		var usage *UsageError
		if err := w.run(t.Context(), args...); !errors.As(err, &usage) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want a usage error with %q", c.line, err, c.want)
		}
	}
}

// TestHelpIsWhole holds that the help says what the languages can.
func TestHelpIsWhole(t *testing.T) {
	for command, want := range map[string]string{"produce": formatHelp, "consume": formatHelp + "\n" + offsetHelp} {
		cmd := map[string]func(Env) *cobra.Command{"produce": ProduceCommand, "consume": ConsumeCommand}[command](Env{})
		for line := range strings.Lines(want) {
			if !strings.Contains(cmd.Long, strings.TrimSpace(line)) {
				t.Errorf("the help of %s lacks %q", command, line)
			}
		}
	}
	for _, verb := range byteVerbs + dateVerbs + bareVerbs {
		if !strings.Contains(formatHelp, "%"+string(verb)) {
			t.Errorf("%%%c is not documented", verb)
		}
	}
}

func writeFile(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
