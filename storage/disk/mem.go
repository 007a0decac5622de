package disk

import (
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Mem is a disk in memory that can lose its power. It knows for every file
// which writes were synced, and for every directory which names were.
type Mem struct {
	mu       sync.Mutex
	opts     MemOptions
	dirs     map[string]*memDir // by cleaned path; "." is the root
	changes  []dirChange        // of names, not synced, in order
	used     int64              // bytes of the files that have a name or are open
	open     int
	ops      int
	locks    map[*memNode]bool
	detached bool // its power was cut: every call fails
}

// MemOptions of a [Mem]; zero values mean without limit.
type MemOptions struct {
	Capacity int64 // bytes of all files; beyond it ENOSPC
	MaxOpen  int   // open files; beyond it EMFILE
}

// memDir is a directory: what is found in it now, and after a power cut if
// none of the changes reached the disk.
type memDir struct {
	now    map[string]*memNode
	synced map[string]*memNode
}

func newMemDir() *memDir {
	return &memDir{now: map[string]*memNode{}, synced: map[string]*memNode{}}
}

// NewMem returns an empty disk.
func NewMem(o MemOptions) *Mem {
	return &Mem{opts: o, dirs: map[string]*memDir{".": newMemDir()}, locks: map[*memNode]bool{}}
}

// errPowerCut is what a disk answers whose power was cut.
var errPowerCut = &fs.PathError{Op: "use", Path: "disk", Err: unix.EIO}

// Ops returns how many calls changed or synced something so far.
func (m *Mem) Ops() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ops
}

// dir finds the directory of a name. m.mu is held.
func (m *Mem) dir(op, name string) (*memDir, string, error) {
	if m.detached {
		return nil, "", errPowerCut
	}
	if err := checkName(op, name); err != nil {
		return nil, "", err
	}
	d := m.dirs[path.Dir(name)]
	if d == nil {
		return nil, "", &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
	}
	return d, path.Base(name), nil
}

// node finds a file. m.mu is held.
func (m *Mem) node(op, name string) (*memDir, string, *memNode, error) {
	d, base, err := m.dir(op, name)
	if err != nil {
		return nil, "", nil, err
	}
	n := d.now[base]
	switch {
	case m.dirs[name] != nil:
		return nil, "", nil, &fs.PathError{Op: op, Path: name, Err: unix.EISDIR}
	case n == nil:
		return nil, "", nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
	}
	return d, base, n, nil
}

// Create implements [FS].
func (m *Mem) Create(name string) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, base, err := m.dir("create", name)
	if err != nil {
		return nil, err
	}
	if d.now[base] != nil || m.dirs[name] != nil {
		return nil, &fs.PathError{Op: "create", Path: name, Err: fs.ErrExist}
	}
	n := &memNode{modified: time.Now()}
	f, err := m.opened(n, name)
	if err != nil {
		return nil, err
	}
	m.ops++
	m.change(dirChange{{d, base, n}})
	return f, nil
}

// Open implements [FS].
func (m *Mem) Open(name string) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, _, n, err := m.node("open", name)
	if err != nil {
		return nil, err
	}
	return m.opened(n, name)
}

func (m *Mem) opened(n *memNode, name string) (File, error) {
	if m.opts.MaxOpen > 0 && m.open >= m.opts.MaxOpen {
		return nil, &fs.PathError{Op: "open", Path: name, Err: unix.EMFILE}
	}
	m.open++
	n.open++
	return &memFile{m: m, node: n, name: name}, nil
}

// Remove implements [FS].
func (m *Mem) Remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, base, _, err := m.node("remove", name)
	if err != nil {
		return err
	}
	m.ops++
	m.change(dirChange{{d, base, nil}})
	return nil
}

// Rename implements [FS].
func (m *Mem) Rename(oldName, newName string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	from, oldBase, n, err := m.node("rename", oldName)
	if err != nil {
		return err
	}
	to, newBase, err := m.dir("rename", newName)
	if err != nil {
		return err
	}
	if m.dirs[newName] != nil {
		return &fs.PathError{Op: "rename", Path: newName, Err: fs.ErrExist}
	}
	m.ops++
	if to.now[newBase] != n { // rename(2) leaves two names of one file as they are
		m.change(dirChange{{from, oldBase, nil}, {to, newBase, n}})
	}
	return nil
}

