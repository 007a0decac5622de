package disk

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"time"

	"golang.org/x/sys/unix"

	"rustmq.dev/rustmq/storage/guard"
)

// FS is a tree of files. Names are slash-separated and relative to the root
// the FS was made with. Errors satisfy errors.Is with the values of io/fs and
// with the errno of the system.
type FS interface {
	// Create makes a file for reading and writing; fs.ErrExist if it is there.
	Create(name string) (File, error)
	// Open opens a file for reading and writing; fs.ErrNotExist if it is not there.
	Open(name string) (File, error)
	Remove(name string) error
	// Rename replaces newName atomically; durable after SyncDir of its directory.
	Rename(oldName, newName string) error
	// Link gives a file a second name; fs.ErrExist if that is there, whoever made
	// it and when. Durable after SyncDir of the directory of newName. Not every
	// file system can: IsNoLink.
	Link(oldName, newName string) error
	// Stat returns what is known of a file without opening it; EISDIR for a
	// directory.
	Stat(name string) (FileInfo, error)
	// List returns the base names in dir, sorted.
	List(dir string) ([]string, error)
	MkdirAll(dir string) error
	// SyncDir makes the entries of dir durable.
	SyncDir(dir string) error
	// Lock takes the file of that name for this process until it is closed, and
	// makes it if it is not there; *LockedError says who has it. Closing leaves the
	// file; who holds it may remove it. Its name is durable after SyncDir.
	Lock(name string) (io.Closer, error)
	// Space returns the bytes that are free for this process, and all there are.
	Space(dir string) (free, total int64, err error)
}

// FileInfo is what is known of a file.
type FileInfo struct {
	Size     int64
	Modified time.Time // when its content last changed, by the clock of the disk
}

// File is one open file. Calls may be concurrent.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Name() string
	Size() (int64, error)
	Truncate(size int64) error
	// Allocate makes the file size bytes long, or leaves it longer, and gives all of
	// it its place on the disk: ENOSPC comes here, not with a later write. What is
	// new reads as zeros; durable after Sync. errors.ErrUnsupported where the file
	// system cannot, and nothing was done.
	Allocate(size int64) error
	// Sync makes data, and a changed size, durable (fdatasync).
	Sync() error
	// WriteSync writes the buffers one after the other at off and makes them
	// durable. After an error the state of the file is unknown: the caller must
	// not write to it again.
	WriteSync(bufs [][]byte, off int64) error
}

// LockedError says that another process holds a lock.
type LockedError struct {
	Name string
	PID  int // 0 when the holder did not write it
}

func (e *LockedError) Error() string {
	if e.PID == 0 {
		return fmt.Sprintf("%s is locked by another process", e.Name)
	}
	return fmt.Sprintf("%s is locked by pid %d", e.Name, e.PID)
}

// ReadFile returns the whole content of a file.
func ReadFile(fsys FS, name string) ([]byte, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return nil, fmt.Errorf("size of %s: %w", name, err)
	}
	buf := make([]byte, size)
	if n, err := f.ReadAt(buf, 0); err != nil && !(errors.Is(err, io.EOF) && n == len(buf)) {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return buf, nil
}

// WriteFileAtomic replaces the content of a file: after a crash at any moment
// it is the old or the new one, and after return the new one. The content comes in parts, none of them
// empty, that a large one need not be copied.
func WriteFileAtomic(fsys FS, name string, parts ...[]byte) error {
	tmp := name + ".tmp"
	if err := fsys.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove %s: %w", tmp, err)
	}
	f, err := fsys.Create(tmp)
	if err != nil {
		return fmt.Errorf("create %s: %w", tmp, err)
	}
	if err := f.WriteSync(parts, 0); err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", tmp, err), f.Close(), fsys.Remove(tmp))
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("close %s: %w", tmp, err)
	}
	if err := fsys.Rename(tmp, name); err != nil {
		return fmt.Errorf("rename %s to %s: %w", tmp, name, err)
	}
	if err := fsys.SyncDir(path.Dir(name)); err != nil {
		return fmt.Errorf("sync the directory of %s: %w", name, err)
	}
	return nil
}

// IsNoSpace reports whether err says that the disk is full.
func IsNoSpace(err error) bool { return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) }

// IsNoFile reports whether err says that no more files can be opened now.
func IsNoFile(err error) bool { return errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) }

// IsNoLink reports whether err says that the file system gives files one name only.
func IsNoLink(err error) bool {
	return errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EMLINK)
}

// checkName refuses names that could lead out of the root.
func checkName(op, name string) error {
	if !guard.Check("disk.name-below-root", fs.ValidPath(name)) {
		return &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	return nil
}
