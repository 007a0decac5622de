package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// verify is `rustmq verify`: a load whose every ack is remembered, and a check
// that each acked record is there once and in its place.
type verify struct {
	connection
	phase, state, topic, output string
	records, size, partitions   int
	timeout                     time.Duration

	passing bool // the state goes with the command
}

// VerifyCommand is `rustmq verify`.
func VerifyCommand(e Env) *cobra.Command {
	v := &verify{connection: connection{env: e}}
	cmd := &cobra.Command{
		Use: "verify", Short: "Produce, and prove that every acked record is there once and in its place", Args: cobra.NoArgs,
		Example: "  rustmq verify\n  rustmq verify --phase produce --topic t --state acks && kill -9 … && rustmq verify --phase check --topic t --state acks",
		Long: "Writes numbered records with an idempotent producer (acks=all), remembers every ack\nin --state, then reads the topic back. Exit 1 when an acked record is lost or\nanother stands in its place (diverged), when one is there twice (duplicated) or\nbehind a later one (reordered), or when offsets are missing (gaps).\n\n" +
			"--phase produce and --phase check do the halves, so that the broker can be killed in\nbetween, or in the middle of the first: an interrupt ends it and keeps what was acked.\n" +
			"Without --phase an interrupt is a failure, for nothing was checked.\n" +
			"--phase produce adds to a state that is there; one check then covers all of them.",
		RunE: func(cmd *cobra.Command, _ []string) error { return v.run(cmd.Context(), cmd) },
	}
	v.flags(cmd)
	flags := cmd.Flags()
	flags.StringVar(&v.phase, "phase", "all", "produce, check or all")
	flags.StringVar(&v.state, "state", "", "`FILE` that remembers acks (needed with --phase)")
	flags.StringVar(&v.topic, "topic", "", "topic, made if it is not there (default: a new one, deleted afterwards)")
	flags.IntVarP(&v.records, "records", "n", 100_000, "records")
	flags.IntVar(&v.size, "size", 256, "bytes of a value, at least 8")
	flags.IntVar(&v.partitions, "partitions", 4, "partitions of a new topic")
	flags.DurationVar(&v.timeout, "timeout", time.Minute, "how long a broker may be gone before the load, or the check, gives up")
	flags.StringVarP(&v.output, "output", "o", "table", "table or json")
	v.complete(cmd)
	return cmd
}

func (v *verify) run(ctx context.Context, cmd *cobra.Command) error {
	switch {
	case v.phase != "all" && v.phase != "produce" && v.phase != "check":
		return usage("--phase %q: want produce, check or all", v.phase)
	case v.phase != "all" && (v.state == "" || v.topic == ""):
		return usage("--phase %s needs --state FILE and --topic TOPIC", v.phase)
	case v.records < 1 || v.records > 1<<31:
		return usage("--records %d: want 1 to %d", v.records, 1<<31)
	case v.size < numberSize || v.size > largestValue:
		return usage("--size %d: want %d to %d bytes", v.size, numberSize, largestValue)
	case v.partitions < 1:
		return usage("--partitions %d: want 1 or more", v.partitions)
	case v.timeout < time.Second:
		return usage("--timeout %v: want a second or more", v.timeout)
	case v.output != "table" && v.output != "json":
		return usage("--output %q: want table or json", v.output)
	}
	cl, done, err := v.open(ctx, cmd)
	if err != nil {
		return err
	}
	defer done()
	adm := kadm.NewClient(cl)
	if v.topic == "" {
		v.topic = "verify-" + strconv.FormatInt(time.Now().UnixNano(), 36)
		defer deleteTopic(ctx, adm, v.topic)
	}
	if v.state == "" {
		file, err := os.CreateTemp("", "rustmq-verify-")
		if err != nil {
			return fmt.Errorf("make the state file: %w", err)
		}
		v.state, v.passing = file.Name(), true
		defer os.Remove(v.state)
		if err := file.Close(); err != nil {
			return fmt.Errorf("make the state file: %w", err)
		}
	}
	if v.phase != "check" {
		partitions, _, err := makeTopic(ctx, cl, v.topic, v.partitions)
		if err != nil {
			return err
		}
		if err := v.produce(ctx, partitions); err != nil {
			return err
		}
	}
	if v.phase == "produce" {
		return nil
	}
	if ctx.Err() != nil {
		return errors.New("interrupted: nothing was checked")
	}
	return v.check(ctx, adm)
}

// deleteTopic removes a topic of a load that is over, interrupted or not.
func deleteTopic(ctx context.Context, adm *kadm.Client, topic string) {
	late, cancel := context.WithTimeout(context.WithoutCancel(ctx), pingTimeout)
	defer cancel()
	_, _ = adm.DeleteTopics(late, topic) // the result is out either way
}

// largestValue is the longest value of verify and bench.
const largestValue = 16 << 20

// errNoAck ends a load whose broker is gone for good.
var errNoAck = errors.New("no ack came")

