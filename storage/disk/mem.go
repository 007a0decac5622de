package disk

import (
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// sectorSize is what a disk writes whole or not at all.
const sectorSize = 512

// Mem is a disk in memory that can lose its power. It knows for every file
// which writes were synced, and for every directory which names were.
type Mem struct {
	mu       sync.Mutex
	opts     MemOptions
	dirs     map[string]*memDir // by cleaned path; "." is the root
	used     int64
	open     int
	ops      int
	locks    map[string]bool
	detached bool // its power was cut: every call fails
}

// MemOptions of a [Mem]; zero values mean without limit.
type MemOptions struct {
	Capacity int64 // bytes of all files; beyond it ENOSPC
	MaxOpen  int   // open files; beyond it EMFILE
}

type memDir struct {
	now    map[string]*memNode
	synced map[string]*memNode
}

// memNode is a file's content. pending are the writes since the last sync, in
// order; synced is what a power cut leaves of the rest.
type memNode struct {
	now     []byte
	synced  []byte
	pending []memWrite
}

type memWrite struct {
	off      int64
	data     []byte
	truncate bool // to off
}

// NewMem returns an empty disk.
func NewMem(o MemOptions) *Mem {
	return &Mem{opts: o, dirs: map[string]*memDir{".": newMemDir()}, locks: map[string]bool{}}
}

func newMemDir() *memDir {
	return &memDir{now: map[string]*memNode{}, synced: map[string]*memNode{}}
}

// errPowerCut is what a disk answers whose power was cut.
var errPowerCut = &fs.PathError{Op: "use", Path: "disk", Err: unix.EIO}

// Crash cuts the power and returns the disk as it is found afterwards: of the
// writes that were not synced, each sector of each write is there or not, as
// rng says; names that were not synced are there or not. The old disk answers
// EIO from then on.
func (m *Mem) Crash(rng *rand.Rand) *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.detached = true
	after := NewMem(m.opts)
	survivors := map[*memNode]*memNode{}
	survive := func(n *memNode) *memNode {
		if got, ok := survivors[n]; ok {
			return got
		}
		got := &memNode{now: n.afterCut(rng)}
		got.synced = slices.Clone(got.now)
		survivors[n] = got
		after.used += int64(len(got.now))
		return got
	}
	for _, dir := range sortedKeys(m.dirs) {
		d, found := m.dirs[dir], newMemDir()
		names := map[string]bool{}
		for name := range d.now {
			names[name] = true
		}
		for name := range d.synced {
			names[name] = true
		}
		for _, name := range sortedKeys(names) {
			was, is := d.synced[name], d.now[name]
			node := was
			if is != was && rng.IntN(2) == 0 {
				node = is
			}
			if node != nil {
				found.now[name] = survive(node)
				found.synced[name] = found.now[name]
			}
		}
		after.dirs[dir] = found
	}
	return after
}

// Clone returns the disk as another process finds it after kill -9: all writes
// are there, and no more synced than they were. The old disk goes on.
func (m *Mem) Clone() *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	after := NewMem(m.opts)
	after.used = m.used
	copies := map[*memNode]*memNode{}
	clone := func(n *memNode) *memNode {
		if got, ok := copies[n]; ok {
			return got
		}
		got := &memNode{now: slices.Clone(n.now), synced: slices.Clone(n.synced), pending: slices.Clone(n.pending)}
		copies[n] = got
		return got
	}
	for path, d := range m.dirs {
		found := newMemDir()
		for name, n := range d.now {
			found.now[name] = clone(n)
		}
		for name, n := range d.synced {
			found.synced[name] = clone(n)
		}
		after.dirs[path] = found
	}
	return after
}

// Ops returns how many calls changed or synced something so far.
func (m *Mem) Ops() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ops
}

// afterCut is the content that a power cut leaves.
func (n *memNode) afterCut(rng *rand.Rand) []byte {
	out := slices.Clone(n.synced)
	for _, w := range n.pending {
		if w.truncate {
			if rng.IntN(2) == 0 {
				out = resized(out, w.off)
			}
			continue
		}
		mode := rng.IntN(4) // 0: lost, 1: whole, else torn
		for at := 0; at < len(w.data); {
			pos := w.off + int64(at)
			end := min(len(w.data), at+int(sectorSize-pos%sectorSize))
			if mode == 1 || (mode > 1 && rng.IntN(2) == 0) {
				if need := w.off + int64(end); need > int64(len(out)) {
					out = resized(out, need)
				}
				copy(out[pos:], w.data[at:end])
			}
			at = end
		}
	}
	return out
}

