package roles_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sys/unix"

	"rustmq.dev/rustmq/etl/abi"
	"rustmq.dev/rustmq/etl/batteries"
	"rustmq.dev/rustmq/etl/pipeline"
	"rustmq.dev/rustmq/etl/wasm"
	"rustmq.dev/rustmq/roles/etl/async"
	"rustmq.dev/rustmq/storage/batch"
)

// oneOf decides as a filter does that keeps one record of so many.
type oneOf byte

func (n oneOf) Transform(_ context.Context, b *abi.Batch) ([]abi.Decision, error) {
	all := make([]abi.Decision, len(b.Records))
	for i := range b.Records {
		if v := b.Records[i].Value; len(v) > 0 && v[0]%byte(n) != 0 {
			all[i].Action = abi.Drop
		}
	}
	return all, nil
}

// processorTime is what this process has used.
func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var used unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// BenchmarkAsync has a backlog of earthquakes pass into another topic, exactly once, beside the
// partitions' leaders, and by a client outside with the same module, in the clear and over TLS.
// All run in this process, over the same broker: what they use of the processor is all that
// there is. The filter is Go's, so that what is left is the way; the battery is WebAssembly.
// Bare is what no way avoids, without a broker: expand, read, ask the module, and make batches of
// what it keeps. The first round of each is not counted.
//
//	go test -bench Async -benchtime 4x ./roles
func BenchmarkAsync(b *testing.B) {
	battery, ok := batteries.Find("project")
	if !ok {
		b.Fatal("there is no such battery")
	}
	engine, err := wasm.New(wasm.Options{})
	must(b, err)
	b.Cleanup(func() { must(b, engine.Close()) })
	project, err := engine.Load(b.Context(), battery.Wasm(), wasm.ModuleOptions{
		Name: "project", Version: 1, Deadline: time.Second,
		Config: []byte(`{"rules":[{"when":"mag >= 5","set":{"place":"upper(place)"}},{"when":"true","action":"drop"}]}`),
	})
	must(b, err)
	b.Cleanup(project.Close)
	for _, m := range []struct {
		name   string
		module pipeline.Transformer
	}{{"filter", oneOf(32)}, {"keep", oneOf(1)}, {"project", project}} {
		for _, codec := range []string{"none", "lz4"} {
			for _, side := range []string{"inside", "bare", "outside", "outside-tls"} {
				b.Run(fmt.Sprintf("module=%s/codec=%s/side=%s", m.name, codec, side), func(b *testing.B) {
					if side == "bare" {
						benchmarkBare(b, m.module, codec)
						return
					}
					benchmarkAsync(b, m.module, codec, side)
				})
			}
		}
	}
}

// asyncRecords is how many records a round of the benchmark has: with all that is made of them,
// they are fewer bytes than begin an upload.
const asyncRecords = 350_000

// earthquakes are the values of the records.
func earthquakes(b *testing.B) [][]byte {
	b.Helper()
	catalogue, err := os.ReadFile("../test/data/earthquakes.ndjson")
	must(b, err)
	lines := bytes.Split(bytes.TrimSpace(catalogue), []byte("\n"))
	b.SetBytes(asyncRecords * int64(len(catalogue)/len(lines)))
	return lines
}

// countRounds reports what rounds use of the processor, but for the first.
func countRounds(b *testing.B, round func(name string)) {
	b.Helper()
	round("m0")
	runtime.GC() // what was made to measure with is no part of it
	var used time.Duration
	rounds := 0
	for b.Loop() {
		rounds++
		before := processorTime(b)
		round(fmt.Sprint("m", rounds))
		used += processorTime(b) - before
	}
	b.ReportMetric(float64(used)/float64(asyncRecords*rounds), "cpu-ns/record")
}

// benchmarkBare has batches in memory, such as producers make, pass the module.
func benchmarkBare(b *testing.B, module pipeline.Transformer, codec string) {
	const inBatch, at = 3000, 1024
	lines := earthquakes(b)
	o := batch.BuilderOptions{}
	if codec == "lz4" {
		o.Codec = batch.LZ4
	}
	in := batch.NewBuilder(o)
	var batches []batch.Batch
	for i := range asyncRecords {
		in.Add(1000, nil, lines[i%len(lines)])
		if in.Len() == inBatch || i == asyncRecords-1 {
			made, err := in.Build()
			must(b, err)
			batches = append(batches, made)
			in.Reset(o)
		}
	}
	memory, out := make([]byte, 2<<20), batch.NewBuilder(o)
	piece := &abi.Batch{Topic: "in", Records: make([]abi.Record, 0, at)}
	decide := func() {
		if len(piece.Records) == 0 {
			return
		}
		decisions, err := module.Transform(b.Context(), piece)
		must(b, err)
		for i := range piece.Records {
			r := piece.Records[i]
			if decisions != nil {
				if decisions[i].Action == abi.Drop {
					continue
				}
				if decisions[i].Replaces&abi.Value != 0 {
					r.Value = decisions[i].Value
				}
			}
			if out.Add(r.Timestamp, r.Key, r.Value); out.Size() >= 512<<10 {
				_, err := out.Build()
				must(b, err)
				out.Reset(o)
			}
		}
		piece.Records = piece.Records[:0]
	}
	countRounds(b, func(string) {
		for _, one := range batches {
			it := one.RecordsIn(memory, 0)
			for it.Next() {
				r := it.Record()
				piece.Records = append(piece.Records, abi.Record{Timestamp: r.Timestamp, Offset: int64(r.Offset), Key: r.Key, Value: r.Value})
				if len(piece.Records) == at {
					decide()
				}
			}
			must(b, it.Err())
			decide() // before the memory is written to again
		}
	})
}

