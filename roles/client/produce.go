package client

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	// largestLine is the longest record produce reads from standard input.
	largestLine = 64 << 20
	// lastAcks is how long an interrupted produce waits for the acks of what it
	// has sent.
	lastAcks = 3 * time.Second
)

// produce is `rustmq produce`.
type produce struct {
	connection
	key, keyField, acks, codec, format string
	headers                            []string
	partition                          int32
	tombstones                         bool
	maxBytes                           int32
	timeout                            time.Duration

	input    inputFormat // nil: JSON
	constant []kgo.RecordHeader
}

// ProduceCommand is `rustmq produce`.
func ProduceCommand(e Env) *cobra.Command {
	p := &produce{connection: connection{env: e}}
	cmd := &cobra.Command{
		Use: "produce TOPIC", Short: "Send the lines of standard input, one record a line", Args: cobra.ExactArgs(1),
		Example: "  echo hello | rustmq produce t\n" +
			"  rustmq produce quakes --transport quic --key-field net < earthquakes.ndjson\n" +
			"  rustmq produce t -f '%k\\t%v' < pairs.tsv\n" +
			"  rustmq consume t -e -f json | rustmq produce copy -f json",
		Long: "Sends the lines of standard input, one record a line, and waits for every ack.\n\n" +
			"-f takes a line apart as consume's -f puts one together: json, one object a line as\n`rustmq consume -f json` prints it, or\n\n" + formatHelp +
			"\n\nA field ends where the text behind its verb begins. An empty key is none. %p and %T\nset partition and timestamp; %t, %o, %e, %d and lengths are skipped:\nonly a broker can say those. The first record without an ack ends it.",
		RunE: func(cmd *cobra.Command, args []string) error { return p.run(cmd.Context(), cmd, args[0]) },
	}
	p.flags(cmd)
	flags := cmd.Flags()
	flags.StringVarP(&p.key, "key", "k", "", "key of every record")
	flags.StringVar(&p.keyField, "key-field", "", "field of the JSON record that is its key")
	flags.StringVarP(&p.format, "format", "f", "%v", "how a line becomes a record, or json")
	flags.StringVar(&p.acks, "acks", "all", "0, 1 or all")
	flags.StringVarP(&p.codec, "compression", "z", "none", "none, gzip, snappy, lz4 or zstd")
	flags.StringArrayVarP(&p.headers, "header", "H", nil, "`KEY=VALUE` of every record, may be repeated")
	flags.Int32VarP(&p.partition, "partition", "p", -1, "partition of every record (-1: by key)")
	flags.BoolVarP(&p.tombstones, "tombstone", "Z", false, "send an empty value as none")
	flags.Int32Var(&p.maxBytes, "max-message-bytes", 1000012, "largest batch; the topic's max.message.bytes bounds it too")
	flags.DurationVar(&p.timeout, "timeout", time.Minute, "fail a record without an ack for that long")
	cmd.ValidArgsFunction = p.completeTopic
	p.complete(cmd)
	return cmd
}

