package client

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// admin is a client of the broker for what commands do not do.
func admin(t *testing.T, addr string) *kadm.Client {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return kadm.NewClient(cl)
}

// rustmqTopic makes a topic of two partitions.
func rustmqTopic(t *testing.T, addr, name string) {
	t.Helper()
	if _, err := admin(t, addr).CreateTopic(t.Context(), 2, 1, map[string]*string{"max.message.bytes": kmsg.StringPtr("4000000")}, name); err != nil {
		t.Fatal(err)
	}
}

// seed puts values into a partition of t, a second apart from 1,000 s on.
func seed(t *testing.T, addr string, partition int32, values ...string) {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.DefaultProduceTopic("t"), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	for i, v := range values {
		r := &kgo.Record{Partition: partition, Key: []byte{'k'}, Value: []byte(v), Timestamp: time.Unix(1000+int64(i), 0)}
		if err := cl.ProduceSync(t.Context(), r).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestConsumeToTheEnd(t *testing.T) {
	_, addr := broker(t)
	if stdout, _ := rustmq(t, "", "consume", "t", "-b", addr, "-e"); stdout != "" {
		t.Errorf("an empty topic gave %q", stdout)
	}
	seed(t, addr, 1, "a", "b", "c", "d")
	for _, c := range []struct{ flags, want string }{
		{"", "abcd"}, {"-o start", "abcd"}, {"-o 2", "cd"}, {"-o +1", "bcd"}, {"-o -1", "d"}, {"-o -100", "abcd"}, {"-o end", ""}, {"-o 4", ""}, {"-o 99", ""}, {"-o +9223372036854775807", ""},
		{"-o @1002000", "cd"}, {"-o @1970-01-01T00:16:43Z", "d"}, {"-o @1001500", "cd"}, {"-o @9999999999", ""}, {"-o @-1h", ""},
		{"-n 2", "ab"}, {"-o 1 -n 2", "bc"},
	} {
		stdout, _ := rustmq(t, "", append([]string{"consume", "t", "-b", addr, "-e", "-f", "%v"}, strings.Fields(c.flags)...)...)
		if stdout != c.want {
			t.Errorf("%s: %q, want %q", c.flags, stdout, c.want)
		}
	}
	if _, err := admin(t, addr).DeleteRecords(t.Context(), kadm.Offsets{"t": {1: {Topic: "t", Partition: 1, At: 2}}}); err != nil {
		t.Fatal(err)
	}
	for flags, want := range map[string]string{"": "cd", "-o 0": "cd", "-o +1": "d", "-o -3": "cd"} {
		stdout, _ := rustmq(t, "", append([]string{"consume", "t", "-b", addr, "-e", "-f", "%v"}, strings.Fields(flags)...)...)
		if stdout != want {
			t.Errorf("after the first two were deleted, %s: %q, want %q", flags, stdout, want)
		}
	}
}

func TestConsumeFollows(t *testing.T) {
	_, addr := broker(t)
	seed(t, addr, 0, "old")
	for _, c := range []struct{ flags, before, after string }{
		{"", "old\n", "new\n"}, {"-o end", "", "new\n"}, {"-o 1", "", "new\n"}, {"-g follower", "old\n", "new\n"},
	} {
		t.Run(c.flags, func(t *testing.T) {
			ctx, interrupt := context.WithCancel(t.Context())
			defer interrupt()
			w := newWorld("")
			ended := make(chan error, 1)
			go func() {
				ended <- w.run(ctx, append([]string{"consume", "t", "-b", addr, "--transport", "tcp"}, strings.Fields(c.flags)...)...)
			}()
			w.stdout.await(t, c.before)
			for i := 0; !strings.Contains(w.stdout.String(), c.after); i++ {
				seed(t, addr, 0, "new") // at the end: whenever it has begun to listen
				if i > 500 {
					t.Fatal("what came was not printed")
				}
			}
			interrupt()
			if err := <-ended; err != nil {
				t.Errorf("Ctrl-C ended it with %v", err)
			}
			if stdout := w.stdout.String(); !strings.HasPrefix(stdout, c.before+strings.TrimSuffix(c.after, "\n")) {
				t.Errorf("printed %q", stdout)
			}
		})
	}
}

func TestConsumeAsGroupGoesOnWhereItWas(t *testing.T) {
	_, addr := broker(t)
	seed(t, addr, 0, "a", "b", "c")
	for _, want := range []string{"a\n", "b\n"} {
		if stdout, stderr := rustmq(t, "", "consume", "t", "-b", addr, "-g", "g", "-n", "1"); stdout != want {
			t.Fatalf("printed %q, want %q; %s", stdout, want, stderr)
		}
	}
	if stdout, _ := rustmq(t, "", "consume", "t", "-b", addr, "-g", "g", "-e"); stdout != "c\n" {
		t.Errorf("printed %q", stdout)
	}
	if stdout, _ := rustmq(t, "", "consume", "t", "-b", addr, "-g", "g", "-e"); stdout != "" {
		t.Errorf("printed %q again", stdout)
	}
}

// broken is a pipe whose reader has gone.
type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

// TestWhatWasNotPrintedIsNotCommitted holds that a group does not lose what
// could not be written.
func TestWhatWasNotPrintedIsNotCommitted(t *testing.T) {
	_, addr := broker(t)
	seed(t, addr, 0, "a", "b")
	e := Env{Stdin: strings.NewReader(""), Stdout: broken{}, Stderr: io.Discard}
	cmd := ConsumeCommand(e)
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetArgs([]string{"t", "-b", addr, "-g", "g", "-n", "2"})
	if err := cmd.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), "write to standard output: ") || !strings.Contains(err.Error(), "0 records before were printed whole, and no later one is committed") {
		t.Fatalf("a broken pipe gave %v", err)
	}
	if stdout, _ := rustmq(t, "", "consume", "t", "-b", addr, "-g", "g", "-n", "2"); stdout != "a\nb\n" {
		t.Errorf("then printed %q", stdout)
	}
}

