package bucket

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"rustmq.dev/rustmq/storage/disk"
	"rustmq.dev/rustmq/storage/guard"
)

// Below its directory a bucket has the keys as files, and this directory, whose
// name is none of a key, for what is being written:
//
//	.writing/tmp-<opener>-<n>   not yet an object
//	.writing/lock-<opener>      held by the process that writes tmp-<opener>-*, who
//	                            knows the directory by it
const (
	writingDir = ".writing"
	tmpPrefix  = "tmp-"
	lockPrefix = "lock-"

	maxKnownDirs = 4096 // how many directories are remembered as durable
)

// Dir is a bucket in a directory, which other processes may use at once. What it
// promises rests on five steps: the file is synced before it has its name, and read
// back and compared with what was to be written, the name is synced before Put returns, so is each directory above it that this
// process has not synced yet, and a name is only ever made by rename or link.
type Dir struct {
	fs     disk.FS
	dir    string
	opener string
	lock   io.Closer
	files  atomic.Uint64 // numbers of the files written

	mu    sync.Mutex
	known map[string]bool // directories whose names are durable
}

// NewDir opens the bucket in a directory of fs, which is made if it is not there
// (dir "." is the root). It removes what processes that are gone were writing.
func NewDir(fsys disk.FS, dir string) (*Dir, error) {
	d := &Dir{fs: fsys, dir: dir, known: map[string]bool{}}
	if err := d.open(); err != nil {
		return nil, d.failed(opOpen, dir, err)
	}
	return d, nil
}

func (d *Dir) open() error {
	writing := path.Join(d.dir, writingDir)
	if err := d.fs.MkdirAll(writing); err != nil {
		return fmt.Errorf("make %s: %w", writing, err)
	}
	if err := d.settle(writing); err != nil {
		return err
	}
	for d.lock == nil {
		d.opener = strings.ToLower(rand.Text())
		lock, err := d.fs.Lock(path.Join(writing, lockPrefix+d.opener))
		var locked *disk.LockedError
		switch {
		case errors.As(err, &locked): // by one that is looking for what is left
		case err != nil:
			return fmt.Errorf("lock a name in %s: %w", writing, err)
		}
		d.lock = lock
	}
	// The lock is the mark by which this directory is known, as long as this bucket
	// is open: it must outlast a power cut of the disk alone.
	if err := d.fs.SyncDir(writing); err != nil {
		return errors.Join(fmt.Errorf("sync %s: %w", writing, err), d.lock.Close())
	}
	if err := d.removeLeft(writing); err != nil {
		return errors.Join(err, d.lock.Close())
	}
	return nil
}

