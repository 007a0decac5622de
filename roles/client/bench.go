package client

import (
	"context"
	"encoding/binary"
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
	"github.com/twmb/franz-go/pkg/kmsg"
)

// bench is `rustmq bench`.
type bench struct {
	connection
	records, size, partitions, clients, inFlight int
	duration                                     time.Duration
	acks, codec, output, topic                   string
	keep                                         bool

	produced int64 // by this run
}

// benchResult is one measured load. Latencies are in milliseconds.
type benchResult struct {
	What      string             `json:"what"`
	Transport string             `json:"transport"`
	Size      int                `json:"size"`
	Acks      string             `json:"acks"`
	Records   int64              `json:"records"`
	Bytes     int64              `json:"bytes"`
	Seconds   float64            `json:"seconds"`
	Rate      float64            `json:"records_per_second"`
	MBps      float64            `json:"megabytes_per_second"`
	Latency   map[string]float64 `json:"latency_ms"`
}

var benchLoads = []string{"produce", "consume", "e2e"}

const (
	// payloads is how many values a load goes round, so that neither caches nor
	// codecs see one value over and over.
	payloads = 64
	// warmUp is how many records of e2e are not measured.
	warmUp = 20
	// longestLatency is what the histograms can hold, in microseconds.
	longestLatency = int64(5 * time.Minute / time.Microsecond)
	// silence is after how long without an answer a load fails.
	silence = time.Minute
)

