package roles

import (
	"os"
	"path/filepath"
	"testing"
)

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