// removeLeft removes the files of those that no longer hold their lock.
func (d *Dir) removeLeft(writing string) error {
	names, err := d.fs.List(writing)
	if err != nil {
		return fmt.Errorf("list %s: %w", writing, err)
	}
	left := map[string][]string{} // by opener
	for _, name := range names {
		if rest, ok := strings.CutPrefix(name, tmpPrefix); ok {
			opener, _, _ := strings.Cut(rest, "-")
			left[opener] = append(left[opener], name)
		} else if opener, ok := strings.CutPrefix(name, lockPrefix); ok {
			left[opener] = append(left[opener], name)
		}
	}
	for opener, files := range left {
		if opener == d.opener {
			continue
		}
		lock, err := d.fs.Lock(path.Join(writing, lockPrefix+opener))
		var locked *disk.LockedError
		if !guard.Check("bucket.dir-writer-gone", !errors.As(err, &locked)) {
			continue // it is being written
		}
		if err != nil && locked == nil {
			return fmt.Errorf("lock %s: %w", lockPrefix+opener, err)
		}
		for _, name := range append(files, lockPrefix+opener) {
			if err := d.fs.Remove(path.Join(writing, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return errors.Join(fmt.Errorf("remove %s: %w", name, err), lock.Close())
			}
		}
		if lock != nil {
			if err := lock.Close(); err != nil {
				return fmt.Errorf("unlock %s: %w", lockPrefix+opener, err)
			}
		}
	}
	return nil
}

// Put implements [Bucket].
func (d *Dir) Put(ctx context.Context, key string, content io.WriterTo) error {
	if err := d.put(ctx, key, content, d.fs.Rename); err != nil {
		return d.failed(opPut, key, err)
	}
	return nil
}

// PutIfAbsent implements [Bucket].
func (d *Dir) PutIfAbsent(ctx context.Context, key string, data []byte) error {
	link := func(tmp, name string) error {
		err := d.fs.Link(tmp, name)
		switch {
		case errors.Is(err, fs.ErrExist):
			return ErrExists
		case err != nil && disk.IsNoLink(err):
			return fmt.Errorf("%w: %w", ErrUnsupported, err)
		}
		return err
	}
	if err := d.put(ctx, key, Bytes(data), link); err != nil {
		return d.failed(opPutNew, key, err)
	}
	return nil
}

// put writes a file and then gives it the name of the key.
func (d *Dir) put(ctx context.Context, key string, content io.WriterTo, name func(tmp, name string) error) error {
	if err := d.begin(ctx, key); err != nil {
		return err
	}
	if err := d.there(); err != nil {
		return err
	}
	tmp := path.Join(d.dir, writingDir, fmt.Sprintf("%s%s-%d", tmpPrefix, d.opener, d.files.Add(1)))
	err := d.write(ctx, tmp, content)
	if err == nil {
		err = d.name(tmp, path.Join(d.dir, key), name)
	}
	// It may have gone meanwhile, and the file been named below where it was.
	if gone := d.there(); gone != nil {
		return gone
	}
	// After a rename there is nothing to remove.
	if gone := d.fs.Remove(tmp); gone != nil && !errors.Is(gone, fs.ErrNotExist) && err == nil {
		return fmt.Errorf("remove %s: %w", tmp, gone)
	}
	return err
}

// write makes a durable file, whose name is not.
func (d *Dir) write(ctx context.Context, tmp string, content io.WriterTo) error {
	f, err := d.fs.Create(tmp)
	if err != nil {
		return fmt.Errorf("create %s: %w", tmp, err)
	}
	w := newFileWriter(ctx, f)
	_, err = content.WriteTo(w)
	switch {
	case w.err != nil: // whatever content makes of it
		err = w.err
	case err != nil:
		err = &contentError{err}
	default:
		err = w.flush()
	}
	if err == nil && !guard.Check("bucket.dir-data-synced", false) {
		if err = f.Sync(); err != nil {
			err = fmt.Errorf("sync %s: %w", tmp, err)
		}
	}
	if err == nil {
		err = w.readBack()
	}
	return errors.Join(err, f.Close())
}

// name gives a file its name, durably.
func (d *Dir) name(tmp, name string, give func(tmp, name string) error) error {
	dir := path.Dir(name)
	if err := d.fs.MkdirAll(dir); err != nil {
		return fmt.Errorf("make %s: %w", dir, err)
	}
	if err := d.settle(dir); err != nil {
		return err
	}
	given := give(tmp, name)
	if given != nil && !errors.Is(given, ErrExists) {
		return fmt.Errorf("name %s: %w", name, given)
	}
	sync := !guard.Check("bucket.dir-name-synced", false)
	if given != nil { // who took it may not have come to the sync, and may have been us
		sync = !guard.Check("bucket.dir-taken-name-synced", false)
	}
	if sync {
		if err := d.fs.SyncDir(dir); err != nil {
			return fmt.Errorf("sync %s: %w", dir, err)
		}
	}
	if given != nil {
		return fmt.Errorf("name %s: %w", name, given)
	}
	return nil
}

// settle makes the names of dir and of those above it durable. That they are
// there says nothing: who made them may have been killed before it synced them.
func (d *Dir) settle(dir string) error {
	if dir == "." || d.isKnown(dir) {
		return nil
	}
	parent := path.Dir(dir)
	if err := d.settle(parent); err != nil {
		return err
	}
	if err := d.fs.SyncDir(parent); !guard.Check("bucket.dir-parent-synced", err == nil) {
		return fmt.Errorf("sync %s: %w", parent, err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.known) >= maxKnownDirs {
		clear(d.known)
	}
	d.known[dir] = true
	return nil
}

func (d *Dir) isKnown(dir string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.known[dir]
}

// ReadAt implements [Bucket].
func (d *Dir) ReadAt(ctx context.Context, key string, p []byte, off int64) error {
	return d.ReadParts(ctx, key, [][]byte{p}, off, func(int) {})
}

// ReadParts implements [Bucket].
func (d *Dir) ReadParts(ctx context.Context, key string, parts [][]byte, off int64, arrived func(part int)) error {
	if err := d.readParts(ctx, key, parts, off, arrived); err != nil {
		return d.failed(opRead, key, err)
	}
	return nil
}

func (d *Dir) readParts(ctx context.Context, key string, parts [][]byte, off int64, arrived func(part int)) error {
	if err := d.begin(ctx, key); err != nil {
		return err
	}
	if off < 0 {
		return errOffset
	}
	f, err := d.fs.Open(path.Join(d.dir, key))
	if err != nil {
		return d.absent(err)
	}
	defer f.Close()
	for i, p := range parts {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := f.ReadAt(p, off)
		switch {
		case n == len(p):
		case errors.Is(err, io.EOF):
			return fmt.Errorf("%d of %d bytes at %d: %w", n, len(p), off, io.ErrUnexpectedEOF)
		default:
			return err
		}
		off += int64(n)
		arrived(i)
	}
	return nil
}

// Stat implements [Bucket].
func (d *Dir) Stat(ctx context.Context, key string) (Info, error) {
	err := d.begin(ctx, key)
	if err == nil {
		var info disk.FileInfo
		if info, err = d.fs.Stat(path.Join(d.dir, key)); err == nil {
			return Info{Key: key, Size: info.Size, Modified: info.Modified}, nil
		}
		err = d.absent(err)
	}
	return Info{}, d.failed(opStat, key, err)
}

// Delete implements [Bucket].
func (d *Dir) Delete(ctx context.Context, key string) error {
	if err := d.remove(ctx, key); err != nil && !errors.Is(err, ErrNotFound) {
		return d.failed(opDelete, key, err)
	}
	return nil
}

func (d *Dir) remove(ctx context.Context, key string) error {
	if err := d.begin(ctx, key); err != nil {
		return err
	}
	name := path.Join(d.dir, key)
	removed := d.fs.Remove(name)
	if removed != nil && !errors.Is(removed, fs.ErrNotExist) {
		return d.absent(removed)
	}
	// Also when it is not there: who removed it may not have come to the sync.
	if !guard.Check("bucket.dir-delete-synced", false) {
		if err := d.fs.SyncDir(path.Dir(name)); err != nil {
			return d.absent(err)
		}
	}
	if removed != nil {
		return d.absent(removed)
	}
	return nil
}

// Close implements [Bucket]. No other call may be under way.
func (d *Dir) Close() error {
	name := path.Join(d.dir, writingDir, lockPrefix+d.opener)
	if err := d.fs.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(d.failed(opOpen, name, err), d.lock.Close())
	}
	return d.lock.Close()
}

func (d *Dir) begin(ctx context.Context, key string) error {
	if err := CheckKey(key); err != nil {
		return err
	}
	return ctx.Err()
}

// errGone says that the directory is not the one that was opened: a file system
// that is no longer mounted leaves an empty one, or none, or one in which somebody
// opened a bucket before it was mounted.
var errGone = errors.New("the directory of the bucket is gone: is its file system mounted?")

// there refuses a directory without the lock of this bucket, the name of which is
// random: it is another one.
func (d *Dir) there() error {
	_, err := d.fs.Stat(path.Join(d.dir, writingDir, lockPrefix+d.opener))
	if !guard.Check("bucket.dir-there", err == nil) {
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.EISDIR) {
			return errGone
		}
		return fmt.Errorf("look at %s: %w", writingDir, err)
	}
	return nil
}

