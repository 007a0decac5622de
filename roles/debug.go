package roles

import (
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"rustmq.dev/rustmq/roles/client"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/disk"
	"rustmq.dev/rustmq/storage/wal"
)

// debugCommand is `rustmq debug …`: it reads files as they lie, of a stopped or
// a running node, and changes nothing; bundle asks servers too.
func debugCommand(env client.Env, cloud Cloud) *cobra.Command {
	stdout := env.Stdout
	cmd := &cobra.Command{Use: "debug", Short: "Look into files of a node, or gather what is known of a cluster", Args: cobra.NoArgs}
	cmd.AddCommand(debugWAL(stdout), debugRaft(stdout), debugBatch(stdout), debugObject(stdout), debugBundle(env, cloud))
	return cmd
}

// walLine is what debug wal prints of a frame.
type walLine struct {
	File      string     `json:"file"`
	At        int64      `json:"at"`
	Sequence  uint64     `json:"sequence"`
	Kind      string     `json:"kind"`
	Copy      bool       `json:"copy,omitempty"`
	Topic     string     `json:"topic"`
	Partition int32      `json:"partition"`
	Epoch     int32      `json:"epoch"`
	Offset    int64      `json:"offset"`
	Length    int        `json:"length"`
	Batch     *batchLine `json:"batch,omitempty"`
}

// walDamage is what is printed of what cannot be read.
type walDamage struct {
	File   string `json:"file"`
	At     int64  `json:"at"`
	Damage string `json:"damage"`
}

// batchLine is what is printed of a record batch.
type batchLine struct {
	BaseOffset   int64  `json:"base_offset"`
	LastOffset   int64  `json:"last_offset"`
	Records      int    `json:"records"`
	Codec        string `json:"codec"`
	LeaderEpoch  int32  `json:"leader_epoch"`
	MaxTimestamp int64  `json:"max_timestamp"`
	ProducerID   int64  `json:"producer_id"`
	Epoch        int16  `json:"producer_epoch"`
	BaseSequence int32  `json:"base_sequence"`
	CRC          string `json:"crc"`
}

func describeBatch(b batch.Batch) *batchLine {
	crc := "ok"
	if b.CRC() != b.ComputeCRC() {
		crc = "WRONG"
	}
	return &batchLine{
		BaseOffset: int64(b.BaseOffset()), LastOffset: int64(b.NextOffset()) - 1, Records: int(b.NumRecords()), Codec: b.Codec().String(),
		LeaderEpoch: int32(b.LeaderEpoch()), MaxTimestamp: b.MaxTimestamp(),
		ProducerID: b.ProducerID(), Epoch: b.ProducerEpoch(), BaseSequence: b.BaseSequence(), CRC: crc,
	}
}

func debugWAL(stdout io.Writer) *cobra.Command {
	var topic, output string
	cmd := &cobra.Command{
		Use: "wal DIR", Short: "Print the frames of a write-ahead log in the order of its files", Args: cobra.ExactArgs(1),
		Long: "Prints one line a frame: sequence, kind, topic id, partition, epoch, offset, and of data frames the record batch.\nDamage is named, whatever the topic, and stepped over: what a crash tore at the end of the log is that too. Nothing is changed; a running node may append meanwhile.",
		RunE: func(_ *cobra.Command, args []string) error {
			if output != "text" && output != "json" {
				return &flagError{fmt.Errorf("--output %q: want text or json", output)}
			}
			var only storage.TopicID
			if topic != "" {
				var err error
				if only, err = storage.ParseTopicID(topic); err != nil {
					return &flagError{fmt.Errorf("--topic: %w (`rustmq admin topics describe` shows ids)", err)}
				}
			}
			if _, err := os.Stat(args[0]); err != nil {
				return fmt.Errorf("open the log: %w", err)
			}
			dir, err := disk.OpenOS(args[0])
			if err != nil {
				return err
			}
			out := json.NewEncoder(stdout)
			frames := 0
			err = wal.Inspect(dir, ".", func(f wal.Inspected) error {
				if f.Problem != "" {
					if output == "json" {
						return out.Encode(walDamage{f.File, f.At, f.Problem})
					}
					_, err := fmt.Fprintf(stdout, "%s@%d DAMAGED: %s\n", f.File, f.At, f.Problem)
					return err
				}
				frames++
				if !only.IsZero() && f.Header.Partition.Topic != only {
					return nil
				}
				line := walLine{
					File: f.File, At: f.At, Sequence: f.Sequence, Kind: f.Header.Kind.String(), Copy: f.Header.Copy,
					Topic: f.Header.Partition.Topic.String(), Partition: f.Header.Partition.Index,
					Epoch: int32(f.Header.Epoch), Offset: int64(f.Header.Offset), Length: len(f.Payload),
				}
				if f.Header.Kind == wal.KindData {
					if b, _, err := batch.Next(f.Payload); err == nil {
						line.Batch = describeBatch(b)
					}
				}
				if output == "json" {
					return out.Encode(line)
				}
				_, err := fmt.Fprintln(stdout, line.text())
				return err
			})
			if err == nil && frames == 0 {
				return fmt.Errorf("no frame in %s: name the directory wal (or raft) of a data directory", args[0])
			}
			return err
		},
	}
	cmd.Flags().StringVar(&topic, "topic", "", "only this topic `ID`")
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text or json (one object a line)")
	return cmd
}

func (l walLine) text() string {
	s := fmt.Sprintf("%s@%d seq=%d %s %s/%d epoch=%d offset=%d length=%d", l.File, l.At, l.Sequence, l.Kind, l.Topic, l.Partition, l.Epoch, l.Offset, l.Length)
	if l.Copy {
		s += " copy"
	}
	if l.Batch != nil {
		s += fmt.Sprintf(" records=%d codec=%s producer=%d/%d seq=%d crc=%s", l.Batch.Records, l.Batch.Codec, l.Batch.ProducerID, l.Batch.Epoch, l.Batch.BaseSequence, l.Batch.CRC)
	}
	return s
}

func debugBatch(stdout io.Writer) *cobra.Command {
	return &cobra.Command{
		Use: "batch FILE", Short: "Print the record batches of a file (- for standard input), and their records", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			raw, err := readInput(cmd.InOrStdin(), args[0])
			if err != nil {
				return err
			}
			out := json.NewEncoder(stdout)
			for at := 0; len(raw) > 0; {
				b, rest, err := batch.Next(raw)
				if err != nil {
					return fmt.Errorf("batch at byte %d: %w", at, err)
				}
				if err := out.Encode(describeBatch(b)); err != nil {
					return err
				}
				if err := printRecords(stdout, b); err != nil {
					return fmt.Errorf("batch at byte %d: %w", at, err)
				}
				at += len(raw) - len(rest)
				raw = rest
			}
			return nil
		},
	}
}

// largestInput is what debug batch reads at most.
const largestInput = 1 << 30

func readInput(stdin io.Reader, name string) ([]byte, error) {
	if name == "-" {
		raw, err := io.ReadAll(io.LimitReader(stdin, largestInput+1))
		if err == nil && len(raw) > largestInput {
			err = tooLarge("standard input")
		}
		return raw, err
	}
	st, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if st.Size() > largestInput {
		return nil, tooLarge(name)
	}
	return os.ReadFile(name)
}

func tooLarge(what string) error {
	return fmt.Errorf("%s is larger than %d MiB: cut it between batches, or name a part of the segment", what, largestInput>>20)
}
