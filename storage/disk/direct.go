package disk

import (
	"errors"
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// directMin is from how many bytes on a write passes by the page cache: there
	// the copy into it costs more than all the rest, and such writes come when
	// there is too much for readers to find there later anyway
	// (docs/design/0001).
	directMin = 128 << 10
	// directAlign is what memory, offset and length of such a write are multiples
	// of; no file system here asks for more.
	directAlign = 4096
	// directRead is from how many bytes on a read passes by the page cache where little of
	// it is there: such is a start's, of a segment. Through the cache it takes ten times the
	// processor time, and throws out what readers come for.
	directRead = 4 << 20
)

// directFile is an osFile whose large writes go to the device from the caller's
// memory.
type directFile struct {
	osFile
	path   string
	direct atomic.Pointer[os.File] // made by the first large write
	refuse atomic.Bool             // the file system takes no direct writes, or not now
}

func (f *directFile) ReadAt(p []byte, off int64) (int, error) {
	if len(p) >= directRead && aligned(off, p) && !f.cached(off, len(p)) {
		if n, err := f.readPast(p, off); err == nil {
			return n, nil
		}
	}
	return f.osFile.ReadAt(p, off)
}

// readPast reads a whole p past the page cache, or says why not.
func (f *directFile) readPast(p []byte, off int64) (int, error) {
	d, err := os.OpenFile(f.path, os.O_RDONLY|unix.O_DIRECT, 0)
	if err != nil {
		return 0, err
	}
	defer d.Close()
	if !sameFile(d, f.File) {
		return 0, os.ErrNotExist
	}
	return d.ReadAt(p, off)
}

// cached reports whether a good part of a range is in the page cache, or nobody can say.
func (f *directFile) cached(off int64, size int) bool {
	var now unix.Cachestat_t
	what := unix.CachestatRange{Off: uint64(off), Len: uint64(size)}
	err := f.do("cachestat", func(fd int) error { return unix.Cachestat(uint(fd), &what, &now, 0) })
	return err != nil || now.Cache*directAlign*4 >= uint64(size)
}

// aligned reports whether bytes can go from or to the device.
func aligned(off int64, b []byte) bool {
	return off%directAlign == 0 && len(b)%directAlign == 0 && uintptr(unsafe.Pointer(unsafe.SliceData(b)))%directAlign == 0
}

func (f *directFile) WriteAt(p []byte, off int64) (int, error) {
	if d := f.past(off, p); d != nil {
		if n, err := d.WriteAt(p, off); !errors.Is(err, unix.EINVAL) {
			return n, err
		}
		f.refuse.Store(true) // and nothing was tried
	}
	return f.osFile.WriteAt(p, off)
}

func (f *directFile) WriteSync(bufs [][]byte, off int64) error {
	d := f.past(off, bufs...)
	if d == nil {
		return f.osFile.WriteSync(bufs, off)
	}
	file := osFile{d, f.name}
	return file.do("direct pwritev and fdatasync", func(fd int) error {
		n, err := unix.Pwritev(fd, bufs[:min(len(bufs), maxVecs)], off)
		switch {
		case err == unix.EINTR || err == unix.EINVAL: // nothing was tried
			f.refuse.Store(err == unix.EINVAL)
			n = 0
		case err != nil:
			return err
		}
		// What is left, if anything, need not be aligned. Syncing one descriptor
		// syncs the file, whichever wrote it.
		if bufs = advance(bufs, n); len(bufs) == 0 {
			return fdatasync(fd)
		}
		return f.osFile.WriteSync(bufs, off+int64(n))
	})
}

// past returns the descriptor for a write that can, and should, pass by the page
// cache; else nil.
func (f *directFile) past(off int64, bufs ...[]byte) *os.File {
	size := 0
	for _, b := range bufs {
		if !aligned(off, b) {
			return nil
		}
		size += len(b)
	}
	if size < directMin || f.refuse.Load() {
		return nil
	}
	if d := f.direct.Load(); d != nil {
		return d
	}
	d, err := os.OpenFile(f.path, os.O_RDWR|unix.O_DIRECT, 0)
	if err != nil {
		f.refuse.Store(errors.Is(err, unix.EINVAL)) // others, as EMFILE, may pass
		return nil
	}
	if !sameFile(d, f.File) || !f.direct.CompareAndSwap(nil, d) {
		_ = d.Close() // nothing was written through it
		return f.direct.Load()
	}
	if f.refuse.Load() && f.direct.CompareAndSwap(d, nil) { // closed meanwhile
		_ = d.Close()
		return nil
	}
	return d
}

// sameFile reports whether the name still leads to the file.
func sameFile(a, b *os.File) bool {
	x, errX := a.Stat()
	y, errY := b.Stat()
	return errX == nil && errY == nil && os.SameFile(x, y)
}

func (f *directFile) Close() error {
	err := f.osFile.Close()
	f.refuse.Store(true)
	if d := f.direct.Swap(nil); d != nil {
		err = errors.Join(err, d.Close())
	}
	return err
}