// Link implements [FS].
func (m *Mem) Link(oldName, newName string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, _, n, err := m.node("link", oldName)
	if err != nil {
		return err
	}
	to, newBase, err := m.dir("link", newName)
	if err != nil {
		return err
	}
	if to.now[newBase] != nil || m.dirs[newName] != nil {
		return &fs.PathError{Op: "link", Path: newName, Err: fs.ErrExist}
	}
	m.ops++
	m.change(dirChange{{to, newBase, n}})
	return nil
}

// Stat implements [FS].
func (m *Mem) Stat(name string) (FileInfo, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, _, n, err := m.node("stat", name)
	if err != nil {
		return FileInfo{}, err
	}
	return FileInfo{Size: n.now.size, Modified: n.modified}, nil
}

// change changes names, so far only as they are found without a power cut.
func (m *Mem) change(c dirChange) {
	for _, e := range c {
		if was := e.dir.now[e.name]; was != nil {
			was.names--
			m.free(was)
		}
		if e.node == nil {
			delete(e.dir.now, e.name)
			continue
		}
		if !e.node.counted() {
			m.used += e.node.now.size
		}
		e.dir.now[e.name] = e.node
		e.node.names++
	}
	m.changes = append(m.changes, c)
}

// free gives the space of a file back that nothing leads to any more.
func (m *Mem) free(n *memNode) {
	if !n.counted() {
		m.used -= n.now.size
	}
}

// List implements [FS].
func (m *Mem) List(dir string) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, err := m.listed("list", dir)
	if err != nil {
		return nil, err
	}
	names := sortedKeys(d.now)
	for sub := range m.dirs {
		if sub != "." && path.Dir(sub) == dir {
			names = append(names, path.Base(sub))
		}
	}
	slices.Sort(names)
	return names, nil
}

func (m *Mem) listed(op, dir string) (*memDir, error) {
	if m.detached {
		return nil, errPowerCut
	}
	if err := checkName(op, dir); err != nil {
		return nil, err
	}
	d := m.dirs[dir]
	if d == nil {
		return nil, &fs.PathError{Op: op, Path: dir, Err: fs.ErrNotExist}
	}
	return d, nil
}

// MkdirAll implements [FS].
func (m *Mem) MkdirAll(dir string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.detached {
		return errPowerCut
	}
	if err := checkName("mkdir", dir); err != nil {
		return err
	}
	at := "."
	for part := range strings.SplitSeq(dir, "/") {
		if m.dirs[at].now[part] != nil {
			return &fs.PathError{Op: "mkdir", Path: path.Join(at, part), Err: unix.ENOTDIR}
		}
		at = path.Join(at, part)
		if m.dirs[at] == nil {
			m.ops++
			m.dirs[at] = newMemDir()
		}
	}
	return nil
}

// SyncDir implements [FS].
func (m *Mem) SyncDir(dir string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, err := m.listed("sync", dir)
	if err != nil {
		return err
	}
	m.ops++
	m.syncDir(d)
	return nil
}

// Lock implements [FS]. The file is empty.
func (m *Mem) Lock(name string) (io.Closer, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, base, err := m.dir("lock", name)
	if err != nil {
		return nil, err
	}
	n := d.now[base]
	switch {
	case m.dirs[name] != nil:
		return nil, &fs.PathError{Op: "lock", Path: name, Err: unix.EISDIR}
	case n == nil:
		n = &memNode{modified: time.Now()}
		m.ops++
		m.change(dirChange{{d, base, n}})
	case m.locks[n]:
		return nil, &LockedError{Name: name, PID: os.Getpid()}
	}
	m.locks[n] = true
	return &memLock{m: m, node: n}, nil
}

type memLock struct {
	m    *Mem
	node *memNode
	once sync.Once
}

func (l *memLock) Close() error {
	l.once.Do(func() {
		l.m.mu.Lock()
		defer l.m.mu.Unlock()
		delete(l.m.locks, l.node)
	})
	return nil
}

// Space implements [FS].
func (m *Mem) Space(dir string) (free, total int64, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, err := m.listed("statfs", dir); err != nil {
		return 0, 0, err
	}
	total = m.opts.Capacity
	if total == 0 {
		total = 1 << 40
	}
	return total - m.used, total, nil
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
