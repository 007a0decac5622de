package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"rustmq.dev/rustmq/bench/report"
)

// run is one call of `bench run`.
type run struct {
	pairs int
	rows  string // only rows that have it in their names are measured
	out   report.Results
}

type figure struct {
	name    string // that report.Title knows
	measure func(*run) error
}

// figures are measured in this order; each takes minutes, not hours.
var figures = []figure{
	{"F1", (*run).produce},
	{"F2", (*run).consume},
	{"F3", (*run).lone},
	{"F4", (*run).wal},
	{"F5", (*run).quic},
	{"F6", (*run).cost},
	{"B1", (*run).puts},
	{"B2", (*run).bandwidth},
	{"B3", (*run).isolation},
	{"B4", (*run).cache},
	{"B5", (*run).cleaning},
	{"K1", (*run).groups},
	{"K2", (*run).kafka},
	{"K3", (*run).clusters},
	{"K4", (*run).failover},
	{"K5", (*run).shares},
	{"K6", (*run).large},
	{"K7", (*run).security},
	{"K8", (*run).transforms},
	{"K9", (*run).transformed},
	{"K10", (*run).asynchronous},
	{"K11", (*run).sdk},
	{"K12", (*run).streams},
	{"K13", (*run).handshakesAway},
	{"K14", (*run).chosen},
	{"K15", (*run).rust},
}

func runFigures(args []string) error {
	flags := flag.NewFlagSet("run", flag.ContinueOnError)
	only := flags.String("figures", "", "comma separated, all when empty")
	rows := flags.String("rows", "", "only the paired rows with this in their names, all when empty; nothing is written then")
	pairs := flags.Int("pairs", 5, "pairs a row, at least 5 for a claim")
	write := flags.Bool("write", true, "write bench/results and docs/performance.md")
	if err := flags.Parse(args); err != nil {
		return err
	}
	r := &run{pairs: *pairs, rows: *rows, out: newResults()}
	for _, f := range figures {
		if *only != "" && !strings.Contains(","+*only+",", ","+f.name+",") {
			continue
		}
		began := time.Now()
		if err := f.measure(r); err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
		fmt.Printf("%s took %.0f s\n", f.name, time.Since(began).Seconds())
	}
	if *write && *rows == "" {
		if old, err := report.Newest(resultsDir); err == nil {
			r.out = r.out.With(old, func(name string) int {
				return slices.IndexFunc(figures, func(f figure) bool { return f.name == name })
			})
		}
		name, err := r.out.Write(resultsDir)
		if err != nil {
			return err
		}
		if err := reportNewest(nil); err != nil {
			return err
		}
		fmt.Println("wrote", name, "and docs/performance.md")
	}
	missed := 0
	for _, row := range r.out.Rows {
		if row.Missed() {
			fmt.Printf("must missed: %s %s: %s, must be %s\n", row.Figure, row.Name, report.Number(row.Median), row.MustText())
			missed++
		}
	}
	if missed > 0 {
		return fmt.Errorf("%d musts missed", missed)
	}
	return nil
}

func (r *run) add(x row) {
	x.Date, x.Commit = r.out.Date, r.out.Commit
	r.out.Rows = append(r.out.Rows, x)
	fmt.Printf("%-3s %-64s %8s %-3s (%s–%s)  %s\n", x.Figure, x.Name, report.Number(x.Median), x.Unit, report.Number(x.Low), report.Number(x.High), x.Detail)
}

// measurement is one run of one side.
type measurement func() (loadResult, error)

// pair runs ours and theirs in turn and summarises f of the pairs.
func (r *run) pair(x row, ours, theirs measurement, f func(a, b loadResult) float64, detail func(a, b loadResult) string) error {
	return r.beside(x, ours, theirs, nil, f, detail)
}

