package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

const (
	copiesRecords    = 200_000
	copiesPartitions = 12
	// copiesSettle is how long a cluster may take until what it was given is in its bucket.
	copiesSettle = time.Minute
)

// passed is what a load has had pass through all nodes of a cluster, in bytes.
type passed struct {
	produced float64
	syscalls float64 // read and written by system calls, of files and sockets: each is a copy
	device   float64 // written to files, once it is on its way to the device
	// of rustmq, by its own metrics
	sent, logged, uploaded, compacted float64
}

func (p passed) a(bytes float64) float64 { return bytes / p.produced }

// clusterMetrics are of each node of rustmq, in the order of passed.
var clusterMetrics = []string{
	"rustmq_broker_replication_sent_bytes_total", "rustmq_wal_appended_bytes_total", "rustmq_upload_bytes_total", "rustmq_compaction_written_bytes_total",
}

// passing is what has passed through a cluster so far.
func passing(p *process) (now passed, err error) {
	for _, n := range append([]*process{p}, p.others...) {
		io, err := n.io()
		if err != nil {
			return now, err
		}
		now.syscalls += float64(io.read + io.written)
		now.device += float64(io.device)
		if n.http == "" {
			continue
		}
		m, err := n.metrics(clusterMetrics...)
		if err != nil {
			return now, err
		}
		now.sent, now.logged, now.uploaded, now.compacted = now.sent+m[0], now.logged+m[1], now.uploaded+m[2], now.compacted+m[3]
	}
	return now, nil
}

// transfers are the bytes that a process has read and written by system calls, and those of
// files that are for a device.
type transfers struct{ read, written, device int64 }

func (p *process) io() (t transfers, err error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", p.id()))
	if err != nil {
		return t, err
	}
	for line := range strings.Lines(string(raw)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil {
			return t, fmt.Errorf("%q in the io of %s: %w", line, p.name, err)
		}
		switch name {
		case "rchar":
			t.read = n
		case "wchar":
			t.written = n
		case "write_bytes":
			t.device += n
		case "cancelled_write_bytes": // of files that were removed before
			t.device -= n
		}
	}
	return t, nil
}

// pass produces to a cluster, waits until that is where it is to be, and returns what passed.
func pass(p *process) (passed, error) {
	before, err := passing(p)
	if err != nil {
		return passed{}, err
	}
	topic := fmt.Sprintf("copies-%d", time.Now().UnixNano())
	shape := append(args("topic", topic, "records", copiesRecords, "partitions", copiesPartitions, "replicas", clusterSize, "connections", 4), "-keep")
	result, err := p.load("produce", shape...)
	if err != nil {
		return passed{}, err
	}
	if err := p.settled(); err != nil {
		return passed{}, err
	}
	now, err := passing(p)
	if err != nil {
		return passed{}, err
	}
	if err := p.deleteTopic(topic); err != nil {
		return passed{}, err
	}
	return passed{
		produced: float64(result.Bytes) * 1.05, // a twentieth warms up
		syscalls: now.syscalls - before.syscalls, device: now.device - before.device,
		sent: now.sent - before.sent, logged: now.logged - before.logged,
		uploaded: now.uploaded - before.uploaded, compacted: now.compacted - before.compacted,
	}, nil
}

// settled waits until nothing waits for the bucket; Apache Kafka has none.
func (p *process) settled() error {
	if p.http == "" {
		return nil
	}
	for began := time.Now(); ; time.Sleep(100 * time.Millisecond) {
		waiting := 0.0
		for _, n := range append([]*process{p}, p.others...) {
			w, err := n.metric("rustmq_upload_waiting_bytes")
			if err != nil {
				return err
			}
			waiting += w
		}
		switch {
		case waiting == 0:
			return nil
		case time.Since(began) > copiesSettle:
			return fmt.Errorf("%.0f bytes still wait for the bucket of %s", waiting, p.name)
		}
	}
}

// copied is the first part of K5: what passes through three nodes a produced byte, each
// record acked by all, beside three of Apache Kafka, which have no bucket.
func (r *run) copied() error {
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
	var syscalls, device, sent, logged, uploaded, compacted []float64
	var a, b passed
	for i := range r.pairs + 1 { // the first pair warms up: segments are made, and code is compiled
		if a, err = pass(ours); err != nil {
			return err
		}
		if b, err = pass(theirs); err != nil {
			return err
		}
		if i == 0 {
			continue
		}
		syscalls = append(syscalls, a.a(a.syscalls)/b.a(b.syscalls))
		device = append(device, a.a(a.device)/b.a(b.device))
		sent, logged = append(sent, a.a(a.sent)), append(logged, a.a(a.logged))
		uploaded, compacted = append(uploaded, a.a(a.uploaded)), append(compacted, a.a(a.compacted))
	}
	each := func(name string, ratios []float64, ours, theirs float64) {
		r.add(summarise(row{Figure: "K5", Name: name, Unit: "×", Less: true,
			Detail: fmt.Sprintf("a produced byte: rustmq %.2f, Kafka %.2f", ours, theirs)}, ratios))
	}
	each("copies by system calls of three nodes, acks=all, against Kafka, which has no bucket", syscalls, a.a(a.syscalls), b.a(b.syscalls))
	each("bytes written to files by three nodes, acks=all, against Kafka, which has no bucket", device, a.a(a.device), b.a(b.device))
	for _, x := range []struct {
		name  string
		bytes []float64
	}{
		{"of rustmq, a produced byte: pushed to followers", sent},
		{"of rustmq, a produced byte: appended to the three logs", logged},
		{"of rustmq, a produced byte: uploaded", uploaded},
		{"of rustmq, a produced byte: compacted in the bucket", compacted},
	} {
		r.add(summarise(row{Figure: "K5", Name: x.name, Unit: "B", Less: true}, x.bytes))
	}
	return nil
}

// shares is K5.
func (r *run) shares() error {
	if err := r.copied(); err != nil {
		return err
	}
	return r.joined()
}
