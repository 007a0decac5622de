package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	hdr "github.com/HdrHistogram/hdrhistogram-go"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Links between client and server, which a relay stands for.
const (
	longDelay  = 25 * time.Millisecond // one way
	lossyDelay = 20 * time.Millisecond
	lossyPart  = 0.01
	lossyRate  = 2_500_000 // bytes a second: 20 Mbit/s
)

// startLink is a relay before rustmq.
func startLink(ours *process, more ...any) (*process, error) {
	relay, err := startRelay(ours.addr, args(more...)...)
	if err != nil {
		return nil, err
	}
	relay.ca = ours.ca
	return relay, nil
}

func startLossy(ours *process) (*process, error) {
	return startLink(ours, "delay", lossyDelay, "loss", lossyPart, "rate", lossyRate)
}

// clientLoad is a load at p by an SDK's client, or by that which it is compared with: transport says which.
type clientLoad func(p *process, kind, transport string, args ...string) measurement

// sdk is K11: what the SDK costs beside what it is a layer over, and QUIC a byte.
func (r *run) sdk() error {
	by := func(p *process, kind, transport string, more ...string) measurement {
		return on(p, kind, append(slices.Clip(more), args("transport", transport)...)...)
	}
	return r.clients("K11", by,
		sides{name: "over TCP by the Go SDK, against franz-go", ours: sdkClient, theirs: "tcp", said: perMegabyte("SDK", "franz-go"), must: 0.95},
		sides{name: "over QUIC by the SDK's dialer, against TCP with TLS", ours: "quic", theirs: "sdk-tls", said: perMegabyte("QUIC", "TLS"), must: 0.35, aim: 0.5, bound: quicBound})
}

// sides are two transports of [run.clients].
type sides struct {
	name, ours, theirs string
	said               func(a, b loadResult) string
	must, aim          float64
	bound              string
}

// clients produces and consumes over two transports in the clear, and over two with TLS.
func (r *run) clients(figure string, by clientLoad, inClear, withTLS sides) error {
	clear, err := startRustmq("rustmq in the clear")
	if err != nil {
		return err
	}
	defer clear.stop()
	secure, err := startRustmq("rustmq with TLS", "network.tls=on")
	if err != nil {
		return err
	}
	defer secure.stop()
	const records, topic = 400_000, "read"
	for p, transport := range map[*process]string{clear: "tcp", secure: "tls"} {
		if _, err := p.load("produce", append(args("records", records, "topic", topic, "transport", transport), "-keep")...); err != nil {
			return err
		}
	}
	shapes := map[string][]string{"produce": args("records", records), "consume": args("records", records, "topic", topic)}
	for _, kind := range []string{"produce", "consume"} {
		for _, c := range []struct {
			p *process
			sides
		}{{clear, inClear}, {secure, withTLS}} {
			if err := r.pair(row{Figure: figure, Name: kind + " " + c.name, Unit: "×", Must: c.must, Aim: c.aim, Bound: c.bound},
				by(c.p, kind, c.ours, shapes[kind]...), by(c.p, kind, c.theirs, shapes[kind]...), rateRatio, c.said); err != nil {
				return err
			}
		}
	}
	return nil
}

// perMegabyte tells the rates of both sides, and what a megabyte cost both of its ends.
func perMegabyte(ours, theirs string) func(a, b loadResult) string {
	return func(a, b loadResult) string {
		return fmt.Sprintf("%s %.0f MB/s at %.1f ms CPU a MB, %s %.0f at %.1f (both ends)", ours, a.megabytes(), a.cpuPerMegabyte(), theirs, b.megabytes(), b.cpuPerMegabyte())
	}
}

// streams is K12: a small partition beside a saturated one.
func (r *run) streams() error {
	ours, err := startRustmq("rustmq", "network.tls=on")
	if err != nil {
		return err
	}
	defer ours.stop()
	link, err := startLossy(ours)
	if err != nil {
		return err
	}
	defer link.stop()
	beside := func(transport string) measurement {
		return on(link, "beside", args("seconds", besideSeconds, "transport", transport)...)
	}
	return r.pair(row{
		Figure: "K12", Name: "p99 of a small partition's records beside a saturated one, over one TCP connection, against QUIC streams", Unit: "×", Must: 5,
	}, beside("tls"), beside("quic"), func(tcp, quic loadResult) float64 { return tcp.P99 / quic.P99 },
		func(tcp, quic loadResult) string {
			return fmt.Sprintf("20 ms each way, 1 %% loss, 20 Mbit/s: TCP p50 %.0f ms, p99 %.0f ms beside %.1f MB/s; QUIC %.0f, %.0f beside %.1f",
				tcp.P50/1000, tcp.P99/1000, tcp.megabytes(), quic.P50/1000, quic.P99/1000, quic.megabytes())
		})
}

