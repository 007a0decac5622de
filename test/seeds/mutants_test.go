//go:build seeds

package seeds

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestMutantsAreCaught runs worlds in which one check is switched off (package guard), until
// one of them breaks a promise: of each of mutants.txt, as many seeds from 1 on as it says.
// It takes many minutes, and is asked for: MUTANTS=all, or names with commas between.
func TestMutantsAreCaught(t *testing.T) {
	asked := os.Getenv("MUTANTS")
	if asked == "" && os.Getenv("SOAK") == "" {
		t.Skip("MUTANTS=all, or SOAK, runs it")
	}
	binary := filepath.Join(t.TempDir(), "mutants.test")
	if said, err := exec.Command("go", "test", "-c", "-tags", "seeds,mutants", "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, said)
	}
	for name, seeds := range mutants(t) {
		if asked != "" && asked != "all" && !strings.Contains(","+asked+",", ","+name+",") {
			continue
		}
		t.Run(name, func(t *testing.T) {
			for seed := 1; seed <= seeds; seed++ {
				if said, broken := breaks(t, binary, name, seed); broken {
					t.Logf("caught by seed %d:\n%s", seed, said)
					return
				}
			}
			t.Errorf("%d seeds do not show that %s is switched off", seeds, name)
		})
	}
}

// mutants are the names in mutants.txt, each with how many seeds it may take.
func mutants(t *testing.T) map[string]int {
	t.Helper()
	f, err := os.Open("mutants.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	all := map[string]int{}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) == 0 || fields[0] == "#" {
			continue
		}
		if len(fields) < 2 {
			t.Fatalf("mutants.txt: %q has no number of seeds", lines.Text())
		}
		n, err := strconv.Atoi(fields[1])
		if err != nil {
			t.Fatalf("mutants.txt: %v", err)
		}
		all[fields[0]] = n
	}
	return all
}

// breaks reports whether a seed breaks a promise without a check. One that does not come to
// its end shows nothing.
func breaks(t *testing.T, binary, name string, seed int) (said string, broken bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, binary, "-test.run", "^TestSeedsKeepThePromises$", "-test.v")
	c.Env = append(os.Environ(), "RUSTMQ_MUTANT="+name, fmt.Sprint("SEED=", seed), "CAST=all", "MUTANTS=", "SOAK=")
	out, err := c.CombinedOutput()
	if err == nil || ctx.Err() != nil {
		return "", false
	}
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "after ") || strings.Contains(line, "panic") {
			return strings.TrimSpace(line), true
		}
	}
	return string(out), true
}
