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
)

// OS is the part of the file system below a root directory.
type OS struct{ root string }

// OpenOS returns the tree below root, which is made if it is not there.
func OpenOS(root string) (*OS, error) {
	if err := os.MkdirAll(root, 0o700); err != nil {
		return nil, fmt.Errorf("make %s: %w", root, err)
	}
	abs, err := filepath.Abs(root)
	if err != nil {
		return nil, err
	}
	return &OS{abs}, nil
}

// Root returns the absolute path of the root.
func (o *OS) Root() string { return o.root }

func (o *OS) path(name string) string { return filepath.Join(o.root, filepath.FromSlash(name)) }

// Create implements [FS].
func (o *OS) Create(name string) (File, error) {
	f, err := os.OpenFile(o.path(name), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	return &osFile{f, name}, nil
}

// Open implements [FS].
func (o *OS) Open(name string) (File, error) {
	f, err := os.OpenFile(o.path(name), os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	return &osFile{f, name}, nil
}

// Remove implements [FS].
func (o *OS) Remove(name string) error { return os.Remove(o.path(name)) }

// Rename implements [FS].
func (o *OS) Rename(oldName, newName string) error {
	return os.Rename(o.path(oldName), o.path(newName))
}

// List implements [FS].
func (o *OS) List(dir string) ([]string, error) {
	entries, err := os.ReadDir(o.path(dir))
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
func (o *OS) MkdirAll(dir string) error { return os.MkdirAll(o.path(dir), 0o700) }

// SyncDir implements [FS].
func (o *OS) SyncDir(dir string) error {
	d, err := os.Open(o.path(dir))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Space implements [FS].
func (o *OS) Space(dir string) (free, total int64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(o.path(dir), &st); err != nil {
		return 0, 0, &fs.PathError{Op: "statfs", Path: o.path(dir), Err: err}
	}
	return int64(st.Bavail) * st.Bsize, int64(st.Blocks) * st.Bsize, nil
}

// Lock implements [FS]. The lock is the kernel's (flock) and goes with the
// process; the pid in the file is for people.
func (o *OS) Lock(name string) (io.Closer, error) {
	f, err := os.OpenFile(o.path(name), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		defer f.Close()
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, &fs.PathError{Op: "flock", Path: f.Name(), Err: err}
		}
		var buf [32]byte
		n, _ := f.ReadAt(buf[:], 0)
		pid, _ := strconv.Atoi(strings.TrimSpace(string(buf[:n])))
		return nil, &LockedError{Name: f.Name(), PID: pid}
	}
	pid := strconv.Itoa(os.Getpid()) + "\n"
	if err := f.Truncate(0); err == nil {
		_, err = f.WriteAt([]byte(pid), 0)
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
	}
	return f, nil
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

func (f *osFile) Sync() error {
	for {
		// EINTR says that nothing was tried yet; every other error is final.
		if err := unix.Fdatasync(int(f.Fd())); err != unix.EINTR {
			return wrap("fdatasync", f.name, err)
		}
	}
}

func (f *osFile) WriteSync(bufs [][]byte, off int64) error {
	if err := writev(int(f.Fd()), bufs, off); err != nil {
		return wrap("pwritev", f.name, err)
	}
	return f.Sync()
}

// writev writes all the buffers, however often the kernel takes only a part.
func writev(fd int, bufs [][]byte, off int64) error {
	const most = 1024 // IOV_MAX
	for len(bufs) > 0 {
		part := bufs[:min(len(bufs), most)]
		n, err := unix.Pwritev(fd, part, off)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		if n == 0 {
			return io.ErrShortWrite
		}
		off += int64(n)
		rest := bufs
		for len(rest) > 0 && n >= len(rest[0]) {
			n -= len(rest[0])
			rest = rest[1:]
		}
		if n > 0 {
			rest = slices.Clone(rest)
			rest[0] = rest[0][n:]
		}
		bufs = rest
	}
	return nil
}

func wrap(op, name string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: op, Path: name, Err: err}
}
