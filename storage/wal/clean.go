package wal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"path"

	"rustmq.dev/rustmq/storage/disk"
)

// A clean note says that the log ended without a failed write, and with which
// frame. It need not be durable: without it recovery is only more careful.
const (
	cleanName  = "clean"
	cleanMagic = "RMQEND\x00\x01"
	cleanSize  = 20
)

func (w *WAL) leaveCleanNote() error {
	name := path.Join(w.o.Dir, cleanName)
	b := append(make([]byte, 0, cleanSize), cleanMagic...)
	b = binary.LittleEndian.AppendUint64(b, w.durable.Load())
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
	f, err := w.o.FS.Create(name)
	if err != nil {
		w.o.Log.Warn("the note of a clean end was not written", "file", name, "error", err)
		return nil
	}
	_, err = f.WriteAt(b, 0)
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", name, err), w.o.FS.Remove(name))
	}
	return nil
}

// takeCleanNote reads and removes the note; the caller syncs the directory
// before anything is appended. A torn or damaged note is none.
func (w *WAL) takeCleanNote() error {
	name := path.Join(w.o.Dir, cleanName)
	b, err := disk.ReadFile(w.o.FS, name)
	if err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	if len(b) == cleanSize && string(b[:8]) == cleanMagic && binary.LittleEndian.Uint32(b[16:]) == crc32.Checksum(b[:16], castagnoli) {
		w.clean, w.cleanEnd = true, binary.LittleEndian.Uint64(b[8:])
	}
	if err := w.o.FS.Remove(name); err != nil {
		return fmt.Errorf("remove %s: %w", name, err)
	}
	return nil
}
