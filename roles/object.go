package roles

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/object"
)

// objectLine is what debug object prints of an object. What stands in the header
// is empty when that is damaged.
type objectLine struct {
	Object      string `json:"object"`
	Cluster     string `json:"cluster"`
	Incarnation uint32 `json:"incarnation"`
	Broker      int32  `json:"broker"`
	Key         string `json:"key"` // without the bucket's prefix
	Size        int64  `json:"size"`
	Ranges      int    `json:"ranges"`
	Batches     int64  `json:"batches"`
	Records     int64  `json:"records"`
}

// rangeLine is what it prints of a range.
type rangeLine struct {
	Topic        string        `json:"topic"`
	TopicID      string        `json:"topic_id"`
	Partition    int32         `json:"partition"`
	Base         int64         `json:"base"`
	End          int64         `json:"end"`
	LastStable   int64         `json:"last_stable"`
	Batches      int64         `json:"batches"`
	Records      int64         `json:"records"`
	Bytes        int64         `json:"bytes"`
	MaxTimestamp int64         `json:"max_timestamp"`
	Index        extentLine    `json:"index"`
	Epochs       []epochLine   `json:"epochs,omitempty"`
	Aborted      []abortedLine `json:"aborted,omitempty"`
	Producers    int           `json:"producers_bytes"`
	Blocks       []blockLine   `json:"blocks"`
}

type extentLine struct {
	At     int64  `json:"at"`
	Length uint32 `json:"length"`
	CRC    string `json:"crc"`
}

type epochLine struct {
	Epoch int32 `json:"epoch"`
	Start int64 `json:"start"`
}

type abortedLine struct {
	ProducerID int64 `json:"producer_id"`
	First      int64 `json:"first"`
	Last       int64 `json:"last"`
}

type blockLine struct {
	extentLine
	First        int64 `json:"first"`
	Next         int64 `json:"next"`
	MaxTimestamp int64 `json:"max_timestamp"`
}

// damageLine is what it prints of a damage, and of the end of a check.
type damageLine struct {
	Damage string `json:"damage,omitempty"`
	Whole  bool   `json:"whole"`
}

func (l objectLine) text() string {
	s := fmt.Sprintf("object %s cluster=%s incarnation=%d broker=%d size=%d ranges=%d batches=%d records=%d",
		l.Object, l.Cluster, l.Incarnation, l.Broker, l.Size, l.Ranges, l.Batches, l.Records)
	if l.Key != "" {
		s += "\nkey " + l.Key
	}
	return s
}

func (l rangeLine) text() string {
	var s strings.Builder
	fmt.Fprintf(&s, "range %q %s/%d [%d, %d) last_stable=%d batches=%d records=%d bytes=%d max_timestamp=%d index@%d+%d crc=%s producers=%d",
		l.Topic, l.TopicID, l.Partition, l.Base, l.End, l.LastStable, l.Batches, l.Records, l.Bytes, l.MaxTimestamp, l.Index.At, l.Index.Length, l.Index.CRC, l.Producers)
	for _, e := range l.Epochs {
		fmt.Fprintf(&s, "\n  epoch %d from %d", e.Epoch, e.Start)
	}
	for _, a := range l.Aborted {
		fmt.Fprintf(&s, "\n  aborted producer=%d [%d, %d]", a.ProducerID, a.First, a.Last)
	}
	for i, k := range l.Blocks {
		fmt.Fprintf(&s, "\n  block %d [%d, %d) @%d+%d crc=%s max_timestamp=%d", i, k.First, k.Next, k.At, k.Length, k.CRC, k.MaxTimestamp)
	}
	return s.String()
}

func (l damageLine) text() string {
	if l.Whole {
		return "whole: every byte matches its checksum"
	}
	return "DAMAGED " + l.Damage
}

// errDamaged ends the command; each damage was printed.
var errDamaged = errors.New("the object is damaged: docs/storage.md says what to do")

func debugObject(stdout io.Writer) *cobra.Command {
	var output string
	var verify bool
	cmd := &cobra.Command{
		Use: "object FILE", Short: "Print what an object of the bucket holds", Args: cobra.ExactArgs(1),
		Long: "Prints the header of an object, and of each range its offsets, leader epochs, aborted transactions and blocks;\nof a manifest, the ranges and objects that it lists. Damaged parts are named and stepped over. --verify reads every byte and compares it with its checksum.",
		RunE: func(_ *cobra.Command, args []string) error {
			if output != "text" && output != "json" {
				return &flagError{fmt.Errorf("--output %q: want text or json", output)}
			}
			f, err := os.Open(args[0])
			if err != nil {
				return fmt.Errorf("open the object: %w", err)
			}
			defer f.Close()
			st, err := f.Stat()
			if err != nil {
				return err
			}
			p := &objectPrinter{
				size: st.Size(), print: printLines(stdout, output == "json"),
				readAt: func(b []byte, off int64) error { _, err := f.ReadAt(b, off); return err },
			}
			m, ref, err := p.manifest()
			switch {
			case errors.Is(err, object.ErrNoManifest) && verify:
				return p.verify()
			case errors.Is(err, object.ErrNoManifest):
				return p.show()
			case err != nil:
				if err := p.part(err); err != nil {
					return err
				}
				return errDamaged
			case verify:
				return p.print(damageLine{Whole: true})
			}
			return p.showManifest(m, ref)
		},
	}
	cmd.Flags().BoolVar(&verify, "verify", false, "check every byte, and print only what is damaged")
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text or json (one object a line)")
	return cmd
}

