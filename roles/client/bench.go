package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	hdr "github.com/HdrHistogram/hdrhistogram-go"
	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// bench is `rustmq bench`.
type bench struct {
	connection
	records, size, partitions, clients int
	acks, output, topic                string
	keep                               bool
}

// benchResult is one measured load. Latencies are in milliseconds.
type benchResult struct {
	What    string             `json:"what"`
	Records int64              `json:"records"`
	Bytes   int64              `json:"bytes"`
	Seconds float64            `json:"seconds"`
	Rate    float64            `json:"records_per_second"`
	MBps    float64            `json:"megabytes_per_second"`
	Latency map[string]float64 `json:"latency_ms,omitempty"`
}

var benchLoads = []string{"produce", "consume", "e2e"}

// BenchCommand is `rustmq bench`.
func BenchCommand(e Env) *cobra.Command {
	b := &bench{connection: connection{env: e}}
	cmd := &cobra.Command{
		Use: "bench [produce|consume|e2e|all]", Short: "Measure rates and latencies of any Kafka broker", Args: cobra.MaximumNArgs(1),
		Long: "Measures a broker with a topic of its own, which is deleted afterwards.\n\n" +
			"produce: as fast as the client goes; latency is from the call to the ack, queueing included.\n" +
			"consume: the topic from its start.\n" +
			"e2e: one record at a time, from the call to its arrival at a consumer.\n\n" +
			"Half of each value is random; nothing is compressed.",
		RunE: func(cmd *cobra.Command, args []string) error {
			what := "all"
			if len(args) == 1 {
				what = args[0]
			}
			return b.run(cmd.Context(), cmd, what)
		},
	}
	b.flags(cmd)
	flags := cmd.Flags()
	flags.IntVarP(&b.records, "records", "n", 200_000, "records to produce and consume; e2e takes a hundredth")
	flags.IntVar(&b.size, "size", 1024, "bytes of a value")
	flags.IntVar(&b.partitions, "partitions", 4, "partitions of the topic")
	flags.IntVar(&b.clients, "clients", 1, "producers, each with its connection")
	flags.StringVar(&b.acks, "acks", "all", "0, 1 or all")
	flags.StringVar(&b.topic, "topic", "", "topic (default: a new one)")
	flags.BoolVar(&b.keep, "keep", false, "do not delete the topic")
	flags.StringVarP(&b.output, "output", "o", "table", "table or json")
	return cmd
}

