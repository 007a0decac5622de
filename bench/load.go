package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	hdr "github.com/HdrHistogram/hdrhistogram-go"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	rustmq "rustmq.dev/rustmq/sdk/go"
)

// loadResult is what one client process measured. Times are in seconds,
// latencies in microseconds.
type loadResult struct {
	Records   int64   `json:"records"`
	Bytes     int64   `json:"bytes"`
	Seconds   float64 `json:"seconds"`
	P50       float64 `json:"p50_us,omitempty"`
	P99       float64 `json:"p99_us,omitempty"`
	Max       float64 `json:"max_us,omitempty"`
	TailP50   float64 `json:"tail_p50_us,omitempty"` // from the produce to a consumer at the tail
	TailP99   float64 `json:"tail_p99_us,omitempty"`
	ServerCPU float64 `json:"server_cpu_s,omitempty"`
	ClientCPU float64 `json:"client_cpu_s,omitempty"`
}

func (r loadResult) rate() float64         { return float64(r.Records) / r.Seconds }
func (r loadResult) took() time.Duration   { return time.Duration(r.Seconds * float64(time.Second)) }
func (r loadResult) cpuPerRecord() float64 { return (r.ServerCPU + r.ClientCPU) / float64(r.Records) }

// shape is what a load writes or reads; both sides of a pair get the same.
type shape struct {
	broker, ca, transport, topic string // transport "" is tcp
	records, size, partitions    int
	connections                  int
	replicas                     int // of the topic that is made
	keep                         bool
	protocol                     string // of the group: classic or consumer
	groups                       string // what their names begin with
	config                       string // of the topic that is made: key=value, or none
	seconds                      int    // steady: how long
	dir                          string // s3put, s3get: the files of the objects
	certs                        string // what tls trusts and shows, as `rustmq admin certs` has written it
}

func runLoad(args []string) error {
	if len(args) == 0 {
		return errors.New("load: name produce, bare, consume, transactions, lone, steady, catchup, connect, idle, groups, found, join, s3put, s3get, passed, baresteady, barecatchup, nats, full, resumed, rules, ruled or beside")
	}
	// The load collects garbage rarely, for it shares the machine with the server
	// that it measures.
	debug.SetGCPercent(400)
	var s shape
	flags := flag.NewFlagSet("load "+args[0], flag.ContinueOnError)
	flags.StringVar(&s.broker, "broker", "", "host:port")
	flags.StringVar(&s.ca, "ca", "", "file of the CA to trust (tls, quic)")
	flags.StringVar(&s.transport, "transport", "tcp", "tcp or tls, as franz-go dials; sdk-tcp, sdk-tls, quic or auto, as the SDK does; sdk: the SDK's own client over TCP (produce, consume)")
	flags.StringVar(&s.topic, "topic", "", "topic; made for the load and deleted after when empty")
	flags.IntVar(&s.records, "records", 100_000, "records")
	flags.IntVar(&s.size, "size", 1024, "bytes of a value")
	flags.IntVar(&s.partitions, "partitions", 1, "partitions of the topic")
	flags.IntVar(&s.replicas, "replicas", 1, "replicas of the topic")
	flags.IntVar(&s.connections, "connections", 1, "clients, each with a connection of its own")
	flags.BoolVar(&s.keep, "keep", false, "do not delete the topic")
	flags.IntVar(&s.seconds, "seconds", 10, "how long a steady load of so many records a second lasts")
	flags.StringVar(&s.protocol, "protocol", classicProtocol, "of the group that is joined: classic or consumer")
	flags.StringVar(&s.groups, "groups", "", "what the names of groups begin with; others than ever before when empty")
	flags.StringVar(&s.config, "config", "", "key=value of the topic that is made")
	flags.StringVar(&s.certs, "certs", "", "directory of certificates, where the broker asks for them (tls)")
	flags.StringVar(&s.dir, "dir", "", "directory of the objects to copy (s3put, s3get, passed, barecatchup)")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	loads := map[string]func(context.Context, shape) (loadResult, error){
		"produce": loadProduce, "consume": loadConsume, "lone": loadLone, "connect": loadConnect,
		"reconnect": loadReconnect, "idle": loadIdle, "nats": loadNATS, "partitions": loadPartitions,
		"steady": loadSteady, "catchup": loadCatchUp, "transactions": loadTransactions, "bare": loadBare,
		"groups": loadGroups, "found": loadFound, "join": loadJoin, "s3put": loadS3Put, "s3get": loadS3Get,
		"passed": loadPassed, "baresteady": loadBareSteady, "barecatchup": loadBareCatchUp,
		"beside": loadBeside,
		"full":   loadFull, "resumed": loadResumed, "rules": loadRules, "ruled": loadRuled,
	}
	load, ok := loads[args[0]]
	if !ok {
		return fmt.Errorf("load %q is not known", args[0])
	}
	result, err := load(ctx, s)
	if err != nil {
		return err
	}
	return printJSON(result)
}

