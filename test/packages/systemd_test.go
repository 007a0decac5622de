//go:build packages

package packages

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// exposure is what `systemd-analyze security` may say of the service at most, of 10.
const exposure = 1.1

// boot is what a machine has before systemd begins: the file systems of the kernel, control
// groups of its own, and no network but loopback. Its root is one of the mount namespace, for
// systemd makes sandboxes of that.
const boot = `
root=$1
for what in proc:/proc tmpfs:/run tmpfs:/tmp; do mount -t "${what%%:*}" "${what%%:*}" "$root${what#*:}"; done
mkdir -p "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
mount -t sysfs -o ro sysfs "$root/sys"
if [ "$(stat -f -c %T /sys/fs/cgroup)" = cgroup2fs ]; then
	mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
else
	mount -t tmpfs -o mode=755 tmpfs "$root/sys/fs/cgroup"
	mkdir "$root/sys/fs/cgroup/systemd" "$root/sys/fs/cgroup/unified"
	mount -t cgroup -o none,name=systemd cgroup "$root/sys/fs/cgroup/systemd"
	mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup/unified"
fi
ip link set lo up
cd "$root"
pivot_root . .
umount -l .
exec env -i container=packages PATH=/usr/sbin:/usr/bin /usr/lib/systemd/systemd --log-target=journal --show-status=no --unit=multi-user.target
`

// machine is a Debian that systemd has booted.
type machine struct {
	root string
	pid  int
	log  bytes.Buffer
}

// bootMachine starts one, which ends with the test.
func bootMachine(t *testing.T, r *rig) *machine {
	t.Helper()
	m := &machine{root: r.overlay(t, "machine", r.layer("systemd"), r.layer("debian"))}
	must(t, os.WriteFile(filepath.Join(m.root, "etc/machine-id"), nil, 0o644))
	devices(t, m.root)
	// Groups of its own, so that it finds none of the host's and leaves none behind.
	group := "rustmq-" + filepath.Base(filepath.Dir(r.work)) // the process has the number 1
	var groups []string
	for _, hierarchy := range []string{"/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified", "/sys/fs/cgroup"} {
		if _, err := os.Stat(filepath.Join(hierarchy, "cgroup.procs")); err == nil {
			groups = append(groups, filepath.Join(hierarchy, group))
		}
	}
	script := `for group; do mkdir "$group"; echo $$ >"$group/cgroup.procs"; done
		exec unshare --mount --pid --fork --kill-child --uts --ipc --net --cgroup /bin/sh -ec "$BOOT" - "$ROOT"`
	cmd := exec.Command("/bin/sh", append([]string{"-ec", script, "-"}, groups...)...)
	cmd.Env = append(os.Environ(), "BOOT="+boot, "ROOT="+m.root)
	cmd.Stdout, cmd.Stderr = &m.log, &m.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	must(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // and with it all inside
		_ = cmd.Wait()
		await(t, "the control groups are empty", 10*time.Second, func() error {
			return exec.Command("/bin/sh", append([]string{"-c", `for group; do find "$group" -depth -type d -exec rmdir {} + || exit 1; done 2>&1`, "-"}, slices.DeleteFunc(groups, gone)...)...).Run()
		})
	})
	m.pid = child(t, cmd.Process.Pid)
	await(t, "systemd has booted", time.Minute, func() error {
		said, err := m.command("systemctl", "is-system-running").CombinedOutput()
		if state := strings.TrimSpace(string(said)); state != "running" {
			return fmt.Errorf("it is %s: %v", state, err)
		}
		return nil
	})
	return m
}

func gone(name string) bool {
	_, err := os.Stat(name)
	return err != nil
}

