package rustmqtest_test

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"rustmq.dev/rustmq/embed"
	rustmq "rustmq.dev/rustmq/sdk/go"
)

// A test that kills processes begins its own binary again, with these in the environment.
const (
	childRole = "SDK_TEST_ROLE" // server, node or processor
	childArg  = "SDK_TEST_ARG"
)

func TestMain(m *testing.M) {
	switch os.Getenv(childRole) {
	case "server":
		exit(serve(strings.Split(os.Getenv(childArg), ",")))
	case "node":
		exit(serveNode(strings.Split(os.Getenv(childArg), ",")))
	case "processor":
		exit(process(os.Getenv(childArg)))
	}
	// Most of what these tests do is wait: for sessions that end, processes, retries.
	if err := flag.Set("test.parallel", "12"); err != nil {
		exit(err)
	}
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("net/http.(*persistConn).readLoop"), goleak.IgnoreTopFunction("net/http.(*persistConn).writeLoop"))
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// serve runs a server over a directory, at an address, until it is killed.
func serve(arg []string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	node, err := embed.Start(ctx, embed.Options{DataDir: arg[0], Set: map[string]string{"network.bind": arg[1], "network.kafka_port": "9092"}})
	if err != nil {
		return err
	}
	fmt.Println(node.Kafka())
	select {}
}

// serveNode runs one of three nodes of a cluster until it is killed: directory, first three
// numbers of the addresses, and the node's id.
func serveNode(arg []string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	dir, subnet, id := arg[0], arg[1], arg[2]
	node, err := embed.Start(ctx, embed.Options{DataDir: filepath.Join(dir, id), Set: map[string]string{
		"broker.id": id, "network.bind": subnet + "." + id, "network.kafka_port": "9092", "network.http_port": "9642", "network.broker_port": "9093",
		"controller.peers": fmt.Sprintf("1@%[1]s.1,2@%[1]s.2,3@%[1]s.3", subnet), "object_storage.url": "file://" + filepath.Join(dir, "bucket"),
	}})
	if err != nil {
		return err
	}
	fmt.Println(node.Kafka())
	select {}
}

// process copies topic in to topic out, exactly once, until it is killed.
func process(addr string) error {
	client, err := rustmq.New(rustmq.WithBrokers(addr))
	if err != nil {
		return err
	}
	p, err := rustmq.NewProcessor(client, rustmq.Raw(), "copy", rustmq.ConsumerOptions{Topics: []string{"in"}, Group: "copy", Classic: true, SessionTimeout: 6 * time.Second, MaxPoll: 10})
	if err != nil {
		return err
	}
	fmt.Println("ready")
	return p.Run(context.Background(), func(ctx context.Context, tx *rustmq.Tx, batch []*rustmq.Message[[]byte]) error {
		for _, m := range batch {
			tx.Produce(ctx, &rustmq.Record{Topic: "out", Key: m.Record.Key, Value: m.Value}, nil)
		}
		// Slow enough to be killed at work.
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
		}
		return nil
	})
}

// child is a process of this test.
type child struct {
	cmd   *exec.Cmd
	lines *bufio.Scanner
	first string // line that it has printed
}

// begin starts one, and waits until it is ready.
func begin(t *testing.T, role, arg string) *child {
	t.Helper()
	c := launch(t, role, arg)
	c.ready(t)
	return c
}

func launch(t *testing.T, role, arg string) *child {
	t.Helper()
	c := &child{cmd: exec.Command(os.Args[0])}
	c.cmd.Env = append(os.Environ(), childRole+"="+role, childArg+"="+arg)
	c.cmd.Stderr = os.Stderr
	out, err := c.cmd.StdoutPipe()
	if err == nil {
		err = c.cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.kill() })
	c.lines = bufio.NewScanner(out)
	return c
}

func (c *child) ready(t *testing.T) {
	t.Helper()
	if !c.lines.Scan() {
		t.Fatal("a process has ended before it was ready")
	}
	c.first = c.lines.Text()
}

// kill ends the process at once.
func (c *child) kill() {
	_ = c.cmd.Process.Kill() // it may have ended
	_ = c.cmd.Wait()
}