// options checks the flags and says how to produce.
func (p *produce) options(topic string) ([]kgo.Opt, error) {
	opts := []kgo.Opt{kgo.DefaultProduceTopic(topic), kgo.AllowAutoTopicCreation(), kgo.UnknownTopicRetries(2)}
	acks, err := acksOption(p.acks)
	if err != nil {
		return nil, err
	}
	codec, ok := map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
		"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	}[p.codec]
	switch {
	case !ok:
		return nil, usage("--compression %q: want none, gzip, snappy, lz4 or zstd", p.codec)
	case p.maxBytes < 1024 || p.maxBytes > largestLine:
		return nil, usage("--max-message-bytes %d: want 1024 to %d", p.maxBytes, largestLine)
	case p.timeout < time.Second:
		return nil, usage("--timeout %v: want a second or more", p.timeout)
	case p.partition < -1:
		return nil, usage("--partition %d: want a partition, or -1 to choose by key", p.partition)
	case p.partition >= 0 && p.input.has('p'):
		return nil, usage("--partition and %%p in --format: give one of them")
	}
	opts = append(opts, acks...)
	opts = append(opts, kgo.ProducerBatchCompression(codec))
	if p.acks == "all" || p.acks == "-1" {
		// An idempotent client would wait for ever for a record that was sent and
		// not answered; the command ends at it, and report says what is not known.
		opts = append(opts, kgo.AllowIdempotentProduceCancellation())
	}
	opts = append(opts,
		kgo.ProducerBatchMaxBytes(p.maxBytes), kgo.BrokerMaxWriteBytes(2*largestLine))
	if p.partition >= 0 || p.input.has('p') {
		opts = append(opts, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	}
	return opts, nil
}

func acksOption(acks string) ([]kgo.Opt, error) {
	switch acks {
	case "all", "-1":
		return []kgo.Opt{kgo.RequiredAcks(kgo.AllISRAcks())}, nil
	case "1":
		return []kgo.Opt{kgo.RequiredAcks(kgo.LeaderAck()), kgo.DisableIdempotentWrite()}, nil
	case "0":
		return []kgo.Opt{kgo.RequiredAcks(kgo.NoAck()), kgo.DisableIdempotentWrite()}, nil
	}
	return nil, usage("--acks %q: want 0, 1 or all", acks)
}

// prepare reads the flags that say what a record is.
func (p *produce) prepare() error {
	if p.format != "json" {
		var err error
		if p.input, err = parseInputFormat(p.format); err != nil {
			return err
		}
	}
	keys := 0
	for _, given := range []bool{p.key != "", p.keyField != "", p.input.has('k')} {
		if given {
			keys++
		}
	}
	if keys > 1 {
		return usage("--key, --key-field and %%k in --format: give one of them")
	}
	for _, h := range p.headers {
		k, v, ok := strings.Cut(h, "=")
		if !ok {
			return usage("--header %q: want KEY=VALUE", h)
		}
		p.constant = append(p.constant, kgo.RecordHeader{Key: k, Value: []byte(v)})
	}
	return nil
}

func (p *produce) run(ctx context.Context, cmd *cobra.Command, topic string) error {
	if err := p.prepare(); err != nil {
		return err
	}
	opts, err := p.options(topic)
	if err != nil {
		return err
	}
	outage := newOutage(p.env, p.refusedHint)
	p.refusals = &refusals{said: map[int16]string{}}
	cl, done, err := p.open(ctx, cmd, append(opts, kgo.WithHooks(outage))...)
	if err != nil {
		return err
	}
	defer done()
	// After an interrupt, what was sent has a moment to be acked.
	sending, abort := context.WithCancel(context.WithoutCancel(ctx))
	defer abort()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(lastAcks, abort) })()

	acked := newAcked(outage.refused)
	err = p.send(ctx, sending, cl, acked)
	if flushed := cl.Flush(sending); flushed != nil && err == nil && !errors.Is(flushed, context.Canceled) {
		err = fmt.Errorf("wait for the acks: %w", flushed)
	}
	reported := p.report(acked, topic)
	if ctx.Err() != nil && err != nil && reported != nil {
		return fmt.Errorf("%w; %w", err, reported)
	}
	return errors.Join(err, reported)
}

// send produces what comes until its end, the first failure, or an interrupt.
func (p *produce) send(ctx, sending context.Context, cl *kgo.Client, acked *acked) error {
	quit := make(chan struct{})
	defer close(quit)
	until := deadlines{parent: sending, timeout: p.timeout}
	number := 0
	for lines := readLines(p.env.Stdin, quit); ; {
		select {
		case <-ctx.Done():
			return fmt.Errorf("interrupted after line %d", number)
		case l, ok := <-lines:
			if !ok {
				return nil
			}
			number++
			if errors.Is(l.err, errLongLine) {
				return fmt.Errorf("line %d of standard input is %w", number, l.err)
			}
			if l.err != nil {
				return fmt.Errorf("read line %d of standard input: %w", number, l.err)
			}
			record, err := p.record(l.text)
			if err != nil {
				return fmt.Errorf("line %d: %w", number, err)
			}
			line := number
			cl.Produce(until.next(time.Now()), record, func(r *kgo.Record, err error) { acked.add(line, r, err) })
			if acked.failed(number) {
				return nil // report says why
			}
		}
	}
}

