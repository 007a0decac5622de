package disk

import (
	"io"
	"io/fs"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// memNode is a file's content, whatever its name.
type memNode struct {
	now     content
	synced  content    // what a power cut leaves if nothing of pending does
	pending []memWrite // since the last sync, in order
	names   int        // that lead here
	open    int        // files that lead here

	modified time.Time
}

// memWrite is a change of a file that was not synced.
type memWrite struct {
	off      int64
	length   int
	data     []byte // nil: zeros
	truncate bool   // to off
}

// counted reports whether the node takes space.
func (n *memNode) counted() bool { return n.names > 0 || n.open > 0 }

// sync makes everything durable.
func (n *memNode) sync() {
	for _, w := range n.pending {
		w.apply(&n.synced, 0, w.length)
	}
	n.pending = nil
}

// apply does the part [from, to) of a write, or a whole truncation.
func (w *memWrite) apply(c *content, from, to int) {
	switch at := w.off + int64(from); {
	case w.truncate:
		c.resize(w.off)
	case from == to:
	case w.data == nil:
		c.zero(at, int64(to-from))
	default:
		c.write(w.data[from:to], at)
	}
}

// memFile is an open file of a [Mem].
type memFile struct {
	m      *Mem
	node   *memNode
	name   string
	closed bool // guarded by m.mu
}

func (f *memFile) Name() string { return f.name }

// use takes the lock for one call; the caller unlocks when err is nil.
func (f *memFile) use(op string, off int64) error {
	f.m.mu.Lock()
	var err error
	switch {
	case f.m.detached:
		err = errPowerCut
	case f.closed:
		err = &fs.PathError{Op: op, Path: f.name, Err: fs.ErrClosed}
	case off < 0:
		err = &fs.PathError{Op: op, Path: f.name, Err: unix.EINVAL}
	default:
		return nil
	}
	f.m.mu.Unlock()
	return err
}

func (f *memFile) Close() error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if f.closed {
		return &fs.PathError{Op: "close", Path: f.name, Err: fs.ErrClosed}
	}
	f.closed = true
	f.m.open--
	f.node.open--
	f.m.free(f.node)
	return nil
}

func (f *memFile) Size() (int64, error) {
	if err := f.use("stat", 0); err != nil {
		return 0, err
	}
	defer f.m.mu.Unlock()
	return f.node.now.size, nil
}

func (f *memFile) ReadAt(p []byte, off int64) (int, error) {
	if err := f.use("read", off); err != nil {
		return 0, err
	}
	defer f.m.mu.Unlock()
	n := f.node.now.read(p, off)
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *memFile) WriteAt(p []byte, off int64) (int, error) {
	if err := f.use("write", off); err != nil {
		return 0, err
	}
	defer f.m.mu.Unlock()
	return f.write(p, off)
}

// write writes what there is room for.
func (f *memFile) write(p []byte, off int64) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	f.m.ops++
	room, err := f.grow(off + int64(len(p)))
	n := int(max(0, min(int64(len(p)), room-off)))
	if n > 0 {
		w := memWrite{off: off, length: n}
		if !isZero(p[:n]) {
			w.data = slices.Clone(p[:n])
		}
		w.apply(&f.node.now, 0, n)
		f.node.modified = time.Now()
		f.node.pending = append(f.node.pending, w)
	}
	return n, err
}

// grow makes the file at least size bytes long if there is room, else as long
// as there is, and returns how long it is.
func (f *memFile) grow(size int64) (int64, error) {
	more := size - f.node.now.size
	if more <= 0 {
		return f.node.now.size, nil
	}
	var err error
	if c := f.m.opts.Capacity; c > 0 && f.m.used+more > c {
		more = max(0, c-f.m.used)
		err = &fs.PathError{Op: "write", Path: f.name, Err: unix.ENOSPC}
	}
	f.m.used += more
	f.node.now.resize(f.node.now.size + more)
	return f.node.now.size, err
}

func (f *memFile) Truncate(size int64) error {
	if err := f.use("truncate", size); err != nil {
		return err
	}
	defer f.m.mu.Unlock()
	return f.resize("truncate", size)
}

func (f *memFile) resize(op string, size int64) error {
	was := f.node.now.size
	if c := f.m.opts.Capacity; c > 0 && f.m.used+size-was > c && size > was {
		return &fs.PathError{Op: op, Path: f.name, Err: unix.ENOSPC}
	}
	f.m.used += size - was
	f.m.ops++
	f.node.modified = time.Now()
	f.node.now.resize(size)
	f.node.pending = append(f.node.pending, memWrite{off: size, truncate: true})
	return nil
}

func (f *memFile) Allocate(size int64) error {
	if err := f.use("fallocate", size-1); err != nil {
		return err
	}
	defer f.m.mu.Unlock()
	if size <= f.node.now.size {
		return nil
	}
	return f.resize("fallocate", size) // on this disk that takes its space
}

func (f *memFile) Sync() error {
	if err := f.use("fdatasync", 0); err != nil {
		return err
	}
	defer f.m.mu.Unlock()
	f.m.ops++
	f.node.sync()
	return nil
}

func (f *memFile) WriteSync(bufs [][]byte, off int64) error {
	if err := f.use("write", off); err != nil {
		return err
	}
	defer f.m.mu.Unlock()
	for _, b := range bufs {
		if _, err := f.write(b, off); err != nil {
			return err
		}
		off += int64(len(b))
	}
	f.m.ops++
	f.node.sync()
	return nil
}

// loseUnsynced does what Linux does when a sync fails: what was to be written
// is still read, but no later sync writes it.
func (f *memFile) loseUnsynced() {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	f.node.pending = nil
}