func (s shape) tlsConfig() (*tls.Config, error) {
	if s.certs != "" {
		return certified(s.certs, loadUser)
	}
	pem, err := os.ReadFile(s.ca)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("no certificate in %s", s.ca)
	}
	return &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS13, ClientSessionCache: tls.NewLRUClientSessionCache(8)}, nil
}

// client makes a franz-go client over the transport of the shape.
func (s shape) client(opts ...kgo.Opt) (*kgo.Client, error) {
	opts = append(opts, kgo.SeedBrokers(s.broker))
	switch s.transport {
	case "tls":
		cfg, err := s.tlsConfig()
		if err != nil {
			return nil, err
		}
		opts = append(opts, kgo.DialTLSConfig(cfg))
	case "", "tcp", sdkClient: // that of the SDK is for the load alone, not for its topic
	default:
		dialer, err := s.sdkDialer()
		if err != nil {
			return nil, err
		}
		opts = append(opts, kgo.Dialer(dialer.Dial)) // open until the load ends
	}
	return kgo.NewClient(opts...)
}

// value is half random, half zero: what a codec would find to save is known.
func value(size int) []byte {
	b := make([]byte, size)
	rng := rand.New(rand.NewPCG(1, uint64(size)))
	for i := range b[:size/2] {
		b[i] = byte(rng.Uint32())
	}
	return b
}

// withTopic makes the topic of the load, unless it is named, and deletes it.
func withTopic(ctx context.Context, s *shape) (func(), error) {
	if s.topic != "" && !s.keep {
		return func() {}, nil
	}
	cl, err := s.client()
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	if s.topic == "" {
		s.topic = fmt.Sprintf("bench-%d", time.Now().UnixNano())
	}
	adm := kadm.NewClient(cl)
	configs := map[string]*string{}
	if key, value, ok := strings.Cut(s.config, "="); ok {
		configs[key] = &value
	}
	if _, err := adm.CreateTopic(ctx, int32(s.partitions), int16(s.replicas), configs, s.topic); err != nil {
		return nil, fmt.Errorf("create %s: %w", s.topic, err)
	}
	if s.keep {
		return func() {}, nil
	}
	topic := s.topic
	again := *s
	return func() {
		if cl, err := again.client(); err == nil {
			defer cl.Close()
			_, _ = kadm.NewClient(cl).DeleteTopics(ctx, topic)
		}
	}, nil
}

