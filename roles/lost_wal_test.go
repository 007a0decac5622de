package roles_test

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"rustmq.dev/rustmq/embed"
)

// starts starts and ends a node, with records in between if it starts.
func starts(t *testing.T, dir, records string, set map[string]string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	n, err := embed.Start(ctx, embed.Options{DataDir: dir, Set: set})
	if err != nil {
		return err
	}
	if code, _, stderr := rustmq(t, records, "produce", "t", "-b", n.Kafka()); code != 0 {
		t.Errorf("produce: exit %d, %s", code, stderr)
	}
	return n.Close()
}

// TestStartWithoutTheWAL: a node whose log is gone, or damaged, does not start with
// an empty one unasked, says what to do, and does start so when it is told to.
func TestStartWithoutTheWAL(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	wal := filepath.Join(dir, "wal")
	must(t, starts(t, dir, "a\n", nil))
	must(t, starts(t, dir, "b\n", nil))
	file := filepath.Join(wal, "segment-000001")
	raw, err := os.ReadFile(file)
	must(t, err)
	whole := append([]byte(nil), raw...)
	raw[8]++
	must(t, os.WriteFile(file, raw, 0o600))
	err = starts(t, dir, "c\n", nil)
	accept := regexp.MustCompile(`wal\.accept_lost = "([0-9a-f]{32})"`)
	if err == nil || !strings.Contains(err.Error(), "segment-000001 is corrupt") || !accept.MatchString(err.Error()) {
		t.Fatalf("with a damaged log: %v", err)
	}
	must(t, os.WriteFile(file, whole, 0o600))
	must(t, os.Rename(wal, wal+"-away"))
	err = starts(t, dir, "c\n", nil)
	if err == nil || !strings.Contains(err.Error(), "is missing") || !accept.MatchString(err.Error()) {
		t.Fatalf("without a log: %v", err)
	}
	lost := map[string]string{"wal.accept_lost": accept.FindStringSubmatch(err.Error())[1]}
	must(t, starts(t, dir, "c\n", lost))
	must(t, os.RemoveAll(wal))
	must(t, os.Rename(wal+"-away", wal))
	if err = starts(t, dir, "d\n", lost); err == nil || !strings.Contains(err.Error(), "is log "+lost["wal.accept_lost"]) {
		t.Fatalf("with the log that was given up: %v", err)
	}
}
