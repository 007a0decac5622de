//go:build seeds

package seeds

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestSoakIsHonoured: make soak runs the seeds, for as many minutes as it is told to, and
// without a word the suite takes those of the commit.
func TestSoakIsHonoured(t *testing.T) {
	for said, want := range map[string]time.Duration{"": 0, "7": 7 * time.Minute} {
		t.Setenv("SOAK", said)
		if got := soaking(t); got != want {
			t.Errorf("SOAK=%q takes new seeds for %v, want %v", said, got, want)
		}
	}

	// A go that says what it was asked, and with what.
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "go"), []byte("#!/bin/sh\necho \"SOAK=$SOAK go $*\"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	soak := exec.Command("make", "-n", "soak")
	soak.Dir = "../.."
	recipe, err := soak.CombinedOutput()
	if err != nil {
		t.Fatalf("make -n soak: %v\n%s", err, recipe)
	}
	for line := range strings.Lines(string(recipe)) {
		before, suites, is := strings.Cut(line, "scripts/soak.sh ")
		if !is || !slices.Contains(strings.Fields(suites), "seeds") {
			continue
		}
		run := exec.Command("sh", "-c", before+"scripts/soak.sh seeds")
		run.Dir = "../.."
		run.Env = append(os.Environ(), "SOAK=7", "PATH="+dir+":"+os.Getenv("PATH"))
		said, err := run.CombinedOutput()
		if err != nil || !strings.Contains(string(said), "SOAK=7 go test") || !strings.Contains(string(said), "./test/seeds") {
			t.Errorf("%s says, with SOAK=7: %v\n%s", strings.TrimSpace(line), err, said)
		}
		return
	}
	t.Errorf("make soak does not run the seeds:\n%s", recipe)
}
