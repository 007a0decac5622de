package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"rustmq.dev/rustmq/test/apache"
)

// clusterSize is how many nodes a cluster has, each broker and controller.
const clusterSize = 3

// startRustmqCluster starts three nodes on addresses of loopback of their own, with one
// bucket. The first stands for all: clients find the others by it.
func startRustmqCluster(set ...string) (*process, error) { return startRustmqNodes(nil, nil, set) }

// startSecureCluster is startRustmqCluster with certificates of a directory.
func startSecureCluster(certs string, set ...string) (*process, error) {
	config, err := certified(certs, superUser)
	if err != nil {
		return nil, err
	}
	return startRustmqNodes([]string{"--certs", certs}, []kgo.Opt{kgo.DialTLSConfig(config)}, set)
}

// clusterHost is the address of the i-th node.
func clusterHost(i int) string { return fmt.Sprintf("127.73.0.%d", i+1) }

// startRustmqNodes starts three nodes with more flags and settings, and waits until a client
// with those options knows them all.
func startRustmqNodes(flags []string, client []kgo.Opt, set []string) (*process, error) {
	dir, err := os.MkdirTemp("", "rustmq-bench-")
	if err != nil {
		return nil, err
	}
	var peers []string
	for i := range clusterSize {
		peers = append(peers, fmt.Sprintf("%d@%s", i+1, clusterHost(i)))
	}
	nodes := make([]*process, clusterSize)
	lines := make([]*bufio.Reader, clusterSize)
	for i := range nodes {
		p := &process{name: fmt.Sprintf("rustmq node %d", i+1)}
		p.cmd = exec.Command(rustmqBinary(), "serve", "--node-id", fmt.Sprint(i+1), "--bind", clusterHost(i), "--peers", strings.Join(peers, ","),
			"--data-dir", filepath.Join(dir, fmt.Sprint(i+1)), "--bucket", "file://"+filepath.Join(dir, "bucket"))
		p.cmd.Args = append(p.cmd.Args, flags...)
		for _, s := range set {
			p.cmd.Args = append(p.cmd.Args, "--set", s)
		}
		p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		out, err := p.cmd.StdoutPipe()
		if err != nil {
			return nil, err
		}
		if err := p.cmd.Start(); err != nil {
			return nil, fmt.Errorf("start %s: %w", p.name, err)
		}
		nodes[i], lines[i] = p, bufio.NewReader(out)
	}
	all := nodes[0]
	all.name, all.dir, all.others = "rustmq, three nodes", dir, nodes[1:]
	for i, p := range nodes { // none says that it is there before most are
		first, err := lines[i].ReadBytes('\n')
		var line rustmqLine
		if err == nil {
			err = json.Unmarshal(first, &line)
		}
		if err == nil {
			err = awaitReady(line.HTTP)
		}
		if err != nil {
			all.stop()
			return nil, fmt.Errorf("start %s: %w", p.name, err)
		}
		p.addr, p.http = line.Kafka, line.HTTP
	}
	return all, awaitBrokers(all.addr, client...)
}

// kafkaLib is where Kafka's jars are.
func kafkaLib() (string, error) {
	lib := os.Getenv("KAFKA_LIB")
	if lib == "" {
		lib = filepath.Join("..", "build", "kafka", "lib")
	}
	return filepath.Abs(lib)
}

// kafkaAddress is that of the i-th node.
func kafkaAddress(i, port int) string { return fmt.Sprintf("127.74.0.%d:%d", i+1, port) }

func kafkaVoters() string {
	var voters []string
	for i := range clusterSize {
		voters = append(voters, fmt.Sprintf("%d@%s", i+1, kafkaAddress(i, 9093)))
	}
	return strings.Join(voters, ",")
}

