//go:build chaos

package chaos

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// cgroup is a memory control group of either version.
type cgroup struct {
	dir  string
	peak string // its file names
	kill func(dir string) (int64, error)
}

// newCgroup makes a group below ours that may use limit bytes. It returns nil
// where none can be made, and why.
func newCgroup(t *testing.T, limit int64) (*cgroup, error) {
	t.Helper()
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, err
	}
	var errs []error
	for line := range strings.Lines(string(own)) {
		_, rest, _ := strings.Cut(strings.TrimSpace(line), ":")
		controllers, path, _ := strings.Cut(rest, ":")
		g := &cgroup{}
		limitFile, swapFile := "", ""
		name := fmt.Sprintf("rustmq-chaos-%d", os.Getpid())
		switch controllers {
		case "memory":
			g.dir = filepath.Join("/sys/fs/cgroup/memory", path, name)
			g.peak, limitFile, swapFile = "memory.max_usage_in_bytes", "memory.limit_in_bytes", "memory.memsw.limit_in_bytes"
			g.kill = func(dir string) (int64, error) { return field(filepath.Join(dir, "memory.oom_control"), "oom_kill") }
		case "":
			g.dir = filepath.Join("/sys/fs/cgroup", path, name)
			g.peak, limitFile, swapFile = "memory.peak", "memory.max", "memory.swap.max"
			g.kill = func(dir string) (int64, error) { return field(filepath.Join(dir, "memory.events"), "oom_kill") }
		default:
			continue
		}
		if err := os.Mkdir(g.dir, 0o755); err != nil {
			errs = append(errs, err)
			continue
		}
		t.Cleanup(func() { _ = os.Remove(g.dir) }) // its process is gone; the kernel may be slower
		if err := os.WriteFile(filepath.Join(g.dir, limitFile), []byte(strconv.FormatInt(limit, 10)), 0o644); err != nil {
			errs = append(errs, err)
			continue
		}
		swap := strconv.FormatInt(limit, 10)
		if limitFile == "memory.max" {
			swap = "0"
		}
		_ = os.WriteFile(filepath.Join(g.dir, swapFile), []byte(swap), 0o644) // not there without swap
		return g, nil
	}
	return nil, errors.Join(errs...)
}

// killed is how many processes the kernel has ended for want of memory.
func (g *cgroup) killed() (int64, error) { return g.kill(g.dir) }

// highest is the most that was ever used, page cache included.
func (g *cgroup) highest() (int64, error) {
	raw, err := os.ReadFile(filepath.Join(g.dir, g.peak))
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(strings.TrimSpace(string(raw)), 10, 64)
}

// field is the number behind a name in a file of the kernel's.
func field(file, name string) (int64, error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(raw)) {
		if words := strings.Fields(line); len(words) >= 2 && strings.TrimSuffix(words[0], ":") == name {
			return strconv.ParseInt(words[1], 10, 64)
		}
	}
	return 0, fmt.Errorf("%s has no %s", file, name)
}
