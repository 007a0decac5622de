package wal_test

import (
	"bytes"
	"errors"
	"testing"
	"testing/synctest"

	"rustmq.dev/rustmq/storage/disk"
	"rustmq.dev/rustmq/storage/wal"
)

// RULES 1.1: the last group cannot be told apart. One that is found damaged is given up, as
// if it had never been synced; that it was is said, at later starts too, until somebody was
// told.
func TestACutTailIsNotedUntilItIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := disk.NewMem(disk.MemOptions{})
		w, _ := open(t, tiny(mem))
		for i, payload := range []string{"the first", "the last that is synced"} {
			synced := make(chan error, 1)
			add(t, w, header(0, int64(i)), []byte(payload), completion(func(err error) { synced <- err }))
			if err := <-synced; err != nil {
				t.Fatal(err)
			}
		}
		killed := mem.Clone() // before its mark
		if w.CutTail() || errors.Join(w.Close()) != nil {
			t.Fatal("it says that it cut its tail")
		}
		reopen := func(fs disk.FS, cut bool, frames int) *wal.WAL {
			t.Helper()
			w, own := open(t, tiny(fs))
			if w.CutTail() != cut || len(own.frames) != frames {
				t.Errorf("it cut its tail: %v, and has %d frames", w.CutTail(), len(own.frames))
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			return w
		}
		reopen(mem, false, 2)
		reopen(killed.Clone(), false, 2)

		for _, header := range []bool{false, true} {
			torn := killed.Clone()
			spoilLast(t, torn, header)
			reopen(torn, true, 1)
			w := reopen(torn, true, 1)
			if err := errors.Join(w.ForgetCut(), w.ForgetCut()); err != nil {
				t.Fatal(err)
			}
			reopen(torn, false, 1)
		}
	})
}

// spoilLast changes a byte of the last group, in a payload or in its header.
func spoilLast(t *testing.T, fs disk.FS, header bool) {
	t.Helper()
	for _, name := range segmentFiles(t, fs) {
		all, err := disk.ReadFile(fs, "wal/"+name)
		if err != nil {
			t.Fatal(err)
		}
		at := bytes.Index(all, []byte("synced"))
		if at < 0 {
			continue
		}
		if header {
			at = at&^4095 + 20 // groups begin with a block; of which frame it begins with
		}
		f, err := fs.Open("wal/" + name)
		if err == nil {
			err = errors.Join(f.WriteSync([][]byte{{all[at] ^ 1}}, int64(at)), f.Close())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}