// handshakesAway is K13: how soon a new connection is of use.
func (r *run) handshakesAway() error {
	ours, err := startRustmq("rustmq", "network.tls=on")
	if err != nil {
		return err
	}
	defer ours.stop()
	link, err := startLink(ours, "delay", longDelay)
	if err != nil {
		return err
	}
	defer link.stop()
	const topic = "acked"
	if _, err := ours.load("partitions", args("partitions", 1, "topic", topic, "transport", "tls")...); err != nil {
		return err
	}
	for _, c := range []struct {
		what  string
		topic string
		kind  string
		must  float64
	}{
		{"answer, QUIC", "", "connect", 0.75},
		{"answer, QUIC 0-RTT", "", "reconnect", 0.45},
		{"ack, QUIC", topic, "connect", 0.75},
		{"ack, QUIC 0-RTT", topic, "reconnect", 0},
	} {
		shape := args("records", 10, "topic", c.topic)
		if err := r.pair(row{Figure: "K13", Name: "25 ms each way: connection to first " + c.what + ", against TCP with TLS 1.3", Unit: "×", Must: c.must, Less: true},
			on(link, c.kind, append(shape[:len(shape):len(shape)], args("transport", "quic")...)...),
			on(link, "connect", append(shape[:len(shape):len(shape)], args("transport", "tls")...)...),
			p50Ratio, p50s("QUIC", "TCP with TLS")); err != nil {
			return err
		}
	}
	return nil
}

func p50Ratio(a, b loadResult) float64 { return a.P50 / b.P50 }

func p50s(ours, theirs string) func(a, b loadResult) string {
	return func(a, b loadResult) string {
		return fmt.Sprintf("%s %.1f ms, %s %.1f ms", ours, a.P50/1000, theirs, b.P50/1000)
	}
}

// chosen is K14: auto against the better of the two.
func (r *run) chosen() error {
	ours, err := startRustmq("rustmq", "network.tls=on")
	if err != nil {
		return err
	}
	defer ours.stop()
	long, err := startLink(ours, "delay", longDelay)
	if err != nil {
		return err
	}
	defer long.stop()
	lossy, err := startLossy(ours)
	if err != nil {
		return err
	}
	defer lossy.stop()
	// better runs both and takes the one that is; each is measured as often as auto.
	better := func(p *process, kind string, better func(a, b loadResult) bool, shape ...string) measurement {
		return func() (loadResult, error) {
			quic, err := p.load(kind, append(shape[:len(shape):len(shape)], args("transport", "quic")...)...)
			if err != nil {
				return quic, err
			}
			tcp, err := p.load(kind, append(shape[:len(shape):len(shape)], args("transport", "sdk-tls")...)...)
			if better(quic, tcp) {
				return quic, err
			}
			return tcp, err
		}
	}
	auto := func(p *process, kind string, shape ...string) measurement {
		return on(p, kind, append(shape[:len(shape):len(shape)], args("transport", "auto")...)...)
	}
	faster := func(a, b loadResult) bool { return a.rate() > b.rate() }
	sooner := func(a, b loadResult) bool { return a.P50 < b.P50 }
	if err := r.pair(row{Figure: "K14", Name: "loopback: produce by auto, against the better of QUIC and TCP with TLS", Unit: "×", Must: 0.95},
		auto(ours, "produce", args("records", 400_000)...), better(ours, "produce", faster, args("records", 400_000)...), rateRatio, rates("auto", "the better")); err != nil {
		return err
	}
	for _, c := range []struct {
		what, kind string
		link       *process
		shape      []string
	}{
		{"25 ms each way: connection to first answer", "connect", long, args("records", 30)},
		{"25 ms each way: connection to first answer, of a known broker", "reconnect", long, args("records", 30)},
		{"20 ms each way, 1 % loss: p50 of a small partition's records beside a saturated one", "beside", lossy, args("seconds", besideSeconds)},
	} {
		if err := r.pair(row{Figure: "K14", Name: c.what + ", auto against the better of QUIC and TCP with TLS", Unit: "×", Must: 1.05, Less: true},
			auto(c.link, c.kind, c.shape...), better(c.link, c.kind, sooner, c.shape...), p50Ratio, p50s("auto", "the better")); err != nil {
			return err
		}
	}
	return nil
}

