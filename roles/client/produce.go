package client

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// largestLine is the longest record produce reads from standard input.
const largestLine = 16 << 20

// produce is `rustmq produce`.
type produce struct {
	connection
	key, keyField, acks, codec, format string
	headers                            []string
	partition                          int32
}

// ProduceCommand is `rustmq produce`.
func ProduceCommand(e Env) *cobra.Command {
	p := &produce{connection: connection{env: e}}
	cmd := &cobra.Command{
		Use: "produce TOPIC", Short: "Send the lines of standard input, one record a line", Args: cobra.ExactArgs(1),
		Example: "  echo hello | rustmq produce t\n" +
			"  rustmq produce quakes --transport quic --key-field net < earthquakes.ndjson\n" +
			"  rustmq produce t -f '%k\\t%v' < pairs.tsv",
		Long: "Sends the lines of standard input, one record a line, and waits for every ack.\n\n" +
			"-f takes a line apart: %k key, %v value, %% a percent sign, \\t \\n \\\\ escapes;\n" +
			"anything else must stand in the line as it is.",
		RunE: func(cmd *cobra.Command, args []string) error { return p.run(cmd.Context(), cmd, args[0]) },
	}
	p.flags(cmd)
	flags := cmd.Flags()
	flags.StringVarP(&p.key, "key", "k", "", "key of every record")
	flags.StringVar(&p.keyField, "key-field", "", "field of the JSON record that is its key")
	flags.StringVarP(&p.format, "format", "f", "%v", "how a line becomes key and value")
	flags.StringVar(&p.acks, "acks", "all", "0, 1 or all")
	flags.StringVarP(&p.codec, "compression", "z", "none", "none, gzip, snappy, lz4 or zstd")
	flags.StringArrayVarP(&p.headers, "header", "H", nil, "`KEY=VALUE` of every record, may be repeated")
	flags.Int32VarP(&p.partition, "partition", "p", -1, "partition of every record (-1: by key)")
	return cmd
}

func (p *produce) options(topic string) ([]kgo.Opt, error) {
	opts := []kgo.Opt{kgo.DefaultProduceTopic(topic), kgo.AllowAutoTopicCreation(), kgo.UnknownTopicRetries(2)}
	switch p.acks {
	case "all", "-1":
		opts = append(opts, kgo.RequiredAcks(kgo.AllISRAcks()))
	case "1":
		opts = append(opts, kgo.RequiredAcks(kgo.LeaderAck()), kgo.DisableIdempotentWrite())
	case "0":
		opts = append(opts, kgo.RequiredAcks(kgo.NoAck()), kgo.DisableIdempotentWrite())
	default:
		return nil, usage("--acks %q: want 0, 1 or all", p.acks)
	}
	codec, ok := map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
		"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	}[p.codec]
	if !ok {
		return nil, usage("--compression %q: want none, gzip, snappy, lz4 or zstd", p.codec)
	}
	opts = append(opts, kgo.ProducerBatchCompression(codec))
	if p.partition >= 0 {
		opts = append(opts, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	}
	return opts, nil
}

func (p *produce) run(ctx context.Context, cmd *cobra.Command, topic string) error {
	split, err := parseInputFormat(p.format)
	if err != nil {
		return err
	}
	var headers []kgo.RecordHeader
	for _, h := range p.headers {
		k, v, ok := strings.Cut(h, "=")
		if !ok {
			return usage("--header %q: want KEY=VALUE", h)
		}
		headers = append(headers, kgo.RecordHeader{Key: k, Value: []byte(v)})
	}
	opts, err := p.options(topic)
	if err != nil {
		return err
	}
	cl, done, err := p.open(ctx, cmd, opts...)
	if err != nil {
		return err
	}
	defer done()
	acked := newAcked()
	read := 0
	lines := bufio.NewReaderSize(p.env.Stdin, 64<<10)
	for {
		line, err := readLine(lines)
		if errors.Is(err, io.EOF) {
			break
		}
		read++
		if err != nil {
			return errors.Join(fmt.Errorf("read line %d of standard input: %w", read, err), cl.Flush(ctx), p.report(acked, topic))
		}
		record, err := p.record(split, line)
		if err != nil {
			return errors.Join(fmt.Errorf("line %d: %w", read, err), cl.Flush(ctx), p.report(acked, topic))
		}
		record.Headers = headers
		cl.Produce(ctx, record, acked.add)
		if acked.failed() {
			break
		}
	}
	if err := cl.Flush(ctx); err != nil {
		return errors.Join(fmt.Errorf("wait for the acks: %w", err), p.report(acked, topic))
	}
	return p.report(acked, topic)
}

// readLine returns a line without its end; io.EOF after the last one.
func readLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case len(line) > largestLine:
			return nil, fmt.Errorf("longer than %d bytes", largestLine)
		case err == nil:
			return line[:len(line)-1], nil
		case errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF) && len(line) > 0:
			return line, nil
		default:
			return nil, err
		}
	}
}

func (p *produce) record(split inputFormat, line []byte) (*kgo.Record, error) {
	key, value, err := split.split(line)
	if err != nil {
		return nil, err
	}
	r := &kgo.Record{Key: key, Value: value, Partition: p.partition}
	if p.key != "" {
		r.Key = []byte(p.key)
	}
	if p.keyField != "" {
		var object map[string]json.RawMessage
		if err := json.Unmarshal(value, &object); err != nil {
			return nil, fmt.Errorf("--key-field %s: the record is no JSON object: %w", p.keyField, err)
		}
		raw, ok := object[p.keyField]
		if !ok {
			return nil, fmt.Errorf("--key-field %s: the record has no such field", p.keyField)
		}
		var text string
		if json.Unmarshal(raw, &text) == nil {
			raw = []byte(text)
		}
		r.Key = raw
	}
	return r, nil
}

// report says what was acked; it fails when anything was not.
func (p *produce) report(a *acked, topic string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	word := "acked"
	if p.acks == "0" {
		word = "sent, no ack was asked for"
	}
	switch {
	case a.count == 1:
		fmt.Fprintf(p.env.Stderr, "1 record %s: %s partition %d, offset %d\n", word, topic, a.partition, a.last)
	case a.count > 0:
		fmt.Fprintf(p.env.Stderr, "%d records %s: %s, %d partitions, last offset %d\n", a.count, word, topic, len(a.partitions), a.last)
	}
	if a.err == nil {
		return nil
	}
	hint := ""
	switch {
	case errors.Is(a.err, kerr.UnknownTopicOrPartition):
		hint = fmt.Sprintf("; make the topic: rustmq admin topics create %s", topic)
	case errors.Is(a.err, kerr.MessageTooLarge):
		hint = fmt.Sprintf("; raise the topic's limit: rustmq admin topics alter %s --set max.message.bytes=BYTES", topic)
	}
	return fmt.Errorf("%d records were not acked: %w%s", a.lost, a.err, hint)
}

// acked collects answers.
type acked struct {
	mu         sync.Mutex
	count      int
	lost       int
	last       int64
	partition  int32
	partitions map[int32]bool
	err        error // the first
}

func newAcked() *acked { return &acked{partitions: map[int32]bool{}} }

func (a *acked) add(r *kgo.Record, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err != nil {
		a.lost++
		if a.err == nil {
			a.err = err
		}
		return
	}
	a.count++
	a.last, a.partition = r.Offset, r.Partition
	a.partitions[r.Partition] = true
}

func (a *acked) failed() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.err != nil
}
