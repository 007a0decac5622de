package wal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"path"

	"rustmq.dev/rustmq/storage/disk"
	"rustmq.dev/rustmq/storage/guard"
)

// A clean note says that the log ended without a failed write, and with which
// frame. It need not be durable: without it recovery is only more careful.
const (
	cleanName  = "clean"
	cleanMagic = "RMQEND\x00\x01"
	cleanSize  = 20
)

// leaveCleanNote writes the note of a log that ended behind frame last.
func (w *WAL) leaveCleanNote(last uint64) error {
	name := path.Join(w.o.Dir, cleanName)
	b := append(make([]byte, 0, cleanSize), cleanMagic...)
	b = binary.LittleEndian.AppendUint64(b, last)
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

// readCleanNote reads the note. A torn or damaged one is none.
func (w *WAL) readCleanNote() error {
	name := path.Join(w.o.Dir, cleanName)
	b, err := disk.ReadFile(w.o.FS, name)
	if err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	w.noted = true
	w.cleanEnd, w.clean = decodeClean(b)
	return nil
}

func decodeClean(b []byte) (last uint64, ok bool) {
	if len(b) != cleanSize || string(b[:8]) != cleanMagic || binary.LittleEndian.Uint32(b[16:]) != crc32.Checksum(b[:16], castagnoli) {
		return 0, false
	}
	return binary.LittleEndian.Uint64(b[8:]), true
}

// dropCleanNote makes the note gone for good, which must be before a segment is
// written: the write may fail. A start that is refused before leaves it, or the next
// one would take a segment that is missing for one that was never written.
func (w *WAL) dropCleanNote() error {
	name := path.Join(w.o.Dir, cleanName)
	if w.noted {
		if err := w.o.FS.Remove(name); err != nil {
			return fmt.Errorf("remove %s: %w", name, err)
		}
	}
	err := w.syncNames()
	if err != nil && w.clean {
		err = errors.Join(err, w.leaveCleanNote(w.cleanEnd))
	}
	return err
}

// syncNames makes names durable. A file may be here whose name was never synced: the
// process that made it was killed in between. So may the directory itself.
func (w *WAL) syncNames() error {
	if guard.Check("wal.sync-found-names", false) {
		return nil
	}
	for _, dir := range []string{w.o.Dir, path.Dir(path.Clean(w.o.Dir))} {
		if err := w.o.FS.SyncDir(dir); err != nil {
			return fmt.Errorf("sync %s: %w", dir, err)
		}
	}
	return nil
}
