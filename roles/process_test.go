package roles_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"rustmq.dev/rustmq/roles"
)

// asProgram in the environment makes the test binary the program itself.
const asProgram = "TEST_AS_RUSTMQ"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		if len(os.Args) > 1 && os.Args[1] == asAsyncNode {
			os.Exit(asyncNode(os.Args[2:]))
		}
		signal.Ignore(syscall.SIGXFSZ) // a write beyond a limit fails, as one to a bad disk
		os.Exit(roles.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr, nil))
	}
	goleak.VerifyTestMain(m)
}

// program is a rustmq command line that is not started yet.
func program(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable() // a path that a shell finds too
	must(t, err)
	cmd := exec.CommandContext(t.Context(), self, args...)
	cmd.Env = append(os.Environ(), asProgram+"=1")
	cmd.Dir = t.TempDir()
	return cmd
}

// process is a running `rustmq serve`, as one without a terminal sees it.
type process struct {
	cmd  *exec.Cmd
	says struct{ Kafka, HTTP, Acks string }
	log  *bufio.Reader
}

// serve starts one and waits until it can be used.
func serve(t *testing.T, args ...string) *process {
	t.Helper()
	p := &process{cmd: program(t, append([]string{"serve", "--ports", "free"}, args...)...)}
	stdout, err := p.cmd.StdoutPipe()
	must(t, err)
	stderr, err := p.cmd.StderrPipe()
	must(t, err)
	p.log = bufio.NewReader(stderr)
	must(t, p.cmd.Start())
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill() // most tests have ended it
		_ = p.cmd.Wait()
	})
	line, err := bufio.NewReader(stdout).ReadBytes('\n')
	if err != nil {
		rest, _ := io.ReadAll(p.log)
		t.Fatalf("it did not start: %v\n%s", err, rest)
	}
	must(t, json.Unmarshal(line, &p.says))
	return p
}

// TestNameSaysTheRoles holds that a file which says nothing of roles leaves them
// to the command's name, and one that does is followed.
func TestNameSaysTheRoles(t *testing.T) {
	for text, want := range map[string]string{
		"[broker]\nid = 1\n":                       "controller",
		"[broker]\nroles = \"controller,admin\"\n": "controller, admin",
	} {
		file := filepath.Join(t.TempDir(), "node.toml")
		must(t, os.WriteFile(file, []byte(text), 0o600))
		cmd := program(t, "controller", "--ports", "free", "--ephemeral", "--config", file)
		stdout, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		var says struct{ Roles string }
		must(t, json.NewDecoder(stdout).Decode(&says))
		if says.Roles != want {
			t.Errorf("%q: roles %q, want %q", text, says.Roles, want)
		}
		must(t, cmd.Process.Signal(os.Interrupt))
		must(t, cmd.Wait())
	}
}

// TestServeEndsWhenItsLogDies: with exit code 1, and one sentence that says why and
// what to do.
func TestServeEndsWhenItsLogDies(t *testing.T) {
	dir := t.TempDir()
	p := serve(t, "--data-dir", dir)
	if code, _, stderr := rustmq(t, "before\n", "produce", "t", "-b", p.says.Kafka); code != 0 {
		t.Fatal(stderr)
	}
	must(t, unix.Prlimit(p.cmd.Process.Pid, unix.RLIMIT_FSIZE, &unix.Rlimit{}, nil))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	client, err := kgo.NewClient(kgo.SeedBrokers(p.says.Kafka))
	must(t, err)
	defer client.Close()
	client.Produce(ctx, &kgo.Record{Topic: "t", Value: []byte("lost")}, nil)
	rest, err := io.ReadAll(p.log)
	must(t, err)
	ended, is := errors.AsType[*exec.ExitError](p.cmd.Wait())
	if !is || ended.ExitCode() != 1 {
		t.Errorf("it ended with %v", ended)
	}
	lines := strings.Split(strings.TrimSpace(string(rest)), "\n")
	last := lines[len(lines)-1]
	if !strings.HasPrefix(last, "rustmq: this node cannot go on: ") || !strings.HasSuffix(last, "; what was acked is on disk: start it again once the disk is well") || strings.Count(last, "file too large") != 1 {
		t.Errorf("it says\n%s", rest)
	}
	again := serve(t, "--data-dir", dir)
	if code, stdout, stderr := rustmq(t, "", "consume", "t", "-b", again.says.Kafka, "-n", "1"); code != 0 || !strings.Contains(stdout, "before") {
		t.Errorf("exit %d, %s%s", code, stdout, stderr)
	}
}

// awaitLog returns the next line of the log that has the words.
func (p *process) awaitLog(t *testing.T, words string) string {
	t.Helper()
	for {
		line, err := p.log.ReadString('\n')
		if err != nil {
			t.Fatalf("the log ended before %q: %v", words, err)
		}
		if strings.Contains(line, words) {
			return line
		}
	}
}

