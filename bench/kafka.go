package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"rustmq.dev/rustmq/test/apache"
)

// kafkaNode is one node of Apache Kafka, broker and controller, as its own scripts
// start it.
type kafkaNode struct {
	*process
	node *apache.Server
}

// startKafka starts one (build/kafka, scripts/deps.sh). What topics leave behind is
// removed soon, so that the disk does not fill.
func startKafka() (*kafkaNode, error) {
	lib := os.Getenv("KAFKA_LIB")
	if lib == "" {
		lib = filepath.Join("..", "build", "kafka", "lib")
	}
	lib, err := filepath.Abs(lib)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "rustmq-bench-kafka-")
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	node, err := apache.Start(ctx, apache.Options{Lib: lib, Dir: dir, Properties: map[string]string{
		"log.segment.delete.delay.ms":          "1000",
		"group.initial.rebalance.delay.ms":     "0", // as in the server.properties that Kafka ships, and here
		"group.max.session.timeout.ms":         "1800000",
		"group.consumer.max.size":              "10000",
		"transactional.id.expiration.ms":       "604800000",
		"transaction.max.timeout.ms":           "900000",
		"offsets.topic.num.partitions":         "50",
		"transaction.state.log.num.partitions": "50",
	}})
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return &kafkaNode{&process{name: "Apache Kafka", dir: dir, addr: node.Addr(), pid: node.Pid()}, node}, nil
}

func (k *kafkaNode) stop() {
	k.node.Stop()
	_ = os.RemoveAll(k.dir)
}

// What profiles show of the figures beside Kafka, for [row.Bound].
const (
	sameClientBound = "The client, which is the same on both sides and takes more of the two cores than the broker."
	logBound        = "The device: a closed loop of 2.6 MB under way waits for one commit after another, and uploads that keep up with it write each byte once more, to the bucket beside the log. Kafka's default leaves the disk to the kernel, which writes once, later, and nothing at all of a topic that is deleted before. The broker takes less than one of the two cores."
	pipelineBound   = "The device: of the five requests that a connection has under way three are in a commit, on average, while the others come in, so that the log syncs a third as often as Kafka, which does for each of them; a sync of 200 KB takes hardly longer than one of 64."
	syncsBound      = "Syncs of the log: a transaction waits for three, one after another, Kafka's for none."
)

