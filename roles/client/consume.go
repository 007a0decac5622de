package client

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// consume is `rustmq consume`.
type consume struct {
	connection
	group, offset, format string
	count                 int64
	exit                  bool
	timeout               time.Duration

	topic string
	from  from
	out   *bufio.Writer
	lines outputFormat // nil: JSON
}

// settleInterval is how long a read to the end waits before it asks whether
// what is missing can still come.
const settleInterval = 2 * time.Second

// ConsumeCommand is `rustmq consume`.
func ConsumeCommand(e Env) *cobra.Command {
	c := &consume{connection: connection{env: e}}
	cmd := &cobra.Command{
		Use: "consume TOPIC", Short: "Print the records of a topic", Args: cobra.ExactArgs(1),
		Example: "  rustmq consume t\n  rustmq consume t -o end\n  rustmq consume t -o @2018-02-01T00:00:00Z -n 10 -f '%d %k %v\\n'\n  rustmq consume t -g readers -f json",
		Long: "Prints the values of a topic's records, one a line, from the start, and goes on\nuntil Ctrl-C, -n or -e. As a member of a group (-g) it goes on where the group was,\nand commits what it has printed.\n\n" +
			"-o says where to start:\n\n" + offsetHelp + "\n\n-f says how a record is printed: json, one object a line, or\n\n" + formatHelp,
		RunE: func(cmd *cobra.Command, args []string) error { return c.run(cmd.Context(), cmd, args[0]) },
	}
	c.flags(cmd)
	flags := cmd.Flags()
	flags.StringVarP(&c.group, "group", "g", "", "consume as a member of this group, and commit")
	flags.StringVarP(&c.offset, "offset", "o", "", "where to start (default: start; with a group: where it was, else start)")
	flags.StringVarP(&c.format, "format", "f", "%v\\n", "how records are printed, or json")
	flags.Int64VarP(&c.count, "count", "n", 0, "end after so many records (0: never)")
	flags.BoolVarP(&c.exit, "exit", "e", false, "end at what is the end of the topic when it starts")
	flags.DurationVar(&c.timeout, "timeout", 30*time.Second, "with -e: fail when nothing comes for that long before the end")
	return cmd
}

func (c *consume) run(ctx context.Context, cmd *cobra.Command, topic string) error {
	c.topic = topic
	var err error
	if c.format != "json" {
		if c.lines, err = parseFormat(c.format); err != nil {
			return err
		}
	}
	if c.from, err = parseOffset(c.offset, time.Now()); err != nil {
		return err
	}
	if c.count < 0 || c.timeout <= 0 {
		return usage("consume: want a count of 0 or more, and a timeout of more than 0")
	}
	first, done, err := c.open(ctx, cmd)
	if err != nil {
		return err
	}
	defer done()
	adm := kadm.NewClient(first)
	left, opts, err := c.plan(ctx, adm)
	if err != nil {
		return err
	}
	if c.exit && len(left) == 0 {
		return nil
	}
	cl, err := c.connect(append(opts, kgo.FetchMaxWait(500*time.Millisecond), kgo.WithHooks(&outage{env: c.env}))...)
	if err != nil {
		return err
	}
	defer cl.Close()
	c.out = bufio.NewWriterSize(c.env.Stdout, 64<<10)
	err = c.print(ctx, cl, adm, left)
	if ctx.Err() != nil { // Ctrl-C ends a tail as it should
		err = nil
	}
	if c.group == "" {
		return err
	}
	late, cancel := context.WithTimeout(context.WithoutCancel(ctx), pingTimeout)
	defer cancel()
	if failed := cl.CommitMarkedOffsets(late); failed != nil {
		err = errors.Join(err, fmt.Errorf("commit what was printed for the group %s: %w", c.group, failed))
	}
	return err
}

// plan says what is left to read, by partition (nil without -e), and how to
// read it. It also says early that a topic is not there.
func (c *consume) plan(ctx context.Context, adm *kadm.Client) (map[int32]int64, []kgo.Opt, error) {
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	left, err := endsOf(ctx, adm, c.topic)
	if err != nil {
		return nil, nil, err
	}
	opts := []kgo.Opt{kgo.ConsumeStartOffset(c.from.kafka())}
	if c.group != "" {
		opts = append(opts, kgo.ConsumeTopics(c.topic), kgo.ConsumerGroup(c.group), kgo.AutoCommitMarks(), kgo.AutoCommitInterval(time.Second))
	}
	if !c.exit {
		if c.group == "" {
			opts = append(opts, kgo.ConsumeTopics(c.topic)) // partitions that are added later, too
		}
		return nil, opts, nil
	}
	opts = append(opts, kgo.KeepControlRecords()) // the last record may be one
	if c.group != "" {
		return left, opts, c.settle(ctx, adm, left)
	}
	starts, err := c.starts(ctx, adm)
	if err != nil {
		return nil, nil, err
	}
	at := map[int32]kgo.Offset{}
	for p, end := range left {
		if starts[p] >= end {
			delete(left, p)
		} else {
			at[p] = kgo.NewOffset().At(starts[p])
		}
	}
	return left, append(opts, kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{c.topic: at})), nil
}