func (b *bench) run(ctx context.Context, cmd *cobra.Command, what string) error {
	switch {
	case what != "all" && !slices.Contains(benchLoads, what):
		return usage("bench %q: want produce, consume, e2e or all", what)
	case b.records < 100 || b.size < 1 || b.partitions < 1 || b.clients < 1:
		return usage("bench: want at least 100 records, and sizes, partitions and clients from 1")
	case b.output != "table" && b.output != "json":
		return usage("--output %q: want table or json", b.output)
	}
	admin, done, err := b.open(ctx, cmd)
	if err != nil {
		return err
	}
	defer done()
	if b.topic == "" {
		b.topic = "bench-" + strconv.FormatInt(time.Now().UnixNano(), 36)
	}
	adm := kadm.NewClient(admin)
	if _, err := adm.CreateTopic(ctx, int32(b.partitions), -1, nil, b.topic); err != nil {
		return fmt.Errorf("make the topic %s: %w", b.topic, err)
	}
	if !b.keep {
		defer func() {
			late, cancel := context.WithTimeout(context.WithoutCancel(ctx), pingTimeout)
			defer cancel()
			_, _ = adm.DeleteTopics(late, b.topic) // the measurement is done either way
		}()
	}
	for _, load := range []struct {
		name string
		run  func(context.Context) (benchResult, error)
	}{{"produce", b.produce}, {"consume", b.consume}, {"e2e", b.endToEnd}} {
		// consume needs what produce wrote.
		needed := what == "all" || what == load.name || (what == "consume" && load.name == "produce")
		if !needed {
			continue
		}
		result, err := load.run(ctx)
		if err != nil {
			return fmt.Errorf("bench %s: %w", load.name, err)
		}
		if err := b.print(result); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) print(r benchResult) error {
	r.Rate = float64(r.Records) / r.Seconds
	r.MBps = float64(r.Bytes) / r.Seconds / 1e6
	if b.output == "json" {
		return json.NewEncoder(b.env.Stdout).Encode(r)
	}
	line := fmt.Sprintf("%-8s %9d records in %6.2f s  %10.0f/s  %8.1f MB/s", r.What, r.Records, r.Seconds, r.Rate, r.MBps)
	if r.Latency != nil {
		line += fmt.Sprintf("  p50 %.2f ms  p99 %.2f  p99.9 %.2f  max %.2f", r.Latency["p50"], r.Latency["p99"], r.Latency["p99.9"], r.Latency["max"])
	}
	_, err := fmt.Fprintln(b.env.Stdout, line)
	return err
}

func (b *bench) payload() []byte {
	value := make([]byte, b.size)
	rng := rand.New(rand.NewPCG(1, uint64(b.size)))
	for i := range value[:(b.size+1)/2] {
		value[i] = byte(rng.Uint32())
	}
	return value
}

func (b *bench) producer(ctx context.Context, opts ...kgo.Opt) (*kgo.Client, func(), error) {
	p := produce{acks: b.acks, codec: "none", partition: -1}
	base, err := p.options(b.topic)
	if err != nil {
		return nil, nil, err
	}
	return b.connect(ctx, append(base, opts...)...)
}

// percentiles of a histogram of microseconds.
func percentiles(h *hdr.Histogram) map[string]float64 {
	ms := func(us int64) float64 { return float64(us) / 1000 }
	return map[string]float64{
		"p50": ms(h.ValueAtQuantile(50)), "p90": ms(h.ValueAtQuantile(90)), "p99": ms(h.ValueAtQuantile(99)),
		"p99.9": ms(h.ValueAtQuantile(99.9)), "max": ms(h.Max()),
	}
}

// longestLatency is what the histograms can hold, in microseconds.
const longestLatency = int64(5 * time.Minute / time.Microsecond)

func (b *bench) produce(ctx context.Context) (benchResult, error) {
	hist := hdr.New(1, longestLatency, 3)
	var mu sync.Mutex // guards hist
	var failed atomic.Pointer[error]
	value := b.payload()
	var clients []*kgo.Client
	for range b.clients {
		cl, done, err := b.producer(ctx)
		if err != nil {
			return benchResult{}, err
		}
		defer done()
		clients = append(clients, cl)
	}
	var wait sync.WaitGroup
	began := time.Now()
	for i, cl := range clients {
		share := b.records / b.clients
		if i == 0 {
			share += b.records % b.clients
		}
		wait.Go(func() {
			for range share {
				if failed.Load() != nil {
					break
				}
				sent := time.Now()
				cl.Produce(ctx, &kgo.Record{Value: value}, func(_ *kgo.Record, err error) {
					if err != nil {
						failed.CompareAndSwap(nil, &err)
						return
					}
					mu.Lock()
					_ = hist.RecordValue(time.Since(sent).Microseconds())
					mu.Unlock()
				})
			}
			if err := cl.Flush(ctx); err != nil {
				failed.CompareAndSwap(nil, &err)
			}
		})
	}
	wait.Wait()
	if err := failed.Load(); err != nil {
		return benchResult{}, *err
	}
	return benchResult{What: "produce", Records: int64(b.records), Bytes: int64(b.records) * int64(b.size), Seconds: time.Since(began).Seconds(), Latency: percentiles(hist)}, nil
}

func (b *bench) consume(ctx context.Context) (benchResult, error) {
	cl, done, err := b.connect(ctx, kgo.ConsumeTopics(b.topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		return benchResult{}, err
	}
	defer done()
	r := benchResult{What: "consume"}
	began := time.Now()
	for r.Records < int64(b.records) {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return r, err
		}
		fetches.EachRecord(func(record *kgo.Record) { r.Records++; r.Bytes += int64(len(record.Value)) })
	}
	r.Seconds = time.Since(began).Seconds()
	return r, nil
}

func (b *bench) endToEnd(ctx context.Context) (benchResult, error) {
	cl, done, err := b.producer(ctx, kgo.ProducerLinger(0), kgo.ConsumeTopics(b.topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtEnd()), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		return benchResult{}, err
	}
	defer done()
	if b.acks == "0" {
		return benchResult{}, errors.New("e2e needs acks")
	}
	hist := hdr.New(1, longestLatency, 3)
	value := b.payload()
	total := max(b.records/100, 100)
	const warmUp = 20
	began := time.Now()
	for i := range total + warmUp {
		if i == warmUp {
			began = time.Now()
		}
		sent := time.Now()
		if err := cl.ProduceSync(ctx, &kgo.Record{Value: value}).FirstErr(); err != nil {
			return benchResult{}, err
		}
		for {
			fetches := cl.PollFetches(ctx)
			if err := fetches.Err(); err != nil {
				return benchResult{}, err
			}
			if fetches.NumRecords() > 0 {
				break
			}
		}
		if i >= warmUp {
			_ = hist.RecordValue(time.Since(sent).Microseconds())
		}
	}
	return benchResult{What: "e2e", Records: int64(total), Bytes: int64(total) * int64(b.size), Seconds: time.Since(began).Seconds(), Latency: percentiles(hist)}, nil
}
