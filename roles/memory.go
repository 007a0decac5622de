package roles

import (
	"context"
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"
	"sync"
	"time"
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

// spareHeap is how much garbage may lie in the heap in any case before it is collected.
const spareHeap = 128 << 20

// boundGarbage keeps garbage from taking as much memory as what is in use, unless
// somebody has said how it is to be collected (GOGC, GOMEMLIMIT), until stop, which
// leaves the default behind. Most of a broker's heap is buffers: a collection does
// not look into them, and so costs little, however large they are.
func boundGarbage(spare uint64) (stop func()) {
	if os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" {
		return func() {}
	}
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() {
		ticker := time.NewTicker(time.Second)
		defer ticker.Stop()
		heap := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/scan/total:bytes"}}
		for set := defaultGC; ; {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			metrics.Read(heap)
			// It stops all other goroutines for a moment.
			if percent := garbagePercent(spare, heap[0].Value.Uint64(), heap[1].Value.Uint64()); percent != set {
				debug.SetGCPercent(percent)
				set = percent
			}
		}
	})
	return func() {
		cancel()
		done.Wait()
		debug.SetGCPercent(defaultGC)
	}
}

const defaultGC = 100 // of GOGC

// garbagePercent is how much garbage there may be, in percent of what was in use at
// the last collection: spare bytes, or as much as a collection has to look at, so that
// it does not take a larger share of the time than by default; never more than what
// is in use.
func garbagePercent(spare, live, scanned uint64) int {
	if live == 0 { // nothing was collected yet
		return defaultGC
	}
	return max(1, int(min(max(spare, scanned), live)*100/live)) // 0 would be to collect without end
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
