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

		for _, name := range segmentFiles(t, killed) {
			f, err := killed.Open("wal/" + name)
			if err != nil {
				t.Fatal(err)
			}
			all, err := disk.ReadFile(killed, "wal/"+name)
			if at := bytes.Index(all, []byte("synced")); err == nil && at >= 0 {
				err = f.WriteSync([][]byte{[]byte("S")}, int64(at))
			}
			if err = errors.Join(err, f.Close()); err != nil {
				t.Fatal(err)
			}
		}
		reopen(killed, true, 1)
		w = reopen(killed, true, 1)
		if err := errors.Join(w.ForgetCut(), w.ForgetCut()); err != nil {
			t.Fatal(err)
		}
		reopen(killed, false, 1)
	})
}