// beside is pair, with a third side, the floor, where there is one: a row of its own says
// how that does against theirs, and the row of a must that it misses too says so.
func (r *run) beside(x row, ours, theirs, floor measurement, f func(a, b loadResult) float64, detail func(a, b loadResult) string) error {
	if !strings.Contains(x.Name, r.rows) {
		return nil
	}
	var ratios, floors []float64
	var lastA, lastB, lastC loadResult
	for i := range r.pairs + 1 { // the first pair warms up
		a, err := ours()
		if err != nil {
			return fmt.Errorf("%s: %w", x.Name, err)
		}
		b, err := theirs()
		if err != nil {
			return fmt.Errorf("%s: %w", x.Name, err)
		}
		var c loadResult
		if floor != nil {
			if c, err = floor(); err != nil {
				return fmt.Errorf("%s: the floor: %w", x.Name, err)
			}
		}
		if i > 0 {
			ratios = append(ratios, f(a, b))
			lastA, lastB, lastC = a, b, c
			if floor != nil {
				floors = append(floors, f(c, b))
			}
		}
	}
	if detail != nil {
		x.Detail = detail(lastA, lastB)
	}
	if floor == nil {
		r.add(summarise(x, ratios))
		return nil
	}
	bare := summarise(row{Figure: x.Figure, Name: x.Name + ": a bare server that commits instead", Unit: x.Unit, Less: x.Less, Detail: perSecond(lastC.rate())}, floors)
	if lastC.P50 > 0 {
		bare.Detail = fmt.Sprintf("p50 %.2f ms, p99 %.2f ms", lastC.P50/1000, lastC.P99/1000)
	}
	measured := bare
	if measured.Must = x.Must; measured.Missed() {
		x.Bound = fmt.Sprintf("What syncs does not come to it here: a bare server, which receives the same, has it written and synced, and answers, is at %s × under the same load.", report.Number(bare.Median))
	}
	r.add(summarise(x, ratios))
	r.add(bare)
	return nil
}

func rateRatio(a, b loadResult) float64 { return a.rate() / b.rate() }

func rates(ours, theirs string) func(a, b loadResult) string {
	return func(a, b loadResult) string {
		return fmt.Sprintf("%s %s, %s %s", ours, perSecond(a.rate()), theirs, perSecond(b.rate()))
	}
}

// perSecond is a rate in digits that say something: by the thousand where it has more
// than four.
func perSecond(rate float64) string {
	if rate < 10_000 {
		return fmt.Sprintf("%.0f/s", rate)
	}
	if rate < 100_000 {
		return fmt.Sprintf("%.1fk/s", rate/1000)
	}
	return fmt.Sprintf("%.0fk/s", rate/1000)
}

func on(p *process, kind string, args ...string) measurement {
	return func() (loadResult, error) { return p.load(kind, args...) }
}

func args(kv ...any) []string {
	var out []string
	for i := 0; i < len(kv); i += 2 {
		out = append(out, fmt.Sprintf("-%v", kv[i]), fmt.Sprint(kv[i+1]))
	}
	return out
}

// What profiles of both ends show, for [row.Bound].
const (
	clientBound = "The client, which is the same on both sides: its processor time exceeds half of the run, the server's does not reach a core."
	manyBound   = "Two thirds of the processor time are the client's, the same on both sides. Of the server's, half are system calls that copy from the socket and to the disk, a quarter the CRC of each batch."
	copyBound   = "Copies: out of the page cache and into the socket are a third of the server's time, the CRC of each frame 6 %."
	diskBound   = "The sync of a lone block: the rest of the round trip is the client's, as in the floor."
	natsBound   = "The device: the log writes and syncs without a pause, and rustmq takes half of a core. NATS is bound by its server's processor, which takes seven tenths of that of both ends."
	walBound    = "Half of the time of both is the virtual disk's (notification, wake-ups). What the loop does not do is the CRC32C of each frame, 4 %, and waking its appender in order."
	quicBound   = "quic-go, in packets of 1.4 KB: system calls are a third of both ends, wake-ups 15 %, AES-GCM 8 %; TLS over TCP hands the kernel 16 KB at a time."
)