// kafka is K2: the same loads on rustmq, which syncs, and on Apache Kafka.
func (r *run) kafka() error {
	ours, err := startRustmq("rustmq")
	if err != nil {
		return err
	}
	defer ours.stop()
	bucket, err := os.MkdirTemp(memoryDir(), "rustmq-bench-bucket-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(bucket)
	apart, err := startRustmq("rustmq, bucket apart", "object_storage.url=file://"+bucket)
	if err != nil {
		return err
	}
	defer apart.stop()
	theirs, err := startKafka()
	if err != nil {
		return err
	}
	defer theirs.stop()
	bare, err := startBare(1)
	if err != nil {
		return err
	}
	defer bare.stop()
	pair := func(ours *process, x row, kind string, shape []string, f func(a, b loadResult) float64, detail func(a, b loadResult) string) error {
		x.Figure = "K2"
		return r.pair(x, on(ours, kind, shape...), on(theirs.process, kind, shape...), f, detail)
	}
	both := func(x row, kind string, shape []string, f func(a, b loadResult) float64, detail func(a, b loadResult) string) error {
		return pair(ours, x, kind, shape, f, detail)
	}
	// A JVM compiles what runs often: it is given time to, and so are we.
	for range 3 {
		for _, p := range []*process{ours, apart, theirs.process, bare} {
			if _, err := p.load("produce", args("records", 300_000)...); err != nil {
				return err
			}
		}
	}
	used := func(a, b loadResult) string {
		return fmt.Sprintf("rustmq %.0f/s, Kafka %.0f/s; processor time of the brokers %.1f s, %.1f s", a.rate(), b.rate(), a.ServerCPU, b.ServerCPU)
	}
	for _, c := range []struct {
		ours      *process
		name      string
		kind      string
		shape     []string
		must, aim float64
		bound     string
	}{
		{ours, "produce 1 KiB, 1 connection, against Kafka, which does not sync", "produce", args("records", 1_000_000), 1.5, 3, sameClientBound},
		{ours, "produce 1 KiB, 8 connections, 100 partitions, against Kafka, which does not sync", "produce", args("records", 1_000_000, "connections", 8, "partitions", 100), 1.5, 3, logBound},
		{apart, "the same, the bucket on a device of its own", "produce", args("records", 1_000_000, "connections", 8, "partitions", 100), 1.5, 3, sameClientBound},
		{ours, "produce 1 KiB, 1 connection, against Kafka with flush.messages=1", "produce", args("records", 200_000, "config", "flush.messages=1"), 5, 20, sameClientBound},
		{ours, "produce 1 KiB, 8 connections, 100 partitions, against Kafka with flush.messages=1", "produce", args("records", 50_000, "connections", 8, "partitions", 100, "config", "flush.messages=1"), 5, 20, sameClientBound},
		{ours, "produce 1 KiB in batches made before, 8 connections, 100 partitions, against Kafka, which does not sync", "bare", args("records", 2_000_000, "connections", 8, "partitions", 100), 1.5, 3, logBound},
		{apart, "the same in batches made before, the bucket on a device of its own", "bare", args("records", 2_000_000, "connections", 8, "partitions", 100), 1.5, 3, logBound},
		{ours, "produce 1 KiB in batches made before, 1 connection, against Kafka with flush.messages=1", "bare", args("records", 100_000, "config", "flush.messages=1"), 5, 20, pipelineBound},
		{ours, "produce 1 KiB in batches made before, 8 connections, 100 partitions, against Kafka with flush.messages=1", "bare", args("records", 100_000, "connections", 8, "partitions", 100, "config", "flush.messages=1"), 5, 20, logBound},
		{ours, "transactions of ten records, 1 producer, against Kafka, which does not sync", "transactions", args("records", 500, "connections", 1), 2, 4, syncsBound},
		{ours, "transactions of ten records, 16 producers, against Kafka, which does not sync", "transactions", args("records", 4_000, "connections", 16), 2, 4, syncsBound},
	} {
		var floor measurement
		if c.kind != "transactions" {
			floor = on(bare, c.kind, c.shape...)
		}
		if err := r.beside(row{Figure: "K2", Name: c.name, Unit: "×", Must: c.must, Aim: c.aim, Bound: c.bound},
			on(c.ours, c.kind, c.shape...), on(theirs.process, c.kind, c.shape...), floor, rateRatio, used); err != nil {
			return err
		}
	}
	const records = 400_000
	for _, p := range []*process{ours, theirs.process} {
		if _, err := p.load("produce", append(args("records", records, "topic", "read"), "-keep")...); err != nil {
			return err
		}
	}
	if err := both(row{Name: "consume 1 KiB, 1 connection, against Kafka", Unit: "×", Must: 1, Aim: 1.5, Bound: sameClientBound},
		"consume", args("records", records, "topic", "read"), rateRatio, used); err != nil {
		return err
	}
	lone := args("records", 2_000)
	for _, c := range []struct{ name, config string }{{"p50 of a lone 1 KiB produce, durable, against Kafka, which does not sync", ""}, {"p50 of a lone 1 KiB produce, durable, against Kafka with flush.messages=1", "flush.messages=1"}} {
		if err := both(row{Name: c.name, Unit: "×", Less: true}, "lone", append(lone, args("config", c.config)...),
			func(a, b loadResult) float64 { return a.P50 / b.P50 },
			func(a, b loadResult) string {
				return fmt.Sprintf("p50 %.2f ms, p99 %.2f ms; Kafka %.2f, %.2f", a.P50/1000, a.P99/1000, b.P50/1000, b.P99/1000)
			}); err != nil {
			return err
		}
	}
	return r.afterwards(ours, theirs.process)
}

// afterwards adds what both brokers have used in all.
func (r *run) afterwards(ours, theirs *process) error {
	for _, p := range []*process{ours, theirs} {
		rss, err := p.rss()
		if err != nil {
			return err
		}
		cpu, err := p.cpu()
		if err != nil {
			return err
		}
		r.add(summarise(row{Figure: "K2", Name: "resident memory after all of the above, " + p.name, Unit: "MiB"}, []float64{float64(rss) / mib}))
		r.add(summarise(row{Figure: "K2", Name: "processor time of all of the above, " + p.name, Unit: "s"}, []float64{cpu.Seconds()}))
	}
	return nil
}
