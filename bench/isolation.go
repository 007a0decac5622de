package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"rustmq.dev/rustmq/bench/report"
)

// steadyRate is how many records a second a steady load produces and consumes: far
// from what the server can do, so that what is waited for is seen.
const (
	steadyRate    = 1000
	steadySeconds = 6
)

// isolation is B3: what produce and the tail notice of the bucket.
func (r *run) isolation() error {
	if err := r.besideReader(); err != nil {
		return err
	}
	return r.withoutBucket()
}

// besideReader measures a steady load alone, and beside a consumer that reads cold
// records as fast as it can while the same records are compacted. The store and
// that consumer would be other machines, and get the processor that is left.
func (r *run) besideReader() error {
	const records, size = 48 << 10, 16 << 10 // 768 MiB in objects of 2 MiB
	store, err := startS3(true)
	if err != nil {
		return err
	}
	defer store.stop()
	set := append(bucketOf(store.addr, smallLogs()...), "wal.upload_bytes=2MiB", "object_storage.grace=1s", "object_storage.retention_interval=1s", "object_storage.metadata_log_interval=1s")
	alone := append(set[:len(set):len(set)], "compaction.parallel=0")
	compacting := append(set[:len(set):len(set)], "compaction.interval=1s")
	ours, err := startRustmqIn(s3Env(), "rustmq", alone...)
	if err != nil {
		return err
	}
	defer ours.stop()
	steady := func() (loadResult, error) {
		return ours.load("steady", args("records", steadyRate, "seconds", steadySeconds, "size", recordBytes)...)
	}
	bare, err := startPeer("a bare broker", "broker", "-store", store.addr)
	if err != nil {
		return err
	}
	defer bare.stop()
	var floors floorBeside
	var produce, tail []float64
	var without, with loadResult
	var read, compacted float64
	for i := range r.pairs + 1 { // the first warms up
		if err := ours.restartWith(alone...); err != nil {
			return err
		}
		topic := fmt.Sprintf("old-%d", i)
		if _, err := ours.load("produce", append(args("topic", topic, "records", records, "size", size), "-keep")...); err != nil {
			return err
		}
		if _, err := ours.load("produce", args("records", smallLog*5/4/size, "size", size)...); err != nil {
			return err
		}
		if err := ours.uploaded(); err != nil {
			return err
		}
		if err := floors.measure(bare, store, i > 0); err != nil {
			return err
		}
		if without, err = steady(); err != nil {
			return err
		}
		if err := ours.restartWith(compacting...); err != nil {
			return err
		}
		end, err := ours.elsewhere("catchup", args("topic", topic, "records", records)...)
		if err != nil {
			return err
		}
		if err := await("begin to compact", 20*time.Second, func() (bool, error) {
			pending, err := ours.metric("rustmq_compaction_pending_objects")
			return pending > 0, err
		}); err != nil {
			return err
		}
		with, err = steady()
		old, failed := end()
		if err != nil || failed != nil {
			return fmt.Errorf("steady load: %w; reader: %w", err, failed)
		}
		did, err := ours.metrics("rustmq_compaction_written_bytes_total", "rustmq_compaction_pending_objects")
		if err != nil {
			return err
		}
		compacted, read = did[0], float64(old.Bytes)/old.Seconds
		if read < mib || did[0]+did[1] == 0 {
			return fmt.Errorf("%.0f bytes a second were read and nothing was compacted: the figure shows nothing", read)
		}
		if err := ours.deleteTopic(topic); err != nil {
			return err
		}
		if i > 0 {
			produce = append(produce, with.P99/without.P99)
			tail = append(tail, with.TailP99/without.TailP99)
		}
	}
	beside := fmt.Sprintf("reader %.0f MB/s, compacted %s MiB", read/1e6, report.Number(compacted/mib))
	r.add(summarise(row{Figure: "B3", Name: "p99 of produce beside a cold reader and compaction, against without", Unit: "×", Must: 1.5, Aim: 1.2, Less: true, Bound: isolatedBound,
		Detail: fmt.Sprintf("%.2f ms, without %.2f ms (p50 %.2f, %.2f); %s", with.P99/1000, without.P99/1000, with.P50/1000, without.P50/1000, beside)}, produce))
	r.add(summarise(row{Figure: "B3", Name: "p99 from produce to a tail consumer beside them, against without", Unit: "×", Must: 1.5, Aim: 1.2, Less: true, Bound: isolatedBound,
		Detail: fmt.Sprintf("%.2f ms, without %.2f ms (p50 %.2f, %.2f)", with.TailP99/1000, without.TailP99/1000, with.TailP50/1000, without.TailP50/1000)}, tail))
	floors.add(r)
	return nil
}

// floorBeside is what the machine allows: the same load of a process that syncs and answers,
// and passes the same objects on to a reader, and does nothing else.
type floorBeside struct {
	produce, tail []float64
	without, with loadResult
	read          float64 // bytes a second
}

