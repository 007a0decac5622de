package disk_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"rustmq.dev/rustmq/storage/disk"
)

func child(t *testing.T, name, dir string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "DISK_TEST_CHILD="+name, "DISK_TEST_DIR="+dir)
	return cmd
}

func runChild(t *testing.T, name string) {
	t.Helper()
	if out, err := child(t, name, t.TempDir()).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

func holdLock(dir string) error {
	fsys, err := disk.OpenOS(dir)
	if err != nil {
		return err
	}
	if _, err := fsys.Lock("lock"); err != nil {
		return err
	}
	fmt.Println("held")
	_, err = os.Stdin.Read(make([]byte, 1)) // until the parent goes or kills
	return err
}

func TestLockNamesItsHolderAndGoesWithIt(t *testing.T) {
	dir := t.TempDir()
	cmd := child(t, "hold-lock", dir)
	in, err := cmd.StdinPipe()
	must(t, err)
	defer in.Close()
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	defer func() { _ = cmd.Process.Kill() }()
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || strings.TrimSpace(line) != "held" {
		t.Fatalf("%q %v", line, err)
	}
	fsys, err := disk.OpenOS(dir)
	must(t, err)
	var locked *disk.LockedError
	if _, err := fsys.Lock("lock"); !errors.As(err, &locked) || locked.PID != cmd.Process.Pid || locked.Name != filepath.Join(dir, "lock") {
		t.Fatalf("lock: %v, want pid %d", err, cmd.Process.Pid)
	}
	must(t, cmd.Process.Kill())
	_ = cmd.Wait()
	l, err := fsys.Lock("lock")
	must(t, err)
	must(t, l.Close())
}

// outOfFiles opens files until there are no more descriptors.
func outOfFiles(dir string, mode disk.IOMode) error {
	fsys, err := disk.OpenOSWith(dir, disk.OSOptions{IO: mode})
	if err != nil {
		return err
	}
	limit := unix.Rlimit{Cur: 64, Max: 64}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	var files []disk.File
	for i := 0; ; i++ {
		f, err := fsys.Create(fmt.Sprint(i))
		if errors.Is(err, unix.EMFILE) {
			break
		}
		if err != nil || i > 64 {
			return fmt.Errorf("file %d: %w", i, err)
		}
		files = append(files, f)
	}
	// What is open works on, though there is no descriptor for an io_uring.
	for _, f := range files {
		if err := f.WriteSync([][]byte{[]byte("x")}, 0); err != nil {
			return err
		}
	}
	for _, f := range files {
		if err := f.Close(); err != nil {
			return err
		}
	}
	// With none left at the start, io_uring is not to be had.
	none := unix.Rlimit{Cur: 0, Max: 64}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &none); err != nil {
		return err
	}
	late, err := disk.OpenOSWith(dir, disk.OSOptions{IO: disk.IOUring})
	if err != nil {
		return err
	}
	if got, why := late.IO(); got != disk.Auto || why == nil {
		return fmt.Errorf("io mode %v: %w", got, why)
	}
	return nil
}

func TestOutOfFileDescriptors(t *testing.T) {
	runChild(t, "no-files")
	openOS(t, disk.IOUring)
	runChild(t, "no-files-uring")
}

// beyondFileLimit writes across the largest size of a file: the kernel takes a
// part of the write, and then refuses.
func beyondFileLimit(dir string, mode disk.IOMode) error {
	fsys, err := disk.OpenOSWith(dir, disk.OSOptions{IO: mode})
	if err != nil {
		return err
	}
	limit := unix.Rlimit{Cur: 8192, Max: 8192}
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &limit); err != nil {
		return err
	}
	f, err := fsys.Create("f")
	if err != nil {
		return err
	}
	defer f.Close()
	err = f.WriteSync([][]byte{make([]byte, 4096), make([]byte, 8192)}, 0)
	if !errors.Is(err, unix.EFBIG) {
		return fmt.Errorf("write beyond the limit: %w", err)
	}
	size, err := f.Size()
	if err != nil || size > 8192 {
		return fmt.Errorf("size %d: %w", size, err)
	}
	return nil
}

func TestShortWriteIsAnError(t *testing.T) {
	runChild(t, "file-limit")
	openOS(t, disk.IOUring)
	runChild(t, "file-limit-uring")
}