// BenchCommand is `rustmq bench`.
func BenchCommand(e Env) *cobra.Command {
	b := &bench{connection: connection{env: e}}
	cmd := &cobra.Command{
		Use: "bench [produce|consume|e2e|all]", Short: "Measure rates and latencies of any Kafka broker", Args: cobra.MaximumNArgs(1),
		Example: "  rustmq bench\n  rustmq bench produce --size 100 --clients 8 --duration 10s -o json\n  rustmq bench e2e -b other:9092 --transport tcp",
		Long: "Measures a broker with a topic of its own, which is deleted afterwards.\n\n" +
			"produce  as fast as the client goes; latency is from the call to the ack, waiting\n         for one of --in-flight places included\n" +
			"consume  the topic from its start; latency is that of a fetch\n" +
			"e2e      one record at a time, from the call to its arrival at a consumer\n\n" +
			"Half of each value is random, and nothing is compressed unless asked for.",
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
	flags.DurationVar(&b.duration, "duration", 0, "produce, or send e2e, for that long, whatever --records says")
	flags.IntVar(&b.size, "size", 1024, "bytes of a value")
	flags.IntVar(&b.partitions, "partitions", 4, "partitions of the topic")
	flags.IntVar(&b.clients, "clients", 1, "producers, each with connections of its own")
	flags.IntVar(&b.inFlight, "in-flight", 10_000, "records of a producer that wait for their ack")
	flags.StringVar(&b.acks, "acks", "all", "0, 1 or all")
	flags.StringVarP(&b.codec, "compression", "z", "none", "none, gzip, snappy, lz4 or zstd")
	flags.StringVar(&b.topic, "topic", "", "topic, made if it is not there (default: a new one)")
	flags.BoolVar(&b.keep, "keep", false, "do not delete the topic")
	flags.StringVarP(&b.output, "output", "o", "table", "table, or json: one object a line")
	cmd.ValidArgs = append(slices.Clone(benchLoads), "all")
	b.complete(cmd)
	return cmd
}

func (b *bench) run(ctx context.Context, cmd *cobra.Command, what string) error {
	switch {
	case what != "all" && !slices.Contains(benchLoads, what):
		return usage("bench %q: want produce, consume, e2e or all", what)
	case b.size < 8 || b.size > largestValue:
		return usage("--size %d: want 8 to %d bytes", b.size, largestValue)
	case b.duration < 0:
		return usage("--duration %v: want 0 or more", b.duration)
	case b.acks == "0" && what != "produce":
		return usage("bench %s: what no one acks cannot be waited for: want --acks 1 or all", what)
	case b.output != "table" && b.output != "json":
		return usage("--output %q: want table or json", b.output)
	}
	for _, number := range []struct {
		flag  string
		value int
	}{{"records", b.records}, {"partitions", b.partitions}, {"clients", b.clients}, {"in-flight", b.inFlight}} {
		if number.value < 1 {
			return usage("--%s %d: want 1 or more", number.flag, number.value)
		}
	}
	if _, err := b.options(); err != nil {
		return err
	}
	cl, done, err := b.open(ctx, cmd)
	if err != nil {
		return err
	}
	defer done()
	adm := kadm.NewClient(cl)
	if b.topic == "" {
		b.topic = "bench-" + strconv.FormatInt(time.Now().UnixNano(), 36)
	}
	_, made, err := makeTopic(ctx, cl, b.topic, b.partitions)
	if made && !b.keep {
		defer deleteTopic(ctx, adm, b.topic)
	}
	if err != nil {
		return err
	}
	for _, load := range []struct {
		name string
		run  func(context.Context, *kadm.Client) (benchResult, error)
	}{{"produce", b.produce}, {"consume", b.consume}, {"e2e", b.endToEnd}} {
		measured := what == "all" || what == load.name
		// consume needs what produce writes.
		if !measured && !(what == "consume" && load.name == "produce") {
			continue
		}
		result, err := load.run(ctx, adm)
		if ctx.Err() != nil {
			return errors.New("bench: interrupted: what is not printed was not measured")
		}
		if err != nil {
			return fmt.Errorf("bench %s: %w", load.name, err)
		}
		if !measured {
			continue
		}
		result.What = load.name
		if err := b.print(result); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) print(r benchResult) error {
	r.Transport, r.Size, r.Acks = b.transport, b.size, b.acks
	if b.tls && b.transport == "tcp" {
		r.Transport = "tls"
	}
	r.Rate = float64(r.Records) / r.Seconds
	r.MBps = float64(r.Bytes) / r.Seconds / 1e6
	if b.output == "json" {
		return json.NewEncoder(b.env.Stdout).Encode(r)
	}
	_, err := fmt.Fprintf(b.env.Stdout, "%-8s %9d records in %6.2f s  %10.0f/s  %8.1f MB/s  ms: p50 %.2f  p90 %.2f  p99 %.2f  p99.9 %.2f  max %.2f\n",
		r.What, r.Records, r.Seconds, r.Rate, r.MBps, r.Latency["p50"], r.Latency["p90"], r.Latency["p99"], r.Latency["p99.9"], r.Latency["max"])
	return err
}

// options say how to produce.
func (b *bench) options() ([]kgo.Opt, error) {
	p := produce{acks: b.acks, codec: b.codec, partition: -1, maxBytes: max(1000012, int32(b.size)+1024), timeout: silence}
	options, err := p.options(b.topic)
	return append(options, kgo.RecordDeliveryTimeout(silence)), err
}

// values are half random, half the same.
func (b *bench) values() [][]byte {
	rng := rand.New(rand.NewPCG(1, uint64(b.size)))
	values := make([][]byte, payloads)
	for i := range values {
		values[i] = make([]byte, b.size)
		for j := range values[i][:(b.size+1)/2] {
			values[i][j] = byte(rng.Uint32())
		}
	}
	return values
}

// latencies is a histogram of microseconds. It is safe for concurrent use.
type latencies struct {
	mu   sync.Mutex
	hist *hdr.Histogram // guarded by mu
}

func newLatencies() *latencies { return &latencies{hist: hdr.New(1, longestLatency, 3)} }

func (l *latencies) add(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	_ = l.hist.RecordValue(min(max(d.Microseconds(), 1), longestLatency)) // in its range
}

func (l *latencies) percentiles() map[string]float64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	ms := func(us int64) float64 { return float64(us) / 1000 }
	return map[string]float64{
		"p50": ms(l.hist.ValueAtQuantile(50)), "p90": ms(l.hist.ValueAtQuantile(90)), "p99": ms(l.hist.ValueAtQuantile(99)),
		"p99.9": ms(l.hist.ValueAtQuantile(99.9)), "max": ms(l.hist.Max()),
	}
}

// OnBrokerE2E is called by franz-go with the time that a request took.
func (l *latencies) OnBrokerE2E(_ kgo.BrokerMetadata, key int16, e kgo.BrokerE2E) {
	if key == int16(kmsg.Fetch) && e.Err() == nil {
		l.add(e.DurationE2E())
	}
}

// produce sends from all producers at once, and waits for the last ack.
func (b *bench) produce(ctx context.Context, _ *kadm.Client) (benchResult, error) {
	options, err := b.options()
	if err != nil {
		return benchResult{}, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var producers []*kgo.Client
	for range b.clients {
		cl, err := b.connect(append(slices.Clone(options), kgo.MaxBufferedRecords(b.inFlight))...)
		if err != nil {
			return benchResult{}, err
		}
		defer cl.Close()
		if err := ping(ctx, cl); err != nil { // dials are not measured
			return benchResult{}, b.unreachable(err)
		}
		producers = append(producers, cl)
	}
	values, latency := b.values(), newLatencies()
	var acked atomic.Int64
	began := time.Now()
	defer b.env.progress(func() string { return fmt.Sprintf("produce: %d records acked", acked.Load()) })()
	var wait sync.WaitGroup
	for i, cl := range producers {
		share := b.records / b.clients
		if i < b.records%b.clients {
			share++
		}
		wait.Go(func() {
			for n := 0; ctx.Err() == nil && b.more(n, share, began); n++ {
				sent := time.Now()
				cl.Produce(ctx, &kgo.Record{Value: values[n%payloads]}, func(_ *kgo.Record, err error) {
					if err != nil {
						cancel(err)
						return
					}
					latency.add(time.Since(sent))
					acked.Add(1)
				})
			}
			if err := cl.Flush(ctx); err != nil {
				cancel(err)
			}
		})
	}
	wait.Wait()
	if err := context.Cause(ctx); err != nil {
		return benchResult{}, err
	}
	b.produced = acked.Load()
	return b.result(b.produced, began, latency), nil
}

// more tells whether another record is due.
func (b *bench) more(n, records int, began time.Time) bool {
	if b.duration > 0 {
		return time.Since(began) < b.duration
	}
	return n < records
}

func (b *bench) result(records int64, began time.Time, latency *latencies) benchResult {
	return benchResult{Records: records, Bytes: records * int64(b.size), Seconds: time.Since(began).Seconds(), Latency: latency.percentiles()}
}

// consume reads as many records as were produced.
func (b *bench) consume(ctx context.Context, adm *kadm.Client) (benchResult, error) {
	at, err := b.at(ctx, adm, false)
	if err != nil {
		return benchResult{}, err
	}
	latency := newLatencies()
	began := time.Now()
	cl, err := b.connect(kgo.ConsumePartitions(at), kgo.WithHooks(latency))
	if err != nil {
		return benchResult{}, err
	}
	defer cl.Close()
	var read atomic.Int64
	defer b.env.progress(func() string { return fmt.Sprintf("consume: %d of %d records", read.Load(), b.produced) })()
	for read.Load() < b.produced {
		fetches, err := poll(ctx, cl)
		if err != nil {
			return benchResult{}, err
		}
		read.Add(int64(fetches.NumRecords()))
	}
	return b.result(read.Load(), began, latency), nil
}

// at is where to consume from: the partitions' starts, or their ends.
func (b *bench) at(ctx context.Context, adm *kadm.Client, end bool) (map[string]map[int32]kgo.Offset, error) {
	list := adm.ListStartOffsets
	if end {
		list = adm.ListEndOffsets
	}
	listed, err := list(ctx, b.topic)
	if err == nil {
		err = listed.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("ask for the offsets of %s: %w", b.topic, err)
	}
	at := map[int32]kgo.Offset{}
	for p, offset := range offsets(listed) {
		at[p] = kgo.NewOffset().At(offset)
	}
	return map[string]map[int32]kgo.Offset{b.topic: at}, nil
}

// poll waits for records.
func poll(ctx context.Context, cl *kgo.Client) (kgo.Fetches, error) {
	waiting, cancel := context.WithTimeoutCause(ctx, silence, fmt.Errorf("no record for %v; is the broker up, or has retention taken them?", silence))
	defer cancel()
	fetches := cl.PollFetches(waiting)
	if waiting.Err() != nil {
		return nil, context.Cause(waiting)
	}
	return fetches, fetches.Err()
}

// endToEnd sends a record, and the next when it has come back.
func (b *bench) endToEnd(ctx context.Context, adm *kadm.Client) (benchResult, error) {
	at, err := b.at(ctx, adm, true)
	if err != nil {
		return benchResult{}, err
	}
	options, err := b.options()
	if err != nil {
		return benchResult{}, err
	}
	cl, err := b.connect(append(options, kgo.ProducerLinger(0), kgo.ConsumePartitions(at))...)
	if err != nil {
		return benchResult{}, err
	}
	defer cl.Close()
	values, latency := b.values(), newLatencies()
	records := max(b.records/100, 100)
	began := time.Now()
	for n := 0; n < warmUp || b.more(n-warmUp, records, began); n++ {
		if n == warmUp {
			began = time.Now()
		}
		value := values[n%payloads]
		binary.LittleEndian.PutUint64(value, uint64(n)) // nobody else holds it: it was acked
		sent := time.Now()
		arrived, err := b.roundTrip(ctx, cl, value)
		if err != nil {
			return benchResult{}, err
		}
		if n >= warmUp {
			latency.add(arrived.Sub(sent))
		}
	}
	return b.result(latency.hist.TotalCount(), began, latency), nil
}

// roundTrip sends the value, waits for it to arrive and for its ack, and
// returns when it arrived.
func (b *bench) roundTrip(ctx context.Context, cl *kgo.Client, value []byte) (arrived time.Time, err error) {
	number := binary.LittleEndian.Uint64(value)
	acked := make(chan error, 1)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	cl.Produce(ctx, &kgo.Record{Value: value}, func(_ *kgo.Record, err error) {
		if err != nil {
			cancel(err)
		}
		acked <- err
	})
	for arrived.IsZero() {
		fetches, err := poll(ctx, cl)
		if err != nil {
			return arrived, err
		}
		now := time.Now()
		fetches.EachRecord(func(r *kgo.Record) {
			if len(r.Value) >= 8 && binary.LittleEndian.Uint64(r.Value) == number {
				arrived = now
			}
		})
	}
	return arrived, <-acked
}