// produce is F1.
func (r *run) produce() error {
	ours, err := startRustmq("rustmq")
	if err != nil {
		return err
	}
	defer ours.stop()
	bare, err := startBare(1)
	if err != nil {
		return err
	}
	defer bare.stop()
	for _, c := range []struct {
		size, connections, partitions, records int
		reused                                 bool
		must, aim                              float64
		bound                                  string
	}{
		{1024, 1, 1, 1_800_000, false, 1.5, 2.2, clientBound},
		{1024, 8, 1, 1_800_000, false, 1.5, 2.2, clientBound},
		{1024, 1, 1000, 1_800_000, false, 1.5, 2.2, manyBound},
		{1024, 8, 1000, 1_800_000, false, 1.5, 2.2, manyBound},
		{100, 1, 1, 4_000_000, false, 0.8, 1.2, clientBound},
		{1024, 1, 1, 1_800_000, true, 0, 0, ""},
	} {
		if c.records, err = r.fitting(c.records, c.size); err != nil {
			return err
		}
		shape := args("size", c.size, "connections", c.connections, "partitions", c.partitions, "records", c.records)
		name := fmt.Sprintf("%d B, %s, %s, against kfake in memory", c.size, plural(c.connections, "connection"), plural(c.partitions, "partition"))
		theirs := append(slices.Clone(shape), "-keep")
		if c.reused {
			name += " reusing that of deleted topics"
			theirs = shape
		}
		if err := r.againstKfake(row{Figure: "F1", Name: name, Unit: "×", Must: c.must, Aim: c.aim, Bound: c.bound},
			on(ours, "produce", shape...), theirs, on(bare, "produce", shape...), rateRatio, rates("rustmq", "kfake")); err != nil {
			return err
		}
	}
	for _, c := range []struct {
		name      string
		sync      []string
		records   int
		must, aim float64
	}{
		{"1024 B, against NATS JetStream, file store, no sync", nil, 100_000, 3, 5},
		{"1024 B, against NATS JetStream, SyncAlways", []string{"-sync-always"}, 5_000, 50, 150},
	} {
		nats, err := startPeer("nats", append([]string{"nats"}, c.sync...)...)
		if err != nil {
			return err
		}
		shape := args("records", 300_000)
		err = r.beside(row{Figure: "F1", Name: c.name, Unit: "×", Must: c.must, Aim: c.aim, Bound: natsBound},
			on(ours, "produce", shape...), on(nats, "nats", args("records", c.records)...), on(bare, "produce", shape...),
			rateRatio, rates("rustmq", "NATS"))
		nats.stop()
		if err != nil {
			return err
		}
	}
	rss, err := ours.rss()
	if err != nil {
		return err
	}
	r.add(summarise(row{Figure: "F1", Name: "resident memory of rustmq after all of the above", Unit: "MiB"}, []float64{float64(rss) / (1 << 20)}))
	return nil
}

// fitting is records, or as many as all loads of a row leave half of the memory
// free with. Loads take seconds: in one of less, a store in memory may live from
// what the collector has just given back, and its rate says more about that than
// about the store.
func (r *run) fitting(records, size int) (int, error) {
	raw, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(raw)) {
		if rest, ok := strings.CutPrefix(line, "MemAvailable:"); ok {
			kib, err := strconv.Atoi(strings.Fields(rest)[0])
			return min(records, kib*1024/2/((r.pairs+1)*size)), err
		}
	}
	return 0, errors.New("no MemAvailable in /proc/meminfo")
}

// againstKfake is pair with produce to a kfake of its own. It keeps what it is
// given, as a store without retention does: each load takes memory anew. Our log
// reuses the segments of the topics that were deleted, as it does those of data
// that has gone to the bucket.
func (r *run) againstKfake(x row, ours measurement, theirs []string, bare measurement, f func(a, b loadResult) float64, detail func(a, b loadResult) string) error {
	kfake, err := startPeer("kfake", "kfake")
	if err != nil {
		return err
	}
	defer kfake.stop()
	return r.beside(x, ours, on(kfake, "produce", theirs...), bare, f, detail)
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return strconv.Itoa(n) + " " + noun + "s"
}

// consume is F2: the same records from memory and from WAL files.
func (r *run) consume() error {
	const records = 200_000
	ours, err := startRustmq("rustmq", "wal.memory=512MiB")
	if err != nil {
		return err
	}
	defer ours.stop()
	evicted, err := startRustmq("rustmq with little memory", "wal.memory=16MiB")
	if err != nil {
		return err
	}
	defer evicted.stop()
	kfake, err := startPeer("kfake", "kfake")
	if err != nil {
		return err
	}
	defer kfake.stop()
	for _, p := range []*process{ours, evicted, kfake} {
		if _, err := p.load("produce", append(args("records", records, "topic", "read"), "-keep")...); err != nil {
			return err
		}
	}
	read := args("records", records, "topic", "read")
	if err := r.pair(row{Figure: "F2", Name: "tail, from memory, against kfake", Unit: "×", Must: 0.8, Aim: 1.2},
		on(ours, "consume", read...), on(kfake, "consume", read...), rateRatio, rates("rustmq", "kfake")); err != nil {
		return err
	}
	return r.pair(row{Figure: "F2", Name: "from WAL files, memory evicted, against the tail", Unit: "×", Must: 0.5, Aim: 0.8, Bound: copyBound},
		on(evicted, "consume", read...), on(ours, "consume", read...), rateRatio, rates("files", "tail"))
}

