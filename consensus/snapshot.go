package consensus

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"path"
	"slices"
	"strings"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"rustmq.dev/rustmq/storage/disk"
	"rustmq.dev/rustmq/storage/guard"
)

const (
	snapshotMagic      = "RMQSNAP\n"
	snapshotVersion    = 1
	snapshotHeaderSize = 48
	snapshotSuffix     = ".snap"
	memberSize         = 24
	flagReceived       = 1
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// snapshot is the state after one entry, and who the members were.
type snapshot struct {
	index, term uint64
	conf        *raftpb.ConfState
	members     []Member // in order of id
	state       []byte   // of the state machine; empty before anything was applied
	whole       []byte   // members and state, where they were read from a file; nil: data encodes them
	received    bool     // from a leader, to take the place of the log here
}

// snapshots are the files of a directory.
type snapshots struct {
	fs  disk.FS
	dir string
}

func snapshotName(index, term uint64) string {
	return fmt.Sprintf("%016x-%016x%s", index, term, snapshotSuffix)
}

// names returns the snapshot files in order of index. What has another suffix
// was never finished.
func (s snapshots) names() ([]string, error) {
	names, err := s.fs.List(s.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", s.dir, err)
	}
	names = slices.DeleteFunc(names, func(name string) bool { return !strings.HasSuffix(name, snapshotSuffix) })
	slices.Sort(names)
	return names, nil
}

// newest reads the newest snapshot, nil when there is none. One that cannot be
// read is an error: an older one would lack entries that the log has dropped.
func (s snapshots) newest() (*snapshot, error) {
	names, err := s.names()
	if err != nil || len(names) == 0 {
		return nil, err
	}
	return s.read(names[len(names)-1])
}

// before reads the newest snapshot before the newest file that can be read; nil: there is none.
func (s snapshots) before() *snapshot {
	names, err := s.names()
	if err != nil {
		return nil
	}
	for i := len(names) - 2; i >= 0; i-- {
		if snap, err := s.read(names[i]); err == nil {
			return snap
		}
	}
	return nil
}

func (s snapshots) read(name string) (*snapshot, error) {
	file := path.Join(s.dir, name)
	encoded, err := disk.ReadFile(s.fs, file)
	if err != nil {
		return nil, fmt.Errorf("read snapshot %s: %w", file, err)
	}
	snap, err := decodeSnapshot(encoded)
	if unknown, is := errors.AsType[errUnknown](err); is {
		return nil, &UnknownFormatError{File: file, Feature: string(unknown)}
	}
	if err != nil {
		return nil, &CorruptionError{File: file, Reason: err.Error()}
	}
	if want := snapshotName(snap.index, snap.term); name != want {
		return nil, &CorruptionError{File: file, Reason: "it holds " + want}
	}
	return snap, nil
}

// write makes snap durable.
func (s snapshots) write(snap *snapshot) error {
	file := path.Join(s.dir, snapshotName(snap.index, snap.term))
	if err := disk.WriteFileAtomic(s.fs, file, snap.parts()...); err != nil {
		return fmt.Errorf("write snapshot %s: %w", file, err)
	}
	return nil
}

// prune removes all snapshots but the last few.
func (s snapshots) prune() error {
	names, err := s.names()
	if err != nil {
		return err
	}
	for _, name := range names[:max(0, len(names)-keptSnapshots)] {
		if err := s.fs.Remove(path.Join(s.dir, name)); err != nil {
			return fmt.Errorf("remove an old snapshot: %w", err)
		}
	}
	return nil
}

func (s *snapshot) encode() []byte { return slices.Concat(s.parts()...) }

// parts is the file of a snapshot, with its state as it is: an image may have hundreds of megabytes.
func (s *snapshot) parts() [][]byte {
	conf, err := proto.Marshal(s.conf)
	if err != nil {
		panic(fmt.Sprintf("consensus: encode %v: %v", s.conf, err))
	}
	members := encodeMembers(s.members)
	size := len(members) + len(s.state)
	b := make([]byte, snapshotHeaderSize, snapshotHeaderSize+len(conf)+len(members))
	copy(b, snapshotMagic)
	binary.LittleEndian.PutUint32(b[8:], snapshotVersion)
	binary.LittleEndian.PutUint64(b[16:], s.index)
	binary.LittleEndian.PutUint64(b[24:], s.term)
	binary.LittleEndian.PutUint32(b[32:], uint32(len(conf)))
	if s.received {
		binary.LittleEndian.PutUint32(b[36:], flagReceived)
	}
	binary.LittleEndian.PutUint64(b[40:], uint64(size))
	b = append(append(b, conf...), members...)
	binary.LittleEndian.PutUint32(b[12:], crc32.Update(crc32.Checksum(b[16:], castagnoli), castagnoli, s.state))
	if len(s.state) == 0 {
		return [][]byte{b}
	}
	return [][]byte{b, s.state}
}

// errUnknown is what a newer rustmq wrote.
type errUnknown string

func (e errUnknown) Error() string { return string(e) + " is not known" }

func decodeSnapshot(b []byte) (*snapshot, error) {
	if len(b) < snapshotHeaderSize || string(b[:8]) != snapshotMagic {
		return nil, fmt.Errorf("%d bytes that are no snapshot", len(b))
	}
	if v := binary.LittleEndian.Uint32(b[8:]); v != snapshotVersion {
		// That of version 1 leaves out what is before it.
		crc := crc32.Update(crc32.Checksum(b[:12], castagnoli), castagnoli, b[16:])
		if !guard.Check("consensus.snapshot-version", crc == binary.LittleEndian.Uint32(b[12:])) {
			return nil, fmt.Errorf("version %d, and the checksum of its bytes from 0 to %d differs", v, len(b)-1)
		}
		return nil, errUnknown(fmt.Sprintf("snapshot version %d", v))
	}
	crc := crc32.Checksum(b[16:], castagnoli)
	if !guard.Check("consensus.snapshot-crc", crc == binary.LittleEndian.Uint32(b[12:])) {
		return nil, fmt.Errorf("the checksum of its bytes from 16 to %d differs", len(b)-1)
	}
	conf, data := uint64(binary.LittleEndian.Uint32(b[32:])), binary.LittleEndian.Uint64(b[40:])
	rest := b[snapshotHeaderSize:]
	if conf > uint64(len(rest)) || data != uint64(len(rest))-conf {
		return nil, fmt.Errorf("%d bytes of configuration and %d of data in %d", conf, data, len(rest))
	}
	s := &snapshot{
		index: binary.LittleEndian.Uint64(b[16:]),
		term:  binary.LittleEndian.Uint64(b[24:]),
		conf:  new(raftpb.ConfState),
	}
	flags := binary.LittleEndian.Uint32(b[36:])
	if flags&^flagReceived != 0 {
		return nil, errUnknown(fmt.Sprintf("a snapshot with flags %#x", flags))
	}
	s.received = flags&flagReceived != 0
	if err := proto.Unmarshal(rest[:conf], s.conf); err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	s.whole = rest[conf:]
	return s, s.setData(s.whole)
}

// data is what raft carries from member to member. Of a snapshot that was read it is what
// was read: an image may have hundreds of megabytes.
func (s *snapshot) data() []byte {
	if s.whole != nil {
		return s.whole
	}
	return append(encodeMembers(s.members), s.state...)
}

func (s *snapshot) setData(data []byte) (err error) {
	s.members, s.state, err = decodeMembers(data)
	return err
}

// message is s as raft knows it.
func (s *snapshot) message() *raftpb.Snapshot {
	return &raftpb.Snapshot{
		Data:     s.data(),
		Metadata: &raftpb.SnapshotMetadata{ConfState: s.conf, Index: new(s.index), Term: new(s.term)},
	}
}

func snapshotOf(m *raftpb.Snapshot) (*snapshot, error) {
	s := &snapshot{index: m.GetMetadata().GetIndex(), term: m.GetMetadata().GetTerm(), conf: m.GetMetadata().GetConfState()}
	return s, s.setData(m.GetData())
}

func encodeMembers(members []Member) []byte {
	b := binary.LittleEndian.AppendUint32(make([]byte, 0, 4+memberSize*len(members)), uint32(len(members)))
	for _, m := range members {
		b = binary.LittleEndian.AppendUint64(b, m.ID)
		b = append(b, m.Directory[:]...)
	}
	return b
}

func decodeMembers(b []byte) (members []Member, rest []byte, err error) {
	if len(b) < 4 {
		return nil, nil, errors.New("no members")
	}
	n := binary.LittleEndian.Uint32(b)
	if b = b[4:]; uint64(n)*memberSize > uint64(len(b)) {
		return nil, nil, fmt.Errorf("%d members in %d bytes", n, len(b))
	}
	for range n {
		members = append(members, Member{ID: binary.LittleEndian.Uint64(b), Directory: [16]byte(b[8:memberSize])})
		b = b[memberSize:]
	}
	return members, b, nil
}
