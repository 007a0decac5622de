package log

import (
	"sync"
	"sync/atomic"
	"testing"

	"rustmq.dev/rustmq/storage/disk"
)

// hookedFS is a disk whose durable writes and reads a test can hold up or fail.
type hookedFS struct {
	disk.FS
	beforeSync atomic.Pointer[func() error]
	beforeRead atomic.Pointer[func() error]
}

func hooked() *hookedFS { return &hookedFS{FS: disk.NewMem(disk.MemOptions{})} }

func (h *hookedFS) Create(name string) (disk.File, error) { return h.wrap(h.FS.Create(name)) }
func (h *hookedFS) Open(name string) (disk.File, error)   { return h.wrap(h.FS.Open(name)) }

func (h *hookedFS) wrap(f disk.File, err error) (disk.File, error) {
	if err != nil {
		return nil, err
	}
	return hookedFile{f, h}, nil
}

type hookedFile struct {
	disk.File
	fs *hookedFS
}

func (f hookedFile) WriteSync(bufs [][]byte, off int64) error {
	if hook := f.fs.beforeSync.Load(); hook != nil {
		if err := (*hook)(); err != nil {
			return err
		}
	}
	return f.File.WriteSync(bufs, off)
}

func (f hookedFile) ReadAt(b []byte, off int64) (int, error) {
	if hook := f.fs.beforeRead.Load(); hook != nil {
		if err := (*hook)(); err != nil {
			return 0, err
		}
	}
	return f.File.ReadAt(b, off)
}

// holdSyncs makes durable writes wait until the returned function is called.
func (h *hookedFS) holdSyncs(t testing.TB) (let func()) {
	t.Helper()
	gate := make(chan struct{})
	hook := func() error { <-gate; return nil }
	h.beforeSync.Store(&hook)
	let = sync.OnceFunc(func() {
		h.beforeSync.Store(nil)
		close(gate)
	})
	t.Cleanup(let)
	return let
}