// lone is F3: the floor is the client's round trip to kfake plus a lone append
// of the bare loop.
func (r *run) lone() error {
	const records = 2_000
	ours, err := startRustmq("rustmq")
	if err != nil {
		return err
	}
	defer ours.stop()
	kfake, err := startPeer("kfake", "kfake")
	if err != nil {
		return err
	}
	defer kfake.stop()
	bare, err := startBare(1)
	if err != nil {
		return err
	}
	defer bare.stop()
	floor := func() (loadResult, error) {
		trip, err := kfake.load("lone", args("records", records)...)
		if err != nil {
			return loadResult{}, err
		}
		loop, err := loneAppends(os.TempDir(), records)
		if err != nil {
			return loadResult{}, err
		}
		trip.P50 += loop.P50
		trip.P99 += loop.P99
		return trip, nil
	}
	return r.beside(row{Figure: "F3", Name: "p50 of a lone durable 1 KiB produce, against round trip + bare append", Unit: "×", Must: 1.5, Aim: 1.15, Less: true, Bound: diskBound},
		on(ours, "lone", args("records", records)...), floor, on(bare, "lone", args("records", records)...),
		func(a, b loadResult) float64 { return a.P50 / b.P50 },
		func(a, b loadResult) string {
			return fmt.Sprintf("p50 %.2f ms, p99 %.2f ms; floor %.2f, %.2f", a.P50/1000, a.P99/1000, b.P50/1000, b.P99/1000)
		})
}

// quic is F5.
func (r *run) quic() error {
	ours, err := startRustmq("rustmq", "network.tls=on")
	if err != nil {
		return err
	}
	defer ours.stop()
	produce := func(transport string) measurement {
		return on(ours, "produce", args("records", 200_000, "transport", transport)...)
	}
	cpuPerMB := func(x loadResult) float64 { return (x.ServerCPU + x.ClientCPU) * 1000 / (float64(x.Bytes) / 1e6) }
	if err := r.pair(row{Figure: "F5", Name: "produce over QUIC, against TCP with TLS", Unit: "×", Must: 0.35, Aim: 0.5, Bound: quicBound},
		produce("quic"), produce("tls"), rateRatio, func(a, b loadResult) string {
			return fmt.Sprintf("QUIC %.0f MB/s at %.1f ms CPU a MB, TLS %.0f at %.1f (both ends)",
				float64(a.Bytes)/a.Seconds/1e6, cpuPerMB(a), float64(b.Bytes)/b.Seconds/1e6, cpuPerMB(b))
		}); err != nil {
		return err
	}
	relay, err := startRelay(ours.addr)
	if err != nil {
		return err
	}
	defer relay.stop()
	relay.ca = ours.ca
	connect := func(kind, transport string) measurement {
		return on(relay, kind, args("records", 10, "transport", transport)...)
	}
	p50 := func(a, b loadResult) float64 { return a.P50 / b.P50 }
	millis := func(a, b loadResult) string {
		return fmt.Sprintf("%.0f ms, TCP with TLS %.0f ms", a.P50/1000, b.P50/1000)
	}
	if err := r.pair(row{Figure: "F5", Name: "25 ms each way: connection to first answer, QUIC", Unit: "×", Must: 0.75, Less: true},
		connect("connect", "quic"), connect("connect", "tls"), p50, millis); err != nil {
		return err
	}
	return r.pair(row{Figure: "F5", Name: "25 ms each way: connection to first answer, QUIC 0-RTT", Unit: "×", Must: 0.45, Less: true},
		connect("reconnect", "quic"), connect("connect", "tls"), p50, millis)
}

func startRelay(to string, more ...string) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p := &process{name: "relay", cmd: exec.Command(self, append([]string{"relay", "-to", to}, more...)...)}
	var line listening
	if err := p.start(&line); err != nil {
		return nil, err
	}
	p.addr = line.Addr
	return p, nil
}