// command is one of root in the machine.
func (m *machine) command(args ...string) *exec.Cmd {
	cmd := exec.Command("nsenter", append([]string{"-t", strconv.Itoa(m.pid), "-a"}, args...)...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8", "DEBIAN_FRONTEND=noninteractive", "HOME=/root"}
	return cmd
}

func (m *machine) show(t *testing.T, property string) string {
	t.Helper()
	return out(t, m.command("systemctl", "show", "-P", property, "rustmq"))
}

// active waits until the service has said that it takes clients.
func (m *machine) active(t *testing.T) {
	t.Helper()
	await(t, "the service is up", 30*time.Second, func() error {
		said, err := m.command("systemctl", "is-active", "rustmq").CombinedOutput()
		if err != nil {
			journal, _ := m.command("journalctl", "-u", "rustmq", "-n", "30", "--no-pager").CombinedOutput() // for the message
			return fmt.Errorf("it is %s\n%s", strings.TrimSpace(string(said)), journal)
		}
		return nil
	})
}

// runSystemd has the package serve on a machine, in the sandbox of its unit.
func runSystemd(t *testing.T, r *rig, first, next release) {
	m := bootMachine(t, r)
	for name, of := range map[string]release{"first.deb": first, "next.deb": next} {
		must(t, os.WriteFile(filepath.Join(m.root, "root", name), []byte(read(t, of.file(t, ".deb"))), 0o644))
	}
	rustmq := func(stdin string, args ...string) string {
		t.Helper()
		cmd := m.command(append([]string{"/usr/bin/rustmq"}, args...)...)
		cmd.Stdin = strings.NewReader(stdin)
		return out(t, cmd)
	}
	out(t, m.command("dpkg", "--install", "/root/first.deb"))
	m.active(t)
	said, err := m.command("systemd-analyze", "verify", "--man=no", "rustmq.service").CombinedOutput()
	if err != nil || len(said) > 0 {
		t.Errorf("systemd-analyze verify: %v\n%s", err, said)
	}
	judged := out(t, m.command("systemd-analyze", "security", "--no-pager", "rustmq.service"))
	score := regexp.MustCompile(`Overall exposure level for rustmq.service: ([0-9.]+)`).FindStringSubmatch(judged)
	if score == nil {
		t.Fatalf("systemd-analyze security says\n%s", judged)
	}
	exposed, err := strconv.ParseFloat(score[1], 64)
	must(t, err)
	t.Logf("systemd-analyze security: %s of 10", score[1])
	if exposed > exposure {
		t.Errorf("systemd-analyze security: %v, more than %v\n%s", exposed, exposure, judged)
	}

	// Records, and a transform, which is compiled inside.
	rustmq("", "admin", "topics", "create", "orders")
	rustmq("one\ntwo\n", "produce", "orders")
	rustmq("", "admin", "etl", "deploy", "hide-cards", "--battery", "mask", "--topics", "orders", "--config", `{"fields": [{"path": "card", "action": "mask", "keep_last": 4}]}`)
	rustmq(`{"card": "4111222233334444"}`+"\n", "produce", "orders")
	if got := rustmq("", "consume", "orders", "-o", "2", "-n", "1", "-f", "%v"); !strings.Contains(got, "************4444") {
		t.Errorf("the transform has let %s through", got)
	}
	pid := m.show(t, "MainPID")
	status := read(t, filepath.Join("/proc", hostPID(t, m, pid), "status"))
	for _, want := range []string{"CapEff:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"} {
		if !strings.Contains(status, want) {
			t.Errorf("the process lacks %q:\n%s", want, status)
		}
	}
	out(t, m.command("systemctl", "reload", "rustmq"))
	if again := m.show(t, "MainPID"); again != pid {
		t.Errorf("a reload has started it again: %s, %s", pid, again)
	}
	// What a stop may take is what the configuration says it may, and more.
	graceful := strings.Split(rustmq("", "config", "show", "--config", "/"+debConfig, "-o", "json"), "graceful_shutdown_timeout")
	if len(graceful) < 2 {
		t.Errorf("the configuration has no time for a stop")
	}
	if got := m.show(t, "TimeoutStopUSec"); got != "40s" || !strings.Contains(read(t, filepath.Join(m.root, debConfig)), `graceful_shutdown_timeout = "30s"`) {
		t.Errorf("systemd gives a stop %s", got)
	}

	out(t, m.command("dpkg", "--install", "/root/next.deb"))
	await(t, "an upgrade starts it again", 30*time.Second, func() error {
		if again := m.show(t, "MainPID"); again == pid || again == "0" {
			return fmt.Errorf("its process is %s", again)
		}
		return nil
	})
	m.active(t)
	if got := rustmq("", "consume", "orders", "-o", "start", "-n", "2", "-f", "%v "); got != "one two" {
		t.Errorf("after the upgrade there are %q", got)
	}
	out(t, m.command("systemctl", "stop", "rustmq"))
	if result, status := m.show(t, "Result"), m.show(t, "ExecMainStatus"); result != "success" || status != "0" {
		t.Errorf("stopped, it is %s, with %s", result, status)
	}
	out(t, m.command("systemctl", "start", "rustmq")) // returns when it is ready
	if got := rustmq("", "consume", "orders", "-o", "start", "-n", "2", "-f", "%v "); got != "one two" {
		t.Errorf("started again, there are %q", got)
	}
	out(t, m.command("dpkg", "--purge", "rustmq"))
	if said, err := m.command("systemctl", "is-active", "rustmq").CombinedOutput(); err == nil {
		t.Errorf("purged, it is %s", said)
	}
	if _, err := os.Stat(filepath.Join(m.root, debData, "wal")); err != nil {
		t.Errorf("purged, the records are gone: %v", err)
	}
}

// hostPID is a process of the machine as it is seen from here.
func hostPID(t *testing.T, m *machine, inside string) string {
	t.Helper()
	found, err := filepath.Glob("/proc/[0-9]*/status")
	must(t, err)
	for _, name := range found {
		raw, err := os.ReadFile(name)
		if err != nil {
			continue // it has ended
		}
		if regexp.MustCompile(`(?m)^NSpid:\t[0-9]+\t`+inside+`$`).Match(raw) && strings.Contains(string(raw), "Name:\trustmq") {
			return filepath.Base(filepath.Dir(name))
		}
	}
	t.Fatalf("process %s of the machine is not seen", inside)
	return ""
}
