package disk

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"rustmq.dev/rustmq/storage/guard"
)

// IOMode is how an [OS] writes durably.
type IOMode uint8

// The modes; docs/design/0001-wal-io.md says how they measure.
const (
	Auto    IOMode = iota // what measures best: as Pwrite, large writes past the page cache
	Pwrite                // pwritev, then fdatasync
	IOUring               // the same two, linked, by one call of io_uring
)

var modeNames = []string{"auto", "pwrite", "io_uring"}

func (m IOMode) String() string {
	if int(m) < len(modeNames) {
		return modeNames[m]
	}
	return fmt.Sprintf("IOMode(%d)", m)
}

// UnmarshalText reads a mode as configurations write it.
func (m *IOMode) UnmarshalText(text []byte) error {
	i := slices.Index(modeNames, string(text))
	if i < 0 {
		return fmt.Errorf("io mode %q: use %s", text, strings.Join(modeNames, ", "))
	}
	*m = IOMode(i)
	return nil
}

// OS is the part of the file system below a root directory.
type OS struct {
	root     string
	mode     IOMode
	fallback error
	rings    rings
}

// OSOptions of an [OS].
type OSOptions struct {
	// IO is how files are written. Where the kernel does not permit io_uring,
	// IOUring is served as Auto, and [OS.IO] says so.
	IO IOMode
}

// OpenOS returns the tree below root, which is made if it is not there, with
// the IO mode Auto.
func OpenOS(root string) (*OS, error) { return OpenOSWith(root, OSOptions{}) }

// OpenOSWith is [OpenOS] with options.
func OpenOSWith(root string, o OSOptions) (*OS, error) {
	abs, err := filepath.Abs(root)
	if err != nil {
		return nil, err
	}
	if err := mkdirAll(abs); err != nil {
		return nil, fmt.Errorf("make %s: %w", root, err)
	}
	fsys := &OS{root: abs, mode: o.IO}
	if o.IO == IOUring {
		fsys.mode = Auto
		fsys.setUpRings(newRing)
	}
	return fsys, nil
}

// setUpRings goes over to io_uring if a first ring can be had.
func (o *OS) setUpRings(first func() (*ring, error)) {
	r, err := first()
	if err != nil {
		o.fallback = err
		return
	}
	r.close()
	o.mode = IOUring
}

// Root returns the absolute path of the root.
func (o *OS) Root() string { return o.root }

// IO returns the mode in effect, and if it is not the one that was asked for,
// why not.
func (o *OS) IO() (IOMode, error) { return o.mode, o.fallback }

// path is where a name lies, which is never outside the root.
func (o *OS) path(op, name string) (string, error) {
	if err := checkName(op, name); err != nil {
		return "", err
	}
	return filepath.Join(o.root, filepath.FromSlash(name)), nil
}

// Create implements [FS].
func (o *OS) Create(name string) (File, error) {
	return o.open("create", name, os.O_RDWR|os.O_CREATE|os.O_EXCL)
}

// Open implements [FS].
func (o *OS) Open(name string) (File, error) { return o.open("open", name, os.O_RDWR) }

func (o *OS) open(op, name string, flags int) (File, error) {
	path, err := o.path(op, name)
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, flags, 0o600)
	if err != nil {
		return nil, err
	}
	switch o.mode {
	case IOUring:
		o.rings.opened()
		return &ringFile{osFile: osFile{f, name}, rings: &o.rings}, nil
	case Pwrite:
		return &osFile{f, name}, nil
	}
	return &directFile{osFile: osFile{f, name}, path: path}, nil
}

// Remove implements [FS].
func (o *OS) Remove(name string) error {
	path, err := o.path("remove", name)
	if err != nil {
		return err
	}
	if err := unix.Unlink(path); err != nil { // os.Remove would take a directory too
		return &fs.PathError{Op: "remove", Path: path, Err: err}
	}
	return nil
}

// Rename implements [FS].
func (o *OS) Rename(oldName, newName string) error {
	from, err := o.path("rename", oldName)
	if err != nil {
		return err
	}
	to, err := o.path("rename", newName)
	if err != nil {
		return err
	}
	return os.Rename(from, to)
}

// Link implements [FS].
func (o *OS) Link(oldName, newName string) error {
	from, err := o.path("link", oldName)
	if err != nil {
		return err
	}
	to, err := o.path("link", newName)
	if err != nil {
		return err
	}
	switch st, err := os.Lstat(from); {
	case err != nil:
		return err
	case st.IsDir(): // link(2) says EPERM, which is also what a file system without links says
		return &fs.PathError{Op: "link", Path: from, Err: unix.EISDIR}
	}
	return os.Link(from, to)
}

// Stat implements [FS].
func (o *OS) Stat(name string) (FileInfo, error) {
	path, err := o.path("stat", name)
	if err != nil {
		return FileInfo{}, err
	}
	st, err := os.Stat(path)
	if err != nil {
		return FileInfo{}, err
	}
	if st.IsDir() {
		return FileInfo{}, &fs.PathError{Op: "stat", Path: path, Err: unix.EISDIR}
	}
	return FileInfo{Size: st.Size(), Modified: st.ModTime()}, nil
}

// List implements [FS].
func (o *OS) List(dir string) ([]string, error) {
	path, err := o.path("list", dir)
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, err
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	slices.Sort(names)
	return names, nil
}

// MkdirAll implements [FS].
func (o *OS) MkdirAll(dir string) error {
	path, err := o.path("mkdir", dir)
	if err != nil {
		return err
	}
	return mkdirAll(path)
}