// deadlines gives records contexts that end when they have waited for their ack for
// timeout, or a sixteenth of it longer: franz-go's own timeout counts from the timestamp of a
// record, which may be old, and is not looked at while there is no producer id yet, or a
// request is on its way.
type deadlines struct {
	parent  context.Context
	timeout time.Duration

	current context.Context
	since   time.Time
}

// next is for a record that is sent now.
func (d *deadlines) next(now time.Time) context.Context {
	if d.current == nil || now.Sub(d.since) > d.timeout/16 {
		ctx, end := context.WithCancelCause(d.parent)
		// franz-go takes a context that was cancelled for the end of a record, and not
		// one whose deadline has passed.
		time.AfterFunc(d.timeout+d.timeout/16, func() { end(kgo.ErrRecordTimeout) })
		d.current, d.since = ctx, now
	}
	return d.current
}

// line is one of standard input, or why there is none.
type line struct {
	text []byte
	err  error
}

// readLines reads ahead, so that an interrupt need not wait for input that may
// never come. The channel is closed at the end of the input; the goroutine ends
// there, or at the first line after quit.
func readLines(r io.Reader, quit <-chan struct{}) <-chan line {
	lines := make(chan line, 64)
	go func() {
		defer close(lines)
		in := bufio.NewReaderSize(r, 64<<10)
		for {
			text, err := readLine(in)
			if errors.Is(err, io.EOF) {
				return
			}
			select {
			case lines <- line{text, err}:
			case <-quit:
				return
			}
			if err != nil {
				return
			}
		}
	}()
	return lines
}

// errLongLine is a line that is no record.
var errLongLine = fmt.Errorf("longer than %d MiB, the most that produce sends as one record: split it", largestLine>>20)

// readLine returns a line without its end; io.EOF after the last one.
func readLine(r *bufio.Reader) ([]byte, error) {
	text := []byte{} // an empty line is an empty value, not none
	for {
		part, err := r.ReadSlice('\n')
		text = append(text, part...)
		switch {
		case len(text) > largestLine:
			return nil, errLongLine
		case err == nil:
			return text[:len(text)-1], nil
		case errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF) && len(text) > 0:
			return text, nil
		default:
			return nil, err
		}
	}
}

// record makes one of a line.
func (p *produce) record(text []byte) (*kgo.Record, error) {
	r := &kgo.Record{Partition: p.partition}
	var err error
	if p.format == "json" {
		err = fromJSON(text, r)
	} else {
		err = p.input.read(text, r)
	}
	if err != nil {
		return nil, err
	}
	r.Headers = append(r.Headers, p.constant...)
	switch {
	case p.key != "":
		r.Key = []byte(p.key)
	case p.keyField != "":
		if r.Key, err = jsonField(r.Value, p.keyField); err != nil {
			return nil, fmt.Errorf("--key-field %s: %w", p.keyField, err)
		}
	}
	if p.tombstones && len(r.Value) == 0 {
		r.Value = nil
	}
	return r, nil
}

// jsonField returns a field of an object: the text of a string, none for null,
// and anything else as it is written.
func jsonField(value []byte, field string) ([]byte, error) {
	var object map[string]json.RawMessage
	if err := json.Unmarshal(value, &object); err != nil {
		return nil, fmt.Errorf("the record is no JSON object: %w; the flag wants one a line", err)
	}
	raw, ok := object[field]
	if !ok {
		return nil, errors.New("the record has no such field")
	}
	var text *string
	if json.Unmarshal(raw, &text) != nil {
		return raw, nil
	}
	if text == nil {
		return nil, nil
	}
	return []byte(*text), nil
}

