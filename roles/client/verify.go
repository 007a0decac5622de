package client

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// verify is `rustmq verify`: a load whose every ack is remembered, and a check
// that each acked record is there once and in its place.
type verify struct {
	connection
	phase, state, topic, output string
	records, size, partitions   int
}

// verdict is what a check found.
type verdict struct {
	Acked      int64    `json:"acked"`
	Read       int64    `json:"read"`
	Lost       int64    `json:"lost"`       // acked, and not there
	Diverged   int64    `json:"diverged"`   // another record at an acked offset
	Duplicated int64    `json:"duplicated"` // a record that is there twice
	Reordered  int64    `json:"reordered"`  // a producer's later record before an earlier one
	Gaps       int64    `json:"gaps"`       // offsets that nobody has
	Unacked    int64    `json:"unacked"`    // there without an ack: sent when the connection broke
	Examples   []string `json:"examples,omitempty"`
}

func (v *verdict) broken() bool {
	return v.Lost+v.Diverged+v.Duplicated+v.Reordered+v.Gaps > 0
}

// example keeps the first few findings.
func (v *verdict) example(format string, args ...any) {
	if len(v.Examples) < 10 {
		v.Examples = append(v.Examples, fmt.Sprintf(format, args...))
	}
}

// VerifyCommand is `rustmq verify`.
func VerifyCommand(e Env) *cobra.Command {
	v := &verify{connection: connection{env: e}}
	cmd := &cobra.Command{
		Use: "verify", Short: "Produce, and prove that every acked record is there once and in its place", Args: cobra.NoArgs,
		Long: "Writes numbered records with an idempotent producer, remembers every ack in --state,\nthen reads the topic back and reports lost, diverged, duplicated and reordered records\nand gaps. Exit 1 when there is any.\n\n" +
			"--phase produce and --phase check do the halves, so that the broker can be killed in\nbetween, or in the middle of the first: an interrupt ends it and keeps what was acked.",
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
	flags.StringVarP(&v.output, "output", "o", "table", "table or json")
	return cmd
}

func (v *verify) run(ctx context.Context, cmd *cobra.Command) error {
	switch {
	case v.phase != "all" && v.phase != "produce" && v.phase != "check":
		return usage("--phase %q: want produce, check or all", v.phase)
	case v.phase != "all" && (v.state == "" || v.topic == ""):
		return usage("--phase %s needs --state FILE and --topic TOPIC", v.phase)
	case v.records < 1 || v.size < 8 || v.partitions < 1:
		return usage("verify: want records and partitions from 1, and a size from 8")
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
		defer func() {
			late, cancel := context.WithTimeout(context.WithoutCancel(ctx), pingTimeout)
			defer cancel()
			_, _ = adm.DeleteTopics(late, v.topic) // the verdict is out either way
		}()
	}
	if v.state == "" {
		file, err := os.CreateTemp("", "rustmq-verify-")
		if err != nil {
			return err
		}
		v.state = file.Name()
		defer os.Remove(v.state)
		if err := file.Close(); err != nil {
			return err
		}
	}
	if v.phase != "check" {
		if _, err := adm.CreateTopic(ctx, int32(v.partitions), -1, nil, v.topic); err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
			return fmt.Errorf("make the topic %s: %w", v.topic, err)
		}
		if err := v.produce(ctx); err != nil {
			return err
		}
	}
	if v.phase == "produce" {
		return nil
	}
	return v.check(ctx, adm)
}

// An ack in the state file: partition, offset and number of the record, little
// endian, 4 + 8 + 8 bytes. A cut last one counts as not acked.
const ackSize = 20

// acksFile appends acks.
type acksFile struct {
	mu    sync.Mutex
	file  *os.File
	out   *bufio.Writer
	count int64
	err   error
}

func (a *acksFile) add(partition int32, offset int64, number uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var b [ackSize]byte
	binary.LittleEndian.PutUint32(b[:], uint32(partition))
	binary.LittleEndian.PutUint64(b[4:], uint64(offset))
	binary.LittleEndian.PutUint64(b[12:], number)
	if _, err := a.out.Write(b[:]); err != nil && a.err == nil {
		a.err = err
	}
	a.count++
}

func (v *verify) produce(ctx context.Context) error {
	file, err := os.Create(v.state)
	if err != nil {
		return fmt.Errorf("make the state file: %w", err)
	}
	acks := &acksFile{file: file, out: bufio.NewWriterSize(file, 1<<20)}
	// The dead broker is waited for only as long as it takes to notice.
	cl, done, err := v.connect(ctx, kgo.DefaultProduceTopic(v.topic), kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.RecordDeliveryTimeout(time.Minute))
	if err != nil {
		return errors.Join(err, file.Close())
	}
	defer done()
	topics, err := kadm.NewClient(cl).ListTopics(ctx, v.topic)
	if err != nil {
		return errors.Join(fmt.Errorf("ask for the partitions of %s: %w", v.topic, err), file.Close())
	}
	partitions := len(topics[v.topic].Partitions)
	if partitions == 0 {
		return errors.Join(fmt.Errorf("topic %s has no partitions", v.topic), file.Close())
	}
	began := time.Now()
	for n := range v.records {
		if ctx.Err() != nil {
			break
		}
		value := make([]byte, v.size)
		binary.LittleEndian.PutUint64(value, uint64(n))
		cl.Produce(ctx, &kgo.Record{Partition: int32(n % partitions), Value: value}, func(r *kgo.Record, err error) {
			if err == nil {
				acks.add(r.Partition, r.Offset, binary.LittleEndian.Uint64(r.Value))
			}
		})
	}
	flushed := cl.Flush(ctx)
	acks.mu.Lock()
	defer acks.mu.Unlock()
	if err := errors.Join(acks.err, acks.out.Flush(), file.Close()); err != nil {
		return fmt.Errorf("write the state file: %w", err)
	}
	fmt.Fprintf(v.env.Stderr, "%d of %d records acked in %.1f s\n", acks.count, v.records, time.Since(began).Seconds())
	if ctx.Err() != nil {
		return nil // an interrupt is how a half load ends
	}
	return flushed
}