// TestEndIsWaitedFor holds that -e fails, rather than print a part as if it
// were all, when a broker does not answer fetches.
func TestEndIsWaitedFor(t *testing.T) {
	c, addr := broker(t)
	seed(t, addr, 0, "a")
	c.ControlKey(int16(kmsg.Fetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		resp := req.(*kmsg.FetchRequest).ResponseKind()
		return resp, nil, true // nothing, for ever
	})
	if err := fails(t, "", "consume", "t", "-b", addr, "-e", "--timeout", "200ms"); !strings.Contains(err.Error(), "nothing came for 200ms, and partition 0 has offsets up to 0") {
		t.Error(err)
	}
}

func TestConsumeUnknownTopic(t *testing.T) {
	_, addr := broker(t)
	if err := fails(t, "", "consume", "nowhere", "-b", addr); !strings.Contains(err.Error(), "rustmq admin topics create nowhere") {
		t.Error(err)
	}
}

// TestCopyByJSON carries records through a pipe of two commands.
func TestCopyByJSON(t *testing.T) {
	_, addr := broker(t)
	rustmq(t, "k1=00ff\n=\n", "produce", "t", "-b", addr, "-p", "0", "-f", "%k=%v{hex}", "-Z", "-H", "a=b")
	copied, _ := rustmq(t, "", "consume", "t", "-b", addr, "-e", "-f", "json")
	rustmq(t, copied, "produce", "t", "-b", addr, "-p", "1", "-f", "json")
	var sides [2]strings.Builder
	for _, r := range records(t, addr, "t", 4) {
		fmt.Fprintf(&sides[r.Partition], "%v %q %v %q %v\n", r.Key == nil, r.Key, r.Value == nil, r.Value, r.Headers)
	}
	if sides[0].String() != sides[1].String() || sides[0].Len() == 0 {
		t.Errorf("sent\n%sgot\n%s", &sides[0], &sides[1])
	}
}

// TestOutageIsTold holds that a follower says once that its broker is gone, and
// that it is back.
func TestOutageIsTold(t *testing.T) {
	c, addr := broker(t)
	seed(t, addr, 0, "a")
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	w := newWorld("")
	ended := make(chan error, 1)
	go func() { ended <- w.run(ctx, "consume", "t", "-b", addr) }()
	w.stdout.await(t, "a\n")
	c.Close()
	w.stderr.await(t, "the broker at "+addr+" cannot be reached, trying on")
	var port int
	if _, err := fmt.Sscanf(addr[strings.LastIndexByte(addr, ':')+1:], "%d", &port); err != nil {
		t.Fatal(err)
	}
	again, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.Ports(port), kfake.SeedTopics(2, "t"))
	if err != nil {
		t.Skipf("the port was taken meanwhile: %v", err)
	}
	defer again.Close()
	w.stderr.await(t, "the broker at "+addr+" answers again")
	interrupt()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if n := strings.Count(w.stderr.String(), "cannot be reached"); n != 1 {
		t.Errorf("told %d times", n)
	}
}
