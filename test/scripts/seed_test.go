package scripts

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestSeedsAreOfTheTree: scripts/seed.sh says one number for a commit, another for another
// tree, nothing where a file differs from the commit, and what SEED says in any case.
func TestSeedsAreOfTheTree(t *testing.T) {
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("git is not installed: no commit has a seed here")
	}
	script, err := filepath.Abs("../../scripts/seed.sh")
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(script)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	run := func(env, name string, args ...string) string {
		t.Helper()
		c := exec.Command(name, args...)
		c.Dir = dir
		c.Env = append(os.Environ(), "SEED=", "SOAK=", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null", env)
		out, err := c.Output()
		if err != nil {
			t.Fatalf("%s %s: %v", name, strings.Join(args, " "), err)
		}
		return strings.TrimSpace(string(out))
	}
	write := func(name string, content []byte) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	commit := func() {
		t.Helper()
		run("X=", "git", "add", "-A")
		run("X=", "git", "-c", "user.name=a", "-c", "user.email=a@example", "commit", "-q", "-m", "m")
	}
	if err := os.Mkdir(filepath.Join(dir, "scripts"), 0o700); err != nil {
		t.Fatal(err)
	}
	write("scripts/seed.sh", b)
	if got := run("X=", "scripts/seed.sh"); got != "" {
		t.Errorf("without git the seed is %q", got)
	}
	run("X=", "git", "init", "-q")
	write("a", []byte("1"))
	commit()
	first := run("X=", "scripts/seed.sh")
	if first == "" || first != run("X=", "scripts/seed.sh") {
		t.Errorf("the seed of a commit is %q", first)
	}
	write("a", []byte("2"))
	if got := run("X=", "scripts/seed.sh"); got != "" {
		t.Errorf("the seed of what is not committed is %q", got)
	}
	if got := run("SEED=42", "scripts/seed.sh"); got != "42" {
		t.Errorf("SEED=42 is the seed %q", got)
	}
	commit()
	if got := run("X=", "scripts/seed.sh"); got == "" || got == first {
		t.Errorf("the next commit has the seed %q, as the first: %q", got, first)
	}
	if got := run("SOAK=5", "scripts/seed.sh"); got != "" {
		t.Errorf("a soak has the seed %q", got)
	}
}
