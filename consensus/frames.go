package consensus

import (
	"encoding/binary"
	"fmt"
	"math"

	"go.etcd.io/raft/v3/raftpb"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/wal"
)

// LogPartition is what the frames of a raft log belong to.
var LogPartition = storage.PartitionID{Topic: storage.TopicID([]byte("rustmq raft log\x00"))}

// hardState is what a member must remember besides entries, and whose log it is.
type hardState struct {
	member Member
	term   uint64
	vote   uint64
	commit uint64
	// base is the index of the last snapshot that came from a leader and took
	// the place of the log. While a newer one is on disk, entries of the log
	// do not stand upon it.
	base uint64
}

const (
	hardStateVersion = 1
	hardStateSize    = 57
)

func (h hardState) encode() []byte {
	b := make([]byte, 0, hardStateSize)
	b = append(b, hardStateVersion)
	b = binary.LittleEndian.AppendUint64(b, h.member.ID)
	b = append(b, h.member.Directory[:]...)
	b = binary.LittleEndian.AppendUint64(b, h.term)
	b = binary.LittleEndian.AppendUint64(b, h.vote)
	b = binary.LittleEndian.AppendUint64(b, h.commit)
	return binary.LittleEndian.AppendUint64(b, h.base)
}

func decodeHardState(b []byte) (h hardState, err error) {
	if len(b) != hardStateSize || b[0] != hardStateVersion {
		return h, fmt.Errorf("hard state of %d bytes is not of version %d", len(b), hardStateVersion)
	}
	h.member = Member{ID: binary.LittleEndian.Uint64(b[1:]), Directory: [16]byte(b[9:25])}
	h.term = binary.LittleEndian.Uint64(b[25:])
	h.vote = binary.LittleEndian.Uint64(b[33:])
	h.commit = binary.LittleEndian.Uint64(b[41:])
	h.base = binary.LittleEndian.Uint64(b[49:])
	return h, nil
}

func encodeEntry(e *raftpb.Entry) []byte {
	return append(append(make([]byte, 0, 1+len(e.GetData())), byte(e.GetType())), e.GetData()...)
}

// decodeEntry copies payload.
func decodeEntry(h wal.Header, payload []byte) (*raftpb.Entry, error) {
	if len(payload) < 1 || payload[0] > byte(raftpb.EntryConfChangeV2) {
		return nil, fmt.Errorf("entry %d: %d bytes that are no entry", h.Offset, len(payload))
	}
	if h.Offset < 1 || h.Epoch < 0 {
		return nil, fmt.Errorf("entry %d of term %d", h.Offset, h.Epoch)
	}
	e := &raftpb.Entry{Type: raftpb.EntryType(payload[0]).Enum(), Index: new(uint64(h.Offset)), Term: new(uint64(h.Epoch))}
	if data := payload[1:]; len(data) > 0 {
		e.Data = append([]byte(nil), data...)
	}
	return e, nil
}

// header names a frame of this log.
func header(kind wal.Kind, term, index uint64) wal.Header {
	if term > math.MaxInt32 || index > math.MaxInt64 {
		panic(fmt.Sprintf("consensus: term %d or index %d does not fit a frame", term, index))
	}
	return wal.Header{Kind: kind, Partition: LogPartition, Epoch: storage.Epoch(term), Offset: storage.Offset(index)}
}

// frameBytes is at least what a frame with so much data takes in the WAL.
func frameBytes(data int) int { return data + 96 }

// blockBytes is what a frame that goes to the WAL alone may take besides.
const blockBytes = 4096

// groupBytes is what frames take besides that go to the WAL together: a group
// begins and ends on a block, and may be split once.
const groupBytes = 4 * blockBytes

// commandHeaderSize is what precedes the command in a normal entry's data.
const commandHeaderSize = 16

// proposalID tells the proposer, after any number of restarts, which of its
// proposals an entry is.
type proposalID struct {
	boot   uint64
	number uint64
}

func encodeCommand(id proposalID, command []byte) []byte {
	b := make([]byte, 0, commandHeaderSize+len(command))
	b = binary.LittleEndian.AppendUint64(b, id.boot)
	b = binary.LittleEndian.AppendUint64(b, id.number)
	return append(b, command...)
}

func decodeCommand(data []byte) (id proposalID, command []byte, ok bool) {
	if len(data) < commandHeaderSize {
		return id, nil, false
	}
	id.boot = binary.LittleEndian.Uint64(data)
	id.number = binary.LittleEndian.Uint64(data[8:])
	return id, data[commandHeaderSize:], true
}