// loadAcks reads the state file: for each partition the number at each offset.
func loadAcks(name string) (map[int32]map[int64]uint64, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("open the state file: %w", err)
	}
	defer file.Close()
	acks := map[int32]map[int64]uint64{}
	in := bufio.NewReaderSize(file, 1<<20)
	for {
		var b [ackSize]byte
		_, err := io.ReadFull(in, b[:])
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return acks, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read the state file: %w", err)
		}
		partition := int32(binary.LittleEndian.Uint32(b[:]))
		if acks[partition] == nil {
			acks[partition] = map[int64]uint64{}
		}
		acks[partition][int64(binary.LittleEndian.Uint64(b[4:]))] = binary.LittleEndian.Uint64(b[12:])
	}
}

// check reads the whole topic and compares.
func (v *verify) check(ctx context.Context, adm *kadm.Client) error {
	acks, err := loadAcks(v.state)
	if err != nil {
		return err
	}
	ends, err := adm.ListEndOffsets(ctx, v.topic)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return fmt.Errorf("ask for the end of %s: %w", v.topic, err)
	}
	var out verdict
	left := map[int32]int64{}
	ends.Each(func(o kadm.ListedOffset) {
		if o.Offset > 0 {
			left[o.Partition] = o.Offset
		}
	})
	if err := v.read(ctx, left, acks, &out); err != nil {
		return err
	}
	for _, partition := range sortedPartitions(acks) {
		for offset, number := range acks[partition] {
			out.Lost++
			out.example("record %d, acked at partition %d offset %d, is not there", number, partition, offset)
		}
	}
	if err := v.report(&out); err != nil {
		return err
	}
	if out.broken() {
		return errors.New("a promise is broken: see above")
	}
	return nil
}

func sortedPartitions(acks map[int32]map[int64]uint64) []int32 {
	var all []int32
	for p := range acks {
		all = append(all, p)
	}
	slices.Sort(all)
	return all
}

// seen is what was read of one partition.
type seen struct {
	next    int64 // offset
	highest int64 // number, -1 before the first
	numbers map[uint64]bool
}

// read reads to the ends; it removes from acks what it finds in its place.
func (v *verify) read(ctx context.Context, left map[int32]int64, acks map[int32]map[int64]uint64, out *verdict) error {
	cl, done, err := v.connect(ctx, kgo.ConsumeTopics(v.topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		return err
	}
	defer done()
	partitions := map[int32]*seen{}
	for _, of := range acks {
		out.Acked += int64(len(of))
	}
	for len(left) > 0 {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return fmt.Errorf("read %s back: %w", v.topic, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			p := partitions[r.Partition]
			if p == nil {
				p = &seen{highest: -1, numbers: map[uint64]bool{}}
				partitions[r.Partition] = p
			}
			p.take(r, acks[r.Partition], out)
			if end, ok := left[r.Partition]; ok && r.Offset+1 >= end {
				delete(left, r.Partition)
			}
		})
	}
	return nil
}

// take judges one record.
func (p *seen) take(r *kgo.Record, acks map[int64]uint64, out *verdict) {
	out.Read++
	if r.Offset != p.next {
		out.Gaps++
		out.example("partition %d: offset %d follows %d", r.Partition, r.Offset, p.next-1)
	}
	p.next = r.Offset + 1
	if len(r.Value) < 8 {
		out.Diverged++
		out.example("partition %d offset %d: a record of %d bytes that verify did not write", r.Partition, r.Offset, len(r.Value))
		return
	}
	number := binary.LittleEndian.Uint64(r.Value)
	if p.numbers[number] {
		out.Duplicated++
		out.example("record %d is at partition %d offset %d again", number, r.Partition, r.Offset)
	} else if int64(number) < p.highest {
		out.Reordered++
		out.example("record %d is at partition %d offset %d, behind record %d", number, r.Partition, r.Offset, p.highest)
	}
	p.numbers[number] = true
	p.highest = max(p.highest, int64(number))
	want, ok := acks[r.Offset]
	switch {
	case !ok:
		out.Unacked++
	case want != number:
		out.Diverged++
		out.example("partition %d offset %d: record %d was acked there, record %d is", r.Partition, r.Offset, want, number)
		delete(acks, r.Offset)
	default:
		delete(acks, r.Offset)
	}
}

func (v *verify) report(out *verdict) error {
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
