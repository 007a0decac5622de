package metadata

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"rustmq.dev/rustmq/storage/guard"
)

// LogEntry is one entry of the metadata log as the bucket has it: commands of
// the raft log, in order, or a snapshot of what they came to. Entries are
// numbered without gaps; whoever finds a number taken by another writer is
// fenced (RULES 5.2).
type LogEntry struct {
	Incarnation uint32
	Number      uint64 // from 1
	Term        uint64 // of raft, in which its writer led
	Writer      uint64 // random: tells the process that wrote it
	// First and Last are the indexes of the first and the last command; a
	// snapshot stands at both.
	First, Last uint64
	Commands    []LogCommand // of an entry with commands
	Snapshot    []byte       // of an entry with a snapshot
}

// LogCommand is one command and its index in the raft log.
type LogCommand struct {
	Index   uint64
	Command []byte
}

const (
	logEntryMagic  = "RMQMLOG\x01" // the last byte is the version
	logEntryHeader = 72

	logEntryCommands = 1
	logEntrySnapshot = 2

	// MaxLogEntryBytes bounds an entry with commands; a snapshot is as large as
	// the image makes it.
	MaxLogEntryBytes = 4 << 20
)

// Encode returns the bytes of an entry, see doc.go.
func (e *LogEntry) Encode() []byte {
	size := logEntryHeader + len(e.Snapshot)
	for _, c := range e.Commands {
		size += 2*binary.MaxVarintLen64 + len(c.Command)
	}
	b := make([]byte, logEntryHeader, size)
	kind := uint32(logEntryCommands)
	if e.Snapshot != nil {
		kind = logEntrySnapshot
		b = append(b, e.Snapshot...)
	}
	at := e.First
	for _, c := range e.Commands {
		b = binary.AppendUvarint(b, c.Index-at)
		b = binary.AppendUvarint(b, uint64(len(c.Command)))
		b = append(b, c.Command...)
		at = c.Index
	}
	copy(b, logEntryMagic)
	binary.LittleEndian.PutUint32(b[12:], kind)
	binary.LittleEndian.PutUint32(b[16:], e.Incarnation)
	binary.LittleEndian.PutUint64(b[24:], e.Number)
	binary.LittleEndian.PutUint64(b[32:], e.Term)
	binary.LittleEndian.PutUint64(b[40:], e.Writer)
	binary.LittleEndian.PutUint64(b[48:], e.First)
	binary.LittleEndian.PutUint64(b[56:], e.Last)
	binary.LittleEndian.PutUint64(b[64:], uint64(len(b)-logEntryHeader))
	binary.LittleEndian.PutUint32(b[8:], crc32.Checksum(b[12:], castagnoli))
	return b
}

// DecodeLogEntry reads what Encode wrote; the result aliases b. Errors:
// [*CorruptionError], and [*StopError] for an entry of a later version.
func DecodeLogEntry(b []byte) (*LogEntry, error) {
	damaged := func(at int, format string, args ...any) error {
		return &CorruptionError{Offset: int64(at), Reason: fmt.Sprintf("entry of the metadata log: "+format, args...)}
	}
	const versionAt = len(logEntryMagic) - 1
	switch {
	case len(b) < logEntryHeader:
		return nil, damaged(0, "%d bytes", len(b))
	case string(b[:versionAt]) != logEntryMagic[:versionAt]:
		return nil, damaged(0, "it does not begin as one")
	case !guard.Check("metadata.log-entry-crc", crc32.Checksum(b[12:], castagnoli) == binary.LittleEndian.Uint32(b[8:])):
		return nil, damaged(8, "its checksum does not match")
	case b[versionAt] != logEntryMagic[versionAt]:
		return nil, &StopError{Reason: fmt.Sprintf("entry of the metadata log, version %d: this rustmq knows %d", b[versionAt], logEntryMagic[versionAt])}
	}
	e := &LogEntry{
		Incarnation: binary.LittleEndian.Uint32(b[16:]),
		Number:      binary.LittleEndian.Uint64(b[24:]),
		Term:        binary.LittleEndian.Uint64(b[32:]),
		Writer:      binary.LittleEndian.Uint64(b[40:]),
		First:       binary.LittleEndian.Uint64(b[48:]),
		Last:        binary.LittleEndian.Uint64(b[56:]),
	}
	body := b[logEntryHeader:]
	if binary.LittleEndian.Uint64(b[64:]) != uint64(len(body)) || e.Last < e.First || binary.LittleEndian.Uint32(b[20:]) != 0 {
		return nil, damaged(16, "its header does not fit its %d bytes", len(b))
	}
	switch kind := binary.LittleEndian.Uint32(b[12:]); kind {
	case logEntrySnapshot:
		e.Snapshot = body
		return e, nil
	case logEntryCommands:
	default:
		return nil, damaged(12, "kind %d", kind)
	}
	at, rest := e.First, body
	for len(rest) > 0 {
		delta, n := binary.Uvarint(rest)
		if n <= 0 || delta == 0 && len(e.Commands) > 0 || delta > e.Last-at {
			return nil, damaged(len(b)-len(rest), "index %d+%d, the entry ends at %d", at, delta, e.Last)
		}
		size, m := binary.Uvarint(rest[n:])
		if m <= 0 || size > uint64(len(rest)-n-m) {
			return nil, damaged(len(b)-len(rest), "a command of %d bytes in %d", size, len(rest))
		}
		at += delta
		e.Commands = append(e.Commands, LogCommand{at, rest[n+m : n+m+int(size)]})
		rest = rest[n+m+int(size):]
	}
	if len(e.Commands) == 0 || at != e.Last {
		return nil, damaged(logEntryHeader, "%d commands, the last at %d instead of %d", len(e.Commands), at, e.Last)
	}
	return e, nil
}
