package wal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"path"

	"rustmq.dev/rustmq/storage/disk"
)

// A note of frames that were synced, cannot be read back, and are settled: the owner goes on
// without them, and has written what follows from it. It is needed for as long as they are
// missing between others; one that is damaged says nothing, and the owner is told of all
// of them anew.
const (
	lostName  = "lost"
	lostMagic = "RMQLOS\x00\x01"
)

// Losing reports whether the owner was told of a [Loss] and has not called SettleLosses
// since. No segment is recycled meanwhile: what shows the loss stays.
func (w *WAL) Losing() bool { return w.unsettled.Load() }

// SettleLosses has the next start not tell of those losses again that this one told of.
// What the owner makes of them must be durable.
func (w *WAL) SettleLosses() error {
	if !w.unsettled.Load() {
		return nil
	}
	b := []byte(lostMagic)
	for _, s := range w.losses {
		b = binary.LittleEndian.AppendUint64(b, s.from)
		b = binary.LittleEndian.AppendUint64(b, s.to)
	}
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
	name := path.Join(w.o.Dir, lostName)
	if err := disk.WriteFileAtomic(w.o.FS, name, b); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	w.unsettled.Store(false)
	w.wantSpare()
	return nil
}

// readLost reads the note.
func (w *WAL) readLost() error {
	name := path.Join(w.o.Dir, lostName)
	b, err := disk.ReadFile(w.o.FS, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	w.lostBefore = decodeLost(b)
	return nil
}

func decodeLost(b []byte) (spans []span) {
	n := len(b) - 4
	if n < len(lostMagic) || (n-len(lostMagic))%16 != 0 || string(b[:8]) != lostMagic || binary.LittleEndian.Uint32(b[n:]) != crc32.Checksum(b[:n], castagnoli) {
		return nil
	}
	for at := 8; at < n; at += 16 {
		spans = append(spans, span{binary.LittleEndian.Uint64(b[at:]), binary.LittleEndian.Uint64(b[at+8:])})
	}
	return spans
}

// knownLost reports whether all frames of a run are settled.
func (w *WAL) knownLost(from, to uint64) bool {
	for from <= to {
		at := from
		for _, s := range w.lostBefore {
			if s.from <= from && from <= s.to {
				from = s.to + 1
			}
		}
		if from == at {
			return false
		}
	}
	return true
}
