package scripts

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// consoleCopy is scripts/console.sh with a console of few files, where node and npm are what
// the scripts say.
type consoleCopy struct {
	*testing.T
	dir string
}

func newConsole(t *testing.T, node, npm string) consoleCopy {
	t.Helper()
	c := consoleCopy{t, t.TempDir()}
	script, err := os.ReadFile("../../scripts/console.sh")
	if err != nil {
		t.Fatal(err)
	}
	const sh = "#!/bin/sh\n"
	version := "[ \"$1\" != -p ] || { echo true; exit 0; }\n"
	for name, text := range map[string]string{
		"scripts/console.sh": string(script), "bin/node": sh + version + node, "bin/npm": sh + npm,
		"console/src/main.tsx": "", "console/build.mjs": "", "console/package-lock.json": "{}", "console/tsconfig.json": "", "console/dist/.keep": "",
	} {
		file := filepath.Join(c.dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// run returns what it prints, and whether it succeeds.
func (c consoleCopy) run(what string) (said string, ok bool) {
	c.Helper()
	cmd := exec.Command(filepath.Join(c.dir, "scripts/console.sh"), what)
	cmd.Env = []string{"PATH=" + filepath.Join(c.dir, "bin") + ":" + os.Getenv("PATH"), "HOME=" + c.dir}
	out, err := cmd.CombinedOutput()
	return string(out), err == nil
}

func (c consoleCopy) there(name string) bool {
	_, err := os.Stat(filepath.Join(c.dir, "console", name))
	return err == nil
}

// What builds a console is to write.
const builds = "echo page >dist/index.html\n"

func TestConsoleIsBuilt(t *testing.T) {
	for _, what := range []string{"build", "maybe"} {
		c := newConsole(t, builds, "mkdir node_modules\n")
		if said, ok := c.run(what); !ok || said != "" && what == "build" || !c.there("dist/index.html") {
			t.Errorf("%s: %v, %s", what, ok, said)
		}
	}
}

// An installation that fails half-way is none: the next one does it again.
func TestConsoleIsNotInstalledByHalf(t *testing.T) {
	c := newConsole(t, builds, "mkdir -p node_modules; [ -e ../network ]\n")
	said, ok := c.run("maybe")
	if !ok || !strings.Contains(said, "could not be installed") || c.there("node_modules/.rustmq-lock") || c.there("dist/index.html") {
		t.Errorf("without a network: %v, %s", ok, said)
	}
	if err := os.WriteFile(filepath.Join(c.dir, "network"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if said, ok := c.run("build"); !ok || !c.there("dist/index.html") {
		t.Errorf("with it: %v, %s", ok, said)
	}
}

// What fails to build is not remembered as built: so make console says why.
func TestConsoleThatDoesNotBuildIsNotBuilt(t *testing.T) {
	c := newConsole(t, builds+"echo too large >&2\nexit 1\n", "mkdir -p node_modules\n")
	for _, what := range []string{"maybe", "maybe", "build"} {
		said, ok := c.run(what)
		if ok != (what == "maybe") || !strings.Contains(said, "too large") || strings.Contains(said, "does not build") != ok {
			t.Errorf("%s: %v, %s", what, ok, said)
		}
	}
}

// make build goes on where no network is, and waits for it neither by tries nor by answers.
func TestConsoleDoesNotWaitForANetwork(t *testing.T) {
	c := newConsole(t, builds, "echo \"tries ${npm_config_fetch_retries-many}, each ${npm_config_fetch_timeout-long}\" >../asked\nexec sleep 30\n")
	// In place of timeout(1): of the time that it is given nothing passes.
	if err := os.WriteFile(filepath.Join(c.dir, "bin/timeout"), []byte("#!/bin/sh\nshift\n\"$@\" &\nuntil [ -s ../asked ]; do :; done\nkill $!\nexit 124\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	said, ok := c.run("maybe")
	asked, err := os.ReadFile(filepath.Join(c.dir, "asked"))
	if err != nil || !ok || !strings.Contains(said, "could not be installed") || c.there("node_modules/.rustmq-lock") {
		t.Errorf("%v, %v, %s", err, ok, said)
	}
	if string(asked) != "tries 0, each 10000\n" {
		t.Errorf("npm has %s", asked)
	}
}