// device opens a device by a link in the root, for errors that files do not
// give: /dev/full takes no byte, /dev/null cannot be flushed.
func device(t *testing.T, mode disk.IOMode, path string) disk.File {
	t.Helper()
	fsys := openOS(t, mode)
	must(t, os.Symlink(path, filepath.Join(fsys.Root(), "f")))
	f, err := fsys.Open("f")
	must(t, err)
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func TestErrorsOfWriteAndFlushAreReported(t *testing.T) {
	for _, mode := range []disk.IOMode{disk.Auto, disk.Pwrite, disk.IOUring} {
		t.Run(mode.String(), func(t *testing.T) {
			err := device(t, mode, "/dev/full").WriteSync([][]byte{[]byte("x")}, 0)
			if !errors.Is(err, unix.ENOSPC) || !disk.IsNoSpace(err) {
				t.Fatalf("write to a full device: %v", err)
			}
			var path *fs.PathError
			if !errors.As(err, &path) || path.Path != "f" {
				t.Fatalf("the error does not name the file: %v", err)
			}
			null := device(t, mode, "/dev/null")
			for range 2 { // the failed call leaves a ring that works
				wantErr(t, null.WriteSync([][]byte{[]byte("x")}, 0), unix.EINVAL)
			}
			wantErr(t, null.Sync(), unix.EINVAL)
		})
	}
}

func TestRootIsMade(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	fsys, err := disk.OpenOS(dir)
	must(t, err)
	st, err := os.Stat(dir)
	must(t, err)
	if fsys.Root() != dir || st.Mode().Perm() != 0o700 {
		t.Fatalf("%s %v", fsys.Root(), st.Mode())
	}
	must(t, os.WriteFile(dir+"/file", nil, 0o600))
	_, err = disk.OpenOS(dir + "/file")
	wantErr(t, err, unix.ENOTDIR)
}

// TestLargeReadsLeaveThePageCacheAlone: what was written past the page cache is read past it
// too, where it is much, and so a start does not throw out what readers come for; what was
// written through it since, and is not on the disk yet, is read all the same.
func TestLargeReadsLeaveThePageCacheAlone(t *testing.T) {
	dir := t.TempDir()
	fsys, err := disk.OpenOS(dir)
	if err != nil {
		t.Fatal(err)
	}
	f, err := fsys.Create("f")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const size = 8 << 20
	page := func(n int) []byte { // on a boundary of pages
		b := make([]byte, n+4096)
		at := int(-uintptr(unsafe.Pointer(unsafe.SliceData(b))) & 4095)
		return b[at : at+n : at+n]
	}
	want, got := page(size), page(size)
	for i := range want {
		want[i] = byte(i / 4096)
	}
	if err := f.WriteSync([][]byte{want}, 0); err != nil {
		t.Fatal(err)
	}
	cached := func() uint64 {
		t.Helper()
		plain, err := os.Open(filepath.Join(dir, "f"))
		if err != nil {
			t.Fatal(err)
		}
		defer plain.Close()
		var now unix.Cachestat_t
		if err := unix.Cachestat(uint(plain.Fd()), &unix.CachestatRange{Len: size}, &now, 0); err != nil {
			t.Skip("the system does not say what is in the page cache: ", err)
		}
		return now.Cache
	}
	before := cached()
	if before > size/4096/4 {
		t.Skip("this file system keeps all in the page cache")
	}
	small := []byte("newer")
	if _, err := f.WriteAt(small, 5<<20+100); err != nil {
		t.Fatal(err)
	}
	copy(want[5<<20+100:], small)
	if _, err := f.ReadAt(got, 0); err != nil || !bytes.Equal(got, want) {
		t.Errorf("the bytes are others: %v", err)
	}
	if now := cached(); now > size/4096/4 {
		t.Errorf("%d pages of %d are in the page cache, %d were before the read", now, size/4096, before)
	}
	// Part of a page behind the end.
	if n, err := f.ReadAt(got, 4<<20); n != 4<<20 || err != io.EOF || !bytes.Equal(got[:n], want[4<<20:]) {
		t.Errorf("at the end %d bytes were read: %v", n, err)
	}
}
