//go:build seeds

package seeds

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"rustmq.dev/rustmq/test/tally"
)

// TestMutantsAreCaught runs worlds in which one check is switched off (package guard), until
// one of them breaks a promise that the same seed keeps with all checks: of each of
// mutants.txt, as many seeds from 1 on as it says. It takes many minutes, and is asked for:
// MUTANTS=all, or names with commas between, of which those that are not in the list have
// three seeds of all faults.
func TestMutantsAreCaught(t *testing.T) {
	asked := os.Getenv("MUTANTS")
	if asked == "" {
		t.Skip("MUTANTS=all runs it")
	}
	binary := filepath.Join(t.TempDir(), "mutants.test")
	if said, err := exec.Command("go", "test", "-c", "-vet=off", "-tags", "grpcnotrace,seeds,mutants", "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, said)
	}
	listed := mutants(t)
	names := slices.Sorted(maps.Keys(listed))
	if asked != "" && asked != "all" {
		names = strings.Split(asked, ",")
	}
	type tried struct {
		seed   int
		faults string
	}
	all := map[tried]string{} // what they say with all checks
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			m := listed[name]
			m.seeds = cmp.Or(m.seeds, 3)
			for seed := 1; seed <= m.seeds; seed++ {
				said, broken := breaks(t, binary, name, m.faults, seed)
				if !broken {
					continue
				}
				with := tried{seed, m.faults}
				if _, is := all[with]; !is {
					all[with], _ = breaks(t, binary, "", m.faults, seed)
				}
				if all[with] != "" {
					t.Fatalf("seed %d breaks a promise with all checks: %s", seed, all[with])
				}
				t.Logf("caught by seed %d:\n%s", seed, said)
				tally.Log(t, tally.Counts{"mutants": 1})
				return
			}
			t.Errorf("%d seeds do not show that %s is switched off", m.seeds, name)
		})
	}
}

// mutant is how a check is to be shown to be switched off.
type mutant struct {
	seeds  int    // that it may take
	faults string // FAULTS; empty: all
}

// mutants are those of mutants.txt, by name.
func mutants(t *testing.T) map[string]mutant {
	t.Helper()
	f, err := os.Open("mutants.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	all := map[string]mutant{}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) == 0 || fields[0] == "#" {
			continue
		}
		if len(fields) != 2 && len(fields) != 3 {
			t.Fatalf("mutants.txt: %q: a name, a number of seeds and, if not all, faults", lines.Text())
		}
		m := mutant{}
		if m.seeds, err = strconv.Atoi(fields[1]); err != nil {
			t.Fatalf("mutants.txt: %v", err)
		}
		if len(fields) == 3 {
			m.faults = fields[2]
		}
		all[fields[0]] = m
	}
	return all
}

// breaks reports whether a seed breaks a promise without a check; name empty: with all of
// them. One that does not come to its end shows nothing.
func breaks(t *testing.T, binary, name, faults string, seed int) (said string, broken bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, binary, "-test.run", "^TestSeedsKeepThePromises$", "-test.v")
	c.Env = append(os.Environ(), "RUSTMQ_MUTANT="+name, fmt.Sprint("SEED=", seed), "FAULTS="+faults, "CAST=all", "TIMES=", "MUTANTS=", "SOAK=")
	out, err := c.CombinedOutput()
	if err == nil || ctx.Err() != nil {
		return "", false
	}
	for line := range strings.Lines(string(out)) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "after ") && line != "after:" || strings.HasPrefix(line, "panic:") || strings.Contains(line, "no order explains") {
			return line, true
		}
	}
	return string(out), true
}