// cost is F6.
func (r *run) cost() error {
	var starts, idle []float64
	for range r.pairs {
		p, err := startRustmq("rustmq")
		if err != nil {
			return err
		}
		rss, err := p.rss()
		p.stop()
		if err != nil {
			return err
		}
		starts = append(starts, p.started.Seconds())
		idle = append(idle, float64(rss)/(1<<20))
	}
	r.add(summarise(row{Figure: "F6", Name: "start to readyz", Unit: "s", Must: 1, Less: true}, starts))
	r.add(summarise(row{Figure: "F6", Name: "resident memory, idle", Unit: "MiB", Must: 60, Less: true}, idle))

	ours, err := startRustmq("rustmq")
	if err != nil {
		return err
	}
	defer ours.stop()
	shape := args("records", 800_000)
	if err := r.againstKfake(row{Figure: "F6", Name: "CPU a durable 1 KiB record, both ends, against kfake", Unit: "×", Must: 1.2, Aim: 0.8, Less: true},
		on(ours, "produce", shape...), append(slices.Clone(shape), "-keep"), nil,
		func(a, b loadResult) float64 { return a.cpuPerRecord() / b.cpuPerRecord() },
		func(a, b loadResult) string {
			return fmt.Sprintf("rustmq %.2f µs, kfake %.2f µs", a.cpuPerRecord()*1e6, b.cpuPerRecord()*1e6)
		}); err != nil {
		return err
	}
	if err := r.allocations(ours); err != nil {
		return err
	}
	return r.idle()
}

// allocations measures what the server allocates for a batch: the topic has one
// partition, so that a request holds one.
func (r *run) allocations(p *process) error {
	counts := func() (counts [2]float64, err error) {
		for i, name := range []string{"go_memstats_mallocs_total", `rustmq_broker_request_duration_seconds_count{api="Produce"}`} {
			if counts[i], err = p.metric(name); err != nil {
				return counts, err
			}
		}
		return counts, nil
	}
	var each []float64
	for range r.pairs {
		before, err := counts()
		if err != nil {
			return err
		}
		if _, err := p.load("produce", args("records", 400_000, "size", 100)...); err != nil {
			return err
		}
		after, err := counts()
		if err != nil {
			return err
		}
		each = append(each, (after[0]-before[0])/(after[1]-before[1]))
	}
	r.add(summarise(row{Figure: "F6", Name: "allocations a produced batch, those of everything else in the server included"}, each))
	return nil
}

// idle measures what an idle connection and an idle partition cost a server,
// each on a server of its own: memory that was freed would be used again.
func (r *run) idle() error {
	for _, transport := range []string{"tls", "quic"} {
		const n = 1000
		err := r.growth(row{Figure: "F6", Name: "an idle connection over " + transport + " (server side)", Unit: "KiB"}, n,
			func(p *process) (func(), error) { return p.holdIdle(n, transport) })
		if err != nil {
			return err
		}
	}
	const partitions = 10_000
	fill := func(p *process) (func(), error) {
		_, err := p.load("partitions", args("transport", "tls", "partitions", partitions)...)
		return func() {}, err
	}
	if err := r.growth(row{Figure: "F6", Name: "an idle partition, of 10,000", Unit: "KiB"}, partitions, fill); err != nil {
		return err
	}
	p, err := startRustmq("rustmq", "network.tls=on")
	if err != nil {
		return err
	}
	defer p.stop()
	if _, err := fill(p); err != nil {
		return err
	}
	var starts []float64
	for range r.pairs {
		if err := p.restart(); err != nil {
			return err
		}
		starts = append(starts, p.started.Seconds())
	}
	r.add(summarise(row{Figure: "F6", Name: "start to readyz with 10,000 idle partitions", Unit: "s"}, starts))
	return nil
}

// growth adds the growth of fresh servers' resident memory over fill, by n.
func (r *run) growth(x row, n int, fill func(*process) (func(), error)) error {
	var each []float64
	for range r.pairs {
		p, err := startRustmq("rustmq", "network.tls=on")
		if err != nil {
			return err
		}
		per, err := p.grownBy(n, func() (func(), error) { return fill(p) })
		p.stop()
		if err != nil {
			return err
		}
		each = append(each, per/1024)
	}
	r.add(summarise(x, each))
	return nil
}

// grownBy is the growth of the server's resident memory over what fill does,
// divided by n.
func (p *process) grownBy(n int, fill func() (func(), error)) (float64, error) {
	before, err := p.rss()
	if err != nil {
		return 0, err
	}
	empty, err := fill()
	if err != nil {
		return 0, err
	}
	defer empty()
	after, err := p.rss()
	return float64(after-before) / float64(n), err
}

// holdIdle opens n connections from a process of their own until released.
func (p *process) holdIdle(n int, transport string) (func(), error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self, append([]string{"load", "idle", "-broker", p.addr, "-ca", p.ca}, args("connections", n, "transport", transport)...)...)
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	if _, err := out.Read(make([]byte, 512)); err != nil {
		_ = cmd.Wait()
		return nil, fmt.Errorf("hold %d connections over %s: %w", n, transport, err)
	}
	return func() { _ = in.Close(); _ = cmd.Wait() }, nil
}