// endsOf returns the end of each partition.
func endsOf(ctx context.Context, adm *kadm.Client, topic string) (map[int32]int64, error) {
	listed, err := adm.ListEndOffsets(ctx, topic)
	if err == nil {
		err = listed.Error()
	}
	if errors.Is(err, kerr.UnknownTopicOrPartition) {
		return nil, fmt.Errorf("there is no topic %s: produce to it first, or `rustmq admin topics create %s`", topic, topic)
	}
	if err != nil {
		return nil, fmt.Errorf("ask for the end of %s: %w", topic, err)
	}
	return offsets(listed), nil
}

// starts resolves -o for each partition.
func (c *consume) starts(ctx context.Context, adm *kadm.Client) (map[int32]int64, error) {
	listed, err := adm.ListStartOffsets(ctx, c.topic)
	if err == nil {
		err = listed.Error()
	}
	var ends, after kadm.ListedOffsets
	if err == nil && c.from.base == fromEnd {
		if ends, err = adm.ListEndOffsets(ctx, c.topic); err == nil {
			err = ends.Error()
		}
	}
	if err == nil && c.from.base == fromTime {
		if after, err = adm.ListOffsetsAfterMilli(ctx, c.from.n, c.topic); err == nil {
			err = after.Error()
		}
	}
	if err != nil {
		return nil, fmt.Errorf("ask where %s starts: %w", c.topic, err)
	}
	starts := offsets(listed)
	for p, start := range starts {
		at := start
		switch c.from.base {
		case fromStart:
			at = start + c.from.n
		case fromEnd:
			at = offsets(ends)[p] - c.from.n
		case fromOffset:
			at = c.from.n
		case fromTime:
			at = offsets(after)[p]
		}
		starts[p] = max(start, at)
	}
	return starts, nil
}

func offsets(listed kadm.ListedOffsets) map[int32]int64 {
	all := map[int32]int64{}
	listed.Each(func(o kadm.ListedOffset) { all[o.Partition] = o.Offset })
	return all
}

// kafka is the offset in franz-go's terms.
func (f from) kafka() kgo.Offset {
	o := kgo.NewOffset()
	switch f.base {
	case fromEnd:
		return o.AtEnd().Relative(-f.n)
	case fromOffset:
		return o.At(f.n)
	case fromTime:
		return o.AfterMilli(f.n)
	}
	return o.AtStart().Relative(f.n)
}

// settle drops from left what can no longer come: what was deleted from the
// start of the log, and what other members of the group have committed.
func (c *consume) settle(ctx context.Context, adm *kadm.Client, left map[int32]int64) error {
	listed, err := adm.ListStartOffsets(ctx, c.topic)
	if err != nil {
		return fmt.Errorf("ask for the start of %s: %w", c.topic, err)
	}
	starts := offsets(listed)
	if c.group != "" {
		committed, err := adm.FetchOffsets(ctx, c.group)
		if err != nil {
			return fmt.Errorf("ask for the offsets of the group %s: %w", c.group, err)
		}
		for p := range left {
			if o, ok := committed.Lookup(c.topic, p); ok && o.Err == nil {
				starts[p] = max(starts[p], o.At)
			}
		}
	}
	maps.DeleteFunc(left, func(p int32, end int64) bool { return starts[p] >= end })
	return nil
}

// compacted tells whether the topic may have holes before its end.
func (c *consume) compacted(ctx context.Context, adm *kadm.Client) bool {
	described, err := adm.DescribeTopicConfigs(ctx, c.topic)
	if err != nil {
		return false
	}
	for _, d := range described {
		for _, config := range d.Configs {
			if config.Key == "cleanup.policy" && config.Value != nil && strings.Contains(*config.Value, "compact") {
				return true
			}
		}
	}
	return false
}