func loadProduce(ctx context.Context, s shape) (loadResult, error) {
	done, err := withTopic(ctx, &s)
	if err != nil {
		return loadResult{}, err
	}
	defer done()
	// What is in flight does not depend on the number of connections: 50 MB of
	// records of 1 KiB, as one client has them with 50,000 records buffered.
	buffered := max(1000, 50_000/s.connections)
	clients := make([]producer, s.connections)
	for i := range clients {
		var end func()
		if clients[i], end, err = s.producer(buffered); err != nil {
			return loadResult{}, err
		}
		defer end()
	}
	payload := value(s.size)
	send := func(records int) (time.Duration, error) {
		// The load should cost as little as it can beside the server it measures:
		// records are made before the clock runs, with partitions in turn, in runs
		// of 64 KiB as the sticky partitioner has them.
		batches := make([][]kgo.Record, len(clients))
		run := max(1, 64<<10/s.size)
		for c := range batches {
			batches[c] = make([]kgo.Record, records/len(clients))
			for i := range batches[c] {
				batches[c][i].Value = payload
				batches[c][i].Topic = s.topic
				batches[c][i].Partition = int32(i / run % s.partitions)
			}
		}
		var failed atomic.Pointer[error]
		var wg sync.WaitGroup
		began := time.Now()
		for c, cl := range clients {
			wg.Go(func() {
				promise := func(_ *kgo.Record, err error) {
					if err != nil {
						failed.CompareAndSwap(nil, &err)
					}
				}
				for i := range batches[c] {
					cl.Produce(ctx, &batches[c][i], promise)
				}
				if err := cl.Flush(ctx); err != nil {
					failed.CompareAndSwap(nil, &err)
				}
			})
		}
		wg.Wait()
		took := time.Since(began)
		if err := failed.Load(); err != nil {
			return 0, fmt.Errorf("produce: %w", *err)
		}
		return took, nil
	}
	if _, err := send(max(s.records/20, len(clients)*100)); err != nil {
		return loadResult{}, err
	}
	took, err := send(s.records)
	if err != nil {
		return loadResult{}, err
	}
	return loadResult{Records: int64(s.records), Bytes: int64(s.records) * int64(s.size), Seconds: took.Seconds()}, nil
}

// producer is what franz-go's clients and the SDK's have in common.
type producer interface {
	Produce(ctx context.Context, r *kgo.Record, done func(*kgo.Record, error))
	Flush(ctx context.Context) error
}

// producer makes a client that produces: the SDK's where the transport says so, which chooses
// partitions by itself.
func (s shape) producer(buffered int) (p producer, end func(), err error) {
	if s.transport == sdkClient {
		cl, err := s.sdk(rustmq.WithCompression(rustmq.Uncompressed), rustmq.WithBufferedBytes(buffered*s.size))
		if err != nil {
			return nil, nil, err
		}
		return cl, func() { _ = cl.Close() }, nil
	}
	cl, err := s.client(kgo.ProducerBatchCompression(kgo.NoCompression()),
		kgo.RequiredAcks(kgo.AllISRAcks()), kgo.MaxBufferedRecords(buffered), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		return nil, nil, err
	}
	return cl, cl.Close, nil
}

