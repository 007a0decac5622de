package roles_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestDamagedMetadataLogNamesTheWayBack: a node whose metadata log a disk has damaged does not
// start, and says what brings it back, here from its bucket.
func TestDamagedMetadataLogNamesTheWayBack(t *testing.T) {
	dir := t.TempDir()
	p := serve(t, "--data-dir", dir)
	p.signal(t, syscall.SIGKILL)
	_ = p.cmd.Wait() // it was killed
	segments, err := filepath.Glob(filepath.Join(dir, "raft", "segment-*"))
	must(t, err)
	if len(segments) == 0 {
		t.Fatal("there is no metadata log")
	}
	for _, name := range segments {
		raw, err := os.ReadFile(name)
		must(t, err)
		copy(raw[4096:], bytes.Repeat([]byte("Z"), 4096))
		must(t, os.WriteFile(name, raw, 0o600))
	}
	code, _, stderr := rustmq(t, "", "serve", "--ports", "free", "--data-dir", dir)
	if code != 1 || !strings.Contains(stderr, "is corrupt at byte") || !strings.Contains(stderr, "`rustmq admin cluster recover --from URL`") {
		t.Errorf("alone: exit %d, %s", code, stderr)
	}
}
