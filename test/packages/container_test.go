//go:build packages

package packages

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// container is a process in a root, a user and namespaces of its own: those of an engine's.
type container struct {
	name, hostname  string
	namespace, addr string // of its network
	root            string
	user, dir       string
	env             []string
	args            []string

	cmd  *exec.Cmd
	pid  int // of the process that is 1 inside
	mu   sync.Mutex
	said bytes.Buffer // guarded by mu
}

// Write collects what it prints.
func (c *container) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.said.Write(p)
}

func (c *container) log() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.name + " says\n" + tail(c.said.String())
}

// start runs it. /proc is of its own processes, and there is nothing that it could gain
// rights by.
func (c *container) start(t *testing.T) {
	t.Helper()
	uid, gid, _ := strings.Cut(c.user, ":")
	script := `hostname "$1"; mount -t proc proc "$2/proc"
		root=$2 dir=$3 uid=$4 gid=$5; shift 5
		exec setpriv --no-new-privs --clear-groups unshare --root="$root" --wd="$dir" --setgid="$gid" --setuid="$uid" -- "$@"`
	args := append([]string{"--net=" + c.namespace, "unshare", "--mount", "--pid", "--fork", "--kill-child", "--ipc", "--uts",
		"/bin/sh", "-ec", script, "-", c.hostname, c.root, c.dir, uid, gid}, c.args...)
	c.cmd = exec.Command("nsenter", args...)
	c.cmd.WaitDelay = time.Second
	c.cmd.Env = append([]string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}, c.env...)
	c.cmd.Stdout, c.cmd.Stderr = c, c
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	must(t, c.cmd.Start())
	running := c.cmd
	t.Cleanup(func() { _ = running.Process.Kill(); _ = running.Wait() }) // a stop has ended it
	pid := child(t, c.cmd.Process.Pid)
	// First, for a change of its user has it outlive its parent.
	t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGKILL) })
	c.pid = pid
	await(t, c.name+" has begun", 10*time.Second, func() error {
		is, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", c.pid))
		if err != nil || filepath.Base(is) != filepath.Base(c.args[0]) {
			return fmt.Errorf("it is %s, %w\n%s", is, err, c.log())
		}
		return nil
	})
}

// child is the child of a process that is 1 in a namespace, once there is one.
func child(t *testing.T, parent int) (pid int) {
	t.Helper()
	first := regexp.MustCompile(`(?m)^NSpid:\t[0-9]+\t1$`)
	await(t, "a process in namespaces of its own", 10*time.Second, func() error {
		raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", parent, parent))
		if err != nil {
			return err
		}
		for _, one := range strings.Fields(string(raw)) {
			status, err := os.ReadFile("/proc/" + one + "/status")
			if err == nil && first.Match(status) {
				pid, err = strconv.Atoi(one)
				return err
			}
		}
		return fmt.Errorf("its children are %q", raw)
	})
	return pid
}

// inside is a command in the container, as its user.
func (c *container) inside(args ...string) *exec.Cmd {
	uid, gid, _ := strings.Cut(c.user, ":")
	cmd := exec.Command("setpriv", append([]string{"--no-new-privs", "--clear-groups", "nsenter", "-t", strconv.Itoa(c.pid), "-a", "-r", "-w", "-G", gid, "-S", uid, "--"}, args...)...)
	cmd.Env = c.env
	return cmd
}

// stop asks for the end, and waits for as long as it is given.
func (c *container) stop(t *testing.T, within time.Duration) {
	t.Helper()
	must(t, syscall.Kill(c.pid, syscall.SIGTERM))
	ended := make(chan error, 1)
	go func() { ended <- c.cmd.Wait() }()
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("%s ended with %v\n%s", c.name, err, c.log())
		}
	case <-time.After(within):
		t.Fatalf("%s did not end within %v\n%s", c.name, within, c.log())
	}
}

// confined holds that the process can do what its user can, and no more.
func (c *container) confined(t *testing.T) {
	t.Helper()
	status := map[string]string{}
	for line := range strings.Lines(read(t, fmt.Sprintf("/proc/%d/status", c.pid))) {
		key, value, _ := strings.Cut(line, ":")
		status[key] = strings.Join(strings.Fields(value), " ")
	}
	uid, _, _ := strings.Cut(c.user, ":")
	want := map[string]string{"Uid": strings.TrimSpace(strings.Repeat(uid+" ", 4)), "Groups": "", "NoNewPrivs": "1", "CapEff": "0000000000000000", "CapPrm": "0000000000000000"}
	for key, value := range want {
		if status[key] != value {
			t.Errorf("%s has %s %q, not %q", c.name, key, status[key], value)
		}
	}
	for _, at := range []string{"/usr/bin/x", "/etc/x", "/x"} {
		var ro *os.PathError
		if err := os.WriteFile(filepath.Join(c.root, at), nil, 0o600); !errors.As(err, &ro) || !errors.Is(err, unix.EROFS) {
			t.Errorf("%s: a file at %s: %v", c.name, at, err)
		}
	}
}

// newContainer lays a root out: read-only, with what is mounted, devices, and the names of
// the others.
func newContainer(t *testing.T, n *network, i *image, name, hostname string, readOnly bool, mounts []mounted) *container {
	t.Helper()
	c := &container{name: name, hostname: hostname, user: i.user, dir: i.dir, env: slices.Clone(i.env)}
	c.namespace, c.addr = n.join(t, name)
	c.root = n.rig.dir(t, "containers/"+name)
	layers := n.rig.overlay(t, "containers/"+name+".image", i.root)
	for _, m := range mounts {
		must(t, os.MkdirAll(filepath.Join(layers, filepath.Dir(m.at)), 0o755))
		if info, err := os.Stat(m.from); err == nil && !info.IsDir() {
			must(t, os.WriteFile(filepath.Join(layers, m.at), nil, 0o644))
		} else {
			must(t, os.MkdirAll(filepath.Join(layers, m.at), 0o755))
		}
	}
	must(t, os.MkdirAll(filepath.Join(layers, "etc"), 0o755))
	must(t, os.WriteFile(filepath.Join(layers, "etc/hosts"), nil, 0o644))
	for _, dir := range []string{"proc", "dev"} {
		must(t, os.MkdirAll(filepath.Join(layers, dir), 0o755))
	}
	bind(t, layers, c.root, readOnly)
	devices(t, c.root)
	bind(t, n.hosts, filepath.Join(c.root, "etc/hosts"), true)
	for _, m := range mounts {
		if m.from == "" {
			mount(t, "tmpfs", filepath.Join(c.root, m.at), "mode=1777")
			continue
		}
		bind(t, m.from, filepath.Join(c.root, m.at), m.readOnly)
	}
	return c
}

// mounted is what a container has at a place: a directory or file of the host, or with no
// from memory.
type mounted struct {
	from, at string
	readOnly bool
}