func resized(b []byte, size int64) []byte {
	if int64(len(b)) >= size {
		return b[:size:size]
	}
	return append(b, make([]byte, size-int64(len(b)))...)
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// dir finds the directory of a name. m.mu is held.
func (m *Mem) dir(op, name string) (*memDir, string, error) {
	if m.detached {
		return nil, "", errPowerCut
	}
	dir, base := path.Split(path.Clean(name))
	d := m.dirs[path.Clean("./"+dir)]
	if d == nil {
		return nil, "", &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
	}
	return d, base, nil
}

// Create implements [FS].
func (m *Mem) Create(name string) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, base, err := m.dir("create", name)
	if err != nil {
		return nil, err
	}
	if d.now[base] != nil {
		return nil, &fs.PathError{Op: "create", Path: name, Err: fs.ErrExist}
	}
	if err := m.mayOpen(name); err != nil {
		return nil, err
	}
	m.ops++
	d.now[base] = &memNode{}
	return &memFile{m: m, node: d.now[base], name: name}, nil
}

// Open implements [FS].
func (m *Mem) Open(name string) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, base, err := m.dir("open", name)
	if err != nil {
		return nil, err
	}
	if d.now[base] == nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	if err := m.mayOpen(name); err != nil {
		return nil, err
	}
	return &memFile{m: m, node: d.now[base], name: name}, nil
}

func (m *Mem) mayOpen(name string) error {
	if m.opts.MaxOpen > 0 && m.open >= m.opts.MaxOpen {
		return &fs.PathError{Op: "open", Path: name, Err: unix.EMFILE}
	}
	m.open++
	return nil
}

// Remove implements [FS].
func (m *Mem) Remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, base, err := m.dir("remove", name)
	if err != nil {
		return err
	}
	n := d.now[base]
	if n == nil {
		return &fs.PathError{Op: "remove", Path: name, Err: fs.ErrNotExist}
	}
	m.ops++
	m.used -= int64(len(n.now))
	delete(d.now, base)
	return nil
}

// Rename implements [FS].
func (m *Mem) Rename(oldName, newName string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	from, oldBase, err := m.dir("rename", oldName)
	if err != nil {
		return err
	}
	to, newBase, err := m.dir("rename", newName)
	if err != nil {
		return err
	}
	n := from.now[oldBase]
	if n == nil {
		return &fs.PathError{Op: "rename", Path: oldName, Err: fs.ErrNotExist}
	}
	m.ops++
	if replaced := to.now[newBase]; replaced != nil && replaced != n {
		m.used -= int64(len(replaced.now))
	}
	delete(from.now, oldBase)
	to.now[newBase] = n
	return nil
}

// List implements [FS].
func (m *Mem) List(dir string) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.detached {
		return nil, errPowerCut
	}
	clean := path.Clean(dir)
	d := m.dirs[clean]
	if d == nil {
		return nil, &fs.PathError{Op: "list", Path: dir, Err: fs.ErrNotExist}
	}
	names := sortedKeys(d.now)
	for sub := range m.dirs {
		if sub != "." && path.Dir(sub) == clean {
			names = append(names, path.Base(sub))
		}
	}
	slices.Sort(names)
	return names, nil
}

// MkdirAll implements [FS]. Directories survive a power cut.
func (m *Mem) MkdirAll(dir string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.detached {
		return errPowerCut
	}
	at := ""
	for _, part := range strings.Split(path.Clean(dir), "/") {
		at = path.Join(at, part)
		if m.dirs[at] == nil {
			m.dirs[at] = newMemDir()
		}
	}
	return nil
}

// SyncDir implements [FS].
func (m *Mem) SyncDir(dir string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.detached {
		return errPowerCut
	}
	d := m.dirs[path.Clean(dir)]
	if d == nil {
		return &fs.PathError{Op: "sync", Path: dir, Err: fs.ErrNotExist}
	}
	m.ops++
	clear(d.synced)
	for name, n := range d.now {
		d.synced[name] = n
	}
	return nil
}

// Lock implements [FS].
func (m *Mem) Lock(name string) (io.Closer, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.detached {
		return nil, errPowerCut
	}
	if m.locks[name] {
		return nil, &LockedError{Name: name}
	}
	m.locks[name] = true
	return memLock{m, name}, nil
}