func benchmarkAsync(b *testing.B, module pipeline.Transformer, codec, side string) {
	const partitions = 4
	tls := "off"
	if side == "outside-tls" {
		tls = "on"
	}
	// What is uploaded meanwhile is no part of it.
	node := startNode(b, "network.tls="+tls, "wal.capacity=4GiB", "wal.memory=1GiB", "wal.upload_interval=1h", "wal.upload_bytes=512MiB")
	dial := []kgo.Opt{kgo.SeedBrokers(node.Kafka()), kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.RecordPartitioner(kgo.ManualPartitioner())}
	if codec == "lz4" {
		dial = append(dial, kgo.ProducerBatchCompression(kgo.Lz4Compression()))
	}
	if tls == "on" {
		dial = append(dial, kgo.DialTLSConfig(trusting(b, node.CAFile())))
	}
	cl, err := kgo.NewClient(dial...)
	must(b, err)
	defer cl.Close()
	admin := kadm.NewClient(cl)
	made, err := admin.CreateTopics(b.Context(), partitions, -1, nil, "in", "out")
	must(b, err)
	must(b, made.Error())
	lines := earthquakes(b)
	for i := range asyncRecords {
		cl.Produce(b.Context(), &kgo.Record{Topic: "in", Partition: int32(i % partitions), Value: lines[i%len(lines)]}, nil)
	}
	must(b, cl.Flush(b.Context()))
	countRounds(b, func(name string) {
		if side == "inside" {
			node.Async().Set([]async.Task{{Name: name, Version: 1, Transformer: module, Spec: asyncSpec(b, `{"mode":"async","topics":["in"],"output":"out","on_failure":"pass"}`)}})
			awaitGroup(b, admin, async.GroupID(name), asyncRecords)
		} else {
			transformOutside(b, dial, module, name, asyncRecords)
		}
	})
}

// trusting trusts the authority in a file alone.
func trusting(b *testing.B, file string) *tls.Config {
	b.Helper()
	text, err := os.ReadFile(file)
	must(b, err)
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		b.Fatal("no certificate in", file)
	}
	return &tls.Config{RootCAs: pool}
}

func awaitGroup(b *testing.B, admin *kadm.Client, group string, records int) {
	b.Helper()
	await(b, "all records are read", 5*time.Minute, func() bool {
		offsets, err := admin.FetchOffsets(b.Context(), group)
		must(b, err)
		done := int64(0)
		offsets.Each(func(o kadm.OffsetResponse) { done += max(0, o.At) })
		return done >= int64(records)
	})
}

// transformOutside does what the task does, as a client of its own.
func transformOutside(b *testing.B, dial []kgo.Opt, module pipeline.Transformer, group string, records int) {
	b.Helper()
	s, err := kgo.NewGroupTransactSession(append(slices.Clip(dial), kgo.ConsumerGroup(group), kgo.ConsumeTopics("in"), kgo.TransactionalID(group),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))...)
	must(b, err)
	defer s.Close()
	for done := 0; done < records; {
		must(b, s.Begin())
		for began := time.Now(); time.Since(began) < 100*time.Millisecond && done < records; {
			fetches := s.PollFetches(b.Context())
			must(b, fetches.Err())
			fetches.EachPartition(func(p kgo.FetchTopicPartition) {
				batch := &abi.Batch{Topic: p.Topic, Partition: p.Partition}
				for _, r := range p.Records {
					batch.Records = append(batch.Records, abi.Record{Timestamp: r.Timestamp.UnixMilli(), Offset: r.Offset, Key: r.Key, Value: r.Value})
				}
				for at := 0; at < len(batch.Records); at += 1024 {
					part := *batch
					part.Records = batch.Records[at:min(at+1024, len(batch.Records))]
					decisions, err := module.Transform(b.Context(), &part)
					must(b, err)
					for i := range part.Records {
						r := &kgo.Record{Topic: "out", Partition: p.Partition, Key: part.Records[i].Key, Value: part.Records[i].Value, Timestamp: p.Records[at+i].Timestamp}
						if decisions != nil {
							if decisions[i].Action == abi.Drop {
								continue
							}
							if decisions[i].Replaces&abi.Value != 0 {
								r.Value = decisions[i].Value
							}
						}
						s.Produce(b.Context(), r, nil)
					}
				}
				done += len(p.Records)
			})
		}
		ok, err := s.End(b.Context(), kgo.TryCommit)
		must(b, err)
		if !ok {
			b.Fatal("the transaction was aborted")
		}
	}
}
