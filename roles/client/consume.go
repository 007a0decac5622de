package client

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
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
	filterFlags
	group, offset, format string
	end                   string // of --until
	count                 int64
	exit                  bool
	timeout               time.Duration

	topic string
	from  from
	until *from  // nil: the end
	only  filter // of what is printed
	out   *bufio.Writer
	lines outputFormat // nil: JSON

	printed int64           // records that were written to out
	flushed int64           // of them, those that have left it
	last    map[int32]int64 // offset of the last record that came, by partition
	ill     map[int32]error // why a partition could not be read since; -1: any
	begins  map[int32]int64 // with -e: where each partition is read from
	reached map[int32]bool  // partitions that have come to the time of -o
	session string          // what was last told of the session with the group
}

const (
	// settleInterval is how long a read to the end waits before it asks whether
	// what is missing can still come.
	settleInterval = 2 * time.Second
	// illPause is how long a partition that could not be read is left alone: the
	// broker answers at once, and would be asked again at once.
	illPause = 250 * time.Millisecond
	// longestRequest is the longest that franz-go lets a request take.
	longestRequest = 15 * time.Minute
)

// ConsumeCommand is `rustmq consume`.
func ConsumeCommand(e Env) *cobra.Command {
	c := &consume{connection: connection{env: e}}
	cmd := &cobra.Command{
		Use: "consume TOPIC", Short: "Print the records of a topic", Args: cobra.ExactArgs(1),
		Example: "  rustmq consume t\n  rustmq consume t -o end\n  rustmq consume t -o @2018-02-01T00:00:00Z -n 10 -f '%d %k %v\\n'\n  rustmq consume t -g readers -f json\n  rustmq consume t -o @-2h --until @-1h --grep 'timeout|refused'\n  rustmq consume t -o end --key '^user-7$' --header trace",
		Long: "Prints the values of a topic's records, one a line, from the start, and goes on\nuntil Ctrl-C, -n or -e. As a member of a group (-g) it goes on where the group was,\nand commits what it has printed. Ctrl-C before what -n or -e asked for was printed\nis a failure: exit 1.\n\n" +
			"-o says where to start:\n\n" + offsetHelp + "\n\n--until says by the same words where to end. --grep, --key and --header leave out what\nthey do not find; -n counts what is printed, and a group has read the rest too.\n\n-f says how a record is printed: json, one object a line, or\n\n" + formatHelp,
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.denied(c.run(cmd.Context(), cmd, args[0]), args[0], c.group, "read")
		},
	}
	c.connection.flags(cmd)
	c.filterFlags.flags(cmd)
	flags := cmd.Flags()
	flags.StringVarP(&c.group, "group", "g", "", "consume as a member of this group, and commit")
	flags.StringVarP(&c.offset, "offset", "o", "", "where to start (default: start); with a group, only for partitions of which it has committed nothing")
	flags.StringVarP(&c.format, "format", "f", "%v\\n", "how records are printed, or json")
	flags.Int64VarP(&c.count, "count", "n", 0, "end after so many records (0: never)")
	flags.BoolVarP(&c.exit, "exit", "e", false, "end at what is the end of the topic when it starts")
	flags.StringVar(&c.end, "until", "", "end before `WHERE`, of each partition, as of -o; or at the end of the topic when it starts, if that comes first")
	flags.DurationVar(&c.timeout, "timeout", 30*time.Second, "with -e: how long nothing may come before the end; then it fails, but for a compacted topic that can be read")
	cmd.ValidArgsFunction = c.completeTopic
	c.complete(cmd)
	return cmd
}

// prepare reads the flags; what is wrong with them needs no broker.
func (c *consume) prepare(topic string, now time.Time) (err error) {
	c.topic = topic
	c.last, c.ill, c.reached = map[int32]int64{}, map[int32]error{}, map[int32]bool{}
	if c.format != "json" {
		if c.lines, err = parseFormat(c.format); err != nil {
			return err
		}
	}
	if c.from, err = parseOffset("offset", c.offset, now); err != nil {
		return err
	}
	if c.only, err = c.compile(); err != nil {
		return err
	}
	if err := c.prepareEnd(now); err != nil {
		return err
	}
	if c.count < 0 {
		return usage("--count %d: want 0 (no end) or more", c.count)
	}
	if c.timeout <= 0 {
		return usage("--timeout %v: want more than 0", c.timeout)
	}
	if when, ok := strings.CutPrefix(c.offset, "@"); ok && secondsMeant(when) {
		fmt.Fprintf(c.env.Stderr, "rustmq: --offset %s is %s: it counts milliseconds since 1970; of seconds it is --offset %s000\n", c.offset, time.UnixMilli(c.from.n).UTC().Format(time.RFC3339), c.offset)
	}
	return nil
}

