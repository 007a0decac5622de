package wal

import (
	"errors"
	"fmt"
	"io/fs"
	"path"

	"rustmq.dev/rustmq/storage/disk"
)

// A note that the tail was cut: recovery found frames above the highest mark that were not
// whole, or not all there, and gave them up. The last that were synced may be among them,
// for their mark comes behind them. It is durable before the tail is rewritten, which no
// later start can see, and stays until [WAL.ForgetCut].
const (
	cutName  = "cut"
	cutMagic = "RMQCUT\x00\x01" // all that is in it
)

// noteCut makes the note, if there is none.
func (w *WAL) noteCut() error {
	if w.cut.Swap(true) {
		return nil
	}
	name := path.Join(w.o.Dir, cutName)
	if err := disk.WriteFileAtomic(w.o.FS, name, []byte(cutMagic)); err != nil {
		w.cut.Store(false)
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

// CutTail reports whether this start, or one before it, cut the tail of the log.
func (w *WAL) CutTail() bool { return w.cut.Load() }

// ForgetCut has CutTail say no from the next start on: who must know was told.
func (w *WAL) ForgetCut() error {
	if !w.cut.Load() {
		return nil
	}
	name := path.Join(w.o.Dir, cutName)
	if err := w.o.FS.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove %s: %w", name, err)
	}
	return w.o.FS.SyncDir(w.o.Dir)
}
