//go:build packages

package packages

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// inNamespaces in the environment says that the process has those of its own.
const inNamespaces = "PACKAGES_NAMESPACES"

// TestMain runs the tests in namespaces of their own, of mounts, of the network and of processes:
// however they end, what they have started and mounted ends with them.
func TestMain(m *testing.M) {
	if os.Getenv(inNamespaces) != "" {
		if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
			fmt.Fprintln(os.Stderr, "mount /proc:", err)
			os.Exit(1)
		}
		os.Exit(m.Run())
	}
	if os.Geteuid() != 0 {
		os.Exit(m.Run())
	}
	runtime.LockOSThread() // Pdeathsig goes by the thread
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), inNamespaces+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID, Unshareflags: unix.CLONE_NEWNS | unix.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	err := cmd.Run()
	if exit, is := errors.AsType[*exec.ExitError](err); is {
		os.Exit(max(1, exit.ExitCode()))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "no namespaces:", err)
		os.Exit(1)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// rig is where the tests find things.
type rig struct {
	repo  string // the root of the clone
	roots string // Debian, and its layers (scripts/deps.sh)
	work  string // of this run
}

func newRig(t *testing.T) *rig {
	t.Helper()
	if os.Getenv(inNamespaces) == "" {
		if os.Getenv("CI") != "" {
			t.Fatal("it is not root, and CI is set")
		}
		t.Skip("it is not root")
	}
	repo, err := filepath.Abs("../..")
	must(t, err)
	r := &rig{repo: repo, roots: filepath.Join(repo, "build/packages"), work: t.TempDir()}
	must(t, os.Chmod(r.work, 0o755)) // others than root run below it
	for _, made := range []string{"debian", "systemd", "golang"} {
		if _, err := os.Stat(filepath.Join(r.roots, made+".made")); err != nil {
			t.Fatalf("%v: scripts/deps.sh makes it", err)
		}
	}
	return r
}

// dir makes one in the work directory.
func (r *rig) dir(t *testing.T, name string) string {
	t.Helper()
	dir := filepath.Join(r.work, name)
	must(t, os.MkdirAll(dir, 0o755))
	return dir
}

// command is one in the clone, with what is added to the environment.
func (r *rig) command(env []string, name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Dir = r.repo
	cmd.Env = append(os.Environ(), env...)
	return cmd
}

// out runs a command that has to succeed, and returns what it prints on standard output.
func out(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.WaitDelay = time.Second
	must(t, cmd.Start())
	late := time.AfterFunc(8*time.Minute, func() { _ = cmd.Process.Kill() }) // it says so
	defer late.Stop()
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%s: %v\n%s%s", strings.Join(cmd.Args, " "), err, tail(stdout.String()), tail(stderr.String()))
	}
	return strings.TrimSpace(stdout.String())
}

// tail is the last lines of a text.
func tail(text string) string {
	const most = 60
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-most):], "\n") + "\n"
}

// await polls until a condition holds, and fails with what it said last.
func await(t *testing.T, what string, within time.Duration, holds func() error) {
	t.Helper()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(within); ; {
		err := holds()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v: %v", what, within, err)
		}
		<-tick.C
	}
}

// overlay mounts a root of layers, the last one lowest, and returns it; writes stay above.
func (r *rig) overlay(t *testing.T, name string, layers ...string) string {
	t.Helper()
	root, above, work := r.dir(t, name), r.dir(t, name+".above"), r.dir(t, name+".work")
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", strings.Join(layers, ":"), above, work)
	if err := unix.Mount("overlay", root, "overlay", 0, options); err != nil {
		t.Fatalf("mount the layers of %s: %v", name, err)
	}
	t.Cleanup(func() { unmount(t, root) })
	return root
}

func (r *rig) layer(name string) string { return filepath.Join(r.roots, name) }

// bind mounts a file or directory at another place, which is made.
func bind(t *testing.T, from, to string, readOnly bool) {
	t.Helper()
	info, err := os.Stat(from)
	must(t, err)
	if _, err := os.Lstat(to); errors.Is(err, fs.ErrNotExist) {
		if info.IsDir() {
			must(t, os.MkdirAll(to, 0o755))
		} else {
			must(t, os.MkdirAll(filepath.Dir(to), 0o755))
			must(t, os.WriteFile(to, nil, 0o644))
		}
	}
	if err := unix.Mount(from, to, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		t.Fatalf("mount %s at %s: %v", from, to, err)
	}
	t.Cleanup(func() { unmount(t, to) })
	if readOnly {
		must(t, unix.Mount("", to, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	}
}

// mount mounts a file system of the kernel, and a plain device directory.
func mount(t *testing.T, kind, at, options string) {
	t.Helper()
	must(t, os.MkdirAll(at, 0o755))
	if err := unix.Mount(kind, at, kind, 0, options); err != nil {
		t.Fatalf("mount %s at %s: %v", kind, at, err)
	}
	t.Cleanup(func() { unmount(t, at) })
}

func devices(t *testing.T, root string) {
	t.Helper()
	dev := filepath.Join(root, "dev")
	mount(t, "tmpfs", dev, "mode=755")
	for _, name := range []string{"null", "zero", "full", "random", "urandom", "tty"} {
		bind(t, filepath.Join("/dev", name), filepath.Join(dev, name), false)
	}
	must(t, os.Symlink("/proc/self/fd", filepath.Join(dev, "fd")))
}

// unmount lets go of what still uses it, which is dying.
func unmount(t *testing.T, at string) {
	if err := unix.Unmount(at, unix.MNT_DETACH); err != nil {
		t.Errorf("unmount %s: %v", at, err)
	}
}

// in is a command in a root, as its root.
func in(root string, env []string, name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Path = name
	if !filepath.IsAbs(name) {
		cmd.Path = "/usr/bin/" + name
		cmd.Err = nil // it was looked for outside
	}
	cmd.Dir = "/"
	cmd.Env = append([]string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8", "DEBIAN_FRONTEND=noninteractive", "HOME=/root"}, env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root, Pdeathsig: syscall.SIGKILL}
	return cmd
}