// produce loads the topic's partitions, and remembers acks until all are in, the
// broker is gone for good, or an interrupt.
func (v *verify) produce(ctx context.Context, partitions int) (err error) {
	acks, err := openLedger(v.state)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, acks.close()) }()
	cl, err := v.connect(kgo.DefaultProduceTopic(v.topic), kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		return err
	}
	defer cl.Close()
	// The client keeps a record that may have been written for ever, and would
	// write it twice if it were told to forget it: so the load as a whole ends
	// when no ack came for --timeout.
	loading, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	silence := time.AfterFunc(v.timeout, func() { giveUp(errNoAck) })
	defer silence.Stop()
	var refused atomic.Int64
	began := time.Now()
	defer v.env.progress(func() string {
		return fmt.Sprintf("%d of %d records acked", acks.acked(), v.records)
	})()
	run := rand.Uint32()
	for n := range v.records {
		if loading.Err() != nil || refused.Load() > 0 {
			break
		}
		number := numberOf(run, n)
		cl.Produce(loading, &kgo.Record{Partition: int32(n % partitions), Value: payload(number, v.size)}, func(r *kgo.Record, err error) {
			if err == nil {
				silence.Reset(v.timeout)
				acks.add(r.Partition, r.Offset, number)
				return
			}
			if refused.Add(1) == 1 && loading.Err() == nil {
				fmt.Fprintf(v.env.Stderr, "rustmq: a record was not acked: %v\n", err)
			}
		})
	}
	flushed := cl.Flush(loading)
	fmt.Fprintf(v.env.Stderr, "%d of %d records acked in %.1f s\n", acks.acked(), v.records, time.Since(began).Seconds())
	switch {
	case ctx.Err() != nil:
		return nil // an interrupt is how a half load ends
	case context.Cause(loading) != nil && acks.acked() < int64(v.records):
		return fmt.Errorf("load %s: %w for %v; is the broker up?%s", v.topic, errNoAck, v.timeout, v.kept())
	case flushed != nil:
		return fmt.Errorf("wait for the acks: %w", flushed)
	case refused.Load() > 0:
		return fmt.Errorf("%s not acked: why stands above%s", was(refused.Load(), "record"), v.kept())
	}
	return nil
}

// kept says where the acks are, if they stay there.
func (v *verify) kept() string {
	if v.passing {
		return ""
	}
	return "; the acks that came are in " + v.state
}

// check reads the whole topic and compares.
func (v *verify) check(ctx context.Context, adm *kadm.Client) error {
	acks, err := loadAcks(v.state)
	if err != nil {
		return err
	}
	ends, err := endsOf(ctx, adm, v.topic)
	if err != nil {
		return err
	}
	listed, err := adm.ListStartOffsets(ctx, v.topic)
	if err == nil {
		err = listed.Error()
	}
	if err != nil {
		return fmt.Errorf("ask for the start of %s: %w", v.topic, err)
	}
	judge := newJudge(acks)
	if err := v.read(ctx, offsets(listed), ends, judge); err != nil {
		if ctx.Err() != nil {
			return errors.New("interrupted: the check did not come to its end")
		}
		return err
	}
	out := judge.verdict(ends)
	if err := v.report(out); err != nil {
		return err
	}
	if out.broken() {
		return errors.New("a promise is broken: see above; stop the broker and keep its data directory and its bucket: `rustmq debug wal` shows what is there")
	}
	return nil
}

// read hands the judge every record between start and end.
func (v *verify) read(ctx context.Context, starts, ends map[int32]int64, judge *judge) error {
	at, left := map[int32]kgo.Offset{}, map[int32]int64{}
	var total int64
	for p, end := range ends {
		if starts[p] < end {
			at[p], left[p] = kgo.NewOffset().At(starts[p]), end
			total += end - starts[p]
		}
	}
	if len(left) == 0 {
		return nil
	}
	cl, err := v.connect(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{v.topic: at}), kgo.KeepControlRecords())
	if err != nil {
		return err
	}
	defer cl.Close()
	var read atomic.Int64
	defer v.env.progress(func() string { return fmt.Sprintf("%d of %d records read back", read.Load(), total) })()
	for len(left) > 0 {
		poll, cancel := context.WithTimeout(ctx, v.timeout)
		fetches := cl.PollFetches(poll)
		gaveUp := poll.Err() != nil
		cancel()
		fetches.EachRecord(func(r *kgo.Record) {
			end, ok := left[r.Partition]
			if !ok || r.Offset >= end {
				return // came after the check began
			}
			read.Add(1)
			judge.take(r.Partition, r.Offset, r.Value)
			if r.Offset+1 >= end {
				delete(left, r.Partition)
			}
		})
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if gaveUp {
			p := slices.Min(slices.Collect(maps.Keys(left)))
			return fmt.Errorf("read %s back: nothing came for %v, and partition %d has offsets up to %d: wait longer with --timeout, or see the broker's log", v.topic, v.timeout, p, left[p]-1)
		}
		if err := fetches.Err(); err != nil {
			return fmt.Errorf("read %s back: %w", v.topic, err)
		}
	}
	return nil
}

func (v *verify) report(out verdict) error {
	if v.output == "json" {
		return json.NewEncoder(v.env.Stdout).Encode(out)
	}
	_, err := fmt.Fprintf(v.env.Stdout, "%d acked, %d read: %d lost, %d diverged, %d duplicated, %d reordered, %d gaps (%d there without an ack)\n",
		out.Acked, out.Read, out.Lost, out.Diverged, out.Duplicated, out.Reordered, out.Gaps, out.Unacked)
	for _, e := range out.Examples {
		if err == nil {
			_, err = fmt.Fprintln(v.env.Stdout, "  "+e)
		}
	}
	return err
}