// startKafkaCluster starts three nodes of Apache Kafka with its defaults, but for the
// replicas of topics.
func startKafkaCluster() (p *process, stop func(), err error) {
	lib, err := kafkaLib()
	if err != nil {
		return nil, nil, err
	}
	dir, err := os.MkdirTemp("", "rustmq-bench-kafka-")
	if err != nil {
		return nil, nil, err
	}
	nodes, failed := make([]*apache.Server, clusterSize), make([]error, clusterSize)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	done := make(chan int, clusterSize)
	for i := range nodes {
		go func() { // each waits for the others
			defer func() { done <- i }()
			own := filepath.Join(dir, fmt.Sprint(i+1))
			if failed[i] = os.Mkdir(own, 0o755); failed[i] != nil {
				return
			}
			nodes[i], failed[i] = apache.Start(ctx, apache.Options{Lib: lib, Dir: own, Addr: kafkaAddress(i, 9092), Controller: kafkaAddress(i, 9093), Properties: map[string]string{
				"node.id": fmt.Sprint(i + 1), "controller.quorum.voters": kafkaVoters(),
				"log.segment.delete.delay.ms":      "1000",
				"default.replication.factor":       "3",
				"offsets.topic.replication.factor": "3", "transaction.state.log.replication.factor": "3", "transaction.state.log.min.isr": "2",
				"group.initial.rebalance.delay.ms": "0",
			}})
		}()
	}
	for range nodes {
		<-done
	}
	stop = func() {
		for _, n := range nodes {
			if n != nil {
				n.Kill()
			}
		}
		_ = os.RemoveAll(dir)
	}
	if err := errors.Join(failed...); err != nil {
		stop()
		return nil, nil, err
	}
	processes := make([]*process, clusterSize)
	for i, n := range nodes {
		processes[i] = &process{name: "Apache Kafka, three nodes", dir: dir, addr: n.Addr(), pid: n.Pid()}
	}
	processes[0].others = processes[1:]
	if err := awaitBrokers(processes[0].addr); err != nil {
		stop()
		return nil, nil, err
	}
	return processes[0], stop, nil
}

// awaitBrokers waits until clients are told of all nodes.
func awaitBrokers(addr string, opts ...kgo.Opt) error {
	cl, err := kgo.NewClient(append(opts, kgo.SeedBrokers(addr))...)
	if err != nil {
		return err
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for {
		brokers, err := kadm.NewClient(cl).ListBrokers(ctx)
		if err == nil && len(brokers) == clusterSize {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s knows %d brokers: %w", addr, len(brokers), errors.Join(ctx.Err(), err))
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// replicationBound is what a profile shows of them, for [row.Bound].
const replicationBound = "Two cores for three brokers and the client, and one device for three logs: each byte is written, and synced, three times."

// clusters is K3: the same loads on three nodes of rustmq and of Apache Kafka, each record
// acked by all replicas in sync.
func (r *run) clusters() error {
	ours, err := startRustmqCluster()
	if err != nil {
		return err
	}
	defer ours.stop()
	theirs, stop, err := startKafkaCluster()
	if err != nil {
		return err
	}
	defer stop()
	bare, err := startBare(clusterSize)
	if err != nil {
		return err
	}
	defer bare.stop()
	for range 3 {
		for _, p := range []*process{ours, theirs} {
			if _, err := p.load("produce", args("records", 100_000, "partitions", 12, "replicas", clusterSize)...); err != nil {
				return err
			}
		}
	}
	used := func(a, b loadResult) string {
		return fmt.Sprintf("rustmq %.0f/s, Kafka %.0f/s; processor time of the brokers %.1f s, %.1f s", a.rate(), b.rate(), a.ServerCPU, b.ServerCPU)
	}
	for _, c := range []struct {
		name      string
		kind      string
		shape     []string
		must, aim float64
	}{
		{"produce 1 KiB to 12 partitions, 1 connection, acks=all, against Kafka, which does not sync", "produce", args("records", 200_000, "partitions", 12), 1, 2},
		{"produce 1 KiB to 100 partitions, 8 connections, acks=all, against Kafka, which does not sync", "produce", args("records", 200_000, "connections", 8, "partitions", 100), 1, 2},
		{"produce 1 KiB to 12 partitions, 1 connection, acks=all, against Kafka with flush.messages=1", "produce", args("records", 20_000, "partitions", 12, "config", "flush.messages=1"), 3, 10},
	} {
		shape := slices.Concat(c.shape, args("replicas", clusterSize))
		if err := r.beside(row{Figure: "K3", Name: c.name, Unit: "×", Must: c.must, Aim: c.aim, Bound: replicationBound},
			on(ours, c.kind, shape...), on(theirs, c.kind, shape...), on(bare, c.kind, c.shape...), rateRatio, used); err != nil {
			return err
		}
	}
	for _, c := range []struct{ name, config string }{{"p50 of a lone 1 KiB produce, acks=all, durable on three, against Kafka, which does not sync", ""}, {"p50 of a lone 1 KiB produce, acks=all, durable on three, against Kafka with flush.messages=1", "flush.messages=1"}} {
		shape := args("records", 1_000, "replicas", clusterSize, "config", c.config)
		if err := r.pair(row{Figure: "K3", Name: c.name, Unit: "×", Less: true}, on(ours, "lone", shape...), on(theirs, "lone", shape...),
			func(a, b loadResult) float64 { return a.P50 / b.P50 },
			func(a, b loadResult) string {
				return fmt.Sprintf("p50 %.2f ms, p99 %.2f ms; Kafka %.2f, %.2f", a.P50/1000, a.P99/1000, b.P50/1000, b.P99/1000)
			}); err != nil {
			return err
		}
	}
	return nil
}