type memLock struct {
	m    *Mem
	name string
}

func (l memLock) Close() error {
	l.m.mu.Lock()
	defer l.m.mu.Unlock()
	delete(l.m.locks, l.name)
	return nil
}

// Space implements [FS].
func (m *Mem) Space(string) (free, total int64, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.detached {
		return 0, 0, errPowerCut
	}
	total = m.opts.Capacity
	if total == 0 {
		total = 1 << 40
	}
	return total - m.used, total, nil
}

type memFile struct {
	m      *Mem
	node   *memNode
	name   string
	closed bool // guarded by m.mu
}

func (f *memFile) Name() string { return f.name }

// use takes the lock for one call; the caller unlocks when err is nil.
func (f *memFile) use(op string) error {
	f.m.mu.Lock()
	switch {
	case f.m.detached:
		f.m.mu.Unlock()
		return errPowerCut
	case f.closed:
		f.m.mu.Unlock()
		return &fs.PathError{Op: op, Path: f.name, Err: fs.ErrClosed}
	}
	return nil
}

func (f *memFile) Close() error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if f.closed {
		return &fs.PathError{Op: "close", Path: f.name, Err: fs.ErrClosed}
	}
	f.closed = true
	f.m.open--
	return nil
}

func (f *memFile) Size() (int64, error) {
	if err := f.use("stat"); err != nil {
		return 0, err
	}
	defer f.m.mu.Unlock()
	return int64(len(f.node.now)), nil
}

func (f *memFile) ReadAt(p []byte, off int64) (int, error) {
	if err := f.use("read"); err != nil {
		return 0, err
	}
	defer f.m.mu.Unlock()
	if off >= int64(len(f.node.now)) {
		return 0, io.EOF
	}
	n := copy(p, f.node.now[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *memFile) WriteAt(p []byte, off int64) (int, error) {
	if err := f.use("write"); err != nil {
		return 0, err
	}
	defer f.m.mu.Unlock()
	return f.write(p, off)
}

func (f *memFile) write(p []byte, off int64) (int, error) {
	end := off + int64(len(p))
	if err := f.grow(end); err != nil {
		return 0, err
	}
	f.m.ops++
	copy(f.node.now[off:], p)
	f.node.pending = append(f.node.pending, memWrite{off: off, data: slices.Clone(p)})
	return len(p), nil
}

// grow makes the file at least size bytes long, within the capacity.
func (f *memFile) grow(size int64) error {
	more := size - int64(len(f.node.now))
	if more <= 0 {
		return nil
	}
	if f.m.opts.Capacity > 0 && f.m.used+more > f.m.opts.Capacity {
		return &fs.PathError{Op: "write", Path: f.name, Err: unix.ENOSPC}
	}
	f.m.used += more
	f.node.now = resized(f.node.now, size)
	return nil
}

func (f *memFile) Truncate(size int64) error {
	if err := f.use("truncate"); err != nil {
		return err
	}
	defer f.m.mu.Unlock()
	if err := f.grow(size); err != nil {
		return err
	}
	f.m.used -= int64(len(f.node.now)) - size
	f.m.ops++
	f.node.now = resized(f.node.now, size)
	f.node.pending = append(f.node.pending, memWrite{off: size, truncate: true})
	return nil
}

func (f *memFile) Sync() error {
	if err := f.use("fdatasync"); err != nil {
		return err
	}
	defer f.m.mu.Unlock()
	f.sync()
	return nil
}

func (f *memFile) sync() {
	f.m.ops++
	for _, w := range f.node.pending {
		if w.truncate {
			f.node.synced = resized(f.node.synced, w.off)
			continue
		}
		if end := w.off + int64(len(w.data)); end > int64(len(f.node.synced)) {
			f.node.synced = resized(f.node.synced, end)
		}
		copy(f.node.synced[w.off:], w.data)
	}
	f.node.pending = nil
}

func (f *memFile) WriteSync(bufs [][]byte, off int64) error {
	if err := f.use("write"); err != nil {
		return err
	}
	defer f.m.mu.Unlock()
	for _, b := range bufs {
		if _, err := f.write(b, off); err != nil {
			return err
		}
		off += int64(len(b))
	}
	f.sync()
	return nil
}

// IsNoSpace reports whether err says that the disk is full.
func IsNoSpace(err error) bool { return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) }