func (f *floorBeside) measure(bare *process, store *s3Server, counts bool) error {
	steady := func() (loadResult, error) {
		return bare.load("baresteady", args("records", steadyRate, "seconds", steadySeconds)...)
	}
	var err error
	if f.without, err = steady(); err != nil {
		return err
	}
	end, err := bare.elsewhere("barecatchup", args("dir", store.root)...)
	if err != nil {
		return err
	}
	with, err := steady()
	read, failed := end()
	if err = errors.Join(err, failed); err != nil {
		return fmt.Errorf("bare broker: %w", err)
	}
	f.with, f.read = with, float64(read.Bytes)/read.Seconds
	if counts {
		f.produce = append(f.produce, f.with.P99/f.without.P99)
		f.tail = append(f.tail, f.with.TailP99/f.without.TailP99)
	}
	return nil
}

func (f *floorBeside) add(r *run) {
	r.add(summarise(row{Figure: "B3", Name: "the same p99 of a bare process that syncs and answers, beside a reader of the same objects through it", Unit: "×",
		Detail: fmt.Sprintf("%.2f ms, without %.2f ms (p50 %.2f, %.2f); reader %.0f MB/s, no compaction", f.with.P99/1000, f.without.P99/1000, f.with.P50/1000, f.without.P50/1000, f.read/1e6)}, f.produce))
	r.add(summarise(row{Figure: "B3", Name: "the same p99 to its tail consumer", Unit: "×",
		Detail: fmt.Sprintf("%.2f ms, without %.2f ms (p50 %.2f, %.2f)", f.with.TailP99/1000, f.without.TailP99/1000, f.with.TailP50/1000, f.without.TailP50/1000)}, f.tail))
}

// elsewhere starts a load of p that stands for another machine and goes on until end.
func (p *process) elsewhere(kind string, more ...string) (end func() (loadResult, error), err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	line, err := elsewhere(append([]string{self, "load", kind, "-broker", p.addr}, more...)...)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(line[0], line[1:]...)
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return func() (result loadResult, err error) {
		_ = in.Close()
		if err := cmd.Wait(); err != nil {
			return result, fmt.Errorf("reader: %w: %s", err, stderr.String())
		}
		return result, json.Unmarshal(stdout.Bytes(), &result)
	}, nil
}

// deleteTopic deletes a topic, so that its objects go too.
func (p *process) deleteTopic(name string) error {
	cl, err := shape{broker: p.addr}.client()
	if err != nil {
		return err
	}
	defer cl.Close()
	_, err = kadm.NewClient(cl).DeleteTopics(context.Background(), name)
	return err
}

// withoutBucket produces one record at a time with the bucket there, and without.
func (r *run) withoutBucket() error {
	store, err := startS3(true)
	if err != nil {
		return err
	}
	defer store.stop()
	proxy, err := startCounting(store.addr)
	if err != nil {
		return err
	}
	defer proxy.stop()
	// There is something to upload all the time.
	ours, err := startRustmqIn(s3Env(), "rustmq", bucketOf(proxy.addr, "wal.upload_interval=250ms")...)
	if err != nil {
		return err
	}
	defer ours.stop()
	lone := func(down bool) measurement {
		return func() (loadResult, error) {
			proxy.down(down)
			if !down { // uploads are under way again once what waits has been taken
				if _, err := ours.load("produce", append(args("topic", fmt.Sprintf("back-%d", time.Now().UnixNano()), "records", 1000), "-keep")...); err != nil {
					return loadResult{}, err
				}
				if err := ours.uploaded(); err != nil {
					return loadResult{}, err
				}
			}
			watched := []string{`rustmq_bucket_failures_total{class="put"}`, "rustmq_bucket_refused_total", "rustmq_upload_objects_total"}
			before, err := ours.metrics(watched...)
			if err != nil {
				return loadResult{}, err
			}
			result, err := ours.load("lone", args("records", 4000)...)
			if err != nil {
				return result, err
			}
			after, err := ours.metrics(watched...)
			if err != nil {
				return result, err
			}
			failed, done := after[0]+after[1]-before[0]-before[1], after[2]-before[2]
			if down && failed == 0 || !down && done == 0 {
				err = fmt.Errorf("bucket down %v: %.0f calls failed and %.0f uploads succeeded meanwhile: the figure shows nothing", down, failed, done)
			}
			return result, err
		}
	}
	return r.pair(row{Figure: "B3", Name: "p50 of produce with the bucket down, against it up", Unit: "×", Must: 1.1, Less: true},
		lone(true), lone(false), func(a, b loadResult) float64 { return a.P50 / b.P50 },
		func(a, b loadResult) string {
			return fmt.Sprintf("p50 %.2f ms, p99 %.2f ms; up %.2f, %.2f", a.P50/1000, a.P99/1000, b.P50/1000, b.P99/1000)
		})
}