func (c *consume) run(ctx context.Context, cmd *cobra.Command, topic string) error {
	if err := c.prepare(topic, time.Now()); err != nil {
		return err
	}
	// What is older than a time may have to be looked for in the bucket.
	first, done, err := c.open(ctx, cmd, kgo.RequestTimeoutOverhead(min(c.patience(), longestRequest)))
	if err != nil {
		return err
	}
	defer done()
	adm := kadm.NewClient(first)
	left, opts, err := c.plan(ctx, adm)
	if ctx.Err() != nil {
		return errors.New("interrupted before the first record")
	}
	if err != nil {
		return err
	}
	if c.exit && len(left) == 0 {
		return nil
	}
	cl, err := c.connect(append(opts, kgo.FetchMaxWait(500*time.Millisecond), kgo.WithHooks(newOutage(c.env, c.refusedHint)))...)
	if err != nil {
		return err
	}
	defer cl.Close()
	c.out = bufio.NewWriterSize(c.env.Stdout, 64<<10)
	err = c.interrupted(ctx, c.print(ctx, cl, adm, left))
	if c.group == "" {
		return err
	}
	late, cancel := context.WithTimeout(context.WithoutCancel(ctx), pingTimeout)
	defer cancel()
	if failed := cl.CommitMarkedOffsets(late); failed != nil {
		err = errors.Join(err, fmt.Errorf("commit what was printed for the group %s: %w; the next consumer of the group prints it again", c.group, failed))
	}
	return err
}

// interrupted says what an interrupt means for what was asked: a tail ends with
// it as it should, and what has an end has not come to it. What failed before is
// no less true.
func (c *consume) interrupted(ctx context.Context, err error) error {
	if ctx.Err() == nil || !errors.Is(err, ctx.Err()) {
		return err
	}
	if !c.exit && c.count == 0 {
		return nil
	}
	return fmt.Errorf("interrupted after %s: the end was not reached", plural(c.flushed, "record"))
}

