package roles_test

import (
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestServiceManagerIsTold: one that asks for it hears when clients are served, and what a
// stop may take, before it is made.
func TestServiceManagerIsTold(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "notify")
	heard, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	must(t, err)
	defer heard.Close()
	must(t, heard.SetReadDeadline(time.Now().Add(time.Minute)))
	hear := func() map[string]string {
		t.Helper()
		message := make([]byte, 4096)
		n, err := heard.Read(message)
		must(t, err)
		state := map[string]string{}
		for line := range strings.SplitSeq(string(message[:n]), "\n") {
			key, value, _ := strings.Cut(line, "=")
			state[key] = value
		}
		return state
	}
	t.Setenv("NOTIFY_SOCKET", socket)
	p := serve(t, "--ephemeral", "--set", "operations.graceful_shutdown_timeout=40s")
	if state := hear(); state["READY"] != "1" || state["STOPPING"] != "" {
		t.Errorf("once it has started, it says %v", state)
	}
	if code, _, stderr := rustmq(t, "x\n", "produce", "t", "-b", p.says.Kafka); code != 0 {
		t.Errorf("ready, and does not take a record: %s", stderr)
	}
	must(t, p.cmd.Process.Signal(syscall.SIGTERM))
	state := hear()
	if state["STOPPING"] != "1" {
		t.Errorf("at its stop, it says %v", state)
	}
	micros, err := strconv.ParseInt(state["EXTEND_TIMEOUT_USEC"], 10, 64)
	must(t, err)
	if patience := time.Duration(micros) * time.Microsecond; patience <= 40*time.Second || patience > time.Minute {
		t.Errorf("a stop of up to 40 s is to be given %v", patience)
	}
	must(t, p.cmd.Wait())
}

// TestServiceManagerThatIsGone is no reason to end.
func TestServiceManagerThatIsGone(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", filepath.Join(t.TempDir(), "nobody"))
	p := serve(t, "--ephemeral")
	if line := p.awaitLog(t, "NOTIFY_SOCKET"); !strings.Contains(line, "no such file") {
		t.Errorf("it says %s", line)
	}
	must(t, p.cmd.Process.Signal(syscall.SIGTERM))
	must(t, p.cmd.Wait())
}
