package roles_test

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestStopsUnderLoadLoseNothing stops each node of a cluster by SIGTERM, one after the other as
// an upgrade does, while records come with acks=all: each process ends by itself within its
// bound and with 0, and whatever was acknowledged is there once, in order.
func TestStopsUnderLoadLoseNothing(t *testing.T) {
	t.Parallel()
	c := newProcesses(t, 3)
	brokers := strings.Join([]string{c.host(1) + ":9092", c.host(2) + ":9092", c.host(3) + ":9092"}, ",")
	state := filepath.Join(t.TempDir(), "acks")
	c.admin(1, "topics", "create", "load", "--partitions", "6")
	load := program(t, "verify", "--phase", "produce", "--topic", "load", "--state", state, "-b", brokers, "--records", "100000000", "-o", "json", "--transport", "tcp")
	var said bytes.Buffer
	load.Stdout, load.Stderr = &said, &said
	must(t, load.Start())
	ended := make(chan error, 1)
	go func() { ended <- load.Wait() }()
	defer func() { _ = load.Process.Kill() }() // it has ended, unless the test has failed
	// written waits until the topic has had more records since the last call.
	var last int64
	written := func(what string) {
		t.Helper()
		ticker := time.NewTicker(50 * time.Millisecond)
		defer ticker.Stop()
		for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); <-ticker.C {
			now := int64(0)
			for at := range c.nodes { // the leader knows its partitions' ends
				var topic struct {
					PartitionList []struct {
						HighWatermark int64 `json:"high_watermark"`
					} `json:"partition_list"`
				}
				must(t, json.Unmarshal([]byte(c.admin(at, "topics", "describe", "load", "-o", "json")), &topic))
				sum := int64(0)
				for _, p := range topic.PartitionList {
					sum += p.HighWatermark
				}
				now = max(now, sum)
			}
			if now > last+1000 {
				last = now
				return
			}
		}
		t.Fatalf("%s: nothing more is written; the load says %s", what, said.String())
	}
	written("at first")
	for id := 1; id <= 3; id++ {
		n := c.nodes[id]
		c.end(id, syscall.SIGTERM)
		if code := n.cmd.ProcessState.ExitCode(); code != 0 || strings.Contains(n.stderr.String(), "the stop took too long") {
			t.Errorf("node %d ended with %d: %s", id, code, n.stderr.String())
		}
		written("without a node")
		c.start(id)
		c.await(id)
		code, _, stderr := rustmq(t, "", "admin", "--url", "http://"+c.host(id)+":9642", "cluster", "health", "--exit-when-healthy", "--interval", "100ms", "--timeout", "3m")
		if code != 0 {
			t.Fatalf("after node %d has come back: %s", id, stderr)
		}
	}
	written("at last")
	must(t, load.Process.Signal(syscall.SIGINT))
	if err := <-ended; err != nil {
		t.Fatalf("the load: %v, %s", err, said.String())
	}
	code, stdout, stderr := rustmq(t, "", "verify", "--phase", "check", "--topic", "load", "--state", state, "-b", brokers, "--transport", "tcp")
	if code != 0 {
		t.Errorf("exit %d, %s%s", code, stdout, stderr)
	}
}