// mkdirAll makes a directory and those above it, each durable before anything
// is put into it.
func mkdirAll(path string) error {
	switch st, err := os.Stat(path); {
	case err == nil && st.IsDir():
		return nil
	case err == nil:
		return &fs.PathError{Op: "mkdir", Path: path, Err: unix.ENOTDIR}
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	parent := filepath.Dir(path)
	if err := mkdirAll(parent); err != nil {
		return err
	}
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDir(parent)
}

// SyncDir implements [FS].
func (o *OS) SyncDir(dir string) error {
	path, err := o.path("sync", dir)
	if err != nil {
		return err
	}
	return syncDir(path)
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Space implements [FS].
func (o *OS) Space(dir string) (free, total int64, err error) {
	path, err := o.path("statfs", dir)
	if err != nil {
		return 0, 0, err
	}
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return 0, 0, &fs.PathError{Op: "statfs", Path: path, Err: err}
	}
	return int64(st.Bavail) * st.Bsize, int64(st.Blocks) * st.Bsize, nil
}

// Lock implements [FS]. The lock is the kernel's (flock) and goes with the
// process; the pid in the file is for people.
func (o *OS) Lock(name string) (io.Closer, error) {
	path, err := o.path("lock", name)
	if err != nil {
		return nil, err
	}
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, err
		}
		named, err := lockFile(f, path)
		switch {
		case err != nil:
			return nil, errors.Join(err, f.Close())
		case guard.Check("disk.lock-named", named):
			return f, nil
		}
		// Who had it has removed the name meanwhile: the next may make one anew.
		if err := f.Close(); err != nil {
			return nil, err
		}
	}
}

// lockFile locks an open file, and reports whether path leads to it still.
func lockFile(f *os.File, path string) (named bool, err error) {
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if !guard.Check("disk.lock", err == nil) {
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return false, &fs.PathError{Op: "flock", Path: path, Err: err}
		}
		var buf [32]byte
		n, _ := f.ReadAt(buf[:], 0)
		pid, _ := strconv.Atoi(strings.TrimSpace(string(buf[:n])))
		return false, &LockedError{Name: path, PID: pid}
	}
	locked, err := f.Stat()
	if err != nil {
		return false, err
	}
	found, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !os.SameFile(locked, found) {
		return false, nil
	}
	if err == nil {
		err = f.Truncate(0)
	}
	if err == nil {
		_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	if err != nil {
		return false, fmt.Errorf("write the pid to %s: %w", path, err)
	}
	return true, nil
}

type osFile struct {
	*os.File
	name string
}

func (f *osFile) Name() string { return f.name }

func (f *osFile) Size() (int64, error) {
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}

func (f *osFile) Allocate(size int64) error {
	return f.do("fallocate", func(fd int) error {
		for {
			switch err := unix.Fallocate(fd, 0, 0, size); err {
			case unix.EINTR: // what was allocated stays so
			case unix.ENOSYS, unix.EOPNOTSUPP: // another errno is EOPNOTSUPP to the errors package
				return errors.ErrUnsupported
			default:
				return err
			}
		}
	})
}

func (f *osFile) Sync() error { return f.do("fdatasync", fdatasync) }

func (f *osFile) WriteSync(bufs [][]byte, off int64) error {
	return f.do("pwritev and fdatasync", func(fd int) error { return writeSync(fd, bufs, off) })
}

// do calls with the descriptor, which cannot be closed meanwhile.
func (f *osFile) do(op string, call func(fd int) error) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return &fs.PathError{Op: op, Path: f.name, Err: err}
	}
	var result error
	if err := conn.Control(func(fd uintptr) { result = call(int(fd)) }); err != nil {
		return &fs.PathError{Op: op, Path: f.name, Err: fs.ErrClosed}
	}
	if result != nil {
		return &fs.PathError{Op: op, Path: f.name, Err: result}
	}
	return nil
}

func fdatasync(fd int) error {
	for {
		// EINTR says that nothing was tried yet; every other error is final.
		err := unix.Fdatasync(fd)
		if err == unix.EINTR {
			continue
		}
		if !guard.Check("disk.flush", err == nil) {
			return err
		}
		return nil
	}
}

func writeSync(fd int, bufs [][]byte, off int64) error {
	for len(bufs) > 0 {
		n, err := unix.Pwritev(fd, bufs[:min(len(bufs), maxVecs)], off)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		rest := advance(bufs, n)
		if n == 0 && len(rest) == len(bufs) {
			return io.ErrShortWrite
		}
		bufs, off = rest, off+int64(n)
	}
	return fdatasync(fd)
}

// maxVecs is how many buffers the kernel takes in one write (UIO_MAXIOV).
const maxVecs = 1024

// advance returns what is left of bufs behind their first n bytes; the caller's
// slice stays as it is.
func advance(bufs [][]byte, n int) [][]byte {
	for len(bufs) > 0 && n >= len(bufs[0]) {
		n -= len(bufs[0])
		bufs = bufs[1:]
	}
	if n > 0 {
		bufs = slices.Clone(bufs)
		bufs[0] = bufs[0][n:]
	}
	return bufs
}

// ringFile is an osFile that writes by io_uring.
type ringFile struct {
	osFile
	rings *rings
}

func (f *ringFile) Close() error {
	err := f.osFile.Close()
	if err == nil {
		f.rings.closed()
	}
	return err
}

func (f *ringFile) WriteSync(bufs [][]byte, off int64) error {
	return f.do("write and fdatasync by io_uring", func(fd int) error {
		r, err := f.rings.get()
		if err != nil {
			// No file descriptor or memory for one more ring, and nothing tried yet.
			return writeSync(fd, bufs, off)
		}
		usable, err := r.writeSync(fd, bufs, off)
		if usable {
			f.rings.put(r)
		} else {
			r.close()
		}
		return err
	})
}
