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
	now     []byte
	synced  []byte     // what a power cut leaves if nothing of pending does
	pending []memWrite // since the last sync, in order
	names   int        // that lead here
	open    int        // files that lead here

	modified time.Time
}

// memWrite is a change of a file that was not synced.
type memWrite struct {
	off      int64
	data     []byte
	truncate bool // to off
}

// counted reports whether the node takes space.
func (n *memNode) counted() bool { return n.names > 0 || n.open > 0 }

// sync makes everything durable.
func (n *memNode) sync() {
	for _, w := range n.pending {
		n.synced = w.apply(n.synced, 0, len(w.data))
	}
	n.pending = nil
}

// apply does the part [from, to) of a write, or a whole truncation.
func (w *memWrite) apply(b []byte, from, to int) []byte {
	if w.truncate {
		return resized(b, w.off)
	}
	if from == to {
		return b
	}
	if end := w.off + int64(to); end > int64(len(b)) {
		b = resized(b, end)
	}
	copy(b[w.off+int64(from):], w.data[from:to])
	return b
}

// resized cuts b, or fills it up with zeros.
func resized(b []byte, size int64) []byte {
	if int64(len(b)) >= size {
		return b[:size:size]
	}
	if size > int64(cap(b)) {
		// Files grow by many writes: twice as large each time, or they are copied often.
		b = append(make([]byte, 0, max(size, 2*int64(len(b)))), b...)
	}
	was := len(b)
	b = b[:size]
	clear(b[was:]) // what was cut off before
	return b
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
	return int64(len(f.node.now)), nil
}

func (f *memFile) ReadAt(p []byte, off int64) (int, error) {
	if err := f.use("read", off); err != nil {
		return 0, err
	}
	defer f.m.mu.Unlock()
	n := 0
	if off < int64(len(f.node.now)) {
		n = copy(p, f.node.now[off:])
	}
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
	copy(f.node.now[min(off, room):], p[:n])
	if n > 0 {
		f.node.modified = time.Now()
		f.node.pending = append(f.node.pending, memWrite{off: off, data: slices.Clone(p[:n])})
	}
	return n, err
}

// grow makes the file at least size bytes long if there is room, else as long
// as there is, and returns how long it is.
func (f *memFile) grow(size int64) (int64, error) {
	more := size - int64(len(f.node.now))
	if more <= 0 {
		return int64(len(f.node.now)), nil
	}
	var err error
	if c := f.m.opts.Capacity; c > 0 && f.m.used+more > c {
		more = max(0, c-f.m.used)
		err = &fs.PathError{Op: "write", Path: f.name, Err: unix.ENOSPC}
	}
	f.m.used += more
	f.node.now = resized(f.node.now, int64(len(f.node.now))+more)
	return int64(len(f.node.now)), err
}

func (f *memFile) Truncate(size int64) error {
	if err := f.use("truncate", size); err != nil {
		return err
	}
	defer f.m.mu.Unlock()
	return f.resize("truncate", size)
}

func (f *memFile) resize(op string, size int64) error {
	was := int64(len(f.node.now))
	if c := f.m.opts.Capacity; c > 0 && f.m.used+size-was > c && size > was {
		return &fs.PathError{Op: op, Path: f.name, Err: unix.ENOSPC}
	}
	f.m.used += size - was
	f.m.ops++
	f.node.modified = time.Now()
	f.node.now = resized(f.node.now, size)
	f.node.pending = append(f.node.pending, memWrite{off: size, truncate: true})
	return nil
}

func (f *memFile) Allocate(size int64) error {
	if err := f.use("fallocate", size-1); err != nil {
		return err
	}
	defer f.m.mu.Unlock()
	if size <= int64(len(f.node.now)) {
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