// report says what was acked; it fails when anything was not.
func (p *produce) report(a *acked, topic string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.count > 0 {
		records := plural(a.count, "record")
		switch p.acks {
		case "0":
			fmt.Fprintf(p.env.Stderr, "%s sent to %s; no ack was asked for: they can be lost\n", records, topic)
		case "1":
			fmt.Fprintf(p.env.Stderr, "%s acked by the leader alone: %s %s\n", records, topic, a.where())
		default:
			fmt.Fprintf(p.env.Stderr, "%s acked by every replica in sync: %s %s\n", records, topic, a.where())
		}
	}
	if a.err == nil {
		return nil
	}
	if errors.Is(a.err, context.Canceled) {
		return fmt.Errorf("of the last %s nobody knows: they may have been written or not", plural(a.lost, "record"))
	}
	hint := ""
	said := p.refusals.why(a.err)
	switch {
	case errors.Is(a.err, kerr.InvalidRecord) && said != "":
		// It is for who made the record.
	case errors.Is(a.err, kerr.InvalidRecord):
		hint = "; a compacted topic wants a key (--key, --key-field, %k in --format), or a module refuses what comes (rustmq admin etl list; `rustmq admin etl test NAME --sample FILE` says why)"
	case errors.Is(a.err, kerr.InvalidTopicException):
		hint = "; a topic's name has up to 249 letters, digits, '.', '_' and '-', and internal topics take no records"
	case errors.Is(a.err, kerr.UnknownTopicOrPartition):
		hint = fmt.Sprintf("; make the topic: rustmq admin topics create %s", topic)
	case errors.Is(a.err, kerr.MessageTooLarge):
		hint = fmt.Sprintf("; raise --max-message-bytes, and the topic's limit: rustmq admin topics alter %s --set max.message.bytes=BYTES", topic)
	case a.refused() != "":
		hint = "; " + a.refused()
	case errors.Is(a.err, kgo.ErrRecordTimeout):
		hint = "; the broker is down, too few replicas are in sync, or a log has no room (`rustmq admin cluster health`): those without an ack may have been written or not"
	}
	if said != "" {
		hint = fmt.Sprintf("; the broker says of it: %q%s", said, hint)
	}
	if a.stopped > 0 {
		hint += fmt.Sprintf("; nothing after line %d was sent", a.stopped)
	}
	return fmt.Errorf("%s not acked, the first from line %d: %w%s", was(a.lost, "record"), a.line, p.denied(a.err, topic, "", "write"), hint)
}

// acked collects answers.
type acked struct {
	refused func() string // [outage.refused]

	mu      sync.Mutex
	count   int
	lost    int
	first   map[int32]int64 // lowest offset by partition
	last    map[int32]int64 // highest
	err     error           // of the first line that was not acked
	line    int             // that line
	stopped int             // line after which none was sent, for another had failed; 0: none
}

func newAcked(refused func() string) *acked {
	return &acked{refused: refused, first: map[int32]int64{}, last: map[int32]int64{}}
}

// add takes the answer to the record of a line.
func (a *acked) add(line int, r *kgo.Record, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err != nil {
		if errors.Is(err, context.Canceled) && errors.Is(context.Cause(r.Context), kgo.ErrRecordTimeout) {
			err = kgo.ErrRecordTimeout
		}
		a.lost++
		if a.err == nil || line < a.line {
			a.err, a.line = err, line
		}
		return
	}
	a.count++
	if first, ok := a.first[r.Partition]; !ok || r.Offset < first {
		a.first[r.Partition] = r.Offset
	}
	a.last[r.Partition] = max(a.last[r.Partition], r.Offset)
}

// where says which offsets the records have; of many partitions only how far.
func (a *acked) where() string {
	const shown = 4
	if len(a.last) > shown {
		return fmt.Sprintf("%d partitions, offsets up to %d", len(a.last), slices.Max(slices.Collect(maps.Values(a.last))))
	}
	var parts []string
	for _, p := range slices.Sorted(maps.Keys(a.last)) {
		offsets := fmt.Sprintf("offset %d", a.last[p])
		if a.first[p] < a.last[p] {
			offsets = fmt.Sprintf("offsets %d to %d", a.first[p], a.last[p])
		}
		parts = append(parts, fmt.Sprintf("partition %d, %s", p, offsets))
	}
	return strings.Join(parts, "; ")
}

// failed tells whether a record was not acked; the line that was just sent is
// the last then.
func (a *acked) failed(sent int) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.err != nil {
		a.stopped = sent
	}
	return a.err != nil
}
