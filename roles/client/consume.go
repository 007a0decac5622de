package client

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
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
}

// ConsumeCommand is `rustmq consume`.
func ConsumeCommand(e Env) *cobra.Command {
	c := &consume{connection: connection{env: e}}
	cmd := &cobra.Command{
		Use: "consume TOPIC", Short: "Print the records of a topic", Args: cobra.ExactArgs(1),
		Example: "  rustmq consume t\n  rustmq consume t -o end\n  rustmq consume t -o @2018-02-01T00:00:00Z -n 10 -f '%d %k %v\\n'\n  rustmq consume t -g readers -f json",
		Long: "Prints the values of a topic's records, one a line, from the start, and goes on\nuntil Ctrl-C, -n or -e.\n\n" +
			"-o: start, end, an OFFSET, -N (the last N of each partition), @TIME (RFC 3339,\nmilliseconds since 1970, or a duration ago: @-1h).\n\n" +
			"-f json prints one object a line. Else: %v or %s value, %k key, %h headers,\n%t topic, %p partition, %o offset, %e leader epoch, %T timestamp in ms, %d date\n" +
			"(%d{2006-01-02} with Go's layout), %K %V lengths, %% a percent sign; %v{hex},\n%v{base64}; escapes \\n \\t \\r \\0 \\\\.",
		RunE: func(cmd *cobra.Command, args []string) error { return c.run(cmd.Context(), cmd, args[0]) },
	}
	c.flags(cmd)
	flags := cmd.Flags()
	flags.StringVarP(&c.group, "group", "g", "", "consume as a member of this group, and commit")
	flags.StringVarP(&c.offset, "offset", "o", "", "where to start (default: start; with a group: where it was, else start)")
	flags.StringVarP(&c.format, "format", "f", "%v\\n", "how records are printed, or json")
	flags.Int64VarP(&c.count, "count", "n", 0, "end after so many records (0: never)")
	flags.BoolVarP(&c.exit, "exit", "e", false, "end at what is the end of the topic when it starts")
	return cmd
}

func (c *consume) run(ctx context.Context, cmd *cobra.Command, topic string) error {
	var format outputFormat
	var err error
	if c.format != "json" {
		if format, err = parseOutputFormat(c.format); err != nil {
			return err
		}
	}
	start, err := parseOffset(c.offset, time.Now())
	if err != nil {
		return err
	}
	opts := []kgo.Opt{kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(start), kgo.FetchMaxWait(500 * time.Millisecond)}
	if c.group != "" {
		opts = append(opts, kgo.ConsumerGroup(c.group), kgo.DisableAutoCommit())
	}
	cl, done, err := c.open(ctx, cmd, opts...)
	if err != nil {
		return err
	}
	defer done()
	ends, err := c.ends(ctx, cl, topic)
	if err != nil {
		return err
	}
	out := bufio.NewWriterSize(c.env.Stdout, 64<<10)
	printed := map[int32]*kgo.Record{}
	err = c.print(ctx, cl, out, format, ends, printed)
	if ctx.Err() != nil { // Ctrl-C ends a tail as it should
		err = nil
	}
	if err == nil {
		err = c.commit(context.WithoutCancel(ctx), cl, printed)
	}
	return errors.Join(err, out.Flush())
}

// ends is where to stop, by partition; nil without -e. It also says early that
// a topic is not there.
func (c *consume) ends(ctx context.Context, cl *kgo.Client, topic string) (map[int32]int64, error) {
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	adm := kadm.NewClient(cl)
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
	if !c.exit {
		return nil, nil
	}
	starts, err := adm.ListStartOffsets(ctx, topic)
	if err != nil {
		return nil, fmt.Errorf("ask for the start of %s: %w", topic, err)
	}
	ends := map[int32]int64{}
	listed.Each(func(o kadm.ListedOffset) {
		if first, ok := starts.Lookup(topic, o.Partition); !ok || first.Offset < o.Offset {
			ends[o.Partition] = o.Offset
		}
	})
	return ends, nil
}

// commit commits what was printed, when it was for a group.
func (c *consume) commit(ctx context.Context, cl *kgo.Client, printed map[int32]*kgo.Record) error {
	if c.group == "" || len(printed) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	if err := cl.CommitRecords(ctx, slices.Collect(maps.Values(printed))...); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	clear(printed)
	return nil
}

// print prints until it is told to stop. It leaves in last the last record of
// each partition that it printed and did not commit.
func (c *consume) print(ctx context.Context, cl *kgo.Client, out *bufio.Writer, format outputFormat, ends map[int32]int64, last map[int32]*kgo.Record) error {
	var printed int64
	var line []byte
	for ends == nil || len(ends) > 0 {
		poll, cancel := ctx, context.CancelFunc(func() {})
		if ends != nil {
			// What is compacted away or lies before the start never comes.
			poll, cancel = context.WithTimeout(ctx, 5*time.Second)
		}
		fetches := cl.PollFetches(poll)
		timedOut := poll.Err() != nil && ctx.Err() == nil
		cancel()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if timedOut {
			return nil
		}
		if err := fetches.Err(); err != nil {
			return fmt.Errorf("fetch: %w", err)
		}
		for iter := fetches.RecordIter(); !iter.Done(); {
			r := iter.Next()
			end, bounded := ends[r.Partition]
			if ends != nil && (!bounded || r.Offset >= end) {
				continue
			}
			var err error
			if line = line[:0]; c.format == "json" {
				line, err = jsonLine(line, r)
			} else {
				line = format.write(line, r)
			}
			if err != nil {
				return err
			}
			if _, err := out.Write(line); err != nil {
				return fmt.Errorf("print: %w", err)
			}
			last[r.Partition] = r
			if bounded && r.Offset+1 >= end {
				delete(ends, r.Partition)
			}
			if printed++; printed == c.count {
				return nil
			}
		}
		if err := out.Flush(); err != nil {
			return fmt.Errorf("print: %w", err)
		}
		if err := c.commit(ctx, cl, last); err != nil {
			return err
		}
	}
	return nil
}

// parseOffset reads -o.
func parseOffset(s string, now time.Time) (kgo.Offset, error) {
	o := kgo.NewOffset()
	switch s {
	case "", "start", "beginning", "earliest":
		return o.AtStart(), nil
	case "end", "latest":
		return o.AtEnd(), nil
	}
	if when, ok := strings.CutPrefix(s, "@"); ok {
		millis, err := parseTime(when, now)
		if err != nil {
			return o, err
		}
		return o.AfterMilli(millis), nil
	}
	n, err := strconv.ParseInt(s, 10, 64)
	switch {
	case err != nil:
		return o, usage("--offset %q: want start, end, an offset, -N or @TIME", s)
	case n < 0:
		return o.AtEnd().Relative(n), nil
	}
	return o.At(n), nil
}

// parseTime reads RFC 3339, milliseconds since 1970, or a duration before now.
func parseTime(s string, now time.Time) (int64, error) {
	if d, ok := strings.CutPrefix(s, "-"); ok {
		ago, err := time.ParseDuration(d)
		if err != nil {
			return 0, usage("--offset @%s: want a duration such as @-1h", s)
		}
		return now.Add(-ago).UnixMilli(), nil
	}
	if millis, err := strconv.ParseInt(s, 10, 64); err == nil {
		return millis, nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02"} {
		if t, err := time.Parse(layout, s); err == nil {
			return t.UnixMilli(), nil
		}
	}
	return 0, usage("--offset @%s: want RFC 3339 (2018-02-01T00:00:00Z), milliseconds since 1970, or a duration ago (@-1h)", s)
}
