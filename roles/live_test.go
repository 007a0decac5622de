package roles

import (
	"bytes"
	"strings"
	"testing"

	"rustmq.dev/rustmq/configs"
)

// A log follows the level of the configuration, to and fro.
func TestLogFollowsItsLevel(t *testing.T) {
	var out bytes.Buffer
	at := func(level string) *configs.Config {
		t.Helper()
		c, err := configs.Load(configs.Sources{Set: []string{"operations.log_level=" + level}})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	log, follow := newLogger(at("info"), &out)
	for _, step := range []struct {
		level string
		want  string
	}{{"info", "info warn"}, {"debug", "debug info warn"}, {"error", ""}, {"warn", "warn"}} {
		follow(at(step.level))
		out.Reset()
		log.Debug("said debug")
		log.Info("said info")
		log.Warn("said warn")
		var said []string
		for _, word := range []string{"debug", "info", "warn"} {
			if strings.Contains(out.String(), "said "+word) {
				said = append(said, word)
			}
		}
		if got := strings.Join(said, " "); got != step.want {
			t.Errorf("at %s: %q, want %q", step.level, got, step.want)
		}
	}
}
