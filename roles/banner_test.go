package roles_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestNextCommandCanBePasted runs what serve says to paste, as it stands, where
// PATH has no rustmq: a fresh clone builds bin/rustmq.
func TestNextCommandCanBePasted(t *testing.T) {
	for name, c := range map[string]struct{ flags, want string }{
		"plain":           {"", "1 record acked"},
		"ephemeral":       {"--ephemeral", "1 record acked"},
		"TLS":             {"--set network.tls=on", "1 record acked"},
		"TLS, ephemeral":  {"--set network.tls=on --ephemeral", "1 record acked"},
		"no topic made":   {"--set network.tls=on --set broker.auto_create_topics=false", "topic t created"},
		"controller only": {"--roles controller", "TOPIC"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := serveAtTerminal(t, strings.Fields(c.flags)...)
			if !strings.Contains(a.began, "(console, API, metrics, health)") {
				t.Errorf("it does not say where its console is: %s", a.began)
			}
			shell := exec.CommandContext(t.Context(), "sh", "-c", a.next)
			shell.Dir = a.dir
			shell.Env = append(os.Environ(), asProgram+"=1", "XDG_CONFIG_HOME="+t.TempDir())
			out, err := shell.CombinedOutput()
			if err != nil || !strings.Contains(string(out), c.want) {
				t.Errorf("%s: %v, %s", a.next, err, out)
			}
			_, err = a.person.WriteString("\x03")
			must(t, err)
			a.rest()
			must(t, <-a.ended)
		})
	}
}
