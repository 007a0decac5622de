package wal_test

import (
	"errors"
	"io"
	"maps"
	"path"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"rustmq.dev/rustmq/storage/disk"
)

// tap is a disk that asks before everything that changes or syncs something. A
// WriteSync asks for each part.
type tap struct {
	disk.FS
	// ask may be called from any goroutine; an error is the result, and nothing
	// is done.
	ask func(op, name string) error
}

func (t *tap) Create(name string) (disk.File, error) {
	if err := t.ask("create", name); err != nil {
		return nil, err
	}
	f, err := t.FS.Create(name)
	if err != nil {
		return nil, err
	}
	return &tapFile{f, t}, nil
}

func (t *tap) Open(name string) (disk.File, error) {
	if err := t.ask("open", name); err != nil {
		return nil, err
	}
	f, err := t.FS.Open(name)
	if err != nil {
		return nil, err
	}
	return &tapFile{f, t}, nil
}

func (t *tap) Remove(name string) error {
	if err := t.ask("remove", name); err != nil {
		return err
	}
	return t.FS.Remove(name)
}

func (t *tap) SyncDir(name string) error {
	if err := t.ask("syncdir", name); err != nil {
		return err
	}
	return t.FS.SyncDir(name)
}

type tapFile struct {
	disk.File
	t *tap
}

func (f *tapFile) ReadAt(p []byte, off int64) (int, error) {
	if err := f.t.ask("read", f.Name()); err != nil {
		return 0, err
	}
	return f.File.ReadAt(p, off)
}

func (f *tapFile) WriteAt(p []byte, off int64) (int, error) {
	if err := f.t.ask("write", f.Name()); err != nil {
		return 0, err
	}
	return f.File.WriteAt(p, off)
}

func (f *tapFile) Allocate(size int64) error {
	if err := f.t.ask("allocate", f.Name()); err != nil {
		return err
	}
	return f.File.Allocate(size)
}

func (f *tapFile) Sync() error {
	if err := f.t.ask("sync", f.Name()); err != nil {
		return err
	}
	return f.File.Sync()
}

func (f *tapFile) WriteSync(bufs [][]byte, off int64) error {
	for _, b := range bufs {
		if _, err := f.WriteAt(b, off); err != nil {
			return err
		}
		off += int64(len(b))
	}
	return f.Sync()
}

// changes reports whether the op of an ask changes or syncs something.
func changes(op string) bool { return op != "read" && op != "open" }

// pageCache is a disk behind a cache like that of Linux: a failed sync marks
// its pages clean, so that they can be read, but no later sync writes them. The
// disk behind it is what a power cut leaves.
type pageCache struct {
	*disk.Mem
	mu    sync.Mutex
	files map[string]*cached
	// failSync and failWrite say which call fails.
	failSync, failWrite func(name string) bool
	writes              []string // names, in order
}

type cached struct {
	pages map[int64][]byte // dirty or lost
	dirty map[int64]bool
	size  int64
}

func newPageCache(m *disk.Mem) *pageCache {
	no := func(string) bool { return false }
	return &pageCache{Mem: m, files: map[string]*cached{}, failSync: no, failWrite: no}
}

// powerCut returns what is on the disk.
func (c *pageCache) powerCut() *pageCache { return newPageCache(c.Mem) }

func (c *pageCache) Create(name string) (disk.File, error) {
	f, err := c.Mem.Create(name)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.files[path.Clean(name)] = &cached{pages: map[int64][]byte{}, dirty: map[int64]bool{}}
	return &cachedFile{f, c, c.files[path.Clean(name)]}, nil
}

func (c *pageCache) Open(name string) (disk.File, error) {
	f, err := c.Mem.Open(name)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.files[path.Clean(name)] == nil {
		size, err := f.Size()
		if err != nil {
			return nil, err
		}
		c.files[path.Clean(name)] = &cached{pages: map[int64][]byte{}, dirty: map[int64]bool{}, size: size}
	}
	return &cachedFile{f, c, c.files[path.Clean(name)]}, nil
}

type cachedFile struct {
	disk.File
	c *pageCache
	n *cached
}

const page = 4096

func (f *cachedFile) Size() (int64, error) {
	f.c.mu.Lock()
	defer f.c.mu.Unlock()
	return f.n.size, nil
}

// load returns the page as the cache has it.
func (f *cachedFile) load(at int64) []byte {
	if p := f.n.pages[at]; p != nil {
		return p
	}
	p := make([]byte, page)
	_, _ = f.File.ReadAt(p, at*page)
	return p
}

func (f *cachedFile) ReadAt(p []byte, off int64) (int, error) {
	f.c.mu.Lock()
	defer f.c.mu.Unlock()
	n := 0
	for n < len(p) && off+int64(n) < f.n.size {
		pos := off + int64(n)
		got := copy(p[n:], f.load(pos / page)[pos%page:])
		n += int(min(int64(got), f.n.size-pos))
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *cachedFile) WriteAt(p []byte, off int64) (int, error) {
	f.c.mu.Lock()
	defer f.c.mu.Unlock()
	f.c.writes = append(f.c.writes, f.Name())
	if f.c.failWrite(f.Name()) {
		return 0, unix.EIO
	}
	for n := 0; n < len(p); {
		pos := off + int64(n)
		b := slices.Clone(f.load(pos / page))
		n += copy(b[pos%page:], p[n:])
		f.n.pages[pos/page] = b
		f.n.dirty[pos/page] = true
	}
	f.n.size = max(f.n.size, off+int64(len(p)))
	return len(p), nil
}

func (f *cachedFile) Allocate(size int64) error {
	f.c.mu.Lock()
	defer f.c.mu.Unlock()
	f.n.size = max(f.n.size, size)
	return f.File.Allocate(size)
}

func (f *cachedFile) Sync() error {
	f.c.mu.Lock()
	defer f.c.mu.Unlock()
	if f.c.failSync(f.Name()) {
		clear(f.n.dirty)
		return unix.EIO
	}
	for _, at := range slices.Sorted(maps.Keys(f.n.dirty)) {
		b := f.n.pages[at][:min(page, f.n.size-at*page)]
		if _, err := f.File.WriteAt(b, at*page); err != nil {
			return err
		}
		delete(f.n.pages, at)
	}
	clear(f.n.dirty)
	return f.File.Sync()
}

func (f *cachedFile) WriteSync(bufs [][]byte, off int64) error {
	for _, b := range bufs {
		if _, err := f.WriteAt(b, off); err != nil {
			return err
		}
		off += int64(len(b))
	}
	return f.Sync()
}

// zeroTap tells of zeros that are written without a sync, as they are to new
// segments.
type zeroTap struct {
	disk.FS
	wrote       func(name string, n int)
	unsupported bool // it cannot allocate
}

func (z *zeroTap) Create(name string) (disk.File, error) {
	f, err := z.FS.Create(name)
	if err != nil {
		return nil, err
	}
	return &zeroFile{f, z}, nil
}

type zeroFile struct {
	disk.File
	z *zeroTap
}

func (f *zeroFile) Allocate(size int64) error {
	if f.z.unsupported {
		return errors.ErrUnsupported
	}
	return f.File.Allocate(size)
}

func (f *zeroFile) WriteAt(p []byte, off int64) (int, error) {
	n, err := f.File.WriteAt(p, off)
	f.z.wrote(f.Name(), n)
	return n, err
}