// absent turns the error of a file that is not there, or whose place is taken by
// a directory or file, into ErrNotFound, as long as the bucket is there.
func (d *Dir) absent(err error) error {
	if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.EISDIR) && !errors.Is(err, unix.ENOTDIR) {
		return err
	}
	if gone := d.there(); gone != nil {
		return gone
	}
	return ErrNotFound
}

// contentError says that it was not the disk that failed.
type contentError struct{ err error }

func (e *contentError) Error() string { return "content: " + e.err.Error() }
func (e *contentError) Unwrap() error { return e.err }

// lasting are errors that stay whatever is tried again.
var lasting = []error{
	ErrNotFound, ErrExists, ErrUnsupported, errKey, errOffset, io.ErrUnexpectedEOF,
	context.Canceled, context.DeadlineExceeded,
	fs.ErrPermission, fs.ErrInvalid, fs.ErrExist, unix.EROFS, unix.ENOTDIR, unix.EISDIR, unix.ENAMETOOLONG, unix.ELOOP,
}

func (d *Dir) failed(op, key string, err error) error {
	var content *contentError
	temporary := !errors.As(err, &content) &&
		!slices.ContainsFunc(lasting, func(l error) bool { return errors.Is(err, l) })
	return &Error{Op: op, Key: key, Err: err, Temporary: temporary}
}
