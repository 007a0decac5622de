package roles_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sys/unix"

	"rustmq.dev/rustmq/etl/abi"
	"rustmq.dev/rustmq/etl/pipeline"
	"rustmq.dev/rustmq/roles"
	"rustmq.dev/rustmq/roles/etl/async"
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

// BenchmarkAsync filters a backlog into another topic, exactly once, beside the partitions'
// leaders, and as a client outside would. Both run in this process, over the same broker:
// what they use of the processor is all that there is.
//
//	go test -bench Async -benchtime 1x ./roles
func BenchmarkAsync(b *testing.B) {
	for _, size := range []int{128, 1024} {
		for _, codec := range []string{"none", "lz4"} {
			for _, keeps := range []oneOf{1, 32} {
				for _, side := range []string{"inside", "outside"} {
					b.Run(fmt.Sprintf("size=%d/codec=%s/keeps=1of%d/side=%s", size, codec, keeps, side), func(b *testing.B) { benchmarkAsync(b, size, codec, keeps, side) })
				}
			}
		}
	}
}

func benchmarkAsync(b *testing.B, size int, codec string, keeps oneOf, side string) {
	const partitions = 4
	records := 64 << 20 / size
	node := startNode(b, "wal.capacity=4GiB", "wal.memory=1GiB", "wal.upload_interval=1h", "wal.upload_bytes=512MiB") // what is uploaded meanwhile is no part of it
	compression := kgo.NoCompression()
	if codec == "lz4" {
		compression = kgo.Lz4Compression()
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(node.Kafka()), kgo.ProducerBatchCompression(compression), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	must(b, err)
	defer cl.Close()
	admin := kadm.NewClient(cl)
	made, err := admin.CreateTopics(b.Context(), partitions, -1, nil, "in", "out")
	must(b, err)
	must(b, made.Error())
	random := rand.New(rand.NewPCG(1, 2))
	words := make([]byte, 64<<10) // of which half can be compressed
	for i := range words {
		words[i] = byte(random.IntN(32)) + 'A'
	}
	for i := range records {
		at := random.IntN(len(words) - size)
		cl.Produce(b.Context(), &kgo.Record{Topic: "in", Partition: int32(i % partitions), Key: []byte("key"), Value: words[at : at+size]}, nil)
	}
	must(b, cl.Flush(b.Context()))
	b.SetBytes(int64(records) * int64(size))
	var used time.Duration
	rounds := 0
	for b.Loop() {
		rounds++
		name := fmt.Sprint("m", rounds)
		before := processorTime(b)
		if side == "inside" {
			node.Async().Set([]async.Task{{Name: name, Version: 1, Transformer: keeps, Spec: asyncSpec(b, `{"mode":"async","topics":["in"],"output":"out","on_failure":"pass"}`)}})
			awaitGroup(b, admin, async.GroupID(name), records)
		} else {
			transformOutside(b, node, compression, keeps, name, records)
		}
		used += processorTime(b) - before
	}
	b.ReportMetric(float64(used)/float64(records*rounds), "cpu-ns/record")
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
func transformOutside(b *testing.B, node *roles.Node, compression kgo.CompressionCodec, module pipeline.Transformer, group string, records int) {
	b.Helper()
	s, err := kgo.NewGroupTransactSession(kgo.SeedBrokers(node.Kafka()), kgo.ConsumerGroup(group), kgo.ConsumeTopics("in"), kgo.TransactionalID(group),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.RequireStableFetchOffsets(), kgo.ProducerBatchCompression(compression), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.ProducerLinger(5*time.Millisecond))
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
				decisions, err := module.Transform(b.Context(), batch)
				must(b, err)
				for i, d := range decisions {
					if d.Action == abi.Keep {
						r := p.Records[i]
						s.Produce(b.Context(), &kgo.Record{Topic: "out", Partition: r.Partition, Key: r.Key, Value: r.Value, Timestamp: r.Timestamp}, nil)
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