// printLines returns what prints one line, in either form.
func printLines(w io.Writer, asJSON bool) func(interface{ text() string }) error {
	return func(line interface{ text() string }) error {
		if asJSON {
			return json.NewEncoder(w).Encode(line)
		}
		_, err := fmt.Fprintln(w, line.text())
		return err
	}
}

// objectPrinter prints an object, wherever it is read from.
type objectPrinter struct {
	size    int64
	readAt  object.ReadAt
	print   func(interface{ text() string }) error
	damaged bool
}

// part prints err if it is a damage of the object, and returns any other.
func (p *objectPrinter) part(err error) error {
	if errors.As(err, new(*object.CorruptionError)) || errors.As(err, new(*object.UnknownFormatError)) {
		p.damaged = true
		return p.print(damageLine{Damage: err.Error()})
	}
	return err
}

func (p *objectPrinter) verify() error {
	var printing error
	_, err := object.Verify(p.size, p.readAt, func(damage error) { printing = errors.Join(printing, p.part(damage)) })
	switch {
	case printing != nil:
		return printing
	case p.damaged:
		return errDamaged
	case err != nil:
		return err
	}
	return p.print(damageLine{Whole: true})
}

func (p *objectPrinter) show() error {
	d, err := object.ReadDirectory(p.size, p.readAt)
	if err != nil {
		return err
	}
	b := make([]byte, object.HeaderSize)
	if err := p.readAt(b, 0); err != nil {
		return fmt.Errorf("read the header: %w", err)
	}
	line := objectLine{Object: d.Object.String(), Size: d.Size, Ranges: len(d.Entries), Batches: d.Batches, Records: d.Records}
	h, err := object.DecodeHeader(b)
	if err != nil {
		err = p.part(err)
	} else {
		line.Cluster, line.Incarnation, line.Broker = h.Cluster, h.Incarnation, h.Broker
		line.Key = object.Key("", h.Cluster, h.Incarnation, h.ID)
	}
	if err == nil {
		err = p.print(line)
	}
	for _, e := range d.Entries {
		if err == nil {
			err = p.showRange(d.Object, e)
		}
	}
	if err == nil && p.damaged {
		return errDamaged
	}
	return err
}

func (p *objectPrinter) showRange(id storage.ObjectID, e object.Entry) error {
	b := make([]byte, e.Index.Length)
	if err := p.readAt(b, e.Index.Position); err != nil {
		return fmt.Errorf("read the index of %s: %w", e.Partition, err)
	}
	x, err := object.DecodeIndex(b, id, e)
	if err != nil {
		return p.part(err)
	}
	return p.print(describeRange(x, e))
}

func describeRange(x *object.Index, e object.Entry) rangeLine {
	extent := func(at int64, length, crc uint32) extentLine {
		return extentLine{At: at, Length: length, CRC: fmt.Sprintf("%08x", crc)}
	}
	l := rangeLine{
		Topic: x.Topic, TopicID: x.Partition.Topic.String(), Partition: x.Partition.Index,
		Base: int64(x.Base), End: int64(x.End), LastStable: int64(x.LastStable),
		Batches: x.Batches, Records: x.Records, Bytes: x.Bytes, MaxTimestamp: x.MaxTimestamp,
		Index: extent(e.Index.Position, e.Index.Length, e.Index.CRC), Producers: len(x.Producers), Blocks: []blockLine{},
	}
	for _, s := range x.Epochs {
		l.Epochs = append(l.Epochs, epochLine{int32(s.Epoch), int64(s.Start)})
	}
	for _, a := range x.Aborted {
		l.Aborted = append(l.Aborted, abortedLine{a.ProducerID, int64(a.First), int64(a.Last)})
	}
	for _, k := range x.Blocks {
		l.Blocks = append(l.Blocks, blockLine{extent(k.Position, k.Length, k.CRC), int64(k.First), int64(k.Next), k.MaxTimestamp})
	}
	return l
}