func (p *process) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	must(t, p.cmd.Process.Signal(s))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestNameYieldsToWhatWasSet holds that roles which were set anywhere are those of
// the process, whether or not there is a file.
func TestNameYieldsToWhatWasSet(t *testing.T) {
	for name, c := range map[string]struct {
		args    []string
		environ string
		want    string
	}{
		"--set":       {[]string{"--set", "broker.roles=controller,admin"}, "", "controller, admin"},
		"environment": {nil, "RUSTMQ_BROKER__ROLES=controller,admin", "controller, admin"},
		"nothing":     {nil, "", "controller"},
	} {
		cmd := program(t, append([]string{"controller", "--ports", "free", "--ephemeral"}, c.args...)...)
		if c.environ != "" {
			cmd.Env = append(cmd.Env, c.environ)
		}
		stdout, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		var says struct{ Roles string }
		must(t, json.NewDecoder(stdout).Decode(&says))
		if says.Roles != c.want {
			t.Errorf("%s: roles %q, want %q", name, says.Roles, c.want)
		}
		must(t, cmd.Process.Signal(os.Interrupt))
		must(t, cmd.Wait())
	}
}

// TestBucketIsAFlag holds that --bucket is short for object_storage.url, and says so
// of a URL that cannot be.
func TestBucketIsAFlag(t *testing.T) {
	dir := t.TempDir()
	p := serve(t, "--ephemeral", "--bucket", "file://"+dir)
	p.signal(t, syscall.SIGTERM)
	must(t, p.cmd.Wait())
	if objects, err := os.ReadDir(dir); err != nil || len(objects) == 0 {
		t.Errorf("nothing is in the bucket: %v", err)
	}
	if code, _, stderr := rustmq(t, "", "serve", "--ephemeral", "--bucket", "ftp://a"); code != 2 || !strings.Contains(stderr, "--bucket: object_storage.url: ") {
		t.Errorf("exit %d, %s", code, stderr)
	}
}

// TestAcksBeforeTheDiskAreSaidEverywhere holds that what describes a topic does not
// promise more than what serves it.
func TestAcksBeforeTheDiskAreSaidEverywhere(t *testing.T) {
	for sync, promised := range map[string]bool{"always": true, "interval": false} {
		p := serve(t, "--ephemeral", "--set", "wal.sync="+sync, "--set", "wal.sync_interval=70ms")
		code, _, stderr := rustmq(t, "", "admin", "--url", "http://"+p.says.HTTP, "topics", "create", "t")
		if code != 0 {
			t.Fatal(stderr)
		}
		_, stdout, _ := rustmq(t, "", "admin", "--url", "http://"+p.says.HTTP, "topics", "describe", "t")
		for what, said := range map[string]string{"serve": p.says.Acks, "describe": stdout} {
			if lost := strings.Contains(said, "can lose the last 70ms"); lost == promised {
				t.Errorf("wal.sync = %s: %s says %q", sync, what, said)
			}
		}
		if strings.Contains(stdout, "survives kill -9 and power loss") != promised {
			t.Errorf("wal.sync = %s: %s", sync, stdout)
		}
		p.signal(t, syscall.SIGTERM)
		must(t, p.cmd.Wait())
	}
}

// TestHangupWithNothingToReload does not say that something was reloaded.
func TestHangupWithNothingToReload(t *testing.T) {
	p := serve(t, "--ephemeral", "--set", "network.quic.enabled=false")
	p.signal(t, syscall.SIGHUP)
	for _, says := range []string{"nothing to reload", "no key that may change while the node runs has"} {
		if line := p.awaitLog(t, "SIGHUP"); !strings.Contains(line, says) {
			t.Errorf("said %s", line)
		}
	}
	p.signal(t, syscall.SIGTERM)
	must(t, p.cmd.Wait())
}

// TestEphemeralTellsWhatItDoesNotUse holds that a data directory which was set is
// not passed over in silence.
func TestEphemeralTellsWhatItDoesNotUse(t *testing.T) {
	file := filepath.Join(t.TempDir(), "node.toml")
	must(t, os.WriteFile(file, []byte("[broker]\ndata_dir = \"/nowhere\"\n"), 0o600))
	p := serve(t, "--ephemeral", "--config", file)
	if line := p.awaitLog(t, "--ephemeral"); !strings.Contains(line, "broker.data_dir is not used") || !strings.Contains(line, "node.toml:2") {
		t.Errorf("said %s", line)
	}
	p.signal(t, syscall.SIGTERM)
	must(t, p.cmd.Wait())
}

// TestAdminServeNeedsNoContext holds that a server starts though a context is gone,
// and that help is printed.
func TestAdminServeNeedsNoContext(t *testing.T) {
	cmd := program(t, "admin", "serve", "--roles", "controller,admin", "--ports", "free", "--ephemeral")
	cmd.Env = append(cmd.Env, "RUSTMQ_CONTEXT=gone", "XDG_CONFIG_HOME="+t.TempDir())
	stdout, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	var says struct{ Roles string }
	must(t, json.NewDecoder(stdout).Decode(&says))
	must(t, cmd.Process.Signal(os.Interrupt))
	must(t, cmd.Wait())
	help := program(t, "admin")
	help.Env = append(help.Env, "RUSTMQ_CONTEXT=gone", "XDG_CONFIG_HOME="+t.TempDir())
	if out, err := help.CombinedOutput(); err != nil || !strings.Contains(string(out), "topics") {
		t.Errorf("%v, %s", err, out)
	}
}
