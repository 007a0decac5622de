//go:build chaos

package chaos

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// loopback brings up what every new network namespace has, down.
func loopback() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("bring lo up: %w", err)
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return fmt.Errorf("bring lo up: %w", err)
	}
	lo.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo); err != nil {
		return fmt.Errorf("bring lo up: %w", err)
	}
	return nil
}

// network is hosts on one Ethernet, each a network namespace, and this process beside
// them as one more host, the last.
type network struct {
	t      *testing.T
	number int
	hosts  []*exec.Cmd // each keeps a namespace
}

// newNetwork makes a network of size hosts, 10.number.0.1 and on; it ends the test where
// that cannot be.
func newNetwork(t *testing.T, number, size int) *network {
	t.Helper()
	if os.Getenv("CHAOS_NAMESPACE") == "" {
		unavailable(t, "needs root and a network namespace")
	}
	for _, tool := range []string{"ip", "nsenter", "sleep"} {
		if _, err := exec.LookPath(tool); err != nil {
			unavailable(t, err.Error())
		}
	}
	n := &network{t: t, number: number}
	bridge := fmt.Sprintf("br%d", number)
	if err := run("ip", "link", "add", bridge, "type", "bridge"); err != nil {
		unavailable(t, fmt.Sprintf("no bridge: %v", err))
	}
	must(t, run("ip", "address", "add", n.addr(size)+"/24", "dev", bridge))
	must(t, run("ip", "link", "set", bridge, "up"))
	t.Cleanup(func() { _ = run("ip", "link", "delete", bridge) })
	for i := range size {
		host := exec.Command("sleep", "infinity")
		host.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
		must(t, host.Start())
		t.Cleanup(func() {
			_ = host.Process.Kill()
			_ = host.Wait()
		})
		n.hosts = append(n.hosts, host)
		port := fmt.Sprintf("v%d-%d", number, i)
		must(t, run("ip", "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", fmt.Sprint(host.Process.Pid)))
		must(t, run("ip", "link", "set", port, "master", bridge, "up"))
		t.Cleanup(func() { _ = run("ip", "link", "delete", port) }) // before its namespace goes, which takes a while
		n.mustOn(i, "address", "add", n.addr(i)+"/24", "dev", "eth0")
		n.mustOn(i, "link", "set", "lo", "up")
		n.mustOn(i, "link", "set", "eth0", "up")
	}
	return n
}

func (n *network) addr(host int) string { return fmt.Sprintf("10.%d.0.%d", n.number, host+1) }

// on returns what has a command run on a host.
func (n *network) on(host int) []string {
	if host == len(n.hosts) {
		return nil
	}
	return []string{"nsenter", "--net", "--target", fmt.Sprint(n.hosts[host].Process.Pid)}
}

// mustOn runs ip on a host.
func (n *network) mustOn(host int, args ...string) {
	n.t.Helper()
	cmd := append(append(n.on(host), "ip"), args...)
	must(n.t, run(cmd[0], cmd[1:]...))
}

// cut has lost without a word what one host sends another from now on.
func (n *network) cut(from, to int) {
	n.t.Helper()
	n.mustOn(from, "neighbour", "replace", n.addr(to), "lladdr", "02:00:00:00:00:00", "nud", "permanent", "dev", n.device(from))
}

// mend ends a cut.
func (n *network) mend(from, to int) {
	n.t.Helper()
	n.mustOn(from, "neighbour", "delete", n.addr(to), "dev", n.device(from))
}

func (n *network) device(host int) string {
	if host == len(n.hosts) {
		return fmt.Sprintf("br%d", n.number)
	}
	return "eth0"
}