// print prints until it is told to stop.
func (c *consume) print(ctx context.Context, cl *kgo.Client, adm *kadm.Client, left map[int32]int64) error {
	var printed int64
	var idle time.Duration
	for left == nil || len(left) > 0 {
		wait := min(settleInterval, c.timeout)
		poll, cancel := ctx, context.CancelFunc(func() {})
		if left != nil {
			poll, cancel = context.WithTimeout(ctx, wait)
		}
		fetches := cl.PollFetches(poll)
		cancel()
		records, err := c.write(fetches, left, &printed)
		if err := errors.Join(err, c.flush(cl, records)); err != nil {
			return err
		}
		if err := c.problems(ctx, fetches); err != nil {
			return err
		}
		if c.count > 0 && printed >= c.count {
			return nil
		}
		if left == nil || len(fetches.Records()) > 0 {
			idle = 0
			continue
		}
		idle += wait
		if err := c.settle(ctx, adm, left); err != nil {
			return err
		}
		if idle >= 2*settleInterval && c.compacted(ctx, adm) {
			return nil
		}
		if idle >= c.timeout && len(left) > 0 {
			p := slices.Min(slices.Collect(maps.Keys(left)))
			return fmt.Errorf("nothing came for %v, and partition %d has offsets up to %d: the broker may be stuck; try again, or wait longer with --timeout", c.timeout, p, left[p]-1)
		}
	}
	return nil
}

// write formats what was fetched, and returns the last record of each partition
// that was dealt with.
func (c *consume) write(fetches kgo.Fetches, left map[int32]int64, printed *int64) (map[int32]*kgo.Record, error) {
	last := map[int32]*kgo.Record{}
	var line []byte
	for iter := fetches.RecordIter(); !iter.Done(); {
		r := iter.Next()
		end, wanted := left[r.Partition]
		if left != nil && (!wanted || r.Offset >= end) {
			continue
		}
		if left != nil && r.Offset+1 >= end {
			delete(left, r.Partition)
		}
		last[r.Partition] = r
		if r.Attrs.IsControl() || (c.from.base == fromOffset && c.group == "" && r.Offset < c.from.n) {
			continue // franz-go bounds an offset behind the end within the log
		}
		var err error
		if line = line[:0]; c.format == "json" {
			line, err = jsonLine(line, r)
		} else {
			line = c.lines.write(line, r)
		}
		if err != nil {
			return last, err
		}
		if _, err := c.out.Write(line); err != nil {
			return nil, fmt.Errorf("print: %w", err)
		}
		if *printed++; *printed == c.count {
			break
		}
	}
	return last, nil
}

// flush makes what was printed visible, and only then lets it be committed.
func (c *consume) flush(cl *kgo.Client, last map[int32]*kgo.Record) error {
	if err := c.out.Flush(); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	if c.group != "" {
		cl.MarkCommitRecords(slices.Collect(maps.Values(last))...)
	}
	return nil
}

// problems says what was wrong with a fetch. Lost data is told, and the rest is
// read on.
func (c *consume) problems(ctx context.Context, fetches kgo.Fetches) error {
	var failed error
	fetches.EachError(func(_ string, partition int32, err error) {
		var lost *kgo.ErrDataLoss
		switch {
		case ctx.Err() != nil, errors.Is(err, context.DeadlineExceeded):
		case errors.As(err, &lost):
			fmt.Fprintf(c.env.Stderr, "rustmq: partition %d has lost what was read from it: offset %d is gone, reading on at %d\n", partition, lost.ConsumedTo, lost.ResetTo)
		case errors.Is(err, kerr.UnknownTopicOrPartition), errors.Is(err, kerr.UnknownTopicID):
			failed = fmt.Errorf("topic %s is gone: %w", c.topic, err)
		default:
			failed = fmt.Errorf("fetch partition %d of %s: %w", partition, c.topic, err)
		}
	})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return failed
}

// outage tells once that no broker can be reached, and once that one can.
type outage struct {
	env Env

	mu   sync.Mutex
	down bool // guarded by mu
}

// OnBrokerConnect is called by franz-go after every dial.
func (o *outage) OnBrokerConnect(_ kgo.BrokerMetadata, _ time.Duration, _ net.Conn, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case err == nil && o.down:
		o.down = false
		fmt.Fprintln(o.env.Stderr, "rustmq: the broker answers again")
	case err != nil && !o.down && !errors.Is(err, context.Canceled):
		o.down = true
		fmt.Fprintf(o.env.Stderr, "rustmq: the broker cannot be reached, trying on: %v\n", err)
	}
}
