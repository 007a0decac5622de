package roles

import (
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
)

// limitMemory tells the collector how much this process may use, where a control
// group bounds it and nobody has said otherwise (GOMEMLIMIT): without it the heap
// may grow to twice what is in use before it is collected, which the kernel does
// not wait for. A fifth is left to what the collector does not see, and to what
// is made while it runs.
func limitMemory() {
	if os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	if limit := groupMemory("/proc/self/cgroup", "/sys/fs/cgroup"); limit > 0 {
		debug.SetMemoryLimit(limit / 5 * 4)
	}
}

// groupMemory is the least of what the memory control groups (of either version)
// of this process and above it allow; 0: none is known.
func groupMemory(membership, root string) int64 {
	groups, err := os.ReadFile(membership)
	if err != nil {
		return 0
	}
	least := int64(math.MaxInt64)
	for line := range strings.Lines(string(groups)) {
		_, rest, _ := strings.Cut(strings.TrimSpace(line), ":")
		controllers, path, _ := strings.Cut(rest, ":")
		base, file := root, "memory.max"
		switch controllers {
		case "":
		case "memory":
			base, file = filepath.Join(root, "memory"), "memory.limit_in_bytes"
		default:
			continue
		}
		// In a container the path may not be what is mounted; the root then is.
		for path = filepath.Clean("/" + path); ; path = filepath.Dir(path) {
			if text, err := os.ReadFile(filepath.Join(base, path, file)); err == nil {
				if n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil { // not "max"
					least = min(least, n)
				}
			}
			if path == "/" {
				break
			}
		}
	}
	const unlimited = 1 << 60 // version 1 says so by a large number
	if least >= unlimited {
		return 0
	}
	return least
}
