package disk_test

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

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