// Of a load beside a saturated partition.
const (
	besideSeconds = 12
	besidePause   = 10 * time.Millisecond // between two small records
	bulkBytes     = 16 << 10
	bulkAtOnce    = 256 // records in flight: 4 MiB, more than the link holds
)

// loadBeside produces a small record again and again to one partition, while another is
// saturated. franz-go's own transports get one client, and so one connection, for both; those
// of the SDK two clients on one dialer, which are two streams of one connection over QUIC. The times
// are those of the small records, the bytes those of the saturated partition.
func loadBeside(ctx context.Context, s shape) (loadResult, error) {
	s.partitions = 2
	done, err := withTopic(ctx, &s)
	if err != nil {
		return loadResult{}, err
	}
	defer done()
	opts := []kgo.Opt{
		kgo.DefaultProduceTopic(s.topic), kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(0),
	}
	// A link stands before the broker, which names its own address.
	var dial func(context.Context, string, string) (net.Conn, error)
	clients := 1
	if s.transport == "tls" {
		cfg, err := s.tlsConfig()
		if err != nil {
			return loadResult{}, err
		}
		dial = (&tls.Dialer{Config: cfg}).DialContext
	} else {
		dialer, err := s.sdkDialer()
		if err != nil {
			return loadResult{}, err
		}
		defer dialer.Close()
		dial, clients = dialer.Dial, 2
	}
	opts = append(opts, kgo.SeedBrokers(s.broker), kgo.Dialer(func(ctx context.Context, network, _ string) (net.Conn, error) {
		return dial(ctx, network, s.broker)
	}))
	bulk, err := kgo.NewClient(opts...)
	if err != nil {
		return loadResult{}, err
	}
	defer bulk.Close()
	small := bulk
	if clients == 2 {
		if small, err = kgo.NewClient(opts...); err != nil {
			return loadResult{}, err
		}
		defer small.Close()
	}
	// Both have their connections before the clock runs.
	for partition, cl := range []*kgo.Client{bulk, small} {
		if err := cl.ProduceSync(ctx, &kgo.Record{Value: value(s.size), Partition: int32(partition)}).FirstErr(); err != nil {
			return loadResult{}, err
		}
	}
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, time.Duration(s.seconds)*time.Second)
	defer cancel()
	var (
		mu     sync.Mutex
		hist   = hdr.New(1, 120_000_000, 3)
		failed error
		acked  int64
	)
	note := func(err error, f func()) {
		mu.Lock()
		defer mu.Unlock()
		if err != nil && !errors.Is(err, context.DeadlineExceeded) && failed == nil {
			failed = err
		} else if err == nil {
			f()
		}
	}
	background := context.WithoutCancel(ctx)
	var producing sync.WaitGroup
	producing.Go(func() {
		room := make(chan struct{}, bulkAtOnce)
		payload := value(bulkBytes)
		for ctx.Err() == nil {
			room <- struct{}{}
			bulk.Produce(background, &kgo.Record{Value: payload}, func(_ *kgo.Record, err error) {
				note(err, func() { acked += bulkBytes })
				<-room
			})
		}
	})
	producing.Go(func() {
		payload := value(100)
		ticker := time.NewTicker(besidePause)
		defer ticker.Stop()
		for ctx.Err() == nil {
			sent := time.Now()
			small.Produce(background, &kgo.Record{Value: payload, Partition: 1}, func(_ *kgo.Record, err error) {
				took := time.Since(sent)
				note(err, func() { _ = hist.RecordValue(took.Microseconds()) })
			})
			<-ticker.C
		}
	})
	producing.Wait()
	mu.Lock()
	saturated, took := acked, time.Since(began)
	mu.Unlock()
	for _, cl := range []*kgo.Client{small, bulk} {
		if err := cl.Flush(background); err != nil {
			return loadResult{}, err
		}
	}
	if failed != nil {
		return loadResult{}, failed
	}
	return loadResult{
		Records: hist.TotalCount(), Bytes: saturated, Seconds: took.Seconds(),
		P50: float64(hist.ValueAtQuantile(50)), P99: float64(hist.ValueAtQuantile(99)), Max: float64(hist.Max()),
	}, nil
}