// loadConsume reads the records of the named topic from the start.
func loadConsume(ctx context.Context, s shape) (loadResult, error) {
	if s.transport == sdkClient {
		return s.consumeBySDK(ctx)
	}
	cl, err := s.client(kgo.ConsumeTopics(s.topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchMaxBytes(50<<20), kgo.FetchMaxPartitionBytes(8<<20))
	if err != nil {
		return loadResult{}, err
	}
	defer cl.Close()
	var result loadResult
	var began time.Time
	for result.Records < int64(s.records) {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err0(); err != nil {
			return loadResult{}, err
		}
		if began.IsZero() {
			// The first poll pays for connecting and metadata; it is the warm-up.
			began = time.Now()
			s.records -= fetches.NumRecords()
			continue
		}
		fetches.EachRecord(func(r *kgo.Record) { result.Records++; result.Bytes += int64(len(r.Value)) })
	}
	result.Seconds = time.Since(began).Seconds()
	return result, nil
}

// loadLone produces one record at a time and waits for each answer.
func loadLone(ctx context.Context, s shape) (loadResult, error) {
	done, err := withTopic(ctx, &s)
	if err != nil {
		return loadResult{}, err
	}
	defer done()
	cl, err := s.client(kgo.DefaultProduceTopic(s.topic), kgo.ProducerBatchCompression(kgo.NoCompression()),
		kgo.RequiredAcks(kgo.AllISRAcks()), kgo.ProducerLinger(0))
	if err != nil {
		return loadResult{}, err
	}
	defer cl.Close()
	hist := hdr.New(1, 60_000_000, 3)
	payload := value(s.size)
	began := time.Now()
	for i := range s.records + s.records/10 {
		if i == s.records/10 { // a tenth warms up
			began = time.Now()
		}
		sent := time.Now()
		if err := cl.ProduceSync(ctx, &kgo.Record{Value: payload}).FirstErr(); err != nil {
			return loadResult{}, err
		}
		if i >= s.records/10 {
			_ = hist.RecordValue(time.Since(sent).Microseconds())
		}
	}
	return loadResult{
		Records: int64(s.records), Bytes: int64(s.records) * int64(s.size), Seconds: time.Since(began).Seconds(),
		P50: float64(hist.ValueAtQuantile(50)), P99: float64(hist.ValueAtQuantile(99)),
	}, nil
}

// firstAnswer times a new connection up to the answer to its first request: to ApiVersions, or,
// where a topic is named, to Produce, which is its ack.
func firstAnswer(ctx context.Context, s shape, dial dialFunc) (time.Duration, error) {
	began := time.Now()
	conn, err := dial(ctx)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	ask := askApiVersions
	if s.topic != "" {
		ask = func(conn net.Conn) error { return produceOne(conn, s.topic) }
	}
	if err := ask(conn); err != nil {
		return 0, err
	}
	return time.Since(began), nil
}

// askApiVersions sends ApiVersions v0 and reads its whole answer.
func askApiVersions(conn net.Conn) error {
	request := []byte{0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 1, 255, 255}
	if _, err := conn.Write(request); err != nil {
		return err
	}
	var head [4]byte
	if err := readFull(conn, head[:]); err != nil {
		return err
	}
	size := int(head[0])<<24 | int(head[1])<<16 | int(head[2])<<8 | int(head[3])
	if size < 10 || size > 1<<20 {
		return fmt.Errorf("answer of %d bytes to ApiVersions", size)
	}
	return readFull(conn, make([]byte, size))
}

func readFull(conn net.Conn, b []byte) error {
	for len(b) > 0 {
		n, err := conn.Read(b)
		if b = b[n:]; err != nil && len(b) > 0 {
			return err
		}
	}
	return nil
}

// loadConnect measures connection to first answer, each time with a client
// that has never seen the server.
func loadConnect(ctx context.Context, s shape) (loadResult, error) {
	return timeConnections(ctx, s, s.dialer)
}

// loadReconnect is loadConnect with a client that keeps its session tickets,
// so that QUIC sends its first request in 0-RTT.
func loadReconnect(ctx context.Context, s shape) (loadResult, error) {
	fresh, end, err := s.again()
	if err != nil {
		return loadResult{}, err
	}
	defer end()
	return timeConnections(ctx, s, fresh)
}

func timeConnections(ctx context.Context, s shape, fresh func() (dialFunc, error)) (loadResult, error) {
	hist := hdr.New(1, 60_000_000, 3)
	began := time.Now()
	for i := range s.records + 1 {
		dial, err := fresh()
		if err != nil {
			return loadResult{}, err
		}
		took, err := firstAnswer(ctx, s, dial)
		if err != nil {
			return loadResult{}, err
		}
		if i > 0 { // the first connection warms up, and earns the ticket
			_ = hist.RecordValue(took.Microseconds())
		}
	}
	return loadResult{
		Records: int64(s.records), Seconds: time.Since(began).Seconds(),
		P50: float64(hist.ValueAtQuantile(50)), P99: float64(hist.ValueAtQuantile(99)),
	}, nil
}

// loadIdle opens connections, asks each for ApiVersions, and holds them until
// its standard input ends; the parent reads the server's memory meanwhile.
func loadIdle(ctx context.Context, s shape) (loadResult, error) {
	dial, err := s.dialer()
	if err != nil {
		return loadResult{}, err
	}
	for range s.connections {
		conn, err := dial(ctx)
		if err != nil {
			return loadResult{}, err
		}
		defer conn.Close()
		if err := askApiVersions(conn); err != nil {
			return loadResult{}, err
		}
	}
	if err := printJSON(loadResult{Records: int64(s.connections)}); err != nil {
		return loadResult{}, err
	}
	_, _ = os.Stdin.Read(make([]byte, 1))
	return loadResult{}, nil
}

// loadPartitions makes a topic with that many partitions, and keeps it.
func loadPartitions(ctx context.Context, s shape) (loadResult, error) {
	s.keep = true
	began := time.Now()
	if _, err := withTopic(ctx, &s); err != nil {
		return loadResult{}, err
	}
	return loadResult{Records: int64(s.partitions), Seconds: time.Since(began).Seconds()}, nil
}