// print prints until it is told to stop; left is what is left to read, by
// partition up to which offset, and nil where there is no end.
func (c *consume) print(ctx context.Context, cl *kgo.Client, adm *kadm.Client, left map[int32]int64) error {
	heard := time.Now()
	settled := heard
	for left == nil || len(left) > 0 {
		poll, cancel := ctx, context.CancelFunc(func() {})
		if left != nil {
			poll, cancel = context.WithTimeout(ctx, min(settleInterval, c.timeout))
		}
		fetches := cl.PollFetches(poll)
		cancel()
		records, err := c.write(fetches, left)
		if err := errors.Join(err, c.flush(cl, records)); err != nil {
			return err
		}
		if err := c.problems(ctx, fetches, left != nil); err != nil {
			return err
		}
		if c.count > 0 && c.printed >= c.count {
			return nil
		}
		if left == nil || fetches.NumRecords() > 0 {
			heard = time.Now()
			continue
		}
		late := time.Since(heard) >= c.timeout
		if late || time.Since(settled) >= settleInterval/2 { // refusals come sooner
			asking, cancel := context.WithTimeout(ctx, c.patience())
			if err = c.settle(asking, adm, left); err == nil {
				c.holes(asking, cl, adm, left)
			}
			cancel()
			if err != nil {
				return err
			}
			settled = time.Now()
		}
		if late && len(left) > 0 {
			return c.short(ctx, adm, left)
		}
		if len(c.ill) > 0 {
			if err := pause(ctx, illPause); err != nil {
				return err
			}
		}
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// short is the verdict on a read that did not come to its end though nothing
// came for --timeout: of a topic that is compacted, and whose partitions answer,
// the rest is no more; else a part must not be taken for the whole.
func (c *consume) short(ctx context.Context, adm *kadm.Client, left map[int32]int64) error {
	partitions := slices.Sorted(maps.Keys(left))
	for _, p := range partitions {
		err, is := c.ill[p]
		if !is {
			err, is = c.ill[-1]
		}
		if !is {
			continue
		}
		why := "see its log"
		switch {
		case errors.Is(err, kerr.KafkaStorageError):
			why = "it cannot be read from the bucket or the disk: see the broker's log and `rustmq admin storage check`"
		case errors.Is(err, kerr.UnknownTopicID):
			why = "the topic was deleted, or made anew: start again to read the new one"
		}
		return fmt.Errorf("nothing came for %v, and partition %d has offsets up to %d; the last answer was %w: %s; --timeout waits longer", c.timeout, p, left[p]-1, err, why)
	}
	p := partitions[0]
	if !c.compacted(ctx, adm) {
		return fmt.Errorf("nothing came for %v, and partition %d has offsets up to %d: the broker may be stuck, or wait for its bucket (`rustmq admin storage`); try again, or wait longer with --timeout", c.timeout, p, left[p]-1)
	}
	for _, p := range partitions {
		after := "at its start"
		if last, ok := c.last[p]; ok {
			after = fmt.Sprintf("at offset %d", last)
		}
		fmt.Fprintf(c.env.Stderr, "rustmq: partition %d ended %s of %d: nothing more came for %v, so the rest was compacted away\n", p, after, left[p]-1, c.timeout)
	}
	return nil
}

// write formats what was fetched, and returns the last record of each partition
// that was dealt with.
func (c *consume) write(fetches kgo.Fetches, left map[int32]int64) (map[int32]*kgo.Record, error) {
	last := map[int32]*kgo.Record{}
	var line []byte
	for iter := fetches.RecordIter(); !iter.Done(); {
		r := iter.Next()
		delete(c.ill, r.Partition)
		delete(c.ill, -1)
		end, wanted := left[r.Partition]
		if left != nil && (!wanted || r.Offset >= end) {
			delete(left, r.Partition) // what is before its end has come, or is no more
			continue
		}
		if left != nil && r.Offset+1 >= end {
			delete(left, r.Partition)
		}
		last[r.Partition] = r
		c.last[r.Partition] = r.Offset
		if r.Attrs.IsControl() || c.early(r) || !c.only.takes(r) {
			continue
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
			return nil, c.unwritten(err)
		}
		if c.printed++; c.printed == c.count {
			break
		}
	}
	return last, nil
}

// early tells whether a record lies before where -o points to: franz-go bounds
// what is behind the end within the log. A group goes on where it was.
func (c *consume) early(r *kgo.Record) bool {
	if c.group != "" {
		return false
	}
	switch c.from.base {
	case fromOffset:
		return r.Offset < c.from.n
	case fromTime:
		if r.Timestamp.UnixMilli() >= c.from.n {
			c.reached[r.Partition] = true
		}
		return !c.reached[r.Partition]
	}
	return false
}

// flush makes what was printed visible, and only then lets it be committed.
func (c *consume) flush(cl *kgo.Client, last map[int32]*kgo.Record) error {
	if err := c.out.Flush(); err != nil {
		return c.unwritten(err)
	}
	c.flushed = c.printed
	if c.group != "" {
		cl.MarkCommitRecords(slices.Collect(maps.Values(last))...)
	}
	return nil
}

// unwritten says how far the output is good.
func (c *consume) unwritten(err error) error {
	committed := ""
	if c.group != "" {
		committed = ", and no later one is committed"
	}
	return fmt.Errorf("write to standard output: %w; %s before were printed whole%s", err, plural(c.flushed, "record"), committed)
}

// problems says what was wrong with a fetch. Lost data is told, what may pass is
// remembered by a read to the end, and the rest is read on.
func (c *consume) problems(ctx context.Context, fetches kgo.Fetches, toEnd bool) error {
	var failed error
	fetches.EachError(func(_ string, partition int32, err error) {
		var lost *kgo.ErrDataLoss
		var session *kgo.ErrGroupSession
		switch {
		case ctx.Err() != nil, errors.Is(err, context.DeadlineExceeded):
		case errors.As(err, &lost):
			fmt.Fprintf(c.env.Stderr, "rustmq: partition %d has lost what was read from it: offset %d is gone, reading on at %d\n", partition, lost.ConsumedTo, lost.ResetTo)
		case errors.As(err, &session):
			failed = errors.Join(failed, c.outOfGroup(session.Err))
		case toEnd && kerr.IsRetriable(err):
			c.ill[partition] = err
		case errors.Is(err, kerr.UnknownTopicOrPartition), errors.Is(err, kerr.UnknownTopicID):
			failed = c.gone(err)
		default:
			failed = fmt.Errorf("partition %d of %s cannot be read: %w", partition, c.topic, err)
			if last, ok := c.last[partition]; ok {
				failed = fmt.Errorf("partition %d of %s cannot be read after offset %d: %w", partition, c.topic, last, err)
			}
		}
	})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return failed
}

func (c *consume) gone(err error) error {
	return fmt.Errorf("topic %s is gone: %w; it was deleted, or made anew: start again to read the new one", c.topic, err)
}

// outOfGroup is told why the client is no member of its group. It joins again by
// itself, which is told once for each reason; nil but for what no try can mend.
func (c *consume) outOfGroup(err error) error {
	for _, hopeless := range []error{
		kerr.GroupAuthorizationFailed, kerr.TopicAuthorizationFailed, kerr.ClusterAuthorizationFailed, kerr.InvalidGroupID, kerr.UnsupportedVersion,
		kerr.InconsistentGroupProtocol, kerr.GroupMaxSizeReached, kerr.InvalidSessionTimeout, kerr.InvalidRequest,
	} {
		if errors.Is(err, hopeless) {
			return fmt.Errorf("join the group %s: %w", c.group, err)
		}
	}
	if said := err.Error(); said != c.session {
		c.session = said
		fmt.Fprintf(c.env.Stderr, "rustmq: out of the group %s, joining it again: %v\n", c.group, err)
	}
	return nil
}
