//go:build suites

package kgo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"rustmq.dev/rustmq/test/tally"
)

// tested is the package whose tests are run, from the version in go.mod.
const tested = "github.com/twmb/franz-go/pkg/kgo"

// Every chain writes its records three times over. This many make two transactions
// follow each other without a wait between them, twice.
const (
	records     = 50_000
	soakRecords = 500_000 // franz-go's own default
)

// runLimit is what franz-go gives its tests.
const runLimit = 10 * time.Minute

// told is how many lines of what went wrong are shown; all stand in the log.
const told = 200

// TestFranzGo runs the tests once on each transport or, with SOAK=minutes, over and
// over: every other time on connections that live for a second.
func TestFranzGo(t *testing.T) {
	list, err := parseList(listed)
	must(t, err)
	build, err := filepath.Abs(filepath.Join("..", "..", "..", "build", "kgo"))
	must(t, err)
	must(t, os.MkdirAll(build, 0o755))
	s := &suite{list: list, logs: build, binary: filepath.Join(build, "kgo.test"), count: records}
	goes(t, "test", "-c", "-o", s.binary, tested)
	s.source = goes(t, "list", "-f", "{{.Dir}}", tested)
	minutes := 0
	if text := os.Getenv("SOAK"); text != "" {
		minutes, err = strconv.Atoi(text)
		must(t, err)
		s.count = soakRecords
	}
	until := time.Now().Add(time.Duration(minutes) * time.Minute)
	for transport, begin := range map[string]starter{"tcp": start, "quic": startRelayed} {
		t.Run("over="+transport, func(t *testing.T) {
			t.Parallel()
			for round := 1; ; round++ {
				chaos := round%2 == 0
				t.Run(fmt.Sprintf("round=%d", round), func(t *testing.T) { s.run(t, transport, chaos, begin) })
				if t.Failed() || minutes == 0 || round > 1 && time.Now().After(until) {
					return
				}
			}
		})
	}
}

// goes runs the go command, and returns what it prints.
func goes(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command("go", args...).Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, exit.Stderr)
	}
	must(t, err)
	return strings.TrimSpace(string(out))
}

type suite struct {
	list   []entry
	logs   string // folder
	binary string
	source string // folder, which some of the tests read
	count  int    // records of a chain
}

// run runs the tests against a server of their own.
func (s *suite) run(t *testing.T, transport string, chaos bool, begin starter) {
	at := begin(t, filepath.Join(s.logs, transport+"-server.log"))
	ctx, cancel := context.WithTimeout(t.Context(), runLimit+time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, s.binary, "-test.v=test2json", "-test.timeout="+runLimit.String(), "-test.parallel=32") // they wait, mostly
	cmd.Dir = s.source
	cmd.Env = append(os.Environ(), "KGO_SEEDS="+at.Kafka, fmt.Sprintf("KGO_TEST_RECORDS=%d", s.count),
		"KGO_TEST_RF=1", "KGO_TEST_UNSAFE=1", "KGO_LOG_LEVEL=none")
	if chaos {
		cmd.Env = append(cmd.Env, "KGO_TEST_CHAOS=1")
	}
	began := time.Now()
	printed, ended := cmd.CombinedOutput()
	log := filepath.Join(s.logs, transport+".log")
	must(t, os.WriteFile(log, printed, 0o644))
	got := outcomes(printed)
	different := differences(s.list, got)
	if ended != nil && len(different) == 0 {
		different = append(different, fmt.Sprintf("all is as listed, and yet the tests end with: %v", ended))
	}
	if got["TestTxnEtl"] != Passed || got["TestGroupETL"] != Passed {
		different = append(different, "the chains did not pass")
	}
	if n := bytes.Count(printed, []byte("skipping validation")); n > 0 && !chaos {
		different = append(different, fmt.Sprintf("%d chains were not checked, for an offset was refused", n))
	}
	for _, line := range different {
		t.Error(line)
	}
	if len(different) > 0 {
		t.Logf("%s has:\n%s", log, strings.Join(said(printed, got, told), "\n"))
	}
	passed := 0
	for _, outcome := range got {
		if outcome == Passed {
			passed++
		}
	}
	tally.Log(t, tally.Counts{"kafka_tests": int64(passed)})
	t.Logf("kgo over %s, chaos %v: %d passed, %d listed, %d not as listed; %v", transport, chaos, passed, len(s.list), len(different), time.Since(began).Round(time.Second))
}
