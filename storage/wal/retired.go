package wal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"path"
	"slices"

	"rustmq.dev/rustmq/storage/disk"
	"rustmq.dev/rustmq/storage/guard"
)

// The retired note lists the segments whose files may have failed a write or a sync:
// those that were the newest as a life ended uncleanly. It outlasts clean ends, for
// as long as their frames are needed.
const (
	retiredName  = "retired"
	retiredMagic = "RMQRET\x00\x01"
)

// retire marks the segments that must not be written again: those of the note, and
// the newest after an unclean end. It reports whether the note is to be written.
func (w *WAL) retire(scans []*scan) (news bool, err error) {
	logs, whole, err := readRetired(w.o.FS, path.Join(w.o.Dir, retiredName))
	if err != nil {
		return false, err
	}
	for i, s := range scans {
		noted := slices.Contains(logs, s.header.log)
		died := !w.clean && i == len(scans)-1 // of a write to it, perhaps
		s.seg.retire = died || !guard.Check("wal.retired-note", whole && !noted)
		news = news || s.seg.retire && !noted
	}
	return news, nil
}

// noteRetired makes it durable which segments are retired; before anything else is
// written, for from then on another is the newest.
func (w *WAL) noteRetired(scans []*scan) error {
	b := []byte(retiredMagic)
	for _, s := range scans {
		if s.seg.retire {
			b = binary.LittleEndian.AppendUint64(b, s.header.log)
		}
	}
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
	return disk.WriteFileAtomic(w.o.FS, path.Join(w.o.Dir, retiredName), b)
}

// readRetired reads the note. One that is damaged, or unknown, says nothing of any
// segment: whole is false.
func readRetired(fsys disk.FS, name string) (logs []uint64, whole bool, err error) {
	b, err := disk.ReadFile(fsys, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, true, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("read %s: %w", name, err)
	}
	logs, whole = decodeRetired(b)
	return logs, whole, nil
}

func decodeRetired(b []byte) (logs []uint64, ok bool) {
	n := len(b) - 4
	if n < len(retiredMagic) || n%8 != 0 || string(b[:8]) != retiredMagic || binary.LittleEndian.Uint32(b[n:]) != crc32.Checksum(b[:n], castagnoli) {
		return nil, false
	}
	for at := 8; at < n; at += 8 {
		logs = append(logs, binary.LittleEndian.Uint64(b[at:]))
	}
	return logs, true
}
