package metadata

import (
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	pb "rustmq.dev/rustmq/consensus/metadata/metadatapb"
	"rustmq.dev/rustmq/storage/guard"
)

// maxEntryWriters bounds who is remembered to have announced one entry: those that
// led, one after the other, and could not put it.
const maxEntryWriters = 256

// announced is the last entry of the metadata log in the bucket that was announced.
// It tells an image that the bucket belongs to from a copy of one, whatever either has
// done since (docs/design/0007-lineage.md).
type announced struct {
	number  uint64 // 0: none was
	writers []entryWriter
}

// entryWriter is a process that led in a term, and may have put an entry of commands
// up to last.
type entryWriter struct{ term, writer, last uint64 }

// announceEntry notes an entry before it is put.
func (m *Image) announceEntry(index uint64, c *pb.AnnounceEntry) (any, *Error) {
	is := announced{number: c.Number}
	if c.Number == m.announced.number {
		is.writers = m.announced.writers
	}
	if !guard.Check("metadata.entries-go-on", c.Number > 0 && c.Number >= m.announced.number) {
		return nil, Errorf(InvalidRequest, "entry %d of the metadata log, after %d", c.Number, m.announced.number)
	}
	by := entryWriter{c.Term, c.Writer, index}
	is.writers = slices.DeleteFunc(slices.Clone(is.writers), func(w entryWriter) bool { return w.term == by.term && w.writer == by.writer })
	is.writers = append(is.writers[max(0, len(is.writers)-maxEntryWriters+1):], by)
	m.announced = is
	return EntryIndex(index), nil
}

// AnnouncedEntry returns the number of the last entry of the metadata log that was
// announced; 0: none was.
func (m *Image) AnnouncedEntry() uint64 { return m.announced.number }

// Announced reports whether an entry is the one that was announced last, as one of
// those who announced it may have put it: all that it has is in the image's past.
func (m *Image) Announced(e *LogEntry) bool {
	return e.Number == m.announced.number && slices.ContainsFunc(m.announced.writers, func(w entryWriter) bool {
		return w.term == e.Term && w.writer == e.Writer && e.Last <= w.last
	})
}

// WasAnnounced reports whether an entry was announced at all: its last command, or its
// snapshot, says so.
func (e *LogEntry) WasAnnounced() bool {
	if e.Snapshot == nil {
		c, stop := decode(e.Last, e.Commands[len(e.Commands)-1].Command)
		return stop == nil && c.GetAnnounceEntry() != nil
	}
	if len(e.Snapshot) < snapshotHeaderSize {
		return false
	}
	record, n := protowire.ConsumeBytes(e.Snapshot[snapshotHeaderSize:])
	r := new(pb.SnapshotRecord)
	return n > 0 && proto.Unmarshal(record, r) == nil && r.GetHeader().GetEntry() > 0
}

func (a announced) encode() (list []*pb.SnapshotEntryWriter) {
	for _, w := range a.writers {
		list = append(list, &pb.SnapshotEntryWriter{Term: w.term, Writer: w.writer, Last: w.last})
	}
	return list
}

// decode reads what a snapshot says; false: it cannot be.
func (a *announced) decode(h *pb.SnapshotHeader) bool {
	*a = announced{number: h.Entry}
	for _, w := range h.Writers {
		a.writers = append(a.writers, entryWriter{w.Term, w.Writer, w.Last})
		if w.Last > h.Offset {
			return false
		}
	}
	return len(h.Writers) <= maxEntryWriters && (h.Entry > 0) == (len(h.Writers) > 0)
}
