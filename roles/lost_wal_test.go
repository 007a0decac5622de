package roles_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
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

// TestStartWithoutTheWAL: a node whose log is gone does not start with
// an empty one unasked, says what to do, and does start so when it is told to.
func TestStartWithoutTheWAL(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	wal := filepath.Join(dir, "wal")
	must(t, starts(t, dir, "a\n", nil))
	must(t, starts(t, dir, "b\n", nil))
	accept := regexp.MustCompile(`wal\.accept_lost = "([0-9a-f]{32})"`)
	must(t, os.Rename(wal, wal+"-away"))
	err := starts(t, dir, "c\n", nil)
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

// flip damages one byte of text where it lies in the log of a data directory.
func flip(t *testing.T, dir, text string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "wal", "segment-*"))
	must(t, err)
	for _, file := range files {
		raw, err := os.ReadFile(file)
		must(t, err)
		if at := bytes.Index(raw, []byte(text)); at >= 0 {
			raw[at] ^= 1
			must(t, os.WriteFile(file, raw, 0o600))
			return
		}
	}
	t.Fatalf("%q is in none of %v", text, files)
}

// TestANodeAloneServesWhatIsWhole: a partition of which a record cannot be read back, and which
// the bucket has not, is refused by name, and all others are served. One that the bucket has is
// served whole.
func TestANodeAloneServesWhatIsWhole(t *testing.T) {
	dir := t.TempDir()
	p := serve(t, "--data-dir", dir, "--set", "wal.upload_interval=200ms")
	produce := func(topic, record string) (code int, stderr string) {
		code, _, stderr = rustmq(t, record+"\n", "produce", topic, "-b", p.says.Kafka, "--timeout", "3s")
		return code, stderr
	}
	produced := func(topic string, records ...string) {
		t.Helper()
		for _, r := range records {
			if code, stderr := produce(topic, r); code != 0 {
				t.Fatal(stderr)
			}
		}
	}
	restart := func(rots string, set ...string) {
		t.Helper()
		p.signal(t, syscall.SIGKILL)
		_ = p.cmd.Wait() // killed
		flip(t, dir, rots)
		p = serve(t, append([]string{"--data-dir", dir}, set...)...)
	}
	holds := func(topic string, want ...string) {
		t.Helper()
		code, stdout, stderr := rustmq(t, "", "consume", topic, "-b", p.says.Kafka, "-o", "start", "-n", strconv.Itoa(len(want)))
		if got := strings.Fields(stdout); code != 0 || !slices.Equal(got, want) {
			t.Errorf("%s holds %q, want %q: exit %d, %s", topic, got, want, code, stderr)
		}
	}
	produced("held", "a", "rots-in-the-bucket", "b")
	eventually(t, "the bucket has it", func() bool {
		_, stdout, _ := rustmq(t, "", "admin", "--url", "http://"+p.says.HTTP, "topics", "describe", "held", "-o", "json")
		return regexp.MustCompile(`"bucket_end": *3\b`).MatchString(stdout)
	})
	produced("whole", "x")
	restart("rots-in-the-bucket", "--set", "wal.upload_interval=1h")
	holds("held", "a", "rots-in-the-bucket", "b")
	holds("whole", "x")

	produced("lost", "a", "rots-for-good", "b")
	produced("whole", "y")
	restart("rots-for-good", "--set", "wal.upload_interval=1h")
	produced("whole", "z")
	holds("whole", "x", "y", "z")
	holds("held", "a", "rots-in-the-bucket", "b")
	if code, _ := produce("lost", "in its place"); code == 0 {
		t.Error("a partition that lacks a record takes others")
	}
	eventually(t, "health names it", func() bool {
		code, stdout, _ := rustmq(t, "", "admin", "--url", "http://"+p.says.HTTP, "cluster", "health")
		return code == 1 && strings.Contains(stdout, "lost-0") && !strings.Contains(stdout, "whole-0")
	})
}
