package roles

import (
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"testing"
	"testing/synctest"
	"time"
)

func TestGarbageIsBounded(t *testing.T) {
	const mib = 1 << 20
	for name, c := range map[string]struct {
		live, scanned uint64
		want          uint64 // bytes of garbage
	}{
		"nothing collected yet":  {0, 0, 0},
		"small":                  {100 * mib, 10 * mib, 100 * mib},
		"buffers":                {400 * mib, 20 * mib, 128 * mib},
		"more buffers":           {4000 * mib, 20 * mib, 128 * mib},
		"much to look at":        {4000 * mib, 1000 * mib, 1000 * mib},
		"nothing but to look at": {4000 * mib, 4100 * mib, 4000 * mib},
		"a hundredth at least":   {20000 * mib, 20 * mib, 200 * mib},
	} {
		percent := garbagePercent(spareHeap, c.live, c.scanned)
		got := c.live * uint64(percent) / 100
		if got > c.want || got+c.live/100 < c.want || percent > defaultGC {
			t.Errorf("%s: %d MiB of garbage (%d %%), want %d", name, got/mib, percent, c.want/mib)
		}
	}
}

// TestCollectorFollowsTheHeap: with buffers in use garbage takes a smaller share,
// until the end, and not where somebody has said otherwise.
func TestCollectorFollowsTheHeap(t *testing.T) {
	percent := func(variable, value string) (during, after uint64) {
		for _, name := range []string{"GOGC", "GOMEMLIMIT"} {
			t.Setenv(name, "") // as if it were not set
		}
		t.Setenv(variable, value)
		synctest.Test(t, func(t *testing.T) {
			is := []metrics.Sample{{Name: "/gc/gogc:percent"}}
			stop := boundGarbage(1 << 20)
			time.Sleep(2 * time.Second)
			synctest.Wait()
			metrics.Read(is)
			during = is[0].Value.Uint64()
			stop()
			metrics.Read(is)
			after = is[0].Value.Uint64()
		})
		return during, after
	}
	defer debug.SetGCPercent(debug.SetGCPercent(defaultGC))
	buffer := make([]byte, 64<<20)
	runtime.GC()
	if during, after := percent("GOGC", ""); during >= defaultGC/2 || after != defaultGC {
		t.Errorf("%d %% while buffers were in use, %d %% behind", during, after)
	}
	if during, _ := percent("GOGC", "100"); during != defaultGC {
		t.Errorf("%d %% with GOGC", during)
	}
	if during, _ := percent("GOMEMLIMIT", "1TiB"); during != defaultGC {
		t.Errorf("%d %% with GOMEMLIMIT", during)
	}
	runtime.KeepAlive(buffer)
}

func TestMemoryOfControlGroups(t *testing.T) {
	for name, c := range map[string]struct {
		membership string
		files      map[string]string
		want       int64
	}{
		"version 2":            {"0::/a/b\n", map[string]string{"a/b/memory.max": "1000\n", "a/memory.max": "max\n"}, 1000},
		"the one above":        {"0::/a/b\n", map[string]string{"a/b/memory.max": "1000\n", "a/memory.max": "900\n"}, 900},
		"version 1":            {"5:cpu:/x\n4:memory:/a\n0::/\n", map[string]string{"memory/a/memory.limit_in_bytes": "2000\n", "memory/memory.limit_in_bytes": "9223372036854771712\n"}, 2000},
		"container's own":      {"0::/docker/123\n", map[string]string{"memory.max": "3000\n"}, 3000},
		"no limit":             {"4:memory:/\n0::/\n", map[string]string{"memory/memory.limit_in_bytes": "9223372036854771712\n", "memory.max": "max\n"}, 0},
		"nothing that we know": {"garbage\n", nil, 0},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			membership := filepath.Join(dir, "membership")
			write := func(file, content string) {
				if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			write(membership, c.membership)
			root := filepath.Join(dir, "groups")
			for file, content := range c.files {
				write(filepath.Join(root, file), content)
			}
			if got := groupMemory(membership, root); got != c.want {
				t.Errorf("%d, want %d", got, c.want)
			}
		})
	}
}
